"""The derivative of attention: three closed forms, the Jacobian and its extension, against forward-mode autodiff."""

import numpy as np
import pytest
from programs import as_one
from reference import CASES, HEADS, D, M, N, masks, parameters, state
from sampling import sample

import ctsa
from ctsa.attention import dense
from ctsa.attention.calls import HOW, attend_jacobian, attend_tangent, choose, cost
from ctsa.derivatives import jvp_batched, variational

ATTENTION = [name for name, (kind, _) in CASES.items() if kind == "SelfAttention"]
CLOSED = [name for name in ATTENTION if "sinkhorn" not in name]
K = 3
FORMS = [how for how in HOW if how not in ("harmonic", "ring")]  # see test_harmonic and test_devices
# torch takes every case; JAX, which compiles each, one of each kind
ON_JAX = ["softmax-weighted", "l2-causal", "sigmoid-heads", "shared-key-field", "linear-boolean", "sinkhorn-none"]


def make(face, case, **more):
    kind, kwargs = CASES[case]
    return getattr(face, kind)(**kwargs, **more)


def directions(*shape, seed=7):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("name, case", [*[("torch", case) for case in ATTENTION], *[("jax", case) for case in ON_JAX]])
def test_forms_equal_autodiff(torch_face, jax_face, close, name, case):
    face = {"torch": torch_face, "jax": jax_face}[name]
    field = make(face, case)
    x, u = face.array(state(case)), face.array(directions(K, N, D))

    def all_ways(x, u):
        return jvp_batched(lambda z: field.drift(0.0, z), x, u), [attend_tangent(field.heads, x, u, form) for form in FORMS]

    (y, exact), found = as_one(face, all_ways)(x, u)
    for got, dy in found:
        close(got, y)
        close(dy, exact)


@pytest.mark.parametrize("case", ["softmax-weighted", "l2-heads", "sigmoid-causal", "shared-key-field", "value-heads"])
@pytest.mark.parametrize("batch", [(2,), (2, 3)])
def test_forms_along_batches(torch_face, close, case, batch):
    face, field = torch_face, make(torch_face, case)
    x, u = state(case, *batch), directions(K, *batch, N, D)
    for form in FORMS:
        y, dy = attend_tangent(field.heads, face.array(x), face.array(u), form)
        for index in np.ndindex(*batch):
            one, done = attend_tangent(
                field.heads, face.array(x[index]), face.array(u[(slice(None), *index)]), "scores"
            )
            close(face.numpy(y)[index], one)
            close(face.numpy(dy)[(slice(None), *index)], done)


def test_forms_along_batches_jax(torch_face, jax_face, close):
    case = "shared-key-field"
    x, u = state(case, 2), directions(K, 2, N, D)

    def found(face):
        heads = make(face, case).heads
        every = as_one(face, lambda x, u: [attend_tangent(heads, x, u, form) for form in FORMS])
        return every(face.array(x), face.array(u))

    for got, want in zip(found(jax_face), found(torch_face), strict=True):
        for a, b in zip(got, want, strict=True):
            close(a, b)


@pytest.mark.parametrize("case", CLOSED)
def test_jacobian_equals_autodiff(torch_face, close, case):
    field = make(torch_face, case)
    x, unit = torch_face.array(state(case)), torch_face.array(np.eye(N * D).reshape(-1, N, D))
    y, columns = jvp_batched(lambda z: field.drift(0.0, z), x, unit)
    got, j = attend_jacobian(field.heads, x)
    close(got, y)
    close(j, columns.reshape(N * D, N * D).T)


@pytest.mark.parametrize("case", ["softmax-causal", "unnormalised-heads", "l2-weighted", "key-field"])
def test_jacobian_along_batches(torch_face, close, case):
    face = torch_face
    field, x = make(face, case), state(case, 2, 3)
    _, j = attend_jacobian(field.heads, face.array(x))
    assert tuple(j.shape) == (2, 3, N * D, N * D)
    for index in np.ndindex(2, 3):
        close(face.numpy(j)[index], attend_jacobian(field.heads, face.array(x[index]))[1])


def test_sinkhorn_has_no_closed_form(face):
    field = make(face, "sinkhorn-none")
    with pytest.raises(ValueError, match="sinkhorn.*no closed-form derivative"):
        attend_jacobian(field.heads, face.array(state("sinkhorn-none")))


@pytest.mark.parametrize(("case", "form"), sample([
    (case, form) for case in ("softmax-weighted", "shared-key-field") for form in ("scores", "outer")
], lambda case, form: (case == "softmax-weighted") == (form == "scores")))  # fmt: skip
def test_chunks(face, close, monkeypatch, case, form):
    """Seven directions in pieces of three, two, one."""
    field = make(face, case)
    x, u = face.array(state(case)), face.array(directions(7, N, D))

    def found():
        return as_one(face, lambda x, u: attend_tangent(field.heads, x, u, form)[1])(x, u)

    whole = found()
    each = field.heads.count * N * (N if form == "scores" else (D + 1) * (M if field.query is not None else D))
    for size in (3 * each, 2 * each, 1):
        monkeypatch.setattr(dense, "LARGEST", size)
        close(found(), whole, 1e-14)


def test_chunks_hold_no_more_than_allowed(torch_face, monkeypatch):
    monkeypatch.setattr(dense, "LARGEST", 2 * N * N)
    sizes = []
    whole = dense.by_scores
    monkeypatch.setitem(dense.RULES, "scores", lambda w, p, d: (sizes.append(len(d[0])), whole(w, p, d))[1])
    field = make(torch_face, "identity")
    attend_tangent(field.heads, torch_face.array(state("identity")), torch_face.array(directions(7, N, D)), "scores")
    assert sizes == [2, 2, 2, 2]


# -------------------------------------------------------------------------------------------- the variational equation
def ambient(field, x):
    """A state off the sphere: the degree-1 extension is asked about radii too."""
    radii = np.random.default_rng(8).uniform(0.8, 1.2, size=(*x.shape[:-1], 1))
    return x if isinstance(field.geometry, ctsa.Euclidean) else field.geometry.retract(x) * radii


@pytest.mark.parametrize("case", CLOSED)
def test_extension_equals_autodiff(torch_face, close, case):
    """Assembled (one dense Jacobian of the extension) and scores, against the derivative of the extension itself."""
    x, u = ambient(make(torch_face, case), state(case)), torch_face.array(directions(K, N, D))
    field = make(torch_face, case)
    x = torch_face.array(x)
    f, df = jvp_batched(lambda y: field.geometry.extend(lambda z: field(0.0, z), y), x, u)
    for form in ("assembled", "scores", "outer"):
        chosen = make(torch_face, case, how=form)
        assert chosen.dense_pays(x, K) == (form == "assembled")
        got, du = variational(chosen, chosen.geometry, 0.0, (x, u))
        close(got, f)
        close(du, df)


@pytest.mark.parametrize("case", ["softmax-weighted", "l2-heads", "channels-4", "euclidean", "shared-key-field"])
def test_extension_along_batches(torch_face, close, case):
    face = torch_face
    x = face.array(ambient(make(face, case), state(case, 2)))
    u = face.array(directions(K, 2, N, D))
    a, b = (make(face, case, how=form) for form in ("assembled", "scores"))
    for got, want in zip(variational(a, a.geometry, 0.0, (x, u)), variational(b, b.geometry, 0.0, (x, u)), strict=True):
        close(got, want)


def sums(face, form):
    one, wide = parameters(0), CASES["tanh-biases"][1]
    attention = face.SelfAttention(**one, beta=0.7, how=form)
    rest = [face.Oja(one["value"]), face.Rotation(omega=CASES["rotation"][1]["omega"])]
    rest += [face.Injection(CASES["injection"][1]["input"]), face.Perceptron(**{**wide, "geometry": None})]
    return sum(rest, 2.0 * (attention + rest[0]))


@pytest.mark.parametrize("batch", sample([((),), ((2,),)], lambda batch: batch == (2,)))
def test_extension_of_sums(face, close, batch):
    x, u = state("identity", *batch), directions(K, *batch, N, D)
    x, u = face.array(1.1 * x), face.array(u)
    dense, sparse = sums(face, "assembled"), sums(face, "scores")
    assert dense.dense_pays(x, K) and not sparse.dense_pays(x, K)

    def all_ways(x, u):
        exact = jvp_batched(lambda y: sparse.geometry.extend(lambda z: sparse(0.0, z), y), x, u)
        return exact, [variational(field, field.geometry, 0.0, (x, u)) for field in (dense, sparse)]

    (f, df), found = as_one(face, all_ways)(x, u)
    for got, du in found:
        close(got, f)
        close(du, df)


OTHERS = [name for name, (kind, _) in CASES.items() if kind != "SelfAttention"]


@pytest.mark.parametrize("case", OTHERS)
def test_drift_jacobians_of_other_fields(torch_face, close, case):
    field, x = make(torch_face, case), torch_face.array(state(case))
    unit = torch_face.array(np.eye(N * D).reshape(-1, N, D))
    y, columns = jvp_batched(lambda z: field.drift(0.0, z), x, unit)
    got, j = field.drift_jacobian(0.0, x)
    close(got, y)
    close(j, columns.reshape(N * D, N * D).T)
    _, batched = field.drift_jacobian(0.0, torch_face.array(state(case, 2)))
    assert tuple(batched.shape) == (2, N * D, N * D)


# ---------------------------------------------------------------------------------------------------------- the choice
def test_choice_is_the_cheapest():
    for n in (4, 64, 1024):
        for d in (3, 16, 64):
            for k in (1, 16, 512):
                form = choose(n, d, d, 1, k)
                fitting = ["scores", "outer"] + (["assembled"] if (n * d) ** 2 <= dense.LARGEST else [])
                assert form in fitting
                assert cost(form, n, d, d, 1, k) == min(cost(f, n, d, d, 1, k) for f in fitting)


def test_choice_takes_all_forms():
    assert choose(256, 3, 3, 1, 512) == "assembled"  # many directions
    assert choose(1024, 3, 3, 1, 6) == "outer"  # few directions, narrow tokens
    assert choose(64, 64, 64, 1, 4) == "scores"  # wide tokens


def test_unknown_form(face):
    with pytest.raises(ValueError, match="how must be one of"):
        face.SelfAttention(how="fast")


def test_masks_and_heads_are_all_there():
    assert {name.split("-")[1] for name in CASES if name.startswith("softmax-")} == {*masks(), "heads"}
    assert HEADS == 2
