"""Pictures of equilibria and of basins show what they are given."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_basins import result

import ctsa
from ctsa.plot import equilibria as pe

V = np.diag([3.0, 2.0, 1.0])
STATE = np.array([[1.0, 0.0, 0.0]] * 3 + [[-1.0, 0.0, 0.0]])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(ax):
    ax.figure.canvas.draw()  # what cannot be drawn fails here
    return ax


def found(stable=True, x=STATE, **other):
    return SimpleNamespace(
        x=x, kind="bipartite consensus", stable=stable, marginal=False, index=0 if stable else 2, **other
    )


def lines(ax, prefix):
    return [line for line in ax.lines if line.get_label().startswith(prefix)]


# ------------------------------------------------------------------------------------------------------------- globes
def test_equilibrium():
    ax = drawn(pe.equilibrium(found(), V))
    for label, place in (("_tokens0", [[1, 0, 0]]), ("_tokens1", [[-1, 0, 0]])):
        pale, full = (np.array(line.get_data_3d()).T for line in lines(ax, label))
        assert np.allclose(pale, place) and np.isnan(full).all() == (label == "_tokens1")  # the far side is pale only
    texts = [t.get_text() for t in ax.texts]
    assert sorted(texts) == ["$v_0$", "$v_1$", "$v_2$", "1", "3"]
    assert ax.get_title() == "bipartite consensus\nstable"


def test_stability_is_marked():
    stable, unstable, unknown = (pe.equilibrium(e) for e in (found(), found(False), STATE))
    inks = [[line.get_markerfacecolor() for line in lines(ax, "_tokens")] for ax in (stable, unstable, unknown)]
    assert "unstable, index 2" in unstable.get_title() and unknown.get_title() == ""
    assert len({str(i[-1]) for i in inks}) == 3  # filled blue, hollow, grey
    assert inks[1][0] == inks[1][-1]
    assert not lines(drawn(stable), "_v")  # no matrix, no axes


@pytest.mark.parametrize("value", [V, "field", V[None]])
def test_axes_are_the_eigenvectors(torch_face, value):
    value = torch_face.SelfAttention(value=np.diag([1.0, 3.0, 2.0])) if isinstance(value, str) else value
    order = [1, 2, 0] if callable(value) else [0, 1, 2]
    ax = pe.equilibrium(STATE, value)
    for k, column in enumerate(order):
        tips = [np.array(line.get_data_3d())[:, 1] for line in lines(ax, f"_v{k}") if len(line.get_data_3d()[0])]
        assert any(np.allclose(np.abs(tip), 1.22 * np.eye(3)[column]) for tip in tips)


def test_axes_of_a_rotation_are_its_real_eigenvectors():
    turn = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    assert [t.get_text() for t in pe.equilibrium(STATE[:1], turn).texts if "v" in t.get_text()] == ["$v_2$"]


def test_other_dimensions():
    """The circle is seen from above; more than three dimensions by their principal coordinates."""
    ax = drawn(pe.equilibrium(np.eye(2), np.diag([2.0, 1.0])))
    assert (ax.elev, len(lines(ax, "_tokens0"))) == (90, 2)
    x = np.zeros((4, 6))
    x[:3, 4], x[3, 1] = 1.0, -1.0
    ax = drawn(pe.equilibrium(x, np.diag(np.arange(6.0))))
    place = np.array(lines(ax, "_tokens0")[0].get_data_3d()).ravel()
    assert np.allclose(place, [1, 0, 0])  # most tokens: the first principal coordinate


def test_several_equilibria():
    axes = pe.equilibria([found(), found(False), found()], V, columns=3, most=2)
    assert len(axes) == 2 and len(axes[0].figure.axes) == 2
    drawn(axes[0])
    figure, given = plt.subplots(1, 2, subplot_kw={"projection": "3d"})
    assert (pe.equilibria([found()] * 2, axes=given) == given).all() and len(figure.axes) == 2


def test_equilibria_of_a_search(torch_face):
    several = ctsa.find_equilibria(torch_face.SelfAttention(key=V, value=V), 1, 3, starts=4, rounds=1)
    axes = pe.equilibria(several, V)
    assert "stable" in axes[0].get_title() and len(axes) == min(12, len(several))


def test_trajectories():
    xs = np.stack([STATE[:, [1, 2, 0]], STATE])
    ax = pe.trajectory(xs, V, title="two states")
    assert ax.get_title() == "two states" and lines(ax, "_path0") and lines(ax, "_v2")
    axes = pe.trajectories({"one": xs, "two": xs, "three": xs}, [V, V, None], columns=2)
    assert [a.get_title() for a in axes] == ["one", "two", "three"] and not lines(axes[2], "_v")
    ends = [line.get_color() for line in lines(axes[0], "_end") if line.get_zorder() > 10]
    assert len({to_rgb(c) for c in ends}) == 2  # one colour a group
    drawn(axes[0])


# --------------------------------------------------------------------------------------------------------------- bars
def test_basin_bars():
    made = result(["bipartite consensus"] * 6 + ["consensus"] * 3 + ["unresolved"])
    ax = drawn(made.plot())
    assert [p.get_width() for p in ax.patches] == pytest.approx([0.6, 0.3, 0.1])
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "bipartite consensus on $v_{0}$", "consensus on $v_{0}$", "unresolved",
    ]  # fmt: skip
    bars = [c for c in ax.containers if hasattr(c, "lines")]
    for bar, (_, low, high) in zip(bars, made.shares().values(), strict=True):
        segment = bar.lines[2][0].get_segments()[0]
        assert segment[:, 0] == pytest.approx([low, high])
    assert ax.get_xlabel() == "share of 10 random starts"
    few = drawn(made.plot(by="kind", most=1))
    assert [t.get_text() for t in few.get_yticklabels()] == ["bipartite consensus", "2 others"]
    assert few.patches[1].get_width() == pytest.approx(0.4)


def test_basin_shares():
    runs = {0.5: result(["consensus"] * 4), 1.0: result(["consensus", "rotating consensus", "polygonal", "polygonal"])}
    ax = drawn(pe.basin_shares(runs, name="b"))
    tops = {}
    for bar in ax.patches:
        tops[round(bar.get_x() + bar.get_width() / 2)] = bar.get_y() + bar.get_height()
    assert tops == {0: pytest.approx(1.0), 1: pytest.approx(1.0)}
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["rotating consensus on $v_{0}$", "polygonal on $v_{0}$", "consensus on $v_{0}$"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.5", "1"] and ax.get_xlabel() == "b"
    frame = ax.figure.bbox  # all of the legend is in the figure
    legend = ax.get_legend().get_window_extent()
    assert frame.x0 <= legend.x0 and legend.x1 <= frame.x1 and legend.y1 <= frame.y1


def test_colours_tell_kinds_and_eigenvectors_apart():
    labels = [
        "consensus on v0",
        "consensus on v1",
        "bipartite consensus on v0",
        "clustering",
        "polygonal",
        "unresolved",
    ]
    inks = [pe._ink(label) for label in labels]
    assert len({tuple(np.round(to_rgb(c), 6)) for c, _ in inks}) == len(labels)
    assert pe._ink("rotating consensus on v0")[1] and pe._ink("consensus on v1 (unstable)")[1] and not inks[0][1]


def test_census_bars():
    betas = [0.1, 0.5, 1.0]
    table = ctsa.theory.census_table(V, V, betas, 10)
    ax = drawn(pe.census_bars(table, betas))
    heights = sorted(p.get_height() for p in ax.patches)
    assert heights == [2, 2, 2, 1002, 1022]  # no bar for zero
    assert ax.get_yscale() == "log" and sorted(t.get_text() for t in ax.texts) == ["1002", "1022", "2", "2", "2"]
    assert {t.get_rotation() for t in ax.texts} == {0}  # short ones stand upright
    many = pe.census_bars({("consensus", 0): [1234] * 20, ("polygonal", 0): [1] * 20}, np.arange(20.0))
    assert {t.get_rotation() for t in many.texts if len(t.get_text()) == 4} == {90}


def test_given_axes_are_used():
    _, (a, b, c) = plt.subplots(1, 3)
    made = result(["consensus"])
    assert made.plot(ax=a) is a and pe.basin_shares({1: made}, ax=b) is b
    assert pe.census_bars({("consensus", 0): [2]}, [1.0], ax=c) is c
    globe = plt.figure().add_subplot(projection="3d")
    assert pe.equilibrium(STATE, ax=globe) is globe and pe.trajectory(STATE, ax=globe) is globe
    assert len(plt.get_fignums()) == 2


# ---------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pe.equilibrium(STATE[0]), "found: wanted an Equilibrium, or a state"),
        (lambda: pe.equilibrium(STATE, np.eye(2)), r"value: wanted shape \(3, 3\) as the tokens"),
        (lambda: pe.equilibrium(STATE, lambda t, x: x), "value: wanted a matrix, or a field that has one"),
        (lambda: pe.equilibria([]), "found: wanted at least one equilibrium"),
        (lambda: pe.trajectories([STATE]), "runs: wanted trajectories by title"),
        (lambda: pe.trajectories({"a": STATE}, [V, V]), "value: wanted one for each of 1 trajectories"),
        (lambda: pe.trajectory(np.eye(2)), "tokens with d = 3"),
        (lambda: pe.basin_shares([1]), "found: wanted Basins by value"),
        (lambda: pe.census_bars({}, [1.0]), "table: wanted counts for each of 1 betas"),
        (lambda: pe.census_bars({("consensus", 0): [0]}, [1.0]), "table: wanted at least one stable state"),
        (lambda: pe.equilibrium(STATE, ax=plt.figure().add_subplot()), "ax: wanted 1 3d Axes"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
