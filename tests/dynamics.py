"""Systems with known exponents, and what the exponents are: shared by the tests of spectra."""

import numpy as np
from scipy.linalg import expm

from ctsa._backend import backend

LORENZ_START = [[1.0, 1.0, 1.0]]
CAT = np.log((3 + np.sqrt(5)) / 2)


# ----------------------------------------------------------------------------------------- systems, in both frameworks
def _lorenz(x, rho):
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    return backend(x).xp.stack([10 * (b - a), a * (rho - c) - b, a * b - 8 / 3 * c], -1)


def lorenz(t, x):
    return _lorenz(x, 28.0)


def lorenz_calm(t, x):
    """rho = 20, where the two foci are stable."""
    return _lorenz(x, 20.0)


def roessler(t, x):
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    return backend(x).xp.stack([-b - c, a + 0.2 * b, 0.2 + c * (a - 5.7)], -1)


def henon(x):
    a, b = x[..., 0], x[..., 1]
    return backend(x).xp.stack([1 - 1.4 * a * a + b, 0.3 * a], -1)


def cat(x):
    a, b = x[..., 0], x[..., 1]
    xp = backend(x).xp
    y = xp.stack([2 * a + b, a + b], -1)
    return y - xp.floor(y)


COUPLING, SITES = 0.3, 6


def bernoulli_ring(x):
    """Bernoulli maps 2x mod 1 on a ring, coupled to both neighbours; ``x`` is (1, SITES)."""
    xp = backend(x).xp
    f = 2 * x - xp.floor(2 * x)
    return (1 - COUPLING) * f + COUPLING / 2 * (xp.roll(f, 1, -1) + xp.roll(f, -1, -1))


def ring_exponents():
    return np.sort(np.log(np.abs(2 * (1 - COUPLING + COUPLING * np.cos(2 * np.pi * np.arange(SITES) / SITES)))))[::-1]


# -------------------------------------------------------------------------------------------------------- exact values
def flat(u):
    """Directions (k, n, d) as columns (n d, k)."""
    return u.reshape(len(u), -1).T


def qr(a):
    q, r = np.linalg.qr(a)
    s = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * s, np.diag(r) * s


def product_history(matrices, u, duration=1.0):
    """Local exponents of a product of matrices, from columns ``u`` that need not be orthonormal at the start."""
    q, rows = qr(u)[0], []
    for m in matrices:
        q, r = qr(m @ q)
        rows.append(np.log(r) / duration)
    return np.array(rows)


def linear_history(j, u, interval, intervals):
    """Local exponents of ``U' = J U``, with intervals cut fine enough that no digits are lost."""
    parts = int(np.ceil(interval * np.linalg.norm(j, 2) / 2))
    fine = product_history([expm(j * interval / parts)] * (parts * intervals), u)
    return fine.reshape(intervals, parts, -1).sum(1) / interval


def consensus_jacobian(value, mask, v, n):
    """Tangent Jacobian of self-attention at x_i = v, an eigenvector of ``value``; and its basis (n d, n (d - 1))."""
    e = np.linalg.svd(v[None])[2][1:].T
    k = np.ones((n, n)) if mask is None else np.asarray(mask, float)
    k = k / k.sum(1, keepdims=True)
    return np.kron(k, e.T @ value @ e) - (v @ value @ v) * np.eye(n * (len(v) - 1)), np.kron(np.eye(n), e)


def random_frame(k, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(k, *shape))


def tangent_frame(x, k=None, seed=100):
    """Orthonormal tangent directions (k, n, d) on spheres."""
    n, d = x.shape
    u = random_frame(n * (d - 1) if k is None else k, n, d, seed=seed)
    u = u - (u * x).sum(-1, keepdims=True) * x
    return qr(flat(u))[0].T.reshape(u.shape)
