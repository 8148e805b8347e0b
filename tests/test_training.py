"""Training: the loss, both frameworks step by step, kill and resume, what a trained model can do, wrong settings."""

import json
import warnings

import numpy as np
import pytest
import torch
from conftest import FACES

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.training import Penalty, Settings, cross_entropy, evaluate, watch
from ctsa.training.steps import batch_of, depths_of, rate_at

DATA = ctsa.datasets.task("sudoku-4x4", count=150)
SUMS = ctsa.datasets.task("addition-4", digits=2, count=60, carries=(0, 1), ood_carries=(2, 2), ood_count=9)
SHORT = dict(steps=5, batch=8, depth=4, warmup=2)


def model_of(face, data=DATA, **changes):
    return face.RecurrentModel.for_task(data.train, **dict(d=16, dtype="float64") | changes)


# --------------------------------------------------------------------------------------------------------- the loss
def test_cross_entropy(face):
    r = np.random.default_rng(0)
    logits, targets = 5 * r.normal(size=(3, 4, 5)), r.integers(0, 5, (3, 4))
    mine = face.numpy(cross_entropy(face.array(logits), face.array(targets, "int64")))
    flat = torch.tensor(logits).flatten(0, 1), torch.tensor(targets).flatten()
    wanted = torch.nn.functional.cross_entropy(*flat, reduction="none")
    np.testing.assert_allclose(mine.ravel(), wanted, rtol=1e-13)


def test_schedule():
    s = Settings(steps=100, warmup=10, rate=0.5)
    rates = [rate_at(s, k) for k in range(100)]
    assert rates[0] == pytest.approx(0.05, rel=1e-12) and max(rates) < 0.5 and rates[-1] < 1e-3
    assert rates[49] == pytest.approx(0.5 * 0.5 * (1 + np.cos(0.49 * np.pi)), rel=1e-12)
    assert rate_at(s.changed(schedule="constant"), 99) == 0.5
    assert set(depths_of(s)) == {16}
    drawn = depths_of(s.changed(depths="uniform"))
    assert drawn.min() >= 8 and drawn.max() <= 24 and len(set(drawn)) > 8


def test_batches_depend_on_seed_and_step_alone():
    s = Settings(batch=16)
    one, again, other = batch_of(s, DATA.train, 3, 8), batch_of(s, DATA.train, 3, 8), batch_of(s, DATA.train, 4, 8)
    for a, b in zip(one[:3], again[:3], strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(one[0], other[0])
    given = one[0] > 0
    assert np.array_equal(one[0][given], one[1][given] + 1)  # relabelled together


@pytest.mark.parametrize(
    "changes, options",
    [
        (dict(optimiser="sgd", rate=0.1), {}),
        (dict(optimiser="adamw", decay=0.1, average=0.9, depths="uniform"), dict(kind="akorn")),
        (dict(optimiser="adam", decay=0.1, last=2), dict(kind="energy", gamma="scalar")),
        (dict(refine=2, penalties=[dict(kind=k, weight=1e-2) for k in ("symmetry", "spectral")]), dict(gamma="scalar")),
    ],
)
def test_frameworks_train_alike(torch_face, jax_face, changes, options):
    runs = [ctsa.train(model_of(f, **options), DATA, **SHORT, **changes) for f in (torch_face, jax_face)]
    for name in ("losses", "gradients", "penalties", "accuracy"):
        a, b = (getattr(r, name) for r in runs)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10, err_msg=name)
    a, b = (ctsa.models.files.arrays_of(r.model) for r in runs)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-9, err_msg=name)
    assert runs[0].losses[0] == pytest.approx(np.log(4), abs=0.3)  # nothing is known yet
    assert runs[0].losses.min() < runs[0].losses[0]


def test_frameworks_train_alike_as_a_flow_and_in_float32(torch_face, jax_face):
    flow = dict(solver="dopri5", atol=1e-6, steps=2)
    runs = [ctsa.train(model_of(f, gamma="scalar"), DATA, **SHORT | flow) for f in (torch_face, jax_face)]
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=0, atol=1e-9)
    single = [ctsa.train(model_of(f, dtype="float32"), DATA, **SHORT, optimiser="sgd") for f in (torch_face, jax_face)]
    np.testing.assert_allclose(single[0].losses, single[1].losses, rtol=0, atol=1e-5)
    assert single[0].model.embedding.dtype == torch.float32


@pytest.mark.parametrize(
    "kind", ["exponent", "spectral_norm", "spectral_radius", "rms_gain", "residual", "scale", "restart"]
)
def test_every_regulariser_counts(torch_face, kind):
    target = dict(exponent=dict(target=0.0), spectral_norm=dict(above=0.1), spectral_radius=dict(above=0.1)).get(kind, {})
    own = dict(kind=kind, weight=0.1, every=2, samples=4, loops=3, **target)
    run = ctsa.train(model_of(torch_face), DATA, **SHORT, penalties=[own])
    plain = ctsa.train(model_of(torch_face), DATA, **SHORT)
    assert np.isnan(run.penalties[1::2]).all() and np.isfinite(run.penalties[::2]).all()
    assert run.losses[0] == plain.losses[0] and run.losses[-1] != plain.losses[-1]


def test_the_spectral_regulariser_lowers_its_sum(torch_face):
    """Also with power iterations; and flossing draws exponents to its target."""
    ends = []
    for penalties in ([], [dict(kind="spectral", weight=0.3)], [dict(kind="spectral", weight=0.3, iterations=8)]):
        run = ctsa.train(model_of(torch_face), DATA, steps=25, batch=8, depth=4, warmup=0, penalties=penalties)
        ends.append(float(ctsa.spectral_regulariser(run.model.attention)))
    assert ends[1] < 0.5 * ends[0] and ends[2] < 0.5 * ends[0]


def test_flossing_draws_exponents_to_its_target(torch_face):
    """From -.7 to within .15 of 0, of the samples that it sees, in 40 steps."""
    floss = dict(kind="exponent", weight=10.0, count=2, target=0.0, samples=4)
    run = ctsa.train(
        model_of(torch_face, dtype="float32"), DATA, steps=40, batch=4, depth=8, warmup=0, rate=1e-2, penalties=[floss]
    )
    off = np.sqrt(run.penalties[:, 0] / 10 / 2)  # root mean square of the two exponents
    assert off[0] > 0.6 and off[-10:].mean() < 0.15


def test_half_precision(face, torch_face):
    run = ctsa.train(model_of(face, dtype="float32"), DATA, **SHORT, precision="bfloat16")
    full = ctsa.train(model_of(torch_face, dtype="float32"), DATA, **SHORT)
    np.testing.assert_allclose(run.losses, full.losses, atol=0.03)
    assert (run.losses != full.losses).any()
    assert str(run.model.embedding.dtype).endswith("float32")


# ---------------------------------------------------------------------------------------------------------- kill and resume
class Killed(BaseException):
    pass


@pytest.mark.parametrize("face, when", [(FACES["torch"], 1), (FACES["torch"], 3), (FACES["jax"], 2)], ids=str)
def test_kill_and_resume(face, tmp_path, when, monkeypatch):
    """Losses, accuracy, averages, what was watched, and weights are those of a run that was never interrupted."""
    from ctsa._backend import trainer

    settings = dict(SHORT, steps=4, optimiser="adamw", decay=0.01, average=0.9, validate_every=2, save_every=0.0,
                    watch=2 if face.name == "torch" else None, watch_samples=2,
                    measures=("largest", "energy", "contribution"),
                    penalties=[dict(kind="symmetry", weight=1e-3, every=2)])  # fmt: skip
    whole = ctsa.train(model_of(face), DATA, **settings, out=tmp_path / "whole")
    kind, step = trainer(face.name), trainer(face.name).step
    count = 0

    def dying(self, *args):
        nonlocal count
        count += 1
        if count > when:
            raise Killed
        return step(self, *args)

    monkeypatch.setattr(kind, "step", dying)
    with pytest.raises(Killed):
        ctsa.train(model_of(face), DATA, **settings, out=tmp_path / "run")
    monkeypatch.setattr(kind, "step", step)
    with pytest.raises(FileExistsError, match="resume=True goes on from it"):
        ctsa.train(model_of(face), DATA, **settings, out=tmp_path / "run")
    with open(tmp_path / "run" / "log.jsonl", "a") as log:
        log.write('{"step": 99, "loss": 1}\n{"step": 4, "lo')  # written behind the checkpoint, and cut off
    found = ctsa.train(model_of(face, seed=5), DATA, **settings, out=tmp_path / "run", resume=True)
    named = ("losses", "rates", "gradients", "penalties", "validated", "accuracy", "watched", "largest", "energy")
    for name in (*named, "contribution"):
        assert np.array_equal(getattr(found, name), getattr(whole, name), equal_nan=True), name
    for folder in ("whole", "run"):
        rows = [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        assert [row["loss"] for row in rows if "loss" in row] == whole.losses.tolist()
        model = ctsa.models.load(tmp_path / folder / "model.safetensors", face.name)
        for a, b in zip(*(ctsa.models.files.arrays_of(m).values() for m in (model, whole.model)), strict=True):
            assert np.array_equal(a, b)
    again = ctsa.train(model_of(face), DATA, **settings, out=tmp_path / "run", resume=True)  # nothing is left to do
    assert np.array_equal(again.losses, whole.losses)


def test_checkpoints_of_other_runs(tmp_path, torch_face, jax_face):
    kept = dict(SHORT, steps=1, out=tmp_path)
    ctsa.train(model_of(torch_face), DATA, **kept)
    for face, changes, options, words in (
        (torch_face, dict(rate=0.1), {}, r"its settings rate \(0.003 there, 0.1 here\) differ"),
        (torch_face, {}, dict(d=8), "its weights differ"),
        (jax_face, {}, {}, "its backend differ"),
    ):
        with pytest.raises(ValueError, match=words):
            ctsa.train(model_of(face, **options), DATA, **kept | changes, resume=True)
    others = ctsa.datasets.task("sudoku-4x4", count=150, seed=1)
    with pytest.raises(ValueError, match="belongs to another run: its data differ"):
        ctsa.train(model_of(torch_face), others, **kept, resume=True)
    model = ctsa.models.save(model_of(torch_face), tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="is no checkpoint of training: it holds model"):
        ctsa.train(model_of(torch_face), DATA, **kept, resume=True)
    model.write_bytes(b"not at all")
    with pytest.raises(ValueError, match="is not a checkpoint of training, or is damaged"):
        ctsa.train(model_of(torch_face), DATA, **kept, resume=True)


def test_checkpoints_of_models_that_differ_elsewhere(tmp_path, torch_face):
    """A checkpoint holds what trains; what does not has to be the same."""

    def frozen(seed=0, **changes):
        model = model_of(torch_face, seed=seed, **changes)
        model.embedding.requires_grad_(False)
        return model

    kept = dict(SHORT, steps=1, out=tmp_path)
    run = ctsa.train(frozen(), DATA, **kept)
    assert np.array_equal(ctsa.train(frozen(), DATA, **kept, resume=True).losses, run.losses)
    for model, words in (
        (frozen(seed=1), "its frozen_weights differ"), (model_of(torch_face), "its frozen_weights differ"),
        (frozen(noise=0.5), "its model differ"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ctsa.train(model, DATA, **kept, resume=True)
    with pytest.raises(ValueError, match="model has nothing to train"):
        ctsa.train(frozen().requires_grad_(False), DATA, **SHORT)


def test_models_in_bfloat16_and_inference_mode(tmp_path, torch_face):
    run = ctsa.train(model_of(torch_face).bfloat16(), DATA, **SHORT, out=tmp_path)
    again = ctsa.train(model_of(torch_face, seed=3).bfloat16(), DATA, **SHORT, out=tmp_path, resume=True)
    assert np.array_equal(again.losses, run.losses)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), run.model.parameters(), strict=True))
    model = model_of(torch_face)
    with torch.inference_mode():
        found = ctsa.train(model, DATA, **SHORT).losses
    assert np.array_equal(found, ctsa.train(model_of(torch_face), DATA, **SHORT).losses)


def test_a_run_that_diverges(torch_face):
    model = model_of(torch_face, kind="none", dtype="float32")
    with pytest.warns(UserWarning, match="training ended at step"):
        run = ctsa.train(model, DATA, steps=20, batch=4, depth=16, rate=1e6, warmup=0, clip=None)
    assert run.diverged == len(run.losses) - 1 < 19 and not np.isfinite(run.losses[-1] + run.gradients[-1])
    assert all(torch.isfinite(p).all() for p in model.parameters())  # the step that broke it was not taken


def test_a_run_whose_layers_come_to_step_backwards(face):
    model = model_of(face, step=1e-3)
    with pytest.warns(UserWarning, match="training ended at step 0, which brought the step of the layers to -0.09"):
        run = ctsa.train(model, DATA, steps=4, batch=4, depth=2, rate=0.1, warmup=0)
    assert run.diverged == 0 and len(run.losses) == 1 and np.isfinite(run.losses).all()


# --------------------------------------------------------------------------------------------------- looking at a model
def test_evaluation_is_what_the_model_says(face):
    model = model_of(face)
    data = DATA.test[:7]
    found = evaluate(model, data, (0, 2, 5), seed=3, batch=4)
    noise = np.random.default_rng(3).standard_normal((7, 16, 16), dtype=np.float32).astype(float)
    for i, depth in enumerate((0, 2, 5)):
        logits = face.numpy(model(data.inputs, depth, face.array(noise)))
        right = logits.argmax(-1) == data.targets
        assert found.solved[i].tolist() == (right | ~data.scored).all(1).tolist()
        assert found.token_accuracy[i] == right[data.scored].mean()
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(found.confidence[i], p.max(-1).mean(-1), rtol=1e-12)
        chosen = np.take_along_axis(p, data.targets[..., None], -1)
        assert found.loss[i] == pytest.approx(-np.log(chosen).mean(), rel=1e-12)
        energy = face.numpy(model.energy(data.inputs, model.run(data.inputs, depth, face.array(noise))))
        np.testing.assert_allclose(found.energy[i], energy, rtol=1e-12)
    assert found.error.shape == (3,) and "accuracy" in found.table() and "Evaluation" in repr(found)


def test_classes_of_samples_and_sums(torch_face):
    images = ctsa.datasets.task("digits")
    model = model_of(torch_face, images, d=32, dtype="float32")
    run = ctsa.train(model, images, steps=200, batch=32, depth=4, warmup=5, rate=1e-2)
    assert run.accuracy[-1] > 0.8 and run.losses[0] == pytest.approx(np.log(10), abs=0.4)
    sums = ctsa.train(model_of(torch_face, SUMS, dtype="float32"), SUMS, steps=3, batch=8, depth=4)
    assert sums.losses[0] == pytest.approx(np.log(SUMS.train.classes), abs=0.6)


def test_watching_is_the_analyses(face):
    model = model_of(face)
    data = DATA.test[:2]
    measures = ("largest", "mean", "norm", "oscillating", "energy", "contribution")
    measures += ("asymptotic",) if face.name == "torch" else ()
    found = watch(model, data, depth=3, samples=2, seed=1, intervals=20, transient=5, measures=measures)
    noise = np.random.default_rng(1).standard_normal((2, 16, 16), dtype=np.float32)
    u = model.start(data.inputs, face.array(noise))
    for i in range(2):
        layer = model.layer_of(data.inputs[i])
        every = ctsa.finite_time_exponents(layer, u[i], 3)
        assert found.largest[i] == pytest.approx(every[0], abs=1e-9)
        assert found.mean[i] == pytest.approx(every.mean(), abs=1e-9)
        end = ctsa.iterate(layer, u[i], 3).xs[-1]
        assert found.norm[i] == pytest.approx(ctsa.spectral_norm(layer, end), rel=1e-6)
        assert found.oscillating[i] == pytest.approx(ctsa.complex_share(layer, end), abs=1e-12)
        assert found.contribution[i] == pytest.approx(ctsa.contribution_index(layer, end), rel=1e-9)
    assert set(found.means()) == set(measures)
    few = watch(model, data, samples=1, depth=3, measures="energy")
    assert set(few.means()) == {"energy"} and "energy" in few.table()


@pytest.fixture(scope="module")
def trained():
    """The quick preset with seed 0: 4x4 Sudoku, 250 steps."""
    data = ctsa.datasets.task("sudoku-4x4")
    model = ctsa.torch.RecurrentModel.for_task(data.train, seed=0)
    return data, model, ctsa.train(model, data)


@pytest.mark.slow
def test_the_quick_preset_solves_sudoku(trained, tmp_path):
    data, model, run = trained
    test, ood = evaluate(model, data.test[:500], 16), evaluate(model, data.ood[:500], (16, 64))
    assert test.accuracy[0] >= 0.90
    assert ood.accuracy[1] >= 0.55 and ood.accuracy[1] - ood.accuracy[0] >= 0.03
    assert run.accuracy[-1] >= 0.90 and run.table() and "TrainingRun" in repr(run)
    read = ctsa.load(run.save(tmp_path / "run.npz"))
    assert np.array_equal(read.losses, run.losses) and read.model is None and read.settings == run.settings
    assert run.to_xarray().losses.dims == ("step",)


@pytest.mark.slow
def test_a_trained_model_falls_in_energy_and_turns_to_leading_directions(trained):
    """2505.19458, figure of the contribution index; the energy falls on average, though no theorem says so."""
    data, model, _ = trained
    found = evaluate(model, data.ood[:200], (0, 16))
    assert found.energy[1].mean() < found.energy[0].mean()
    puzzle = data.ood.inputs[0]
    layer, us = model.layer_of(puzzle), model.states(puzzle, 16)
    early, late = (ctsa.contribution_index(layer, us[k]) for k in (0, 16))
    assert late > 2 * early
    assert watch(model, data.test, samples=4, measures="largest").largest.mean() > -0.3  # untrained: about -.7


@pytest.mark.slow
def test_without_normalisation_nothing_is_learnt():
    data = ctsa.datasets.task("sudoku-4x4")
    model = ctsa.torch.RecurrentModel.for_task(data.train, kind="none", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it may diverge
        ctsa.train(model, data, steps=100, batch=16)
    assert evaluate(model, data.test[:300], 16).accuracy[0] < 0.05


# -------------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(stepz=3), "stepz is unknown: did you mean steps?"),
        (dict(steps=0), "steps must be greater than or equal to 1, got 0"),
        (dict(steps="3"), "steps must be a valid integer, got '3'"),
        (dict(steps=True), "steps must be a valid integer"),
        (dict(rate=float("nan")), "rate must be a finite number, got nan"),
        (dict(rate=0), "rate must be greater than 0"),
        (dict(optimiser="adamm"), 'optimiser must be "adam", "adamw" or "sgd"'),
        (dict(average=1.0), "average must be less than 1"),
        (dict(clip=-1.0), "clip must be greater than 0"),
        (dict(depths="normal"), "depths must be"),
        (dict(penalties=[dict(kind="spectral")]), "weight is missing"),
        (dict(penalties=[dict(kind="spectral", wieght=1.0)]), "wieght is unknown: did you mean weight?"),
        (dict(penalties=[dict(kind="spectrum", weight=1.0)]), 'kind must be "spectral"'),
        (dict(penalties=[dict(kind="exponent", weight=1.0, target=0.0, above=0.0)]), "target and above are two"),
        (dict(penalties=3), "penalties must be a valid tuple"),
        (dict(adjoint=True), "adjoint goes with solver"),
        (dict(solver="dopri5", refine=2), "refine goes with layers"),
        (dict(solver="dopri5", last=2), "depths and last go with layers"),
        (dict(seed=-1), "seed must be greater than or equal to 0"),
        (dict(preset="quik"), "got 'quik': did you mean quick"),
        (dict(resume=True), "resume needs out"),
    ],
)
def test_wrong_settings(torch_face, changes, words):
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        ctsa.train(model_of(torch_face), DATA, **changes)


def test_wrong_models_and_data(torch_face, jax_face):
    model = model_of(torch_face)
    for call, kind, words in (
        (lambda: ctsa.train(ctsa.torch.SelfAttention(), DATA), TypeError, "model must be a RecurrentModel"),
        (lambda: ctsa.train(model, DATA.train), TypeError, "data must be the splits of a task"),
        (lambda: ctsa.train(model, SUMS), ValueError, "the model has inputs 5, but the data 13"),
        (lambda: evaluate(model, SUMS.test), ValueError, "it is a model of another task"),
        (lambda: evaluate(lambda x: x, DATA.test), TypeError, "model must be a RecurrentModel"),
        (lambda: evaluate(model, DATA.test, ()), ValueError, "depths must be at least one"),
        (lambda: evaluate(model, DATA.test, (-1,)), ValueError, "depths must be an integer of at least 0"),
        (lambda: watch(model, DATA.test, measures=("biggest",)), ValueError, "measures must be one of"),
        (lambda: ctsa.train(model_of(jax_face), DATA, compile=True), ValueError, "compile is for PyTorch"),
        (lambda: Penalty(kind="spectral", weight=-1.0), ValueError, "weight must be greater than 0"),
    ):
        with pytest.raises(kind, match=words):
            call()
    with pytest.raises(ValueError, match="solver and refine need a flow, which a vector gamma has not"):
        ctsa.train(model, DATA, solver="dopri5")
