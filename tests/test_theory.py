"""Closed forms against quadrature, an independent solver, the fields themselves, and printed values."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.integrate import quad, solve_ivp
from scipy.special import iv

import ctsa
from ctsa import theory

# Time for n = 32 equiangular tokens to come from g = 0 to 1 - g = 1e-3, by beta, as listed.
TIMES = {0: "5.1863", 1: "5.2703", 2: "5.4584", 3: "5.8976", 4: "6.9535", 5: "9.5443", 6: "15.995"}
# g(1), ..., g(6) for n = d = 8, beta = 2, g(0) = 0, as listed.
GRAM = (0.23069601, 0.65987371, 0.93162639, 0.99008826, 0.99864553, 0.99981645)


# ------------------------------------------------------------------------------------------------------------------ Oja
def oja(v):
    return lambda t, x: v @ x - (x @ v @ x) * x


@pytest.mark.parametrize("seed", range(3))
def test_oja_flow_solves_the_ode(close, seed):
    rng = np.random.default_rng(seed)
    v, x0, ts = rng.normal(size=(4, 4)), ctsa.random_tokens(3, 4, seed + 10), np.linspace(0, 3, 7)
    found = theory.oja_flow(v, x0, ts)
    assert found.shape == (7, 3, 4)
    for i in range(3):
        solved = solve_ivp(oja(v), (0, 3), x0[i], method="DOP853", t_eval=ts, rtol=1e-13, atol=1e-14)
        close(found[:, i], solved.y.T, 1e-11)


def test_oja_flow_has_the_right_derivative(close):
    rng = np.random.default_rng(0)
    v, x0, h = rng.normal(size=(5, 5)), ctsa.random_tokens(1, 5, seed=1)[0], 1e-3
    a, b, x, c, d = theory.oja_flow(v, x0, 0.7 + h * np.arange(-2, 3))
    close((a - 8 * b + 8 * c - d) / (12 * h), oja(v)(0.0, x), 1e-10)


@given(seed=st.integers(0, 2**32 - 1), s=st.floats(-3, 3), t=st.floats(-3, 3))
def test_oja_flow_is_a_flow(close, seed, s, t):
    v, x0 = np.random.default_rng(seed).normal(size=(3, 3)), ctsa.random_tokens(2, 3, seed)
    (there,) = theory.oja_flow(v, x0, [s])
    close(theory.oja_flow(v, there, [t])[0], theory.oja_flow(v, x0, [s + t])[0], 1e-8)  # backward flows amplify
    close(theory.oja_flow(v, x0, [0.0])[0], x0, 4e-16)
    close(np.linalg.norm(there, axis=-1), np.ones(2), 4e-16)


def test_oja_flow_ends_in_the_leading_eigenvector(close):
    x0 = ctsa.random_tokens(2, 3, seed=2)
    for v in (np.diag([3.0, 2, 1]), np.diag([900.0, 2, 1]), np.diag([-1.0, -2, -900])):
        (end,) = theory.oja_flow(v, x0, [1000.0])
        close(end, np.sign(x0[:, :1]) * np.eye(3)[0], 1e-15)


def test_oja_flow_of_a_rotation_turns():
    (x,) = theory.oja_flow([[0.0, -2.0], [2.0, 0.0]], [1.0, 0.0], [np.pi / 4])
    assert np.abs(x - [0, 1]).max() < 1e-15


def test_oja_flow_takes_any_leading_axes(close):
    v, x0 = np.diag([2.0, 1.0]), ctsa.random_tokens(3, 2, batch=(4, 2))
    path = theory.oja_flow(v, x0, [0.0, 1.0, 2.0])
    assert path.shape == (3, 4, 2, 3, 2)
    close(path[:, 3, 1, 2], theory.oja_flow(v, x0[3, 1, 2], [0.0, 1.0, 2.0]), 1e-15)


def test_oja_flow_follows_the_field(face, close):
    """For one token the field Oja and SelfAttention are Oja's rule."""
    rng = np.random.default_rng(4)
    v, x0, h = rng.normal(size=(3, 3)), ctsa.random_tokens(1, 3, seed=5, batch=(2,)), 1e-3
    a, b, x, c, d = theory.oja_flow(v, x0, 0.5 + h * np.arange(-2, 3))
    slope = (a - 8 * b + 8 * c - d) / (12 * h)
    close(face.Oja(v)(0.0, face.array(x)), slope, 1e-10)
    close(face.SelfAttention(value=v, beta=3.0)(0.0, face.array(x)), slope, 1e-10)


# ---------------------------------------------------------------------------------------------------------- equiangular
def equiangular(n, g):
    """n tokens of dimension n with all inner products g."""
    values, vectors = np.linalg.eigh((1 - g) * np.eye(n) + g)
    return vectors * np.sqrt(np.maximum(values, 0))


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0, -2.0])
def test_equiangular_rate_is_that_of_the_field(face, close, weights, beta):
    n = 6
    field = face.SelfAttention(beta=beta, weights=weights)
    for g in (-0.2, -0.1, 0.0, 0.3, 0.99):
        x = equiangular(n, g)
        v = face.numpy(field(0.0, face.array(x)))
        rates = x @ v.T + v @ x.T
        off = ~np.eye(n, dtype=bool)
        close(rates[off], np.full(n * (n - 1), theory.equiangular_rate(g, beta, n, weights)), 1e-12)
        close(rates[~off], np.zeros(n), 1e-12)


def test_equiangular_rate_vanishes_at_consensus_and_simplex():
    for weights in ("softmax", "unnormalised"):
        ends = theory.equiangular_rate(np.array([1.0, -1 / 7]), 3.0, 8, weights)
        assert ends.shape == (2,) and np.abs(ends).max() < 1e-15


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
@pytest.mark.parametrize("beta", [0.0, 1e-6, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("n", [2, 32])
def test_equiangular_time_is_the_integral(close, weights, beta, n):
    g = np.array([0.0, 0.1, 0.5, 0.9, 0.999])
    times = [
        quad(lambda s: 1 / theory.equiangular_rate(s, beta, n, weights), 0, end, epsabs=0, epsrel=1e-12, limit=200)[0]
        for end in g
    ]
    found = theory.equiangular_time(g, beta, n, weights)
    assert found.shape == g.shape
    assert np.abs(found - times).max() <= 1e-10 * max(1.0, max(times))
    assert np.abs(found - times)[1:].max() <= 1e-9 * times[-1]


def test_equiangular_time_at_large_beta():
    t = theory.equiangular_time(np.array([0.5, 0.999]), 300.0, 32)
    # Nearly all of the time passes near g = 0, where 1/rate is a pure exponential: e^(b(1-g)) / 2 times a slow factor.
    slow, _ = quad(lambda s: np.exp(-300 * s) / (2 * (1 - s) * (31 * s + 1)), 0, 0.5, epsabs=0, epsrel=1e-12)
    assert np.abs(t / (np.exp(300.0) * slow) - 1).max() < 1e-9


@pytest.mark.parametrize("beta", TIMES)
def test_listed_times(beta):
    digits = TIMES[beta]
    found = float(theory.equiangular_time(0.999, beta, 32))
    assert f"{found:.{len(digits.partition('.')[2])}f}" == digits


def test_listed_gram_entries():
    solved = solve_ivp(
        lambda t, g: theory.equiangular_rate(g, 2.0, 8), (0, 6), [0.0], method="DOP853", t_eval=np.arange(1, 7),
        rtol=1e-13, atol=1e-14,
    ).y[0]  # fmt: skip
    assert [round(float(g), 8) for g in solved] == list(GRAM)
    assert np.abs(theory.equiangular_time(solved, 2.0, 8) - np.arange(1, 7)).max() < 1e-10


def test_equiangular_time_at_beta_zero(close):
    t, n = np.array([0.5, 1.0, 3.0]), 10
    g = (np.exp(2 * t) - 1) / (np.exp(2 * t) + n - 1)
    close(theory.equiangular_time(g, 0.0, n), t, 1e-13)
    close(theory.equiangular_time(g, 0.0, n, "unnormalised"), t, 1e-13)
    close(theory.equiangular_time(g, 1e-7, n), t, 1e-6)  # continuous there


# -------------------------------------------------------------------------------------------------------- uniform state
def ring(n):
    """n equispaced tokens on the circle, and the unit tangent at each."""
    angle = 2 * np.pi * np.arange(n) / n
    return angle, np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0, 9.0])
def test_uniform_growth_rate_is_that_of_a_fine_ring(face, close, beta):
    """Displacing equispaced tokens by cos or sin (k theta) multiplies the displacement by the rate, mode by mode."""
    angle, x, e = ring(64)  # the sums over tokens are trapezoidal rules: exact to rounding
    k = np.arange(1, 9)
    modes = np.concatenate([np.cos(k[:, None] * angle), np.sin(k[:, None] * angle)])
    _, dv = face.SelfAttention(beta=beta).tangent(0.0, face.array(x), face.array(modes[..., None] * e))
    dv = face.numpy(dv)
    close((dv * x).sum(-1), np.zeros((16, 64)), 1e-12)  # the velocity vanishes, so its derivative is tangent
    close((dv * e).sum(-1), np.tile(theory.uniform_growth_rate(k, beta), 2)[:, None] * modes, 1e-12)


def test_uniform_growth_rate_formula():
    k = np.arange(1, 6)
    for beta in (0.1, 2.0, 50.0):
        assert np.allclose(theory.uniform_growth_rate(k, beta), k**2 * iv(k, beta) / (beta * iv(0, beta)), rtol=1e-13)
    assert np.isfinite(theory.uniform_growth_rate(k, 1e6)).all()  # scaled Bessel functions do not overflow
    assert theory.uniform_growth_rate(0, 3.0) == 0
    assert np.abs(theory.uniform_growth_rate(k, 1e-9) - theory.uniform_growth_rate(k, 0.0)).max() < 1e-8


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: theory.oja_flow(np.ones((2, 3)), np.ones(3), [1.0]), ValueError, r"value must be \(d, d\)"),
        (lambda: theory.oja_flow(np.eye(3), np.ones(2), [1.0]), ValueError, r"x0 \(..., d\)"),
        (lambda: theory.equiangular_rate(0.0, 1.0, 1), ValueError, "n must be an integer of at least 2, got 1"),
        (lambda: theory.equiangular_rate(0.0, 1.0, 2.5), TypeError, "n must be an integer, got 2.5"),
        (lambda: theory.equiangular_rate(0.0, "hot", 3), TypeError, "beta must be a number, got 'hot'"),
        (lambda: theory.equiangular_rate(0.0, np.inf, 3), ValueError, "beta must be a finite number"),
        (lambda: theory.equiangular_rate(0.0, 1.0, 3, "linear"), ValueError, "weights must be one of 'softmax', 'unn"),
        (lambda: theory.equiangular_time(1.0, 1.0, 3), ValueError, r"g must lie in \[0, 1\)"),
        (lambda: theory.equiangular_time([0.5, -0.1], 1.0, 3), ValueError, r"g must lie in \[0, 1\)"),
        (lambda: theory.equiangular_time(np.nan, 1.0, 3), ValueError, "g must be finite, got nan"),
        (lambda: theory.equiangular_time(0.5, -1.0, 3), ValueError, "beta must be"),
        (lambda: theory.uniform_growth_rate(1, np.nan), ValueError, "beta must be"),
        (lambda: theory.uniform_growth_rate(1.5, 1.0), ValueError, "k must be integers"),
        (lambda: theory.uniform_growth_rate(1, 1.0, 1), ValueError, "d must be an integer of at least 2"),
        (lambda: theory.critical_noise(1.0, weights="linear"), ValueError, "weights must be one of"),
        (lambda: theory.most_unstable_mode("hot"), TypeError, "beta must be a number"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
