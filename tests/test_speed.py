"""Normalisation schemes as flows and as layers: initial speeds, late-time laws, and the layers' definitions."""

import numpy as np
import pytest
from programs import as_one
from reference import attention
from sampling import mainly, sample

import ctsa
import ctsa.torch
from ctsa._backend import no_graph

N, D, BETA = 5, 4, 1.7
X = ctsa.random_tokens(N, D, seed=2)
VALUE = np.random.default_rng(0).normal(size=(D, D))
ALL = ("post", "ngpt", "ln-scaling", "pre", "peri", "mix")
ALPHA, SWITCH = 0.6, 2.0


def make(face, scheme, value=VALUE, beta=BETA):
    field = face.SelfAttention(value=value, beta=beta)
    return face.SpeedRegulated(field, scheme, alpha=ALPHA, switch=SWITCH if scheme == "mix" else None)


def rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def speed(scheme, a, r, t):
    """The factor s of the definition theta' = P A / s, and r' (None on the sphere)."""
    length = np.linalg.norm(a, axis=-1, keepdims=True)
    return {
        "post": 1.0, "ngpt": length / ALPHA, "ln-scaling": np.sqrt(t + 1), "pre": r, "peri": r * length,
        "mix": 1.0 if t < SWITCH else r,
    }[scheme]  # fmt: skip


@pytest.mark.parametrize("t", [0.5, 3.0])
@pytest.mark.parametrize("scheme", ALL)
def test_directions_and_radii_move_as_defined(face, close, scheme, t):
    """theta' = P A / s; r' = <theta, A> for pre, <theta, A> / |A| for peri."""
    r = np.linspace(0.5, 2.0, N)[:, None] if scheme in ("pre", "peri", "mix") else 1.0
    field, a = make(face, scheme), attention(X, value=VALUE, beta=BETA)[1]
    v = face.numpy(field(face.array(t), face.array(r * X)))
    inner = (X * a).sum(-1, keepdims=True)
    theta_dot = (v - (X * v).sum(-1, keepdims=True) * X) / r
    close(theta_dot, (a - inner * X) / speed(scheme, a, r, t))
    growth = {"pre": inner, "peri": inner / np.linalg.norm(a, axis=-1, keepdims=True), "mix": inner * (t >= SWITCH)}
    close((X * v).sum(-1, keepdims=True), growth.get(scheme, 0 * inner))


@pytest.mark.parametrize("scheme", ALL)
def test_tangent(face, close, scheme):
    field, x = make(face, scheme), face.array(X)
    u = face.array(np.random.default_rng(1).normal(size=(3, N, D)))

    def ways(t, x, u):
        return field.tangent(t, x, u), ctsa.derivatives.jvp_batched(lambda y: field.velocity(t, y), x, u)

    ways = as_one(face, ways)
    for t in (0.5, 3.0):
        for found, auto in zip(*ways(face.array(t), x, u), strict=True):
            close(found, face.numpy(auto))


@pytest.mark.parametrize("scheme", sample(ALL, lambda scheme: scheme in ("ngpt", "mix")))  # velocities of all see above
def test_parity(torch_face, jax_face, close, scheme):
    faces = (torch_face, jax_face)
    ends = [f.numpy(ctsa.integrate(make(f, scheme), X, [0.0, 2.0, 4.0], atol=1e-9).xs) for f in faces]
    close(*ends, 1e-12 if scheme != "mix" else 1e-6)  # steps across a jump of the velocity are decided by rounding


def orthogonal_speed(scheme, n, beta):
    """d<theta_i, theta_j>/dt at orthogonal tokens, Q = K = V = I, r = 1: 2 / (s (e^beta + n - 1))."""
    c = np.exp(beta) + n - 1
    length = np.sqrt(np.exp(2 * beta) + n - 1) / c
    return 2 / c / {"post": 1, "ln-scaling": 1, "pre": 1, "mix": 1, "ngpt": length / ALPHA, "peri": length}[scheme]


@pytest.mark.parametrize("scheme", ALL)
def test_initial_speed(face, scheme):
    n, beta = 6, 2.0
    v = face.numpy(make(face, scheme, None, beta)(face.array(0.0), face.array(np.eye(n))))
    rate = v[0, 1] + v[1, 0]  # d<x_0, x_1>/dt; radii do not turn
    assert rate == pytest.approx(orthogonal_speed(scheme, n, beta), rel=1e-13)


# With Q = K = V = I near consensus 1 - g shrinks at the rate 2 / s, and r grows at the rate 1 (|A| -> 1).
@pytest.mark.parametrize(
    ("scheme", "clock", "slope", "span", "tol"),
    sample([
        ("post", lambda t: t, -2.0, (8.0, 11.0), 1e-3),
        ("ngpt", lambda t: t, -2.0 * ALPHA, (14.0, 18.0), 1e-3),
        ("ln-scaling", lambda t: np.sqrt(t + 1), -4.0, (24.0, 36.0), 1e-3),
        ("pre", lambda t: np.log(t), -2.0, (2e4, 2e5), 1e-3),
        ("peri", lambda t: np.log(t), -2.0, (2e4, 2e5), 1e-3),
        ("mix", lambda t: np.log(t), -2.0, (2e4, 2e5), 1e-3),
    ], lambda scheme, *_: scheme in ("post", "ln-scaling", "pre")),
)  # fmt: skip
@mainly("torch")
def test_late_time_law(face, scheme, clock, slope, span, tol):
    """log(1 - g) falls like -2 t, -2 alpha t, -4 sqrt(t), and -2 log t."""
    field = make(face, scheme, None, 1.0)
    ts = [0.0, SWITCH, *np.geomspace(*span, 5)]
    with no_graph():
        run = ctsa.integrate(field, np.eye(4), ts, "dopri8", atol=1e-12)
    xs = ctsa.Sphere().retract(face.numpy(run.xs))[2:]
    far = ((xs[:, 0] - xs[:, 1]) ** 2).sum(-1) / 2  # 1 - g, without cancellation
    measured = np.polyfit(clock(np.array(ts[2:])), np.log(far), 1)[0]
    assert measured == pytest.approx(slope, rel=tol)


@pytest.mark.parametrize("scheme", ALL)
def test_layers_are_the_updates_of_the_models(face, close, scheme):
    """Three layers written out: where the normalisation stands, and what it does to the sum."""
    h, x = 0.8, X
    a = lambda z: attention(z, value=VALUE, beta=BETA)[1]  # noqa: E731
    for k in range(4):
        t = h * k
        if scheme == "post" or (scheme == "mix" and t < SWITCH):
            x = rows(x + h * a(x))
        elif scheme == "ngpt":
            x = rows(x + h * ALPHA * (rows(a(x)) - x))
        elif scheme == "ln-scaling":
            x = rows(x + h * a(x) / np.sqrt(t + 1))
        else:
            step = a(rows(x))
            x = x + h * (rows(step) if scheme == "peri" else step)
    path = ctsa.iterate(make(face, scheme).layers(h, 4), X)
    close(path.xs[-1], x)


def test_layers_approach_the_flow_at_first_order(torch_face):
    for scheme in ("ln-scaling", "pre", "peri", "ngpt"):
        field = make(torch_face, scheme)
        exact = torch_face.numpy(ctsa.integrate(field, X, [0.0, 1.0], atol=1e-11).xs[-1])
        errors = [
            np.abs(torch_face.numpy(ctsa.iterate(field.layers(h, round(1 / h)), X).xs[-1]) - exact).max()
            for h in (1 / 64, 1 / 128)
        ]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1), scheme


def test_conversion_keeps_everything(torch_face, jax_face, close):
    made = make(torch_face, "mix")
    other = jax_face.from_torch(made)
    x, t = torch_face.array(X), 3.0
    close(other(jax_face.array(t), jax_face.array(X)), torch_face.numpy(made(torch_face.array(t), x)))


def test_bad_input(face):
    field = face.SelfAttention(beta=1.0)
    cases = [
        (ValueError, "scheme must be one of", lambda: face.SpeedRegulated(field, "sandwich")),
        (ValueError, "needs switch", lambda: face.SpeedRegulated(field, "mix")),
        (ValueError, "needs switch", lambda: face.SpeedRegulated(field, "pre", switch=1.0)),
        (ValueError, "alpha must be a positive number", lambda: face.SpeedRegulated(field, "ngpt", alpha=0.0)),
        (TypeError, "which has a drift", lambda: face.SpeedRegulated(lambda t, x: -x, "pre")),
        (ValueError, "must live on", lambda: face.SpeedRegulated(face.Oja(VALUE, geometry=ctsa.Euclidean()), "pre")),
        (TypeError, "depth must be an integer", lambda: make(face, "post").layers(0.1, 2.5)),
        (ValueError, "step must be", lambda: make(face, "post").layers(0.0, 2)),
    ]
    for error, words, call in cases:
        with pytest.raises(error, match=words):
            call()
