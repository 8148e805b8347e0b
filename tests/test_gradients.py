"""Gradients reach what they are asked for, are refused where there are none, and are nobody's trouble elsewhere."""

import copy
import inspect
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import FACES
from sampling import sample

import ctsa
import ctsa.jax as cj
import ctsa.torch as ct

X = ctsa.random_tokens(3, 4)
V = np.diag([1.0, 0.8, 0.5, 0.2])
S = ctsa.Sphere()


def tensor(a, grad=False):
    return torch.tensor(np.asarray(a), dtype=torch.float64, requires_grad=grad)


# field of face from a computed number s (2 at the point)
COMPUTED = {
    "beta": lambda face, s: face.SelfAttention(beta=s * 1.0, value=V),
    "heads": lambda face, s: face.SelfAttention(beta=1.0, value=face.stack([s * face.array(V), V])),
    "query": lambda face, s: face.SelfAttention(query=s * face.array(V)),
    "value": lambda face, s: face.SelfAttention(value=s * face.array(V)),
    "factor": lambda face, s: s * face.SelfAttention(value=V),
    "injection": lambda face, s: face.SelfAttention() + face.Injection(s * face.array(X)),
    "injection of all": lambda face, s: face.SelfAttention() + face.Injection(s * face.array(X[0])),
    "oja": lambda face, s: face.Oja(s * face.array(V)),
    "rotation": lambda face, s: face.SelfAttention(beta=2.0) + face.Rotation(frequencies=s * face.array([1.0, 0.3])),
    "rescaled": lambda face, s: face.SelfAttention(value=V).rescaled(s * 1.0),
    "perceptron": lambda face, s: face.Perceptron(s * face.array(V), face.array(V[:, ::-1].copy())),
    "energy": lambda face, s: face.EnergyAttention(query=s * face.array(V), key=V),
}


class Torch:
    array = staticmethod(tensor)

    @staticmethod
    def stack(parts):
        return torch.stack([p if isinstance(p, torch.Tensor) else tensor(p) for p in parts])

    def __getattr__(self, name):
        return getattr(ct, name)


class Jax:
    array = staticmethod(jnp.asarray)
    stack = staticmethod(lambda parts: jnp.stack([jnp.asarray(p) for p in parts]))

    def __getattr__(self, name):
        return getattr(cj, name)


def end(field, time=0.5, **options):
    return ctsa.integrate(field, X, [0.0, time], **(dict(solver="rk4", step=0.1) | options)).xs[-1][0, 0]


def slope(make, time=0.5):
    h = 1e-5
    with torch.no_grad():
        ends = [float(end(make(Torch(), tensor(2.0 + k * h)), time)) for k in (-2, -1, 1, 2)]
    return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)


@pytest.mark.parametrize("case", COMPUTED)
def test_computed_parameters_keep_their_graph(case):
    make = COMPUTED[case]
    want = slope(make)
    assert abs(want) > 1e-6
    theta = tensor(2.0, grad=True)
    for options in ({}, dict(adjoint=True)):
        (got,) = torch.autograd.grad(end(make(Torch(), theta), **options), theta)
        assert float(got) == pytest.approx(want, rel=1e-8, abs=1e-4 if options else 0)  # the adjoint's own error
    forward = torch.func.jvp(lambda s: end(make(Torch(), s)), (tensor(2.0),), (tensor(1.0),))[1]
    assert float(forward) == pytest.approx(want, rel=1e-8)


def test_computed_parameters_keep_their_graph_in_jax():
    """All cases in one field, each with a number of its own: one program instead of a dozen."""

    def value(face, numbers):
        fields = [make(face, s) for make, s in zip(COMPUTED.values(), numbers, strict=True)]
        return end(sum(fields, start=0 * face.Oja(V)), solver="euler")

    numbers = np.linspace(1.5, 2.5, len(COMPUTED))
    theta = tensor(numbers, grad=True)
    (want,) = torch.autograd.grad(value(Torch(), theta), theta)
    assert want.abs().min() > 1e-6
    assert np.asarray(jax.jit(jax.grad(lambda s: value(Jax(), s)))(numbers)) == pytest.approx(want.numpy(), rel=1e-8)


def test_a_tensor_that_requires_a_gradient_stays_itself():
    w = tensor(V, grad=True)
    field = ct.SelfAttention(value=w)
    assert field.value is w and not list(field.named_parameters())[1:] and "value" not in field.state_dict()
    end(field).backward()
    assert w.grad.abs().sum() > 0
    parameter = torch.nn.Parameter(tensor(V))
    assert ct.SelfAttention(value=parameter).value is parameter
    plain = ct.SelfAttention(value=tensor(V))
    assert isinstance(plain.value, torch.nn.Parameter) and plain.value is not V


def test_factors_that_are_parameters_are_learnt():
    factor = torch.nn.Parameter(tensor(0.7))
    field = factor * ct.SelfAttention()
    assert any(p is factor for p in field.parameters())
    end(field).backward()
    assert factor.grad.abs() > 0


def test_computed_tensors_move_along():
    theta = tensor(2.0, grad=True)
    field = (ct.SelfAttention(value=theta * tensor(V)) + ct.Injection(theta * tensor(X))).float()
    assert {a.dtype for a in (field.fields[0].value, field.fields[1].input, field.fields[0].beta)} == {torch.float32}
    field(0.0, torch.tensor(X, dtype=torch.float32)).sum().backward()
    assert theta.grad is not None
    leaf = ct.SelfAttention(value=tensor(V, grad=True))
    assert copy.deepcopy(leaf).value.requires_grad
    rebuilt = cj.from_torch(leaf)
    assert np.array_equal(rebuilt.value, V)


def test_copies_of_computed_parameters():
    theta = tensor(2.0, grad=True)
    field = ct.Oja(V) + ct.SelfAttention(beta=2 * theta)
    with pytest.raises(RuntimeError, match=r"beta of SelfAttention is computed .* SelfAttention\(beta=....detach\(\)\)"):
        copy.deepcopy(field)
    read = pickle.loads(pickle.dumps(field)).fields[1].beta  # values survive, as of any tensor; the graph does not
    assert read.item() == 4.0 and read.grad_fn is None
    shared = torch.nn.Parameter(tensor(V))
    tied = copy.deepcopy(ct.SelfAttention(value=shared) + ct.Oja(shared))
    assert tied.fields[0].value is tied.fields[1].value is not shared
    layer = ct.WrappedLayer(torch.nn.Linear(4, 4, dtype=torch.float64))
    assert torch.equal(copy.deepcopy(layer)(tensor(X)), layer(tensor(X)))


def test_lists_of_arrays_are_stacked_on_their_graph():
    theta, x = tensor(2.0, grad=True), tensor(X)
    (got,) = torch.autograd.grad(ct.SelfAttention(beta=[theta, 1.0])(0.0, x)[0, 0], theta)
    other = jax.jit(jax.grad(lambda b: cj.SelfAttention(beta=[b, 1.0])(0.0, jnp.asarray(X))[0, 0]))(2.0)
    assert float(got) == pytest.approx(float(other), rel=1e-12) and got != 0
    rows = ctsa.integrate(ct.SelfAttention(), [x[0], x[1]], [0.0, 0.1]).xs
    assert tuple(rows.shape) == (2, 2, 4)
    with pytest.raises(ValueError, match="beta is a list of arrays that do not stack"):
        ct.SelfAttention(beta=[theta, x])
    with pytest.raises(TypeError, match="arrays of one framework, got a list of .*Tensor"):
        ct.SelfAttention(beta=[theta, jnp.asarray(1.0)])


THETA = tensor(0.3, grad=True)
CUT = {  # what has no gradient, and would lose one without a word
    "scale": lambda s: ct.WrappedLayer(torch.tanh, scale=s), "plain": lambda s: ctsa.WrappedLayer(torch.tanh, scale=s),
    "step": lambda s: ctsa.integrate(ct.SelfAttention(), X, [0.0, 1.0], solver="rk4", step=s),
    "ts": lambda s: ctsa.integrate(ct.SelfAttention(), X, torch.stack([0 * s, s])),
    "list": lambda s: ctsa.integrate(ct.SelfAttention(), X, [0.0, s]),
    "atol": lambda s: ctsa.integrate(ct.SelfAttention(), X, [0.0, 1.0], atol=1e-3 * s),
    "eps": lambda s: ct.EnergyAttention(eps=s, geometry=ctsa.Euclidean()),
    "layers": lambda s: ct.SpeedRegulated(ct.SelfAttention(), "ngpt").layers(s, 2),
    "mask": lambda s: ct.SelfAttention(mask=s * torch.ones(3, 3)),
    "energy mask": lambda s: ct.EnergyAttention(mask=torch.nn.Parameter(torch.ones(3, 3))),
    "switch": lambda s: ct.SpeedRegulated(ct.SelfAttention(), "mix", switch=s),
}  # fmt: skip


@pytest.mark.parametrize("case", CUT)
def test_what_has_no_gradient_says_so(case):
    with pytest.raises(TypeError, match="requires a gradient, .*: pass .*detach"):
        CUT[case](THETA)
    if "mask" not in case:
        CUT[case](THETA.detach())


def test_numbers_are_numbers_where_nothing_is_recorded():
    with torch.no_grad():
        ctsa.integrate(ct.SelfAttention(), X, [0.0, THETA], solver="rk4", step=THETA)
    layer = ct.EulerLayer(ct.SelfAttention(), step=torch.nn.Parameter(tensor(0.1)))
    assert ctsa.compare(layer.field, X, 1.0, step_sizes=[layer.step]).step_sizes.tolist() == [0.1]


def test_without_gradients_values_are_leaves():
    theta = tensor(2.0, grad=True)
    with torch.no_grad():
        assert isinstance(ct.SelfAttention(beta=2 * theta).beta, torch.nn.Parameter)


def test_embeddings_are_trained_through_a_layer():
    embedding = torch.nn.Embedding(5, 4, dtype=torch.float64)
    layer = ct.ItrSA(ct.SelfAttention() + ct.Injection(embedding(torch.tensor([0, 3, 1]))), gamma=0.5)
    ctsa.iterate(layer, X, depth=3).xs[-1].square()[0, 0].backward()
    assert (embedding.weight.grad.abs().sum(1) > 0).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("layer", ["EulerLayer", "PostNormLayer", "RungeKuttaLayer", "ItrSA", "AKOrN"])
def test_computed_steps(layer):
    theta = tensor(0.3, grad=True)
    getattr(ct, layer)(ct.SelfAttention(value=V), step=theta * 1.0)(tensor(X))[0, 0].backward()
    assert theta.grad.abs() > 0
    with pytest.raises(TypeError, match=f"step is traced or requires a gradient, but ctsa.{layer} holds plain numbers"):
        getattr(ctsa, layer)(ct.SelfAttention(value=V), step=theta * 1.0)
    with pytest.raises(TypeError, match=f"step is traced or requires a gradient, but ctsa.{layer} holds plain numbers"):
        jax.grad(lambda s: getattr(ctsa, layer)(cj.SelfAttention(value=V), step=s)(jnp.asarray(X))[0, 0])(0.3)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: ct.SelfAttention() + f, lambda f: 2.0 * (f + ct.Oja(V))])
def test_adjoint_refuses_what_it_cannot_see(wrap):
    w = tensor(V, grad=True)
    closure = lambda t, x: S.project(x, x @ w.mT)  # noqa: E731
    with pytest.raises(ValueError, match="plain callable around them"):
        ctsa.integrate(wrap(closure), tensor(X), [0.0, 0.5], adjoint=True)
    with torch.no_grad():
        ctsa.integrate(wrap(closure), tensor(X), [0.0, 0.5], adjoint=True)
    ctsa.integrate(wrap(closure), tensor(X), [0.0, 0.5]).xs[-1][0, 0].backward()
    assert w.grad.abs().sum() > 0


def test_adjoint_of_parameters_that_are_computed():
    """A tensor behind three parts of the field: the backward pass must not meet the graph of one on its way to another."""
    found = []
    for adjoint in (False, True):
        w = tensor(V, grad=True)
        w = torch.nn.Parameter(w.detach())
        field = ct.SelfAttention(value=w) + (w**2).sum() * ct.Injection(w.sum(0))
        ctsa.integrate(field, tensor(X), [0.0, 0.2, 0.5], atol=1e-11, adjoint=adjoint).xs.square().sum((1, 2))[1].backward()
        found.append(w.grad)
    torch.testing.assert_close(*found, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="Use adjoint=False, or an adaptive solver"):
        ctsa.integrate(field, tensor(X), [0.0, 0.5], "rk4", step=0.1, adjoint=True)


# ----------------------------------------------------------------------------------------------------- batches of inputs
def test_inputs_with_a_batch_axis_are_those_of_its_members(face, close):
    c = np.random.default_rng(0).normal(size=(2, 3, 4))
    x = ctsa.random_tokens(3, 4, batch=(2,))
    field = face.SelfAttention(beta=2.0) + face.Injection(c)
    run = face.numpy(ctsa.integrate(field, x, [0.0, 1.0], solver="euler", step=0.1).xs)
    u = np.random.default_rng(1).normal(size=(5, 2, 3, 4))

    def push(field, x, u):
        f = lambda x, u: field.tangent(face.array(0.0), x, u)[1]  # noqa: E731
        return face.numpy((jax.jit(f) if face.name == "jax" else f)(face.array(x), face.array(u)))

    tangent = push(field, x, u)
    spectrum = ctsa.lyapunov_spectrum(ctsa.EulerLayer(field, 0.2), x, intervals=5, transient=2, count=2)
    for i in range(2):
        one = face.SelfAttention(beta=2.0) + face.Injection(c[i])
        close(run[:, i], ctsa.integrate(one, x[i], [0.0, 1.0], solver="euler", step=0.1).xs, 1e-14)
        close(tangent[:, i], push(one, x[i], u[:, i]), 1e-13)
        frame = ctsa.lyapunov_spectrum(ctsa.EulerLayer(one, 0.2), x[i], intervals=5, transient=2, count=2).history.shape
        assert frame == spectrum.member(i).history.shape


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_inputs_of_another_batch_are_refused(face, batch):
    field = face.SelfAttention() + face.Injection(np.ones((2, 3, 4)))
    x = ctsa.random_tokens(3, 4, batch=batch)
    if batch == (2, 2):  # the last axis is the inputs'
        ctsa.integrate(field, x, [0.0, 0.1], "euler", step=0.1)
        return
    for run in (
        lambda: ctsa.integrate(field, x, [0.0, 1.0]),
        lambda: ctsa.iterate(ctsa.EulerLayer(field, 0.1), x, depth=2),
        lambda: ctsa.lyapunov_spectrum(field, x, intervals=2),
    ):
        with pytest.raises(ValueError, match=r"x0 has batch axes .*but the field's input has \(2,\)"):
            run()


def test_equilibria_are_those_of_one_input(face):
    field, x = face.SelfAttention() + face.Injection(np.ones((2, 3, 4))), ctsa.random_tokens(3, 4, batch=(2,))
    for run in (
        lambda: ctsa.find_equilibria(field, 3, 4, starts=x), lambda: ctsa.find_equilibria(field, 3, 4, starts=3),
        lambda: ctsa.basins(field, x), lambda: ctsa.classify(field, x[0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"input of shape \(2, 3, 4\), for a batch .*loop over the inputs"):
            run()
    with pytest.raises(ValueError, match=r"x has batch axes \(\), .*or take one, input\[0\]"):
        ctsa.eigenvalues(field, x[0])


# ---------------------------------------------------------------------------------------- what was learnt, and its flow
def test_a_vector_gamma_stays_one(face):
    fresh = face.ItrSA(face.SelfAttention(), gamma=np.ones(4))
    assert tuple(fresh.gamma.shape) == (4,) and not fresh.no_flow and fresh.flow_step.item() == 1.0
    assert ctsa.as_euler(fresh, X).difference < 1e-14
    with pytest.raises(ValueError, match="gamma has shape"):
        ctsa.iterate(face.ItrSA(face.SelfAttention(), gamma=np.ones(2)), X, depth=2)


def test_state_dicts_of_fresh_and_trained_layers_fit():
    def fresh():
        return ct.ItrSA(ct.SelfAttention(), gamma=np.ones(4))

    trained = fresh()
    with torch.no_grad():
        trained.gamma += 0.1 * torch.arange(4)
    other = fresh()
    other.load_state_dict(trained.state_dict())
    assert "vector" in other.no_flow and other.field is None and other.flow_step is None


def test_flows_follow_learnt_values():
    layer = ct.ItrSA(ct.SelfAttention(), gamma=0.5)
    with torch.no_grad():
        layer.gamma.fill_(-0.5)
    with pytest.raises(ValueError, match="ItrSA has no flow: gamma is negative"):
        ctsa.as_euler(layer)
    for kind in (ct.EulerLayer, ct.PostNormLayer, ct.AKOrN, ct.ItrSA):
        layer = kind(ct.SelfAttention(), step=0.1)
        assert layer.no_flow is None
        with torch.no_grad():
            layer.step.fill_(-0.1)
        assert layer.flow_step is None
        with pytest.raises(ValueError, match="has no flow: step is -0.1, and a flow's step is positive"):
            ctsa.as_euler(layer)
        with pytest.raises(ValueError, match="has no flow to compare it with: step is -0.1"):
            ctsa.compare(layer, X, duration=1.0)


@pytest.mark.filterwarnings("ignore:ItrSA has no flow")
def test_units_invert_tokens(face, close):
    u = face.array(X)
    for layer in (
        face.ItrSA(face.SelfAttention(), gamma=0.5), ctsa.ItrSA(face.SelfAttention(), gamma=[0.5, 1.0, 2.0, -1.0]),
        face.AKOrN(face.SelfAttention()),
        ctsa.EulerLayer(face.SelfAttention(), 0.1), ctsa.WrappedLayer(lambda x: x, scale=2.0),
    ):  # fmt: skip
        close(layer.units(layer.tokens(u)), u, 1e-15)
        close(layer.units(3.0 * layer.tokens(u)), u, 1e-15)


# ------------------------------------------------------------------------------------------------ removable singularities
SINGULAR = {
    "readout_norm": lambda be, z: ctsa.readout_norm(z, be.ones((2, 2, 4))),
    "order_parameter": lambda be, z: ctsa.order_parameter(be.stack([z[0] + 1, z[0] - 1])),
    "distance": lambda be, z: S.distance(z[:1] + 1, z[1:] + 1),
    "distance of antipodes": lambda be, z: S.distance(z[:1] + 1, -(z[1:] + 1)),
    "flat distance": lambda be, z: ctsa.Euclidean().distance(z[:1], z[1:]),
    "exp": lambda be, z: S.exp(be.ones((2, 4)) / 2, z),
    "effective_rank": lambda be, z: ctsa.effective_rank(z + be.ones((2, 4))),
}


@pytest.mark.parametrize("case", SINGULAR)
def test_no_nan_at_singular_points(case):
    f = SINGULAR[case]
    z = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    value = f(torch, z).sum()
    (slope,) = torch.autograd.grad(value, z)
    assert torch.isfinite(value) and torch.isfinite(slope).all()
    other = jax.jit(jax.grad(lambda z: f(jnp, z).sum()))(np.zeros((2, 4)))
    assert np.abs(np.asarray(other) - slope.numpy()).max() < 1e-12


def test_readout_norm_of_nothing_trains():
    x, w = tensor(np.zeros((2, 4)), grad=True), tensor(np.ones((3, 2, 4)), grad=True)
    ctsa.readout_norm(x, w).sum().backward()
    assert not x.grad.any() and not w.grad.any()


def test_energy_without_beta_is_refused(face):
    with pytest.raises(ValueError, match="beta = 0"):
        ctsa.energy(face.SelfAttention(beta=0.0), X)


# -------------------------------------------------------------------------------------------------- nobody asked for any
def closure():
    w = torch.nn.Parameter(tensor(V))
    return lambda t, x: S.project(x, x @ w.mT)


ANALYSES = {
    "compare": lambda f, x: ctsa.compare(f, x, 1.0, [0.5]),
    "spectrum": lambda f, x: ctsa.lyapunov_spectrum(f, x, intervals=3, transient=1),
    "eigenvalues": lambda f, x: ctsa.eigenvalues(f, x),
    "spectral_norm": lambda f, x: ctsa.spectral_norm(f, x),
    "abscissa": lambda f, x: ctsa.numerical_abscissa(f, x),
    "divergence": lambda f, x: ctsa.divergence(f, x),
    "leading": lambda f, x: ctsa.leading(f, x, 2),
    "covariant": lambda f, x: ctsa.covariant_vectors(f, x, intervals=3, transient=1, transient_back=1),
    "finite time": lambda f, x: ctsa.finite_time_exponents(f, x, 1.0),
    "gali": lambda f, x: ctsa.gali(f, x, 2, intervals=3),
    "equilibria": lambda f, x: ctsa.find_equilibria(f, 2, 4, starts=x[None, :2]),
    "classify": lambda f, x: ctsa.classify(f, x),
    "basins": lambda f, x: ctsa.basins(f, x[None], duration=2.0),
    "monitor": lambda f, x: ctsa.monitor(f, x, duration=1.0, points=2),
    "effective step": lambda f, x: ctsa.effective_step(ctsa.EulerLayer(f, 0.1), x, f),
    "clusters": lambda f, x: ctsa.clusters(f(torch.tensor(0.0), x)),
}


@pytest.mark.parametrize("case", ANALYSES)
def test_analyses_do_not_trip_over_gradients(case):
    field, x = closure(), tensor(X, grad=True)
    ANALYSES[case](field, x)
    with torch.no_grad():
        ANALYSES[case](field, x)


DIFFERENTIABLE = {
    "exponents", "jacobian", "integrate", "iterate", "pushforward", "gram", "energy", "entropy", "order_parameter",
    "effective_rank", "readout_norm", "spectral_regulariser", "pseudo_energy",
}  # fmt: skip
WITHOUT_STATE = {"random_tokens", "load", "read_projections", "main"}


def test_every_public_function_has_a_gradient_or_records_nothing():
    public = {name: f for name, f in vars(ctsa).items() if inspect.isfunction(f) and not name.startswith("_")}
    marked = {name for name, f in public.items() if getattr(f, "returns_values", False)}
    assert {*public} - marked - WITHOUT_STATE == DIFFERENTIABLE


@pytest.mark.parametrize("call", [
    lambda f, x: ctsa.pushforward(f, torch.tensor(0.0), x, torch.ones(1, 3, 4, dtype=x.dtype))[1],
    lambda f, x: ctsa.iterate(ct.EulerLayer(f, 0.1), x, 2).xs[-1, 0], lambda f, x: ctsa.energy(f, x),
    lambda f, x: ctsa.exponents(f, x, intervals=1, count=2),
    lambda f, x: ctsa.entropy(f, x), lambda f, x: ctsa.pseudo_energy(f, x), lambda f, x: ctsa.spectral_regulariser(f),
    lambda f, x: ctsa.gram(f(torch.tensor(0.0), x)), lambda f, x: ctsa.order_parameter(f(torch.tensor(0.0), x)),
    lambda f, x: ctsa.effective_rank(f(torch.tensor(0.0), x)), lambda f, x: ctsa.readout_norm(x, f.value[None]),
])  # fmt: skip
def test_differentiable_functions(call):
    w = torch.nn.Parameter(tensor(V + 0.1))
    (slope,) = torch.autograd.grad(call(ct.SelfAttention(query=w, value=w), tensor(X)).sum(), w)
    assert torch.isfinite(slope).all() and slope.abs().sum() > 0


def test_masks_are_constants_to_jax():
    mask = 1.0 - np.eye(3)
    for f in (cj.SelfAttention(mask=mask), cj.EnergyAttention(mask=mask)):
        for value in (lambda f: f(0.0, jnp.asarray(X))[0, 0], lambda f: ctsa.energy(f, jnp.asarray(X))):
            assert not np.any(eqx.filter_jit(eqx.filter_grad(value))(f).mask)


def test_fields_that_take_gradients_go_through_analyses():
    w = torch.nn.Parameter(tensor([4.0, 3.0, 2.0, 1.0]))  # E = <x, W x> / 2: down to the eigenvector of the smallest
    field = lambda t, x: S.project(x, -torch.func.grad(lambda z: 0.5 * (w * z * z).sum())(x))  # noqa: E731
    x = tensor(np.eye(4)[3:])
    assert ctsa.eigenvalues(field, x).real == pytest.approx([-1.0, -2.0, -3.0], abs=1e-12)
    frame = np.eye(4)[[2, 1, 0], None]
    spectrum = ctsa.lyapunov_spectrum(field, x, intervals=1, transient=0, frame=frame)
    assert spectrum.exponents == pytest.approx([-1.0, -2.0, -3.0], abs=1e-7)
    (slope,) = torch.autograd.grad(ctsa.integrate(field, tensor(X), [0.0, 0.5]).xs[-1, 0, 0], w)
    assert slope.abs().sum() > 0


def test_the_jacobian_keeps_its_graph():
    w = torch.nn.Parameter(tensor(V))
    ctsa.jacobian(lambda t, x: S.project(x, x @ w.mT), tensor(X)).square().sum().backward()
    assert w.grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------------------------ transforms
TRACED = {
    "jit": lambda f, x: jax.jit(lambda x: ctsa.lyapunov_spectrum(f, x, intervals=3).exponents)(x),
    "vmap": lambda f, x: jax.vmap(lambda x: ctsa.lyapunov_spectrum(f, x, intervals=3).exponents)(x[None]),
    "eigenvalues": lambda f, x: jax.jit(lambda x: ctsa.eigenvalues(f, x))(x),
    "clusters": lambda f, x: jax.vmap(ctsa.cluster_count)(x[None]),
    "parameter": lambda f, x: jax.grad(
        lambda b: ctsa.lyapunov_spectrum(cj.SelfAttention(beta=b), x, intervals=3).exponents[0]
    )(1.0),
    "keyword": lambda f, x: jax.jit(lambda x: ctsa.lyapunov_spectrum(f, x0=x, intervals=3).exponents)(x),
    "plain layer": lambda f, x: jax.grad(
        lambda b: ctsa.lyapunov_spectrum(ctsa.EulerLayer(cj.SelfAttention(beta=b), 0.1), x, intervals=3).exponents[0]
    )(1.0),
    "closure": lambda f, x: jax.grad(
        lambda b: ctsa.lyapunov_spectrum(lambda y: S.retract(y + b * f(0.0, y)), x, intervals=3).exponents[0]
    )(1.0),
    "sequence": lambda f, x: jax.grad(
        lambda b: ctsa.lyapunov_spectrum([lambda y: S.retract(y + b * f(0.0, y))] * 9, x, intervals=3).exponents[0]
    )(1.0),
    "basins": lambda f, x: jax.jit(lambda x: ctsa.basins(f, x[None]).ends)(x),
    "equilibria": lambda f, x: jax.jit(lambda x: ctsa.find_equilibria(f, 3, 4, starts=x[None])[0].x)(x),
}


@pytest.mark.parametrize("case", TRACED)
def test_transforms_of_analyses_are_refused_at_once(case):
    with pytest.raises(TypeError, match=r"^\w+ needs values, but \w+ is traced"):
        TRACED[case](cj.SelfAttention(), jnp.asarray(X))


def test_torch_transforms_of_analyses_are_refused():
    with pytest.raises(TypeError, match="eigenvalues needs values, but x is traced"):
        torch.func.vmap(lambda x: ctsa.eigenvalues(ct.SelfAttention(), x))(tensor(X)[None])


def test_integrate_under_torch_transforms():
    beta = tensor(2.0)

    def last(b, **options):
        return ctsa.integrate(ct.SelfAttention(beta=b, value=V), X, [0.0, 0.2], **options).xs[-1, 0, 0]

    fixed = dict(solver="rk4", step=0.1)
    want = slope(lambda face, s: ct.SelfAttention(beta=s, value=V), 0.2)
    assert float(torch.func.grad(lambda b: last(b, **fixed))(beta)) == pytest.approx(want, rel=1e-7)
    for solver in ("dopri5", "dopri8", "bosh3", "heun"):
        one = float(torch.func.grad(lambda b, solver=solver: last(b, solver=solver))(beta))
        other = float(torch.func.jvp(lambda b, solver=solver: last(b, solver=solver), (beta,), (torch.ones_like(beta),))[1])
        assert one == pytest.approx(want, rel=1e-6) and one == pytest.approx(other, rel=1e-13)
    with pytest.raises(TypeError, match="needs values, but they are traced"):  # an event is located by value
        torch.func.grad(lambda b: last(b, until=lambda t, y: t - 0.15 + 0 * y.sum(), **fixed))(beta)
    for options in ({}, fixed):
        with pytest.raises(TypeError, match="does not go through this transform .*for vmap pass a batch of states"):
            torch.func.vmap(lambda b, options=options: last(b, **options))(beta[None])


# ------------------------------------------------------------------------------------------------------------ float32
@pytest.mark.parametrize("name, solver", [("torch", "euler"), ("torch", "midpoint"), ("torch", "rk4"), ("jax", "euler")])
def test_fixed_steps_in_float32(name, solver, close):
    face = FACES[name]
    x, field = X.astype(np.float32), face.SelfAttention(beta=np.float32(2.0))
    options = dict(solver=solver, step=0.05)
    run = ctsa.integrate(field, x, [0.0, 1.0], **options)
    double = ctsa.integrate(ct.SelfAttention(beta=2.0), X, [0.0, 1.0], **options)
    close(face.numpy(run.xs).astype(float), double.xs.detach(), 1e-6)
    assert np.isfinite(ctsa.lyapunov_spectrum(field, x, intervals=2, transient=0, **options).history).all()
    with pytest.raises(ValueError, match="atol"):
        ctsa.integrate(field, x, [0.0, 1.0])


@pytest.mark.parametrize("name", sample(["torch", "jax"], lambda name: name == "torch"))
def test_basins_by_fixed_steps_in_float32(name):
    field = FACES[name].SelfAttention(beta=np.float32(2.0))
    found = ctsa.basins(field, X.astype(np.float32)[None], duration=1.0, rest=1e-3, solver="euler", step=0.5)
    assert sum(found.counts().values()) == 1


# ---------------------------------------------------------------------------------------------- steps, and regularisers
def test_effective_step_says_what_there_is_not(face):
    field, x = face.SelfAttention(), face.array(X)
    with pytest.raises(ValueError, match="module returned nan or inf"):
        ctsa.effective_step(lambda y: y * float("nan"), x, field)
    still = ctsa.effective_step(lambda y: y, x, field)
    assert np.isnan(still.common_residual) and "does not move" in repr(still)
    assert ctsa.effective_step(ctsa.EulerLayer(field, 1e-9), x, field).common_step == pytest.approx(1e-9, rel=1e-5)


def test_regulariser_of_modules():
    block = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dtype=torch.float64).eval()
    attention, named = block.self_attn, dict(block.named_parameters())
    weights = [*attention.in_proj_weight.chunk(3), named["self_attn.out_proj.weight"], block.linear1.weight,
               block.linear2.weight]  # fmt: skip
    biases = [a for name, a in named.items() if name.endswith("bias")]
    want = ctsa.spectral_regulariser([*weights, *biases])
    for source in (block, ct.WrappedLayer(block, batched=True), ctsa.WrappedLayer(block, batched=True)):
        assert ctsa.spectral_regulariser(source).item() == pytest.approx(want.item(), rel=1e-14)
    some = ctsa.spectral_regulariser(block, where=lambda name: name.startswith("linear1.w"))
    assert float(some) == pytest.approx(float(ctsa.spectral_regulariser([block.linear1.weight])), rel=1e-14)
    want.backward()
    assert block.linear1.weight.grad.abs().sum() > 0


def test_regulariser_of_equinox_modules():
    module = eqx.nn.MLP(3, 3, 5, 1, key=jax.random.key(0))
    arrays = [a for layer in module.layers for a in (layer.weight, layer.bias)]
    one, slopes = eqx.filter_jit(eqx.filter_value_and_grad(ctsa.spectral_regulariser))(module)
    assert float(one) == pytest.approx(float(eqx.filter_jit(ctsa.spectral_regulariser)(arrays)), rel=1e-12)
    assert np.abs(slopes.layers[0].weight).sum() > 0


def test_power_iterations_find_the_norm(face, close):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    a = np.stack([q @ np.diag([2.0, 1.0, 0.5, 0.3, 0.2, 0.1]) @ q.T, rng.normal(size=(6, 6))])
    exact = ctsa.spectral_regulariser([torch.as_tensor(a)])
    close(ctsa.spectral_regulariser([face.array(a)], iterations=200), exact, 1e-10)
    close(ctsa.spectral_regulariser([face.array(a)[:1]], iterations=8), 9.0, 1e-3)


@pytest.mark.parametrize("source, error, match", [
    ([torch.full((2, 2), torch.nan)], ValueError, "nan or inf"), (3.0, TypeError, "source must"),
    (["a"], TypeError, "arrays"),
    ([], ValueError, "nothing to regularise"), (torch.nn.ReLU(), ValueError, "nothing to regularise"),
])  # fmt: skip
def test_regulariser_of_something_else(source, error, match):
    with pytest.raises(error, match=match):
        ctsa.spectral_regulariser(source)
