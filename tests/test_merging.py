"""Tokens that have met go on as one: against closed forms, and against runs in which nothing merges."""

import jax
import numpy as np
import pytest
import torch
from conftest import close
from sampling import mainly
from scipy.integrate import quad

import ctsa
from ctsa.results.base import as_numpy

SHARP = dict(solver="dopri8", atol=1e-12)


def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def run(field, x0, ts, *args, **options):
    with torch.no_grad():
        return ctsa.integrate(field, x0, ts, *args, **options)


def energies(field, traj):
    with torch.no_grad():
        return as_numpy(ctsa.energy(field, traj.xs))


# ---------------------------------------------------------------------------------------------------- exact times
@mainly("torch")
def test_two_tokens_of_masses_a_and_b(face):
    """The angle between them: phi' = -sin(phi) (a / (a + b e^s) + b / (b + a e^s)) e^0, s = beta (1 - cos phi)."""
    a, b, beta, phi, gap = 2.0, 5.0, 3.0, 2.5, 1e-4

    def slowness(p):
        e = np.exp(beta * (1 - np.cos(p)))
        return 1 / (np.sin(p) * (b / (b + a * e) + a / (a + b * e)))

    wanted = quad(slowness, 2 * np.arcsin(gap / 2), phi, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
    field = face.SelfAttention(beta=beta, masses=[a, b])
    traj = run(field, circle(np.array([0.0, phi])), [0.0, 1.0, 500.0], merge=gap, **SHARP)
    assert traj.merges.times[0] == pytest.approx(wanted, rel=1e-6)
    close(traj.xs[-1, 0], traj.xs[-1, 1], 0)


def test_equiangular_tokens_meet_at_once(torch_face):
    """n orthogonal tokens: 1 - g falls as in ``ctsa.theory``, and with it all distances, |x_i - x_j|^2 = 2 (1 - g)."""
    n, beta, gap = 8, 4.0, 1e-4
    traj = run(torch_face.SelfAttention(beta=beta), np.eye(n), [0.0, 1.0, 100.0], merge=gap, **SHARP)
    wanted = ctsa.theory.equiangular_time(1 - gap**2 / 2, beta, n)
    assert traj.merges.times == pytest.approx(np.full(n - 1, wanted), rel=1e-6)
    assert traj.merges.counts.tolist() == [n, n, 1] and traj.merges.sizes().tolist() == [n]


# --------------------------------------------------------------------------------------- beside a run without mergers
@pytest.fixture(scope="module")
def staircase():
    """Eight tokens on the circle that end in one cluster at t = 1727, with and without mergers."""
    x0, ts = ctsa.random_tokens(8, 2, seed=0), np.concatenate([[0.0], np.geomspace(0.1, 3000, 60)])
    field = ctsa.torch.SelfAttention(beta=4.0)
    return field, x0, run(field, x0, ts, merge=1e-6, **SHARP), run(field, x0, ts, **SHARP)


def test_places_are_those_without_mergers(staircase):
    _, _, merged, plain = staircase
    close(merged.xs, plain.xs, 1e-6)
    away = np.abs(as_numpy(merged.ts)[:, None] - merged.merges.times).min(1)
    far = away > 8.0  # at other times places are those of means, within the gap
    close(merged.xs[torch.as_tensor(far)], plain.xs[torch.as_tensor(far)], 2e-9)
    assert merged.stats["steps"] < 0.5 * plain.stats["steps"]


def test_times_are_those_without_mergers(staircase):
    field, x0, merged, _ = staircase
    m = merged.merges
    for k in (0, len(m.times) - 1):
        before = ctsa.results.merges.labels_at(np.array([np.nextafter(m.times[k], 0)]), m.times, m.joined, 8)[0][0]
        one, other = (torch.as_tensor((before == name) / (before == name).sum()) for name in m.joined[k])
        plain = run(
            field, x0, [0.0, 3000.0], until=lambda t, x, u=one - other: ((u @ x) ** 2).sum().sqrt() - m.gap, **SHARP
        )
        assert m.times[k] == pytest.approx(float(plain.ts[-1]), rel=1e-7)


def test_the_energy_climbs_a_staircase(staircase):
    field, _, merged, _ = staircase
    e, counts = energies(field, merged), merged.merges.counts
    assert (np.diff(e) >= -1e-12 * e[-1]).all() and (np.diff(counts) <= 0).all()
    assert e[-1] == pytest.approx(64 * np.exp(4.0) / 8.0, rel=1e-12)


def test_what_mergers_say(staircase):
    _, _, merged, _ = staircase
    m = merged.merges
    assert len(m.times) == 7 and (np.diff(m.times) >= 0).all() and m.times[-1] == pytest.approx(1727, abs=10)
    assert (m.joined[:, 0] < m.joined[:, 1]).all() and len(set(m.joined[:, 1].tolist())) == 7
    labels, xs = m.labels, as_numpy(merged.xs)
    for k in range(len(merged)):
        assert all(m.sizes(k) == [(labels[k] == name).sum() for name in np.unique(labels[k])]) and m.sizes(k).sum() == 8
        assert np.array_equal(xs[k], xs[k][labels[k]])
    assert merged[5:7].merges.labels.shape == (2, 8) and m.apart <= 1e-6
    assert "7 mergers, 1 clusters" in repr(m) and "clusters at the end" in m.table()


def test_it_is_kept(staircase, tmp_path):
    merged = staircase[2]
    for name in ("run.npz", "run.zarr"):
        if name.endswith("zarr"):
            pytest.importorskip("zarr")
        back = ctsa.load(merged.save(tmp_path / name))
        close(back.merges.times, merged.merges.times, 0)
        assert np.array_equal(back.merges.labels, merged.merges.labels) and back.merges.gap == merged.merges.gap
    pytest.importorskip("xarray")
    tree = merged.to_xarray()
    assert tree["xs"].dims[0] == tree["merges/labels"].dims[0] and tree["merges/times"].shape == (7,)


# ------------------------------------------------------------------------------------------------- both frameworks
def test_both_frameworks_agree(torch_face, jax_face):
    x0, ts = ctsa.random_tokens(20, 3, seed=0), np.concatenate([[0.0], np.geomspace(0.01, 1e4, 30)])
    value = np.diag([1.0, 0.9, 0.8])
    a, b = (run(f.SelfAttention(beta=3.0, value=value), x0, ts, merge=True) for f in (torch_face, jax_face))
    assert a.stats["steps"] == b.stats["steps"] and np.array_equal(a.merges.labels, b.merges.labels)
    close(a.xs, b.xs, 1e-9)
    close(a.merges.times, b.merges.times, 1e-6)


def test_nothing_is_compiled_twice(jax_face):
    x0, ts = ctsa.random_tokens(20, 3, seed=0), np.concatenate([[0.0], np.geomspace(0.01, 1e4, 30)])

    def again(beta):
        value = np.diag([1.0, 0.9, 0.8])
        return run(jax_face.SelfAttention(beta=beta, value=value), x0, ts, merge=True)

    again(3.0)
    count = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: count.append(name) if name.endswith("backend_compile_duration") else None
    )
    try:
        assert len(again(2.9).merges.times) > 15 and len(again(3.1).merges.times) > 15
    finally:
        jax.monitoring.clear_event_listeners()
    assert not count, count


@pytest.mark.parametrize("options", [dict(land=True), dict(solver="bosh3", atol=1e-6), dict(largest_step=5.0)])
def test_with_other_settings(torch_face, options):
    x0 = ctsa.random_tokens(8, 2, seed=0)
    traj = run(torch_face.SelfAttention(beta=4.0), x0, [0.0, 5.0, 20.0, 40.0, 100.0], merge=True, **options)
    plain = run(torch_face.SelfAttention(beta=4.0), x0, [0.0, 5.0, 20.0, 40.0, 100.0], **SHARP)
    close(traj.xs, plain.xs, 2e-4 if "solver" in options else 2e-6)


def test_many_tokens_meet_in_batches(torch_face):
    traj = run(torch_face.SelfAttention(beta=3.0), ctsa.random_tokens(150, 3, seed=0), [0.0, 10.0, 1e4], merge=True)
    assert traj.merges.sizes().sum() == 150 and traj.merges.counts[-1] == 1
    assert traj.stats["segments"] < 80


def test_float32(torch_face):
    x0 = torch.as_tensor(ctsa.random_tokens(8, 2, seed=0), dtype=torch.float32)
    traj = run(torch_face.SelfAttention(beta=np.float32(4.0)), x0, [0.0, 100.0], atol=1e-5, merge=True)
    assert traj.xs.dtype == torch.float32 and traj.merges.counts[-1] == 2


# --------------------------------------------------------------------------------------------- long times, and none
def test_times_far_beyond_the_resolution_of_a_clock(torch_face):
    """Two antipodal clusters at beta = 9 need exp(18) units of time; then nothing moves any more."""
    x0 = ctsa.random_tokens(64, 2, seed=0)
    traj = run(torch_face.SelfAttention(beta=9.0), x0, np.concatenate([[0.0], np.geomspace(0.1, 1e14, 60)]), merge=True)
    assert traj.merges.counts[-1] == 1 and 1e7 < traj.merges.times[-1] < 1e9
    assert len(traj) == 61 and traj.stats["steps"] < 2000


@mainly("torch")
def test_tokens_that_begin_at_one_place(face):
    x0 = ctsa.random_tokens(3, 3, seed=0)[[0, 1, 0, 2]]
    traj = run(face.SelfAttention(beta=1.0), x0, [0.0, 0.5], merge=True)
    assert traj.merges.times.tolist() == [0.0] and traj.merges.labels.tolist() == [[0, 1, 0, 3]] * 2
    close(traj.xs, run(face.SelfAttention(beta=1.0), x0, [0.0, 0.5]).xs, 1e-7)


def test_an_equilibrium_stays(torch_face):
    x0 = np.array([[1.0, 0.0], [-1.0, 0.0]])
    traj = run(torch_face.SelfAttention(value=np.diag([1.0, 0.1]), beta=2.0), x0, [0.0, 1e12], merge=True)
    close(traj.xs[-1], x0, 1e-12)
    assert len(traj.merges.times) == 0 and "0 mergers, 2 clusters" in repr(traj.merges)


def test_beside_other_terms(torch_face):
    """A rotation that all share turns the whole, and an input draws it: places are those without mergers."""
    field = torch_face.SelfAttention(beta=4.0) + torch_face.Rotation(frequencies=[0.3]) + torch_face.Injection([0.1, 0.0])
    x0, ts = ctsa.random_tokens(8, 2, seed=0), np.linspace(0.0, 60.0, 7)
    options = dict(SHARP, atol=1e-10)
    traj = run(field, x0, ts, merge=1e-7, **options)
    close(traj.xs, run(field, x0, ts, **options).xs, 1e-7)
    assert len(traj.merges.times) > 3


# ----------------------------------------------------------------------------------------- tokens that part again
def test_tokens_that_part_again_are_no_cluster(torch_face):
    """theta' = 1 - .995 sin(theta): distances go as theta', near in the narrows (.005), 400 times as far beyond."""
    field = torch_face.Rotation(frequencies=[1.0]) + torch_face.Injection([0.995, 0.0])
    x0 = circle(np.array([-1.2, -1.199]))
    with pytest.raises(ctsa.IntegrationError, match="would come apart again") as caught:
        run(field, x0, np.linspace(0.0, 100.0, 21), merge=1e-5, atol=1e-10)
    kept = caught.value.trajectory
    assert 0 < len(kept.merges.times) and len(kept) < 21
    xs = as_numpy(run(field, x0, np.linspace(0.0, 100.0, 401), atol=1e-10).xs)
    apart = np.linalg.norm(xs[:, 0] - xs[:, 1], axis=-1)
    assert apart.min() < 1e-5 and apart[apart.argmin() :].max() > 1e-4


def test_tokens_that_pass_each_other_do_not_merge(torch_face):
    """At a saddle of V tokens come near along one axis and part along the other."""
    value = np.diag([1.0, 0.5, -2.0])
    x0 = np.array([[1e-3, 1.0, 1e-6], [1e-3, 1.0, -1e-6], [-1e-3, 1.0, 0.0]])
    x0 /= np.linalg.norm(x0, axis=-1, keepdims=True)
    field, ts = torch_face.SelfAttention(value=value, beta=2.0, weights="hardmax"), [0.0, 1.0, 20.0]
    close(run(field, x0, ts, merge=1e-4).xs, run(field, x0, ts).xs, 1e-3)


# ------------------------------------------------------------------------------------------------------- bad input
X = ctsa.random_tokens(4, 2, seed=0)


@pytest.mark.parametrize("options, match", [
    (dict(ts=[1.0, 0.0]), "forward in time"), (dict(x0=np.stack([X, X])), "one state"),
    (dict(until="equilibrium"), "until"), (dict(adjoint=True), "adjoint"),
    (dict(solver="rk4", step=0.1), "adaptive"), (dict(merge=1e-9), "10 atol"),
    (dict(merge=2.0), "0.1"), (dict(merge=-1.0), "merge"), (dict(merge="yes"), "True, False, or a distance"),
    (dict(merge=np.nan), "merge"), (dict(merge=None), "True, False, or a distance"),
])  # fmt: skip
def test_what_does_not_go_together(face, options, match):
    given = dict(x0=X, ts=[0.0, 1.0], merge=True) | options
    with pytest.raises((ValueError, TypeError), match=match):
        run(face.SelfAttention(beta=1.0), **given)


def test_truth_values_of_numpy(torch_face):
    field = torch_face.SelfAttention(beta=1.0)
    assert run(field, X, [0.0, 1.0], merge=np.False_).merges is None
    assert run(field, X, [0.0, 1.0], merge=np.True_).merges is not None


@pytest.mark.parametrize("make, match", [
    (lambda f: f.SelfAttention() + f.Injection(np.ones((4, 2))), "parameters for each"),
    (lambda f: f.SelfAttention(mask="causal"), "mask"),
    (lambda f: f.SelfAttention() + (lambda t, x: 0 * x), "bare callable"),
])  # fmt: skip
def test_fields_that_tell_tokens_apart(face, make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        run(make(face), X, [0.0, 1.0], merge=True)


def test_bare_callables_and_drives(torch_face):
    x0 = torch.as_tensor(X)
    with pytest.raises(TypeError, match="bare callable"):
        run(lambda t, x: 0 * x, x0, [0.0, 1.0], merge=True)

    class Driven(ctsa.torch.Oja):
        def drift(self, t, x):
            return (1 + torch.cos(torch.as_tensor(t))) * super().drift(t, x)

    with pytest.raises(ValueError, match="depend on time"):
        run(Driven(np.eye(2)), x0, [0.0, 1.0], merge=True)


def test_values_are_needed(torch_face, jax_face):
    with pytest.raises(TypeError, match="not known under jit"):
        jax.jit(lambda x: ctsa.integrate(jax_face.SelfAttention(), x, [0.0, 1.0], merge=True).xs)(jax.numpy.asarray(X))
    with pytest.raises(ValueError, match="no gradient"):
        ctsa.integrate(torch_face.SelfAttention(), torch.as_tensor(X).requires_grad_(), [0.0, 1.0], merge=True)


def test_a_run_that_is_given_up(torch_face):
    with pytest.raises(ctsa.IntegrationError, match="max_steps=10 ") as caught:
        run(torch_face.SelfAttention(beta=4.0), X, np.linspace(0.0, 100.0, 101), merge=True, max_steps=10)
    assert 0 < len(caught.value.trajectory) < 101 and len(caught.value.trajectory.merges.labels) < 101


# ------------------------------------------------------------------------------------------------ the parts of it
def test_how_far_a_linear_flow_goes():
    from scipy.linalg import expm

    from ctsa.flows.resting import drift_within

    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 5)) - 3.0 * np.eye(5)
    v = 1e-6 * rng.normal(size=5)
    for duration in (0.1, 1.0, 100.0):
        block = np.block([[a, v[:, None]], [np.zeros((1, 6))]])
        moved = np.abs(expm(duration * block)[:5, 5]).max()
        assert moved <= drift_within(a, v, duration, 0.0) <= 50 * moved
    grows = np.diag([-1.0, 0.5])
    assert drift_within(grows, np.array([1e-9, 1e-9]), 100.0, 1e-15) > 1e10
    assert drift_within(grows, np.array([1e-9, 1e-17]), 1e4, 1e-15) == np.inf  # noise that grows
    assert drift_within(grows, np.array([1e-9, 0.0]), 1e4, 1e-15) <= 2e-9
    assert drift_within(np.zeros((1, 1)), np.array([1e-16]), 1e12, 1e-15) == 0.0  # noise that does not


def test_clusters_at_rest_are_at_their_end(torch_face):
    """A stable state of several clusters: what a run says of t = 1e12 is where a long plain run is."""
    field = torch_face.SelfAttention(beta=3.0, value=np.diag([1.0, 0.9, 0.8]))
    x0 = ctsa.random_tokens(20, 3, seed=0)
    traj = run(field, x0, [0.0, 500.0, 1e12], merge=True)
    assert traj.merges.counts[-1] == 2 and traj.stats["steps"] < 300
    plain = run(field, x0, [0.0, 500.0], "dopri8", atol=1e-12)
    close(traj.xs[-1], plain.xs[-1], 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_single_precision_comes_to_its_end(torch_face, seed):
    """The last cluster has no velocity at all, to a rounding of 1e-7."""
    x0 = ctsa.random_tokens(8, 2, seed=seed).astype(np.float32)
    traj = run(torch_face.SelfAttention(beta=np.float32(1.0)), x0, [0.0, 30.0, 1000.0], atol=1e-5, merge=True)
    assert traj.merges.counts[-1] == 1
    plain = run(torch_face.SelfAttention(beta=1.0), x0.astype(float), [0.0, 60.0], normalize=True, atol=1e-10)
    close(traj.xs[-1], plain.xs[-1], 1e-4)


def test_pictures(staircase):
    import matplotlib.pyplot as plt

    merges = staircase[2].merges
    ax = merges.plot()
    (line,) = ax.get_lines()
    assert line.get_ydata()[0] == 8 and line.get_ydata()[-1] == 1 and "at the end 1 of 8" in ax.get_title("left")
    with pytest.raises(TypeError, match="found must be a Merges"):
        ctsa.plot.mergers(staircase[2])
    plt.close("all")
