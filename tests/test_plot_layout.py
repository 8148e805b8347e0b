"""Pictures at every width: nothing is cut off or covered, every dash has a name; the style, and what used to be wrong."""

import dataclasses
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from pictures import PICTURES, branches, comparison, figure_of
from sampling import sample

import ctsa
from ctsa import plot


@pytest.fixture(autouse=True)
def _as_before():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


def texts(figure):
    """Return the visible text of a figure with its place in pixels."""
    figure.canvas.draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent()) for t in found]


SHAPES = [(name, width) for name in PICTURES for width in (None, "column", "page")]


@pytest.mark.parametrize("name, width", sample(SHAPES, lambda name, width: width != "page"))
def test_nothing_is_cut_off(name, width):
    if name.startswith("sweep"):
        pytest.importorskip("xarray")
    with plot.style(width):
        figure = figure_of(name)
    ours = {"column": 3.4, "page": 7.0}.get(width)
    assert ours is None or figure.get_figwidth() == ours
    every = texts(figure)
    whole = figure.bbox.padded(1.0)
    ticks = {t for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels(which="both")}
    outside = [text for text, box in every if not (whole.contains(*box.min) and whole.contains(*box.max))]
    shown = {t.get_text() for t in ticks}  # labels of ticks beyond the limits are not drawn
    assert [text for text in outside if text not in shown] == []
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            assert whole.contains(*box.min) and whole.contains(*box.max), name


# The style


def test_widths():
    for width, inches in ("column", 3.4), ("page", 7.0), (5, 5.0):
        with plot.style(width):
            one, row = plot.gram_matrix(np.eye(3)), plot.gram(np.eye(4)[None], axes=None)
        assert one.figure.get_figwidth() == row[0].figure.get_figwidth() == inches
    with plot.style():
        assert plot.gram_matrix(np.eye(3)).figure.get_figwidth() == pytest.approx(3.4)
    assert plot.spectra.eigenvalues([1.0]).figure.get_figwidth() == pytest.approx(2.8)


def test_panels_that_do_not_fit_go_below_each_other():
    states = np.stack([np.roll(np.eye(4), i, 0) for i in range(5)])
    with plot.style("column"):
        axes = plot.gram(states, times=5)
    assert len(axes) == 5 and len(axes[0].figure.axes) == 6  # and the colour bar
    assert axes[0].get_gridspec().get_geometry() == (3, 2)
    with plot.style("page"):
        assert plot.gram(states, times=4)[0].get_gridspec().get_geometry() == (1, 4)


def test_the_style_is_left_as_it_was_found():
    with pytest.raises(ZeroDivisionError), plot.style("page"):
        assert mpl.rcParams["pdf.fonttype"] == 42
        raise ZeroDivisionError
    assert plot.spectra.eigenvalues([1.0]).figure.get_figwidth() == pytest.approx(2.8)


@pytest.mark.parametrize(
    "width, kind", [("slide", ValueError), (0.1, ValueError), (np.nan, ValueError), ([], TypeError)]
)
def test_bad_widths(width, kind):
    with pytest.raises(kind, match="^width"), plot.style(width):
        pass


def test_the_look_is_a_style_of_matplotlib():
    with plt.style.context("ctsa.plot.house"):
        inks = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
        assert inks == list(ctsa.plot._style.PALETTE)


def brightness(ink):
    r, g, b = np.array(mpl.colors.to_rgb(ink))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_colours_can_be_told_apart_without_one_of_the_cones():
    """Of any two colours of the palette, one is brighter or they differ on the blue-yellow axis, too."""
    inks = ctsa.plot._style.PALETTE
    for i, a in enumerate(inks):
        for b in inks[i + 1 :]:
            red_a, _, blue_a = mpl.colors.to_rgb(a)
            red_b, _, blue_b = mpl.colors.to_rgb(b)
            assert abs(brightness(a) - brightness(b)) > 0.04 or abs(blue_a - blue_b) > 0.15, (a, b)


# Faults that were there once


def test_long_labels_break_and_formulas_do_not():
    text = r"share in the top two percent of $J + J^T$, of all the eigenvalues there are"
    ax = plot._style.finish(plt.figure(figsize=(2, 1)).add_subplot(), "x", text)
    lines = ax.get_ylabel().split("\n")
    assert len(lines) > 1 and sum("$J + J^T$" in line for line in lines) == 1
    assert " ".join(lines) == text


def test_every_dash_and_mark_has_a_name():
    axes = PICTURES["comparison"]()
    named = {t.get_text() for ax in axes if ax.get_legend() for t in ax.get_legend().get_texts()}
    assert {"counts as parted", "flow", "largest error"} <= named
    one = ctsa.JacobianNorms(2.0, 1.0, 1.0, 3.0, 4.0, 5.0, 1.0, True)
    legend = plot.monitors.norms(one).get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["bound", "bound, any state"]


def test_rings_and_dots_are_named_where_they_cover_nothing():
    rest = dataclasses.replace(comparison(), predicted=np.ones((3, 2)) + 0j, measured=np.zeros((3, 2)) + 0j)
    ax = plot.comparison.multipliers(rest)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["predicted", "measured"]
    assert box(ax.get_legend()).y0 > ax.bbox.y1 - 1


def test_a_fall_of_energy_says_its_size_and_that_nothing_is_promised():
    energies = np.array([1.0, 2.0, 1.9998, 3.0])
    report = ctsa.EnergyReport(np.arange(4.0), energies, 1, False, "V is not A", False, 2e-4, 2.0)
    ax = report.plot()
    assert ax.get_legend().get_texts()[0].get_text() == "falls by 0.0002 between outputs, at 2"
    assert re.search("no theorem", ax.get_title(loc="left"))


def test_heads_of_short_arrows_do_not_pile_up():
    x = np.eye(3)
    v = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.1], [1.0, 0.0, 0.0]])
    arrows = [
        np.stack(line.get_data_3d(), 1) for line in plot.sphere(x, vectors=v).lines if line.get_label() == "_vector"
    ]
    heads = [np.ptp(arrow[1:], axis=0).max() > 0 for arrow in arrows[::2]]
    assert heads == [True, False, True]


def box(legend):
    legend.figure.canvas.draw()
    return legend.get_window_extent()


def test_long_names_stay_beside_the_globe():
    names = ["a very long name of a token", "b", "another one that is long"]
    ax = plot.sphere(np.eye(3), labels=names)
    left = box(ax.get_legend()).x0
    rim = next(line for line in ax.lines if getattr(line, "_points", 0) is None)
    assert rim.get_transform().transform(rim.get_xydata())[:, 0].max() < left
    flat = plot.principal(np.eye(3), labels=names)
    assert box(flat.get_legend()).x0 > flat.bbox.x1 - 1


def test_a_survey_of_few_heads_cuts_no_mark_and_covers_none():
    from ctsa.pretrained.surveys import Survey

    at, ones = (2, 3), np.ones(2)
    ends = np.array([["fixed", "apart", "rotating"], ["bipartite", "undecided", "clusters"]])
    grid = dict.fromkeys(("asymmetry", "gain", "speed", "effective_step", "turn", "distance"), np.ones(at))
    rows = dict.fromkeys(("layer_eigenvalue", "beta", "step", "layer_distance", "model_distance"), ones)
    survey = Survey(
        model="m", tokens=np.array(["a"]), layers=np.arange(2), heads=np.arange(3), duration=1.0,
        eigenvalues=np.arange(6.0).reshape(*at, 1) + 0j, end=ends, clusters=np.arange(6).reshape(at),
        period=np.full(at, np.inf), exponents=np.ones((*at, 1)), stderr=np.zeros((*at, 1)),
        source=np.full(at, "closed form"), **grid, **rows,
    )  # fmt: skip
    left, right = survey.plot()
    assert box(right.get_legend()).x0 > right.bbox.x1 - 1
    marks = [line for line in right.lines if line.get_marker() == "o"]
    assert len(marks) == 6 and not any(line.get_clip_on() for line in marks)
    (low, high), places = right.get_xlim(), np.concatenate([line.get_xdata() for line in marks])
    assert low < places.min() and places.max() < high
    inks = {text.get_text(): text.get_color() for text in left.texts}
    assert inks["2"] == inks["3"] == inks["5"] == "white" and inks["4"] != "white"  # on grey


def test_the_share_that_no_step_explains_is_explained():
    fit = ctsa.EffectiveStep(
        np.array([0.2, 0.3]), np.array([0.1, 0.0]), np.zeros(2), np.zeros(2, bool), 0.25, 0.05, ctsa.Sphere()
    )
    ax = fit.plot()
    assert "0: Euler step" in ax.get_ylabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()][1].startswith("one step for all, 0.25: 5.0% unexplained")


def test_eigenvalues_along_a_branch_are_lines_with_names():
    branch = branches()[0]
    ax = plot.continuation.eigenvalues(branch)
    curves = [line for line in ax.lines if len(line.get_xdata()) == len(branch)]
    assert len(curves) == branch.eigenvalues.shape[1] and all(line.get_linestyle() == "-" for line in curves)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["branch point"] and ax.get_xlabel() == r"$\beta$"
