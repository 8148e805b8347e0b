"""Experiments on a tiny lab, votes against a hand computation, and the statistics of both."""

import csv
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from sampling import mainly
from scipy import stats

import ctsa
from ctsa.studies import experiments
from ctsa.studies.experiments import EXPERIMENTS, Findings, Lab, Recipe, measuring as m
from ctsa.studies.experiments.lab import rank_correlation
from ctsa.training import evaluate, vote
from ctsa.training.evaluation import starts_of
from ctsa.training.voting import majorities

TINY = dict(
    changes=dict(steps=3, batch=4, depth=4), sizes=dict(task=dict(count=60, ood_count=8), model=dict(d=8)), progress=False
)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def data():
    return ctsa.datasets.task("sudoku-4x4", count=40, ood_count=12)


# --------------------------------------------------------------------------------------------------------------- votes
def states_by_hand(model, data, start, depth):
    """Logits after every layer, and energies, of one start: no vote of ours in it."""
    be = ctsa._backend.backend(model.embedding)
    noise = be.like(starts_of(model, data, [0, start]), model.embedding)
    with_layers = model.states(data.inputs, depth, noise)
    return [(be.to_numpy(model.read(u)), be.to_numpy(model.energy(data.inputs, u))) for u in with_layers]


@mainly("torch")
def test_votes_by_hand(face, data):
    model = face.RecurrentModel.for_task(data.train, d=16, seed=1)
    some, count, depth = data.ood, 3, 3
    found = vote(model, some, depth=depth, starts=count, by=("energy", "energy-sum", "confidence", "majority"), batch=5)
    ran = [states_by_hand(model, some, k, depth) for k in range(count)]
    z = np.stack([one[-1][0] for one in ran]).astype(float)  # (K, M, n, classes)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    answers = z.argmax(-1)
    right = ((answers == some.targets) | ~some.scored).all(-1)  # (K, M)
    energies = np.stack([[e for _, e in one] for one in ran])  # (K, depth + 1, M)
    assert np.allclose(found.energy, energies[:, -1], rtol=1e-4)
    assert np.allclose(found.energy_sum, energies[:, 1:].sum(1), rtol=1e-4)
    assert np.allclose(found.confidence, p.max(-1).mean(-1), atol=1e-5)
    assert np.array_equal(found.solved, right)
    for k in range(1, count + 1):
        best = dict(
            energy=found.energy[:k].argmin(0), confidence=found.confidence[:k].argmax(0),
            **{"energy-sum": found.energy_sum[:k].argmin(0)},
        )  # fmt: skip
        for name, chosen in best.items():
            assert found.accuracy[found.by.index(name), k - 1] == right[chosen, np.arange(len(some))].mean()
            if k == count:
                assert np.array_equal(found.chosen[found.by.index(name)], right[chosen, np.arange(len(some))])
        assert found.any[k - 1] == right[:k].any(0).mean()
    assert "any" in found.table() and "3 starts at depth 3" in repr(found)


def test_votes_choose_and_the_first_start_is_that_of_evaluate(data, monkeypatch):
    """With answers that are known: of three starts the second is right, and has the least energy."""
    from ctsa.training import voting

    model = ctsa.torch.RecurrentModel.for_task(data.train, d=16)
    plain = vote(model, data.test, depth=4, starts=2, seed=3, by="energy")
    assert np.array_equal(plain.solved[0], evaluate(model, data.test, 4, seed=3).solved[0])
    assert np.allclose(plain.energy[0], evaluate(model, data.test, 4, seed=3).energy[0], rtol=1e-5)
    some, calls = data.test[:2], []

    def told(model, inputs, noise, depth, summed):
        k = len(calls)
        calls.append(summed)
        wrong = (some.targets + 1) % 4
        return {
            name: ctsa._backend.load("torch").like(a, model.embedding)
            for name, a in dict(
                answer=some.targets if k == 1 else wrong, energy=np.array([[0.0, 0.0], [-2.0, 3.0], [-1.0, 1.0]][k]),
                energy_sum=np.array([0.0, 0.0]) - k, confidence=np.array([[0.5, 0.5], [0.4, 0.9], [0.3, 0.3]][k]),
            ).items()  # fmt: skip
        }

    monkeypatch.setattr(voting, "run_of", told)
    found = vote(model, some, depth=4, starts=3, by=("energy", "energy-sum", "confidence", "majority"))
    assert all(calls) and found.single.tolist() == [0, 1, 0] and found.any.tolist() == [0, 1, 1]
    assert found.accuracy.tolist() == [[0, 0.5, 0.5], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 0]]


def test_majorities():
    answers = np.array([[2, 0, 1], [1, 1, 1], [1, 0, 0], [2, 1, 0]])[:, None]  # (K, one sample, n)
    assert majorities(answers, 3)[:, 0].tolist() == [
        [2, 0, 1],  # one start
        [2, 0, 1],  # one vote each: the earlier
        [1, 0, 1],  # two of three
        [2, 0, 1],  # two each: the earlier
    ]


def test_votes_of_pooled_models(face):
    rng = np.random.default_rng(0)
    bags = ctsa.datasets.Dataset(
        name="bags", inputs=rng.integers(0, 3, (6, 4)), targets=rng.integers(0, 2, 6), classes=2, vocabulary=3
    )
    model = face.RecurrentModel.for_task(bags, d=8, heads=2)
    found = vote(model, bags, depth=3, starts=2, by=("confidence", "majority"))
    assert found.solved.shape == (2, 6) and found.accuracy.shape == (2, 2)
    assert np.isnan(found.energy_sum).all()


def test_votes_save(data, tmp_path):
    model = ctsa.torch.RecurrentModel.for_task(data.train, d=16)
    found = vote(model, data.test, depth=2, starts=2)
    back = ctsa.load(found.save(tmp_path / "votes.npz"))
    assert back.by == ("energy", "confidence", "majority") and np.array_equal(back.solved, found.solved)
    assert back.error.shape == (3, 2)


# --------------------------------------------------------------------------------------------------------- experiments
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment(name, folder, monkeypatch):
    monkeypatch.setattr(m, "DEPTH", 4)  # exponents over as many layers as the tiny models are trained with
    said = []
    found = experiments.run(name, folder, seeds=1, say=said.append, **TINY)
    assert isinstance(found, Findings) and found.title == EXPERIMENTS[name] and found.notes
    assert len({len(column) for column in found.rows.values()}) == 1
    assert all(note[-1] in ".]" and "nan" not in note.split("(")[0] for note in found.notes), found.notes
    back = ctsa.load(folder / f"{name}.npz")
    assert back.rows.keys() == found.rows.keys() and back.notes == found.notes and back.name == name
    with open(folder / f"{name}.csv") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == list(found.rows) and len(lines) == 1 + len(found.rows[lines[0][0]])
    assert (folder / f"{name}.png").stat().st_size > 10_000
    axes = np.ravel(back.plot())
    assert all(isinstance(ax, Axes) for ax in axes)
    assert found.table().splitlines()[0].split() == list(found.rows)


def test_models_are_trained_once_and_interrupted_ones_go_on(folder):
    said = []
    lab = Lab(folder, seeds=1, say=said.append, **TINY)
    recipe = Recipe("once", settings=dict(rate=1e-3))
    first = lab.trained(recipe, 0)
    assert len(said) == 1 and "3 steps" in said[0]
    assert np.array_equal(lab.trained(recipe, 0).head.detach(), first.head.detach()) and len(said) == 1
    place = folder / "models" / "once-0"
    (place / "model.safetensors").unlink()  # as if killed after the last checkpoint
    again = lab.trained(recipe, 0)
    assert len(said) == 2 and np.array_equal(again.head.detach(), first.head.detach())
    assert json.loads((place / "recipe.json").read_text())["settings"]["rate"] == 1e-3
    with pytest.raises(FileExistsError, match="another recipe .settings differ"):
        lab.trained(Recipe("once", settings=dict(rate=2e-3)), 0)


def test_a_run_that_was_killed_in_the_middle_goes_on(tmp_path, monkeypatch):
    from ctsa.training import run as running

    lab = Lab(tmp_path, seeds=1, say=lambda line: None, **TINY)
    whole = Lab(tmp_path / "whole", seeds=1, say=lambda line: None, **TINY).trained(Recipe("a"), 0)
    plain = running._Run.advance

    def killed(self):
        if self.step == 2:
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(running._Run, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        lab.trained(Recipe("a"), 0)
    monkeypatch.setattr(running._Run, "advance", plain)
    assert np.array_equal(lab.trained(Recipe("a"), 0).head.detach(), whole.head.detach())


def test_jax_lab(tmp_path):
    lab = Lab(tmp_path, "jax", seeds=1, say=lambda line: None, **TINY)
    model = lab.trained(Recipe("plain"), 0)
    found = m.accuracies(lab, model, (4,))
    assert set(found) == {"id_4", "ood_4"} and all(0 <= a <= 1 for a in found.values())


def test_unknown_names(tmp_path):
    for wrong, match in (("criticalty", "did you mean criticality"), ("zzz", "must be one of criticality")):
        with pytest.raises(ValueError, match=match):
            experiments.run(wrong, tmp_path)
    with pytest.raises(ValueError, match="preset must be one of quick, full, got 'fast'"):
        experiments.run("heads", tmp_path, preset="fast")
    with pytest.raises(ValueError, match="seeds must be"):
        experiments.run("heads", tmp_path, seeds=0)
    with pytest.raises(ValueError, match="out of distribution"):
        experiments.run("heads", tmp_path, task="digits")
    assert not list(tmp_path.iterdir())


def test_pictures_refuse_other_findings(folder):
    found = Findings("heads", "", dict(a=[]), (), {})
    with pytest.raises(ValueError, match="rows"):
        ctsa.plot.experiments.heads(found)
    with pytest.raises(ValueError, match="findings of 'criticality'"):
        ctsa.plot.experiments.criticality(found)
    with pytest.raises(TypeError, match="ctsa.studies.experiments.run"):
        ctsa.plot.experiments.criticality(3)


def test_findings_select():
    found = Findings("heads", "", dict(recipe=["a", "b", "a"], seed=[0, 0, 1], x=[1.0, 2.0, 3.0]), ("note",), {})
    assert found.where(recipe="a")["x"].tolist() == [1, 3] and found.column("seed").tolist() == [0, 0, 1]
    assert "3 rows" in repr(found)


@mainly("torch")
def test_no_step_of_a_flow_is_longer_than_a_layer(face, data, close):
    """At rest a solver sees no error, however long its steps: those of several layers throw the state off again."""
    model = face.RecurrentModel.for_task(data.train, d=16, gamma="scalar", dtype="float64")
    fine, loose = (
        model.run(data.test.inputs, 32, solver=ctsa.Solver("dopri5", atol=atol, rtol=0.0)) for atol in (1e-9, 1e3)
    )
    close(loose, fine, 1e-8)


# ---------------------------------------------------------------------------------------------------------- statistics
def test_rank_correlation_is_that_of_scipy(rng):
    x, y = rng.normal(size=40), rng.normal(size=40)
    y = y + x
    rho, low, high = rank_correlation(x, y)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12) and low < rho < high
    assert np.allclose(rank_correlation(x, x), 1) and np.allclose(rank_correlation(x, -x), -1)
    assert np.isnan(rank_correlation([1, 2, 3], [1, 2, 3])).all() and np.isnan(rank_correlation([1] * 5, x[:5])).all()


def test_the_interval_of_a_rank_correlation_holds_what_is_true(rng):
    """Normal pairs of correlation r have a rank correlation of 6 / pi arcsin(r / 2)."""
    r, held, count = 0.6, 0, 200
    true = 6 / np.pi * np.arcsin(r / 2)
    for k in range(count):
        x, e = rng.normal(size=(2, 60))
        _, low, high = rank_correlation(x, r * x + np.sqrt(1 - r * r) * e, draws=400, seed=k)
        held += low <= true <= high
    assert held >= 0.89 * count  # 95 % wanted; 200 pairs of samples have a standard error of 1.5 %


def test_differences_are_resolved_or_not():
    a, b = np.array([0.80, 0.82, 0.81]), np.array([0.70, 0.71, 0.73])
    assert m.compared(a, b, 500) == "+0.097, by seed +0.080 ... +0.110, resolved"
    assert m.compared(a, b, 20).endswith("+0.110, not resolved")  # so few boards
    assert m.compared(a, a + [0.05, -0.01, 0.05], 500).endswith("+0.010, not resolved")  # seeds disagree
    few = m.compared(np.array([0.9, 0.8]), np.array([0.7, 0.7]), 500)  # t of two seeds is 12.7
    assert few == "+0.150, by seed +0.100 ... +0.200, alike in every seed, but not resolved"
    assert m.compared(a[:1], b[:1], 500) == "+0.100, one seed, beyond the error of boards"
    assert m.compared(a[:1], b[:1], 20) == "+0.100, one seed, within the error of boards"
    assert m.compared(np.array([np.nan]), b[:1], 500) == "not known"
    assert m.spread([0.5]) == "0.500" and m.spread([0.5, 0.7]) == "0.600 (0.500 ... 0.700)" and m.spread([]) == "none"
