"""The tangent march: one adaptive loop in carried bases, against the general way, exact rates, and itself."""

import itertools

import numpy as np
import pytest
import torch
from sampling import mainly, sample

import ctsa
import ctsa.torch as torch_face
from ctsa.attention import WEIGHTS
from ctsa.geometry import direction_generator
from ctsa.tangent import march as marching
from ctsa.tangent.coordinates import Carried, Directions

FLAT = ctsa.Euclidean()
ON_CPU = torch.get_default_device().type == "cpu"


def spectrum(field, x0, **options):
    return ctsa.lyapunov_spectrum(field, x0, **{"intervals": 4, "transient": 0, "progress": False, **options})


def random_field(face, seed: int, dtype="float64"):
    """Draw a field: weights, mask, heads, width, geometry, additional terms; and a state."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 6)), int(2 * rng.integers(1, 3)) + int(seed % 5 == 0)
    geometry = [ctsa.Sphere(), ctsa.Sphere(), FLAT, ctsa.Sphere(channels=2) if d % 2 == 0 else ctsa.Sphere()][seed % 4]
    heads = (2,) if rng.random() < 0.4 else ()
    weights = sorted(set(WEIGHTS) - {"hardmax"})[seed % (len(WEIGHTS) - 1)]
    m = int(rng.integers(1, d + 1))

    def draw(*shape, size=1.0):
        return (size * rng.normal(size=shape) / d**0.5).astype(dtype)

    mask = None
    if rng.random() < 0.3 and weights != "sinkhorn":
        mask = "causal" if rng.random() < 0.5 else (0.2 + rng.random(size=(n, n))).astype(dtype)
    field = face.SelfAttention(
        draw(*heads, m, d), draw(m, d) if rng.random() < 0.7 or m != d else None, draw(*heads, d, d),
        beta=np.asarray(rng.uniform(0.5, 2), dtype), weights=weights, mask=mask, geometry=geometry,
        key_field=draw(d) if rng.random() < 0.3 else None,
    )  # fmt: skip
    if geometry.flat:
        field = field + face.Perceptron(-np.eye(d, dtype=dtype), np.eye(d, dtype=dtype), geometry=geometry) * 3.0
    if rng.random() < 0.6:
        w = draw(n, d, d, size=2.0)
        field = field + face.Rotation((w - np.swapaxes(w, 1, 2)) / 2, geometry=geometry)
    if rng.random() < 0.3:
        field = 0.5 * (field + face.Injection(draw(n, d), geometry=geometry))
    x0 = geometry.random(n, d, rng).astype(dtype)
    return field, x0


@pytest.fixture
def general(monkeypatch):
    """Have every march go the general way: pieces that a library's solver integrates."""
    from ctsa._backend import load

    def use(name):
        monkeypatch.setattr(load(name), "marches", lambda solver: False)

    return use


# Of a hundred fields those in which weights and geometries meet all masks, heads, widths and additional terms.
FIELDS = (0, 6, 7, 12, 15, 25, 40, 44, 46, 47, 48, 50, 51, 53, 56, 58, 61, 70, 71, 79, 83, 94, 95)


@pytest.mark.parametrize("seed", sample(range(100), lambda seed: seed in FIELDS))
def test_agrees_with_the_general_way(seed, monkeypatch, general):
    field, x0 = random_field(torch_face, seed)
    settings = dict(atol=1e-8, intervals=2, interval=0.1)
    fast = spectrum(field, x0, **settings)
    monkeypatch.setattr(marching, "plain", lambda thing: None)
    same = spectrum(field, x0, **settings)
    general("torch")
    slow = spectrum(field, x0, **settings)
    assert np.abs(fast.history - slow.history).max() < 1e-5
    assert np.abs(fast.x - slow.x).max() < 1e-6
    assert np.abs(fast.history - same.history).max() < 1e-9 and np.abs(fast.frame - same.frame).max() < 1e-9


@pytest.mark.parametrize("seed", sample([0, 1, 3, 6, 9], lambda seed: seed < 9))  # 9 has the weights of 3
def test_frameworks_agree(seed, jax_face, torch_face):
    a, b = (spectrum(*random_field(face, seed), atol=1e-8, intervals=2, interval=0.3) for face in (torch_face, jax_face))
    assert np.abs(a.history - b.history).max() < 1e-10 and np.abs(a.x - b.x).max() < 1e-11
    assert np.abs(a.frame - b.frame).max() < 1e-9 and np.allclose(a.step, b.step, rtol=1e-6)


def test_frameworks_agree_for_long(jax_face, torch_face, monkeypatch):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 3, 3))
    x0 = ctsa.random_tokens(5, 3, seed=1)

    def run(face):  # tokens meet in two clusters that turn: not chaotic
        field = face.SelfAttention(beta=3.0, value=np.diag([1.0, 0.8, 0.3])) + face.Rotation(0.2 * (w - w.swapaxes(1, 2)))
        return spectrum(field, x0, atol=1e-6, intervals=50).history

    numpy, jax = run(torch_face), run(jax_face)
    monkeypatch.setattr(marching, "plain", lambda thing: None)
    torch = run(torch_face)
    assert np.abs(numpy - jax).max() < 1e-9 and np.abs(numpy - torch).max() < 1e-9


@pytest.mark.parametrize(("tol", "scale"), sample(
    itertools.product([1e-3, 1e-6, 1e-8], [1.0, 4.0, 16.0]), lambda *case: case in {(1e-3, 16.0), (1e-6, 4.0), (1e-8, 1.0)}
))  # fmt: skip
def test_errors_are_those_of_the_tolerance(tol, scale):
    # At consensus on an eigenvector all rates are known: 0, and -V.
    x0 = np.ones((4, 1)) * [[0.0, 1.0, 0.0]]
    field = torch_face.SelfAttention(beta=2.0, value=scale * np.eye(3))
    found = spectrum(field, x0, atol=tol, intervals=10, transient=20).exponents
    exact = np.repeat([0.0, -scale], [2, 6])
    assert np.abs(found - exact).max() < 4 * tol * scale


@mainly("jax")
def test_what_shrinks_beside_what_grows_is_seen(face):
    # Off-diagonal entries hide a contraction in the lengths of the directions: x' = M x with rates 1 and -20.
    m = np.array([[1.0, 50.0], [0.0, -20.0]])

    def field(t, x):
        return x @ face.array(m.T)

    found = spectrum(field, face.array([[0.0, 0.0]]), geometry=FLAT, atol=1e-8, intervals=6, transient=6)
    assert np.abs(found.exponents - [1.0, -20.0]).max() < 1e-5


@mainly("torch")
def test_a_burst_between_two_looks(face):
    # A rate of -60 within a tenth of a unit, and none around it: no look at the rate before sees it coming.
    be = ctsa._backend.backend(face.array([0.0]))

    def field(t, x):
        pull = 60.0 * be.xp.exp(-(((t % 1.0) - 0.5) ** 2) * 1000.0)
        return be.xp.stack([x[..., 1] * 0 - 0.1 * x[..., 0], -pull * x[..., 1] + 5.0 * x[..., 0]], -1)

    found = spectrum(field, face.array([[1.0, 0.5]]), geometry=FLAT, atol=1e-8, intervals=3, transient=4)
    total = 60.0 * (np.pi / 1000.0) ** 0.5  # the Gauss integral
    assert np.abs(np.sort(found.exponents) - [-total, -0.1]).max() < 1e-5


@mainly("torch")
def test_the_interval_does_not_matter(face):
    field, x0 = random_field(face, 2)
    whole, halves = (
        spectrum(field, x0, solver="dopri8", atol=1e-12, intervals=4 * k, interval=1.0 / k) for k in (1, 2)
    )
    assert np.abs(whole.history - halves.history.reshape(4, 2, -1).mean(1)).max() < 1e-9


@pytest.mark.parametrize(
    ("face", "solver"),
    sample(itertools.product(["torch", "jax"], ["dopri5", "dopri8", "bosh3", "heun"]),
           lambda face, solver: face == "torch" or solver in ("dopri8", "heun")),
    indirect=["face"],
)
def test_solvers(face, torch_face, solver):
    fine = spectrum(*random_field(torch_face, 1), atol=1e-11, solver="dopri8", intervals=2)
    found = spectrum(*random_field(face, 1), atol=1e-6 if solver == "heun" else 1e-7, solver=solver, intervals=2)
    assert np.abs(found.history - fine.history).max() < (1e-4 if solver in ("heun", "bosh3") else 1e-5)


def members(field, x0, **options):
    n, d = x0.shape[-2:]
    u = direction_generator(0).normal(size=(3, *x0.shape))
    frame = np.linalg.qr(np.moveaxis(ctsa.Sphere().project(x0, u), 0, -1).reshape(*x0.shape[:-2], n * d, 3))[0]
    frame = np.moveaxis(frame, -1, 0).reshape(3, *x0.shape)
    alone = [spectrum(field, x, frame=frame[:, i], **options) for i, x in enumerate(x0)]
    return spectrum(field, x0, frame=frame, **options), alone


def test_an_ensemble_is_its_members(face):
    if face.name == "torch" and not ON_CPU:
        pytest.skip("on a GPU torch takes one step for all")
    field = random_field(face, 1)[0]
    n, d = random_field(face, 1)[1].shape
    x0 = ctsa.random_tokens(n, d, seed=3, batch=4)
    many, alone = members(field, x0, atol=1e-8, intervals=3)
    for i, one in enumerate(alone):
        assert np.abs(many.history[:, i] - one.history).max() < 1e-10 and np.abs(many.x[i] - one.x).max() < 1e-11
        assert np.isclose(many.step[i], one.step, rtol=1e-8)  # steps of its own


@mainly("jax")
def test_an_ensemble_that_knows_the_time(face):
    be = ctsa._backend.backend(face.array([0.0]))
    field = face.SelfAttention(beta=2.0)

    def driven(t, x):
        w = face.array([[0.0, -1.0], [1.0, 0.0]]) * be.xp.cos(3.0 * t)  # a matrix made of t: no broadcasting helps
        return field(t, x) + x @ w.mT

    x0 = ctsa.random_tokens(3, 2, seed=3, batch=3)
    u = np.stack([x0 @ np.array([[0.0, 1.0], [-1.0, 0.0]])]) / 3**0.5
    many = spectrum(driven, face.array(x0), frame=u, atol=1e-10)
    for i in range(3):
        one = spectrum(driven, face.array(x0[i]), frame=u[:, i], atol=1e-10)
        assert np.abs(many.history[:, i] - one.history).max() < 1e-7


@mainly("torch")
def test_members_with_inputs_of_their_own(face):
    inputs = np.random.default_rng(0).normal(size=(3, 4, 2))
    x0 = ctsa.random_tokens(4, 2, seed=3, batch=3)
    u = np.stack([x0 @ np.array([[0.0, 1.0], [-1.0, 0.0]])]) / 2
    many = spectrum(face.SelfAttention() + face.Injection(inputs), x0, frame=u, atol=1e-9)
    for i in range(3):
        one = spectrum(face.SelfAttention() + face.Injection(inputs[i]), x0[i], frame=u[:, i], atol=1e-9)
        assert np.abs(many.history[:, i] - one.history).max() < 1e-6


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_max_steps_limits_an_interval(name, request):
    face = request.getfixturevalue(f"{name}_face")
    field, x0 = random_field(face, 2)
    with pytest.raises(ctsa.LyapunovError, match="max_steps") as found:
        spectrum(field, x0, atol=1e-12, max_steps=3)
    assert found.value.spectrum is None


def test_a_run_that_breaks_off_keeps_what_came_before(face):
    be = ctsa._backend.backend(face.array([0.0]))

    def field(t, x):
        return x * be.xp.where(t < 2.5, face.array(-1.0), face.array(np.nan))

    with pytest.raises(ctsa.LyapunovError, match="history so far") as found:
        spectrum(field, face.array([[1.0]]), geometry=FLAT)
    kept = found.value.spectrum
    assert len(kept.history) == 2 and np.abs(kept.history + 1).max() < 1e-6


def test_the_field_is_traced_in_one_place(jax_face):
    import jax.numpy as jnp

    traces = []

    def field(t, x):
        traces.append(1)
        return jnp.stack([x[..., 1], -x[..., 0]], -1)

    x0 = jnp.asarray([[1.0, 0.5]])
    spectrum(field, x0, geometry=FLAT, atol=1e-7)
    before = len(traces)  # with the checks of the start
    spectrum(field, x0 + 0.1, geometry=FLAT, atol=1e-7, intervals=7, transient=3)
    assert len(traces) == before <= 7  # tangents by vmap of jvp look at it twice


def test_other_parameters_compile_nothing(jax_face):
    from ctsa._backend import _jax_march

    x0 = ctsa.random_tokens(4, 3, seed=0)

    def run(value, seed, intervals):
        field = jax_face.SelfAttention(beta=2.0, value=value * np.eye(3))
        return spectrum(field, ctsa.random_tokens(4, 3, seed=seed), intervals=intervals)

    run(1.0, 0, 3)
    cached = _jax_march._march_tangent.programs()
    run(0.5, 1, 5)
    assert _jax_march._march_tangent.programs() == cached and x0.shape == (4, 3)


def coordinates_of(field, x0, **options):
    march = marching.March(field, x0, ctsa.Solver("dopri5", 0.0, 1e-6, None, 100), interval=1.0, **options)
    return type(march._coordinates(march.source))


def test_which_coordinates(face):
    field = face.SelfAttention(beta=1.0)
    x0 = ctsa.random_tokens(8, 3)
    assert coordinates_of(field, x0) is Carried
    assert coordinates_of(field, ctsa.random_tokens(128, 3), count=2) is Directions
    assert coordinates_of(face.EnergyAttention(), x0) is Directions
    assert coordinates_of(face.SelfAttention(geometry=FLAT), x0) is Directions


@pytest.mark.skipif(not ON_CPU, reason="NumPy computes on a CPU")
def test_small_states_of_torch_go_through_numpy():
    x0 = ctsa.random_tokens(4, 3)

    def way(system, solver=None):
        return marching.March(system, x0, solver or ctsa.Solver("dopri5", 0.0, 1e-6, None, 100), interval=1.0).plain

    field = torch_face.SelfAttention(beta=1.0)
    assert way(field) is not None and way(field, ctsa.Solver("rk4", 0.0, 1e-6, 0.1, 100)) is None
    assert way(torch_face.SelfAttention(weights="sinkhorn")) is None
    assert way(field + (lambda t, x: 0 * x)) is None
    layer = torch_face.PostNormLayer(field, step=0.1)
    plain = marching.March(layer, x0, ctsa.Solver("dopri5"), interval=1).plain
    assert plain is not None and np.abs(plain(x0) - layer(x0).detach().numpy()).max() < 1e-15


def test_rows_of_plain_functions_of_torch():
    from ctsa._backend._torch_rows import ByRows

    def henon(x):
        return torch.stack([1 - 1.4 * x[..., 0] ** 2 + x[..., 1], 0.3 * x[..., 0]], -1)

    def single(x):  # knows no leading axes
        return torch.stack([1 - 1.4 * x[0, 0] ** 2 + x[0, 1], 0.3 * x[0, 0]])[None]

    def mixed(x):  # tells the members of a batch apart
        return henon(x) * (1 if x.ndim == 2 else torch.linspace(1, 2, x.shape[0], dtype=x.dtype)[:, None, None])

    def cut(x):  # forward and backward derivatives differ
        class Straight(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(y):
                return y.clone()

            @staticmethod
            def setup_context(ctx, inputs, output):
                pass

            @staticmethod
            def backward(ctx, g):
                return 2 * g

            @staticmethod
            def jvp(ctx, g):
                return g.clone()

        return Straight.apply(henon(x))

    x0 = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    exact = np.log(0.3)
    for layer, fast in ((henon, True), (single, False), (mixed, False), (cut, False)):
        march = marching.March(layer, x0, ctsa.Solver("dopri5"), interval=1, geometry=FLAT)
        assert isinstance(march.source, ByRows) == fast, layer.__name__
        if layer is not cut:
            found = spectrum(layer, x0, geometry=FLAT, intervals=50)
            assert abs(found.exponents.sum() - exact) < 1e-12  # its determinant is -0.3 everywhere


def test_factors_by_products(jax_face):
    # What a GPU does in place of Householder's reflections: the same factors, and those where columns are nearly dependent.
    import jax.numpy as jnp

    from ctsa._backend import _jax
    from ctsa.tangent.coordinates import qr_positive

    rng = np.random.default_rng(0)
    c = np.linalg.qr(rng.normal(size=(90, 40)))[0] * np.exp(rng.uniform(-3, 3, size=40)) + 0.01 * rng.normal(size=(90, 40))
    near = np.array(c)
    near[:, 7] = near[:, 3] + 1e-13 * near[:, 7]
    for a in (c, near):
        want_q, want_r = qr_positive(a)
        q, r = (np.asarray(w) for w in _jax._by_cholesky(jnp.asarray(a)))
        signs = np.sign(np.diagonal(r))
        q, r = q * signs, r * signs[:, None]
        assert np.abs(q.T @ q - np.eye(40)).max() < 1e-13 and np.abs(q @ r - a).max() < 1e-12
        if a is c:
            assert np.abs(q - want_q).max() < 1e-11 and np.abs(r - want_r).max() < 1e-11


def test_bases_are_carried_parallel():
    # Around a small circle a parallel vector comes back turned by the area enclosed (Gauss and Bonnet): 2 pi (1 - cos a).
    from ctsa.tangent.coordinates import Carried

    angle = 0.7
    field = torch_face.Rotation(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    x = torch.tensor([[np.sin(angle), 0.0, np.cos(angle)]], dtype=torch.float64)
    y = Carried(ctsa.Sphere()).enter(x, torch.zeros(1, 1, 3, dtype=torch.float64))
    start = y[1][0]
    steps = 4000
    with torch.no_grad():
        for _ in range(steps):  # the midpoint rule
            h = 2 * np.pi / steps
            middle = tuple(q + h / 2 * k for q, k in zip(y, Carried(ctsa.Sphere()).slope(field, 0.0, y), strict=True))
            slope = Carried(ctsa.Sphere()).slope(field, 0.0, middle)
            y = tuple(q + h * k for q, k in zip(y, slope, strict=True))
    turned = (start.T @ y[1][0]).numpy()
    exact = 2 * np.pi * (1 - np.cos(angle))
    assert np.abs(turned.T @ turned - np.eye(2)).max() < 1e-5
    assert abs(turned[0, 0] - np.cos(exact)) < 1e-5 and abs(abs(turned[0, 1]) - abs(np.sin(exact))) < 1e-5
