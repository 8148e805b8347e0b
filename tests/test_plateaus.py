"""Plateaus and merge times: planted staircases, noise, none; runs that rest in clusters for long."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sampling import mainly, sample
from scipy.special import expit

import ctsa

T = np.geomspace(1.0, 1e4, 400)


def stairs(at, values, width, t=T):
    """A curve that goes from value to value at times, within some e-folds of time."""
    steps = np.diff(values)[:, None] * expit((np.log(t) - np.log(at)[:, None]) / width)
    return values[0] + steps.sum(0)


@pytest.mark.parametrize("noise", [0.0, 1e-6, 3e-3, 1e-2])
@pytest.mark.parametrize("width", [0.01, 0.05, 0.2])
def test_steps_are_found(width, noise, rng):
    at, values = np.array([10.0, 300.0, 3000.0]), np.array([0.2, 0.4, 0.6, 1.0])
    found = ctsa.plateaus(T, stairs(at, values, width) + noise * rng.normal(size=len(T)))
    assert len(found) == 4 and np.abs(found.value - values).max() < 0.01 + noise
    assert np.abs(np.log(found.merge / at)).max() < 0.02 + 10 * noise
    assert np.abs(found.height[1:] - np.diff(values)).max() < 0.02 + 2 * noise
    assert (found.start[1:] > found.end[:-1]).all() and (found.clusters == -1).all() and np.isnan(found.partition).all()
    assert (found.end[:-1] < found.merge).all() and (found.merge < found.start[1:]).all()


def test_edges_are_where_the_band_is_left():
    """Of a sharp staircase plateaus reach from step to step, and one that falls is no different."""
    curve = np.where(T < 50, 1.0, 3.0)
    for sign in (1, -1):
        found = ctsa.plateaus(T, sign * curve)
        assert found.start[0] == T[0] and found.end[1] == T[-1] and found.value.tolist() == [sign, 3 * sign]
        assert found.end[0] == T[T < 50][-1] and found.start[1] == T[T >= 50][0]


def test_one_and_none(rng):
    assert len(ctsa.plateaus(T, np.ones(len(T)))) == 1
    assert len(ctsa.plateaus(T, 1 + 1e-3 * rng.normal(size=len(T)))) == 1
    ramp = np.log(T)
    assert len(ctsa.plateaus(T, ramp)) == 0 and len(ctsa.plateaus(T, ramp + 1e-2 * rng.normal(size=len(T)))) == 0
    none = ctsa.plateaus(T, ramp)
    assert repr(none) == "Plateaus(0)" and none.merge.shape == (0,)
    plt.close(none.plot().figure)


def test_time_may_be_taken_as_it_is():
    t = np.linspace(0.0, 10.0, 101)
    found = ctsa.plateaus(t, np.where(t < 4.05, 0.0, 1.0), log_time=False)
    assert found.value.tolist() == [0.0, 1.0] and abs(found.merge[0] - 4.05) < 1e-12
    assert len(ctsa.plateaus(t, t, log_time=False)) == 0


def test_tolerance_and_duration():
    curve = stairs(np.array([10.0, 300.0]), np.array([0.0, 0.97, 1.0]), 0.01)
    assert len(ctsa.plateaus(T, curve)) == 3 and len(ctsa.plateaus(T, curve, tolerance=0.05)) == 2
    short = np.where(T < 100, 0.0, np.where(T < 250, 0.5, 1.0))  # a tenth of the time
    assert len(ctsa.plateaus(T, short)) == 3 and len(ctsa.plateaus(T, short, shortest=0.2)) == 2


@pytest.mark.parametrize("beta", [6.0, 7.0, 8.0, 9.0])
@pytest.mark.parametrize("seed", sample([0, 1, 2], 1))
def test_tokens_rest_in_clusters(jax_face, beta, seed):
    """On each plateau the clear gap gives clusters whose sizes explain the energy; from one to the next some merge."""
    field = jax_face.SelfAttention(beta=beta)
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, 16)
    ts = np.append(0.0, np.geomspace(1e-2, 1e4, 300))
    run = ctsa.integrate(field, np.stack([np.cos(angle), np.sin(angle)], 1), ts, atol=1e-10)
    found = ctsa.plateaus(run, field)
    counts = ctsa.cluster_count(run.xs, gap="auto")
    assert found.clusters[0] == 16  # before they have moved, in logarithmic time
    rest = found.clusters[1:]
    assert len(rest) and (np.diff(rest) < 0).all() and rest[-1] == counts[-1]
    assert np.abs(found.value - found.partition)[1:].max() < 0.01
    # What lasts as long as a plateau is one: no count of clusters that stays for a tenth of the time is missed.
    lasting = {int(c) for c in set(counts.tolist()) if (counts[1:] == c).sum() >= 45}
    assert lasting <= set(found.clusters.tolist())
    for value, start, end in zip(rest, found.start[1:], found.end[1:], strict=True):
        inside = (ts >= start) & (ts <= end)
        assert (counts[inside] == value).mean() > 0.8  # the band reaches into the merge
    assert found.merge.shape == (len(found) - 1,) and (np.diff(found.merge) > 0).all()


@mainly("torch")
def test_trajectories_and_their_values(face, close):
    field = face.SelfAttention(beta=8.0, value=np.eye(2))
    run = ctsa.integrate(field, ctsa.random_tokens(6, 2, seed=3), np.append(0.0, np.geomspace(0.01, 100.0, 40)))
    pairs, own = ctsa.plateaus(run), ctsa.plateaus(run, ctsa.energy(field, run.xs))
    close(pairs.curve, (face.numpy(run.xs).mean(1) ** 2).sum(-1)[1:], 1e-14)
    close(own.curve, ctsa.energy(field, run.xs)[1:], 1e-14)
    close(ctsa.plateaus(run, field).curve, own.curve / (36 * np.exp(8.0) / 16), 1e-13)
    assert own.ts.tolist() == np.geomspace(0.01, 100.0, 40).tolist() and (own.clusters > 0).all()


def test_what_is_refused(torch_face):
    run = ctsa.integrate(torch_face.SelfAttention(), ctsa.random_tokens(3, 3, seed=0, batch=(2,)), np.arange(1.0, 10.0))
    for args, kind, message in (
        ((T,), TypeError, r"curve must be values \(T,\), got None"),
        ((T, T[:-1]), ValueError, r"one value a time \(400,\), got \(399,\)"),
        ((T[::-1], T), ValueError, "ts must increase"),
        ((np.arange(-5.0, 5.0), np.arange(10.0)), ValueError, "at least 8 times above 0, got 4"),
        ((run,), ValueError, "of one run"), ((torch_face.SelfAttention(), run), TypeError, "the field comes second"),
    ):
        with pytest.raises(kind, match=message):
            ctsa.plateaus(*args)
    with pytest.raises(ValueError, match="tolerance must be a finite number above 0"):
        ctsa.plateaus(T, T, tolerance=0.0)


def test_printed_and_drawn():
    found = ctsa.plateaus(T, np.where(T < 50, 1.0, 3.0))
    assert repr(found) == "Plateaus(2: 1, 3)" and len(found.table().splitlines()) == 3
    ax = found.plot()
    assert ax.get_xscale() == "log" and len(ax.lines) == 4
    plt.close(ax.figure)
