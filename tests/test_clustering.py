"""Clusters without a tolerance: planted ones, what chance makes, invariances, the minimum spanning tree."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.stats import binom

import ctsa
from ctsa.clustering import merging


def planted(sizes, d, noise, seed=0):
    """Tokens around orthogonal or opposite centres, and their labels by first appearance."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0]
    centres = np.concatenate([frame, -frame])
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = centres[labels] + noise * rng.uniform(-1, 1, size=(len(labels), d))
    first = list(dict.fromkeys(labels.tolist()))
    return x / np.linalg.norm(x, axis=1, keepdims=True), [first.index(a) for a in labels]


@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-8, 1e-4, 1e-2])
@pytest.mark.parametrize("d, sizes", [
    (2, [8, 8]), (2, [1, 12]), (2, [5, 1, 9]), (2, [4, 3, 5, 4]), (3, [10]), (3, [2, 3, 30]), (3, [1, 1, 6, 4, 3, 5]),
    (16, [7, 9]), (16, [40, 1, 1, 2, 5]),
])  # fmt: skip
def test_planted_clusters_are_found(d, sizes, noise):
    x, labels = planted(sizes, d, noise)
    found = ctsa.find_clusters(x)
    assert found.labels.tolist() == labels and int(found.count) == len(sizes) and bool(found.sure)
    assert np.array_equal(ctsa.clusters(x, gap="auto"), found.labels)
    assert int(ctsa.cluster_count(x, gap="auto")) == len(sizes)
    assert np.array_equal(ctsa.clusters(x, gap=float(found.gap)), found.labels)  # the gap says the same
    by_density = ctsa.find_clusters(x, "density", kappa=20.0)
    assert by_density.labels.tolist() == labels and np.isnan(by_density.chance)


def test_tokens_that_have_met_to_unequal_digits_are_alike():
    """Clusters contract at rates of their own: 1e-14 within one and 1e-3 within the other are both inside."""
    angle = np.concatenate([1e-14 * np.arange(8), 2 + 1e-3 * np.arange(5), [4.0]])
    found = ctsa.find_clusters(np.stack([np.cos(angle), np.sin(angle)], 1))
    assert found.labels.tolist() == [0] * 8 + [1] * 5 + [2]


def test_nothing_depends_on_order_or_rotation(rng):
    for d in (2, 3):
        x, labels = planted([5, 2, 8], d, 0.02)
        turn, order = np.linalg.qr(rng.normal(size=(d, d)))[0], rng.permutation(15)
        before, after = ctsa.find_clusters(x), ctsa.find_clusters((x @ turn)[order])
        same = np.asarray(labels)[order][:, None] == np.asarray(labels)[order]
        assert np.array_equal(after.labels[:, None] == after.labels, same)
        assert abs(after.gap / before.gap - 1) < 1e-9 and abs(after.chance - before.chance) <= 1e-9 * before.chance
        assert np.abs(after.distances - before.distances).max() < 1e-14


def test_in_flat_space_only_ratios_count():
    x = planted([5, 3], 3, 1e-3)[0] + 0.5  # no unit vectors
    few, scaled = ctsa.find_clusters(x), ctsa.find_clusters(1e6 * x)
    assert few.labels.tolist() == scaled.labels.tolist() and few.count == 2
    assert abs(scaled.gap / few.gap / 1e6 - 1) < 1e-9


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("n", [3, 16, 60])
def test_random_tokens_have_no_clear_gap(n, d):
    """At most one in a hundred: more than what chance makes of that in 200 draws does not happen."""
    found = ctsa.find_clusters(np.stack([ctsa.random_tokens(n, d, seed=s) for s in range(200)]))
    assert found.sure.sum() <= binom.isf(1e-4, 200, 0.01)
    assert (found.count[~found.sure] == n).all()


def test_few_tokens():
    assert ctsa.find_clusters(np.eye(3)[:1]).labels.tolist() == [0]
    near = np.array([[1.0, 0.0], [np.cos(1e-4), np.sin(1e-4)]])
    assert ctsa.find_clusters(near).count == 1 and ctsa.find_clusters(np.eye(2)).count == 2
    assert ctsa.find_clusters(np.array([[1.0, 0.0], [-1.0, 0.0]])).count == 2
    same = ctsa.find_clusters(np.full((4, 3), 2.0))  # not unit, and all at one place
    assert same.count == 1 and bool(same.sure)


def test_batches_and_frameworks(face):
    x = np.stack([planted([3, 5], 3, 1e-3, seed=s)[0] for s in range(6)]).reshape(2, 3, 8, 3)
    found = ctsa.find_clusters(face.array(x))
    assert found.labels.shape == (2, 3, 8) and found.distances.shape == (2, 3, 7)
    assert found.count.tolist() == [[2] * 3] * 2
    single = ctsa.find_clusters(face.array(x, "float32"))  # whose rounding is a gap of its own
    assert np.array_equal(single.labels, found.labels)
    assert np.array_equal(found.labels[1, 2], ctsa.find_clusters(x[1, 2]).labels)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_distances_are_those_of_single_linkage(d, monkeypatch, rng):
    monkeypatch.setattr(merging, "BLOCK", 16)
    x = np.concatenate([ctsa.random_tokens(60, d, seed=1), np.eye(d)[[0, 0, 1]]])
    close = np.abs(ctsa.find_clusters(x).distances - linkage(x, "single")[:, 2]).max()
    assert close < 1e-12


def test_many_tokens_on_the_circle():
    angle = np.concatenate([c + 0.3 * np.random.default_rng(0).uniform(size=20_000) for c in (0.0, 2.0, 4.0)])
    found = ctsa.find_clusters(np.stack([np.cos(angle), np.sin(angle)], 1))
    assert found.count == 3 and found.labels[[0, 20_000, 40_000]].tolist() == [0, 1, 2]


def test_hills_merge_at_the_distance_of_two_kernels():
    """Two tokens at an angle 2a have one maximum between them if kappa sin(a)^2 <= cos(a), and two else."""
    for a in (0.2, 0.5, 0.9):
        x = np.array([[np.cos(a), np.sin(a)], [np.cos(a), -np.sin(a)]])
        edge = np.cos(a) / np.sin(a) ** 2
        counts = [int(ctsa.find_clusters(x, "density", kappa=edge * factor).count) for factor in (0.9, 1.1)]
        assert counts == [1, 2]


def test_chains_join_by_gaps_and_part_by_density():
    rng = np.random.default_rng(0)
    angle = np.concatenate([*(0.05 * rng.normal(size=40) + c for c in (0, 1.2)), np.linspace(0, 1.2, 25)])
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    assert ctsa.clusters(x, gap=0.06).max() == 0
    assert ctsa.find_clusters(x, "density", kappa=30.0).count == 2


def test_what_is_refused():
    x = np.eye(3)
    for given, message in (
        (dict(method="kmeans"), "method must be one of 'density', 'gaps'"),
        (dict(method="density"), "kappa must be a number for method='density', got None"),
        (dict(kappa=3.0), "kappa is for method='density'"),
        (dict(method="density", kappa=0.0), "kappa must be a finite number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ctsa.find_clusters(x, **given)
    with pytest.raises(ValueError, match="unit tokens for method='density', but a length is off by 1"):
        ctsa.find_clusters(2 * x, "density", kappa=1.0)
    with pytest.raises(ValueError, match="gap must be one of 'auto'"):
        ctsa.clusters(x, gap="best")
    with pytest.raises(ValueError, match="x must be finite"):
        ctsa.find_clusters(np.nan * x)


def test_printed_and_drawn():
    x, _ = planted([5, 2, 1], 3, 1e-3)
    found = ctsa.find_clusters(x)
    assert repr(found).startswith("Clustering(3 of 8 tokens, gap ") and "5, 2, 1" in found.table()
    assert repr(ctsa.find_clusters(ctsa.random_tokens(8, 3, seed=0))) == "Clustering(8 of 8 tokens, no clear gap)"
    many = ctsa.find_clusters(np.stack([x, x]))
    assert repr(many) == "Clustering(of 2 states: 3...3 clusters)"
    assert many.table() == "3 clusters  2 states"
    assert len((both := many.plot()).lines) == 2
    plt.close(both.figure)
    ax = found.plot()
    steps = ax.lines[0].get_xydata()
    assert steps[0, 1] == 8 and steps[-1, 1] == 1 and np.isclose(ax.lines[1].get_xdata()[0], found.gap)
    plt.close(ax.figure)
