"""Verdicts: known motions, what a verdict says of itself, and records of real runs in both frameworks."""

from dataclasses import replace

import numpy as np
import pytest
from dynamics import henon, lorenz
from motions import CHAOS, DRIFT, EQ, EXP, MOTIONS, PER, QUASI, record, right, twist, vector
from sampling import mainly, sample

import ctsa
from ctsa.motion import Record, Verdict, judge, projection

FLAT = ctsa.Euclidean()
BY_NAME = {m.name: m for m in MOTIONS}
FLOWS = [
    "focus", "centre", "source", "saddle at rest", "wind", "cubic", "ghost", "narrow ghost", "Hopf 0.1", "May-Leonard",
    "two cycles", "driven", "driven torus", "jerk", "Lorenz 28",
]  # fmt: skip
SAMPLE = [m for m in MOTIONS if not m.flow][::2] + [BY_NAME[name] for name in FLOWS]


def spectrum(system, x0, intervals=40, transient=10, **options):
    return ctsa.lyapunov_spectrum(system, x0, intervals=intervals, transient=transient, **options)


# ----------------------------------------------------------------------------------------------------- known motions
@pytest.mark.parametrize("which", sample([0, 1], 1))
def test_nothing_is_called_what_it_is_not(which):
    """20, 40 and 200 intervals: no verdict is wrong, and enough are given. The full table: tests/trust/verdicts.py."""
    assert len(MOTIONS) >= 80
    motions = SAMPLE[which::2]
    judged = {n: [(m, judge(record(m, n, longest=200))) for m in motions] for n in (20, 40, 200)}
    for n, share in ((20, 0.3), (40, 0.5), (200, 0.7)):
        found = [right(m, v) for m, v in judged[n]]
        assert [f"{m.name}: {v}" for m, v in judged[n] if right(m, v) is False] == []
        assert found.count(True) >= share * len(found)
    assert all(v.factor is None or v.factor > 1 for n in judged for _, v in judged[n])


@pytest.mark.parametrize(("name", "intervals", "name_of_motion", "stability"), [
    ("logistic 3.5", 5000, PER, "stable"),  # multiplier of the cycle -0.030: local exponents swing, their mean does not
    ("Henon 1.0", 5000, PER, "stable"),
    ("linear half", 10, EQ, "stable"),
    ("logistic 4 at 0", 10, EQ, "unstable"),
    ("logistic 4 at 0", 200, EQ, "unstable"),
    ("saddle at rest", 200, EQ, "unstable"),
    ("centre", 200, PER, "neutral"),
])  # fmt: skip
def test_stability(name, intervals, name_of_motion, stability):
    verdict = judge(record(BY_NAME[name], intervals))
    assert (verdict.name, verdict.stability) == (name_of_motion, stability)


MAPS = [m for m in MOTIONS if not m.flow and len(m.start) == 1][::6]


@pytest.mark.parametrize("options", [dict(count=1), dict(dtype="float32")], ids=str)
def test_few_exponents_and_few_bits(options):
    for m in [*MAPS, BY_NAME["Henon 1.4"], BY_NAME["linear golden"]]:
        assert right(m, judge(record(m, 200, **options))) is not False, m.name


def test_traps():
    """Motions that fool averages or exponents: derivatives, narrow bands, long periods, saddles, Cantor sets."""
    for name, forbidden in [
        ("logistic 3.57", {QUASI, PER}), ("logistic 3.8474", {QUASI}), ("logistic 3.56989", {QUASI, CHAOS}),
        ("Feigenbaum", {QUASI, PER, CHAOS}),
    ]:  # fmt: skip
        for n in (200, 1000):
            assert judge(record(BY_NAME[name], n, longest=1000)).name not in forbidden, name
    r = record(BY_NAME["jerk"], 200)
    for columns in ([0], [1], [0, 1]):  # averages of derivatives of something bounded converge for chaos, too
        assert judge(replace(r, x=r.x[:, columns], v=r.v[:, columns])).name in (CHAOS, "undecided")
    saddle = judge(record(BY_NAME["saddle at rest"], 50, longest=200))
    assert (saddle.name, saddle.stability) == (EQ, "unstable")


def test_periods():
    for name, period in [("logistic 3.2", 2), ("logistic 3.5", 4), ("logistic 3.83", 3), ("Henon 1.25", 7)]:
        assert judge(record(BY_NAME[name], 200)).period == period
    assert judge(record(BY_NAME["centre"], 200)).period == pytest.approx(2 * np.pi, abs=1e-4)
    assert judge(record(BY_NAME["driven"], 200)).period == pytest.approx(2 * np.pi, abs=1e-3)
    assert "alternating" in str(judge(record(BY_NAME["linear minus"], 40, longest=200)))
    assert judge(record(BY_NAME["linear half"], 40, longest=200)).name == EQ
    slow = judge(record(BY_NAME["linear 0.97"], 40, longest=200))
    assert slow.name == "settling" and slow.rate == pytest.approx(-np.log(0.97), rel=1e-3)
    assert judge(record(BY_NAME["step"], 40, longest=200)).rate == pytest.approx(0.1)
    assert judge(record(BY_NAME["linear 1.05"], 200)).rate == pytest.approx(np.log(1.05), rel=1e-3)


def test_a_longer_run_decides():
    short, long = (judge(record(BY_NAME["Henon 1.4"], n, longest=200)) for n in (20, 200))
    assert short.name == "undecided" and 1 < short.factor < 20 and long.name == CHAOS


# ------------------------------------------------------------------------------------------------- what a verdict is
def test_a_verdict_is_a_pair_with_numbers():
    v = Verdict(PER, "returns to 1e-9 of its size", "stable", period=2, unit="layer")
    name, evidence = v
    assert (name, evidence) == (v[0], v[1]) == (PER, "returns to 1e-9 of its size") and len(v) == 2
    assert str(v) == "periodic (stable, period 2, alternating): returns to 1e-9 of its size"
    assert str(Verdict(CHAOS, "x")).startswith("chaotic so far: ")
    assert "run about 4 times as long" in str(Verdict("undecided", "x", factor=4.0))
    assert "rate 0.1 per layer" in str(Verdict("settling", "x", rate=0.1, unit="layer"))


def test_lengths_survive_projection():
    assert np.array_equal(projection(8), np.eye(8))
    p, y = projection(400), np.random.default_rng(1).normal(size=(1000, 400))
    assert p.shape == (400, 8) and np.allclose(p.T @ p, 50 * np.eye(8))
    assert np.linalg.norm(y @ p, axis=1).mean() == pytest.approx(np.linalg.norm(y, axis=1).mean(), rel=0.05)


def test_units_do_not_matter():
    """A system in other units of length and time gets the same verdict."""
    for name in ("linear 0.9", "linear golden", "logistic 3.83", "logistic 3.7", "centre", "Lorenz 28"):
        r = record(BY_NAME[name], 200)
        scaled = replace(r, x=1e3 * r.x, v=1e3 * r.v, speed=1e3 * r.speed, size=1e3 * r.size, first=1e3 * r.first)
        assert judge(scaled).name == judge(r).name
        if r.flow:
            slow = replace(r, v=r.v / 50, speed=r.speed / 50, rates=r.rates / 50, interval=50 * r.interval)
            assert judge(slow).name == judge(r).name


# ------------------------------------------------------------------------------------------------------- real runs
@mainly("torch")
def test_known_motions_through_the_library(face):
    double = vector(lambda xp, x: [2 * x], 1)
    for system, x0, names, options in [
        (henon, [[0.1, 0.1]], {CHAOS}, dict(intervals=200)),
        (vector(lambda xp, x: [0.9 * x + 0.3], 1), [[0.0]], {"settling"}, {}),
        (vector(lambda xp, x: [x + 0.3], 1), [[0.0]], {DRIFT}, {}),
        (double, [[1.0]], {EXP}, {}),
        (twist(0.5), [[0.2, 0.1]], {QUASI}, dict(intervals=400)),
        (vector(lambda xp, x: [4 * x * (1 - x)], 1), [[0.0]], {EQ}, {}),
    ]:
        for dtype in ("float64", "float32"):
            got = spectrum(system, face.array(x0, dtype), geometry=FLAT, **options)
            assert got.verdict.name in names | ({"undecided"} if dtype == "float32" else set()), got
            assert got.verdict.headline in repr(got)
            assert got.eps == np.finfo(dtype).eps


def test_both_frameworks_record_the_same(torch_face, jax_face):
    a, b = (
        spectrum(lorenz, f.array([[1.0, 1.0, 1.0]]), 8, 2, interval=0.02, geometry=FLAT) for f in (torch_face, jax_face)
    )
    for name in ("states", "velocities", "speeds", "reach"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-7), name
    assert np.array_equal(a.states[-1], np.ravel(a.x)) and a.states.shape == (8, 3)
    assert a.speeds[-1] == a.speed == pytest.approx(np.linalg.norm(a.velocities[-1]))
    assert a.reach[0] == pytest.approx(3**0.5) and not a.driven and not a.bounded


def test_an_unstable_pair_and_layers_on_their_way(torch_face):
    pair = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    v = spectrum(torch_face.SelfAttention(beta=1.0), pair, count=2).verdict
    assert (v.name, v.stability) == (EQ, "unstable")
    layer = ctsa.EulerLayer(torch_face.SelfAttention(value=np.diag([1.0, 0.8, 0.5])), 0.2)
    for n in (8, 12, 20, 40, 200):
        assert spectrum(layer, ctsa.random_tokens(4, 3), n, 0).verdict.name in ("undecided", "settling", EQ)
    assert spectrum(layer, ctsa.random_tokens(4, 3), 200, 200).bounded


@mainly("torch")
def test_driven_flows(face):
    x0 = face.array([[1.0]])
    drive = BY_NAME["driven"].f
    fixed = dict(geometry=FLAT, solver="rk4", step=0.25)
    got = spectrum(drive, x0, 60, 5, **fixed)
    assert got.driven and got.neutral_expected == 0 and got.verdict.name == PER
    assert got.verdict.period == pytest.approx(2 * np.pi, abs=1e-3)
    strobed = BY_NAME["driven, at its period"]
    got = spectrum(strobed.f, x0, 40, 20, interval=2.0, **fixed)
    assert got.verdict.name == PER and got.verdict.period == 2.0 and got.driven


def test_a_drive_that_acts_later(torch_face):
    def late(t, x):
        return -x + x * x * backend_sin(t)

    def backend_sin(t):
        import torch

        return torch.sin(t)

    assert spectrum(late, torch_face.array([[1.0]]), 8, 0, geometry=FLAT).driven
    assert not spectrum(lambda t, x: -x, torch_face.array([[1.0]]), 8, 0, geometry=FLAT).driven


def test_overflow_is_an_error_with_the_history(face):
    for system, x0 in [
        (vector(lambda xp, x: [4.1 * x * (1 - x)], 1), [[0.3]]),
        (vector(lambda xp, x: [1e3 * x], 1), [[0.3]]),
    ]:
        with pytest.raises(ctsa.LyapunovError, match="overflow") as caught:
            spectrum(system, face.array(x0), 200, 0, geometry=FLAT)
        kept = caught.value.spectrum
        assert np.isfinite(kept.history).all() and kept.overflow and kept.verdict.name == EXP
    with pytest.raises(ctsa.LyapunovError, match="nan or inf"):
        spectrum(vector(lambda xp, x: [xp.log(x - 1)], 1), face.array([[5.0]]), 20, 0, geometry=FLAT)


def test_sequences_of_layers(torch_face):
    layers = [ctsa.EulerLayer(torch_face.SelfAttention(beta=b), 0.2) for b in np.linspace(1, 2, 40)]
    got = spectrum(layers, ctsa.random_tokens(4, 3), 40, 0)
    assert got.driven and got.verdict.name == "undecided" and "layers that differ" in got.verdict.evidence
    assert np.isfinite(got.speed) and got.speeds.shape == (40,)
    same = spectrum([layers[0]] * 40, ctsa.random_tokens(4, 3), 40, 0)
    assert not same.driven


def test_period_two_is_seen_at_interval_two(torch_face):
    got = spectrum(lambda x: -x, torch_face.array([[0.3]]), 40, 2, interval=2, geometry=FLAT)
    assert got.verdict.name == PER  # the states at interval ends are all the same: it is not at rest


def test_one_evaluation_an_interval(torch_face):
    calls = []

    def field(t, x):
        calls.append(1)
        return -x

    spectrum(field, torch_face.array([[1.0]]), 1, 0, geometry=FLAT, solver="euler", step=1.0)
    one = len(calls)
    calls.clear()
    spectrum(field, torch_face.array([[1.0]]), 41, 0, geometry=FLAT, solver="euler", step=1.0)
    from ctsa.tangent.march import March

    calls_of = len(calls) - one
    calls.clear()
    solver = ctsa.Solver("euler", rtol=0.0, atol=1e-8, step=1.0, max_steps=9)
    march = March(field, torch_face.array([[1.0]]), solver, interval=1.0, geometry=FLAT)
    calls.clear()
    march.advance(40, thin=False)
    assert calls_of == len(calls) + 40


def test_members_and_files_carry_the_record(jax_face, tmp_path):
    x0 = np.random.default_rng(0).uniform(-0.1, 0.1, size=(2, 1, 2))
    many = spectrum(henon, jax_face.array(x0), 60, 10, geometry=FLAT)
    assert many.states.shape == (60, 2, 2) and many.reach.shape == (2, 2)
    one, alone = many.member(1), spectrum(henon, jax_face.array(x0[1]), 60, 10, geometry=FLAT)
    assert one.states.shape == (60, 2) and one.verdict.name == alone.verdict.name
    kept = ctsa.load(one.save(tmp_path / "one"))
    assert kept.verdict == one.verdict and np.array_equal(kept.velocities, one.velocities)
    assert one.to_xarray().states.dims == ("interval_index", "coordinate")


def test_a_lost_direction_is_no_overflow():
    r = Record(np.zeros((40, 1)), np.zeros((40, 1)), np.zeros(40), np.full((40, 1), -np.inf), 1.0, False, 1.0, 1.0)
    assert judge(r).name == EQ and judge(r).stability == "stable"
