"""The survey of heads: its reduction, closed forms and verdicts, against designed heads and the full flow."""

import os

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, strategies as st
from test_pretrained import SENTENCE, TEXT, tiny_config, tiny_tensors, write_model

import ctsa.torch
from ctsa import pretrained
from ctsa.pretrained import opening
from ctsa.pretrained._subspace import basis, consensus_exponents, reduced_arguments, score_sizes, value_spectrum

pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

D, M, HEADS = 12, 4, 3  # of the tiny model
TURNING = np.array([[0.9, -0.4, 0, 0], [0.4, 0.9, 0, 0], [0, 0, 0.1, 0.2], [0, 0, 0, 0.05]])
# What a head does follows from its small matrix B, V = U B U^T with orthonormal U.
DESIGN = {"fixed": np.diag([1.0, 0.4, 0.3, -0.2]), "rotating": TURNING, "apart": -np.diag([1.0, 0.9, 0.8, 0.7])}


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    """A BERT of one layer whose three heads end as in DESIGN, with small scores, hardly any where tokens part."""
    tensors, rng = tiny_tensors(), np.random.default_rng(5)
    at = "encoder.layer.0.attention."
    for h, small in enumerate(DESIGN.values()):
        u, rows = np.linalg.qr(rng.normal(size=(D, M)))[0], slice(h * M, (h + 1) * M)
        tensors[f"{at}self.value.weight"][rows] = u.T
        tensors[f"{at}output.dense.weight"][:, rows] = u @ small
    for part in ("query", "key"):
        tensors[f"{at}self.{part}.weight"] *= 0.3
    tensors[f"{at}self.query.weight"][2 * M :] *= 1e-4
    folder = tmp_path_factory.mktemp("designed")
    return pretrained.load(write_model(folder, config=tiny_config(num_hidden_layers=1), tensors=tensors))


@pytest.fixture(scope="module")
def real():
    if opening.find_spec(opening._PACKAGE) is None:
        pytest.skip(f"{opening._PACKAGE} is not installed")
    return pretrained.load()


def heads_of(seed=0, d=20, m=3, heads=2, mask=None):
    """Heads of width m in d dimensions with no meaning."""
    rng = np.random.default_rng(seed)
    query, key, value_in = rng.normal(size=(3, heads, m, d)) / np.sqrt(d)
    value_out = rng.normal(size=(heads, d, m))
    none = np.zeros((heads, m))
    return pretrained.Heads(query, key, value_in, value_out, 1.0, none, none, np.zeros((heads, d)), np.zeros(d), mask)


# ------------------------------------------------------------------------------------------------------ closed forms


@given(st.integers(0, 1000), st.integers(1, 5))
def test_spectra_from_the_factors(seed, m):
    heads = heads_of(seed, d=9, m=m, heads=1)
    full = np.linalg.eigvals(heads.value[0])
    nonzero = full[np.argsort(-np.abs(full))][:m]
    found = value_spectrum(heads.value_in[0], heads.value_out[0])
    for value in nonzero:
        assert np.abs(found - value).min() < 1e-9
    assert (np.diff(found.real) <= 1e-12).all()
    a = heads.query[0].T @ heads.key[0]
    asymmetry, norm = score_sizes(heads.query[0], heads.key[0])
    assert asymmetry == pytest.approx(np.linalg.norm(a - a.T) / np.linalg.norm(a + a.T), rel=1e-9)
    assert norm == pytest.approx(np.linalg.norm(a, 2), rel=1e-9)


def test_symmetric_scores():
    query = np.random.default_rng(0).normal(size=(3, 7))
    assert score_sizes(query, query)[0] < 1e-7  # the root of rounding errors
    assert score_sizes(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == pytest.approx(1.0)
    rotation = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert score_sizes(np.eye(2), rotation)[0] == np.inf


@pytest.mark.parametrize("mask", [None, "causal"])
def test_exponents_of_a_consensus_at_rest(torch_face, mask):
    """The eigenvalues of the tangent Jacobian at the leading eigenvector, all of them."""
    heads, n, d = heads_of(1, d=6, m=3, heads=1, mask=mask), 4, 6
    values, vectors = np.linalg.eig(heads.value[0])
    lead = np.argmax(values.real)
    assert values[lead].imag == 0
    assert values[lead].real > 0
    x = np.ones((n, 1)) * vectors[:, lead].real
    field = torch_face.SelfAttention(heads.query[0], heads.key[0], heads.value[0], 2.0, mask=mask)
    wanted = ctsa.eigenvalues(field, x).real
    spectrum = value_spectrum(heads.value_in[0], heads.value_out[0])
    found = consensus_exponents(spectrum, n, d, n * (d - 1), mask is not None)
    np.testing.assert_allclose(found, np.sort(wanted)[::-1], rtol=0, atol=1e-8)


def test_exponents_of_a_rotating_consensus(torch_face):
    """Those of a run over whole periods; V is not normal, so the rates vary along the orbit."""
    rng, n, d = np.random.default_rng(2), 2, 4
    change = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    small = np.array([[0.9, -0.8, 0, 0], [0.8, 0.9, 0, 0], [0, 0, 0.6, 0], [0, 0, 0, -1.0]])
    value = change @ small @ np.linalg.inv(change)
    x = np.ones((n, 1)) * (change[:, 0] / np.linalg.norm(change[:, 0]))
    field = torch_face.SelfAttention(rng.normal(size=(2, d)), rng.normal(size=(2, d)), value, 1.5, mask="causal")
    half = np.pi / 0.8  # of a period; it maps the orbit to its antipode
    spectrum = ctsa.lyapunov_spectrum(field, x, interval=half, transient=24, intervals=2, atol=1e-8)
    values = np.array([0.9 + 0.8j, 0.9 - 0.8j, 0.6, -1.0])
    found = consensus_exponents(values, n, d, n * (d - 1), causal=True)
    np.testing.assert_allclose(found, spectrum.exponents, rtol=0, atol=1e-5)


# ----------------------------------------------------------------------------------------------------- the reduction


@pytest.mark.parametrize("mask", [None, "causal"])
def test_the_flow_takes_place_in_the_subspace(torch_face, close, mask):
    """The reduced field is the field, in the basis; the field has no part outside; so the flows are the same."""
    face, heads, x = torch_face, heads_of(mask=mask), ctsa.random_tokens(4, 20, seed=1)
    for h in range(2):
        full = face.SelfAttention(heads.query[h], heads.key[h], heads.value[h], 3.0, mask=mask)
        e = basis(x, heads.value_out[h], extra=2)
        assert e.shape == (20, 4 + 3 + 2)
        np.testing.assert_allclose(e.T @ e, np.eye(9), atol=1e-14)
        reduced = face.SelfAttention(**reduced_arguments(heads, h, e, 3.0))
        inside = ctsa.Sphere().retract(np.random.default_rng(2).normal(size=(4, 7)) @ e[:, :7].T)
        for state in (x, inside):
            velocity = face.numpy(full(0.0, face.array(state)))
            close(reduced(0.0, face.array(state @ e)), velocity @ e, 1e-13)
            close(velocity @ e @ e.T, velocity, 1e-13)
    start = ctsa.Sphere().retract(x @ e)
    ends = [face.numpy(ctsa.integrate(f, y, [0.0, 5.0], atol=1e-11).xs[-1]) for f, y in ((full, x), (reduced, start))]
    close(ends[1] @ e.T, ends[0], 1e-9)


def test_no_exponent_is_lost(torch_face):
    """The full Jacobian's eigenvalues: those of the reduced one, and -<x_i, o_i> of each token d - D more times."""
    heads, n, d, extra = heads_of(3), 4, 20, 2
    x = ctsa.random_tokens(n, d, seed=4)
    e = basis(x, heads.value_out[0], extra)
    full = torch_face.SelfAttention(heads.query[0], heads.key[0], heads.value[0], 3.0)
    reduced = torch_face.SelfAttention(**reduced_arguments(heads, 0, e, 3.0))
    start = ctsa.Sphere().retract(x @ e)
    normal = -(x * torch_face.numpy(full.drift(0.0, torch_face.array(x)))).sum(-1)
    inside = ctsa.eigenvalues(reduced, start)
    assert all(np.abs(inside - value).min() < 1e-10 for value in normal)
    wanted = np.concatenate([inside, np.repeat(normal, d - e.shape[1])])
    found = ctsa.eigenvalues(full, x)
    assert len(found) == len(wanted)
    for value in wanted:
        i = np.argmin(np.abs(found - value))
        assert abs(found[i] - value) < 1e-8
        found = np.delete(found, i)


def test_nothing_to_reduce():
    x = ctsa.random_tokens(4, 6)
    np.testing.assert_array_equal(basis(x, np.ones((6, 1)), 1), np.eye(6))


# -------------------------------------------------------------------------------------------------------- the survey


@pytest.fixture(scope="module")
def found(designed):
    return pretrained.survey(designed, TEXT, face=ctsa.torch, count=3, progress=False)


def test_designed_heads(designed, found, tmp_path):
    assert found.end.tolist() == [list(DESIGN)]
    assert found.clusters.tolist() == [[1, 1, 9]]
    assert found.counts == {"fixed": 1, "rotating": 1, "apart": 1}
    assert found.summary() == "3 heads, n = 9: 1 fixed, 1 rotating, 1 apart"
    assert found.tokens.tolist() == designed.tokens(TEXT)
    np.testing.assert_allclose(found.eigenvalues[0, 0], [1.0, 0.4, 0.3, -0.2], atol=1e-6)  # weights are float32
    np.testing.assert_allclose(np.abs(found.period[0, 1]), 2 * np.pi / 0.4, rtol=1e-5)
    assert np.isinf(found.period[0, [0, 2]]).all()
    # By hand: mu - lambda with one zero less; Re lambda - Re lambda = 0 first where it turns.
    np.testing.assert_allclose(found.exponents[0, 0], [-0.6, -0.7, -1.0], atol=1e-6)
    np.testing.assert_allclose(found.exponents[0, 1], [0.0, -0.8, -0.85], atol=1e-6)
    assert found.source.tolist() == [["closed form", "closed form", "finite time"]]
    assert (found.stderr[0, :2] == 0).all()
    assert (found.stderr[0, 2] > 0).all() or found.speed[0, 2] < 1e-6
    assert found.speed[0, 0] < 1e-6 < 0.1 < found.speed[0, 1]
    summed = np.linalg.eigvals(designed.heads(0).value.sum(0))
    assert found.layer_eigenvalue[0].real == pytest.approx(summed.real.max(), rel=1e-9)

    table = found.table().splitlines()
    assert len(table) == 1 + HEADS
    assert " 0.900 +- 0.400i" in table[2]
    assert "rotating" in table[2]
    assert "15.7" in table[2]
    assert table[3].count("*") == 1
    assert len(found.layer_table().splitlines()) == 2
    again = ctsa.load(found.save(tmp_path / "survey"))
    assert type(again) is pretrained.Survey
    assert again.table() == found.table()
    assert repr(again) == repr(found)
    data = again.to_xarray()
    assert data["end"].dims == ("layer", "head")
    assert data["exponents"].shape == (1, HEADS, 3)
    axes = found.plot()
    assert [t.get_text() for t in axes[0].texts] == ["9"]
    assert [t.get_text() for t in axes[1].get_legend().get_texts()] == ["fixed (1)", "rotating (1)", "apart (1)"]
    plt.close("all")


def test_the_ends_are_those_of_the_full_flow(designed, torch_face):
    """At rest on the leading eigenvector; turning with the period, in the leading plane; apart."""
    x = designed.on_sphere(TEXT, 0).x
    values = designed.heads(0).value
    ts = [0.0, 100.0, 100.0 + 2 * np.pi / 0.4]
    ends = [torch_face.numpy(ctsa.integrate(designed.field(0, torch_face, TEXT, head=h), x, ts).xs) for h in range(3)]
    assert ctsa.cluster_count(np.stack([path[-1] for path in ends])).tolist() == [1, 1, 9]
    at_rest = ends[0][-1, 0]
    np.testing.assert_allclose(values[0] @ at_rest, at_rest, atol=1e-6)
    np.testing.assert_allclose(ends[1][2], ends[1][1], atol=1e-4)
    half = values[1] @ values[1] - 1.8 * values[1]  # (V - l)(V - conj l) = V^2 - 1.8 V + .97
    np.testing.assert_allclose(half @ ends[1][2, 0], -0.97 * ends[1][2, 0], atol=1e-6)


def test_a_solver_as_one_value(designed, torch_face):
    def run(**options):
        return pretrained.survey(designed, TEXT, face=torch_face.module, heads=[0], duration=1.0, progress=False, **options)

    one = run(solver=ctsa.Solver("dopri8", atol=1e-9))
    same, other = run(solver="dopri8", atol=1e-9), run()
    assert np.array_equal(one.exponents, same.exponents) and np.array_equal(one.layer_distance, same.layer_distance)
    assert not np.array_equal(one.layer_distance, other.layer_distance)
    with pytest.raises(ValueError, match="takes no step"):
        run(solver=ctsa.Solver("rk4", step=0.1))


def test_layer_against_flow(designed, torch_face):
    """Distances and steps, from their definitions, without the reduction."""
    found = pretrained.survey(designed, TEXT, face=torch_face.module, heads=[0], duration=5.0, progress=False)
    plain = designed.on_sphere(TEXT, 0)

    def angle(a, b):
        a, b = (z / np.linalg.norm(z, axis=-1, keepdims=True) for z in (a, b))
        return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))).mean()

    def after(field):
        return torch_face.numpy(ctsa.integrate(field, plain.x, [0.0, 1.0], atol=1e-10).xs[-1])

    field = designed.field(0, torch_face, TEXT, head=0)
    output = torch_face.numpy(field.drift(0.0, torch_face.array(plain.x)))
    assert found.turn[0, 0] == pytest.approx(angle(plain.x, plain.x + output), abs=1e-5)
    assert found.distance[0, 0] == pytest.approx(angle(after(field), plain.x + output), abs=1e-5)
    # An Euler step of that size in the tangent direction, retracted, is the layer.
    steps = 1 / (1 + (plain.x * output).sum(-1, keepdims=True))
    tangent = output - (plain.x * output).sum(-1, keepdims=True) * plain.x
    assert angle(plain.x + steps * tangent, plain.x + output) < 1e-6
    assert found.effective_step[0, 0] == pytest.approx(steps.mean(), rel=1e-9)
    whole = designed.field(0, torch_face, TEXT)
    output = torch_face.numpy(whole.drift(0.0, torch_face.array(plain.x)))
    assert found.layer_distance[0] == pytest.approx(angle(after(whole), plain.x + output), abs=1e-5)
    y = designed.states(TEXT)[0]
    model = y + designed.attention_output(TEXT, 0)
    assert found.model_distance[0] == pytest.approx(angle(after(whole), model), abs=1e-5)
    assert found.step.tolist() == [1.0]


def test_a_run_that_is_too_short_says_nothing(designed, torch_face):
    """Tokens that have not met after three units of time, at a rate of one, may meet yet."""
    short = pretrained.survey(
        designed, TEXT, face=torch_face.module, heads=[0, 2], duration=3.0, count=1, progress=False
    )  # fmt: skip
    assert short.clusters.tolist() == [[9, 9]]
    assert short.end.tolist() == [["undecided", "apart"]]  # under negative eigenvalues nothing makes them meet


def test_both_faces_agree(designed, found, jax_face):
    other = pretrained.survey(designed, TEXT, face=jax_face.module, heads=[1, 0], count=3, progress=False)
    assert other.heads.tolist() == [1, 0]
    for name in ("eigenvalues", "exponents", "stderr", "turn", "distance", "effective_step", "speed"):
        one, two = getattr(found, name)[:, 1::-1], getattr(other, name)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-7, err_msg=name)
    for name in ("layer_distance", "model_distance"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=0, atol=1e-9)
    assert other.end.tolist() == [["rotating", "fixed"]]
    assert jax.tree.map(lambda leaf: leaf, other).table() == other.table()  # a pytree, as all results are


def test_a_causal_model_before_its_norms(torch_face, tmp_path):
    """GPT-2: token 0 follows its own flow, and the step is |y| / |r|."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=16, n_embd=12, n_head=3, n_layer=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    model, ids = pretrained.load(tmp_path), [3, 1, 4, 1, 5]
    found = pretrained.survey(model, ids, face=torch_face.module, layers=1, heads=[0], duration=50.0, progress=False)
    state = model.states(ids)[1]
    plain = model.on_sphere(ids, 1)
    assert found.step[0] == pytest.approx(np.mean(plain.norms / np.linalg.norm(state, axis=-1)))
    assert found.step[0] > 2  # freshly initialised states are short
    assert found.tokens.tolist() == ["3", "1", "4", "1", "5"]
    # One token alone moves as token 0 of all, in the reduced flow of the survey, too.
    field = model.field(1, torch_face, ids, head=0)
    whole = torch_face.numpy(ctsa.integrate(field, plain.x, [0.0, 2.0], atol=1e-10).xs[-1])
    alone = torch_face.numpy(ctsa.integrate(field, plain.x[:1], [0.0, 2.0], atol=1e-10).xs[-1])
    np.testing.assert_allclose(whole[:1], alone, atol=1e-8)


def test_real_heads(real, torch_face):
    """A bipartite end on the most negative eigenvalues, and one at rest on the leading one."""
    found = pretrained.survey(real, SENTENCE, face=torch_face.module, layers=[2], heads=[0, 9], count=2, progress=False)
    assert found.end.tolist() == [["fixed", "bipartite"]]
    assert found.eigenvalues[0, 1, -1].real == pytest.approx(-1.5347, abs=1e-3)
    assert found.eigenvalues[0, 1, 0].real == pytest.approx(0.297, abs=1e-3)
    assert found.layer_eigenvalue[0] == pytest.approx(1.655, abs=1e-3)
    assert 5 < found.layer_distance[0] < 17


@pytest.mark.skipif(not os.environ.get("CTSA_SLOW"), reason="half a minute: set CTSA_SLOW=1")
def test_all_real_heads(real, torch_face):
    """As docs/pretrained.md says."""
    found = pretrained.survey(real, SENTENCE, face=torch_face.module, progress=False)
    assert found.counts == {"fixed": 38, "rotating": 27, "bipartite": 1, "clusters": 1, "apart": 5}
    assert (found.eigenvalues[found.end == "apart"][:, 0].real < 0).all()
    assert (found.eigenvalues[found.end != "apart"][:, 0].real > 0).all()


def test_bad_input(designed, torch_face, tmp_path):
    def survey(model=designed, text=TEXT, face=torch_face.module, **options):
        return pretrained.survey(model, text, face=face, **options)

    with pytest.raises(TypeError, match=r"face must be ctsa\.torch or ctsa\.jax, got 'torch'"):
        survey(face="torch")
    with pytest.raises(ValueError, match=r"layers must be one of 0 \.\.\. 0, got 1"):
        survey(layers=[0, 1])
    with pytest.raises(ValueError, match=r"heads must be one of 0 \.\.\. 2, got -1"):
        survey(heads=-1)
    with pytest.raises(TypeError, match=r"heads must be an integer, got 0\.5"):
        survey(heads=[0.5])
    with pytest.raises(ValueError, match="heads must be at least one"):
        survey(heads=[])
    with pytest.raises(ValueError, match="duration must be a finite number above 0"):
        survey(duration=0)
    with pytest.raises(ValueError, match="count must be an integer of at least 1"):
        survey(count=0)
    with pytest.raises(TypeError, match="text must be a string"):
        survey(text=None)
    with pytest.raises(pretrained.WeightsNotFound):
        survey(model=tmp_path / "nowhere")
