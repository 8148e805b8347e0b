"""Runs: resumed, interrupted, stopped early, ensembles, progress, and what a spectrum says about itself."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dynamics import LORENZ_START, cat, henon, lorenz

import ctsa
from ctsa.errorbars import standard_error

FLAT = ctsa.Euclidean()
X = ctsa.random_tokens(4, 3, seed=1)


def make(face, seed=5):
    q, k, v = np.random.default_rng(seed).normal(size=(3, 3, 3))
    return face.SelfAttention(query=q, key=k, value=v)


def run(system, x0=X, **options):
    return ctsa.lyapunov_spectrum(system, x0, **{"intervals": 6, "transient": 2, "interval": 0.5, **options})


def same(a, b):
    """Equal to the last bit."""
    for name in ("history", "x", "frame", "speed", "rotations", "states", "velocities", "speeds", "reach"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True), name
    assert (a.start, a.interval, a.dimension, a.continuous) == (b.start, b.interval, b.dimension, b.continuous)


# -------------------------------------------------------------------------------------------------------------- resume
def test_resume_goes_on_to_the_bit(face):
    field = make(face)
    whole = run(field)
    part = run(field, intervals=2)
    same(run(field, intervals=4, resume=part), whole)
    same(run(field, intervals=3, resume=run(field, intervals=1, resume=part)), whole)
    assert part.history.shape == (2, 8)  # the spectrum that was continued is as it was


def test_resume_from_a_file(jax_face, tmp_path):
    field = make(jax_face)
    kept = ctsa.load(run(field, intervals=2).save(tmp_path / "part"))
    same(run(field, intervals=4, resume=kept), run(field))


def test_resume_layers(face):
    layer = face.EulerLayer(make(face), step=0.1)
    whole = run(layer, interval=2)
    same(run(layer, interval=2, intervals=5, resume=run(layer, interval=2, intervals=1)), whole)
    stack = [face.EulerLayer(make(face, i), step=0.1) for i in range(8)]
    same(run(stack, interval=1, intervals=4, resume=run(stack, interval=1, intervals=2)), run(stack, interval=1))


def test_resume_an_ensemble(torch_face):
    field, x0 = make(torch_face), ctsa.random_tokens(4, 3, batch=(2,), seed=3)
    same(run(field, x0, intervals=4, resume=run(field, x0, intervals=2)), run(field, x0))


def test_resume_keeps_time(torch_face):
    """A field that depends on time goes on at the time where it was."""

    def forced(t, x):
        return (t + 1) * x

    x0, options = torch_face.array([[1.0]]), dict(geometry=FLAT, t0=2.0, transient=1, interval=0.25)
    whole = run(forced, x0, **options)
    ends = 2.25 + 0.25 * np.arange(7)
    assert np.abs(whole.history[:, 0] - (1 + (ends[1:] + ends[:-1]) / 2)).max() < 1e-6
    same(run(forced, x0, intervals=4, resume=run(forced, x0, **{**options, "intervals": 2}), **options), whole)


# --------------------------------------------------------------------------------------------------------- checkpoints
def test_checkpoint_continues(face, tmp_path):
    field, path = make(face), tmp_path / "run"
    whole = run(field)
    same(run(field, checkpoint=path), whole)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    before = path.with_suffix(".npz").stat().st_mtime_ns
    same(run(field, checkpoint=path), whole)  # nothing left to do
    assert path.with_suffix(".npz").stat().st_mtime_ns == before
    same(run(field, intervals=8, checkpoint=path), run(field, intervals=8))  # a longer run takes it up


def test_checkpoint_of_a_broken_run(face, tmp_path, monkeypatch):
    """An interrupt between two blocks, in the transient and after it."""
    from ctsa.tangent.march import March

    field = make(face)
    advance, left = March.advance, [0]

    def interrupted(self, *args, **kwargs):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return advance(self, *args, **kwargs)

    whole = run(field, transient=3, intervals=30)
    for i, blocks in enumerate((1, 2, 3)):
        path = tmp_path / f"{i}.npz"
        monkeypatch.setattr(March, "advance", interrupted)
        left[0] = blocks
        with pytest.raises(KeyboardInterrupt):
            run(field, transient=3, intervals=30, checkpoint=path)
        assert path.exists()
        monkeypatch.setattr(March, "advance", advance)
        same(run(field, transient=3, intervals=30, checkpoint=path), whole)


@pytest.mark.parametrize(
    "change",
    [
        dict(atol=1e-7),
        dict(interval=0.25),
        dict(transient=3),
        dict(seed=1),
        dict(count=2),
        dict(t0=1.0),
        dict(solver="dopri8"),
    ],
    ids=lambda c: next(iter(c)),
)
def test_foreign_checkpoints_are_refused(torch_face, tmp_path, change):
    field, path = make(torch_face), tmp_path / "run.npz"
    run(field, intervals=1, transient=0, checkpoint=path)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to another run"):
        run(field, **{"intervals": 2, "transient": 0, **change}, checkpoint=path)
    assert path.read_bytes() == kept


def test_checkpoints_of_other_systems_are_refused(face, tmp_path):
    path = tmp_path / "run.npz"
    run(make(face), intervals=1, checkpoint=path)
    layer = face.EulerLayer(make(face), step=0.1)
    for system, x0 in ((make(face, 6), X), (make(face), ctsa.random_tokens(4, 3, seed=2)), (layer, X)):
        with pytest.raises(ValueError, match="belongs to another run"):
            run(system, x0, interval=1, checkpoint=path)


def test_other_layer_steps_are_another_run(face, tmp_path):
    path = tmp_path / "run.npz"
    run(face.EulerLayer(make(face), step=0.1), interval=1, intervals=1, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another run"):
        run(face.EulerLayer(make(face), step=0.2), interval=1, intervals=1, checkpoint=path)


@pytest.mark.parametrize("change", [dict(weights="unnormalised"), dict(mask="causal")], ids=["weights", "mask"])
def test_what_is_not_in_arrays_counts_too(torch_face, tmp_path, change):
    path = tmp_path / "run.npz"
    run(torch_face.SelfAttention(beta=2.0), intervals=1, checkpoint=path)
    for field in (torch_face.SelfAttention(beta=2.0, **change), 1.0 * torch_face.SelfAttention(beta=2.0)):
        with pytest.raises(ValueError, match="belongs to another run"):
            run(field, intervals=1, checkpoint=path)


def test_steps_of_plain_layers_count_too(torch_face, tmp_path):
    path = tmp_path / "run.npz"
    run(ctsa.EulerLayer(make(torch_face), 0.1), interval=1, intervals=1, checkpoint=path)
    for layer in (ctsa.EulerLayer(make(torch_face), 0.2), make(torch_face)):
        with pytest.raises(ValueError, match="belongs to another run"):
            run(layer, interval=1, intervals=1, checkpoint=path)
    other = lambda x: x  # noqa: E731
    with pytest.raises(ValueError, match="belongs to another run"):
        run(other, torch_face.array(X), interval=1, intervals=1, checkpoint=path)


def test_damaged_checkpoint(torch_face, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="not a file saved by ctsa, or is damaged"):
        run(make(torch_face), checkpoint=path)


def test_something_else_at_the_path(torch_face, tmp_path):
    path = run(make(torch_face), intervals=1).save(tmp_path / "spectrum")
    with pytest.raises(ValueError, match="holds a LyapunovSpectrum: choose another path"):
        run(make(torch_face), checkpoint=path)


KILLED = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[3])
    import jax
    jax.config.update("jax_enable_x64", True)
    import ctsa
    from dynamics import LORENZ_START, lorenz

    x0 = jax.numpy.asarray(LORENZ_START)
    ctsa.lyapunov_spectrum(
        lorenz, x0, geometry=ctsa.Euclidean(), intervals=int(sys.argv[2]), transient=10, interval=0.5,
        checkpoint=sys.argv[1],
    )
    print("finished")
""")


def done_so_far(path):
    try:
        return len(ctsa.load(path).arrays["history"]) if path.exists() else 0
    except (ValueError, FileNotFoundError):
        return -1


def test_killed_run_resumes_to_the_bit(jax_face, tmp_path):
    """SIGKILL at some moment of a run; what comes out in the end is what would have."""
    path, count = tmp_path / "run.npz", 1_000_000  # more than any machine does between two writes
    command = [sys.executable, "-c", KILLED, str(path), str(count), str(Path(__file__).parent)]
    process = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE)
    try:
        while done_so_far(path) < 200 and process.poll() is None:  # a run that writes nothing ends, and fails below
            time.sleep(0.05)
            assert done_so_far(path) >= 0  # whole at any moment
    finally:
        process.send_signal(signal.SIGKILL)
    assert b"finished" not in process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    reached = done_so_far(path)
    assert 200 <= reached < count
    options = dict(geometry=FLAT, intervals=reached + 300, transient=10, interval=0.5)
    x0 = jax_face.array(LORENZ_START)
    same(ctsa.lyapunov_spectrum(lorenz, x0, checkpoint=path, **options), ctsa.lyapunov_spectrum(lorenz, x0, **options))


# --------------------------------------------------------------------------------------------------------- stop_stderr
def test_stop_by_stderr(jax_face):
    x0 = jax_face.array([[0.1, 0.1]])
    got = run(henon, x0, intervals=20_000, interval=1, transient=50, geometry=FLAT, stop_stderr=0.02)
    assert 32 <= len(got.history) < 20_000
    assert (got.stderr < 0.02).all()
    whole = run(henon, x0, intervals=len(got.history), interval=1, transient=50, geometry=FLAT)
    same(got, whole)  # a run that stops early is the beginning of the long one


def test_stop_by_stderr_gives_up_at_the_end(jax_face):
    got = run(henon, jax_face.array([[0.1, 0.1]]), intervals=64, interval=1, geometry=FLAT, stop_stderr=1e-9)
    assert len(got.history) == 64 and (got.stderr > 1e-9).any()


def test_stop_needs_enough_intervals(jax_face):
    got = run(
        cat, jax_face.array([[0.3, 0.4]]), intervals=500, interval=1, transient=50, geometry=FLAT, stop_stderr=0.1
    )
    assert 32 <= len(got.history) < 500  # errors vanish from the first interval on


# ----------------------------------------------------------------------------------------------------------- ensembles
def test_ensembles_jax(torch_face, jax_face):
    x0 = ctsa.random_tokens(4, 3, batch=(2, 2), seed=3)
    a, b = (run(make(face), x0, intervals=2, count=3) for face in (torch_face, jax_face))
    assert np.abs(a.history - b.history).max() < 1e-9 and np.abs(a.frame - b.frame).max() < 1e-9


def test_ensembles(torch_face):
    field, x0 = make(torch_face), ctsa.random_tokens(4, 3, batch=(2, 2), seed=3)
    frame = np.random.default_rng(9).normal(size=(3, *x0.shape))
    frame = frame - (frame * x0).sum(-1, keepdims=True) * x0
    many = run(field, x0, intervals=8, atol=1e-10, frame=frame)
    assert many.history.shape == (8, 2, 2, 3) and many.exponents.shape == many.stderr.shape == (2, 2, 3)
    assert many.x.shape == (2, 2, 4, 3) and many.frame.shape == (3, 2, 2, 4, 3)
    assert many.running.shape == (8, 2, 2, 3) and many.speed.shape == many.rotations.shape == (2, 2)
    assert np.allclose(many.running[-1], many.exponents, atol=1e-14)
    index = (1, 0)
    one = run(field, x0[index], intervals=8, atol=1e-10, frame=frame[(slice(None), *index)])
    member = many.member(*index)
    assert np.abs(member.history - one.history).max() < 1e-7  # steps are shared in the ensemble, not alone
    assert np.abs(member.frame - one.frame).max() < 1e-7
    assert member.verdict[0] == one.verdict[0] and member.kaplan_yorke == pytest.approx(
        one.kaplan_yorke, abs=1e-6, nan_ok=True
    )
    assert "ensemble (2, 2), mean [" in repr(many) and ".member(i)" in repr(many)


def test_exponents_are_sorted_within_each_member(torch_face):
    value = np.diag([1.0, 3.0, 2.0])
    x0 = np.stack([np.ones((4, 1)) * row for row in np.eye(3)])
    got = run(torch_face.SelfAttention(value=value), x0, intervals=2)
    assert (np.diff(got.exponents, axis=-1) <= 0).all()


# ------------------------------------------------------------------------------------------------------------ progress
def test_progress_shows_the_exponents(jax_face, capsys, monkeypatch):
    import tqdm

    shown = []

    class Bar(tqdm.tqdm):
        def set_postfix_str(self, s="", refresh=True):
            shown.append(s)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    got = run(henon, jax_face.array([[0.1, 0.1]]), intervals=40, interval=1, geometry=FLAT, progress=True)
    assert shown[-1] == " exponents " + ", ".join(f"{v:.3g}" for v in got.exponents)
    run(henon, jax_face.array([[0.1, 0.1]]), intervals=40, interval=1, geometry=FLAT)
    assert capsys.readouterr().err == ""  # no bar where there is no terminal


# -------------------------------------------------------------------------------------- what a spectrum says of itself
def made(exponents, noise=0.0, intervals=400, speed=1.0, rotations=0, continuous=True, dimension=None, interval=1.0):
    e = np.asarray(exponents, dtype=float)
    history = e + noise * np.random.default_rng(0).normal(size=(intervals, len(e)))
    history = history - history.mean(0) + e
    return ctsa.LyapunovSpectrum(
        history, np.zeros((1, len(e))), np.zeros((len(e), 1, len(e))), interval, 0, speed, rotations,
        dimension or len(e), continuous,
    )  # fmt: skip


def test_kaplan_yorke():
    spec = made([11.82772345, -8 / 3, -22.82772345])  # T10
    assert spec.kaplan_yorke == pytest.approx(2.401312763583084, abs=1e-10)  # from exponents of ten digits
    assert made([0.9056, 0.0, -14.5723]).kaplan_yorke == pytest.approx(2 + 0.9056 / 14.5723, abs=1e-12)
    assert made([-1.0, -2.0]).kaplan_yorke == 0 and made([-1.0, -2.0]).kaplan_yorke_stderr == 0
    assert made([1.0, 0.5]).kaplan_yorke == 2  # all of the manifold
    assert np.isnan(made([1.0, 0.5], dimension=3).kaplan_yorke)  # a partial spectrum does not settle it
    assert made([1.0, -2.0], dimension=3).kaplan_yorke == 1.5  # or does


def test_errors_propagate():
    spec = made([0.9, 0.1, -14.0], noise=0.3)
    e, h = spec.exponents, spec.history
    assert spec.entropy == pytest.approx(1.0) and spec.entropy_stderr == standard_error(h[:, 0] + h[:, 1])
    linear = h @ [1 / 14, 1 / 14, 1.0 / 14**2]
    assert spec.kaplan_yorke_stderr == pytest.approx(standard_error(linear), rel=1e-9)
    small = 1e-6
    slopes = []
    for i in range(3):
        moved = replace(spec, history=h + small * np.eye(3)[i])
        slopes.append((moved.kaplan_yorke - spec.kaplan_yorke) / small)
    assert np.abs(np.array(slopes) - [1 / 14, 1 / 14, 1.0 / 14**2]).max() < 1e-6
    assert e.tolist() == pytest.approx([0.9, 0.1, -14.0])


def test_order_and_errors_go_together():
    spec = made([-1.0, 2.0, 0.5], noise=0.0)
    spec = replace(spec, history=spec.history + np.random.default_rng(1).normal(size=(400, 3)) * [0.1, 1.0, 10.0])
    order = np.argsort(-spec.history.mean(0))
    assert np.array_equal(spec.exponents, spec.history.mean(0)[order])
    assert spec.stderr.tolist() == [standard_error(spec.history[:, i]) for i in order]
    assert np.allclose(spec.running[-1], spec.exponents, atol=1e-12)
    assert np.allclose(spec.running[9], spec.history[:10].mean(0)[order], atol=1e-12)


def test_too_few_intervals_have_no_errors(torch_face):
    got = run(make(torch_face), intervals=1)
    assert np.isnan(got.stderr).all() and got.verdict[0] == "undecided" and got.verdict[1].startswith("1 intervals")


def test_a_spectrum_without_record_is_undecided():
    found, evidence = made([0.9, 0.0, -14.0], noise=0.1).verdict
    assert found == "undecided" and "no record" in evidence and "0.9" in evidence


def test_neutral_directions():
    assert made([0.0, -1.0]).neutral_expected == 1
    assert made([0.0, -1.0], speed=1e-9).neutral_expected == 0
    assert made([0.0, -1.0], continuous=False).neutral_expected == 0
    assert made([0.0, 0.0, -1.0], speed=1e-9, rotations=2).neutral_expected == 2
    spec = made([0.9, 0.0, -14.0], noise=0.1)
    assert spec.neutral_found == 1
    assert np.allclose(spec.resolution, 3 * spec.stderr + 5 / 400)


def test_saved_and_printed(jax_face, tmp_path):
    got = run(make(jax_face), intervals=8)
    kept = ctsa.load(got.save(tmp_path / "spectrum"))
    same(kept, got)
    assert np.array_equal(kept.exponents, got.exponents) and kept.verdict == got.verdict
    assert repr(got).startswith(f"LyapunovSpectrum([{got.exponents[0]:.4g}+-") and repr(got).endswith(f"{got.verdict})")
    data = got.to_xarray()
    assert data.history.dims == ("interval_index", "exponent") and data.sizes["exponent"] == 8


def test_members_of_layers_are_not_at_rest(torch_face):
    layer = torch_face.EulerLayer(torch_face.Rotation(frequencies=[1.0]), step=0.1)
    got = run(layer, [[1.0, 0.0]], interval=1)
    assert got.speed == pytest.approx(2 * np.sin(np.arctan(0.1) / 2), rel=1e-12)  # how far one layer moves the token
    stack = [layer] * 8
    assert run(stack, [[1.0, 0.0]], interval=1).speed == pytest.approx(got.speed, rel=1e-12)  # of the last layer
