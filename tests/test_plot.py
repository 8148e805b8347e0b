"""Pictures hold the numbers they were given, on the Axes they were given, and leave nothing behind."""

import doctest
import importlib.util
import pickle
import subprocess
import sys
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctsa import plot


@pytest.fixture(autouse=True)
def clean():
    """Close what a test made; no test may change the settings of matplotlib."""
    plt.close("all")
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


def walk(n, d, steps=20, seed=0):
    """Return a path of unit tokens that turns by small steps."""
    rng = np.random.default_rng(seed)
    xs = rng.normal(size=(n, d)) + np.cumsum(0.05 * rng.normal(size=(steps, n, d)), 0)
    return SimpleNamespace(ts=np.linspace(0, 2, steps), xs=xs / np.linalg.norm(xs, axis=-1, keepdims=True))


def lines3d(ax, label):
    """Return the line drawn on both sides of the sphere, and the one drawn on the near side."""
    return [line for line in ax.lines if line.get_label() == label]


def paths(ax):
    return np.stack([line.get_xydata() for line in ax.lines], 1)


PICTURES = {
    "sphere": lambda **k: plot.sphere(walk(5, 3), **k),
    "circle": lambda **k: plot.circle(walk(5, 2), **k),
    "angles": lambda **k: plot.angles(walk(5, 2), **k),
    "principal": lambda **k: plot.principal(walk(5, 7), **k),
    "trajectory": lambda **k: plot.trajectory(walk(5, 2), **k),
    "gram_matrix": lambda **k: plot.gram_matrix(walk(5, 7).xs[0], **k),
    "observables": lambda **k: plot.observables([0, 1, 2], {"energy": [1.5, 2.5, 3.5]}, **k),
}


# Axes and figures


@pytest.mark.parametrize("name", PICTURES)
def test_one_new_figure_or_the_axes_given(name):
    ax = PICTURES[name]()
    assert len(plt.get_fignums()) == 1
    ax.figure.canvas.draw()
    figure = plt.figure()
    given = figure.add_subplot(projection="3d" if name == "sphere" else None)
    assert PICTURES[name](ax=given) is given
    assert len(plt.get_fignums()) == 2
    figure.canvas.draw()


def test_rows_of_axes_are_used_as_given():
    _, axes = plt.subplots(1, 3)
    assert list(plot.gram(walk(4, 3), axes=axes)) == list(axes)
    _, axes = plt.subplots(2)
    assert list(plot.panels([0, 1], {"a": [0.5, 1], "b": [1, 2]}, axes=list(axes))) == list(axes)
    assert len(plt.get_fignums()) == 2


@pytest.mark.parametrize("name", PICTURES)
def test_axes_of_the_wrong_kind(name):
    given = plt.figure().add_subplot(projection=None if name == "sphere" else "3d")
    with pytest.raises(ValueError, match="^ax: wanted 1 .* Axes, got"):
        PICTURES[name](ax=given)
    with pytest.raises(ValueError, match="^ax: .*str"):
        PICTURES[name](ax="figure")


def test_figures_can_be_pickled_and_saved_tightly(tmp_path):
    ax = plot.sphere(walk(3, 3), vectors=np.ones((3, 3)))
    again = pickle.loads(pickle.dumps(ax.figure))
    again.savefig(tmp_path / "sphere.pdf", bbox_inches="tight")
    assert (tmp_path / "sphere.pdf").stat().st_size > 1000
    assert pickle.dumps(plot.angles(walk(3, 2)).figure)


def test_examples_run():
    assert doctest.testmod(plot).failed == 0


# Circle


def test_circle_draws_the_states():
    traj = walk(6, 2)
    ax = plot.circle(traj, spread=0)
    assert_array_equal(paths(ax), traj.xs)
    starts, ends = (c.get_offsets() for c in ax.collections)
    assert_array_equal(starts, traj.xs[0])
    assert_array_equal(ends, traj.xs[-1])
    assert ax.get_aspect() == 1.0
    assert ax.get_xlim() == ax.get_ylim() == (-1.1, 1.1)


def test_circle_radius_is_time():
    traj = walk(6, 2)
    ax = plot.circle(traj, spread=0.3)
    assert_allclose(np.linalg.norm(paths(ax), axis=-1), np.broadcast_to(0.7 + 0.15 * traj.ts[:, None], (20, 6)))
    assert_array_equal(paths(ax)[-1], traj.xs[-1])
    assert sorted(p.radius for p in ax.patches) == [0.7, 1.0]


def test_start_marks_are_hollow_and_end_marks_filled():
    ax = plot.circle(walk(3, 2), labels=[0, 1, 1])
    starts, ends = ax.collections
    assert_array_equal(starts.get_facecolors(), [[1, 1, 1, 1]])
    assert_array_equal(starts.get_edgecolors(), ends.get_facecolors())
    a, b, c = (line.get_color() for line in ax.lines)
    assert tuple(a) != tuple(b) == tuple(c)


@pytest.mark.parametrize("draw", [plot.circle, plot.principal, plot.trajectory])
def test_tail(draw):
    ax = draw(walk(3, 2), tail=0.5)  # steps of 2 / 19
    assert len(ax.lines[0].get_xdata()) == 5
    assert len(ax.collections) == 1  # no start marks


# Angles


@pytest.mark.parametrize("rate", [3.0, -11.0, 0.0])
def test_angle_of_a_rotating_token(rate):
    t = np.linspace(0, 20, 400)
    theta = 0.3 + rate * t
    ax = plot.angles((t, np.stack([np.cos(theta), np.sin(theta)], -1)[:, None]))
    assert_allclose(ax.lines[0].get_ydata(), theta, atol=1e-12)
    assert_array_equal(ax.lines[0].get_xdata(), t)
    assert ax.get_xlim() == (0, 20)


@pytest.mark.parametrize("rate, shown", [(1.0, r"$\pi$"), (np.pi / 8, r"$\pi/4$"), (100.0, r"$200\pi$")])
def test_angles_are_counted_in_pi(rate, shown):
    t = np.linspace(0, 2 * np.pi, 1000)
    ax = plot.angles((t, np.stack([np.cos(rate * t), np.sin(rate * t)], -1)[:, None]))
    ax.figure.canvas.draw()
    texts = [label.get_text() for label in ax.get_yticklabels()]
    assert "$0$" in texts and shown in texts and len(texts) <= 9


def test_logarithmic_time():
    ax = plot.angles(walk(3, 2), log_time=True)
    assert ax.get_xscale() == "log" and ax.get_xlim() == (2 / 19, 2)
    with pytest.raises(ValueError, match="^log_time: wanted times > 0"):
        plot.angles(walk(3, 2, steps=1), log_time=True)


# Sphere


def test_sphere_draws_the_states():
    traj = walk(4, 3)
    ax = plot.sphere(traj)
    ax.figure.canvas.draw()
    e, a = np.radians([ax.elev, ax.azim])
    toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    for i in range(4):
        whole, near = (np.stack(line.get_data_3d(), 1) for line in lines3d(ax, f"_path{i}"))
        assert_array_equal(whole, traj.xs[:, i])
        seen = traj.xs[:, i] @ toward >= 0
        assert_array_equal(near[seen], traj.xs[seen, i])
        assert np.isnan(near[~seen]).all()
        assert_array_equal(np.stack(lines3d(ax, f"_start{i}")[0].get_data_3d(), 1), traj.xs[:1, i])
        assert_array_equal(np.stack(lines3d(ax, f"_end{i}")[0].get_data_3d(), 1), traj.xs[-1:, i])
    assert ax.get_xlim() == ax.get_ylim() == ax.get_zlim()
    assert len(set(ax.get_box_aspect())) == 1
    assert not ax.axison


def test_near_side_follows_the_view():
    x = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    ax = plot.sphere(x)
    for azim, seen in (0, [True, False]), (180, [False, True]):
        ax.view_init(0, azim)
        ax.figure.canvas.draw()
        drawn = [np.isfinite(lines3d(ax, f"_end{i}")[1].get_data_3d()).all() for i in range(2)]
        assert drawn == seen


def test_new_sphere_faces_consensus():
    x = np.array([[-0.6, -0.8, 0.0]])
    ax = plot.sphere(x)
    ax.figure.canvas.draw()
    assert np.isfinite(lines3d(ax, "_end0")[1].get_data_3d()).all()
    view = (ax.elev, ax.azim)
    plot.sphere(-x, ax=ax)
    assert (ax.elev, ax.azim) == view
    assert len(ax.collections) == 1  # one globe for two calls


def test_sphere_tail_and_marks():
    ax = plot.sphere(walk(2, 3), tail=0.5, labels=["a", "b"])
    assert len(lines3d(ax, "_path0")[0].get_data_3d()[0]) == 5
    assert not lines3d(ax, "_start0")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    hollow, end = lines3d(plot.sphere(walk(2, 3)), "_start0")[1], lines3d(ax, "_end0")[1]
    assert matplotlib.colors.to_hex(hollow.get_markerfacecolor()) == "#f4f4f4"  # the globe shines through
    assert matplotlib.colors.to_hex(end.get_markerfacecolor()) == matplotlib.colors.to_hex(end.get_color())


@pytest.mark.parametrize("shape, arrows", [((4, 3), 3), ((2, 4, 3), 7)])
def test_vectors_are_arrows_at_the_last_states(shape, arrows):
    traj = walk(4, 3)
    v = np.cross(traj.xs[-1], np.random.default_rng(1).normal(size=shape))
    v.reshape(-1, 4, 3)[0, 2] = 0
    lines = lines3d(plot.sphere(traj, vectors=v), "_vector")
    assert len(lines) == 2 * arrows
    first = np.stack(lines[0].get_data_3d(), 1)
    assert_array_equal(first[0], traj.xs[-1, 0])
    u = v.reshape(-1, 4, 3)[0]
    assert_allclose(first[1] - first[0], 0.35 * u[0] / np.linalg.norm(u, axis=-1).max())


def test_arrows_that_coincide_are_one():
    x = np.array([[1.0, 0, 0]] * 5 + [[0.0, 1, 0]])
    assert len(lines3d(plot.sphere(x, vectors=np.tile([0.0, 0, 1], (6, 1))), "_vector")) == 2 * 2


def test_many_tokens_are_few_artists():
    traj = walk(65, 3)
    ax = plot.sphere(traj)
    assert len(ax.collections) == 7 and len(ax.lines) < 30  # globe, paths, starts, ends
    ax.view_init(10, 20)
    again = pickle.loads(pickle.dumps(ax.figure)).axes[0]
    again.figure.canvas.draw()
    e, a = np.radians([10, 20])
    toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    far, near = (c for c in again.collections if c.get_label() == "_paths")
    seen = [np.isfinite(s).all(-1) for s in near._segments3d]
    assert_array_equal(seen, (traj.xs @ toward >= 0).T)
    assert np.isfinite(far._segments3d).all()
    ends = [c for c in again.collections if c.get_label() == "_marks"][-1]
    assert np.isfinite(np.ma.filled(ends._offsets3d[0], np.nan)).sum() == (traj.xs[-1] @ toward >= 0).sum()


# Principal plane


def test_principal_plane_of_plane_data():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(16, 2)))[0]
    traj = walk(5, 2)
    ax = plot.principal((traj.ts, traj.xs @ basis.T))
    drawn = paths(ax)
    assert_allclose(np.einsum("tni,tmi->tnm", drawn, drawn), traj.xs @ traj.xs.swapaxes(1, 2), atol=1e-12)
    shares = [int(label.split("(")[1][:-2]) for label in (ax.get_xlabel(), ax.get_ylabel())]
    assert sum(shares) == 100 and shares[0] >= shares[1]
    assert drawn[..., 0].mean() >= 0 and drawn[..., 1].mean() >= 0
    assert [p.radius for p in ax.patches] == [1.0]


def test_principal_is_not_centred_and_stays_in_the_disc():
    ax = plot.principal(np.tile(np.eye(4)[0], (3, 2, 1)))
    assert_allclose(paths(ax)[..., 0], 1)
    assert "(100%)" in ax.get_xlabel()
    assert np.linalg.norm(paths(plot.principal(walk(9, 16))), axis=-1).max() <= 1 + 1e-12


def test_principal_plane_does_not_move_with_the_tail():
    traj = walk(5, 6)
    assert_allclose(paths(plot.principal(traj, tail=0.5)), paths(plot.principal(traj))[-5:])


def test_states_off_the_sphere_and_broken_solves():
    traj = walk(3, 3)
    ax = plot.trajectory((traj.ts, 5 + 3 * traj.xs))
    assert ax.name != "3d" and not ax.patches
    traj.xs[12:] = np.nan
    ax = plot.principal(traj)
    assert np.isfinite(paths(ax)[:12]).all()
    assert plot.sphere(traj).figure.canvas.draw() is None


# Trajectories in general


@pytest.mark.parametrize("d, kind", [(2, "rectilinear"), (3, "3d"), (16, "rectilinear")])
def test_trajectory_chooses_by_dimension(d, kind):
    ax = plot.trajectory(walk(3, d))
    assert ax.name == kind
    assert bool(ax.get_xlabel()) == (d == 16)


@pytest.mark.parametrize("n", [1, 2, 64])
@pytest.mark.parametrize("d", [2, 3, 16])
@pytest.mark.parametrize("steps", [1, 6])
def test_any_number_of_tokens_even_at_rest(n, d, steps):
    xs = np.repeat(walk(n, d, 1).xs, steps, 0)
    for ax in (plot.trajectory(xs), plot.gram(xs, order="clusters")[0], plot.gram_matrix(xs[0])):
        ax.figure.canvas.draw()
    if d != 3:
        assert len(plot.trajectory(xs).lines) == n


WORDS = ["the", "cat", "sat", "on", "the", "mat", "."]


@pytest.mark.parametrize("draw, d", [(plot.principal, 5), (plot.sphere, 3), (plot.circle, 2), (plot.angles, 2)])
def test_names_in_the_order_of_the_tokens(draw, d):
    ax = draw(walk(7, d), labels=WORDS)
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["the", "cat", "sat", "on", "mat", "."]
    inks = [matplotlib.colors.to_hex(line.get_color()) for line in legend.get_lines()]
    assert len(set(inks)) == 6
    ax.figure.canvas.draw()
    frame, box = ax.get_window_extent(), legend.get_window_extent()
    assert box.x0 >= frame.x1 - 1 and box.x1 <= ax.figure.bbox.x1  # beside the picture, and all in the figure
    if d == 5:
        colours = [matplotlib.colors.to_hex(line.get_color()) for line in ax.lines]
        assert colours == [inks[i] for i in (0, 1, 2, 3, 0, 4, 5)]


def test_neighbouring_numbers_look_unlike():
    """Numbers of tokens mean no order; floats do."""
    colours = np.array([matplotlib.colors.to_rgb(line.get_color()) for line in plot.circle(walk(40, 2)).lines])
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).min() > 0.15
    rising = plot.circle(walk(40, 2), labels=np.linspace(0, 1, 40)).lines
    colours = np.array([matplotlib.colors.to_rgb(line.get_color()) for line in rising])
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).max() < 0.1


def test_distinct_colours_up_to_64_tokens():
    colours = {tuple(line.get_color()) for line in plot.circle(walk(64, 2)).lines}
    assert len(colours) == 64


def test_samples_of_a_batch():
    traj = walk(6, 2)
    batch = SimpleNamespace(ts=traj.ts, xs=traj.xs.reshape(20, 2, 3, 1, 2))
    assert_array_equal(paths(plot.circle(batch, sample=(1, -1), spread=0)), traj.xs[:, 5:])
    one = SimpleNamespace(ts=traj.ts, xs=traj.xs.reshape(20, 3, 2, 2))
    assert_array_equal(paths(plot.trajectory(one, sample=np.int64(2), spread=0)), traj.xs[:, 4:])
    assert len(plot.gram(one, [0.0, 2.0], sample=0)) == 2


BAD = {
    "traj: wanted states": lambda: plot.circle(np.ones(3)),
    "traj: wanted real numbers": lambda: plot.circle([[1, 0], [1]]),
    "traj: wanted a time a state": lambda: plot.circle((np.arange(3.0), walk(4, 2).xs)),
    r"traj: wanted tokens with d = 3, got .*\(20, 4, 2\); try": lambda: plot.sphere(walk(4, 2)),
    "traj: wanted tokens with d = 2": lambda: plot.circle(walk(4, 3)),
    "traj: wanted tokens with d = 2,": lambda: plot.angles(walk(4, 16)),
    "traj: wanted d >= 2": lambda: plot.principal(np.ones((2, 3, 1))),
    "traj: wanted unit tokens, got norms up to 2": lambda: plot.sphere(2 * walk(4, 3).xs),
    r"sample: wanted .*\(2, 2\).* got None; try sample=\(0, 0\)": lambda: plot.circle(np.ones((3, 2, 2, 4, 2))),
    "sample: wanted .* got None; try sample=0": lambda: plot.gram(np.ones((3, 2, 4, 2))),
    "sample: wanted .* got 2;": lambda: plot.circle(np.ones((3, 2, 4, 2)), sample=2),
    "sample: .* try sample=None": lambda: plot.circle(walk(4, 2), sample=0),
    "labels: wanted one label a token": lambda: plot.circle(walk(4, 2), labels=[0, 1]),
    "tail: wanted a length of time": lambda: plot.circle(walk(4, 2), tail=-1),
    "spread: wanted 0 <= spread < 1": lambda: plot.circle(walk(4, 2), spread=1),
    r"vectors: wanted \(4, 3\)": lambda: plot.sphere(walk(4, 3), vectors=np.ones(3)),
    "x: wanted one state": lambda: plot.gram_matrix(walk(4, 3).xs),
    "x: wanted real numbers": lambda: plot.gram_matrix(1j * np.eye(2)),
    "x: wanted real": lambda: plot.gram_matrix([["a"]]),
    "times: wanted times from 0 to 2": lambda: plot.gram(walk(4, 3), [1.0, 3.0]),
    "times: wanted at least one": lambda: plot.gram(walk(4, 3), 0),
    "order: wanted None": lambda: plot.gram(walk(4, 3), order=[0, 0, 1, 2]),
    "order: wanted None, .clusters.": lambda: plot.gram(walk(4, 3), order="cluster"),
    "names: wanted 4 names": lambda: plot.gram(walk(4, 3), names=["a"]),
    "ts: wanted times": lambda: plot.observables([[0, 1]], {"a": [0, 1]}),
    "series: wanted arrays by name": lambda: plot.observables([0, 1], [0, 1]),
    r"series\['a'\]: wanted shape \(2,\)": lambda: plot.panels([0, 1], {"a": [0, 1, 2]}),
    "log_time: wanted": lambda: plot.observables([-1, 0], {"a": [0, 1]}, log_time=True),
}


@pytest.mark.parametrize("message", BAD)
def test_errors_name_the_argument_and_leave_no_figure(message):
    with pytest.raises(ValueError, match="^" + message):
        BAD[message]()
    assert not plt.get_fignums()


# Gram matrices


def test_gram_matrix_is_x_x_transposed():
    x = walk(7, 3).xs[0]
    ax = plot.gram_matrix(x, names=list("abcdefg"))
    (image,) = ax.images
    assert_allclose(image.get_array(), x @ x.T, atol=1e-15)
    assert image.get_clim() == (-1, 1)
    assert_allclose(image.cmap(0.5)[:3], 0.97, atol=0.02)  # zero is white
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abcdefg")


def test_gram_through_time():
    traj = walk(5, 4)
    axes = plot.gram(traj, [0.0, 0.9, 2.0])
    for ax, k in zip(axes, [0, 9, 19]):
        assert_allclose(ax.images[0].get_array(), traj.xs[k] @ traj.xs[k].T, atol=1e-15)
        assert f"{traj.ts[k]:.3g}" in ax.get_title()
    assert len(axes[0].figure.axes) == 4  # and one colour bar


def test_gram_counts_of_panels():
    traj = walk(5, 4)
    for count in (1, 2, 5):
        assert len(plot.gram(traj, count)) == count
    assert len(plot.gram(traj)) == 4
    assert len(plot.gram(traj.xs[:2])) == 2
    traj.xs[:] = traj.xs[0]
    traj.xs[10:] = -traj.xs[0]  # one jump
    assert len(plot.gram(traj)) == 4


def test_tokens_in_the_order_of_clusters():
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    x = np.eye(3)[labels]
    (ax,) = plot.gram(x, names=labels, order="clusters")
    shown = [int(t.get_text()) for t in ax.get_xticklabels()]
    assert sum(a != b for a, b in zip(shown, shown[1:])) == 2  # three blocks
    assert_array_equal(ax.images[0].get_array(), np.equal.outer(shown, shown))
    order = np.argsort(labels, kind="stable")
    ax = plot.gram_matrix(x, order=order)
    assert_allclose(ax.images[0].get_array(), (x @ x.T)[np.ix_(order, order)])
    assert not len(ax.get_xticks())


def test_names_of_many_tokens_are_thinned():
    ax = plot.gram_matrix(walk(64, 3).xs[0], names=range(64))
    labels = ax.get_xticklabels()
    assert 10 < len(labels) < 64
    assert all(t.get_text() == str(int(at)) for t, at in zip(labels, ax.get_xticks()))
    assert labels[0].get_fontsize() >= 4


# Observables


def test_observables_hold_the_series():
    t = np.linspace(0, 3, 7)
    counts, many = np.array([4, 4, 3, 2, 2, 1, 1]), np.random.default_rng(0).normal(size=(7, 3))
    ax = plot.observables(t, {"energy": np.tanh(t), "clusters": counts, "each": many})
    assert len(ax.lines) == 5
    assert_array_equal(ax.lines[0].get_xydata(), np.stack([t, np.tanh(t)], 1))
    assert_array_equal(ax.lines[1].get_ydata(), counts)
    assert [line.get_drawstyle() for line in ax.lines[:3]] == ["default", "steps-post", "default"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["energy", "clusters", "each"]


def test_one_observable_names_its_axis():
    ax = plot.observables([0, 1], {"energy": [0.5, 1.5]}, log_time=True)
    assert ax.get_ylabel() == "energy" and ax.get_legend() is None and ax.get_xscale() == "log"


def test_panels_share_time_and_not_scale():
    axes = plot.panels([0, 1, 2], {"energy": [0.1, 0.2, 0.3], "clusters": [64, 8, 1]})
    assert [ax.get_ylabel() for ax in axes] == ["energy", "clusters"]
    assert [ax.get_xlabel() for ax in axes] == ["", "time $t$"]
    assert axes[0].get_xlim() == axes[1].get_xlim() == (0, 2)
    assert axes[0].get_ylim()[1] < 1 < 60 < axes[1].get_ylim()[1]


# Frameworks


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_arrays_of_both_frameworks(framework):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    if framework == "torch":
        import torch

        def convert(a):
            return torch.tensor(a, dtype=torch.float32).requires_grad_()

        low, labels = torch.eye(3, dtype=torch.bfloat16), torch.tensor([0, 1, 1])
    else:
        import jax.numpy as jnp

        def convert(a):
            return jnp.asarray(a, dtype="float32")

        low, labels = jnp.eye(3, dtype="bfloat16"), jnp.asarray([0, 1, 1])
    traj = walk(3, 2)
    ax = plot.circle(SimpleNamespace(ts=convert(traj.ts), xs=convert(traj.xs)), labels=labels, spread=0)
    assert_array_equal(paths(ax), traj.xs.astype("float32"))
    assert_array_equal(plot.gram_matrix(low).images[0].get_array(), np.eye(3))
    assert len(plot.panels(convert(traj.ts), {"energy": convert(traj.ts), "count": labels[np.zeros(20, int)]})) == 2
    assert len(plot.gram((convert(traj.ts), convert(traj.xs)), convert([0.0, 1.0]), order=labels.argsort())) == 2


def test_pictures_come_when_used():
    """``ctsa.plot`` needs no import of its own, and ``import ctsa`` no matplotlib."""
    code = (
        "import sys, ctsa; before = 'matplotlib' in sys.modules; names = dir(ctsa); "
        "found = [getattr(ctsa, n).__name__ for n in names if n.startswith('plot')]; "
        "print(before, found, hasattr(ctsa, 'plots'), 'torch' in sys.modules or 'jax' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[0] == "False ['ctsa.plot'] False False"
