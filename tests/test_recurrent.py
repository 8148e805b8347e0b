"""Recurrent layers against their definitions written out, and against the Euler steps that they are."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from programs import as_one
from reference import attention
from sampling import mainly, sample

import ctsa
import ctsa.torch

N, D, HEADS = 5, 4, 2
X = ctsa.random_tokens(N, D, seed=3)
PAIRS = ctsa.Sphere(channels=2)
OSCILLATORS = ctsa.random_tokens(N, D, seed=4, channels=2)


def parameters(seed=0):
    r = np.random.default_rng(seed)
    q, k = r.normal(size=(2, HEADS, 3, D))
    return dict(query=q, key=k, value=0.6 * r.normal(size=(HEADS, D, D)), beta=1.3)


C = np.random.default_rng(7).normal(size=(N, D))
OMEGA = np.array([0.8, -1.7])


def turn_of(face, frequencies):
    return face.Rotation(frequencies=frequencies, geometry=PAIRS)


def output(x, **p):
    """C + MSA(x), token by token."""
    return C + attention(x, **p)[1]


def rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pairs(x):
    return rows(x.reshape(N, -1, 2)).reshape(N, D)


def injected(face, geometry=None, seed=0):
    return face.SelfAttention(**parameters(seed), geometry=geometry) + face.Injection(C, geometry=geometry)


# ------------------------------------------------------------------------------------------------------------- post-norm
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("geometry", [None, PAIRS])
def test_post_norm_is_an_euler_step_of_its_own_size(face, close, plain, geometry):
    """N(x + h v) = N(x + h/(1 + h <x, v>) P_x v), a size a token or an oscillator."""
    h, field = 0.3, injected(face, geometry)
    x0 = X if geometry is None else OSCILLATORS
    layer = (ctsa if plain else face).PostNormLayer(field, step=h)
    x = face.array(x0)
    v = output(x0, **parameters())
    groups = 1 if geometry is None else 2
    radial = (x0 * v).reshape(N, groups, -1).sum(-1)
    sizes = h / (1 + h * radial)
    close(layer.euler_step(x), sizes[:, 0] if geometry is None else sizes)
    expected = (rows if geometry is None else pairs)(x0 + h * v)
    close(layer(x), expected)
    own = field.geometry
    step = own.spread(layer.euler_step(x), field(0.0, x))
    sign = np.sign(sizes).repeat(D // groups, -1)  # a token that jumps over ends at the antipode of the Euler step
    close(face.numpy(own.retract(x + step)), sign * expected)


def test_the_size_of_a_post_norm_step_at_consensus(face, close):
    """On the leading eigenvector of V the layer runs 1 + h lambda slower than the flow."""
    layer = face.PostNormLayer(face.Oja(np.diag([2.0, 1.0])), step=0.1)
    close(layer.euler_step(face.array([[1.0, 0.0]])), [0.1 / 1.2])


# ------------------------------------------------------------------------------------------------------------------ ItrSA
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("gamma", "eta"), [(1.0, 1.0), (0.4, 0.9), (2.5, 0.1)])
def test_itrsa_with_scalar_gamma(face, close, gamma, eta, plain):
    """X <- gamma N(X + eta (C + MSA(X))); in u = X / gamma a post-norm step of size eta / gamma of its field."""
    layer = (ctsa if plain else face).ItrSA(injected(face), step=eta, gamma=gamma)
    big = gamma * X
    expected = gamma * rows(big + eta * output(big, **parameters()))
    u = face.array(X)
    close(face.numpy(layer.tokens(layer(u))), expected)
    size = layer.flow_step if plain else layer.flow_step.item()
    assert size == pytest.approx(eta / gamma, rel=1e-15)
    post = ctsa.PostNormLayer(layer.field, step=eta / gamma)
    close(layer(u), face.numpy(post(u)))
    own = layer.geometry
    sizes = layer.euler_step(u)
    step = own.retract(u + own.spread(sizes, layer.field(0.0, u)))
    close(face.numpy(step) * np.sign(face.numpy(sizes))[:, None], expected / gamma)


def test_itrsa_is_the_rmsnorm_of_torch():
    """nn.RMSNorm has gamma_torch = gamma / sqrt(d)."""
    weight = np.random.default_rng(1).uniform(0.2, 0.9, size=D)
    norm = torch.nn.RMSNorm(D, eps=0.0, dtype=torch.float64)
    norm.weight.data = torch.tensor(weight)
    field = injected(ctsa.torch)
    with pytest.warns(UserWarning, match="no flow"):
        layer = ctsa.torch.ItrSA(field, step=0.7, gamma=weight, convention="rms")
    u = torch.tensor(X)
    big = layer.tokens(u)
    assert torch.allclose(layer.tokens(layer(u)), norm(big + 0.7 * field.drift(0.0, big)), rtol=0, atol=1e-12)
    scalar = ctsa.torch.ItrSA(field, step=0.7, gamma=0.5, convention="rms", d=D)
    assert scalar.flow_step.item() == pytest.approx(0.7 / (0.5 * np.sqrt(D)), rel=1e-15)


def test_itrsa_with_vector_gamma_has_no_flow(face, close):
    gamma = np.array([0.3, 0.5, 0.8, 0.1])
    with pytest.warns(UserWarning, match="not the identity"):
        layer = face.ItrSA(injected(face), step=0.9, gamma=gamma)
    assert layer.field is None and layer.flow_step is None and "vector" in layer.no_flow
    big = gamma * X
    close(layer(face.array(X)), rows(big + 0.9 * output(big, **parameters())))
    with pytest.raises(ValueError, match="gamma is a vector"):
        layer.euler_step(face.array(X))


def test_itrsa_with_a_constant_vector_is_scalar(face):
    assert face.ItrSA(injected(face), gamma=np.full(D, 0.5)).flow_step.item() == 2.0


# ------------------------------------------------------------------------------------------------------------------ AKOrN
def akorn(x, gamma, omega, identity, project):
    """The authors' update, an oscillator at a time."""
    y = output(x, **parameters())
    new = np.empty_like(x)
    for i in range(N):
        for o in range(D // 2):
            s = slice(2 * o, 2 * o + 2)
            z, v = x[i, s], y[i, s]
            v = v - (z @ v) * z if project else v
            turn = z if identity else 0 * z if omega is None else omega[o] * np.array([-z[1], z[0]])
            z = z + gamma * (turn + v)
            new[i, s] = z / np.linalg.norm(z)
    return new


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize(("omega", "identity"), [(OMEGA, False), (None, False), (None, True)])
def test_akorn(face, close, omega, identity, project, plain):
    gamma = 0.35
    rotation = None if omega is None else face.Rotation(frequencies=omega, geometry=PAIRS)
    layer = (ctsa if plain else face).AKOrN(injected(face, PAIRS), rotation, gamma, identity=identity, project=project)
    x = face.array(OSCILLATORS)
    expected = akorn(OSCILLATORS, gamma, omega, identity, project)
    close(layer(x), expected)
    size = gamma / (1 + gamma) if identity else gamma
    assert float(layer.flow_step) == pytest.approx(size, rel=1e-15)
    if project:  # the Euler layer of the sum of its fields
        euler = ctsa.EulerLayer(layer.field, step=size)
        close(face.numpy(euler(x)), expected)
    sizes = layer.euler_step(x)
    stepped = PAIRS.retract(x + PAIRS.spread(sizes, layer.field(0.0, x)))
    close(face.numpy(stepped) * np.sign(face.numpy(sizes)).repeat(2, -1), expected)
    energy = -(OSCILLATORS * output(OSCILLATORS, **parameters())).sum()
    close(layer.energy(x), energy)


def test_readout_norm_does_not_see_phases(face, close):
    """|W x| an output; a rotation inside every output leaves it."""
    weight, bias = np.random.default_rng(2).normal(size=(3, 2, D)), np.array([0.1, 0.2, 0.3])
    expected = np.linalg.norm(np.einsum("msd,nd->nms", weight, X), axis=-1) + bias
    close(ctsa.readout_norm(face.array(X), weight, bias), expected)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    close(ctsa.readout_norm(face.array(X), turn @ weight, bias), expected)


# ------------------------------------------------------------------------------------------------------------ projections
@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
def test_projections_of_a_module(face, close, layout):
    """Attention with linear projections, biases and heads, computed head by head from the module's own formula."""
    r, m = np.random.default_rng(5), 3
    width = HEADS * m
    wq, wk, wv = r.normal(size=(3, width, D))
    wo, bo = r.normal(size=(D, width)), r.normal(size=D)
    bq, bk, bv = r.normal(size=(3, width))
    q, k, v = X @ wq.T + bq, X @ wk.T + bk, X @ wv.T + bv
    mixed = np.empty((N, width))
    for h in range(HEADS):
        mine = [h * m + j if layout == "contiguous" else j * HEADS + h for j in range(m)]
        s = q[:, mine] @ k[:, mine].T / np.sqrt(m)
        a = np.exp(s - s.max(-1, keepdims=True))
        mixed[:, mine] = a / a.sum(-1, keepdims=True) @ v[:, mine]
    read = ctsa.read_projections(wq, wk, wv, wo, HEADS, query_bias=bq, value_bias=bv, output_bias=bo, layout=layout)
    field = face.SelfAttention(**read.attention) + face.Injection(read.drift)
    close(field.drift(0.0, face.array(X)), mixed @ wo.T + bo)
    biases = dict(query_bias=bq, value_bias=bv, output_bias=bo)
    read = ctsa.read_projections(wq, wk, wv, wo, HEADS, **biases, layout=layout, scale=1.7)
    unit = face.SelfAttention(**read.attention) + face.Injection(read.drift)
    close(unit.drift(0.0, face.array(X / 1.7)), (mixed @ wo.T + bo) / 1.7)


# -------------------------------------------------------------------------------- derivatives, parity, learning, analyses
def every_layer(face):
    """One layer of each kind, with a state on its geometry."""
    field, oscillators = injected(face), injected(face, PAIRS)
    rotation = face.Rotation(frequencies=OMEGA, geometry=PAIRS)
    flat = face.EnergyAttention(
        beta=1.1, memory=np.random.default_rng(0).normal(size=(3, D)), geometry=ctsa.Euclidean()
    )
    with pytest.warns(UserWarning, match="no flow"):
        vector = face.ItrSA(field, gamma=np.array([0.3, 0.5, 0.8, 0.1]))
    return {
        "euler": (face.EulerLayer(field, 0.3), X),
        "exp": (face.EulerLayer(field, 0.3, retraction="exp"), X),
        "exp of oscillators": (face.EulerLayer(oscillators, 0.2, retraction="exp"), OSCILLATORS),
        "post-norm": (face.PostNormLayer(field, 0.3), X),
        "midpoint": (face.RungeKuttaLayer(field, 0.2, "midpoint"), X),
        "rk4": (face.RungeKuttaLayer(oscillators + rotation, 0.2, "rk4"), OSCILLATORS),
        "itrsa": (face.ItrSA(field, 0.8, 0.5), X),
        "itrsa vector": (vector, X),
        "akorn": (face.AKOrN(oscillators, rotation, 0.4), OSCILLATORS),
        "akorn identity": (face.AKOrN(oscillators, None, 0.4, identity=True, project=False), OSCILLATORS),
        "energy": (face.EulerLayer(flat, 0.1), X),
        "peri": (face.EulerLayer(face.SpeedRegulated(face.SelfAttention(**parameters()), "peri"), 0.2), 1.5 * X),
    }


KINDS = list(every_layer(ctsa.torch))
FEW = KINDS[::3]  # of those that JAX compiles one by one


@pytest.mark.parametrize(
    ("face", "kind"),
    sample([(name, kind) for name in ("torch", "jax") for kind in KINDS],
           lambda name, kind: name == "torch" or kind in FEW),
    indirect=["face"],
)
def test_closed_form_tangents_equal_forward_derivatives(face, close, kind):
    layer, x0 = every_layer(face)[kind]
    x = face.array(x0)
    u = face.array(np.random.default_rng(8).normal(size=(3, N, D)))
    ways = as_one(face, lambda x, u: (layer.tangent(x, u), ctsa.derivatives.jvp_batched(layer.update, x, u)))
    for found, auto in zip(*ways(x, u), strict=True):
        close(found, face.numpy(auto))


@pytest.mark.parametrize("kind", KINDS)
def test_torch_against_jax(torch_face, jax_face, close, kind):
    ends = []
    for face in (torch_face, jax_face):
        layer, x0 = every_layer(face)[kind]
        ends.append(face.numpy(ctsa.iterate(layer, x0, depth=6).xs))
    close(*ends)


@pytest.mark.parametrize("kind", ["post-norm", "itrsa", "akorn"])
def test_the_step_learns(face, kind):
    """The derivative of a readout with respect to the step equals a difference quotient."""
    layer, x0 = every_layer(face)[kind]
    x, h, eps = face.array(x0), 0.4, 1e-6

    def value(step):
        inner = layer.field if kind == "post-norm" else layer.attention if kind == "itrsa" else layer.coupling
        rest = dict(gamma=0.5) if kind == "itrsa" else dict(rotation=layer.rotation) if kind == "akorn" else {}
        return getattr(face, type(layer).__name__)(inner, step=step, **rest)

    def readout(made):
        return made(x)[..., 0].sum()

    if face.name == "torch":
        made = value(h)
        readout(made).backward()
        slope, read = float(made.step.grad), readout
    else:
        both = jax.jit(jax.value_and_grad(readout))
        slope, read = float(both(value(h))[1].step), lambda made: both(made)[0]
    quotient = (float(read(value(h + eps))) - float(read(value(h - eps)))) / (2 * eps)
    assert slope == pytest.approx(quotient, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("face", "kind"),
    sample([(name, kind) for name in ("torch", "jax") for kind in ("post-norm", "itrsa", "itrsa vector", "akorn", "rk4")],
           lambda name, kind: kind == "akorn" if name == "jax" else kind not in ("itrsa vector", "rk4")),
    indirect=["face"],
)
def test_a_layer_serves_every_analysis(face, kind):
    """One interval of the spectrum sums to log |det| of the tangent Jacobian."""
    layer, x0 = every_layer(face)[kind]
    spec = ctsa.lyapunov_spectrum(layer, x0, intervals=1, interval=1, transient=0)
    j = face.numpy(ctsa.jacobian(layer, x0, basis="tangent"))
    assert spec.exponents.sum() == pytest.approx(np.linalg.slogdet(j)[1], abs=1e-10)


def test_plain_layers_are_pytrees(jax_face, close):
    layer, x0 = every_layer(jax_face)["akorn"]
    plain = ctsa.AKOrN(layer.coupling, layer.rotation, 0.4)
    close(jax.jit(lambda made, x: made(x))(plain, x0), np.asarray(layer(jax_face.array(x0))))


# ----------------------------------------------------------------------------------------------------- rk and exp layers
@mainly("torch")  # of the layer see test_torch_against_jax
@pytest.mark.parametrize("method", sample(["midpoint", "rk4"], lambda method: method == "rk4"))
def test_runge_kutta_layers_are_the_fixed_step_solvers(face, close, method):
    field = injected(face)
    path = ctsa.iterate(face.RungeKuttaLayer(field, 0.1, method), X, depth=5)
    flow = ctsa.integrate(field, X, 0.1 * np.arange(6), solver=method, step=0.1)
    close(face.numpy(path.xs), face.numpy(flow.xs), 1e-13)


@settings(max_examples=10)
@given(st.floats(0.01, 1.5))
def test_exp_moves_by_the_speed(step):
    field = ctsa.torch.Rotation(frequencies=[1.0, 1.0])
    x = torch.tensor(X)
    moved = ctsa.EulerLayer(field, step, retraction="exp")(x)
    angle = ctsa.Sphere().distance(x, moved)
    assert torch.allclose(angle, torch.full((N,), step, dtype=torch.float64), rtol=0, atol=1e-14)


def test_exp_as_an_euler_step(face, close):
    """exp_x(h v) = N(x + tan(h |v|) v / |v|)."""
    layer, x = face.EulerLayer(injected(face), 0.1, retraction="exp"), face.array(X)
    own, v = layer.geometry, layer.field(0.0, x)
    close(own.retract(x + own.spread(layer.euler_step(x), v)), face.numpy(layer(x)))
    with pytest.raises(ValueError, match="right angle"):
        face.EulerLayer(injected(face), 9.0, retraction="exp").euler_step(x)


# ---------------------------------------------------------------------------------------------------------- sequences
def test_a_sequence_of_layers_is_passed_through(face, close):
    layers = [face.PostNormLayer(injected(face, seed=i), 0.2) for i in range(4)]
    path = ctsa.iterate(layers, X, every=2)
    x = face.array(X)
    for layer in layers:
        x = layer(x)
    close(path.xs[-1], face.numpy(x))
    assert path.xs.shape[0] == 3
    short = ctsa.iterate(layers, X, depth=1)
    close(short.xs[-1], face.numpy(layers[0](face.array(X))))


# ------------------------------------------------------------------------------------------------------------- bad input
def test_bad_input(face):
    field, flat = injected(face), face.Oja(np.eye(D), geometry=ctsa.Euclidean())
    pairs = injected(face, PAIRS)
    turn = face.Rotation(frequencies=OMEGA, geometry=PAIRS)
    cases = [
        (ValueError, "step must be positive", lambda: face.PostNormLayer(field, step=0.0)),
        (ValueError, "retraction must be one of", lambda: face.EulerLayer(field, 0.1, retraction="cayley")),
        (ValueError, "method must be one of", lambda: face.RungeKuttaLayer(field, 0.1, "rk5")),
        (TypeError, "field must be callable", lambda: face.PostNormLayer(3.0)),
        (TypeError, "which has a drift", lambda: face.ItrSA(lambda t, x: -x)),
        (TypeError, "which has a drift", lambda: face.ItrSA(flat)),
        (ValueError, "gamma must not have zeros", lambda: face.ItrSA(field, gamma=[1.0, 0.0, 1.0, 1.0])),
        (TypeError, "gamma must be a number", lambda: face.ItrSA(field, gamma=None)),
        (ValueError, "needs d", lambda: face.ItrSA(face.SelfAttention(), gamma=0.5, convention="rms")),
        (ValueError, "dimensions differ", lambda: face.ItrSA(field, gamma=[0.1, 0.2, 0.3])),
        (ValueError, "dimensions differ", lambda: face.ItrSA(field, gamma=0.1, convention="rms", d=D + 1)),
        (ValueError, "4 components, but rotation for 6", lambda: face.AKOrN(pairs, turn_of(face, [1.0, 2.0, 3.0]))),
        (ValueError, "convention must be one of", lambda: face.ItrSA(field, convention="torch")),
        (ValueError, "must live on ctsa.Sphere", lambda: face.AKOrN(flat)),
        (TypeError, "coupling must be a field", lambda: face.AKOrN(lambda t, x: x)),
        (ValueError, "rotation lives on", lambda: face.AKOrN(pairs, face.Rotation(frequencies=OMEGA))),
        (ValueError, "leave rotation out", lambda: face.AKOrN(pairs, turn, identity=True)),
        (ValueError, "depth=5, but there are 2", lambda: ctsa.iterate([face.PostNormLayer(field)] * 2, X, depth=5)),
        (TypeError, "makes a layer of it", lambda: ctsa.iterate(field, X, depth=1)),
        (TypeError, "makes a layer of it", lambda: ctsa.iterate([field], X)),
        (TypeError, "an empty sequence", lambda: ctsa.iterate([], X)),
        (TypeError, "depth must be an integer", lambda: ctsa.iterate(face.PostNormLayer(field), X)),
        (ValueError, "weight must be 3-dimensional", lambda: ctsa.readout_norm(face.array(X), np.ones((2, 3)))),
        (ValueError, "does not divide", lambda: ctsa.read_projections(*np.ones((4, 6, 6)), heads=4)),
        (ValueError, "must have shape", lambda: ctsa.read_projections(*np.ones((3, 6, 4)), np.ones((6, 4)), heads=2)),
    ]
    for error, words, call in cases:
        with pytest.raises(error, match=words):
            call()
    with pytest.raises(ValueError, match="field's gain has shape"):
        ctsa.iterate(face.PostNormLayer(field.rescaled(np.ones(3))), X, depth=1)


def test_layers_of_the_other_framework_are_refused(torch_face, jax_face):
    with pytest.raises(TypeError, match="use the PostNormLayer of ctsa.jax"):
        torch_face.PostNormLayer(jax_face.SelfAttention())


def test_sizes_are_checked_before_anything_runs(face):
    # Parts of a layer count as much as the field of an Euler layer does; without this the error is the framework's own.
    free = face.SelfAttention(geometry=PAIRS)
    wide = ctsa.random_tokens(N, 6, channels=2)
    for kind in (face, ctsa):
        oscillating = kind.AKOrN(free, turn_of(face, OMEGA))
        with pytest.warns(UserWarning, match="no flow"):
            gained = kind.ItrSA(face.SelfAttention(), gamma=[0.1, 0.2, 0.3, 0.4])
        for layer, name in ((oscillating, "frequencies"), (gained, "gamma"), ([gained, gained], "gamma")):
            for run in (
                lambda layer=layer: ctsa.iterate(layer, wide, 2, normalize=True),
                lambda layer=layer: ctsa.lyapunov_spectrum(layer, wide, intervals=2, interval=1, normalize=True),
            ):
                with pytest.raises(ValueError, match=rf"dimension d=6, but the field's {name}"):
                    run()


def test_a_layer_without_flow_takes_numpy(face, close):
    # Framework and dtype are those of its attention, in a plain layer too.
    gamma = np.linspace(0.2, 0.8, D)
    with pytest.warns(UserWarning, match="no flow"):
        plain, own = ctsa.ItrSA(injected(face), gamma=gamma), face.ItrSA(injected(face), gamma=gamma)
    close(ctsa.jacobian(plain, X), ctsa.jacobian(own, X))


def test_rms_finds_the_dimension(face, close):
    x = face.array(X)
    told = face.ItrSA(injected(face), gamma=0.5, convention="rms", d=D)
    close(face.ItrSA(injected(face), gamma=0.5, convention="rms")(x), told(x))
    listed = np.linspace(0.2, 0.8, D)
    with pytest.warns(UserWarning, match="no flow"):
        a, b = (face.ItrSA(injected(face), gamma=g, convention="rms") for g in (listed, listed.tolist()))
    close(a(x), b(x))
