"""Systems whose motion is known, and quick records of them: what verdicts are tested on.

Maps ``f(x)`` and flows ``f(t, x)`` act on ``(..., m)``, in NumPy, torch and JAX, so that the same system also goes
through ``ctsa.lyapunov_spectrum``. ``record`` runs one in JAX with fixed Runge--Kutta steps, apart from the library.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from ctsa._backend import backend
from ctsa.motion import Record

EQ, PER, QUASI, CHAOS, DRIFT, EXP = "equilibrium", "periodic", "quasi-periodic", "chaotic", "drifting", "expanding"


@dataclass(frozen=True)
class Motion:
    """A system and what its motion is: one name, several where more than one is right, none if it must stay undecided."""

    name: str
    truth: tuple[str, ...]
    f: Callable
    start: tuple[float, ...]
    flow: bool = False
    interval: float = 1.0
    steps: int = 20  # Runge--Kutta steps in an interval
    transient: int = 50
    driven: bool = False
    exact: bool = False  # only this very start


def right(motion: Motion, verdict) -> bool | None:
    """Judge a verdict: right, wrong, or None where it is undecided."""
    if verdict.name == "undecided":
        return None
    if verdict.name == "settling":  # at rest in the end, or onto the cycle that it names
        return PER in motion.truth if verdict.period is not None else EQ in motion.truth
    return verdict.name in motion.truth


def _cat(parts, like):
    return backend(like).xp.stack([p + 0 * like[..., 0] for p in parts], -1)


def vector(g, dim):
    """Make ``f(x)`` of a function of separate coordinates."""

    def f(x):
        xp = backend(x).xp
        return _cat(g(xp, *(x[..., i] for i in range(dim))), x)

    return f


def field(g, dim):
    def f(t, x):
        xp = backend(x).xp
        return _cat(g(xp, t, *(x[..., i] for i in range(dim))), x)

    return f


def linear(a):
    a = np.atleast_2d(np.asarray(a, dtype=float))
    return vector(lambda xp, *x: [sum(float(c) * y for c, y in zip(row, x, strict=True)) for row in a], len(a))


def turn(angle, factor=1.0):
    return factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def block(*parts):
    n = sum(len(p) for p in parts)
    out, i = np.zeros((n, n)), 0
    for p in parts:
        out[i : i + len(p), i : i + len(p)], i = p, i + len(p)
    return out


def logistic(r):
    return vector(lambda xp, x: [r * x * (1 - x)], 1)


def henon(a, b=0.3):
    return vector(lambda xp, x, y: [1 - a * x * x + y, b * x], 2)


def circle(omega, k):
    return vector(lambda xp, x: [x + omega - k / (2 * np.pi) * xp.sin(2 * np.pi * x)], 1)


def ikeda(u):
    def g(xp, x, y):
        t = 0.4 - 6 / (1 + x * x + y * y)
        return 1 + u * (x * xp.cos(t) - y * xp.sin(t)), u * (x * xp.sin(t) + y * xp.cos(t))

    return vector(g, 2)


def twist(k):
    """The standard map about its fixed point, not wrapped."""

    def g(xp, x, p):
        q = p - k * xp.sin(x)
        return x + q, q

    return vector(g, 2)


def _wrapped_twist(k):
    def g(xp, x, p):
        q = p + k / (2 * np.pi) * xp.sin(2 * np.pi * x)
        y = x + q
        return y - xp.floor(y), q - xp.floor(q)

    return vector(g, 2)


def _cat_map(xp, x, y):
    a, b = 2 * x + y, x + y
    return a - xp.floor(a), b - xp.floor(b)


GOLD = np.pi * (5**0.5 - 1)


def _maps():
    ends = {
        "half": [[0.5]], "0.9": [[0.9]], "-0.9": [[-0.9]], "0.97": [[0.97]], "0.99": [[0.99]], "-0.99": [[-0.99]],
        "0.999": [[0.999]], "spiral 0.95": turn(1.0, 0.95), "spiral 0.99": turn(0.3, 0.99), "diag": np.diag([0.5, -0.3]),
        "jordan 0.9": [[0.9, 1.0], [0.0, 0.9]], "three rates": np.diag([0.9, 0.8, -0.7]),
    }  # fmt: skip
    for name, a in ends.items():
        x = (1.0, 0.7, -0.4)[: len(a)]
        yield Motion(f"linear {name}", (EQ,), linear(a), x)
        yield Motion(f"linear {name} from the start", (EQ,), linear(a), x, transient=0)
    for name, a, truth in [
        ("identity", np.eye(2), EQ), ("minus", [[-1.0]], PER), ("fifth", turn(2 * np.pi / 5), PER),
        ("quarter", turn(np.pi / 2), PER), ("golden", turn(GOLD), QUASI), ("slow turn", turn(0.1), QUASI),
        ("two turns", block(turn(1.0), turn(2**0.5)), QUASI), ("turn and decay", block(turn(1.0), [[0.5]]), QUASI),
        ("double", [[2.0]], EXP), ("1.05", [[1.05]], EXP), ("spiral out", turn(0.5, 1.1), EXP), ("-1.5", [[-1.5]], EXP),
        ("saddle", np.diag([1.2, 0.5]), EXP),
    ]:  # fmt: skip
        yield Motion(f"linear {name}", (truth,), linear(a), (1.0, 0.7, -0.4, 0.3)[: len(a)])
    yield Motion("step", (DRIFT,), vector(lambda xp, x: [x + 0.1], 1), (0.3,))
    yield Motion("step and decay", (DRIFT,), vector(lambda xp, x, y: [x + 0.1, 0.5 * y], 2), (0.3, 1.0))
    yield Motion("shear", (DRIFT,), vector(lambda xp, x, y: [x + y, y], 2), (0.0, 0.3))
    yield Motion("circle torus", (QUASI, DRIFT), circle(0.6066, 0.5), (0.2,))
    yield Motion("circle locked", (PER, DRIFT), circle(0.5, 0.9), (0.2,))
    yield Motion("circle at rest", (EQ,), circle(0.05, 0.9), (0.2,))
    for r, truth in [
        (0.8, EQ), (1.0, EQ), (2.0, EQ), (2.8, EQ), (3.0, EQ), (3.2, PER), (3.5, PER), (3.55, PER), (3.566, PER),
        (3.56989, PER), (3.57, CHAOS), (3.6, CHAOS), (3.7, CHAOS), (3.83, PER), (3.84, PER), (3.9, CHAOS), (3.99, CHAOS),
    ]:  # fmt: skip
        yield Motion(f"logistic {r}", (truth,), logistic(r), (0.3,))
    yield Motion("logistic 3.8474", (PER, CHAOS), logistic(3.8474), (0.3,))
    yield Motion("Feigenbaum", (), logistic(3.5699456718709449), (0.3,))
    yield Motion("logistic 4 at 0", (EQ,), logistic(4.0), (0.0,), exact=True)
    yield Motion("logistic 4.1", (EXP,), logistic(4.1), (0.3,), transient=0)
    for a, truth in [(0.2, EQ), (0.5, PER), (1.0, PER), (1.25, PER), (1.4, CHAOS)]:
        yield Motion(f"Henon {a}", (truth,), henon(a), (0.1, 0.1))
    yield Motion("Lozi", (CHAOS,), vector(lambda xp, x, y: [1 - 1.7 * xp.abs(x) + y, 0.5 * x], 2), (0.1, 0.1))
    yield Motion("tent 1.9", (CHAOS,), vector(lambda xp, x: [0.95 * (1 - xp.abs(1 - 2 * x))], 1), (0.3,))
    yield Motion("Ikeda 0.9", (CHAOS,), ikeda(0.9), (0.1, 0.1))
    yield Motion("Ikeda 0.3", (EQ,), ikeda(0.3), (0.1, 0.1))
    yield Motion("twist island", (QUASI,), twist(0.8), (0.7, 0.2))
    yield Motion("twist small", (QUASI,), twist(0.5), (0.2, 0.1))
    yield Motion("twist sea", (CHAOS,), _wrapped_twist(6.0), (0.3, 0.2))
    yield Motion("cat", (CHAOS,), vector(_cat_map, 2), (0.3, 0.2))
    for a, truth in [(1.9, EQ), (2.1, QUASI), (2.27, CHAOS)]:
        yield Motion(
            f"delayed logistic {a}", (truth,), vector(lambda xp, x, y, a=a: [a * x * (1 - y), x], 2), (0.5, 0.5)
        )


def lorenz(r):
    return field(lambda xp, t, x, y, z: [10 * (y - x), x * (r - z) - y, x * y - 8 / 3 * z], 3)


def roessler(c):
    return field(lambda xp, t, x, y, z: [-y - z, x + 0.2 * y, 0.2 + z * (x - c)], 3)


def van_der_pol(mu):
    return field(lambda xp, t, x, y: [y, mu * (1 - x * x) * y - x], 2)


def hopf(mu):
    def g(xp, t, x, y):
        s = mu - x * x - y * y
        return s * x - y, s * y + x

    return field(g, 2)


def duffing(damping, force, omega):
    return field(lambda xp, t, x, y: [y, -damping * y - x**3 + force * xp.cos(omega * t)], 2)


def flow_of(a):
    f = linear(a)
    return lambda t, x: f(x)


def _thomas(b):
    return field(lambda xp, t, x, y, z: [xp.sin(y) - b * x, xp.sin(z) - b * y, xp.sin(x) - b * z], 3)


def _heiles(xp, t, x, y, p, q):
    return p, q, -x - 2 * x * y, -y - x * x + y * y


def _may_leonard(xp, t, x, y, z):
    return x * (1 - x - 0.8 * y - 1.4 * z), y * (1 - 1.4 * x - y - 0.8 * z), z * (1 - 0.8 * x - 1.4 * y - z)


def _two_cycles(xp, t, x, y, a, b):
    s, r = 1 - x * x - y * y, 1 - a * a - b * b
    return s * x - y, s * y + x, r * a - 2**0.5 * b, r * b + 2**0.5 * a


def _jerk(a):
    return field(lambda xp, t, x, y, z: [y, z, -a * z + y * y - x], 3)


def _spin(xp, t, x, y, z):
    return 0.5 * y * z, -1.0 * x * z, 0.4 * x * y


def _flows():
    def flow(name, truth, f, start, **options):
        return Motion(name, (truth,) if isinstance(truth, str) else truth, f, start, flow=True, **options)

    yield flow("sink", EQ, flow_of(np.diag([-1.0, -0.5])), (1.0, 1.0), transient=0)
    yield flow("focus", EQ, flow_of([[-0.1, -1.0], [1.0, -0.1]]), (1.0, 0.3), transient=0)
    yield flow("slow sink", EQ, flow_of([[-0.01]]), (1.0,))
    yield flow("centre", PER, flow_of([[0.0, -1.0], [1.0, 0.0]]), (1.0, 0.3))
    beats = flow_of(block(2**0.5 * turn(np.pi / 2), turn(np.pi / 2)))
    yield flow("two centres", QUASI, beats, (1.0, 0.3, 0.5, 0.0), steps=60)
    yield flow("source", EXP, flow_of([[0.3]]), (0.5,))
    yield flow("saddle", EXP, flow_of(np.diag([0.2, -1.0])), (0.5, 1.0))
    yield flow("saddle at rest", EQ, flow_of(np.diag([0.5, -1.0])), (0.0, 0.0), exact=True)
    yield flow("wind", DRIFT, field(lambda xp, t, x: [0.2], 1), (0.5,))
    yield flow("wind and decay", DRIFT, field(lambda xp, t, x, y: [0.2, -y], 2), (0.5, 1.0))
    yield flow("double well", EQ, field(lambda xp, t, x: [x - x**3], 1), (0.1,))
    yield flow("cubic", EQ, field(lambda xp, t, x: [-(x**3)], 1), (1.0,))
    yield flow("ghost", (DRIFT, PER), field(lambda xp, t, x: [1.0001 - xp.cos(x)], 1), (-2.0,))
    yield flow("narrow ghost", EXP, field(lambda xp, t, x: [x * x + 1e-8], 1), (-1.0,), transient=0)
    for mu, truth in [(-0.1, EQ), (0.0, EQ), (0.1, PER), (1.0, PER)]:
        yield flow(f"Hopf {mu}", truth, hopf(mu), (0.8, 0.1))
    yield flow("van der Pol 1", PER, van_der_pol(1.0), (1.0, 0.0))
    yield flow("van der Pol 0.1", PER, van_der_pol(0.1), (1.0, 0.0))
    yield flow("van der Pol 3", PER, van_der_pol(3.0), (1.0, 0.0), steps=60)
    yield flow("pendulum", PER, field(lambda xp, t, x, y: [y, -xp.sin(x)], 2), (1.0, 0.0))
    yield flow("damped pendulum", EQ, field(lambda xp, t, x, y: [y, -xp.sin(x) - 0.2 * y], 2), (1.0, 0.0))
    yield flow("Lotka-Volterra", PER, field(lambda xp, t, x, y: [x * (1 - y), y * (x - 1)], 2), (0.5, 0.5))
    yield flow("Lorenz 10", EQ, lorenz(10.0), (1.0, 1.0, 1.0), steps=60)
    yield flow("Lorenz 28", CHAOS, lorenz(28.0), (1.0, 1.0, 1.0), steps=150)
    yield flow("Lorenz 160", PER, lorenz(160.0), (1.0, 1.0, 1.0), steps=800, interval=1.0)
    yield flow("Lorenz 350", PER, lorenz(350.0), (1.0, 1.0, 1.0), steps=800)
    yield flow("Roessler 2.5", PER, roessler(2.5), (1.0, 1.0, 1.0))
    yield flow("Roessler 3.5", PER, roessler(3.5), (1.0, 1.0, 1.0), steps=30)
    yield flow("Roessler 5.7", CHAOS, roessler(5.7), (1.0, 1.0, 1.0), steps=50)
    yield flow("jerk", CHAOS, _jerk(2.017), (0.0, 0.0, 1.0), exact=True, steps=40)
    yield flow("Thomas 0.18", CHAOS, _thomas(0.18), (1.0, 0.0, 0.3), interval=2.0)
    yield flow("Thomas 0.4", EQ, _thomas(0.4), (1.0, 0.0, 0.3))
    yield flow("Henon-Heiles low", QUASI, field(_heiles, 4), (0.0, 0.1, 0.3, 0.0), steps=30)
    yield flow("Henon-Heiles high", CHAOS, field(_heiles, 4), (0.0, -0.15, 0.48, 0.0), steps=30)
    # Longer and longer at each of three saddles, until rounding catches it at one: unstable, but at rest.
    yield flow("May-Leonard", EQ, field(_may_leonard, 3), (0.5, 0.3, 0.2))
    yield flow("two cycles", QUASI, field(_two_cycles, 4), (0.5, 0.5, 0.5, 0.0))
    yield flow("rigid body", PER, field(_spin, 3), (0.3, 1.0, 0.5))
    yield flow("driven", PER, field(lambda xp, t, x: [-x + xp.cos(t)], 1), (1.0,), driven=True)
    strobed = field(lambda xp, t, x: [-x + xp.cos(np.pi * t)], 1)
    yield flow("driven, at its period", PER, strobed, (1.0,), driven=True, interval=2.0, steps=40)
    yield flow(
        "driven torus", QUASI, field(lambda xp, t, x: [-x + xp.cos(t) + xp.cos(2**0.5 * t)], 1), (1.0,), driven=True
    )
    yield flow("driven Duffing", PER, duffing(0.3, 0.3, 1.0), (0.5, 0.0), driven=True)
    yield flow("Ueda", CHAOS, duffing(0.05, 7.5, 1.0), (0.5, 0.0), driven=True, steps=60)
    fades = field(lambda xp, t, x: [-x + xp.exp(-0.5 * t)], 1)
    yield flow("fading drive", EQ, fades, (1.0,), driven=True, transient=0)


MOTIONS = [*_maps(), *_flows()]


# ------------------------------------------------------------------------------------------------------------- records
@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _run(f, flow, steps, intervals, count, interval, t0, x, u):
    def rk4(t, h, x, u):
        def slope(t, x, u):
            v, push = jax.linearize(lambda y: f(t, y), x)
            return v, jax.vmap(push)(u)

        k1 = slope(t, x, u)
        k2 = slope(t + h / 2, x + h / 2 * k1[0], u + h / 2 * k1[1])
        k3 = slope(t + h / 2, x + h / 2 * k2[0], u + h / 2 * k2[1])
        k4 = slope(t + h, x + h * k3[0], u + h * k3[1])
        return tuple(y + h / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip((x, u), k1, k2, k3, k4, strict=True))

    def orthonormal(u):
        q, r = jnp.linalg.qr(u.T)
        return q.T, jnp.log(jnp.abs(jnp.diag(r)))

    def step(carry, i):
        x, u = carry
        before, t, h = x, t0 + i * interval, interval / steps
        if flow:

            def one(j, state):
                y, w, logs = state
                y, w = rk4(t + j * h, h, y, w)
                w, grown = orthonormal(w)
                return y, w, logs + grown

            x, u, logs = jax.lax.fori_loop(0, steps, one, (x, u, jnp.zeros(len(u), x.dtype)))
            v = f(t + interval, x)
        else:
            push = jax.linearize(f, x)[1]
            u, logs = orthonormal(jax.vmap(push)(u))
            x = f(x)
            v = x - before
        return (x, u), (x, v, logs / interval)

    return jax.lax.scan(step, (x, u), jnp.arange(intervals))[1]


@lru_cache(maxsize=1000)
def _rows(motion: Motion, intervals: int, seed: int, count: int | None, dtype: str):
    rng = np.random.default_rng(seed)
    x = np.array(motion.start)
    x = x if motion.exact or seed == 0 else x * (1 + 0.05 * rng.uniform(-1, 1, x.shape))
    k = len(x) if count is None else min(count, len(x))
    u = np.linalg.qr(rng.normal(size=(len(x), k)))[0].T
    total = motion.transient + intervals
    out = _run(
        motion.f, motion.flow, motion.steps, total, k, jnp.asarray(motion.interval, dtype), jnp.asarray(0.0, dtype),
        jnp.asarray(x, dtype), jnp.asarray(u, dtype),
    )  # fmt: skip
    return x, tuple(np.asarray(o, dtype=float) for o in out)


def record(motion: Motion, length: int, *, longest: int | None = None, seed=0, count=None, dtype="float64") -> Record:
    """Return the record of the first ``length`` intervals of a run of ``longest`` intervals, after the transient."""
    start, (x, v, rates) = _rows(motion, longest or length, seed, count, dtype)
    stop = motion.transient + length
    sizes = np.abs(x[:stop]).max(1)
    good = (
        np.isfinite(x[:stop]).all(1) & np.isfinite(v[:stop]).all(1) & (sizes < 1e150) & ~np.isnan(rates[:stop]).any(1)
    )
    end = stop if good.all() else int(np.argmin(good))
    size = np.sqrt((np.concatenate([start[None], x[:end]]) ** 2).sum(1))
    keep = slice(min(motion.transient, max(end - 1, 0)), end)
    return Record(
        x[keep], v[keep], np.sqrt((v[keep] ** 2).sum(1)), rates[keep], motion.interval, motion.flow, float(size[0]),
        float(size.max()), False, motion.driven, float(np.finfo(dtype).eps), 1e-8 if motion.flow else 0.0, end < stop,
    )  # fmt: skip
