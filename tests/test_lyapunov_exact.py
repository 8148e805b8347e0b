"""Spectra that are known: equilibria, linear systems, maps, finite-time values, and the relations between them."""

import numpy as np
import pytest
import torch
from dynamics import (
    CAT,
    LORENZ_START,
    bernoulli_ring,
    cat,
    consensus_jacobian,
    flat,
    henon,
    linear_history,
    lorenz,
    lorenz_calm,
    product_history,
    ring_exponents,
    tangent_frame,
)
from hypothesis import given, settings, strategies as st
from sampling import sample

import ctsa
from ctsa._backend import backend

N, D = 4, 3  # one size for most runs on spheres, so that JAX compiles a spectrum once for each setting
FLAT = ctsa.Euclidean()


def spectrum(system, x0, intervals, **options):
    return ctsa.lyapunov_spectrum(system, x0, intervals=intervals, **{"transient": 0, **options})


def attention(face, *, query=None, key=None, value=None, beta=1.0, mask=None, weights="softmax"):
    """One structure for all parameters: a new value of a parameter compiles nothing."""
    query, key, value = (np.eye(D) if a is None else a for a in (query, key, value))
    mask = np.ones((N, N)) if mask is None else mask
    return face.SelfAttention(query=query, key=key, value=value, beta=beta, mask=mask, weights=weights)


def generic(face, seed=5, **kwargs):
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(3, D, D))
    return attention(face, query=q, key=k, value=v, **kwargs)


# ---------------------------------------------------------------------------------------------------------- equilibria
VALUES = {
    "symmetric": np.diag([3.0, 2.0, 1.0]),
    # eigenvalues 2, 0.5 and -1, not normal
    "non-symmetric": (b := np.array([[1.0, 0.4, 0.0], [0.0, 1.0, -0.5], [0.3, 0.0, 1.0]]))
    @ np.diag([2.0, 0.5, -1.0])
    @ np.linalg.inv(b),
}
MASKS = {"full": None, "causal": np.tril(np.ones((N, N)))}


def leading_eigenvector(value):
    values, vectors = np.linalg.eig(value)
    v = vectors[:, np.argmax(values.real)].real
    return v / np.linalg.norm(v)


def consensus(value, mask, weights, query, beta):
    """State, exact tangent Jacobian with its basis."""
    v = leading_eigenvector(value)
    j, basis = consensus_jacobian(value, mask, v, N)
    speed = np.exp(beta * (query @ v) @ v) if weights == "unnormalised" else 1.0
    return np.ones((N, 1)) * v, speed * j, basis


QUERY = np.random.default_rng(1).normal(size=(D, D))


@pytest.mark.parametrize(
    "weights, atol",
    sample(
        [("softmax", 1e-3), ("softmax", 1e-5), ("softmax", 1e-8), ("unnormalised", 1e-3), ("unnormalised", 1e-8)],
        lambda weights, atol: (weights, atol) in (("softmax", 1e-3), ("softmax", 1e-8), ("unnormalised", 1e-8)),
    ),
)
def test_consensus_at_every_tolerance_and_interval(jax_face, weights, atol):
    for name, value in VALUES.items():
        for shape, mask in MASKS.items():
            if weights == "unnormalised" and mask is not None:
                continue
            for scale in (1.0, 4.0, 16.0):
                field = attention(jax_face, query=QUERY, value=scale * value, beta=0.7, mask=mask, weights=weights)
                x, j, basis = consensus(scale * value, mask, weights, QUERY, 0.7)
                frame = tangent_frame(x)
                for interval, intervals in ((0.1, 10), (1.0, 3), (5.0, 1)):
                    got = spectrum(field, x, intervals, interval=interval, frame=frame, atol=atol)
                    exact = linear_history(j, basis.T @ flat(frame), interval, intervals).mean(0)
                    off = np.abs(got.history.mean(0) - exact).max() / max(1.0, np.abs(exact).max())
                    assert off < 10 * atol, (name, shape, scale, interval, off / atol)


@pytest.mark.parametrize("name", VALUES)
def test_consensus_after_a_transient(jax_face, name):
    """The formula itself: {mu w - lambda} for all eigenvalues w of the row-normalised mask."""
    value, mask = VALUES[name], MASKS["causal"]
    x, j, _ = consensus(value, mask, "softmax", QUERY, 0.7)
    mu = np.sort(np.linalg.eigvals(value).real)
    exact = np.sort([m / i - mu[-1] for m in mu[:-1] for i in range(1, N + 1)])[::-1]
    field = attention(jax_face, query=QUERY, value=value, beta=0.7, mask=mask)
    got = spectrum(field, x, 100, interval=5.0, transient=100, atol=1e-6)
    assert np.abs(np.sort(np.linalg.eigvals(j).real)[::-1] - exact).max() < 1e-6  # a defective matrix, perhaps
    assert np.abs(got.exponents - exact).max() < 2e-3
    assert got.verdict[0] == "equilibrium" and got.neutral_expected == got.neutral_found == 0


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_consensus_torch(torch_face, weights):
    value, atol = VALUES["non-symmetric"], 1e-6
    field = attention(torch_face, query=QUERY, value=value, beta=0.7, weights=weights)
    x, j, basis = consensus(value, None, weights, QUERY, 0.7)
    frame = tangent_frame(x)
    got = spectrum(field, x, 2, frame=frame, atol=atol)
    exact = linear_history(j, basis.T @ flat(frame), 1.0, 2)
    assert np.abs(got.history - exact).max() < 10 * atol * np.abs(exact).max()


@pytest.mark.parametrize("name, atol", [("torch", 1e-3), ("torch", 1e-8), ("jax", 1e-8)])
def test_stiff_diagonal(torch_face, jax_face, name, atol):
    face = {"torch": torch_face, "jax": jax_face}[name]
    field = face.Oja(np.diag([-1.0, -2.0, -5.0]), geometry=FLAT)  # one token: x' = V x
    got = spectrum(field, [[1.0, 1.0, 1.0]], 5, frame=np.eye(3)[:, None], atol=atol)
    assert np.abs(got.history - [-1, -2, -5]).max() < 10 * atol
    assert np.abs(got.exponents - [-1, -2, -5]).max() < 10 * atol


def bursting(t, x):
    """x' = -r(t) x with a short burst of r in the middle of every unit of time; its mean is 1 + 20 pi^(1/2)."""
    xp = backend(x).xp
    return -(1 + 400 * xp.exp(-(((t - xp.floor(t) - 0.5) / 0.05) ** 2))) * x


def test_contraction_that_comes_in_bursts(jax_face):
    got = spectrum(bursting, jax_face.array([[1.0]]), 3, geometry=FLAT, atol=1e-8)
    assert np.abs(got.history + 1 + 20 * np.sqrt(np.pi)).max() < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_linear_flows(jax_face, seed):
    matrix = np.random.default_rng(seed).normal(size=(3, 3))
    frame = np.random.default_rng(seed + 9).normal(size=(3, 1, 3))
    field = jax_face.Oja(matrix, geometry=FLAT)
    x0 = np.zeros((1, 3))  # the origin, where a solution neither grows nor shrinks
    got = spectrum(field, x0, 20, frame=frame, atol=1e-8)
    assert np.abs(got.history - linear_history(matrix, flat(frame), 1.0, 20)).max() < 1e-6
    long = spectrum(field, x0, 400, frame=frame, atol=1e-8)
    real = np.sort(np.linalg.eigvals(matrix).real)[::-1]
    assert np.abs(long.exponents - real).max() < 10 / 400


def test_lorenz_stable_focus(jax_face):
    c = np.sqrt(8 / 3 * 19)
    j = np.array([[-10.0, 10, 0], [20 - 19, -1, -c], [c, c, -8 / 3]])
    assert np.abs(np.sort(np.linalg.eigvals(j).real) - [-13.35708, -0.15479, -0.15479]).max() < 1e-5
    frame = np.eye(3)[:, None]
    got = spectrum(lorenz_calm, jax_face.array([[c, c, 19.0]]), 200, frame=frame, geometry=FLAT, interval=0.5)
    assert np.abs(got.history - linear_history(j, flat(frame), 0.5, 200)).max() < 1e-5
    assert np.abs(got.exponents - [-0.15479, -0.15479, -13.35708]).max() < 0.02
    assert got.verdict[0] == "equilibrium"
    start = spectrum(lorenz_calm, jax_face.array(LORENZ_START), 200, transient=200, geometry=FLAT, interval=0.5)
    assert np.abs(start.exponents - [-0.15479, -0.15479, -13.35708]).max() < 0.02
    assert start.verdict[0] == "equilibrium" and start.neutral_expected == 0


# ----------------------------------------------------------------------------------------------- linear and toral maps
def test_cat_map(face):
    x0 = face.array([[0.3, 0.4]])
    got = spectrum(cat, x0, 60, transient=30, geometry=FLAT)
    assert np.abs(got.exponents - [CAT, -CAT]).max() < 1e-12
    assert got.verdict[0] == "chaotic" and got.entropy == pytest.approx(CAT, abs=1e-12)


def test_cat_map_many_layers_an_interval(jax_face):
    got = spectrum(cat, jax_face.array([[0.3, 0.4]]), 10, interval=4, transient=10, geometry=FLAT)
    assert np.abs(got.exponents - [CAT, -CAT]).max() < 1e-12 and got.duration == 40


def test_ring_of_bernoulli_maps(face):
    x0 = face.array(np.random.default_rng(0).random((1, 6)))
    got = spectrum(bernoulli_ring, x0, 50, transient=150, geometry=FLAT)
    assert np.abs(got.exponents - ring_exponents()).max() < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_linear_maps(jax_face, seed):
    matrix = np.random.default_rng(seed).normal(size=(3, 3))
    layer = jax_face.EulerLayer(jax_face.Oja(matrix - np.eye(3), geometry=FLAT), step=1.0)
    frame = np.random.default_rng(seed + 9).normal(size=(3, 1, 3))
    got = spectrum(layer, np.zeros((1, 3)), 40, frame=frame)
    assert np.abs(got.history - product_history([matrix] * 40, flat(frame))).max() < 1e-11
    assert np.abs(got.history.sum(1) - np.log(abs(np.linalg.det(matrix)))).max() < 1e-11  # T1


def test_henon_contracts_areas(jax_face):
    got = spectrum(henon, jax_face.array([[0.1, 0.1]]), 2000, transient=100, geometry=FLAT)
    assert np.abs(got.history.sum(1) - np.log(0.3)).max() < 1e-12
    assert abs(got.exponents[0] - 0.41922) < 3 * got.stderr[0] + 1e-5
    assert got.verdict[0] == "chaotic"


# ------------------------------------------------------------------------------------------------------------ rotation
def test_rotation_is_neutral(torch_face):
    """With tokens and frame from the same seed, too: the frame has its own stream of random numbers."""
    field = torch_face.Rotation(frequencies=[2.5, 1.0])
    got = spectrum(field, ctsa.random_tokens(2, 4), 10, atol=1e-8)
    assert np.abs(got.history).max() < 1e-7


def test_rotation_by_normalised_euler_steps(face):
    """The discretisation makes the fast plane attract: a spurious negative exponent, twice a token."""
    h = 0.5
    layer = face.EulerLayer(face.Rotation(frequencies=[2.5, 1.0]), step=h)
    got = spectrum(layer, ctsa.random_tokens(2, 4), 50, transient=60)
    slow = 0.5 * np.log((1 + h**2) / (1 + (2.5 * h) ** 2))
    assert np.abs(got.exponents - [0, 0, slow, slow, slow, slow]).max() < 1e-12


def test_rotation_by_plain_euler_steps(face):
    h, w = 0.1, np.array([2.5, 1.0])
    layer = face.EulerLayer(face.Rotation(frequencies=w, geometry=FLAT), step=h)
    got = spectrum(layer, np.ones((1, 4)), 20, frame=np.eye(4)[:, None])
    assert np.abs(got.exponents - 0.5 * np.log(1 + h**2 * np.repeat(w, 2) ** 2)).max() < 1e-13


# -------------------------------------------------------------------------------------------------- finite-time values
LORENZ_T10 = np.array([0.056394792060687, -0.211931555518149, -13.511129903209204])
LORENZ_X10 = np.array([-4.90268754113465, -3.74387292180292, 24.69085810279056])
PRECISE = dict(solver="dopri8", atol=1e-12, geometry=FLAT)


def lorenz_run(face, interval, count=3, end=10):
    frame = np.eye(3)[:count, None]
    start = face.array(LORENZ_START)
    return spectrum(lorenz, start, round(end / interval), interval=interval, frame=frame, **PRECISE)


def test_lorenz_torch(torch_face, jax_face):
    a, b = (lorenz_run(face, 1.0, end=2) for face in (torch_face, jax_face))
    assert np.abs(a.history - b.history).max() < 1e-10
    assert np.abs(a.history.sum(1) + 41 / 3).max() < 1e-9


def test_lorenz_over_ten_time_units(jax_face):
    got = lorenz_run(jax_face, 1.0)
    assert np.abs(got.history.mean(0) - LORENZ_T10).max() < 1e-9
    assert np.abs(got.x - LORENZ_X10).max() < 1e-7  # errors grow a hundredfold or more on the way
    assert np.abs(got.history.sum(1) + 41 / 3).max() < 1e-9  # T1


def test_lorenz_interval_does_not_matter(jax_face):
    for interval in (0.5, 2.0, 0.125):
        got = lorenz_run(jax_face, interval)
        assert np.abs(got.history.mean(0) - LORENZ_T10).max() < 1e-9, interval


def test_lorenz_first_columns_do_not_depend_on_count(jax_face):
    assert np.abs(lorenz_run(jax_face, 1.0, 2).history.mean(0) - LORENZ_T10[:2]).max() < 1e-9


def test_first_columns_do_not_depend_on_count_on_the_sphere(jax_face):
    field, x0 = generic(jax_face), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x0)
    full = spectrum(field, x0, 6, frame=frame, atol=1e-11)
    part = spectrum(field, x0, 6, frame=frame[:3], atol=1e-11)
    assert np.abs(full.history[:, :3] - part.history).max() < 1e-9


def test_interval_does_not_matter_on_the_sphere(jax_face):
    field, x0 = generic(jax_face), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x0)
    coarse = spectrum(field, x0, 3, interval=2.0, frame=frame, atol=1e-11)
    fine = spectrum(field, x0, 24, interval=0.25, frame=frame, atol=1e-11)
    assert np.abs(fine.history.reshape(3, 8, -1).mean(1) - coarse.history).max() < 1e-9


# -------------------------------------------------------------------------------------------------------- circle chart
CIRCLE = np.random.default_rng(3).normal(size=(3, 2, 2))  # query, key, value


def circle(t, angles):
    """Attention on the circle in angles, (1, n): no geometry left."""
    be = backend(angles)
    xp, theta = be.xp, angles[0]
    q, k, v = (be.like(m, theta) for m in CIRCLE)
    x = xp.stack([xp.cos(theta), xp.sin(theta)], -1)
    turn = xp.stack([-xp.sin(theta), xp.cos(theta)], -1)
    y = be.softmax((x @ q.mT) @ (x @ k.mT).mT, -1) @ (x @ v.mT)
    return (turn * y).sum(-1)[None]


def test_circle_chart(torch_face):
    """T6: with the same directions, the sphere S^1 and its angles have the same local exponents."""
    face, (q, k, v) = torch_face, CIRCLE
    theta = np.random.default_rng(4).uniform(0, 2 * np.pi, N)
    x = np.stack([np.cos(theta), np.sin(theta)], -1)
    turn = np.stack([-np.sin(theta), np.cos(theta)], -1)
    weights = np.random.default_rng(5).normal(size=(N, N))  # directions in angles
    options = dict(interval=0.5, atol=1e-11, solver="dopri8")
    on_sphere = spectrum(face.SelfAttention(query=q, key=k, value=v), x, 6, frame=weights[..., None] * turn, **options)
    in_angles = spectrum(circle, face.array(theta[None]), 6, frame=weights[:, None], geometry=FLAT, **options)
    assert np.abs(on_sphere.history - in_angles.history).max() < 1e-9
    assert np.abs(np.cos(in_angles.x[0]) - on_sphere.x[:, 0]).max() < 1e-9


# ----------------------------------------------------------------------------------------------------------- sums (T1)
def test_sum_is_the_mean_divergence(jax_face, torch_face):
    x0, interval = ctsa.random_tokens(N, D, seed=2), 0.8
    got = spectrum(generic(jax_face), x0, 2, interval=interval, atol=1e-11)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    field = generic(torch_face)
    for i in range(2):
        ts = interval * (i + (nodes + 1) / 2)
        with torch.no_grad():
            xs = ctsa.integrate(field, x0, [0.0, *ts], solver="dopri8", atol=1e-12).xs[1:]
        mean = sum(w / 2 * ctsa.divergence(field, x) for w, x in zip(weights, xs))
        assert abs(got.history[i].sum() - mean) < 1e-9


def test_sum_is_the_log_determinant_of_layers(face):
    layer, x = face.EulerLayer(generic(face), step=0.3), ctsa.random_tokens(N, D, seed=2)
    got = spectrum(layer, x, 4)
    for row in got.history:
        j = face.numpy(ctsa.jacobian(layer, x, basis="tangent"))
        assert abs(row.sum() - np.linalg.slogdet(j)[1]) < 1e-12
        x = face.numpy(layer(face.array(x)))


# ----------------------------------------------------------------------------------------------- symmetries, and zeros
def test_time_scaling(jax_face):
    """T7: f -> c f multiplies exponents by c."""
    field, x0 = generic(jax_face), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x0)
    base = spectrum(field, x0, 6, interval=1.0, frame=frame, atol=1e-11)
    fast = spectrum(4.0 * field, x0, 6, interval=0.25, frame=frame, atol=1e-11)
    assert np.abs(fast.history / 4 - base.history).max() < 1e-9


def test_limit_cycle_has_one_zero(jax_face):
    """A leading complex pair a +- iw of V: consensus rotates; exponents 0, b - a, and -a (n - 1)(d - 1) times."""
    value = np.array([[1.0, -2.0, 0.3], [2.0, 1.0, 0.0], [0.0, 0.0, -0.5]])
    x0 = ctsa.random_tokens(N, D, seed=1)
    got = spectrum(attention(jax_face, value=value, beta=0.3), x0, 200, transient=100)
    assert abs(got.speed - 2) < 1e-3  # turning at the rate of the pair, about
    assert got.neutral_expected == got.neutral_found == 1
    assert np.abs(got.exponents - [0, *[-1.0] * 6, -1.5]).max() < 5e-3
    assert abs(got.exponents[0]) < 1e-3
    assert got.verdict[0] == "periodic"


def test_zero_along_the_flow(jax_face):
    """T3: the first direction along the velocity stays along it, and its growth telescopes."""
    value = np.array([[1.0, -2.0, 0.3], [2.0, 1.0, 0.0], [0.0, 0.0, -0.5]])
    field, x0 = attention(jax_face, value=value, beta=0.3), ctsa.random_tokens(N, D, seed=1)
    v0 = np.asarray(field(0.0, jax_face.array(x0)))
    frame = np.concatenate([v0[None], tangent_frame(x0)[:-1]])
    got = spectrum(field, x0, 20, frame=frame, atol=1e-11)
    v1 = np.asarray(field(0.0, jax_face.array(got.x)))
    assert abs(got.history[:, 0].sum() - np.log(np.linalg.norm(v1) / np.linalg.norm(v0))) < 1e-8
    assert np.abs(got.frame[0] - v1 / np.linalg.norm(v1)).max() < 1e-8


@pytest.mark.parametrize("n, d, zeros", sample([(8, 4, 6), (2, 5, 4), (6, 3, 3)], lambda n, d, zeros: n < 8))
def test_rotational_symmetry(jax_face, n, d, zeros):
    """T4: V = -I and Q = K = I; tokens repel, and rotations of the state they come to are neutral."""
    field = jax_face.SelfAttention(value=-np.eye(d), beta=1.0)
    got = spectrum(field, ctsa.random_tokens(n, d, seed=0), 100, transient=300, interval=2.0)
    assert got.neutral_expected == zeros
    assert got.neutral_found == zeros
    assert np.abs(got.exponents[:zeros]).max() < 1e-6
    assert got.verdict[0] == "equilibrium"


def test_rotational_symmetry_of_consensus(torch_face):
    got = spectrum(
        torch_face.SelfAttention(value=np.eye(3)), np.ones((4, 1)) * [[0.0, 0.6, 0.8]], 10, transient=10, interval=2.0
    )
    assert got.neutral_expected == got.neutral_found == 2
    assert np.abs(got.exponents - [0, 0, *[-1] * 6]).max() < 1e-6


# ---------------------------------------------------------------------------------------------------------- both faces
def test_torch_equals_jax(torch_face, jax_face):
    x0 = ctsa.random_tokens(N, D, seed=1)
    options = dict(interval=0.2, frame=tangent_frame(x0), atol=1e-8)
    a, b = (spectrum(generic(face), x0, 50, **options) for face in (torch_face, jax_face))
    assert np.abs(a.history - b.history).max() < 1e-9
    assert np.abs(a.x - b.x).max() < 1e-9 and np.abs(a.frame - b.frame).max() < 1e-9
    assert a.exponents.dtype == b.exponents.dtype == np.float64


# -------------------------------------------------------------------------------------------------------------- layers
MU = np.array([3.0, 2.0, 1.0])


def post_norm(face, field, h):
    """The common scheme N(x + h sum_j a_ij V x_j), a bare callable."""
    return lambda x: ctsa.Sphere().retract(x + h * field.drift(0.0, x))


def layer_multipliers(kind, h):
    first, others = {
        "projected": (1 - h * MU[0], 1 + h * (MU[1:] - MU[0])),
        "post-norm": (1 / (1 + h * MU[0]), (1 + h * MU[1:]) / (1 + h * MU[0])),
        "normalised": (0.0, MU[1:] / MU[0]),
    }[kind]
    return np.sort([*others, *[first] * ((N - 1) * (D - 1))])[::-1]


@pytest.mark.parametrize("kind", ["projected", "post-norm", "normalised"])
def test_layers_at_consensus(face, kind):
    h = 0.1
    field = attention(face, value=np.diag(MU), beta=2.0)
    layer = {
        "projected": face.EulerLayer(field, step=h),
        "post-norm": post_norm(face, field, h),
        "normalised": lambda x: ctsa.Sphere().retract(field.drift(0.0, x)),
    }[kind]
    x = face.array(np.ones((N, 1)) * [[1.0, 0.0, 0.0]])
    exact = layer_multipliers(kind, h)
    values = ctsa.eigenvalues(layer, x)
    assert np.abs(values - exact).max() < 1e-10
    count = 2 if kind == "normalised" else None  # all others are mapped to zero
    got = spectrum(layer, x, 20, transient=200, count=count)
    assert np.abs(got.exponents - np.log(exact[: len(got.exponents)])).max() < 1e-10
    assert got.verdict[0] == "equilibrium"


def test_layer_exponents_converge_at_first_order(jax_face):
    field, x = attention(jax_face, value=np.diag(MU), beta=2.0), np.ones((N, 1)) * [[1.0, 0.0, 0.0]]
    exact = np.array([-1.0, -2.0, *[-3.0] * 6])
    steps = np.array([0.02, 0.01, 0.005, 0.0025])
    errors = []
    for h in steps:
        layer = jax_face.EulerLayer(field, step=h)
        errors.append(np.abs(spectrum(layer, x, 5, transient=round(20 / h)).exponents / h - exact).max())
    order = np.diff(np.log(errors)) / np.diff(np.log(steps))
    assert np.abs(order - 1).max() < 0.05, order


def test_layer_exponents_converge_at_first_order_far_from_rest(jax_face):
    """Along a transient, too: finite-time exponents of layers against the flow's over two time units."""
    field, x0 = generic(jax_face), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x0)
    exact = spectrum(field, x0, 2, frame=frame, atol=1e-11).history.mean(0)
    steps = np.array([0.02, 0.01, 0.005])
    errors = []
    for h in steps:
        rows = spectrum(jax_face.EulerLayer(field, step=h), x0, round(2 / h), frame=frame).history
        errors.append(np.abs(rows.mean(0) / h - exact).max())
    order = np.diff(np.log(errors)) / np.diff(np.log(steps))
    assert np.abs(order - 1).max() < 0.1, order


def make_stack(face, depth):
    return [face.EulerLayer(generic(face, seed=i), step=0.2) for i in range(depth)]


@pytest.mark.parametrize("interval", [1, 2])
def test_sequence_of_layers_is_their_product(face, interval):
    stack, x = make_stack(face, 6), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x)
    got = spectrum(stack, x, 6 // interval, interval=interval, frame=frame)
    matrices = []
    for layer in stack:
        matrices.append(face.numpy(ctsa.jacobian(layer, x)))
        x = face.numpy(layer(face.array(x)))
    exact = product_history(matrices, flat(frame)).reshape(6 // interval, interval, -1).mean(1)
    assert np.abs(got.history - exact).max() < 1e-11
    assert np.abs(got.x - x).max() < 1e-12
    assert not got.continuous


def test_sequence_after_a_transient_goes_on_where_it_was(torch_face):
    stack, x = make_stack(torch_face, 6), ctsa.random_tokens(N, D, seed=1)
    frame = tangent_frame(x)
    whole = spectrum(stack, x, 6, frame=frame)
    assert np.array_equal(spectrum(stack, x, 4, transient=2, frame=frame).history, whole.history[2:])


def test_sequence_too_short(torch_face):
    with pytest.raises(ValueError, match="sequence of 3 layers ends after 3 intervals"):
        spectrum(make_stack(torch_face, 3), ctsa.random_tokens(N, D), 4)
    with pytest.raises(ValueError, match="sequence of 3 layers ends after 1 intervals of 2"):
        spectrum(make_stack(torch_face, 3), ctsa.random_tokens(N, D), 2, interval=2)


# ---------------------------------------------------------------------------------------------------------- properties
def orthogonal(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))
    return q * np.sign(np.diag(r))


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6))
def test_rotation_of_data_and_parameters(jax_face, seed):
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(3, D, D))
    r, x0 = orthogonal(seed + 1), ctsa.random_tokens(N, D, seed=seed)
    frame = tangent_frame(x0, seed=seed + 10**7)
    options = dict(interval=0.5, atol=1e-11)
    a = spectrum(attention(jax_face, query=q, key=k, value=v), x0, 4, frame=frame, **options)
    turned = attention(jax_face, query=q @ r.T, key=k @ r.T, value=r @ v @ r.T)
    b = spectrum(turned, x0 @ r.T, 4, frame=frame @ r.T, **options)
    assert np.abs(a.history - b.history).max() < 1e-8


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6))
def test_permutation_of_tokens(jax_face, seed):
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(3, D, D))
    order, mask = rng.permutation(N), rng.uniform(0.2, 2.0, size=(N, N))
    x0 = ctsa.random_tokens(N, D, seed=seed)
    frame = tangent_frame(x0, seed=seed + 10**7)
    options = dict(interval=0.5, atol=1e-11)
    a = spectrum(attention(jax_face, query=q, key=k, value=v, mask=mask), x0, 4, frame=frame, **options)
    moved = attention(jax_face, query=q, key=k, value=v, mask=mask[order][:, order])
    b = spectrum(moved, x0[order], 4, frame=frame[:, order], **options)
    assert np.abs(a.history - b.history).max() < 1e-8


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.25, 4.0))
def test_scaling_the_value(jax_face, seed, factor):
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(3, D, D))
    x0 = ctsa.random_tokens(N, D, seed=seed)
    frame = tangent_frame(x0, seed=seed + 10**7)
    a = spectrum(attention(jax_face, query=q, key=k, value=v), x0, 4, interval=0.5, frame=frame, atol=1e-11)
    scaled = attention(jax_face, query=q, key=k, value=factor * v)
    b = spectrum(scaled, x0, 4, interval=0.5 / factor, frame=frame, atol=1e-11)
    assert np.abs(a.history - b.history / factor).max() < 1e-8
