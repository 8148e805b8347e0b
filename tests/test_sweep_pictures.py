"""What plots and reports make of a sweep as ``ctsa.sweep`` returns it: points not run, failures, axes in any order."""

import base64

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import ctsa
from ctsa import plot

pytest.importorskip("plotly", reason="reports need plotly")
pytest.importorskip("zarr")

from ctsa.reports import maps, pieces, sweeps


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def legend(ax):
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


@pytest.fixture(scope="module")
def refined():
    """21 points, of which 13 were asked for; one of these failed."""

    def point(x, y):
        if (x, y) == (2, 2):
            raise ValueError("no")
        return {"f": x - 0.5 * y - 0.3, "b": x > y, "verdict": "up" if x > 1.01 * y else "down"}

    grid = {"x": [0.0, 1.0, 2.0], "y": [2.0, 1.0, 0.0]}
    return ctsa.sweep(point, grid, workers=0, refine="x", rounds=2, progress=False)


def test_a_sweep_of_one_variable_needs_no_name():
    data = ctsa.sweep(lambda a: {"v": 2.0 * a}, {"a": [3, 1, 2]}, workers=0, progress=False)
    (line,) = plot.sweep(data).lines[:1]
    assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [2, 4, 6]


def test_points_that_were_not_run_have_not_failed(refined):
    idle = int((~refined.done).sum())
    assert idle > 0
    for name in ("f", "b", "verdict"):
        assert legend(plot.sweep(refined, name))[-2:] == ["failed (1)", f"not run ({idle})"]
    # no cross where nothing was asked for
    lines = plot.sweep(refined.drop_sel(y=[0.0, 2.0]).isel(y=0), "f")
    assert legend(lines) == []


def test_reports_do_not_count_what_is_not_there(refined):
    fine = (refined.done & (refined.error == "")).values
    yes = int(refined.b.values[fine].sum())
    section = sweeps.sweep(refined)
    counts = {f"{yes} yes", f"{int(fine.sum()) - yes} no"}
    (said,) = (s for s in section.sentences if s.startswith("B: "))
    assert set(said.removeprefix("B: ").removesuffix(".").split(", ")) == counts
    assert f"{int(refined.done.sum())} of {refined.done.size} points were run." in section.sentences
    (heat, *_) = next(c for c in section.figures if c.caption.startswith("B by")).data
    assert np.array_equal(np.array([[z is not None for z in row] for row in heat["z"]]), fine)


@pytest.mark.parametrize("order", [[3.0, 1.0, 2.0, 5.0], [5.0, 3.0, 2.0, 1.0]])
def test_maps_are_drawn_in_the_order_of_their_axes(order):
    xs, ys = np.array(order), np.array([9.0, 1.0, 4.0, 2.0])
    data = xr.Dataset({"v": (("x", "y"), 10 * xs[:, None] + ys)}, {"x": xs, "y": ys})
    heat = maps.chart(data, "v").data[0]
    assert heat["x"] == sorted(ys) and heat["y"] == sorted(xs)
    assert np.array_equal(heat["z"], 10 * np.sort(xs)[:, None] + np.sort(ys))
    assert maps.chart(data.isel(y=0), "v").data[0]["x"] == sorted(xs)


def test_values_close_to_each_other_stay_apart():
    xs = 1.414 + 1e-7 * np.arange(4)
    data = xr.Dataset({"v": ("x", np.arange(4.0))}, {"x": xs})
    section = sweeps.sweep(data)
    assert section.figures[0].data[0]["x"] == pytest.approx(xs.tolist(), abs=1e-14)
    assert [float(row[0]) for row in section.tables[0][2]] == pytest.approx(xs.tolist(), abs=1e-9)
    assert len({row[0] for row in section.tables[0][2]}) == 4
    line = pieces.scatter(xs, 1e6 + xs)
    assert len(set(line["x"])) == len(set(line["y"])) == 4
    assert pieces.told_apart([0.5, -1.0]) == ("0.5", "\N{MINUS SIGN}1")


def test_a_state_that_runs_away_leaves_the_digits_of_the_others():
    states = np.stack([np.array([[1.0, -0.5]]), np.array([[1e7, 2.0]])])
    pack = pieces.packed(states)
    whole = np.frombuffer(base64.b64decode(pack["b64"]), "<i2").reshape(pack["shape"])
    assert np.abs(whole[0] * pack["scale"][0] - states[0]).max() < 2e-5


def test_errors_of_fewer_axes_are_those_of_all():
    data = ctsa.sweep(
        lambda a: {"v": np.array([a, 2.0 * a]), "v_stderr": 0.1}, {"a": [1, 2]}, workers=0, progress=False
    )
    assert len(plot.sweep(data, "v").containers) == 2


def test_sweeps_of_no_points_and_of_complex_numbers():
    assert sweeps.sweep(xr.Dataset({"v": ("a", np.zeros(0))}, {"a": np.zeros(0)})).sentences == [
        "A sweep of no points."
    ]
    heads, rows = sweeps.sweep(xr.Dataset({"z": ("a", np.array([1 + 2j, 3 - 4j]))}, {"a": [1, 2]})).tables[0][1:]
    assert heads == ["a", "z real", "z imag"] and [r[1:] for r in rows] == [["1", "2"], ["3", "\N{MINUS SIGN}4"]]
