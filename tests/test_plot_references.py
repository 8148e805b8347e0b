"""The main pictures look as they did, at any width nothing is cut off, and legends cover no other text."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from pictures import PICTURES, REFERENCES, figure_of, save
from PIL import Image

import ctsa
from ctsa import plot

TOLERANCE, OVER = (
    4.0,
    4,
)  # rms of 255, of means over 4 by 4 pixels: another font stays below it, what is missing does not


@pytest.fixture(autouse=True)
def _close_figures():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


def needs(name):
    if name.startswith("sweep"):
        pytest.importorskip("xarray")


def compared(name, folder):
    """Return None, or how far a picture is from its reference, with a picture of the differences in ``folder``."""
    save(name, folder / "now.png")
    for path, target in (folder / "now.png", "now"), (REFERENCES / f"{name}.png", "then"):
        image = Image.open(path).convert("RGB")
        image.reduce(OVER).save(folder / f"{target}-{name}.png")
    return compare_images(str(folder / f"then-{name}.png"), str(folder / f"now-{name}.png"), TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name, tmp_path):
    needs(name)
    assert compared(name, tmp_path) is None


@pytest.mark.parametrize("kept", [True, False])
def test_the_tolerance_tells_a_font_from_a_fault(kept, tmp_path, monkeypatch):
    if kept:
        monkeypatch.setattr(plt, "subplots", other_font(plt.subplots))
    else:
        draw = PICTURES["spectrum"]
        monkeypatch.setitem(PICTURES, "spectrum", lambda: without_marks(draw()))
    assert (compared("spectrum", tmp_path) is None) is kept


def other_font(subplots):
    """Return ``subplots`` with serifs; ``figure_of`` puts the setting back."""

    def made(*args, **options):
        mpl.rcParams["font.family"] = "DejaVu Serif"
        return subplots(*args, **options)

    return made


def without_marks(ax):
    for line in ax.lines:
        line.set_visible(False)
    return ax


def test_references_are_small():
    sizes = {path.name: path.stat().st_size for path in REFERENCES.glob("*.png")}
    assert set(sizes) == {f"{name}.png" for name in PICTURES}
    assert max(sizes.values()) < 15_000, sizes


def texts(figure):
    """Return the visible text of a figure with its place in pixels."""
    figure.canvas.draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent()) for t in found]


SHAPES = [(name, width) for name in PICTURES for width in (None, "column", "page")]


@pytest.mark.parametrize("name, width", SHAPES)
def test_nothing_is_cut_off(name, width):
    needs(name)
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
