"""Pictures of sweeps hold the numbers of the data set, its errors, its names, and what failed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgba
from numpy.testing import assert_allclose, assert_array_equal
from pictures import sweep as made

import ctsa
from ctsa import plot

xr = pytest.importorskip("xarray")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return made()  # beta (13) x noise (6) x seed (5), one point failed


def drawn(ax):
    ax.figure.canvas.draw()
    return ax


def mesh(ax):
    return next(c for c in ax.collections if isinstance(c, QuadMesh))


def hatched(ax):
    cells = [c for c in ax.collections if isinstance(c, PolyCollection) and c.get_hatch()]
    return sum(len(c.get_paths()) for c in cells)


def legend(ax):
    return [] if ax.get_legend() is None else [t.get_text() for t in ax.get_legend().get_texts()]


# Lines


def test_a_line_with_the_errors_of_the_data(data):
    one = data.isel(noise=0, seed=0)
    ax = drawn(plot.sweep(one, "largest"))
    (bars,) = ax.containers
    assert_array_equal(bars.lines[0].get_xydata(), np.stack([one.beta, one.largest], -1))
    (segments,) = bars.lines[2]
    lengths = [np.ptp(s[:, 1]) for s in segments.get_segments()]
    assert_allclose(lengths, 2 * one.largest_stderr.values)
    assert ax.get_ylabel() == "largest exponent (per unit time)" and ax.get_xlabel() == r"$\beta$"
    assert ax.get_xscale() == "log"  # as the values are at even logarithms
    assert legend(ax) == []


def test_means_over_seeds_have_their_standard_errors(data):
    some = data.isel(noise=0)
    ax = drawn(plot.sweep(some, "largest", over="seed"))
    (bars,) = ax.containers
    values = some.largest.values
    assert_allclose(bars.lines[0].get_ydata(), values.mean(1))
    lengths = [np.ptp(s[:, 1]) for s in bars.lines[2][0].get_segments()]
    assert_allclose(lengths, 2 * values.std(1, ddof=1) / np.sqrt(5))


def test_a_line_for_each_exponent(data):
    ax = drawn(plot.sweep(data.isel(noise=0), "spectrum", over="seed"))
    assert legend(ax) == ["1", "2", "3", "4"] and ax.get_legend().get_title().get_text() == "exponent"
    expected = data.isel(noise=0).spectrum.mean("seed").values
    assert_allclose(np.stack([bars.lines[0].get_ydata() for bars in ax.containers], 1), expected)


def test_a_line_for_each_name_and_bands_for_many_points():
    beta = np.linspace(0, 1, 40)
    both = np.stack([beta, 2 * beta])
    axes = ("method", "beta")
    found = xr.Dataset(
        {"a": (axes, both), "a_stderr": (axes, 0 * both + 0.1)}, {"method": ["euler", "heun"], "beta": beta}
    )
    ax = drawn(plot.sweep(found))
    assert legend(ax) == ["euler", "heun"] and len(ax.collections) == 2 and not ax.containers[0].lines[2]
    band = ax.collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(-0.1) and band[:, 1].max() == pytest.approx(2.1)


def test_parameters_out_of_order_are_sorted():
    found = xr.Dataset({"a": ("x", [3.0, 1.0, 2.0])}, {"x": [3, 1, 2]})
    ax = plot.sweep(found)
    assert_array_equal(ax.containers[0].lines[0].get_xydata(), [[1, 1], [2, 2], [3, 3]])
    shuffled = xr.Dataset({"a": (("x", "y"), [[3.0, 30.0], [1.0, 10.0]])}, {"x": [3, 1], "y": [1, 2]})
    assert_array_equal(mesh(plot.sweep(shuffled)).get_array(), [[1, 3], [10, 30]])


def test_points_that_failed_are_gaps_with_a_mark(data):
    ax = drawn(plot.sweep(data.isel(noise=3), "largest", over="seed"))
    assert np.isnan(ax.containers[0].lines[0].get_ydata()[2]) and legend(ax) == ["failed"]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert_array_equal(crosses[0].get_xdata(), data.beta.values[[2]])


def test_some_seeds_may_fail():
    error = [["", "boom"], ["", ""]]
    found = xr.Dataset(
        {"a": (("x", "seed"), [[1.0, 99.0], [3.0, 5.0]]), "error": (("x", "seed"), error)},
        {"x": [0, 1], "seed": [0, 1]},
    )
    assert_array_equal(plot.sweep(found, over="seed").containers[0].lines[0].get_ydata(), [1.0, 4.0])


def test_a_variable_may_lack_an_axis(data):
    found = data.assign(bound=("beta", np.log(data.beta.values)))
    assert_allclose(plot.sweep(found, "bound").containers[0].lines[0].get_ydata(), np.log(data.beta.values))


# Maps


def test_a_map_has_both_signs_about_zero(data):
    ax = drawn(plot.sweep(data, "largest", over="seed"))
    cells = mesh(ax)
    mean = data.largest.mean("seed").values.T
    assert_allclose(np.ma.filled(cells.get_array(), np.nan), mean)
    low, high = cells.get_clim()
    assert low == -high == -np.nanmax(np.abs(mean)) and cells.get_cmap().name == "RdBu_r"
    assert hatched(ax) == 1 and legend(ax) == ["failed (1)"]
    edges = cells.get_coordinates()[0, :, 0]
    assert_allclose(np.diff(np.log(edges)), np.log(2) / 2)
    assert ax.get_xscale() == "log" and ax.get_yscale() == "linear" and ax.get_ylabel() == "noise"
    assert ax.figure.axes[1].get_ylabel() == "largest exponent (per unit time)"


def test_a_map_of_one_sign_has_one_hue(data):
    ax = plot.sweep(data.assign(largest=data.largest**2), "largest", over="seed", x="noise")
    assert mesh(ax).get_cmap().name == "viridis" and ax.get_xlabel() == "noise"
    assert mesh(ax).get_array().shape == (13, 6)
    assert plot.sweep(data, "largest", over="seed", y="beta").get_xlabel() == "noise"


def test_verdicts_have_the_colours_they_have_elsewhere(data):
    ax = drawn(plot.sweep(data, "verdict", over="seed"))
    names = legend(ax)
    assert set(names) == {"settles", "marginal", "chaotic", "failed (1)"} and hatched(ax) == 1
    inks = {t: to_hex(h.get_facecolor()) for t, h in zip(names, ax.get_legend().get_patches(), strict=True)}
    for name in ("settles", "marginal", "chaotic"):
        assert to_rgba(inks[name]) == to_rgba(ctsa.plot.diagnosis.VERDICTS[name])
    cells = mesh(ax)
    code = np.ma.filled(cells.get_array(), -1)
    kinds = data.verdict.values  # the most frequent of five
    for j, i in np.ndindex(code.shape):
        if code[j, i] >= 0:
            found = kinds[i, j].tolist()
            assert found.count(names[int(code[j, i])]) == max(map(found.count, found))


def test_names_that_are_not_known_look_unlike():
    found = xr.Dataset({"kind": (("x", "y"), [["consensus", "settles"], ["a", "b"]])}, {"x": [0, 1], "y": [0, 1]})
    ax = drawn(plot.sweep(found))
    assert len({to_hex(p.get_facecolor()) for p in ax.get_legend().get_patches()}) == 4
    truth = xr.Dataset({"stable": ("x", [True, False, True])}, {"x": [0.0, 1.0, 2.0]})
    assert legend(drawn(plot.sweep(truth))) == ["True", "False"]


def test_axes_of_names():
    found = xr.Dataset({"a": (("x", "method"), [[1.0, 2.0], [3.0, 4.0]])}, {"x": [0, 1], "method": ["one", "two"]})
    ax = drawn(plot.sweep(found, y="method"))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"] and mesh(ax).get_array().shape == (2, 2)


def test_given_axes_are_used(data):
    _, (left, right) = plt.subplots(1, 2)
    assert plot.sweep(data, "verdict", over="seed", ax=left) is left
    assert plot.sweep(data.isel(noise=0), "largest", over="seed", ax=right) is right


# Bad input


BAD = {
    "dataset must be an xarray.Dataset, got int": lambda d: plot.sweep(3),
    "variable: wanted a name, as there is not just one, got None with largest, verdict, spectrum": lambda d: plot.sweep(
        d
    ),
    "variable: wanted one of largest, verdict, spectrum, got 'a'": lambda d: plot.sweep(d, "a"),
    "variable: .* got 'error'": lambda d: plot.sweep(d, "error"),
    "dataset: wanted one or two axes, got 3: beta, noise, seed; try .*isel.seed=0., or over='seed'": (
        lambda d: plot.sweep(d, "largest")
    ),
    "dataset: wanted one or two axes, got 0": lambda d: plot.sweep(d, "largest", over=["seed", "beta", "noise"]),
    "dataset: wanted no axis of its own for a map, got .*; try dataset.isel.exponent=0.$": (
        lambda d: plot.sweep(d, "spectrum", over="seed")
    ),
    "dataset: wanted numbers in 'largest', got nan": lambda d: plot.sweep(d.isel(beta=[2], noise=3, seed=0), "largest"),
    "over: wanted axes of the sweep, beta, noise, seed, got 3": lambda d: plot.sweep(d, "largest", over=3),
    "x: wanted an axis of the sweep, beta, noise": lambda d: plot.sweep(d, "largest", over="seed", x="seed"),
    "y: wanted another axis than x": lambda d: plot.sweep(d, "largest", over="seed", x="beta", y="beta"),
    "ax: wanted 1 2-D Axes": lambda d: plot.sweep(d, "largest", over="seed", ax=3),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, data):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        BAD[message](data)
    assert not plt.get_fignums()
