"""Verdicts of real runs in both frameworks: what was called wrongly once, and the record that runs carry."""

import numpy as np
import pytest
import torch
from conftest import FACES
from sampling import mainly

import ctsa

FLAT = ctsa.Euclidean()


# -------------------------------------------------------------------------------------------------------- what was reported
def spectrum(face, system, x0, intervals=40, **options):
    options = dict(geometry=FLAT, transient=5) | options
    with torch.no_grad():
        return ctsa.lyapunov_spectrum(system, face.array(x0) if face else x0, intervals=intervals, **options)


B = np.random.default_rng(0).normal(size=(6, 8))


@pytest.mark.parametrize(
    "step, intervals, name",
    [
        (lambda x: 4 * x * (1 - x), 20, "equilibrium"), (lambda x: 4 * x * (1 - x), 40, "equilibrium"),
        (lambda x: 0.9 * x, 40, "settling"), (lambda x: 0.9 * x, 400, "equilibrium"), (lambda x: -0.9 * x, 40, "settling"),
        (lambda x: x + 0.5, 40, "drifting"), (lambda x: x + 0.5, 200, "drifting"), (lambda x: 1e3 * x, 40, "expanding"),
        (lambda x: 2 * x, 40, "expanding"), (lambda x: 1 - x, 40, "periodic"), (lambda x: 0 * x, 8, "equilibrium"),
    ],
)  # fmt: skip
def test_maps_in_runs(face, step, intervals, name):
    x0 = np.zeros((1, 1)) if name == "equilibrium" and intervals < 100 else np.full((1, 1), 0.3)
    got = spectrum(face, step, x0, intervals)
    assert got.verdict.name == name, got
    if name == "equilibrium" and intervals == 40:
        assert got.verdict.stability == "unstable" and got.exponents[0] == pytest.approx(np.log(4))
    if name == "settling":
        assert got.verdict.rate == pytest.approx(-np.log(0.9), rel=1e-6)
    if name == "periodic":
        assert got.verdict.period == 2 and got.verdict.alternating and got.verdict.stability == "neutral"
    if name == "drifting":
        assert got.verdict.rate == pytest.approx(0.5)


@pytest.mark.parametrize("intervals", [8, 12, 20, 40])
def test_short_runs_of_a_layer_are_not_quasi_periodic(torch_face, intervals):
    layer = torch_face.EulerLayer(torch_face.SelfAttention(value=np.diag([1.0, 0.8, 0.5])), 0.2)
    for seed in range(3):
        got = spectrum(None, layer, ctsa.random_tokens(4, 3, seed=seed), intervals, geometry=None, transient=0)
        assert got.verdict.name in ("settling", "undecided"), got
        if got.verdict.name == "undecided":
            assert got.verdict.factor > 1.5 and "times as long" in str(got)


@mainly("torch")
def test_an_unstable_equilibrium_is_no_chaos(face):
    pair = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    got = ctsa.lyapunov_spectrum(face.SelfAttention(beta=1.0), pair, intervals=40, transient=10, count=2)
    assert got.verdict.name == "equilibrium" and got.verdict.stability == "unstable" and got.exponents[0] > 0.2
    assert got.neutral_expected == 2  # the rotations


@pytest.mark.parametrize("omega", [1.0, 2 * np.pi])
def test_driven_flows(torch_face, omega):
    """Also where every interval is a period of the drive."""
    got = spectrum(torch_face, lambda t, u: -u + torch.cos(omega * t), np.ones((1, 1)), atol=1e-6)
    assert got.driven and got.neutral_expected == 0 and got.verdict.name == "periodic" and got.verdict.stability == "stable"
    if omega == 2 * np.pi:
        assert got.verdict.period == 1.0


def test_driven_flows_in_jax(jax_face):
    import jax.numpy as jnp

    got = spectrum(jax_face, lambda t, u: -u + jnp.cos(2 * jnp.pi * t), np.ones((1, 1)), atol=1e-8)
    assert got.driven and got.neutral_expected == 0 and got.verdict.name == "periodic"


@pytest.mark.parametrize("r", [4.1, 1e3])
def test_overflow_is_an_error_with_the_history(face, r):
    with pytest.raises(ctsa.LyapunovError, match=r"the state overflowed") as caught:
        spectrum(face, lambda x: r * x * (1 - x), np.full((1, 1), 0.3), 400, transient=0)
    kept = caught.value.spectrum
    assert kept is None or (np.isfinite(kept.history).all() and np.isfinite(kept.states).all())
    with pytest.raises(ctsa.LyapunovError, match=r"the state overflowed") as caught:
        spectrum(face, lambda x: 1e3 * x, np.full((1, 1), 0.3), 400, transient=0)
    assert len(caught.value.spectrum.history) > 40 and caught.value.spectrum.verdict.name == "expanding"


def test_a_flow_that_overflows(torch_face):
    with pytest.raises(ctsa.LyapunovError) as caught:
        spectrum(torch_face, lambda t, x: x * x, np.ones((1, 1)), 40, transient=0, interval=0.1, max_steps=200)
    assert np.isfinite(caught.value.spectrum.history).all()


def test_sequences_of_layers_come_to_no_rest(torch_face):
    stack = [torch_face.EulerLayer(torch_face.Oja(np.diag([2.0, 1.0])), 0.1) for _ in range(60)]
    got = spectrum(None, stack, ctsa.random_tokens(3, 2), 50, geometry=None)
    assert got.driven and got.verdict.name == "undecided" and "layers that differ" in got.verdict.evidence
    assert got.speed > 0 and got.speeds.shape == (50,)


@mainly("torch")
def test_float32_rests_by_its_own_rounding(face):
    field = face.SelfAttention(value=np.diag([3.0, 2.0, 1.0]).astype(np.float32), beta=np.float32(2.0))
    start = (np.ones((4, 1)) * [[1.0, 0.0, 0.0]]).astype(np.float32)
    got = ctsa.lyapunov_spectrum(field, start, intervals=16, transient=8, atol=1e-5)
    assert got.eps > 1e-8 and got.verdict.name == "equilibrium" and got.verdict.stability == "stable"


# ------------------------------------------------------------------------------------------------------------- the record
@mainly("torch")
def test_the_record_is_carried_by_files_members_and_resumed_runs(face, tmp_path):
    field, x = face.SelfAttention(beta=2.0), ctsa.random_tokens(4, 3, batch=(2,))
    run = dict(transient=3, count=2, solver="heun", atol=1e-3)
    whole = ctsa.lyapunov_spectrum(field, x, intervals=12, **run)
    part = ctsa.lyapunov_spectrum(field, x, intervals=5, checkpoint=tmp_path / "run", **run)
    resumed = ctsa.lyapunov_spectrum(field, x, intervals=7, resume=part, **run)
    kept = ctsa.lyapunov_spectrum(field, x, intervals=12, checkpoint=tmp_path / "run", **run)
    for other in (resumed, kept, ctsa.load(whole.save(tmp_path / "whole"))):
        for name in ("states", "velocities", "speeds", "reach"):
            assert np.array_equal(getattr(other, name), getattr(whole, name)), name
    assert whole.states.shape == (12, 2, 8) and whole.member(1).states.shape == (12, 8)
    assert whole.member(1).verdict.name in ("settling", "undecided")
    assert np.allclose(whole.reach, 1.0)  # the length of a token on the sphere


@mainly("torch")
def test_the_record_holds_state_and_velocity(face, close):
    field = face.Oja(np.diag([2.0, 1.0]))
    got = ctsa.lyapunov_spectrum(field, ctsa.random_tokens(2, 2), intervals=3, transient=0, solver="heun", atol=1e-3)
    close(got.states[-1], got.x.ravel(), 1e-15)
    close(got.velocities[-1], face.numpy(field(0.0, face.array(got.x))).ravel(), 1e-14)
    layer = face.EulerLayer(field, 0.1)
    got = ctsa.lyapunov_spectrum(layer, ctsa.random_tokens(2, 2), intervals=3, transient=0, interval=2)
    path = face.numpy(ctsa.iterate(layer, ctsa.random_tokens(2, 2), depth=6).xs)
    close(got.velocities[-1], (path[6] - path[5]).ravel(), 1e-14)


def test_frameworks_see_the_same():
    runs = [
        ctsa.lyapunov_spectrum(face.SelfAttention(beta=2.0), ctsa.random_tokens(4, 3), intervals=3, transient=0).states
        for face in FACES.values()
    ]
    assert np.abs(runs[0] - runs[1]).max() < 1e-12
