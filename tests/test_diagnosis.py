"""What diagnose says: of maps whose motion is known, of our own layers, and of models as others write them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from loop_models import DiagonalInjection, Regularised, Sandwich, TwoStates, seeded
from sampling import mainly, sample

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.diagnosis.exits import fired
from ctsa.diagnosis.kinds import slope_of
from ctsa.layers.check import noise_of

FLAT = ctsa.Euclidean()


def turned(r, angle):
    return r * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def jordan(m):
    return np.array([[m, 1.0], [0.0, m]])


def curve(x, c):
    """Powers of x times c[..., :4], and a sine: all our nonlinear maps, as members of one batch."""
    return c[..., :1] + x * (c[..., 1:2] + x * (c[..., 2:3] + x * c[..., 3:4])) + c[..., 4:] * (0.4 * x).sin()


def logistic(r):
    return (0, r, -r, 0, 0)


# name: the matrix of a linear map (or the numbers of a curve), what may be said of it, the size of its inputs
MAPS = {
    "one half": (0.5 * np.eye(2), ("settles",), 1),
    "0.9": (0.9 * np.eye(2), ("settles",), 1),
    "0.99": (0.99 * np.eye(2), ("settles",), 1),
    "one, with inputs": (np.eye(2), ("drifts",), 1),
    "one": (np.eye(2), ("marginal",), 0),
    "1.01": (1.01 * np.eye(2), ("expands",), 1),
    "-0.97": (-0.97 * np.eye(2), ("settles",), 1),
    "0.99 and 0.3": (np.diag([0.99, 0.3]), ("settles",), 1),
    "turning, 0.9": (turned(0.9, 1.0), ("settles",), 1),
    "turning, 0.99": (turned(0.99, 0.3), ("settles",), 1),
    "turning": (turned(1.0, 1.0), ("wanders", "marginal"), 1),
    "turning, 1.01": (turned(1.01, 1.0), ("expands",), 1),
    "Jordan 0.5": (jordan(0.5), ("settles",), 1),
    "Jordan 0.9": (jordan(0.9), ("settles",), 1),
    "Jordan 0.99": (jordan(0.99), ("settles",), 1),
    "Jordan 1": (jordan(1.0), ("drifts", "expands"), 0),
    "drift": ((0.3, 1, 0, 0, 0), ("drifts",), 0),
    "1000": (1000 * np.eye(2), ("expands",), 0),
    "constant": ((0.3, 0, 0, 0, 0), ("settles",), 0),
    "logistic 2.9": (logistic(2.9), ("settles",), 0),
    "logistic 3.2": (logistic(3.2), ("periodic",), 0),
    "logistic 3.5": (logistic(3.5), ("periodic",), 0),
    "logistic 3.83": (logistic(3.83), ("periodic",), 0),
    "logistic 3.9": (logistic(3.9), ("chaotic",), 0),
    "cubic": ((0, 1, 0, -1, 0), ("marginal",), 0),
    "square": ((0, 1, -1, 0, 0), ("marginal",), 0),
    "saturating": ((0, 0, 0, 0, 3), ("settles",), 0),
}
PERIODS = {"logistic 3.2": 2, "logistic 3.5": 4, "logistic 3.83": 3}


def run(name, loops, dtype=torch.float64, seed=0, **options):
    what, allowed, size = MAPS[name]
    rng = np.random.default_rng(seed)
    x0, e = torch.as_tensor(rng.uniform(0.2, 0.6, (4, 1, 2))).to(dtype), rng.normal(size=(4, 1, 2))
    matrix = torch.as_tensor(what).to(dtype)
    loop = ctsa.Loop(lambda x, e: x @ matrix.T + e, size * torch.as_tensor(e).to(dtype))
    return ctsa.diagnose(loop, x0, loops, exponents=2, **options), allowed


def kind_of(name):
    return "linear" if isinstance(MAPS[name][0], np.ndarray) else "curve"


@functools.cache
def all_maps(loops, dtype, seed=0):
    """Diagnose all maps side by side, which costs as much as one of them: of every map the four inputs of ``run``."""
    rng, none = np.random.default_rng(seed), np.zeros((2, 2))
    x0, e = rng.uniform(0.2, 0.6, (4, 1, 2)), rng.normal(size=(4, 1, 2))
    linear = [kind_of(name) == "linear" for name in MAPS]
    rows = [
        (line, size * e if line else 0 * e, what if line else none, np.zeros(5) if line else what)
        for line, (what, _, size) in zip(linear, MAPS.values(), strict=True)
    ]
    line, shift, matrix, numbers = zip(*rows, strict=True)
    given = (np.concatenate(shift), np.repeat(matrix, 4, 0), np.repeat(np.array(numbers, float), 4, 0)[:, None])
    given = (torch.as_tensor(np.repeat(line, 4))[:, None, None], *(torch.as_tensor(a).to(dtype) for a in given))
    x0 = torch.as_tensor(np.concatenate([x0] * len(MAPS))).to(dtype)
    step = lambda x, given: torch.where(given[0], x @ given[2].mT + given[1], curve(x, given[3]))  # noqa: E731
    report = ctsa.diagnose(ctsa.Loop(step, given), x0, loops, exponents=2)
    return {name: report.member(slice(4 * i, 4 * i + 4)) for i, name in enumerate(MAPS)}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(
    "dtype, every",
    sample([(torch.float64, (8, 16, 64, 512)), (torch.float32, (16, 512)), (torch.float32, (8, 64))],
           lambda dtype, every: 512 in every),
)  # fmt: skip
def test_known_motions_are_never_called_wrongly(name, dtype, every):
    """At 8, 16, 64 loops the right word or none; at 512 the right one."""
    for loops in every:
        report = all_maps(loops, dtype)[name]
        wrong = set(report.verdicts) - set(MAPS[name][1]) - ({"undecided"} if loops < 512 else set())
        assert not wrong, (loops, report.why)
    if name in PERIODS and loops == 512:
        assert (report.period == PERIODS[name]).all()


def test_known_motions_in_jax(jax_face):
    """The linear maps and logistic ones as members of one batch, each with its own matrix or rate."""
    rng = np.random.default_rng(0)
    linear = {name: what for name, what in MAPS.items() if kind_of(name) == "linear"}
    rates = {2.9: ("settles",), 3.2: ("periodic",), 3.5: ("periodic",), 3.83: ("periodic",), 3.9: ("chaotic",)}
    e = np.stack([size * rng.normal(size=(1, 2)) for _, _, size in linear.values()] + [np.zeros((1, 2))] * len(rates))
    matrices = np.stack([matrix for matrix, _, _ in linear.values()] + [np.zeros((2, 2))] * len(rates))
    rate = np.r_[np.zeros(len(linear)), list(rates)][:, None, None]
    allowed = [what[1] for what in linear.values()] + list(rates.values())
    loop = jax_face.Loop(
        lambda x, given: jnp.where(given[2] == 0, x @ given[1].mT + given[0], given[2] * x * (1 - x)),
        tuple(map(jax_face.array, (e, matrices, rate))),
    )
    x0 = jax_face.array(rng.uniform(0.2, 0.6, (len(allowed), 1, 2)))
    for loops in (64, 512):
        report = ctsa.diagnose(loop, x0, loops, exponents=2)
        for name, names in zip(report.verdicts, allowed, strict=True):
            assert name in (names if loops == 512 else (*names, "undecided")), (loops, report.verdicts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loops, seed",
    sample([(n, seed) for n in (12, 32, 40, 100) for seed in range(1, 4)], lambda loops, seed: loops == 40 and seed != 2),
)
def test_known_motions_from_other_starts(loops, seed):
    for name, report in all_maps(loops, torch.float64, seed).items():
        assert not set(report.verdicts) - {*MAPS[name][1], "undecided"}, (name, loops, report.why)


def test_numbers_of_a_linear_map():
    report, _ = run("-0.97", 64)
    assert report.modes == ("alternating",) * 4
    assert report.rate == pytest.approx(np.full(4, np.log(0.97)), abs=1e-12)
    assert report.multipliers[:, 0] == pytest.approx(np.full(4, -0.97), abs=1e-12)
    assert report.frequency == pytest.approx(np.full(4, 0.5))
    assert np.nanmax(report.cosines[1:]) == pytest.approx(-1.0)
    assert report.distance == pytest.approx(report.error)
    # |x - x*| = |step| m / (1 + m) now, and needs log(tolerance / error) / log(m) more
    left = report.steps[-1, 0] * 0.97 / 1.97
    assert report.error == pytest.approx(left, rel=1e-6)
    assert report.loops_needed == pytest.approx(64 + np.log(1e-3 / report.error) / np.log(0.97), rel=1e-6)


def test_spirals_have_their_frequency():
    report, _ = run("turning, 0.9", 64)
    assert report.modes == ("spiralling",) * 4 and report.frequency == pytest.approx(np.full(4, 1 / (2 * np.pi)))


def test_answers_to_the_input():
    """x -> a x + e: the end is e / (1 - a), whatever the start; relative changes of e are those of the end."""
    rng = np.random.default_rng(0)
    e = torch.as_tensor(rng.normal(size=(6, 3, 4)))
    loop = ctsa.Loop(lambda x, e: 0.5 * x + e, e)
    report = ctsa.diagnose(loop, torch.zeros_like(e), 64, probes=2)
    assert report.input_gain == pytest.approx(np.ones(6), rel=1e-6) and report.input_share == pytest.approx(1.0)
    assert (report.restart_agree == 1).all() and report.restart_spread.max() < 1e-12
    lazy = ctsa.Loop(lambda x, e: x.tanh() * 2 + 1e-3 * e, e)  # two ends for every number, whatever the input
    report = ctsa.diagnose(lazy, torch.as_tensor(rng.normal(size=(6, 3, 4))), 64)
    assert report.input_share < 0.5 and report.restart_agree.max() < 1


@mainly("torch")
def test_rates_of_our_own_layers(face):
    """PostNorm and Euler layers of Oja's flow: multipliers in closed form at the leading eigenvector."""
    values = np.array([2.0, 1.0, -0.5])
    x0 = ctsa.random_tokens(2, 3, batch=3, seed=1)
    x0 = x0 * np.sign(x0[..., :1])
    modes = np.array([1.0, 0.0, 0.0, -0.5])  # the mean moves with V, differences with 0
    for layer, wanted in (
        (face.PostNormLayer(face.Oja(np.diag(values)), 0.1), (1 + 0.1 * modes) / (1 + 0.1 * values[0])),
        (face.EulerLayer(face.Oja(np.diag(values)), 0.1), 1 + 0.1 * (modes - values[0])),
    ):
        report = ctsa.diagnose(layer, face.array(x0), 400, exponents=2)
        assert report.verdicts == ("settles",) * 3
        assert np.abs(report.multipliers - wanted).max() < 1e-9
        assert report.rate == pytest.approx(np.full(3, np.log(wanted[0])), abs=1e-6)
        assert report.effective_step is None


@mainly("torch")
def test_rates_of_recurrent_attention(face):
    """ItrSA at the leading eigenvector; AKOrN with a stimulus alone: x -> N(x + h P c) has the multiplier 1 - h |c|."""
    values, modes = np.array([2.0, 1.0, -0.5]), np.array([1.0, 0.0, 0.0, -0.5])
    x0 = ctsa.random_tokens(2, 3, batch=2, seed=1)
    x0 = x0 * np.sign(x0[..., :1])
    layer = face.ItrSA(face.Oja(np.diag(values)), step=0.2, gamma=0.7)
    report = ctsa.diagnose(layer, face.array(x0), 300, exponents=2)
    wanted = (1 + 0.2 * modes) / (1 + 0.2 * values[0])
    assert report.verdicts == ("settles",) * 2 and np.abs(report.multipliers - wanted).max() < 1e-9
    assert report.rate == pytest.approx(np.full(2, np.log(wanted[0])), abs=1e-6)
    pairs, c = ctsa.Sphere(channels=2), np.array([[0.6, 0.8, 0.3, 0.0], [0.0, 0.5, 0.2, 0.1]])
    layer = face.AKOrN(face.Injection(c, geometry=pairs), step=0.5)
    report = ctsa.diagnose(layer, face.array(ctsa.random_tokens(2, 4, channels=2, batch=2)), 300, exponents=1)
    lengths = np.linalg.norm(c.reshape(-1, 2), axis=-1)
    assert np.abs(report.multipliers - np.sort(1 - 0.5 * lengths)[::-1]).max() < 1e-9
    assert report.verdicts == ("settles",) * 2 and report.distance.max() < 1e-9


def test_effective_step_where_a_field_is_known(torch_face):
    field = torch_face.SelfAttention(beta=2.0)
    x0 = torch.as_tensor(ctsa.random_tokens(5, 3, batch=2))
    report = ctsa.diagnose(torch_face.EulerLayer(field, 0.25), x0, 12, field=field)
    assert report.effective_step == pytest.approx(np.full(2, 0.25), rel=1e-6) and report.unexplained.max() < 1e-6


def test_frameworks_agree(torch_face, jax_face):
    rng = np.random.default_rng(1)
    matrix, e, x0 = 0.8 * rng.normal(size=(8, 8)) / 8**0.5, rng.normal(size=(3, 5, 8)), rng.normal(size=(3, 5, 8))
    reports = []
    for face, xp in ((torch_face, torch), (jax_face, jnp)):
        w = face.array(matrix)
        loop = face.Loop(lambda x, e, w=w, xp=xp: xp.tanh(x @ w + e), face.array(e), readout=lambda x: x.sum(1))
        reports.append(ctsa.diagnose(loop, face.array(x0), 24))
    a, b = reports
    assert a.verdicts == b.verdicts == ("settles",) * 3 and a.modes == b.modes
    for name in ("multipliers", "exponents", "sizes", "path", "restart_paths", "input_gain", "exits", "rank", "change"):
        assert np.allclose(getattr(a, name), getattr(b, name), atol=1e-10, equal_nan=True), name
    assert np.allclose(a.rate, b.rate, atol=1e-5)  # a slope of steps near rounding


# --------------------------------------------------------------------------------------------------- models of others
B, N, D = 2, 3, 8


@pytest.mark.parametrize("dtype", sample([torch.float64, torch.float32], lambda dtype: dtype is torch.float32))
def test_published_models_run_unchanged(dtype):
    rng = np.random.default_rng(0)
    e, zero = torch.as_tensor(rng.normal(size=(B, N, D)), dtype=dtype), torch.zeros(B, N, D, dtype=dtype)
    head = torch.nn.Linear(D, 7).to(dtype)
    parts = {"z_H": (N, D), "z_L": (N, D)}
    cases = [
        (ctsa.torch.Loop(seeded(Sandwich, dtype=dtype, d=D), e, readout=head), zero + 0.1),
        (ctsa.torch.Loop(seeded(TwoStates, dtype=dtype, d=D, inner=2), e, parts=parts), dict.fromkeys(parts, zero + 0.1)),
        (ctsa.torch.Loop(seeded(DiagonalInjection, dtype=dtype, d=D), e, readout=head), zero),
        (ctsa.torch.Loop(seeded(Regularised, dtype=dtype, d=D)), e),
    ]
    for loop, x0 in cases:
        report = ctsa.diagnose(loop, x0, 12, exponents=2, restarts=1, multipliers=1)
        assert len(report) == B and np.isfinite(report.exponents).all() and np.isfinite(report.sizes).all()
        assert set(report.verdicts) <= {"settles", "undecided", "chaotic", "periodic", "marginal", "wanders"}
        assert "input" in report.table() and str(B) in repr(report)
        if loop.counts:
            assert set(report.verdicts) == {"undecided"} and "layers that differ" in report.why[0]


def test_two_parts_are_told_apart():
    """One part settles while the other alternates between two states."""

    def step(state, inputs):
        return {"slow": 0.5 * state["slow"] + inputs, "flip": 1 - state["flip"]}

    e = torch.ones(2, 1, 3, dtype=torch.float64)
    loop = ctsa.Loop(step, e, parts={"slow": (1, 3), "flip": (2,)})
    report = ctsa.diagnose(loop, {"slow": 0 * e, "flip": torch.zeros(2, 2, dtype=torch.float64)}, 64, exponents=2)
    assert report.verdicts == ("periodic", "periodic") and (report.period == 2).all()
    assert report.parts == ("slow", "flip") and report.part_verdicts == ("settles|periodic",) * 2
    assert report.steps[-1, 0].max() < 1e-12 and report.steps[-1, 1].min() > 0.5


def test_a_module_that_rounds_has_its_own_floor():
    """float32 inside a float64 run: rest is told by the rounding that there is."""
    matrix = torch.as_tensor(0.8 * np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0], dtype=torch.float32)

    class Coarse(torch.nn.Module):
        def forward(self, x):
            return torch.tanh(x.float() @ matrix + 0.3).double()

    x0 = torch.as_tensor(np.random.default_rng(1).normal(size=(3, 2, 6)))
    assert 1e-9 < noise_of(Coarse(), x0, FLAT) < 1e-6
    assert noise_of(lambda x: torch.tanh(x @ matrix.double() + 0.3), x0, FLAT) < 1e-13
    report = ctsa.diagnose(ctsa.Loop(Coarse()), x0, 200)
    assert report.verdicts == ("settles",) * 3 and report.floor.min() > 1e-9


def test_what_overflows_does_not_take_others_with_it():
    gain = torch.tensor([0.5, 1e3, 1e30], dtype=torch.float64)[:, None, None]
    loop = ctsa.Loop(lambda x, g: g * x, gain)
    report = ctsa.diagnose(loop, torch.ones(3, 2, 2, dtype=torch.float64), 64)
    assert report.verdicts == ("settles", "expands", "expands") and np.isinf(report.loops_needed[1:]).all()
    report = ctsa.diagnose(ctsa.Loop(lambda x, g: g * x.float(), gain.float() * 10), torch.ones(3, 2, 2), 20)
    assert report.verdicts[0] == "expands"


# -------------------------------------------------------------------------------------------------- streams and results
def test_chunks_are_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    e, x0 = (torch.as_tensor(rng.normal(size=(7, 3, 4))) for _ in range(2))
    loop = ctsa.Loop(lambda x, e: torch.tanh(0.7 * x.flip(-1) + e), e)
    whole, parts = ctsa.diagnose(loop, x0, 16, restarts=0), ctsa.diagnose(loop, x0, 16, restarts=0, chunk=3)
    assert whole.verdicts == parts.verdicts
    for name in ("rate", "steps", "exponents", "path", "exits", "token_steps"):
        assert np.allclose(getattr(whole, name), getattr(parts, name), atol=1e-9, equal_nan=True), name
    path = tmp_path / "run"
    with_restarts = ctsa.diagnose(loop, x0, 16, chunk=3, checkpoint=path)
    assert 0.5 < with_restarts.input_share <= 1

    calls = []

    def broken(x, e):
        calls.append(1)
        return torch.tanh(0.7 * x.flip(-1) + e)

    with pytest.raises(ValueError, match="checkpoint"):
        ctsa.diagnose(ctsa.Loop(broken, e), x0, 16, chunk=3, checkpoint=path)
    again = ctsa.diagnose(loop, x0, 16, chunk=3, checkpoint=path)
    assert again.verdicts == whole.verdicts and np.array_equal(again.restart_spread, with_restarts.restart_spread)


def test_an_interrupted_run_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    e = torch.as_tensor(rng.normal(size=(6, 3, 4)))
    path, loop = tmp_path / "run", ctsa.Loop(lambda x, e: torch.tanh(0.7 * x.flip(-1) + e), e)
    whole = ctsa.diagnose(loop, 0 * e, 12, chunk=2)
    seen, done = [], []

    def stop(*args):
        seen.append(1)
        if len(seen) > 2:
            raise KeyboardInterrupt

    import ctsa.diagnosis.run as module

    plain = module.diagnosis_of

    def counted(part, identity):
        stop()
        return plain(part, identity)

    module.diagnosis_of = counted
    try:
        with pytest.raises(KeyboardInterrupt):
            ctsa.diagnose(loop, 0 * e, 12, chunk=2, checkpoint=path)
        seen.clear()
        module.diagnosis_of = lambda part, identity: (done.append(part.first), plain(part, identity))[1]
        found = ctsa.diagnose(loop, 0 * e, 12, chunk=2, checkpoint=path)
    finally:
        module.diagnosis_of = plain
    assert done == [4] and np.array_equal(found.steps, whole.steps) and found.why == whole.why


def test_results_are_kept_and_shown(tmp_path):
    report, _ = run("turning, 0.9", 32)
    kept = ctsa.load(report.save(tmp_path / "report"))
    assert kept.verdicts == report.verdicts and np.array_equal(kept.multipliers, report.multipliers, equal_nan=True)
    one = report.member(2)
    assert len(one) == 1 and one.rate[0] == report.rate[2] and one.steps.shape[-1] == 1
    data = report.to_xarray()
    assert data["steps"].dims == ("loop", "part", "input") and data["exits"].dims == ("rule", "input")
    columns = report.per_input
    assert {"verdict", "rate", "radius", "exponent_1", "exit_first_order"} <= set(columns)
    assert all(len(column) == 4 for column in columns.values())
    axes = report.plot(labels=["right", "wrong", "right", "right"], member=1)
    assert len(axes) == 6 and "right" in axes[5].get_legend_handles_labels()[1]
    with pytest.raises(ValueError, match="member: wanted"):
        report.plot(member=4)
    with pytest.raises(ValueError, match="labels: wanted"):
        report.plot(labels=["a"])


def test_exits_fire_where_they_say():
    steps = np.array([[0.5, 0.5], [0.02, 0.5], [0.5, 0.5], [0.01, 0.5]])
    turned = np.array([[np.nan, 1], [0.02, 1], [0.02, 1], [0.5, 1]])
    found = fired({"first order": 0.03, "second order": 0.03}, {"first order": steps, "second order": turned})
    assert found["first order"][0] == 2 and found["second order"][0] == 3
    assert np.isnan(found["first order"][1]) and np.isnan(found["second order"][1])
    same = np.array([[0.0], [1.0], [2.0], [0.0]])
    assert fired({"argmax": 2.0}, {"argmax": same})["argmax"][0] == 3


def test_readouts_and_scores():
    """x -> x / 2 + e: the argmax of e is that of the end; the first state has another one."""
    e = torch.eye(3, dtype=torch.float64)[:, None]
    loop = ctsa.Loop(lambda x, e: 0.5 * x + e, e, readout=lambda x: x)
    x0 = torch.tensor([[[0.0, 0.0, 3.0]]] * 3, dtype=torch.float64)
    truth = torch.arange(3)[:, None]
    report = ctsa.diagnose(loop, x0, 20, score=lambda y: (y.argmax(-1) == truth).double().mean(-1))
    assert report.scores[-1].tolist() == [1, 1, 1] and report.scores[0].tolist() == [0, 0, 1]
    assert np.isfinite(report.exits[report.rules.index("argmax")]).all()
    assert report.change.shape == (20, 3) and np.isnan(report.safe_depth).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_end_for_all_has_no_variance_to_share(dtype):
    """x -> x/2 + b: only rounding is left between the ends, and says nothing about inputs."""
    report = ctsa.diagnose(ctsa.Loop(lambda x: 0.5 * x + 1), torch.randn(4, 3, 2, dtype=dtype), 64)
    assert report.counts == {"settles": 4} and (report.restart_agree == 1).all() and np.isnan(report.input_share)
    assert "variance" not in str(report)


def test_safe_depth_of_a_state_that_grows():
    """Twice as long as after the first loop is too long: 1.1^k > 2 at k = 8 loops more."""
    loop, x = ctsa.Loop(lambda x: 1.1 * x), torch.ones(1, 2, 2, dtype=torch.float64)
    report = ctsa.diagnose(loop, x, 40, trained=1)
    assert report.safe_depth.tolist() == [8.0] and "safe depth" in str(report) and " safe" in report.table()
    assert ctsa.diagnose(loop, x[0], 40, trained=1, band=1.2).safe_depth.tolist() == [2.0]
    assert ctsa.diagnose(loop, x, 40, trained=16).safe_depth.tolist() == [23.0]


def test_no_safe_depth_unless_the_training_is_told():
    """x -> x/2 + b settles far from its start: about its first loop no depth is safe, and that says nothing."""
    loop, x = ctsa.Loop(lambda x: 0.5 * x + 1), torch.zeros(2, 2, 2, dtype=torch.float64)
    report = ctsa.diagnose(loop, x, 40)
    assert np.isnan(report.safe_depth).all() and report.counts == {"settles": 2}
    assert "safe" not in str(report) and "safe" not in report.table() and np.isnan(report.per_input["safe_depth"]).all()
    lines = str(ctsa.diagnose(loop, x, 40, trained=8)).splitlines()
    assert any(line.split() == ["safe", "depth", "40", "and", "more"] for line in lines)


def test_slopes():
    k = np.arange(40.0)
    slope = slope_of(np.exp(-0.3 * k), 1e-12)
    assert slope.value == pytest.approx(-0.3) and slope.error < 1e-12 and (slope.first, slope.last) == (19, 39)
    assert slope_of(np.exp(-3.0 * k), 1e-6).last == 4
    assert np.isnan(slope_of(np.zeros(10), 1e-6).value)


# ------------------------------------------------------------------------------------------------------------ bad input
X = torch.zeros(3, 2, 2, dtype=torch.float64)
LOOP = ctsa.Loop(lambda x: 0.5 * x)


@pytest.mark.parametrize(("make", "what"), [
    (lambda: ctsa.diagnose(ctsa.torch.Oja(np.eye(2)), X), "makes a layer of it"),
    (lambda: ctsa.diagnose(3, X), "must be a field"),
    (lambda: ctsa.diagnose(LOOP, X, 0), "loops must be"),
    (lambda: ctsa.diagnose(LOOP, X[None]), "join its leading axes"),
    (lambda: ctsa.diagnose(LOOP, X, exponents=0), "exponents must be"),
    (lambda: ctsa.diagnose(LOOP, X, period=0), "period must be"),
    (lambda: ctsa.diagnose(LOOP, X, trained=100), "trained=100 is more than loops=64"),
    (lambda: ctsa.diagnose(LOOP, X, band=1.0), "band must be"),
    (lambda: ctsa.diagnose(LOOP, X, exits={"nonsense": 1.0}), "exits must be one of"),
    (lambda: ctsa.diagnose(LOOP, X, exits={"kl": 1.0}), "looks at a readout"),
    (lambda: ctsa.diagnose(LOOP, X, exits={"first order": -1.0}), "must be a finite number above 0"),
    (lambda: ctsa.diagnose(LOOP, X, score=lambda y: y), "score looks at a readout"),
    (lambda: ctsa.diagnose(LOOP, X, readout=3), "readout must be callable"),
    (lambda: ctsa.diagnose(LOOP, X, readout=lambda x: None), "got NoneType"),
    (lambda: ctsa.diagnose(LOOP, X, readout=lambda x: x[:1]), "with 3 rows"),
    (lambda: ctsa.diagnose(LOOP, X, readout=lambda x: x, score=lambda y: y.sum()), "a number an input"),
    (lambda: ctsa.diagnose(LOOP, X, readout=lambda x: x, score=lambda y: y[:, 0, 0], chunk=1), "which chunk=1 splits"),
    (lambda: ctsa.diagnose(LOOP, X, chunk=0), "chunk must be"),
    (lambda: ctsa.diagnose([lambda x: x] * 3, X, 4, geometry=FLAT), "there are 3 layers"),
    (lambda: ctsa.diagnose(lambda x: x + torch.rand_like(x), X, geometry=FLAT), "another output for the same input"),
    (lambda: ctsa.diagnose(lambda x: 0.5 * x.detach() + 0.1 * x, X + 1, geometry=FLAT), "derivative that is not its own"),
    (lambda: ctsa.diagnose(torch.nn.Dropout(0.5), X, geometry=FLAT), "module.eval"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make()
