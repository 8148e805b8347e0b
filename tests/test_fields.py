"""Velocities against token-by-token NumPy; closed-form tangents against jvp; the algebra of fields; torch = JAX."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from reference import CASES, HEADS, D, M, N, antisymmetric, masks, parameters, state, velocity

import ctsa
from ctsa.attention.calls import choose
from ctsa.attention.weights import WEIGHTS
from ctsa.derivatives import variational

K = 3
case = pytest.mark.parametrize("case", CASES)


def build(face, case):
    kind, kwargs = CASES[case]
    return getattr(face, kind)(**kwargs)


def jvps(face, f, x, u):
    """Derivatives of f along every u[k], by the framework's own forward mode."""
    if face.name == "torch":
        return torch.func.vmap(lambda v: torch.func.jvp(f, (x,), (v,))[1])(u)
    return jax.vmap(lambda v: jax.jvp(f, (x,), (v,))[1])(u)


# -------------------------------------------------------------------------------------------------- one field at a time
@case
def test_velocity(face, case, close):
    field, x = build(face, case), state(case, 2)
    close(field(0.0, face.array(x)), velocity(*CASES[case], x))


@case
def test_a_batch_is_its_samples(torch_face, case, close):
    field, x = build(torch_face, case), torch_face.array(state(case, 2, 3))
    v = field(0.0, x)
    close(v.reshape(6, N, D), torch.stack([field(0.0, sample) for sample in x.reshape(6, N, D)]), 1e-14)


@pytest.mark.parametrize("case", ["shared-key-field", "rotation-tokens"])
def test_a_batch_is_its_samples_in_jax_too(jax_face, case, close):
    field, x = build(jax_face, case), jax_face.array(state(case, 2, 3))
    close(field(0.0, x)[1, 2], field(0.0, x[1, 2]), 1e-14)


def whole(face, f):
    """A function as one program in JAX: operation by operation takes twice as long to compile."""
    return f if face.name == "torch" else jax.jit(f)


def check_tangent(face, field, x, rng, close):
    """The closed form against vmap(jvp), for K directions and the batch axes of x."""

    def both(x, u):
        return *field.tangent(0.0, x, u), field(0.0, x), jvps(face, lambda y: field(0.0, y), x, u)

    x, u = face.array(x), face.array(rng.normal(size=(K, *x.shape)))
    v, dv, velocity, slopes = whole(face, both)(x, u)
    close(v, velocity, 1e-14)
    close(dv, slopes)


@case
def test_tangent(torch_face, case, rng, close):
    check_tangent(torch_face, build(torch_face, case), state(case, 2), rng, close)


# A selection, because compiling takes JAX long: every kind of weights, mask, geometry and field (that both frameworks
# agree is checked for all).
@pytest.mark.parametrize(
    "case",
    [
        "softmax-causal", "unnormalised-heads", "hardmax-weighted", "linear-weighted", "l2-none", "sigmoid-boolean",
        "sinkhorn-weighted", "shared-key-field", "channels-4", "euclidean", "oja", "rotation-tokens",
        "frequencies-tokens", "injection", "tanh-biases", "relu-biases", "gelu-biases",
    ],
)  # fmt: skip
def test_tangent_in_jax(jax_face, case, rng, close):
    check_tangent(jax_face, build(jax_face, case), state(case, 2), rng, close)


FORMS = pytest.mark.parametrize("form", ["scores", "outer", "assembled"])


def check_form(face, case, form, rng, close, batch=(2,)):
    field = face.SelfAttention(**CASES[case][1], how=form)
    check_tangent(face, field, state(case, *batch), rng, close)


@FORMS
@pytest.mark.parametrize("case", [name for name in CASES if CASES[name][0] == "SelfAttention"])
def test_forms_of_the_tangent(torch_face, case, form, rng, close):
    check_form(torch_face, case, form, rng, close)


@FORMS
@pytest.mark.parametrize("case", ["softmax-causal", "l2-heads", "mask-heads"])
def test_forms_of_the_tangent_in_jax(jax_face, case, form, rng, close):
    check_form(jax_face, case, form, rng, close)


@FORMS
@pytest.mark.parametrize("batch", [(), (2, 1)])
def test_forms_of_the_tangent_with_any_batch_axes(torch_face, form, batch, rng, close):
    check_form(torch_face, "softmax-heads", form, rng, close, batch)
    check_form(torch_face, "sigmoid-weighted", form, rng, close, batch)


@pytest.mark.parametrize("form", ["scores", "outer"])
def test_directions_in_chunks(face, form, rng, close, monkeypatch):
    """Many directions are handled a few at a time; the last chunk is padded."""
    field = face.SelfAttention(**CASES["softmax-heads"][1], how=form)
    x, u = face.array(state("softmax-heads")), face.array(rng.normal(size=(7, N, D)))
    _, whole = field.tangent(0.0, x, u)
    monkeypatch.setattr("ctsa.attention.dense.LARGEST", 3 * HEADS * N * (N if form == "scores" else (D + 1) * M))
    _, pieces = field.tangent(0.0, x, u)
    close(pieces, whole, 1e-14)


def test_the_cheapest_form_is_chosen():
    assert choose(n=8, d=64, m=64, heads=1, k=4) == "scores"  # wide tokens
    assert choose(n=1024, d=3, m=3, heads=1, k=6) == "outer"  # many tokens
    assert choose(n=256, d=3, m=3, heads=1, k=512) == "assembled"  # many directions
    assert choose(n=2048, d=3, m=3, heads=1, k=5000) != "assembled"  # its Jacobian would not fit


# ------------------------------------------------------------------------------------------- Jacobians of the extension
def every_direction(face):
    return face.array(np.eye(N * D).reshape(N * D, N, D))


@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("sinkhorn")])
def test_drift_jacobian(torch_face, case, close):
    field, x = build(torch_face, case), torch_face.array(state(case))
    y, columns = field.drift_tangent(0.0, x, every_direction(torch_face))
    z, j = field.drift_jacobian(0.0, x)
    close(z, y, 1e-14)
    close(j, columns.reshape(N * D, N * D).T)


@pytest.mark.parametrize("case", ["softmax-heads", "l2-causal", "euclidean", "rotation-tokens", "oja", "gelu-biases"])
def test_extension_through_its_jacobian(face, case, rng, close):
    field, y = build(face, case), face.array(state(case) + 0.2 * rng.normal(size=(N, D)))

    def both(y, u):
        by_tangents = field.geometry.extend_tangent(lambda a, b: field.tangent(0.0, a, b), y, u)
        return *by_tangents, *field.geometry.extend_jacobian(lambda a: field.drift_jacobian(0.0, a), y)

    g, dg, h, j = whole(face, both)(y, every_direction(face))
    close(h, g, 1e-14)
    close(j, dg.reshape(N * D, N * D).T)


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_variational_equation_through_a_jacobian(torch_face, batch, rng, close):
    """The two ways to evaluate the variational equation give the same, also for sums and multiples."""
    kwargs = CASES["softmax-heads"][1]
    y = torch_face.array(state("softmax-heads", *batch) + 0.2 * rng.normal(size=(*batch, N, D)))
    u = torch_face.array(rng.normal(size=(K, *batch, N, D)))
    dense, direct = (
        2.0 * (torch_face.SelfAttention(**kwargs, how=form) + build(torch_face, "rotation-tokens"))
        for form in ("assembled", "scores")
    )
    assert dense.dense_pays(y, K) and not direct.dense_pays(y, K)
    for a, b in zip(*(variational(f, f.geometry, 0.0, (y, u)) for f in (dense, direct)), strict=True):
        close(a, b)


class Neighbour:
    """Somebody's own field among ours: a token drifts towards the next one, so tokens are coupled."""

    def drift(self, t, x):
        return x.roll(1, -2)

    def drift_tangent(self, t, x, u):
        return x.roll(1, -2), u.roll(1, -2)


def test_variational_equation_of_sums_with_terms_of_other_kinds(torch_face, rng, close):
    neighbour = type("Neighbour", (Neighbour, torch_face.Field), {})()
    neighbour._assign(geometry=ctsa.Sphere())
    x, u = torch_face.array(state("identity")), torch_face.array(rng.normal(size=(K, N, D)))
    attention = torch_face.SelfAttention(how="assembled")
    for other in (torch_face.SelfAttention(weights="sinkhorn"), neighbour, lambda t, y: y.roll(1, -2)):
        total = attention + other
        f, df = variational(total, total.geometry, 0.0, (x, u))
        close(f, total(0.0, x), 1e-14)
        close(df, jvps(torch_face, lambda y, total=total: total.geometry.extend(lambda z: total(0.0, z), y), x, u))


@case
def test_tangent_against_differences(torch_face, case, rng, close):
    field, x, u = build(torch_face, case), state(case), rng.normal(size=(K, N, D))
    h = 1e-5
    plus, minus = (field(0.0, torch_face.array(x + s * h * u)) for s in (1, -1))
    _, dv = field.tangent(0.0, torch_face.array(x), torch_face.array(u))
    close(dv, torch_face.numpy(plus - minus) / (2 * h), 1e-7)


@case
def test_velocity_is_tangent(face, case):
    field, x = build(face, case), state(case, 2)
    v = face.numpy(field(0.0, face.array(x)))
    if field.geometry == ctsa.Euclidean():
        return
    size = field.geometry.channels or D
    inner = (x * v).reshape(*x.shape[:-1], -1, size).sum(-1)
    assert np.abs(inner).max() < 1e-13 * max(1.0, np.abs(v).max())


@case
def test_both_frameworks_agree(torch_face, jax_face, case, rng, close):
    x, u = state(case, 2), rng.normal(size=(K, 2, N, D))
    a, da = build(torch_face, case).tangent(0.0, torch_face.array(x), torch_face.array(u))
    b, db = build(jax_face, case).tangent(0.0, jax_face.array(x), jax_face.array(u))
    close(a, b)
    close(da, db)


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(set(WEIGHTS) - {"sinkhorn"})),
    mask=st.sampled_from(sorted(masks())),
    beta=st.floats(-8, 8),
    headed=st.booleans(),
)
def test_both_frameworks_agree_on_random_attention(torch_face, jax_face, close, seed, kind, mask, beta, headed):
    rng = np.random.default_rng(seed)
    p = {name: a / 2 for name, a in parameters(seed, *[HEADS] * headed).items()}
    p |= dict(beta=beta, weights=kind, mask=masks(seed)[mask], key_field=rng.normal(size=D))
    x, u = ctsa.random_tokens(N, D, seed, batch=(2,)), rng.normal(size=(K, 2, N, D))
    a, da = torch_face.SelfAttention(**p).tangent(0.0, torch_face.array(x), torch_face.array(u))
    b, db = jax_face.SelfAttention(**p).tangent(0.0, jax_face.array(x), jax_face.array(u))
    close(a, b)
    close(da, db)


# ----------------------------------------------------------------------------------------------------------- symmetries
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(WEIGHTS)), beta=st.floats(0, 4))
def test_rotation_equivariance(torch_face, close, seed, kind, beta):
    rng = np.random.default_rng(seed)
    r, _ = np.linalg.qr(rng.normal(size=(D, D)))
    p, c, x = parameters(seed), rng.normal(size=D), ctsa.random_tokens(N, D, seed)
    turned = dict(query=p["query"] @ r.T, key=p["key"] @ r.T, value=r @ p["value"] @ r.T, key_field=r @ c)
    a = torch_face.SelfAttention(**p, key_field=c, beta=beta, weights=kind)(0.0, torch_face.array(x))
    b = torch_face.SelfAttention(**turned, beta=beta, weights=kind)(0.0, torch_face.array(x @ r.T))
    close(b, torch_face.numpy(a) @ r.T, 1e-11)


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(WEIGHTS)),
    order=st.permutations(range(N)),
    masked=st.booleans(),
)
def test_permutation_equivariance(torch_face, close, seed, kind, order, masked):
    p, x, mask = parameters(seed), ctsa.random_tokens(N, D, seed), masks(seed)["weighted"] if masked else None
    moved = None if mask is None else mask[order][:, order]
    a = torch_face.SelfAttention(**p, beta=0.5, weights=kind, mask=mask)(0.0, torch_face.array(x))
    b = torch_face.SelfAttention(**p, beta=0.5, weights=kind, mask=moved)(0.0, torch_face.array(x[order]))
    close(b, torch_face.numpy(a)[order])


def test_symmetries_hold_in_jax_too(jax_face, close):
    rng = np.random.default_rng(5)
    r, _ = np.linalg.qr(rng.normal(size=(D, D)))
    x, order = ctsa.random_tokens(N, D, 5), rng.permutation(N)
    field = jax_face.SelfAttention(beta=2.0)
    v = jax_face.numpy(field(0.0, jax_face.array(x)))
    close(field(0.0, jax_face.array((x @ r.T)[order])), (v @ r.T)[order])


# -------------------------------------------------------------------------------------------------------------- algebra
@pytest.fixture
def bare(face):
    """A plain callable with a tangent velocity: a turn of the first two channels at angular speed t."""
    w = np.zeros((D, D))
    w[0, 1], w[1, 0] = -1.0, 1.0
    w = face.array(w)
    return lambda t, x: t * (x @ w.T)


@pytest.fixture
def point(face, rng):
    return face.array(ctsa.random_tokens(N, D, seed=6)), face.array(rng.normal(size=(K, N, D)))


SUMMANDS = ("softmax-causal", "rotation", "injection", "relu-biases")


def test_sum_is_the_sum(face, point, close):
    x, u = point
    fields = [build(face, name) for name in SUMMANDS]
    nested = fields[0] + (fields[1] + sum(fields[2:]))
    for total in (fields[0] + fields[1] + fields[2] + fields[3], sum(fields), nested):
        assert len(total.terms()) == 4  # sums flatten
        v, dv = total.tangent(0.0, x, u)
        close(v, sum(f(0.0, x) for f in fields), 1e-14)
        close(dv, sum(f.tangent(0.0, x, u)[1] for f in fields), 1e-14)
        close(total(0.0, x), face.numpy(v), 1e-14)


def test_multiples_and_differences(face, point, close):
    x, u = point
    f, g = build(face, "softmax-none"), build(face, "rotation")
    v, dv = f.tangent(0.0, x, u)
    w = g(0.0, x)
    for scaled, factor in ((2.5 * f, 2.5), (f * 2.5, 2.5), (-f, -1.0), (np.float64(2.5) * f, 2.5), (3 * f, 3.0)):
        close(scaled(0.0, x), factor * v, 1e-15)
        close(scaled.tangent(0.0, x, u)[1], factor * dv, 1e-15)
    close((f - g)(0.0, x), v - w, 1e-14)
    close((2.0 * (f - 0.5 * g) + g)(0.0, x), 2 * v, 1e-14)


def test_factor_may_be_an_array_of_the_framework(face, point, close):
    x, _ = point
    f, two = build(face, "softmax-none"), face.array(2.0)
    close((two * f)(0.0, x), 2 * f(0.0, x), 1e-15)
    close((f * two)(0.0, x), 2 * f(0.0, x), 1e-15)


@given(a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_linearity(torch_face, close, a, b):
    f, g = build(torch_face, "sigmoid-none"), build(torch_face, "oja")
    x = torch_face.array(state("oja", 2))
    close((a * f + b * g)(0.0, x), a * f(0.0, x) + b * g(0.0, x), 1e-14)


def test_bare_callables_in_sums(face, bare, point, close):
    x, u = point
    f = build(face, "softmax-none")
    v = f(0.5, x)
    w = bare(0.5, x)
    for total in (f + bare, bare + f, sum([f, bare])):
        got, dgot = total.tangent(0.5, x, u)
        close(total(0.5, x), v + w, 1e-14)
        close(got, v + w, 1e-14)
        close(dgot, jvps(face, lambda y, total=total: total(0.5, y), x, u))
    close(face.Scaled(bare, 3.0)(0.5, x), 3 * w, 1e-14)
    # The sum projects the callable once more, which along tangent directions changes nothing.
    tangent = ctsa.Sphere().project(x, u)
    got = (f + bare).tangent(0.5, x, tangent)[1]
    close(got, f.tangent(0.5, x, tangent)[1] + jvps(face, lambda y: bare(0.5, y), x, tangent), 1e-13)


def test_a_sum_projects_bare_callables(face, point, close):
    x, _ = point
    f = build(face, "softmax-none")
    total = f + (lambda t, y: 2 * y)  # radial: nothing is left of it
    close(total(0.0, x), f(0.0, x), 1e-14)


def test_sums_keep_the_geometry(face):
    f = build(face, "channels-2")
    assert (f + build(face, "oja-channels")).geometry == ctsa.Sphere(channels=2) == (2.0 * f).geometry == (-f).geometry
    assert (f + (lambda t, x: x)).geometry == ctsa.Sphere(channels=2)


def test_time_reaches_the_terms(face, point):
    seen = []

    def clock(t, x):
        seen.append(float(t))
        return 0 * x

    (2.0 * (build(face, "oja") + clock))(0.25, point[0])
    assert seen == [0.25]


@pytest.mark.parametrize("other", ["text", 3, None, [1.0]])
def test_what_is_not_callable_does_not_add(face, other):
    with pytest.raises(TypeError):
        build(face, "oja") + other
    with pytest.raises(TypeError):
        build(face, "oja") - other


def test_fields_do_not_multiply(face):
    f = build(face, "oja")
    with pytest.raises(TypeError):
        f * f


def test_pushforward_of_ours_and_of_a_callable(face, point, close):
    x, u = point
    f = build(face, "softmax-none")
    v, dv = ctsa.pushforward(f, 0.0, x, u)
    w, dw = ctsa.pushforward(lambda t, y: f(t, y), 0.0, x, u)
    close(v, w, 1e-15)
    close(dv, dw)


def test_rotation_uses_only_the_antisymmetric_part_while_training(torch_face, close):
    field = torch_face.Rotation(antisymmetric(D, D))
    with torch.no_grad():
        field.omega += torch.ones(D, D, dtype=torch.float64)  # what an optimiser may do
    x = state("oja")
    close(field(0.0, torch_face.array(x)), x @ antisymmetric(D, D).T, 1e-14)


def own_field(a, calls):
    """A bare callable with the closed form of its tangent: ``P_x A x``."""

    def field(t, x):
        y = x @ a.mT
        return y - (x * y).sum(-1, keepdims=True) * x

    def tangent(t, x, u):
        calls.append(u.shape)
        y, dy = x @ a.mT, u @ a.mT
        inner, change = (x * y).sum(-1, keepdims=True), ((u * y) + (x * dy)).sum(-1, keepdims=True)
        return field(t, x), dy - change * x - inner * u

    field.tangent = tangent
    return field


@pytest.mark.parametrize("make", [
    lambda face, own: face.SelfAttention(beta=2.0) + own,
    lambda face, own: own + face.SelfAttention(beta=2.0),
    lambda face, own: 0.5 * (face.SelfAttention(beta=2.0) + own),
    lambda face, own: face.Scaled(own, 0.5) + face.SelfAttention(beta=2.0),
], ids=["right", "left", "multiple", "multiple alone"])  # fmt: skip
def test_the_closed_form_of_a_callable_is_used_in_sums(face, close, make):
    calls = []
    a = face.array([[1.0, 0.3, 0.0], [-0.2, 0.5, 0.1], [0.4, 0.0, -1.0]])
    x = face.array(ctsa.random_tokens(4, 3))
    field, plain = make(face, own_field(a, calls)), make(face, lambda t, x: own_field(a, calls)(t, x))
    u = np.random.default_rng(0).normal(size=(5, 4, 3))
    u = ctsa.Sphere().project(x, face.array(u))
    want = plain.tangent(face.array(0.0), x, u)
    assert not calls
    got = field.tangent(face.array(0.0), x, u)
    assert calls == [u.shape]
    close(got[0], want[0], 1e-14)
    close(got[1], want[1], 1e-13)
