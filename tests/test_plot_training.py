"""Pictures of training show the numbers they are given."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ctsa
from ctsa.plot import training as plot_training
from ctsa.training import Evaluation, TrainingRun, Watched

STEPS = 100
LOSSES = np.exp(-np.arange(STEPS) / 30) + 0.01 * np.random.default_rng(0).uniform(size=STEPS)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def run():
    at = np.array([1, 50, 100])
    return TrainingRun(
        model=None, losses=LOSSES, rates=LOSSES, gradients=LOSSES, layers=np.full(STEPS, 16), penalties=np.ones((STEPS, 0)),
        validated=np.array([50, 100]), accuracy=np.array([0.25, 0.75]), watched=at, largest=np.array([-0.5, -0.2, -0.1]),
        mean=np.array([-0.9, -0.8, -0.7]), norm=np.ones(3), energy=np.array([-1400.0, -1500.0, -1450.0]), settings={},
        asymptotic=np.full(3, np.nan), oscillating=np.full(3, np.nan), contribution=np.full(3, np.nan),
        task="echo", seconds=1.0, diverged=None,
    )  # fmt: skip


@pytest.fixture
def evaluation():
    solved = np.array([[True, False, False, False], [True, True, True, False], [True, True, True, True]])
    share, some = solved.mean(1), np.zeros((3, 4))
    return Evaluation(np.array([2, 8, 32]), share, share, share, solved, some, some, "echo")


@pytest.fixture
def watched():
    nothing = np.full(3, np.nan)
    return Watched(
        np.array([0.1, -0.2, 0.0]), nothing, np.array([-0.3, 0.02, -0.1]), np.array([0.01, 0.02, 0.03]), nothing, nothing,
        np.array([-5.0, -7.0, -6.0]), nothing, 16, "echo",
    )  # fmt: skip


def test_run(run):
    axes = run.plot()
    axes[0].figure.canvas.draw()
    assert [ax.get_ylabel() for ax in axes] == [
        "cross entropy", "accuracy (validation)", "exponent (per layer)", "pseudo-energy",
    ]  # fmt: skip
    loss, smooth = (line.get_xydata() for line in axes[0].lines)
    assert np.array_equal(loss, np.stack([np.arange(1, 101), LOSSES], -1))
    assert smooth[-1] == pytest.approx([100, LOSSES[-4:].mean()]) and axes[0].get_yscale() == "log"
    assert np.array_equal(axes[1].lines[0].get_xydata(), [[50, 0.25], [100, 0.75]])
    assert np.array_equal(axes[2].lines[0].get_ydata(), run.largest)
    assert np.array_equal(axes[2].lines[1].get_ydata(), run.mean)
    assert [t.get_text() for t in axes[2].get_legend().get_texts()] == ["largest", "mean"]
    assert np.array_equal(axes[3].lines[0].get_ydata(), run.energy)
    assert {ax.get_xlabel() for ax in axes} == {"step"} and {ax.get_xlim() for ax in axes} == {(0, 100)}


def test_run_without_measures(run):
    none = np.zeros(0)
    bare = dataclasses.replace(
        run, validated=none, accuracy=none, watched=none, largest=none, mean=none, energy=none, diverged=99
    )
    axes = bare.plot()
    axes[0].figure.canvas.draw()
    assert len(axes) == 1 and axes[0].texts[0].get_text() == "diverged "
    _, four = plt.subplots(1, 4)
    axes = bare.plot(axes=four)
    assert [ax.texts[0].get_text() for ax in axes[1:]] == ["not measured"] * 3
    assert list(axes) == list(four)


def test_run_that_diverged_at_once(run):
    none, one = np.zeros(0), np.array([np.nan])
    broken = dataclasses.replace(
        run, losses=one, validated=none, accuracy=none, watched=np.array([1]), largest=one, mean=one,
        energy=np.array([-3.0]), diverged=0,
    )  # fmt: skip
    axes = broken.plot()
    axes[0].figure.canvas.draw()
    assert [ax.get_ylabel() for ax in axes] == ["cross entropy", "pseudo-energy"] and axes[0].get_xlim() == (0, 1)


def test_evaluation(evaluation):
    ax = evaluation.plot()
    ax.figure.canvas.draw()
    line, _, (bars,) = ax.containers[0].lines
    assert np.array_equal(line.get_xydata(), [[2, 0.25], [8, 0.75], [32, 1.0]])
    for bar, share in zip(bars.get_segments(), evaluation.accuracy, strict=True):
        error = np.sqrt(share * (1 - share) / 4)  # of the binomial law
        assert bar[:, 1] == pytest.approx([share - error, share + error])
    assert ax.get_xscale() == "log" and ax.get_legend() is None and ax.get_ylim() == (0, 1)


def test_evaluations_side_by_side(evaluation):
    ax = plot_training.evaluation({"ID": evaluation, "OOD": evaluation})
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ID", "OOD"]
    assert evaluation.plot(ax=ax, label="third") is ax
    assert len({c.lines[0].get_color() for c in ax.containers}) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ID", "OOD", "third"]
    with pytest.raises(ValueError, match="result: wanted at least one Evaluation"):
        plot_training.evaluation({})
    with pytest.raises(TypeError, match="result must be a Evaluation or a dict of them, got int"):
        plot_training.evaluation({"ID": 3})


def test_watched(watched):
    axes = watched.plot()
    axes[0].figure.canvas.draw()
    assert [ax.get_ylabel() for ax in axes] == ["largest exponent", "asymptotic exponent", "pseudo-energy"]
    assert np.array_equal(axes[0].lines[0].get_ydata(), [-0.2, 0.0, 0.1])
    bars = axes[1].containers[0].lines[2][0].get_segments()
    assert bars[0][:, 1] == pytest.approx([-0.31, -0.29]) and bars[2][:, 1] == pytest.approx([0.0, 0.04])
    dashed = [line for line in axes[2].lines if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata() == pytest.approx([-6.0, -6.0])


def test_a_file_of_a_run_is_drawn(run, tmp_path):
    axes = ctsa.load(run.save(tmp_path / "run")).plot()
    assert np.array_equal(axes[0].lines[0].get_ydata(), LOSSES)
