"""Solutions against exact ones, an outside solver and each other: every closed form, every solver, both frameworks."""

import numpy as np
import pytest
import torch
from conftest import close
from hypothesis import given, settings, strategies as st
from sampling import mainly, sample
from scipy.integrate import solve_ivp
from scipy.special import ndtr

import ctsa

N = D = 8  # one field, size and number of output times where it can be, so that JAX compiles each solver once
TS = np.array([0.0, 0.7, 3.0])  # where the large field below is asked for
LORENZ_10 = (-4.90268754113465, -3.74387292180292, 24.69085810279056)

# What each solver is asked for: high orders get tight tolerances, low orders what they can reach in a second.
ATOL = {"dopri5": 1e-11, "dopri8": 1e-11, "tsit5": 1e-11, "kvaerno5": 1e-11, "bosh3": 1e-8, "heun": 1e-6}
PAIRS = [(name, solver) for solver in ATOL for name in ("torch", "jax") if name == "jax" or solver[0] not in "tk"]
solvers = pytest.mark.parametrize("name, solver", PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])


@pytest.fixture
def faces(torch_face, jax_face):
    return {"torch": torch_face, "jax": jax_face}


def solve(field, x0, ts, solver="dopri8", **options):
    """Integrate without recording derivatives; return the states as NumPy and the statistics."""
    with torch.no_grad():
        traj = ctsa.integrate(field, x0, ts, solver, **options)
    return np.asarray(traj.xs), traj.stats


def attention(face, *, query=None, value=None, mask=None, beta=1.0, weights="softmax"):
    query, value = (np.eye(D) if a is None else a for a in (query, value))
    mask = np.ones((N, N)) if mask is None else mask
    return face.SelfAttention(query=query, value=value, mask=mask, beta=beta, weights=weights)


def singles(face, value):
    """Tokens that see only themselves: eight solutions of Oja's flow."""
    return attention(face, value=value, mask=np.eye(N))


def gram(xs):
    return xs @ np.swapaxes(xs, -1, -2)


def off_diagonal(g):
    return g[..., ~np.eye(g.shape[-1], dtype=bool)]


def orthogonal(rng, d=D):
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


# --------------------------------------------------------------------------------------------------------- 3.1: Oja
@solvers
def test_oja(faces, name, solver):
    atol, end = {"bosh3": (2e-10, 0.5), "heun": (1e-9, 0.02)}.get(solver, (2e-11, 3.0))
    ts = np.linspace(0, end, 7)
    for seed in range(3 if end > 1 else 1):
        value = np.random.default_rng(seed).normal(size=(D, D))  # no symmetry
        x0 = ctsa.random_tokens(N, D, seed=seed)
        xs, stats = solve(singles(faces[name], value), x0, ts, solver, atol=atol)
        assert np.abs(xs - ctsa.theory.oja_flow(value, x0, ts)).max() < 1e-9
        assert stats["radius_error"] < 100 * atol


@mainly("torch")
def test_oja_along_a_batch(face):
    value = np.random.default_rng(0).normal(size=(4, 4))
    x0, ts = ctsa.random_tokens(1, 4, seed=1, batch=(5,)), np.linspace(0, 3, 4)
    xs, _ = solve(face.Oja(value), x0, ts, atol=2e-11)
    assert np.abs(xs - ctsa.theory.oja_flow(value, x0, ts)).max() < 1e-9


def test_oja_is_attention_at_beta_zero(torch_face):
    value = np.random.default_rng(3).normal(size=(D, D))
    x0 = ctsa.random_tokens(N, D, seed=4)
    one, _ = solve(attention(torch_face, value=value, beta=0.0), x0, [0.0, 2.0], atol=1e-12)
    two, _ = solve(torch_face.Oja(value), x0, [0.0, 2.0], atol=1e-12)
    assert np.abs(one - two).max() < 1e-12


def test_rayleigh_quotient_grows_at_twice_the_squared_speed(torch_face):
    value = np.random.default_rng(5).normal(size=(4, 4))
    value = value + value.T
    h = 0.003
    x0 = ctsa.random_tokens(1, 4, seed=6, batch=(5,))
    xs, _ = solve(torch_face.Oja(value), x0, 0.5 + h * np.arange(-3, 4), atol=1e-13)
    quotient = np.einsum("tbni,ij,tbnj->tb", xs, value, xs)
    rate = np.array([-1, 9, -45, 0, 45, -9, 1]) @ quotient / (60 * h)
    v = xs[3] @ value
    v -= (xs[3] * v).sum(-1, keepdims=True) * xs[3]
    np.testing.assert_allclose(rate, 2 * (v**2).sum((-1, -2)), rtol=1e-9, atol=1e-9)


# -------------------------------------------------------------------------------------------------- 3.2: equiangular
@solvers
def test_equiangular(faces, name, solver):
    exact = [0.0, 0.23069601, 0.65987371, 0.93162639, 0.99008826, 0.99864553, 0.99981645]
    atol = ATOL[solver]
    xs, _ = solve(attention(faces[name], beta=2.0), np.eye(N), np.arange(7.0), solver, atol=atol)
    g = off_diagonal(gram(xs))
    assert np.ptp(g, axis=-1).max() < 1e-12  # one inner product for all pairs
    assert np.abs(g - np.array(exact)[:, None]).max() < 5.1e-9 + 10 * atol  # printed to eight digits


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
@pytest.mark.parametrize("beta", [0.5, 2.5])
def test_equiangular_rate(face, weights, beta):
    def rate(t, g):
        common = 2 * np.exp(beta * g) * (1 - g) * ((N - 1) * g + 1)
        return common / (np.exp(beta) + (N - 1) * np.exp(beta * g)) if weights == "softmax" else common / N

    ts = np.linspace(0, 2, 7)
    oracle = solve_ivp(rate, (0, 2), [0.0], "DOP853", ts, rtol=1e-13, atol=1e-14).y[0]
    xs, _ = solve(attention(face, beta=beta, weights=weights), np.eye(N), ts, atol=1e-12)
    assert np.abs(off_diagonal(gram(xs)) - oracle[:, None]).max() < 1e-11
    assert oracle[-1] > 0.3  # it went somewhere


def test_equiangular_at_beta_zero(face):
    ts = np.linspace(0, 3, 7)
    g = off_diagonal(gram(solve(attention(face, beta=0.0), np.eye(N), ts, atol=1e-12)[0]))
    exact = np.expm1(2 * ts) / (np.exp(2 * ts) + N - 1)
    assert np.abs(g - exact[:, None]).max() < 1e-11


def test_equiangular_time(torch_face):
    # The published times to 1 - g = 1e-3 for 32 tokens, read off the other way round.
    times = {0.0: 5.1863, 2.0: 5.4584, 4.0: 6.9535}
    for beta, t in times.items():
        field = torch_face.SelfAttention(beta=beta)
        xs, _ = solve(field, np.eye(32), [0.0, t - 5e-5, t + 5e-5], atol=1e-11)
        early, late = 1 - gram(xs)[1:, 0, 1]
        assert late < 1e-3 < early


# ------------------------------------------------------------------------------------------ 3.3 - 3.6: invariants
def test_cross_ratios(face):
    ts = np.linspace(0, 5, 7)
    xs, _ = solve(attention(face, beta=0.0), ctsa.random_tokens(N, D, seed=1), ts, atol=1e-13)
    s = 1 - gram(xs)
    ratio = s[:, 0, 1] * s[:, 2, 3] / (s[:, 0, 2] * s[:, 1, 3])
    other = s[:, 4, 5] * s[:, 6, 7] / (s[:, 4, 7] * s[:, 5, 6])
    for r in (ratio, other):
        assert np.abs(r / r[0] - 1).max() < 1e-9
    assert s[-1, 0, 1] < 0.2 * s[0, 0, 1]  # the distances themselves change


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_tokens_of_a_hemisphere_collapse(face, weights):
    rng = np.random.default_rng(2)
    w = rng.normal(size=D)
    x0 = ctsa.random_tokens(N, D, seed=2)
    x0 = x0 * np.sign(x0 @ w)[:, None]
    xs, _ = solve(attention(face, beta=2.0, weights=weights), x0, np.linspace(0, 15, 7), atol=1e-11)
    lowest = (xs @ w).min(-1)
    assert lowest[0] > 0 and (np.diff(lowest) > -1e-10).all()
    assert gram(xs[0]).min() < 0.3 and gram(xs[-1]).min() > 1 - 1e-8


def test_gram_equation(face):
    beta = 3.0

    def rate(t, g):
        g = g.reshape(N, N)
        w = np.exp(beta * (g - g.max(1, keepdims=True)))
        m = w / w.sum(1, keepdims=True) @ g
        half = m - np.diag(m)[:, None] * g
        return (half + half.T).ravel()

    x0, ts = ctsa.random_tokens(N, D, seed=7), np.linspace(0, 6, 7)
    oracle = solve_ivp(rate, (0, 6), gram(x0).ravel(), "DOP853", ts, rtol=1e-12, atol=1e-13).y.T.reshape(7, N, N)
    xs, _ = solve(attention(face, beta=beta), x0, ts, atol=1e-12)
    assert np.abs(gram(xs) - oracle).max() < 1e-9


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
@pytest.mark.parametrize("sign", [1, -1])
def test_energy_is_monotone_and_at_its_rate(face, weights, sign):
    # A = V symmetric climbs, V = -A descends: dE/dt = +- sum_i Z_i |x_i'|^2, with Z_i = n for unnormalised weights.
    a = np.random.default_rng(8).normal(size=(D, D))
    a = 0.25 * (a + a.T)
    field = attention(face, query=a, value=sign * a, beta=1.5, weights=weights)
    x0 = ctsa.random_tokens(N, D, seed=9)
    xs, _ = solve(field, x0, np.linspace(0, 1, 7), atol=1e-11)
    assert (sign * np.diff(ctsa.energy(field, face.array(xs)).tolist()) > 0).all()

    h = 0.01
    near, _ = solve(field, xs[2], 1 / 3 + h * np.arange(-3, 4), atol=1e-13)
    e = np.array(ctsa.energy(field, face.array(near)).tolist())
    rate = np.array([-1, 9, -45, 0, 45, -9, 1]) @ e / (60 * h)
    v = face.numpy(field(0.0, face.array(near[3])))
    z = np.exp(1.5 * near[3] @ a @ near[3].T).sum(1) if weights == "softmax" else np.full(N, N)
    expected = sign * (z * (v**2).sum(-1)).sum()
    assert abs(rate - expected) < 1e-8 * abs(expected)


def test_energy_of_an_asymmetric_score_may_fall():
    # The counterexample to monotonicity for V = (A + A^T) / 2: what the library must not promise.
    a, v = np.array([[1.0, 2.0], [-2.0, 0.0]]), np.diag([1.0, 0.0])
    angles = np.pi * np.array([0.1333, -0.1333])
    x0 = np.stack([np.cos(angles), np.sin(angles)], -1)
    from ctsa.torch import SelfAttention

    field = SelfAttention(query=a, value=v, beta=1.0)
    xs, _ = solve(field, x0, [0.0, 1e-3], atol=1e-13)
    with torch.no_grad():
        before, after = ctsa.energy(field, torch.as_tensor(xs)).tolist()
    assert after < before


# ------------------------------------------------------------------------------------------------- an outside oracle
HEADS, WIDTH = 2, 3


@pytest.fixture(scope="module")
def parts():
    """Parameters of a field without symmetries: two heads, a mask with weights, key field, rotation, injection, MLP."""
    rng = np.random.default_rng(11)
    n, d = 5, 4
    omega = rng.normal(size=(n, d, d))
    return dict(
        query=rng.normal(size=(HEADS, WIDTH, d)), key=rng.normal(size=(HEADS, WIDTH, d)), beta=np.array([0.7, 1.6]),
        value=rng.normal(size=(HEADS, d, d)), key_field=rng.normal(size=(HEADS, d)),
        mask=rng.uniform(0.2, 2, size=(n, n)) * (rng.uniform(size=(n, n)) < 0.7) + np.eye(n),
        omega=omega - np.swapaxes(omega, 1, 2), input=rng.normal(size=(n, d)),
        weight_in=rng.normal(size=(6, d)), weight_out=rng.normal(size=(d, 6)), x0=ctsa.random_tokens(n, d, seed=12),
    )  # fmt: skip


def build(face, parts, kind="all"):
    p = parts
    heads = {k: p[k] for k in ("query", "key", "value", "beta", "key_field")}
    if kind == "causal l2":
        heads.update(beta=2.0, key_field=None)
        return 0.5 * face.SelfAttention(**heads, weights="l2", mask="causal")
    if kind == "oscillators":
        pairs = ctsa.Sphere(channels=2)
        rotation = face.Rotation(frequencies=[[1.0, -2.0]] * 5, geometry=pairs)
        return face.SelfAttention(**heads, weights="sigmoid", geometry=pairs) + rotation
    mlp = 0.3 * face.Perceptron(p["weight_in"], p["weight_out"], activation="gelu")
    return face.SelfAttention(**heads, mask=p["mask"]) + face.Rotation(p["omega"]) + face.Injection(p["input"]) + mlp


def start(parts, kind):
    return ctsa.Sphere(2).retract(parts["x0"]) if kind == "oscillators" else parts["x0"]


@mainly("torch")
def test_against_scipy(face, parts):
    """The multi-head field with rotation, injection and perceptron, written out in NumPy and solved by DOP853."""
    p = parts

    def rate(t, x):
        x = x.reshape(5, 4)
        z = x @ p["weight_in"].T
        v = np.einsum("nij,nj->ni", p["omega"], x) + p["input"] + 0.3 * (z * ndtr(z)) @ p["weight_out"].T
        for q, k, value, beta, r in zip(p["query"], p["key"], p["value"], p["beta"], p["key_field"], strict=True):
            a = p["mask"] * np.exp(beta * ((x @ q.T) @ (x @ k.T).T + x @ r))
            v = v + (a / a.sum(1, keepdims=True)) @ x @ value.T
        return (v - (x * v).sum(1, keepdims=True) * x).ravel()

    oracle = solve_ivp(rate, (0, 3), p["x0"].ravel(), "DOP853", TS, rtol=1e-13, atol=1e-13).y.T.reshape(3, 5, 4)
    xs, _ = solve(build(face, p), p["x0"], TS, atol=1e-12)
    assert np.abs(xs - oracle).max() < 1e-9


def lorenz(face):
    stack = torch.stack if face.name == "torch" else __import__("jax").numpy.stack

    def velocity(t, x):
        a, b, c = x[..., 0], x[..., 1], x[..., 2]
        return stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1)

    return velocity


@mainly("torch")
def test_lorenz(face):
    xs, stats = solve(lorenz(face), face.array([[1, 1, 1]]), [0.0, 10.0], atol=1e-12, geometry=ctsa.Euclidean())
    assert np.abs(xs[-1, 0] - LORENZ_10).max() < 1e-7
    assert stats["radius_error"] == 0


# ----------------------------------------------------------------------------------------------------- torch = JAX
@pytest.mark.parametrize("kind, solver", sample([
    ("all", "dopri5"), ("all", "dopri8"), ("causal l2", "dopri5"), ("oscillators", "dopri8"),
], 2))  # fmt: skip
def test_both_frameworks_take_the_same_steps(torch_face, jax_face, parts, kind, solver):
    ends, stats = [], []
    for face in (torch_face, jax_face):
        xs, counts = solve(build(face, parts, kind), start(parts, kind), TS, solver, atol=1e-8)
        ends.append(xs)
        stats.append((counts["steps"], counts["rejected"], counts["evaluations"]))
    assert stats[0] == stats[1] and stats[0][0] > 5
    assert np.abs(ends[0] - ends[1]).max() < 1e-12


# ------------------------------------------------------------------------------------- orders, tolerances, landing
@pytest.fixture(scope="module")
def turning():
    """Oja flows with complex pairs (they turn, then settle): V, the starts, and the exact states."""
    rng = np.random.default_rng(14)
    a, b = rng.normal(size=(2, D, D))
    value = 0.4 * (a - a.T) + 0.1 * (b + b.T)
    x0 = ctsa.random_tokens(N, D, seed=13)
    return value, x0, lambda ts: ctsa.theory.oja_flow(value, x0, ts)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_order_of_fixed_steps(torch_face, turning, solver, order):
    value, x0, exact = turning
    steps = np.array([0.04, 0.02, 0.01]) / (4 if order == 1 else 1)
    ends = [solve(singles(torch_face, value), x0, [0.0, 2.0], solver, step=h)[0][-1] for h in steps]
    errors = [np.abs(end - exact([2.0])[0]).max() for end in ends]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.15, errors


@pytest.mark.parametrize("solver", ["bosh3", "heun"])
def test_low_orders_take_the_same_steps_too(torch_face, jax_face, turning, solver):
    value, x0, _ = turning
    ends, stats = [], []
    for face in (torch_face, jax_face):
        xs, counts = solve(singles(face, value), x0, np.linspace(0, 2, 7), solver, atol=1e-5)
        ends.append(xs)
        stats.append((counts["steps"], counts["rejected"]))
    assert stats[0] == stats[1]
    assert np.abs(ends[0] - ends[1]).max() < 1e-12


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_fixed_steps_agree(torch_face, jax_face, solver):
    """In a field that knows the time: an error in the times of stages would show."""
    ends, stats = [], []
    for face in (torch_face, jax_face):
        xs, counts = solve(turner(face), face.array([[1.0, 0.0]]), [0.0, 0.7, 3.0], solver, step=0.05)
        ends.append(xs)
        stats.append((counts["steps"], counts["rejected"], counts["evaluations"]))
    stages = {"euler": 1, "midpoint": 2, "rk4": 4}[solver]
    assert stats[0] == stats[1] == (60, 0, 60 * stages)
    assert np.abs(ends[0] - ends[1]).max() < 1e-13


@solvers
def test_error_is_proportional_to_the_tolerance(faces, turning, name, solver):
    value, x0, exact = turning
    field = singles(faces[name], value)
    ts = np.linspace(0, 2, 7)
    atols = np.array({"bosh3": [1e-5, 1e-6, 1e-7], "heun": [1e-3, 1e-4, 1e-5]}.get(solver, [1e-6, 1e-9, 1e-12]))
    errors = [np.abs(solve(field, x0, ts, solver, atol=a)[0] - exact(ts)).max() for a in atols]
    slope = np.polyfit(np.log(atols), np.log(errors), 1)[0]
    assert abs(slope - 1) < 0.15, errors
    assert (np.array(errors) < 20 * atols).all(), errors


def test_outputs_are_landed_on_not_interpolated(face, turning):
    # dopri8 takes long steps: an interpolant of fourth order would be off by 1e-5 between them.
    value, x0, exact = turning
    ts = np.array([0.0, 0.013, 0.41, 0.42, 1.0, 2.2, 3.0])
    with torch.no_grad():
        traj = ctsa.integrate(singles(face, value), x0, ts, "dopri8", atol=1e-11)
    assert face.numpy(traj.ts).tolist() == ts.tolist()
    assert np.abs(face.numpy(traj.xs) - exact(ts)).max() < 1e-9
    assert traj.stats["steps"] < 60


def test_outputs_next_to_each_other(face, turning):
    # Cutting a step short must not make the next ones tiny for good, nor look like a step size that vanishes.
    value, x0, exact = turning
    ts = np.array([0.0, 1.0, 1 + 1e-13, 1.5, 1.5 + 1e-9, 2.0, 3.0])
    xs, stats = solve(singles(face, value), x0, ts, "dopri5", atol=1e-10)
    assert np.abs(xs - exact(ts)).max() < 1e-8
    _, without = solve(singles(face, value), x0, np.linspace(0, 3, 7), "dopri5", atol=1e-10)
    assert stats["steps"] < without["steps"] + 60


def test_unit_tokens_at_any_tolerance(face, parts):
    for atol in (1e-2, 1e-8):
        xs, stats = solve(build(face, parts), parts["x0"], TS, "dopri5", atol=atol)
        assert np.abs(np.linalg.norm(xs, axis=-1) - 1).max() < 1e-15
        assert 0 < stats["radius_error"] < 200 * atol  # normalisation had something to do


def test_relative_tolerance(face, turning):
    value, x0, exact = turning
    field, ts = singles(face, value), np.linspace(0, 2, 7)
    xs, loose = solve(field, x0, ts, "dopri5", rtol=1e-7, atol=1e-12)
    assert 1e-12 < np.abs(xs - exact(ts)).max() < 1e-6
    _, tight = solve(field, x0, ts, "dopri5", rtol=1e-9, atol=1e-12)
    assert tight["steps"] > 1.5 * loose["steps"]


# -------------------------------------------------------------------------------------------- time runs both ways
@mainly("torch")
def test_there_and_back(face, turning):
    value, x0, exact = turning
    field, ts = singles(face, value), np.linspace(1, 3, 7)
    forth, _ = solve(field, x0, ts, atol=1e-12)
    back, _ = solve(field, forth[-1], ts[::-1], atol=1e-12)
    assert np.abs(back[::-1] - forth).max() < 1e-10
    assert np.abs(solve(field, x0, -ts, atol=1e-12)[0] - exact(1 - ts)).max() < 1e-10


def test_there_and_back_in_fixed_steps(torch_face, parts):
    field = build(torch_face, parts)
    forth, _ = solve(field, parts["x0"], [0.0, 0.5, 1.0], "rk4", step=0.01)
    back, _ = solve(field, forth[-1], [1.0, 0.5, 0.0], "rk4", step=0.01)
    assert np.abs(back[::-1] - forth).max() < 1e-6


def turner(face):
    """The flow x' = cos(t + 1) J x on the circle: angles are sin(t + 1) - sin(t0 + 1) further on."""
    cos = torch.cos if face.name == "torch" else __import__("jax").numpy.cos
    quarter = face.array([[0, 1], [-1, 0]])

    def velocity(t, x):
        return cos(t + 1) * (x @ quarter)

    return velocity


# Every method of torch; on JAX one of diffrax's, and test_fixed_steps_agree has the one whose tableau is ours.
TIMED = [*(("torch", solver) for solver in ("dopri5", "dopri8", "bosh3", "heun", "midpoint", "rk4"))]
TIMED += [("jax", solver) for solver in ("dopri5", "rk4")]


@pytest.mark.parametrize("name, solver", sample(TIMED, lambda name, solver: (name, solver) != ("jax", "rk4")))
def test_fields_that_know_the_time(faces, name, solver):
    # An error in the times of the stages of any tableau would show.
    face = faces[name]
    options, allowed = {
        "midpoint": (dict(step=0.01), 1e-4), "rk4": (dict(step=0.05), 1e-6),
        "heun": (dict(atol=1e-6), 2e-5), "bosh3": (dict(atol=1e-9), 2e-8),
    }.get(solver, (dict(atol=1e-11), 5e-10))  # fmt: skip
    field, x0 = turner(face), face.array([[1.0, 0.0]])
    ways = {"forth": [0.5, 1.0, 2.5], "back": [2.5, 1.0, -0.5]}
    if name == "jax":  # each way is a compilation
        ways.pop("back" if solver == "rk4" else "forth")
    for ts in ways.values():
        xs, _ = solve(field, x0, ts, solver, **options)
        angle = np.sin(np.add(ts, 1)) - np.sin(ts[0] + 1)
        exact = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]
        assert np.abs(xs - exact).max() < allowed


# ------------------------------------------------------------------------------------------------------ equivariance
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotations_commute_with_the_flow(face, seed):
    rng = np.random.default_rng(seed)
    q, v = rng.normal(size=(2, D, D))
    r, x0 = orthogonal(rng), ctsa.random_tokens(N, D, seed=seed % 1000)
    ts = np.linspace(0, 2, 7)
    plain, counts = solve(attention(face, query=q, value=v, beta=0.7), x0, ts, atol=1e-8)
    turned, again = solve(attention(face, query=r @ q @ r.T, value=r @ v @ r.T, beta=0.7), x0 @ r.T, ts, atol=1e-8)
    assert np.abs(turned - plain @ r.T).max() < 1e-10
    assert (counts["steps"], counts["rejected"]) == (again["steps"], again["rejected"])


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_permutations_commute_with_the_flow(face, seed):
    rng = np.random.default_rng(seed)
    q, v = rng.normal(size=(2, D, D))
    field = attention(face, query=q, value=v, beta=0.7)
    x0, order, ts = ctsa.random_tokens(N, D, seed=seed % 1000), rng.permutation(N), np.linspace(0, 2, 7)
    plain, counts = solve(field, x0, ts, atol=1e-8)
    shuffled, again = solve(field, x0[order], ts, atol=1e-8)
    assert np.abs(shuffled - plain[:, order]).max() < 1e-11
    assert (counts["steps"], counts["rejected"]) == (again["steps"], again["rejected"])


def test_permutations_carry_masks_and_inputs_along(torch_face, parts):
    p, order = parts, np.array([3, 1, 4, 0, 2])
    shuffled = dict(p, mask=p["mask"][np.ix_(order, order)], omega=p["omega"][order], input=p["input"][order])
    one, _ = solve(build(torch_face, p), p["x0"], [0.0, 2.0], atol=1e-10)
    two, _ = solve(build(torch_face, shuffled), p["x0"][order], [0.0, 2.0], atol=1e-10)
    assert np.abs(two - one[:, order]).max() < 1e-11


def test_scaling_a_field_scales_time(torch_face, parts):
    field = build(torch_face, parts)
    one, _ = solve(field, parts["x0"], [0.0, 0.5, 1.0], atol=1e-11)
    two, _ = solve(2.0 * field, parts["x0"], [0.0, 0.25, 0.5], atol=1e-11)
    assert np.abs(one - two).max() < 1e-9


# ------------------------------------------------------------------------------------------------------------ float32
@pytest.mark.parametrize("name, options", [
    ("torch", dict(solver="dopri5")), ("torch", dict(solver="rk4", step=0.05)), ("jax", dict(solver="dopri5")),
])  # fmt: skip
def test_single_precision(faces, turning, name, options):
    value, x0, exact = turning
    field = faces[name].SelfAttention(value=value.astype(np.float32), mask=np.eye(N, dtype=bool))
    xs, _ = solve(field, x0.astype(np.float32), TS, **options, atol=3e-6)
    assert xs.dtype == np.float32
    assert np.abs(xs - exact(TS)).max() < 5e-5
    assert np.abs(np.linalg.norm(xs, axis=-1) - 1).max() < 3e-7


# ----------------------------------------------------------------------------------------- adaptive steps in torch
@pytest.mark.parametrize("solver", ["dopri5", "dopri8", "bosh3", "heun", "fehlberg2", "adaptive_heun"])
def test_steps_on_a_graph_are_those_without(torch_face, parts, solver):
    """Stages in one buffer, or as tensors of their own: the same numbers up to rounding, in the same steps."""
    field, ts = build(torch_face, parts), [0.0, 0.3, 0.7]
    atol = 1e-4 if "heun" in solver else 1e-6  # of low order: enough steps as well
    one, stats = solve(field, parts["x0"], ts, solver, atol=atol)
    graph = ctsa.integrate(field, parts["x0"], ts, solver, atol=atol)
    assert graph.xs.requires_grad and stats == {**graph.stats, "radius_error": stats["radius_error"]}
    assert np.abs(one - graph.xs.detach().numpy()).max() < 1e-13


def test_adaptive_heun_is_the_method_of_heun(torch_face, parts):
    field = build(torch_face, parts)
    one, two = (solve(field, parts["x0"], [0.0, 0.7], solver, atol=1e-4)[0] for solver in ("heun", "adaptive_heun"))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("solver, atol", [("dopri5", 1e-9), ("dopri8", 1e-10), ("bosh3", 1e-8), ("heun", 1e-5)])
def test_gradients_by_the_adjoint_equation(torch_face, parts, solver, atol):
    """In every adaptive method, at several outputs: as by the steps themselves, up to errors that grow on the way back."""
    gradients, ts = [], np.array([0.0, 0.2, 0.4]) / (1 if "dopri" in solver else 4)  # low orders take many steps
    for adjoint in (False, True):
        field = build(torch_face, parts)
        run = ctsa.integrate(field, parts["x0"], ts, solver, atol=atol, adjoint=adjoint)
        (run.xs**3).sum().backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in field.parameters() if p.grad is not None]))
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert (gradients[0] - gradients[1]).abs().max() < 30 * atol * gradients[0].abs().max()


def test_rest_lasts(face):
    """At rest the first step is a guess: a long clock of short numbers must not be stopped by it."""
    x0 = np.repeat(np.eye(D, dtype=np.float32)[:1], N, 0)
    field = face.SelfAttention(value=np.eye(D, dtype=np.float32), mask=np.ones((N, N), dtype=bool))
    xs, _ = solve(field, x0, [0.0, 1.0, 1e4], "dopri5", atol=1e-5)  # in JAX the program of test_single_precision
    close(xs[-1], x0, 1e-6)


def test_gradients_at_rest_by_the_adjoint(torch_face):
    x0 = torch.eye(3, dtype=torch.float32)[:1].repeat(4, 1).requires_grad_()
    traj = ctsa.integrate(torch_face.SelfAttention(beta=np.float32(2.0)), x0, [0.0, 50.0], atol=1e-5, adjoint=True)
    (found,) = torch.autograd.grad(traj.xs[-1, 0, 1], x0)
    close(found[:, 1], np.full(4, 0.25), 1e-4)  # the mean stays, all else decays
