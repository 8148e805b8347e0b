"""Systems whose motion is known, and records of their runs as ``ctsa.motion`` reads them: made with plain NumPy.

``SYSTEMS[name]`` makes ``Record`` objects: ``records(name, N)`` gives three starts, N intervals each. The truth is a set of
names; "undecided" is never wrong. A motion that ends at rest may be called "settling" on the way.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ctsa.motion import Record
from ctsa.motion.record import projection

REST = ("equilibrium", "settling")
CYCLE, TORUS, CHAOS = ("periodic", "settling"), ("quasi-periodic",), ("chaotic",)
AWAY, DRIFT, NONE = ("expanding",), ("drifting",), ()
STARTS = 3


@dataclass
class System:
    """A map ``f(x)``, or a flow ``f(t, x)``, on states (members, d), with its derivative (members, d, d)."""

    truth: tuple
    f: object
    df: object
    start: object  # (STARTS, d)
    flow: bool = False
    interval: float = 1.0
    steps: int = 25  # of Runge--Kutta in an interval
    transient: int = 20
    driven: bool = False
    bounded: bool = False
    observe: object = None  # maps states to what the rule sees
    kinds: set = field(default_factory=set)


def run(s: System, n: int, dtype=np.float64) -> list[Record]:
    """March all starts at once and cut the rows into records."""
    x = np.array(s.start, dtype=dtype)
    members, d = x.shape
    u = np.broadcast_to(np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0].astype(dtype), (members, d, d))
    see = s.observe or (lambda x: x)
    began = size = np.linalg.norm(see(x), axis=1)
    rows, logs = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(s.transient + n):
            if s.flow:
                x, u = _advance(s, k * s.interval, x, u)
                t = (k + 1) * s.interval
                v = s.f(t, x) if s.observe is None else (see(x + 1e-6 * s.f(t, x)) - see(x)) / 1e-6
            else:
                before, u = see(x), s.df(x) @ u
                x = s.f(x).astype(dtype)
                v = see(x) - before
            q, r = np.linalg.qr(u) if np.isfinite(u).all() else (u * np.nan, u * np.nan)
            diagonal = np.diagonal(r, axis1=-2, axis2=-1)
            u = q * np.sign(diagonal)[:, None, :]
            size = np.maximum(size, np.nan_to_num(np.linalg.norm(see(x), axis=1), posinf=0))
            if k >= s.transient:
                rows.append((see(x), v))
                logs.append(np.log(np.abs(diagonal)) / s.interval)
    whole = next((i for i, row in enumerate(logs) if not np.isfinite(row).all() or not (np.abs(rows[i]) < 1e150).all()), n)
    rows, logs = rows[:whole], logs[:whole]  # a run breaks off where it overflows
    xs, vs = (np.array(a).astype(float) for a in zip(*rows, strict=True))
    p = projection(xs.shape[-1])
    seen, moved = (xs, vs) if p is None else (xs @ p.T, vs @ p.T)
    return [
        Record(
            seen[:, i], moved[:, i], np.linalg.norm(vs[:, i], axis=1), np.array(logs)[:, i].astype(float), s.interval, s.flow,
            float(size[i]), float(began[i]), s.bounded, s.driven, float(np.finfo(dtype).eps), 1e-9 if s.flow else 0.0,
        )
        for i in range(members)
    ]  # fmt: skip


def _advance(s, t, x, u):
    h = s.interval / s.steps
    for i in range(s.steps):
        a = t + i * h
        k1, l1 = s.f(a, x), s.df(a, x) @ u
        y = x + h / 2 * k1
        k2, l2 = s.f(a + h / 2, y), s.df(a + h / 2, y) @ (u + h / 2 * l1)
        y = x + h / 2 * k2
        k3, l3 = s.f(a + h / 2, y), s.df(a + h / 2, y) @ (u + h / 2 * l2)
        y = x + h * k3
        k4, l4 = s.f(a + h, y), s.df(a + h, y) @ (u + h * l3)
        x, u = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), u + h / 6 * (l1 + 2 * l2 + 2 * l3 + l4)
    return x, u


def prefix(r: Record, n: int) -> Record:
    """The first n intervals of a record (its largest state is that of the whole run, unless it grew)."""
    size = min(r.size, max(r.began, 3 * np.linalg.norm(r.x[:n], axis=1).max())) if not r.bounded else r.size
    return replace(r, x=r.x[:n], v=r.v[:n], speed=r.speed[:n], rates=r.rates[:n], size=float(size))


def first_exponents(r: Record, count: int) -> Record:
    """The record of a run that followed ``count`` directions."""
    return replace(r, rates=r.rates[:, :count])


def right(truth: tuple, name: str) -> bool:
    """Whether a verdict is one of the right ones; "undecided" is neither right nor wrong."""
    return name in truth


# --------------------------------------------------------------------------------------------------------------- helpers
def rows(m):
    """Nested lists of numbers and (members,) arrays as matrices (members, d, d)."""
    wide = np.broadcast_arrays(*[np.asarray(v, dtype=float) for row in m for v in row])
    return np.stack(wide, -1).reshape(-1, len(m), len(m[0]))


def vector(*parts):
    return np.stack(np.broadcast_arrays(*parts), -1)


def near(*point, spread=0.05, seed=0):
    return np.array(point) + spread * np.random.default_rng(seed).uniform(-1, 1, size=(STARTS, len(point)))


def linear_map(truth, a, start=None, b=0.0, **options):
    a = np.array(a, dtype=float)
    start = near(*np.ones(len(a)), spread=0.5) if start is None else start
    return System(truth, lambda x: x @ a.T + b, lambda x: np.broadcast_to(a, (len(x), *a.shape)), start, transient=0, **options)


def linear_flow(truth, a, start=None, b=0.0, **options):
    a = np.array(a, dtype=float)
    start = near(*np.ones(len(a)), spread=0.5) if start is None else start
    df = lambda t, x: np.broadcast_to(a, (len(x), *a.shape))  # noqa: E731
    return System(truth, lambda t, x: x @ a.T + b, df, start, flow=True, **({"transient": 0} | options))


def scalar_map(truth, f, df, start=0.3, **options):
    return System(truth, f, lambda x: df(x)[..., None], near(start, spread=0.1), **options)


def logistic(truth, r, **options):
    return scalar_map(truth, lambda x: r * x * (1 - x), lambda x: r * (1 - 2 * x), **({"transient": 100} | options))


def planar(truth, f, df, start, **options):
    """A map of the plane from functions of its two coordinates."""
    return System(truth, lambda x: vector(*f(*x.T)), lambda x: rows(df(*x.T)), start, **options)


def flow(truth, f, df, start, **options):
    """A flow from functions of time and coordinates."""
    return System(truth, lambda t, x: vector(*f(t, *x.T)), lambda t, x: rows(df(t, *x.T)), start, flow=True, **options)


def rotation(angle, scale=1.0):
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def henon(truth, a, b=0.3):
    return planar(truth, lambda x, y: (1 - a * x * x + y, b * x), lambda x, y: [[-2 * a * x, 1], [b, 0]], near(0.1, 0.1),
                  transient=300)  # fmt: skip


def circle(truth, omega, k):
    """The circle map, seen through cosine and sine."""
    f = lambda x: x + omega - k / (2 * np.pi) * np.sin(2 * np.pi * x)  # noqa: E731
    see = lambda x: np.concatenate([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x)], 1)  # noqa: E731
    return scalar_map(truth, f, lambda x: 1 - k * np.cos(2 * np.pi * x), observe=see, bounded=True, transient=200)


def torus_map(truth, f, df, start):
    """An area-preserving map of angles, seen through cosines and sines."""
    see = lambda x: np.concatenate([np.cos(x), np.sin(x)], 1)  # noqa: E731
    return System(truth, lambda x: vector(*f(*x.T)) % (2 * np.pi), lambda x: rows(df(*x.T)), start, observe=see, bounded=True)


def standard(truth, k, start):
    return torus_map(truth, lambda q, p: (q + p + k * np.sin(q), p + k * np.sin(q)),
                     lambda q, p: [[1 + k * np.cos(q), 1], [k * np.cos(q), 1]], start)  # fmt: skip


def delayed_logistic(truth, a):
    return planar(truth, lambda x, y: (a * x * (1 - y), x), lambda x, y: [[a * (1 - y), -a * x], [1, 0]], near(0.5, 0.5),
                  transient=300)  # fmt: skip


def ikeda(truth, u):
    def f(x, y):
        t = 0.4 - 6 / (1 + x * x + y * y)
        return 1 + u * (x * np.cos(t) - y * np.sin(t)), u * (x * np.sin(t) + y * np.cos(t))

    def df(x, y):
        s = 1 + x * x + y * y
        t = 0.4 - 6 / s
        c, z = np.cos(t), np.sin(t)
        tx, ty = 12 * x / s**2, 12 * y / s**2
        a, b = -x * z - y * c, x * c - y * z
        return [[u * (c + a * tx), u * (-z + a * ty)], [u * (z + b * tx), u * (c + b * ty)]]

    return planar(truth, f, df, near(0.1, 0.1), transient=100)


def lorenz(truth, r, **options):
    return flow(truth, lambda t, x, y, z: (10 * (y - x), x * (r - z) - y, x * y - 8 / 3 * z),
                lambda t, x, y, z: [[-10, 10, 0], [r - z, -1, -x], [y, x, -8 / 3]], near(1.0, 2.0, max(r - 1.0, 1.0), spread=0.5),
                **({"steps": 100, "interval": 0.5, "transient": 60} | options))  # fmt: skip


def roessler(truth, c):
    return flow(truth, lambda t, x, y, z: (-y - z, x + 0.2 * y, 0.2 + z * (x - c)),
                lambda t, x, y, z: [[0, -1, -1], [1, 0.2, 0], [z, 0, x - c]], near(1.0, 1.0, 0.2), steps=50, transient=300)  # fmt: skip


def oscillator(truth, damping, force, start, drive=0.0, omega=1.0, **options):
    """x'' = -damping x' - force(x) + drive cos(omega t); ``force`` is (f, f')."""
    f, df = force
    return flow(truth, lambda t, x, v: (v, -damping * v - f(x) + drive * np.cos(omega * t) + 0 * x),
                lambda t, x, v: [[0, 1], [-df(x), -damping]], start, driven=drive != 0, **options)  # fmt: skip


def van_der_pol(truth, mu, **options):
    return flow(truth, lambda t, x, v: (v, mu * (1 - x * x) * v - x), lambda t, x, v: [[0, 1], [-2 * mu * x * v - 1, mu * (1 - x * x)]],
                near(1.0, 0.0), **({"steps": 40, "transient": 60} | options))  # fmt: skip


def stuart_landau(truth, mu):
    return flow(truth, lambda t, x, y: (mu * x - y - (x * x + y * y) * x, x + mu * y - (x * x + y * y) * y),
                lambda t, x, y: [[mu - 3 * x * x - y * y, -1 - 2 * x * y], [1 - 2 * x * y, mu - x * x - 3 * y * y]],
                near(0.7, 0.2))  # fmt: skip


def henon_heiles(truth, y, py, energy):
    px = np.sqrt(2 * energy - py**2 - y**2 + 2 / 3 * y**3)
    start = np.stack([np.zeros(STARTS), y + 0.01 * np.arange(STARTS), px - 0.005 * np.arange(STARTS), np.full(STARTS, py)], 1)
    return flow(truth, lambda t, x, y, p, q: (p, q, -x - 2 * x * y, -y - x * x + y * y),
                lambda t, x, y, p, q: [[0, 0, 1, 0], [0, 0, 0, 1], [-1 - 2 * y, -2 * x, 0, 0], [-2 * x, -1 + 2 * y, 0, 0]], start,
                transient=0)  # fmt: skip


def nose_hoover(truth, start):
    return flow(truth, lambda t, x, y, z: (y, -x + y * z, 1 - y * y), lambda t, x, y, z: [[0, 1, 0], [-1, z, y], [0, -2 * y, 0]],
                start, transient=0)  # fmt: skip


def attention(truth, value, beta, step=None, n=4, d=3):
    """Self-attention with softmax weights: an Euler layer of a step, or (None) the flow; derivatives by differences."""
    value = np.array(value)

    def velocity(x):
        x = x.reshape(-1, n, d)
        w = np.exp(beta * (x @ np.swapaxes(x, 1, 2)))
        y = (w / w.sum(-1, keepdims=True)) @ x @ value.T
        return y - (x * y).sum(-1, keepdims=True) * x

    def unit(x):
        x = x.reshape(-1, n, d)
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).reshape(len(x), -1)

    def f(x):
        return unit(x + step * velocity(x).reshape(len(x), -1))

    def derivative(g, x):
        h, eye = 1e-6, np.eye(n * d)
        return np.stack([(g(x + h * e) - g(x - h * e)) / (2 * h) for e in eye], -1)

    start = unit(np.random.default_rng(3).normal(size=(STARTS, n * d)))
    tangent = lambda r: replace(r, rates=np.sort(r.rates, axis=1)[:, ::-1][:, : n * (d - 1)])  # noqa: E731
    if step is not None:
        s = System(truth, f, lambda x: derivative(f, x), start, bounded=True, transient=10)
    else:
        g = lambda x: velocity(unit(x)).reshape(len(x), -1)  # noqa: E731
        s = System(truth, lambda t, x: g(x), lambda t, x: derivative(g, x), start, flow=True, bounded=True, transient=10)
    s.kinds = {tangent}
    return s


GOLDEN = 2 * np.pi * (np.sqrt(5) - 1) / 2
CUBIC = (lambda x: x**3 - x, lambda x: 3 * x * x - 1)
LINEAR = (lambda x: x, lambda x: 1 + 0 * x)
SINE = (np.sin, np.cos)
ZERO2 = np.zeros((STARTS, 2))


def block(a, b):
    z = np.zeros((2, 2))
    return np.block([[np.array(a), z], [z, np.array(b)]])


MAPS = {
    # at rest, or on the way there
    "x/2": linear_map(REST, [[0.5]]), "0.9 x": linear_map(REST, [[0.9]]), "0.99 x": linear_map(REST, [[0.99]]),
    "-0.97 x": linear_map(REST, [[-0.97]]), "0.9 x + b": linear_map(REST, 0.9 * np.eye(3), b=[1.0, -2.0, 0.5]),
    "spiral 0.95": linear_map(REST, rotation(1.0, 0.95)), "slow spiral 0.97": linear_map(REST, rotation(0.01, 0.97)),
    "Jordan 0.9": linear_map(REST, [[0.9, 1.0], [0.0, 0.9]]), "two rates": linear_map(REST, [[0.98, 0.0], [0.3, 0.5]]),
    "0.9 in 16 dimensions": linear_map(REST, 0.9 * np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]),
    "logistic 2.8": logistic(REST, 2.8), "logistic 2.8, transient": logistic(REST, 2.8, transient=0),
    "logistic 3, marginal": logistic(REST, 3.0), "Henon 0.2": henon(REST, 0.2), "delayed logistic 1.9": delayed_logistic(REST, 1.9),
    "Ikeda 0.4": ikeda(REST, 0.4), "tent 0.8": scalar_map(REST, lambda x: 0.8 * np.minimum(x, 1 - x), lambda x: 0.8 * np.sign(0.5 - x)),
    "saddle at rest": linear_map(("equilibrium",), [[2.0, 0.0], [0.0, 0.5]], start=ZERO2),
    "4 x (1 - x) at 0": replace(logistic(("equilibrium",), 4.0, transient=0), start=np.zeros((STARTS, 1))),
    "identity": linear_map(("equilibrium",), np.eye(2)),
    # periodic
    "-x": linear_map(CYCLE, [[-1.0]]), "rotation by a seventh": linear_map(CYCLE, rotation(2 * np.pi / 7)),
    "logistic 3.2": logistic(CYCLE, 3.2), "logistic 3.5": logistic(CYCLE, 3.5), "logistic 3.56": logistic(CYCLE, 3.56),
    "logistic 3.83": logistic(CYCLE, 3.83), "logistic 3.8474": logistic(CYCLE, 3.8474), "logistic 3.56989": logistic(CYCLE, 3.56989),
    "Henon 1.0": henon(CYCLE, 1.0), "circle map, locked": circle(CYCLE, 0.5, 0.9), "logistic 3.2, transient": logistic(CYCLE, 3.2, transient=0),
    # quasi-periodic
    "rotation by the golden angle": linear_map(TORUS, rotation(GOLDEN)), "rotation by 1": linear_map(TORUS, rotation(1.0)),
    "two rotations": linear_map(TORUS, block(rotation(GOLDEN), rotation(np.sqrt(2)))), "slow rotation": linear_map(TORUS, rotation(0.01)),
    "circle map, golden": circle(TORUS, (np.sqrt(5) - 1) / 2, 0.5), "delayed logistic 2.1": delayed_logistic(("quasi-periodic", "settling"), 2.1),
    "standard map 0.3": standard(TORUS, 0.3, near(0.3, 2.2)),
    # chaotic
    "logistic 3.57, bands": logistic(CHAOS, 3.57), "logistic 3.6": logistic(CHAOS, 3.6), "logistic 3.7": logistic(CHAOS, 3.7),
    "logistic 3.9": logistic(CHAOS, 3.9), "logistic 3.99": logistic(CHAOS, 3.99), "logistic 3.82, intermittent": logistic(CHAOS, 3.82),
    "Henon 1.4": henon(CHAOS, 1.4), "Ikeda 0.9": ikeda(CHAOS, 0.9), "delayed logistic 2.27": delayed_logistic(CHAOS, 2.27),
    "standard map 10": standard(CHAOS, 10.0, near(1.0, 2.0)),
    "cat map": torus_map(CHAOS, lambda q, p: (2 * q + p, q + p), lambda q, p: [[2, 1], [1, 1]], near(1.0, 2.0)),
    "Lozi": planar(CHAOS, lambda x, y: (1 - 1.7 * np.abs(x) + y, 0.5 * x), lambda x, y: [[-1.7 * np.sign(x), 1], [0.5, 0]], near(0.1, 0.1)),
    # unbounded, drifting, neither
    "2 x": linear_map(AWAY, [[2.0]]), "1000 x": linear_map(AWAY, [[1000.0]]), "1.01 x": linear_map(AWAY, [[1.01]]),
    "spiral 1.05": linear_map(AWAY, rotation(1.0, 1.05)), "x + c": linear_map(DRIFT, np.eye(2), b=[0.1, -0.3]),
    "x + c and contraction": linear_map(("drifting", "settling"), np.diag([1.0, 0.8]), b=[0.1, 1.0]),
    "x + 1e-3, far away": linear_map(DRIFT, np.eye(1), b=[1e-3], start=near(100.0, spread=1.0)),
    "Feigenbaum": logistic(NONE, 3.569945671871), "x - x^3, marginal": scalar_map(REST, lambda x: x - x**3, lambda x: 1 - 3 * x * x),
}  # fmt: skip

FLOWS = {
    "node": linear_flow(REST, [[-1.0, 0.3], [0.0, -2.0]]), "focus": linear_flow(REST, [[-0.1, -1.0], [1.0, -0.1]]),
    "slow node": linear_flow(REST, [[-0.01]]), "fast and slow": linear_flow(REST, [[-5.0, 1.0], [0.0, -0.05]]),
    "node elsewhere": linear_flow(REST, -np.eye(2), b=[3.0, -1.0]), "damped pendulum": oscillator(REST, 0.2, SINE, near(2.0, 0.0)),
    "Lorenz 10": lorenz(REST, 10.0), "Stuart-Landau -0.2": stuart_landau(REST, -0.2), "Hopf point": stuart_landau(REST, 0.0),
    "Lorenz 0.5": lorenz(REST, 0.5, interval=1.0),
    "saddle, at rest": linear_flow(("equilibrium",), [[1.0, 0.0], [0.0, -1.0]], start=ZERO2),
    "Brusselator 1.5": flow(REST, lambda t, x, y: (1 - 2.5 * x + x * x * y, 1.5 * x - x * x * y),
                            lambda t, x, y: [[-2.5 + 2 * x * y, x * x], [1.5 - 2 * x * y, -x * x]], near(1.2, 1.2)),
    "saddle-node ghost": flow(AWAY, lambda t, x: (1e-4 + x * x,), lambda t, x: [[2 * x]], near(-1.0), transient=0),
    "May-Leonard": flow(("equilibrium",), lambda t, x, y, z: (x * (1 - x - 0.8 * y - 1.5 * z), y * (1 - 1.5 * x - y - 0.8 * z),
                                                             z * (1 - 0.8 * x - 1.5 * y - z)),
                        lambda t, x, y, z: [[1 - 2 * x - 0.8 * y - 1.5 * z, -0.8 * x, -1.5 * x],
                                            [-1.5 * y, 1 - 1.5 * x - 2 * y - 0.8 * z, -0.8 * y],
                                            [-0.8 * z, -1.5 * z, 1 - 0.8 * x - 1.5 * y - 2 * z]], near(0.4, 0.3, 0.2)),
    # periodic
    "harmonic oscillator": linear_flow(CYCLE, [[0.0, -1.0], [1.0, 0.0]]), "Stuart-Landau 0.5": stuart_landau(CYCLE, 0.5),
    "van der Pol 1": van_der_pol(CYCLE, 1.0), "van der Pol 4": van_der_pol(CYCLE, 4.0, steps=100), "Lorenz 350": lorenz(CYCLE, 350.0, steps=400),
    "Roessler 2.5": roessler(CYCLE, 2.5), "Roessler 3.5": roessler(CYCLE, 3.5), "pendulum": oscillator(CYCLE, 0.0, SINE, near(1.5, 0.0), transient=0),
    "Lotka-Volterra": flow(CYCLE, lambda t, x, y: (x * (1 - y), y * (x - 1)), lambda t, x, y: [[1 - y, -x], [y, x - 1]], near(1.5, 1.0)),
    "Brusselator 3": flow(CYCLE, lambda t, x, y: (1 - 4 * x + x * x * y, 3 * x - x * x * y),
                          lambda t, x, y: [[-4 + 2 * x * y, x * x], [3 - 2 * x * y, -x * x]], near(1.2, 3.0), steps=60),
    # quasi-periodic
    "two oscillators": linear_flow(TORUS, block([[0.0, -1.0], [1.0, 0.0]], [[0.0, -np.sqrt(2)], [np.sqrt(2), 0.0]])),
    "Henon-Heiles 1/12": henon_heiles(TORUS, 0.1, 0.1, 1 / 12), "Nose-Hoover, torus": nose_hoover(TORUS, near(0.0, 1.5, 0.0, spread=0.02)),
    # chaotic
    "Lorenz 28": lorenz(CHAOS, 28.0), "Lorenz 60": lorenz(CHAOS, 60.0, steps=150), "Roessler 5.7": roessler(CHAOS, 5.7),
    "Sprott A (Nose-Hoover sea)": nose_hoover(CHAOS, near(0.0, 5.0, 0.0)), "Henon-Heiles 1/6": henon_heiles(CHAOS, -0.1, 0.05, 0.1666),
    "Sprott's jerk": flow(CHAOS, lambda t, x, v, a: (v, a, -2.017 * a + v * v - x), lambda t, x, v, a: [[0, 1, 0], [0, 0, 1], [-1, 2 * v, -2.017]],
                          near(5.0, 2.0, 0.0, spread=0.02), transient=100),
    "Halvorsen": flow(CHAOS, lambda t, x, y, z: (-1.4 * x - 4 * y - 4 * z - y * y, -1.4 * y - 4 * z - 4 * x - z * z, -1.4 * z - 4 * x - 4 * y - x * x),
                      lambda t, x, y, z: [[-1.4, -4 - 2 * y, -4], [-4, -1.4, -4 - 2 * z], [-4 - 2 * x, -4, -1.4]], near(-1.0, 0.0, 0.5), steps=100),
    # driven
    "-x + cos t": flow(CYCLE, lambda t, x: (-x + np.cos(t),), lambda t, x: [[-1 + 0 * x]], near(1.0), driven=True),
    "-x + cos 2 pi t": flow(CYCLE, lambda t, x: (-x + np.cos(2 * np.pi * t),), lambda t, x: [[-1 + 0 * x]], near(1.0), driven=True),
    "-x + two drives": flow(TORUS, lambda t, x: (-x + np.cos(t) + np.cos(np.sqrt(2) * t),), lambda t, x: [[-1 + 0 * x]], near(1.0), driven=True),
    "driven oscillator": oscillator(CYCLE, 0.3, LINEAR, near(0.5, 0.0), 1.0, 1.7, transient=60),
    "Duffing, periodic": oscillator(CYCLE, 0.3, CUBIC, near(1.0, 0.0), 0.2, 1.2, interval=2 * np.pi / 1.2, steps=100, transient=60),
    "Duffing, chaotic": oscillator(CHAOS, 0.3, CUBIC, near(1.0, 0.0), 0.5, 1.2, interval=2 * np.pi / 1.2, steps=120, transient=60),
    "Duffing, chaotic, interval 1": oscillator(CHAOS, 0.3, CUBIC, near(1.0, 0.0), 0.5, 1.2, steps=30, transient=60),
    # unbounded, drifting
    "x' = x": linear_flow(AWAY, [[1.0]]), "x' = 0.1 x": linear_flow(AWAY, [[0.1]]), "x' = c": linear_flow(DRIFT, np.zeros((2, 2)), b=[0.3, 0.1]),
    "drift and decay": linear_flow(("drifting", "settling"), np.diag([0.0, -1.0]), b=[0.3, 0.1]),
}  # fmt: skip

OURS = {
    "attention, V = I": attention(REST, np.eye(3), 1.0), "attention, V = diag": attention(REST, np.diag([1.0, 0.5, 0.2]), 2.0),
    "attention, V = I, beta 9": attention(REST, np.eye(3), 9.0),
    "layer 0.2, V = diag": attention(REST, np.diag([1.0, 0.8, 0.5]), 1.0, step=0.2),
    "layer 0.2, V = -I": attention(REST, -np.eye(3), 1.0, step=0.2),
    "layer 0.2, rotating": attention(("quasi-periodic", "settling", "periodic"), np.eye(3) + 2 * np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]]), 1.0, step=0.2),
}  # fmt: skip

SYSTEMS = MAPS | FLOWS | OURS


def records(name: str, n: int, dtype=np.float64) -> list[Record]:
    """Three records of a system."""
    s = SYSTEMS[name]
    made = run(s, n, dtype)
    for change in s.kinds:
        made = [change(r) for r in made]
    return made
