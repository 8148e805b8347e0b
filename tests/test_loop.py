"""Loops: states of several parts, inputs and the number of the loop, in both frameworks."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from loop_models import DiagonalInjection, Regularised, Sandwich, TwoStates, seeded
from sampling import sample

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.geometry import Product
from ctsa.layers.packing import packing_of

B, N, D = 3, 4, 16
RNG = np.random.default_rng(0)
E = RNG.normal(size=(B, N, D))
SHAPES = {"z_H": (N, D), "z_L": (N, D)}


def step_of(xp):
    """A step with all that there is: two parts of different dimension, inputs, and the number of the loop."""

    def step(state, inputs, k):
        low = xp.tanh(0.9 * state["low"] + state["high"].mean(-1)[:, None, None] + inputs["e"] + 0.01 * k)
        return {"low": low, "high": 0.5 * state["high"] + 0.1 * low[:, :2, 0]}

    return step


@pytest.fixture
def loops(torch_face, jax_face):
    e = RNG.normal(size=(B, 4, 3))

    def of(geometry=None, k=None):
        return [
            face.Loop(
                step_of(xp), {"e": face.array(e)}, parts={"low": (4, 3), "high": (2,)}, geometry=geometry, k=k,
            )
            for face, xp in ((torch_face, torch), (jax_face, jnp))
        ]  # fmt: skip

    return of


STATE = {"low": RNG.normal(size=(B, 4, 3)), "high": RNG.normal(size=(B, 2))}


@pytest.mark.parametrize("geometry", sample([None, {"low": ctsa.Sphere()}], lambda geometry: geometry is not None))
def test_frameworks_agree(loops, torch_face, jax_face, geometry, close):
    found = []
    for face, loop in zip((torch_face, jax_face), loops(geometry)):
        state = {name: face.array(a) for name, a in STATE.items()}
        x = loop.pack(state)
        assert tuple(x.shape) == (B, 1, 14)
        path = ctsa.iterate(loop, state, 5)
        spectrum = ctsa.lyapunov_spectrum(loop.layers(10), state, intervals=8, transient=2, count=3)
        one = loop.at(2).members(1)
        values = ctsa.eigenvalues(one, x[1])
        leading = ctsa.leading(one, x[1], 2, which="singular").values
        found.append([face.numpy(path.xs[-1]), spectrum.exponents, values, leading])
    for a, b in zip(*found):
        close(a, b, 1e-12)


def test_what_a_loop_does_is_what_its_step_does(loops, torch_face, close):
    loop, _ = loops()
    state = {name: torch.as_tensor(a) for name, a in STATE.items()}
    path = ctsa.iterate(loop, state, 4)
    for k in range(4):
        state = step_of(torch)(state, loop.inputs, k)
    end = loop.unpack(path.xs[-1])
    for name, a in state.items():
        close(end[name], a, 1e-15)
    along = loop.unpack(path.xs)  # all states of a run at once
    assert tuple(along["low"].shape) == (5, B, 4, 3) and tuple(along["high"].shape) == (5, B, 2)


def test_jacobian_between_parts(loops, close):
    """The off-diagonal blocks are the derivatives of one part by another, from difference quotients."""
    loop = loops(k=1)[0].members(0)
    x = loop.pack({name: torch.as_tensor(a[0]) for name, a in STATE.items()})
    j = ctsa.jacobian(loop, x).detach().numpy()
    eps, unit = 1e-6, np.eye(14)
    quotient = [(loop(x + eps * torch.as_tensor(u)) - loop(x - eps * torch.as_tensor(u))) / (2 * eps) for u in unit]
    close(j, torch.stack(quotient).reshape(14, 14).T, 1e-8)
    assert np.abs(j[:12, 12:]).max() > 0.1 and np.abs(j[12:, :12]).max() > 0.01


def test_parts_of_one_kind_lie_below_each_other():
    packing = packing_of(SHAPES, ctsa.Sphere(), None or 2.0)
    x = ctsa.random_tokens(2 * N, D, batch=B)
    state = packing.take(x)
    assert np.allclose(np.linalg.norm(state["z_L"], axis=-1), 2.0) and packing.geometry == ctsa.Sphere()
    assert np.abs(packing.put(state) - x).max() < 1e-15


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4), st.integers(0, 2))
def test_packing_and_unpacking(shapes, batch):
    packing = packing_of([tuple(s) for s in shapes], None, 1.0)
    state = tuple(np.random.default_rng(0).normal(size=(*[2] * batch, *s)) for s in shapes)
    back = packing.take(packing.put(state))
    assert all(np.array_equal(a, b) for a, b in zip(state, back, strict=True))


def test_product_of_manifolds(close):
    g = Product(((3, 4), (2,), (4,)), (ctsa.Sphere(), ctsa.Euclidean(), ctsa.Sphere(channels=2)))
    rng = np.random.default_rng(0)
    x = g.random(1, 18, rng, (2,))
    v = rng.normal(size=x.shape)
    assert g.dimension(1, 18) == 9 + 2 + 2 and not g.closed
    close(g.retract(3.0 * x)[..., :12], x[..., :12])
    e = g.basis(x)
    assert e.shape == (2, 1, 18, 13)
    close(e.mT @ e, np.eye(13) + 0 * (e.mT @ e))
    close(e @ (e.mT @ g.project(x, v)[..., None]), g.project(x, v)[..., None])
    eps, u = 1e-6, g.project(x, v)[None]
    close(g.retract_tangent(x, u)[0], (g.retract(x + eps * u[0]) - g.retract(x - eps * u[0])) / (2 * eps), 1e-9)
    y, dy = rng.normal(size=x.shape), 0 * u
    slope = (g.project(x + eps * u[0], y) - g.project(x - eps * u[0], y)) / (2 * eps)
    close(g.project_tangent(x, u, y, dy)[0], slope, 1e-8)


def test_members_and_inputs(loops, close):
    loop = loops(k=0)[0]
    x = loop.pack({name: torch.as_tensor(a) for name, a in STATE.items()})
    close(loop.members(1)(x[1]), loop(x)[1])
    close(loop.members([2, 0])(x[[2, 0]]), loop(x)[[2, 0]])
    many = torch.stack([x, 2 * x])  # further leading axes share the inputs
    close(loop(many)[1], loop(2 * x))
    shared = loop.with_inputs({"e": loop.inputs["e"][0]}, batched=False)
    close(shared(x)[0], loop(x)[0])
    close(shared(x[1]), shared(x)[1])


def test_gradients_reach_step_and_inputs(torch_face):
    model, e = seeded(Sandwich), torch.tensor(E, requires_grad=True)
    loop = ctsa.torch.Loop(model, e)
    x = torch.zeros(B, N, D, dtype=torch.float64)
    for _ in range(2):
        x = loop(x)
    x.square().sum().backward()
    assert e.grad.abs().sum() > 0 and model.adapter.weight.grad.abs().sum() > 0
    assert len(list(loop.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_published_models_run_unchanged(dtype, close):
    e = torch.as_tensor(E, dtype=dtype)
    sandwich, two, diagonal, plain = (
        seeded(kind, dtype=dtype) for kind in (Sandwich, TwoStates, DiagonalInjection, Regularised)
    )
    zero = torch.zeros(B, N, D, dtype=dtype)
    tol = 1e-12 if dtype == torch.float64 else 1e-4
    cases = [
        (ctsa.torch.Loop(sandwich, e), zero, lambda x, k: sandwich(x, e)),
        (ctsa.torch.Loop(two, e, parts=SHAPES), {"z_H": zero + 0.1, "z_L": zero - 0.1}, lambda x, k: two(x, e)),
        (ctsa.torch.Loop(diagonal, e), zero, lambda x, k: diagonal(x, e, k)),
        (ctsa.torch.Loop(plain), e, lambda x, k: plain(x)),
    ]
    for loop, start, model in cases:
        path = ctsa.iterate(loop, start, 4)
        with torch.no_grad():
            state = start
            for k in range(4):
                state = model(state, k)
        close(path.xs[-1], loop.pack(state), tol)
        system = loop.layers(8) if loop.counts else loop
        spectrum = ctsa.lyapunov_spectrum(system, start, intervals=8, transient=0, count=2)
        assert np.isfinite(spectrum.exponents).all()


def test_tokens_on_the_sphere_with_a_scale(close):
    """A block that ends in RMSNorm, on the sphere: the module in the coordinates x / sqrt(d)."""
    two = seeded(TwoStates)
    loop = ctsa.torch.Loop(two, torch.as_tensor(E), parts=SHAPES, geometry=ctsa.Sphere(), scale=D**0.5)
    start = {name: torch.as_tensor(RNG.normal(size=(B, N, D))) for name in SHAPES}
    start = loop.unpack(loop.pack(start))
    with torch.no_grad():
        y = two(start, torch.as_tensor(E))
        end = loop.unpack(loop(loop.pack(start)))
    for name in SHAPES:
        close(end[name], y[name], 1e-5)  # RMSNorm's eps shortens tokens by 5e-7


def test_half_precision():
    model = seeded(Sandwich, dtype=torch.bfloat16)
    loop = ctsa.torch.Loop(model, torch.as_tensor(E, dtype=torch.float32))
    x = torch.zeros(B, N, D)
    assert loop(x).dtype == torch.float32
    assert np.isfinite(ctsa.lyapunov_spectrum(loop, x, intervals=8, transient=0, count=1).exponents).all()


def test_a_compiled_loop_is_compiled_once(jax_face):
    traces = []

    def step(state, inputs, k):
        traces.append(k)
        return jnp.tanh(state + inputs + k)

    loop = ctsa.jax.Loop(step, jax_face.array(E))
    layers = loop.layers(8)
    ctsa.lyapunov_spectrum(layers, jax_face.array(0 * E), intervals=6, transient=0, count=1)
    before = len(traces)
    ctsa.lyapunov_spectrum(loop.layers(16), jax_face.array(0 * E), intervals=6, transient=6, count=1)
    assert len(traces) == before


def test_identity_of_a_run_knows_inputs(tmp_path, torch_face):
    def spectrum(e, **options):
        loop = ctsa.torch.Loop(seeded(Sandwich), torch.as_tensor(e))
        return ctsa.lyapunov_spectrum(
            loop, torch.zeros(B, N, D, dtype=torch.float64), intervals=4, transient=0, count=1, **options
        )

    first = spectrum(E)
    assert len(spectrum(E, resume=first).history) == 8
    with pytest.raises(ValueError, match="resume"):
        spectrum(2 * E, resume=first)


# ------------------------------------------------------------------------------------------------------------ bad input
X = torch.zeros(B, N, D, dtype=torch.float64)


@pytest.mark.parametrize(("make", "what"), [
    (lambda: ctsa.Loop(3), "step must be callable"),
    (lambda: ctsa.Loop(lambda: 0), "takes 0 arguments"),
    (lambda: ctsa.Loop(lambda a, b, c, d: a), "takes 4 arguments"),
    (lambda: ctsa.Loop(lambda x: x, E), "inputs are given, but step takes the state only"),
    (lambda: ctsa.Loop(lambda x: x, readout=3), "readout must be callable"),
    (lambda: ctsa.Loop(lambda x: x, parts={}), "at least one part"),
    (lambda: ctsa.Loop(lambda x: x, parts={"a": "b"}), "a must be a shape"),
    (lambda: ctsa.Loop(lambda x: x, parts={"a": (0,)}), "of at least 1"),
    (lambda: ctsa.Loop(lambda x: x, parts={"a": ()}), "at least one axis"),
    (lambda: ctsa.Loop(lambda x: x, parts={3: (2,)}), "must be strings"),
    (lambda: ctsa.Loop(lambda x: x, parts={"a": (2,)}, geometry={"b": ctsa.Sphere()}), "names 'b', which is no part"),
    (lambda: ctsa.Loop(lambda x: x, parts=((2,), (3,)), geometry=(ctsa.Sphere(),)), "each of the 2 parts"),
    (lambda: ctsa.Loop(lambda x: x, parts={"a": (1,)}, geometry=ctsa.Sphere()), "cannot move"),
    (lambda: ctsa.Loop(lambda x: x, geometry="sphere"), "geometry must be"),
    (lambda: ctsa.Loop(lambda x: x, scale=2.0), "leave it at 1"),
    (lambda: ctsa.Loop(lambda x: x, scale=-1.0, geometry=ctsa.Sphere()), "scale must be"),
    (lambda: ctsa.Loop(lambda x: x, k=-1), "k must be"),
    (lambda: ctsa.Loop(lambda x: x, batched="yes"), "batched must be True or False"),
    (lambda: ctsa.Loop(lambda x, e: x, torch.zeros(2, N, D))(X), "those of 2 members, but there is 3 members"),
    (lambda: ctsa.Loop(lambda x, e: x, torch.zeros(2, N, D))(X[0]), "but there is one state"),
    (lambda: ctsa.Loop(lambda x, e, k: x, X)(X), "loop.at.k. is one of them, loop.layers.depth. all"),
    (lambda: ctsa.Loop(lambda x: None)(X), "must be an array, got NoneType"),
    (lambda: ctsa.Loop(lambda x: x[:, :1])(X), "the step must keep shape and dtype"),
    (lambda: ctsa.Loop(lambda x: x.float())(X), "the step must keep shape and dtype"),
    (lambda: ctsa.Loop(lambda s: s, parts=SHAPES).pack(X), "must be a dict of 'z_H', 'z_L'"),
    (lambda: ctsa.Loop(lambda s: s, parts=SHAPES).pack({"z_H": X}), "got a dict of 'z_H'"),
    (lambda: ctsa.Loop(lambda s: s, parts=SHAPES).pack({"z_H": X, "z_L": X[:1]}), "the same leading axes"),
    (lambda: ctsa.Loop(lambda s: s, parts=SHAPES).pack({"z_H": X, "z_L": X[..., :2]}), "must have shape"),
    (lambda: ctsa.Loop(lambda s: s["z_H"], parts=SHAPES)(torch.zeros(B, 2 * N, D)), "must be a dict of"),
    (lambda: ctsa.Loop(lambda x: x).read(X), "no readout"),
    (lambda: ctsa.lyapunov_spectrum(ctsa.Loop(lambda x, e, k: x, X), X, intervals=2), "loop.layers"),
    (lambda: ctsa.Loop(lambda x: x).layers(0), "depth must be"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make()


@pytest.fixture
def pair():
    """One member of a loop of two parts, one of them on the sphere, and a state of it."""
    rng = np.random.default_rng(3)
    mix, e = torch.as_tensor(0.3 * rng.normal(size=(3, 3))), torch.as_tensor(rng.normal(size=(2, 4, 3)))

    def step(state, inputs):
        low = torch.tanh(state["low"] @ mix + state["high"].mean(-1)[:, None, None] + inputs)
        return {"low": low, "high": 0.5 * state["high"] + 0.1 * low[:, :2, 0]}

    loop = ctsa.Loop(step, e, parts={"low": (4, 3), "high": (2,)}, geometry={"low": ctsa.Sphere()})
    state = {"low": torch.as_tensor(rng.normal(size=(2, 4, 3))), "high": torch.zeros(2, 2).double()}
    return loop, loop.pack(state)


def test_everything_takes_a_loop(pair):
    """Analyses of one state and of batches; members of a batch have their own inputs."""
    loop, x = pair
    one, x1 = loop.members(0), x[0]
    found = ctsa.find_fixed_points(one, 4)  # its sizes are known
    assert len(found) == 1 and found.stability[0] == "stable"
    settled = ctsa.fixed_points.settle(loop, x)
    assert settled.arrived.all() and np.allclose(settled.states[0], found.x[0], atol=1e-10)
    assert ctsa.basins(one, 6, seed=0).table()
    values = ctsa.leading(loop, x, 2, which="modulus").values
    for i in range(2):
        alone = np.sort(np.abs(ctsa.eigenvalues(loop.members(i), x[i])))[::-1]
        assert np.allclose(np.abs(values[i]), alone[:2], rtol=1e-8)
        assert ctsa.spectral_norm(loop, x)[i] == pytest.approx(ctsa.spectral_norm(loop.members(i), x[i]), rel=1e-10)
    assert np.isfinite(ctsa.contribution_index(loop, x)).all()
    assert np.isfinite(ctsa.covariant_vectors(one, x1, intervals=6, count=2).exponents).all()
    assert np.isfinite(ctsa.finite_time_exponents(one, x1, 4)).all()
    assert ctsa.monitor(one, x1, depth=3).table()
    assert ctsa.iterate(one, x1, 300, until="fixed point").stats["stopped"]
    flat = ctsa.Loop(lambda s, e: 0.5 * s + e, torch.ones(2, 3, 4, dtype=torch.float64))
    norms = ctsa.jacobian_norms(flat, torch.zeros(2, 3, 4, dtype=torch.float64))
    assert [n.norm for n in norms] == pytest.approx([0.5, 0.5])


def test_fixed_points_are_followed_in_an_input(pair):
    loop, x = pair
    one = loop.members(0)
    start = ctsa.fixed_points.settle(one, x[0]).states
    branch = ctsa.continue_equilibrium(one, start, lambda p: one.with_inputs(p * one.inputs), (1.0, 1.5), at=1.0)
    end = ctsa.fixed_points.settle(one.with_inputs(1.5 * one.inputs), torch.as_tensor(start)).states
    assert branch.parameters[-1] == pytest.approx(1.5) and np.allclose(branch.xs[-1], end, atol=1e-8)
