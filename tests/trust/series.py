"""Series whose mean is known, or known far better than a window of them: what error bars are held against.

Every function returns ``(members, N, exponents)`` local exponents of independent runs, or plain series, and the true means.
"""

import numpy as np
from scipy.special import digamma


# ------------------------------------------------------------------------------------------------ noise with known means
def autoregressive(rng, phi, members, length):
    """Stationary AR(1) series (members, length) of unit variance of the noise."""
    noise = rng.normal(size=(members, length))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0] / np.sqrt(1 - phi**2)
    for t in range(1, length):
        x[:, t] = phi * x[:, t - 1] + noise[:, t]
    return x


def telescoping(rng, members, length):
    """Differences x_t - x_(t-1) of independent samples, as of a neutral exponent: the mean vanishes like 1 / N."""
    return np.diff(rng.normal(size=(members, length + 1)), axis=1)


def line(rng, members, length, frequency=0.92, radius=0.999, noise=0.3, warm=8000):
    """A sharp spectral line (AR(2) with poles radius exp(+-i frequency)) beside white noise."""
    e = rng.normal(size=(members, length + warm))
    a, b = 2 * radius * np.cos(frequency), -(radius**2)
    x = np.zeros((members, 2))
    out = np.empty((members, length))
    for t in range(length + warm):
        new = a * x[:, 1] + b * x[:, 0] + e[:, t]
        x = np.stack([x[:, 1], new], 1)
        if t >= warm:
            out[:, t - warm] = new
    return out + noise * rng.normal(size=out.shape) * out.std()


DIMENSION = 3
INDEX = np.arange(1, DIMENSION + 1)
GINIBRE = (np.log(2) + digamma((DIMENSION - INDEX + 1) / 2)) / 2


def ginibre(rng, members, length):
    """Local exponents (members, length, 3) of products of Gaussian matrices; their means are ``GINIBRE``."""
    q = np.broadcast_to(np.eye(DIMENSION), (members, DIMENSION, DIMENSION))
    rows = []
    for _ in range(length):
        q, r = np.linalg.qr(rng.normal(size=(members, DIMENSION, DIMENSION)) @ q)
        rows.append(np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1))))
    return np.stack(rows, 1)


# ------------------------------------------------------------------------------------------ maps and flows, many at once
def orthonormal(u):
    """Factor frames (members, d, k); return them orthonormal, and the logarithms of their growth (members, k)."""
    q, r = np.linalg.qr(u)
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    return q * np.sign(diagonal)[:, None, :], np.log(np.abs(diagonal))


def marched(advance, x, interval, length, transient):
    """Local exponents (members, length, d): ``advance(x, u)`` moves states (members, d) and frames by one interval."""
    u = np.broadcast_to(np.eye(x.shape[1]), (*x.shape, x.shape[1]))
    rows = []
    for i in range(transient + length):
        x, u = advance(x, u)
        u, logs = orthonormal(u)
        if i >= transient:
            rows.append(logs / interval)
    return np.stack(rows, 1)


def runge_kutta(velocity, derivative, interval, steps):
    """An ``advance`` of ``marched``: classical Runge--Kutta steps of the variational equation."""
    h = interval / steps

    def both(x, u):
        return velocity(x), derivative(x) @ u

    def advance(x, u):
        for _ in range(steps):
            a, b = both(x, u)
            c, d = both(x + h / 2 * a, u + h / 2 * b)
            e, f = both(x + h / 2 * c, u + h / 2 * d)
            g, k = both(x + h * e, u + h * f)
            x, u = x + h / 6 * (a + 2 * c + 2 * e + g), u + h / 6 * (b + 2 * d + 2 * f + k)
        return x, u

    return advance


def matrix(rows):
    """Stack nested lists of numbers and arrays (members,) to matrices (members, d, d)."""
    wide = np.broadcast_arrays(*[np.asarray(v, dtype=float) for row in rows for v in row])
    return np.stack(wide, -1).reshape(-1, len(rows), len(rows[0]))


def lorenz(rng, members, length, interval=1.0):
    def velocity(x):
        a, b, c = x.T
        return np.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], 1)

    def derivative(x):
        a, b, c = x.T
        return matrix([[-10, 10, 0], [28 - c, -1, -a], [b, a, -8 / 3 + 0 * a]])

    advance = runge_kutta(velocity, derivative, interval, max(1, round(interval / 0.0125)))
    return marched(advance, rng.normal(size=(members, 3)) + [0, 0, 25], interval, length, 100)


def roessler(rng, members, length, interval=5.0):
    def velocity(x):
        a, b, c = x.T
        return np.stack([-b - c, a + 0.2 * b, 0.2 + c * (a - 5.7)], 1)

    def derivative(x):
        a, b, c = x.T
        return matrix([[0, -1, -1], [1, 0.2, 0], [c, 0, a - 5.7]])

    advance = runge_kutta(velocity, derivative, interval, max(1, round(interval / 0.025)))
    return marched(advance, rng.normal(size=(members, 3)), interval, length, int(1000 / interval))


def henon(rng, members, length):
    def advance(x, u):
        a, b = x.T
        return np.stack([1 - 1.4 * a * a + b, 0.3 * a], 1), matrix([[-2.8 * a, 1 + 0 * a], [0.3 + 0 * a, 0 * a]]) @ u

    return marched(advance, 0.1 * rng.uniform(size=(members, 2)), 1.0, length, 200)


def standard_map(rng, members, length, k=10.0):
    def advance(x, u):
        q, p = x.T
        s = k * np.cos(q)
        p = p + k * np.sin(q)
        return np.stack([q + p, p], 1) % (2 * np.pi), matrix([[1 + s, 1 + 0 * s], [s, 1 + 0 * s]]) @ u

    return marched(advance, rng.uniform(0, 2 * np.pi, (members, 2)), 1.0, length, 100)


def lorenz96(rng, members, length, sites=8, interval=0.5):
    def velocity(x):
        return (np.roll(x, -1, 1) - np.roll(x, 2, 1)) * np.roll(x, 1, 1) - x + 8

    i = np.arange(sites)

    def derivative(x):
        j = np.zeros((len(x), sites, sites))
        j[:, i, i] = -1
        j[:, i, (i + 1) % sites] += np.roll(x, 1, 1)
        j[:, i, (i - 2) % sites] -= np.roll(x, 1, 1)
        j[:, i, (i - 1) % sites] += np.roll(x, -1, 1) - np.roll(x, 2, 1)
        return j

    advance = runge_kutta(velocity, derivative, interval, max(1, round(interval / 0.025)))
    return marched(advance, 8 + rng.normal(size=(members, sites)), interval, length, 200)
