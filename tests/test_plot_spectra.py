"""Pictures of spectra show the numbers they are given."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from dynamics import henon
from matplotlib.axes import Axes
from matplotlib.patches import Circle

import ctsa
from ctsa.plot import spectra as plot_spectra


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def spectrum():
    rng = np.random.default_rng(0)
    exponents = np.array([-1.5, 0.9, 0.0, -0.2])  # in the order of a frame that has not sorted them
    history = exponents + rng.normal(size=(400, 4)) * [0.3, 0.3, 0.001, 0.3]
    return ctsa.LyapunovSpectrum(
        history, np.zeros((2, 3)), np.zeros((4, 2, 3)), 0.5, 10, np.array(1.0), np.array(0), 4, True
    )


# final state and frame, interval, start, speed, rotations, dimension, continuous
REST = (np.zeros((2, 3)), np.zeros((4, 2, 3)), 1.0, 10, np.array(1.0), np.array(0), 4, True)


@pytest.fixture(scope="module")
def vectors():
    v = np.random.default_rng(1).normal(size=(200, 3, 1, 4))
    v = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return ctsa.CovariantVectors(np.zeros((200, 1, 4)), v, np.zeros((199, 3)), 1.0)


def points(ax, marker="o"):
    """All points of an Axes drawn as markers, sorted by x."""
    pairs = [line.get_xydata() for line in ax.lines if line.get_marker() == marker]
    all_points = np.concatenate(pairs)
    return all_points[np.argsort(all_points[:, 0], kind="stable")]


def drawn(ax):
    ax.figure.canvas.draw()  # what cannot be drawn fails here
    return ax


def test_spectrum(spectrum):
    ax = drawn(spectrum.plot())
    assert isinstance(ax, Axes)
    assert np.array_equal(points(ax), np.stack([[1, 2, 3, 4], spectrum.exponents], -1))
    bars = ax.containers[0].lines[2][0].get_segments()
    for bar, value, error in zip(bars, spectrum.exponents, spectrum.stderr, strict=True):
        assert bar[:, 1] == pytest.approx([value - error, value + error], abs=1e-12)
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert np.array_equal(hollow[0].get_xydata(), [[2, spectrum.exponents[1]]])  # the neutral one
    assert "1 neutral (1 expected)" in [t.get_text() for t in ax.get_legend().get_texts()]
    assert ax.get_xlabel() == "index" and ax.get_ylabel() == "exponent (per unit time)"


def test_spectrum_of_layers_without_error_bars(jax_face):
    options = dict(intervals=3, transient=2, geometry=ctsa.Euclidean())
    spec = ctsa.lyapunov_spectrum(henon, jax_face.array([[0.1, 0.1]]), **options)
    ax = drawn(spec.plot(label="Henon"))
    assert np.array_equal(points(ax)[:, 1], spec.exponents)
    assert ax.get_ylabel() == "exponent (per layer)"


def test_convergence(spectrum):
    ax = drawn(plot_spectra.convergence(spectrum, count=3, width=2.0))
    t = 0.5 * np.arange(1, 401)
    for line, path in zip(ax.lines, spectrum.running.T[:3], strict=False):
        assert np.array_equal(line.get_xydata(), np.stack([t, path], -1))
    assert len(ax.collections) == 3
    for band, end, error in zip(ax.collections, spectrum.exponents, spectrum.stderr, strict=False):
        corners = band.get_paths()[0].vertices
        last = corners[np.isclose(corners[:, 0], t[-1]), 1]
        assert [last.min(), last.max()] == pytest.approx([end - 2 * error, end + 2 * error], abs=1e-12)
    low, high = ax.get_ylim()
    assert low < spectrum.exponents[2] and high > spectrum.exponents[0]
    assert ax.get_xlabel() == "time"
    assert [t.get_text() for t in ax.texts] == [rf"$\lambda_{{{i}}}$" for i in (1, 2, 3)]
    close = ctsa.LyapunovSpectrum(*[np.repeat(spectrum.history[:, :1], 4, 1) + [0, -1e-9, -2e-9, 9.0]], *REST)
    texts = plot_spectra.convergence(close).texts  # those that end together share a label
    assert [t.get_text() for t in texts] == [r"$\lambda_{1}$", r"$\lambda_{2-4}$"]


def test_nothing_neutral_is_not_explained():
    history = np.random.default_rng(0).normal(size=(400, 2)) * 0.1 + [-1.5, 0.9]
    layers = ctsa.LyapunovSpectrum(history, *REST[:-1], False)
    assert layers.plot().get_legend() is None
    flow = ctsa.LyapunovSpectrum(history, *REST)  # one is expected, and missing
    assert [t.get_text() for t in flow.plot().get_legend().get_texts()] == ["0 neutral (1 expected)"]


def test_angles_within_a_degree():
    turn = np.radians(80 + np.random.default_rng(0).uniform(-0.2, 0.2, size=50))
    v = np.stack([np.stack([np.ones(50), np.zeros(50)], -1), np.stack([np.cos(turn), np.sin(turn)], -1)], 1)[:, :, None]
    ax = ctsa.CovariantVectors(np.zeros((50, 1, 2)), v, np.zeros((49, 2)), 1.0).plot()
    low, high = ax.get_xlim()
    assert 79.6 < low < 79.85 and 80.15 < high < 80.35


@pytest.mark.parametrize("continuous", [True, False])
def test_eigenvalues(continuous):
    values = np.array([0.5 + 1j, 0.5 - 1j, -0.3, -2.0, 0.2j])
    ax = drawn(plot_spectra.eigenvalues(values, continuous=continuous))
    stable = values.real <= 0 if continuous else np.abs(values) <= 1
    found = {line.get_label(): line.get_xydata() for line in ax.lines if line.get_marker() == "o"}
    for label, chosen in (("stable", stable), ("unstable", ~stable)):
        assert np.array_equal(found[label][:, 0] + 1j * found[label][:, 1], values[chosen])
    circles = [p for p in ax.patches if isinstance(p, Circle)]
    assert len(circles) == (0 if continuous else 1)
    assert ax.get_legend() is not None
    assert drawn(plot_spectra.eigenvalues([-1.0, -2.0])).get_legend() is None  # nothing unstable to tell apart
    ax = plot_spectra.eigenvalues([1 + 1e-9, 0.2, -0.3], continuous=False, neutral=1)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["neutral", "stable"]


def test_angles(vectors):
    ax = drawn(vectors.plot())
    assert isinstance(ax, Axes)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["1 and 2", "2 and 3"]
    for j, patch in enumerate(ax.patches):
        heights, edges = np.histogram(np.degrees(vectors.angles[:, j, j + 1]), np.linspace(0, 90, 46), density=True)
        corners = patch.get_xy()
        assert corners[:, 1].max() == pytest.approx(heights.max())
        assert {round(x, 9) for x in corners[:, 0]} >= {round(x, 9) for x in edges}
    assert ax.get_xlim() == (0, 90)


def test_angles_of_subspaces(vectors):
    ax = drawn(vectors.plot(split=2, bins=30))
    heights, _ = np.histogram(np.degrees(vectors.subspace_angle(2)), np.linspace(0, 90, 31), density=True)
    assert ax.patches[0].get_xy()[:, 1].max() == pytest.approx(heights.max())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["first 2 and the rest"]


def test_given_axes_are_used(spectrum, vectors):
    _, grid = plt.subplots(2, 2)
    a, b, c, d = grid.ravel()
    assert spectrum.plot(ax=a) is a
    assert plot_spectra.convergence(spectrum, ax=b) is b
    assert plot_spectra.eigenvalues([1j], ax=c) is c
    assert vectors.plot(ax=d) is d
    assert len(plt.get_fignums()) == 1


def test_ensembles_are_drawn_as_mean_and_spread(spectrum):
    many = ctsa.LyapunovSpectrum(
        spectrum.history[:, None],
        np.zeros((1, 2, 3)),
        np.zeros((4, 1, 2, 3)),
        0.5,
        10,
        np.ones(1),
        np.zeros(1),
        4,
        True,
    )
    two = dataclasses.replace(many, history=np.concatenate([many.history, many.history + 0.3], 1))
    ax = drawn(two.plot())
    assert np.allclose(two.mean, spectrum.exponents + 0.15) and np.allclose(two.spread, 0.3 / 2**0.5)
    assert np.allclose(ax.containers[0].lines[0].get_ydata(), two.mean)
    assert np.allclose(many.spread, 0) and np.allclose(many.mean, spectrum.exponents)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["mean and spread of 2 runs"]
    with pytest.raises(ValueError, match="take it from spectrum.member"):
        plot_spectra.convergence(many)
    assert np.array_equal(points(many.member(0).plot())[:, 1], spectrum.exponents)
