"""Closed forms of equilibria: against the tangent Jacobian of the written-out equations, brute force, and the faces."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment

import ctsa
from ctsa import theory

DIAG = np.diag([3.0, 2.0, 1.0])


# ----------------------------------------------------------------------------- attention and its derivative, written out
def derivative(x, value, A, beta, mask=None, unnormalised=False):
    """Outputs (c, n, d) and their derivative (c, n, d, n, d) for c cases of one size, by the product rule.

    x (c, n, d), value and A (c, heads, d, d), beta (c, heads), mask (c, heads, n, n) or None.
    """
    c, n, d = x.shape
    eye = np.eye(n)
    ax, atx = np.einsum("chpq,cjq->chjp", A, x), np.einsum("chqp,ciq->chip", A, x)
    s = beta[..., None, None] * np.einsum("cip,chjp->chij", x, ax)
    ds = np.einsum("ik,chjp->chijkp", eye, ax) + np.einsum("jk,chip->chijkp", eye, atx)
    ds = beta[..., None, None, None, None] * ds
    a = np.exp(s) if mask is None else mask * np.exp(s)
    if unnormalised:
        a, da = a / n, a[..., None, None] / n * ds
    else:
        a = a / a.sum(-1, keepdims=True)
        da = a[..., None, None] * (ds - np.einsum("chij,chijkp->chikp", a, ds)[:, :, :, None])
    vx = np.einsum("chpq,cjq->chjp", value, x)
    outputs = np.einsum("chij,chjp->cip", a, vx)
    return outputs, np.einsum("chij,chpq->cipjq", a, value) + np.einsum("chijkq,chjp->cipkq", da, vx)


def tangent_jacobians(x, *args, **kwargs):
    """Residuals (c,) and tangent Jacobians (c, n (d-1), n (d-1)) of f_i = P_i o_i: E^T do E - <x_i, o_i>."""
    c, n, d = x.shape
    o, do = derivative(x, *args, **kwargs)
    radial = (x * o).sum(-1)
    e = np.linalg.svd(x[..., None, :])[2][..., 1:, :].swapaxes(-1, -2)
    j = np.einsum("cipa,cipkq,ckqb->ciakb", e, do, e)
    i = np.arange(n)
    j[:, i, :, i] -= radial.T[..., None, None] * np.eye(d - 1)
    residual = np.abs(o - radial[..., None] * x).max((-1, -2))
    return residual, j.reshape(c, n * (d - 1), n * (d - 1))


def test_the_derivative_is_that_of_the_fields(torch_face, jax_face, close):
    rng = np.random.default_rng(0)
    heads, n, d = 2, 4, 3
    for unnormalised in (False, True):
        query, key, value = rng.normal(size=(3, heads, d, d))
        beta, mask = rng.uniform(0.2, 1.5, heads), rng.uniform(0.1, 2, (heads, n, n))
        x = ctsa.random_tokens(n, d, seed=1)
        a = query.swapaxes(-1, -2) @ key
        o, do = derivative(x[None], value[None], a[None], beta[None], mask[None], unnormalised)
        _, j = tangent_jacobians(x[None], value[None], a[None], beta[None], mask[None], unnormalised)
        for face in (torch_face, jax_face):
            weights = "unnormalised" if unnormalised else "softmax"
            field = face.SelfAttention(
                **{k: face.array(p) for k, p in dict(query=query, key=key, value=value, beta=beta, mask=mask).items()},
                weights=weights,
            )
            projected = o[0] - (x * o[0]).sum(-1, keepdims=True) * x
            close(face.numpy(field(0.0, face.array(x))), projected, 1e-13)
            found = face.numpy(ctsa.jacobian(field, face.array(x), basis="tangent"))
            # Bases of the tangent spaces differ by rotations: compare what does not.
            close(np.linalg.svd(j[0])[1], np.linalg.svd(found)[1], 1e-12)
            assert distance(np.linalg.eigvals(j[0]), ctsa.eigenvalues(field, face.array(x))) < 1e-11


# ------------------------------------------------------------------------------------------------------- ten thousand cases
def distance(a, b):
    """Largest distance between two spectra, matched."""
    assert a.shape == b.shape, (a.shape, b.shape)
    gaps = np.abs(a[:, None] - b[None])
    return gaps[linear_sum_assignment(gaps)].max()


def values_with(rng, c, v, lam, symmetric):
    """Random V (c, d, d), symmetric or not, with V v = lam v."""
    d = v.shape[-1]
    m = rng.normal(size=(c, d, d))
    m = np.where(symmetric[:, None, None], m + m.swapaxes(-1, -2), m)
    p = np.eye(d) - v[:, :, None] * v[:, None, :]
    m = np.where(symmetric[:, None, None], p @ m @ p, m @ p)  # m v = 0
    return m + lam[:, None, None] * v[:, :, None] * v[:, None, :]


def index_of(value, lam):
    w = np.linalg.eigvals(value)
    w = w[np.lexsort((-w.imag, -w.real))]
    return int(np.abs(w - lam).argmin())


class Cases:
    """Random equilibria of one kind and size: what the tangent Jacobian sees, and the closed form of each."""

    def __init__(self, rng, c, n, d):
        self.rng, self.c, self.n, self.d = rng, c, n, d
        self.v = ctsa.random_tokens(c, d, seed=int(rng.integers(2**31)))
        self.lam = rng.choice([-1, 1], c) * rng.uniform(0.5, 4, c)
        self.A, self.beta = rng.normal(size=(c, 1, d, d)), rng.uniform(0, 2, (c, 1))
        self.value = values_with(rng, c, self.v, self.lam, rng.random(c) < 0.4)[:, None]
        self.k = [index_of(value[0], lam) for value, lam in zip(self.value, self.lam, strict=True)]
        self.x = np.repeat(self.v[:, None], n, 1)
        self.mask, self.unnormalised = None, False

    def jacobians(self):
        return tangent_jacobians(self.x, self.value, self.A, self.beta, self.mask, unnormalised=self.unnormalised)


def consensus(cases):
    """Two heads whose sum has the eigenvector."""
    cases.value = np.stack([cases.value[:, 0] - (m := cases.rng.normal(size=(cases.c, cases.d, cases.d))), m], 1)
    cases.A, cases.beta = np.repeat(cases.A, 2, 1), np.repeat(cases.beta, 2, 1)
    return lambda i: theory.consensus_spectrum(cases.value[i], cases.k[i], cases.n)


def _masks(cases, heads):
    n, rng = cases.n, cases.rng
    masks = rng.uniform(0.2, 2, (cases.c, heads, n, n)) * (rng.random((cases.c, heads, n, n)) < 0.6)
    masks[:, :, np.arange(n), np.arange(n)] += 0.5
    return masks


def masked_consensus(cases):
    cases.mask = _masks(cases, 1)
    cases.mask[::3] = np.tril(np.ones((cases.n, cases.n)))
    return lambda i: theory.consensus_spectrum(
        cases.value[i, 0], cases.k[i], cases.n, mask=cases.mask[i, 0] if i % 3 else "causal"
    )


def headed_masks(cases):
    consensus(cases)
    cases.mask = _masks(cases, 2)
    return lambda i: theory.consensus_spectrum(cases.value[i], cases.k[i], cases.n, mask=cases.mask[i])


def unnormalised_consensus(cases):
    cases.unnormalised, cases.mask = True, _masks(cases, 1)
    cases.mask[::3], cases.mask[1::3] = 1.0, np.tril(np.ones((cases.n, cases.n)))

    def closed(i):
        mask = (None, "causal", cases.mask[i, 0])[i % 3]
        extra = dict(mask=mask, weights="unnormalised", A=cases.A[i, 0], beta=cases.beta[i, 0])
        return theory.consensus_spectrum(cases.value[i, 0], cases.k[i], cases.n, **extra)

    return closed


def bipartite(cases):
    cases.n_plus = 1 + np.arange(cases.c) % (cases.n - 1)
    signs = np.where(np.arange(cases.n) < cases.n_plus[:, None], 1, -1)
    cases.x = cases.x * signs[..., None]
    kind = "unnormalised" if cases.unnormalised else "softmax"
    return lambda i: theory.bipartite_spectrum(
        cases.value[i, 0], cases.A[i, 0], cases.beta[i, 0], cases.k[i], cases.n_plus[i], cases.n - cases.n_plus[i],
        weights=kind,
    )  # fmt: skip


def unnormalised_bipartite(cases):
    cases.unnormalised = True
    return bipartite(cases)


def clustering(cases):
    """Two heads with scores of their own; the first V is made such that random clusters rest."""
    rng, c, n, d = cases.rng, cases.c, cases.n, cases.d
    q = min(n, 1 + int(rng.integers(1, d)))
    counts = np.stack([1 + np.bincount(rng.integers(0, q, n - q), minlength=q) for _ in range(c)])
    w = rng.normal(size=(c, q, d))
    w /= np.linalg.norm(w, axis=-1, keepdims=True)
    cases.A, cases.beta = np.concatenate([cases.A, rng.normal(size=(c, 1, d, d))], 1), rng.uniform(0, 2, (c, 2))
    p = np.exp(cases.beta[..., None, None] * (w[:, None] @ cases.A @ w[:, None].swapaxes(-1, -2)))
    p = p * counts[:, None, None]
    p = p / (n if cases.unnormalised else p.sum(-1, keepdims=True))
    wt, back = w.swapaxes(-1, -2), np.linalg.pinv(w.swapaxes(-1, -2))
    # V_1 W^T P_1^T + V_2 W^T P_2^T = W^T diag(phi), and V_1 does as it likes to what is orthogonal to all clusters.
    second, first_p, second_p = rng.normal(size=(c, d, d)), p[:, 0].swapaxes(-1, -2), p[:, 1].swapaxes(-1, -2)
    first = (wt * rng.normal(size=(c, 1, q)) - second @ wt @ second_p) @ np.linalg.inv(first_p) @ back
    first = first + rng.normal(size=(c, d, d)) @ (np.eye(d) - wt @ back)
    cases.value = np.stack([first, second], 1)
    cases.x = np.stack([np.repeat(rows, r, 0) for rows, r in zip(w, counts, strict=True)])
    kind = "unnormalised" if cases.unnormalised else "softmax"
    return lambda i: theory.clustering_spectrum(
        w[i], counts[i], cases.value[i], cases.A[i], cases.beta[i], weights=kind
    )  # fmt: skip


def unnormalised_clustering(cases):
    cases.unnormalised = True
    return clustering(cases)


KINDS = (
    consensus, masked_consensus, headed_masks, unnormalised_consensus, bipartite, unnormalised_bipartite, clustering,
    unnormalised_clustering,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_spectra_are_those_of_the_tangent_jacobian(kind):
    """10,080 cases in all: n = 2..8, d = 2..5, V and A of all sorts, single tokens, heads, masks."""
    rng, verdicts, worst = np.random.default_rng(KINDS.index(kind)), [], 0.0
    for n, d in itertools.product(range(2, 9), range(2, 6)):
        cases = Cases(rng, 45, n, d)
        closed = kind(cases)
        residual, jacobians = cases.jacobians()
        assert (residual < 1e-9 * np.abs(cases.value).max((1, 2, 3))).all()
        for i, found in enumerate(np.linalg.eigvals(jacobians)):
            expected = closed(i)
            assert (np.diff(expected.real) <= 0).all()
            size = max(1.0, np.abs(expected).max())
            worst = max(worst, distance(expected, found) / size)
            lead = expected[0].real
            assert abs(lead) > 1e-8 * size and (lead < 0) == (found.real.max() < 0)
            verdicts.append(lead < 0)
    assert worst < 1e-8
    assert len(verdicts) == 1260 and 10 < sum(verdicts) < 1250


# ---------------------------------------------------------------------------------------------------- by hand, at a glance
def test_consensus_by_hand(close):
    close(theory.consensus_spectrum(DIAG, 0, 2), np.array([-1, -2, -3, -3]) + 0j)
    close(theory.consensus_spectrum(DIAG, 1, 1), np.array([1, -1]) + 0j)
    causal = sorted([2 / j - 3 for j in (1, 2, 3)] + [1 / j - 3 for j in (1, 2, 3)], reverse=True)
    close(theory.consensus_spectrum(DIAG, 0, 3, mask="causal").real, causal)
    usa = theory.consensus_spectrum(DIAG, 0, 4, weights="unnormalised", A=DIAG, beta=0.5)
    close(usa, math.exp(1.5) * theory.consensus_spectrum(DIAG, 0, 4))
    # Q = K = V = I: the sphere of consensus states, and contraction towards it at rate 1.
    close(theory.consensus_spectrum(np.eye(3), 0, 4), np.array([0, 0] + [-1] * 6) + 0j)
    close(
        theory.consensus_spectrum(np.stack([np.eye(3)] * 2) / 2, 0, 4, mask=np.ones((2, 4, 4))).real, [0] * 2 + [-1] * 6
    )


def test_many_tokens_cost_nothing(close):
    n = 10**5
    spectrum = theory.consensus_spectrum(DIAG, 0, n, mask="causal")
    assert len(spectrum) == 2 * n
    close(spectrum[0].real, -1.0)
    v = DIAG[:, :1].T / 3
    bipartite = theory.bipartite_spectrum(DIAG, DIAG, 0.4, 0, n, n // 2)
    clusters = theory.clustering_spectrum(np.concatenate([v, -v]), [n, n // 2], DIAG, DIAG, 0.4)
    close(clusters, bipartite, 1e-13)


def test_within_cluster_modes_are_part_of_the_whole():
    turn = 2 * np.pi * np.arange(3) / 3 + 0.4
    triangle = np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    counts = [4, 4, 4]
    whole = theory.clustering_spectrum(triangle, counts, np.eye(3), np.eye(3), 6.0)
    assert len(whole) == 12 * 2
    for a in range(3):
        part = theory.within_cluster_spectrum(triangle, counts, np.eye(3), np.eye(3), 6.0, a)
        assert part.shape == (6,) and np.abs(part[:, None] - whole).min(1).max() < 1e-13
        # V = A = I: the covariance lies along the triangle's plane, so across it the rate is -phi alone.
        p = np.exp(6 * np.cos(2 * np.pi / 3 * np.arange(3)))
        assert np.abs(part + (p / p.sum()) @ np.cos(2 * np.pi / 3 * np.arange(3))).min() < 1e-14
    assert theory.within_cluster_spectrum(triangle, [1, 1, 1], np.eye(3), np.eye(3), 6.0, 0).shape == (0,)


def test_faces_agree_with_the_closed_forms(torch_face, jax_face, close):
    rng = np.random.default_rng(3)
    v = ctsa.random_tokens(1, 3, seed=4)
    value = values_with(rng, 1, v, np.array([2.5]), np.array([False]))[0]
    k, a = index_of(value, 2.5), rng.normal(size=(3, 3))
    signs = np.array([1, 1, 1, -1])[:, None]
    expected = {
        "causal": theory.consensus_spectrum(value, k, 4, mask="causal"),
        None: theory.bipartite_spectrum(value, a, 0.7, k, 3, 1),
    }
    for face in (torch_face, jax_face):
        for mask, spectrum in expected.items():
            field = face.SelfAttention(key=face.array(a), value=face.array(value), beta=0.7, mask=mask)
            x = face.array(np.repeat(v, 4, 0) * (1 if mask else signs))
            assert distance(ctsa.eigenvalues(field, x), spectrum) < 1e-12
        # Parameters of a field are taken as they are.
        found = theory.bipartite_spectrum(field.value, field.key, 0.7, k, 3, 1)
        close(found, expected[None], 1e-15)


@given(seed=st.integers(0, 2**32 - 1), n_plus=st.integers(1, 6), n_minus=st.integers(1, 6), c=st.floats(0.1, 9))
def test_bipartite_symmetries(seed, n_plus, n_minus, c):
    rng = np.random.default_rng(seed)
    value, a = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    k = int(np.flatnonzero(index_real(value))[0])
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for weights in ("softmax", "unnormalised"):
        spectrum = theory.bipartite_spectrum(value, a, 0.5, k, n_plus, n_minus, weights=weights)
        assert len(spectrum) == 2 * (n_plus + n_minus)
        same = (
            theory.bipartite_spectrum(value, a, 0.5, k, n_minus, n_plus, weights=weights),
            theory.bipartite_spectrum(c * value, a, 0.5, k, n_plus, n_minus, weights=weights) / c,
            theory.bipartite_spectrum(q @ value @ q.T, q @ a @ q.T, 0.5, k, n_plus, n_minus, weights=weights),
            theory.bipartite_spectrum(value, a / c, 0.5 * c, k, n_plus, n_minus, weights=weights),
            theory.bipartite_spectrum(value, a.T, 0.5, k, n_plus, n_minus, weights=weights),
            spectrum.conj(),
        )
        for other in same:
            assert distance(other, spectrum) < 1e-7 * max(1, np.abs(spectrum).max())  # nearly defective V included


def index_real(value):
    w = np.linalg.eigvals(value)
    return w[np.lexsort((-w.imag, -w.real))].imag == 0


# -------------------------------------------------------------------------------------------------------- polygonal states
@pytest.mark.parametrize("q", [2, 3, 5])
def test_polygonal_states_are_unstable(q, close):
    """Zero output: the trace is sum_i tr(P_i V) / n > 0 for V positive definite, so that something grows."""
    rng = np.random.default_rng(q)
    turn = 2 * np.pi * np.arange(q) / q
    polygon = np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    m = rng.normal(size=(3, 3))
    value = m @ m.T + 0.1 * np.eye(3)
    for a, beta in ((rng.normal(size=(3, 3)), 0.0), (np.zeros((3, 3)), 2.0)):
        spectrum = theory.clustering_spectrum(polygon, [4] * q, value, a, beta)
        close(spectrum.sum().real, np.trace(value) - np.einsum("qi,ij,qj->", polygon, value, polygon) / q, 1e-12)
        assert spectrum[0].real > 0.01


# ------------------------------------------------------------------------------------------------------- rotating consensus
def test_period_and_multipliers_are_those_of_the_monodromy_matrix():
    rng = np.random.default_rng(0)
    s = np.eye(4) + 0.2 * rng.normal(size=(4, 4))
    block = np.array([[0.3, -1.7], [1.7, 0.3]])
    value = s @ np.block([[block, np.zeros((2, 2))], [np.zeros((2, 2)), np.array([[0.1, 0.2], [-0.3, -0.2]])]])
    value = value @ np.linalg.inv(s)
    period = theory.consensus_period(value)
    assert abs(period - 2 * np.pi / 1.7) < 1e-13
    n, d = 2, 4
    x0 = s[:, 0] / np.linalg.norm(s[:, 0])
    a, beta = rng.normal(size=(1, 1, d, d)), np.array([[0.8]])

    def both(t, y):
        x, u = y[: n * d].reshape(n, d), y[n * d :].reshape(n, d, -1)
        o, do = derivative(x[None], value[None, None], a, beta)
        o, du = o[0], np.einsum("ipjq,jqk->ipk", do[0], u)
        radial = np.einsum("ip,ipk->ik", x, du) + np.einsum("ip,ipk->ik", o, u)
        rho = (x * o).sum(-1)
        dx = o - rho[:, None] * x
        return np.append(dx, du - radial[:, None] * x[..., None] - rho[:, None, None] * u)

    start = np.append(np.tile(x0, n), np.eye(n * d))
    y = solve_ivp(both, (0, period), start, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    assert np.abs(y[: n * d] - start[: n * d]).max() < 1e-9
    e = np.linalg.svd(x0[None])[2][1:]
    e = np.kron(np.eye(n), e)
    found = np.linalg.eigvals(e @ y[n * d :].reshape(n * d, n * d) @ e.T)
    expected = theory.consensus_multipliers(value, n)
    assert (np.diff(np.abs(expected)) <= 0).all() and abs(expected[0] - 1) < 1e-15
    assert distance(found, expected) < 1e-8


# ------------------------------------------------------------------------------------------------------------ Oja's flow
def test_oja_equilibria():
    rng = np.random.default_rng(1)
    for value in (DIAG, -DIAG, rng.normal(size=(5, 5)), rng.normal(size=(4, 4))):
        d = len(value)
        found = theory.oja_equilibria(value)
        assert len(found) == 2 * int(np.isreal(np.linalg.eigvals(value)).sum())
        for e in found:
            residual, j = tangent_jacobians(
                e.direction[None, None], value[None, None], np.eye(d)[None, None], np.zeros((1, 1))
            )
            assert residual < 1e-13 and abs(np.linalg.norm(e.direction) - 1) < 1e-14 and e.family == 0
            assert distance(e.spectrum, np.linalg.eigvals(j[0])) < 1e-12
            assert e.stable == (np.linalg.eigvals(j[0]).real.max() < 0)
            assert abs(e.direction @ value @ e.direction - e.eigenvalue) < 1e-12
    signs = [(e.k, e.stable) for e in theory.oja_equilibria(-DIAG)]
    assert signs == [(0, True)] * 2 + [(1, False)] * 2 + [(2, False)] * 2
    assert theory.oja_equilibria([[0.0, -1.0], [1.0, 0.0]]) == []


def test_oja_equilibria_in_families():
    found = theory.oja_equilibria(np.diag([2.0, 2.0, 1.0]))
    assert [(e.k, e.stable, e.family) for e in found] == [(0, False, 1)] * 2 + [(1, False, 1)] * 2 + [(2, False, 0)] * 2
    assert abs(found[0].direction @ found[2].direction) < 1e-15
    (first, opposite) = theory.oja_equilibria([[1.0, 1.0], [0.0, 1.0]])  # one eigenvector, twice the eigenvalue
    assert np.abs(np.abs(first.direction) - [1, 0]).max() < 1e-15 and (first.direction == -opposite.direction).all()


# ------------------------------------------------------------------------------------------------------------ thresholds
def test_balanced_threshold(close):
    close(theory.balanced_threshold(DIAG, DIAG), np.arctanh(2 / 3) / 3, 1e-15)
    for n in (2, 4, 10):
        close(theory.bipartite_windows(DIAG, DIAG, 0, n // 2, n // 2)[:, 0], [np.arctanh(2 / 3) / 3], 1e-14)
    assert theory.balanced_threshold(DIAG, DIAG, 1) == np.inf
    assert theory.balanced_threshold(DIAG, -DIAG) == np.inf
    assert theory.balanced_threshold(np.diag([3.0, 3.0, 1.0]), DIAG) == np.inf
    assert theory.balanced_threshold(np.diag([3.0, 0.0, -1.0]), None) == 0
    assert theory.balanced_threshold(np.diag([1.0, 0.5, -2.0]), np.eye(3), 2) == np.inf  # lambda kappa < 0
    close(theory.balanced_threshold(np.diag([1.0, 0.5, -2.0]), -np.eye(3), 2), np.arctanh(0.5), 1e-15)


def test_two_tokens_repel_to_opposite_points():
    """V negative definite, one token a group: stable at once, which groups of two never are."""
    assert (theory.bipartite_windows(-DIAG, np.eye(3), 0, 1, 1) == [[0, np.inf]]).all()
    assert theory.bipartite_windows(-DIAG, np.eye(3), 0, 2, 2).shape == (0, 2)
    assert theory.bipartite_threshold(-DIAG, np.eye(3), 0, 1, 1) == 0
    assert theory.bipartite_threshold(-DIAG, np.eye(3), 0, 2, 2) == np.inf


def test_threshold_in_closed_form(close):
    for n_plus, n_minus in ((5, 5), (7, 3), (99, 1), (2, 10**6)):
        c = (n_plus / n_minus + n_minus / n_plus) / 2
        y = max((3 * c + math.sqrt(9 * (c * c - 1) + mu * mu)) / (3 - mu) for mu in (2.0, 1.0))
        tears = abs(math.log(n_plus / n_minus))
        close(theory.bipartite_threshold(DIAG, DIAG, 0, n_plus, n_minus), max(math.log(y), tears) / 6, 1e-12)


@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_windows_against_a_scan(weights):
    rng, shapes = np.random.default_rng(5), []
    betas = np.linspace(0, 6, 101)[1:]
    for trial in range(60):
        d = 2 + trial % 4
        lam = np.array([rng.choice([-1, 1]) * rng.uniform(1, 3)])
        v = ctsa.random_tokens(1, d, seed=trial)
        value, a = values_with(rng, 1, v, lam, np.array([False]))[0], rng.normal(size=(d, d))
        k, groups = index_of(value, lam), rng.integers(1, 4, 2)
        windows = theory.bipartite_windows(value, a, k, *groups, weights=weights)
        scan = [theory.bipartite_spectrum(value, a, b, k, *groups, weights=weights)[0].real for b in betas]
        inside = ((betas[:, None] > windows[:, 0]) & (betas[:, None] < windows[:, 1])).any(1)
        clear = np.abs(scan) > 1e-6
        assert (inside == (np.array(scan) < 0))[clear].all()
        for end in windows[np.isfinite(windows) & (windows > 0)]:
            rate = theory.bipartite_spectrum(value, a, end, k, *groups, weights=weights)[0].real
            assert abs(rate) < 1e-12 * max(1, np.abs(scan).max())
        shapes.append(len(windows))
    assert 0 in shapes and 1 in shapes


def test_a_window_that_closes():
    """A complex pair of V beside a negative eigenvalue: oscillation sets in at a second, larger beta."""
    value = np.zeros((3, 3))
    value[0, 0], value[1:, 1:] = -0.6, [[-0.62, -3.2], [3.2, -0.62]]
    ((start, end),) = theory.bipartite_windows(value, -np.eye(3), 0, 3, 1)
    assert abs(start - math.log(3) / 2) < 1e-14  # the group of 3 tears below
    at = theory.bipartite_spectrum(value, -np.eye(3), end, 0, 3, 1)
    assert end > start + 0.1 and abs(at[0].real) < 1e-13 and abs(at[0].imag) > 1
    assert theory.bipartite_threshold(value, -np.eye(3), 0, 3, 1) == np.inf
    for beta, stable in ((start - 0.01, False), ((start + end) / 2, True), (end + 0.01, False)):
        x = np.array([1.0, 1, 1, -1])[None, :, None] * np.eye(3)[0]
        _, j = tangent_jacobians(x, value[None, None], -np.eye(3)[None, None], np.array([[beta]]))
        assert (np.linalg.eigvals(j[0]).real.max() < 0) == stable


# ---------------------------------------------------------------------------------------------------------------- census
def by_enumeration(value, a, beta, n, unnormalised):
    """All 2^n assignments of signs at every real eigenvector, judged by the tangent Jacobian."""
    w, vectors = np.linalg.eig(value)
    counts, order = {}, np.lexsort((-w.imag, -w.real))
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    for k, column in enumerate(order):
        if w[column].imag:
            continue
        x = signs[..., None] * vectors[:, column].real
        many = (len(x), 1, 1, 1)
        arguments = np.tile(value, many), np.tile(a, many), np.full((len(x), 1), beta)
        residual, j = tangent_jacobians(x, *arguments, unnormalised=unnormalised)
        assert residual.max() < 1e-13 * n * np.abs(j).max()
        stable = np.linalg.eigvals(j).real.max(-1) < -1e-7
        consensus = np.abs(signs.sum(1)) == n
        counts["consensus", k] = int(stable[consensus].sum())
        counts["bipartite consensus", k] = int(stable[~consensus].sum())
    return counts


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_census_against_enumeration(n):
    rng, seen = np.random.default_rng(n), set()
    symmetric = (m := rng.normal(size=(3, 3))) + m.T
    pairs = [
        (DIAG, DIAG),
        (np.diag([1.0, 0.5, -2.0]), np.diag([1.0, 0.5, -2.0])),
        (-DIAG, np.eye(3)),
        (np.diag([2.0, 2.0, 1.0]), DIAG),  # a circle of consensus states
        (symmetric, symmetric),
        *((rng.normal(size=(d, d)), rng.normal(size=(d, d))) for d in (2, 3, 3, 4)),
    ]
    pairs = pairs[: 4 if n == 8 else 9]
    for (value, a), beta, weights in itertools.product(pairs, (0.3, 1.5), ("softmax", "unnormalised")):
        found = theory.census(value, a, beta, n, weights=weights)
        assert found == by_enumeration(value, a, beta, n, weights == "unnormalised"), (value, a, beta, weights)
        assert all(type(count) is int for count in found.values())
        seen |= {(kind, count > 0) for (kind, _), count in found.items()}
    assert len(seen) == 4


def test_census_numbers():
    table = theory.census_table(DIAG, DIAG, [0.1, 0.25, 0.5, 1.0, 4.0], 10)
    assert table["consensus", 0] == [2] * 5
    assert table["bipartite consensus", 0] == [0, 0, 1002, 1022, 1022]
    assert all(not any(column) for (_, k), column in table.items() if k > 0)
    assert {key: column[2] for key, column in table.items()} == theory.census(DIAG, DIAG, 0.5, 10)


def test_census_of_many_tokens_is_exact():
    found = theory.census(DIAG, DIAG, 8.0, 400)
    assert found["bipartite consensus", 0] == 2**400 - 2
    # At beta = 0.5 only the most unequal groups are unstable: thresholds and counts tell the same story.
    found = theory.census(DIAG, DIAG, 0.5, 60)["bipartite consensus", 0]
    stable = [m for m in range(1, 60) if theory.bipartite_threshold(DIAG, DIAG, 0, m, 60 - m) < 0.5]
    assert found == sum(math.comb(60, m) for m in stable)
    assert 0 < found < 2**60 - 2


def test_census_of_an_indefinite_value():
    """The most negative eigenvector carries bipartite states, and no consensus."""
    value = np.diag([1.0, 0.5, -2.0])
    found = theory.census(value, value, 2.0, 6)
    assert found["consensus", 0] == 2 and found["consensus", 2] == 0
    assert found["bipartite consensus", 2] == 2**6 - 2


def test_census_in_marginal_cases():
    threshold = theory.balanced_threshold(DIAG, DIAG)
    for beta, count in ((threshold, 0), (threshold * (1 + 1e-8), math.comb(4, 2)), (threshold * (1 - 1e-8), 0)):
        assert theory.census(DIAG, DIAG, beta, 4)["bipartite consensus", 0] == count
    identity = theory.census(np.eye(3), np.eye(3), 2.0, 5)  # continuous families: none is stable by itself
    assert set(identity.values()) == {0} and len(identity) == 6
    assert theory.census([[1.0, -2.0], [2.0, 1.0]], None, 1.0, 5) == {}
    alone = theory.census(DIAG, DIAG, 1.0, 1)
    assert alone.pop(("consensus", 0)) == 2 and len(alone) == 5 and not any(alone.values())
    turning = np.diag([1.0, 2.0, 2.0]) + np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert theory.census(turning, None, 3.0, 5) == {("consensus", 2): 0, ("bipartite consensus", 2): 0}


def test_beta_zero_leaves_consensus_alone():
    rng = np.random.default_rng(9)
    for _ in range(20):
        value = rng.normal(size=(4, 4))
        found = theory.census(value @ value.T, rng.normal(size=(4, 4)), 0.0, 7)
        assert {key for key, count in found.items() if count} == {("consensus", 0)} and found["consensus", 0] == 2


# ------------------------------------------------------------------------------------------------------------ hemispheres
@pytest.mark.parametrize(("n", "d"), [(3, 2), (6, 2), (5, 3), (8, 3), (7, 4)])
def test_hemisphere_probability_against_simulation(n, d):
    """Points lie in a hemisphere iff some plane through d - 1 of them has all others on one side."""
    samples = 4000
    x = np.random.default_rng(n * d).normal(size=(samples, n, d))
    inside = np.zeros(samples, dtype=bool)
    for chosen in itertools.combinations(range(n), d - 1):
        normal = np.linalg.svd(x[:, chosen])[2][:, -1]
        side = np.einsum("snd,sd->sn", x, normal)[:, [i for i in range(n) if i not in chosen]]
        inside |= (side > 0).all(1) | (side < 0).all(1)
    p = theory.hemisphere_probability(n, d)
    assert abs(inside.mean() - p) < 4 * math.sqrt(p * (1 - p) / samples)


def test_hemisphere_probability_where_it_is_known():
    assert [theory.hemisphere_probability(n, 1) for n in (1, 2, 5)] == [1, 1 / 2, 1 / 16]
    assert [theory.hemisphere_probability(n, 2) for n in (1, 2, 3, 8)] == [n / 2 ** (n - 1) for n in (1, 2, 3, 8)]
    assert all(theory.hemisphere_probability(2 * d, d) == 0.5 for d in (1, 2, 3, 50, 700))
    assert theory.hemisphere_probability(1001, 3) == math.ldexp(1 + 1000 + 500 * 999, -1000)
    assert theory.hemisphere_probability(10**5, 3) == 0


# ---------------------------------------------------------------------------------------------------------------- bad input
TURN = [[0.0, -1.0], [1.0, 0.0]]
PLUS_MINUS = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: theory.consensus_spectrum(DIAG, 0, 0), ValueError, "n must be an integer of at least 1, got 0"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2.5), TypeError, "n must be an integer"),
        (lambda: theory.consensus_spectrum(DIAG, 3, 2), ValueError, "k must be below d = 3"),
        (lambda: theory.consensus_spectrum(DIAG, -1, 2), ValueError, "k must be an integer of at least 0"),
        (lambda: theory.consensus_spectrum(np.ones((2, 3)), 0, 2), ValueError, "value must be square"),
        (lambda: theory.consensus_spectrum([[1.0]], 0, 2), ValueError, "value has d = 1"),
        (lambda: theory.consensus_spectrum([1.0, 2.0], 0, 2), ValueError, "value must be 2-dimensional or 3-dim"),
        (lambda: theory.consensus_spectrum(None, 0, 2), TypeError, "value must be an array"),
        (lambda: theory.consensus_spectrum(np.full((2, 2), np.nan), 0, 2), ValueError, "value must be finite"),
        (lambda: theory.consensus_spectrum(TURN, 0, 2), ValueError, "complex eigenvalue 0.1j at k=0.*consensus_period"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, mask="future"), ValueError, "mask must be one of 'causal'"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, mask=np.ones((3, 3))), ValueError, "mask must be 'causal' or have"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, mask=-np.ones((2, 2))), ValueError, "non-negative"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, mask=[[1, 0], [0, 0]]), ValueError, "mask row 1 is empty"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, weights="linear"), ValueError, "weights must be one of"),
        (lambda: theory.consensus_spectrum(DIAG, 0, 2, weights="unnormalised"), ValueError, "need beta"),
        (
            lambda: theory.consensus_spectrum(DIAG, 0, 2, weights="unnormalised", beta=1e4),
            ValueError,
            "overflow",
        ),
        (
            lambda: theory.consensus_spectrum(DIAG, 0, 2, weights="unnormalised", beta=1.0, mask=np.ones((2, 2, 2))),
            ValueError,
            "a mask for each head",
        ),
        (
            lambda: theory.consensus_spectrum(np.stack([DIAG] * 3), 0, 2, mask=np.ones((2, 2, 2))),
            ValueError,
            "mask has 2 heads, but value has 3",
        ),
        (lambda: theory.consensus_period(DIAG), ValueError, "its leading eigenvalue is 3"),
        (lambda: theory.consensus_multipliers(DIAG, 2), ValueError, "leading complex pair"),
        (lambda: theory.bipartite_spectrum(DIAG, DIAG, 1.0, 0, 0, 4), ValueError, "n_plus must be an integer"),
        (lambda: theory.bipartite_spectrum(DIAG, DIAG, 1.0, 0, 4, 0), ValueError, "n_minus must be an integer"),
        (lambda: theory.bipartite_spectrum(DIAG, np.eye(2), 1.0, 0, 2, 2), ValueError, "A has shape"),
        (lambda: theory.bipartite_spectrum(DIAG, np.stack([DIAG] * 2), 1.0, 0, 2, 2), ValueError, "clustering_spectrum"),
        (lambda: theory.bipartite_spectrum(DIAG, DIAG, np.inf, 0, 2, 2), ValueError, "beta must be a finite number"),
        (lambda: theory.bipartite_spectrum(np.eye(3), DIAG, 1.0, 0, 2, 2), ValueError, "3 independent eigenvectors"),
        (
            lambda: theory.bipartite_spectrum(DIAG, DIAG, 1e4, 0, 2, 2, weights="unnormalised"),
            ValueError,
            "overflow",
        ),
        (lambda: theory.clustering_spectrum(PLUS_MINUS, [2], DIAG, DIAG, 1.0), ValueError, "counts must be 2"),
        (lambda: theory.clustering_spectrum(PLUS_MINUS, [2, 0], DIAG, DIAG, 1.0), ValueError, "counts must be 2"),
        (lambda: theory.clustering_spectrum(PLUS_MINUS, [2, 1.5], DIAG, DIAG, 1.0), ValueError, "counts must be 2"),
        (lambda: theory.clustering_spectrum(np.eye(2), [1, 1], DIAG, DIAG, 1.0), ValueError, r"must be \(q, 3\)"),
        (lambda: theory.clustering_spectrum(2 * np.eye(3), [1] * 3, DIAG, DIAG, 1.0), ValueError, "must be unit rows"),
        (lambda: theory.clustering_spectrum(np.eye(3), [1] * 3, DIAG, DIAG, 1.0), ValueError, "must be an equilibrium"),
        (
            lambda: theory.clustering_spectrum(PLUS_MINUS, [2, 2], np.stack([DIAG] * 2), DIAG, [1.0] * 3),
            ValueError,
            "the same number of heads",
        ),
        (lambda: theory.within_cluster_spectrum(PLUS_MINUS, [2, 2], DIAG, DIAG, 1.0, 2), ValueError, "cluster must be"),
        (lambda: theory.census(DIAG, DIAG, 1.0, 0), ValueError, "n must be an integer of at least 1"),
        (lambda: theory.census(DIAG, DIAG, 1.0, 4, weights="l2"), ValueError, "weights must be one of"),
        (lambda: theory.census_table(DIAG, DIAG, 1.0, 4), ValueError, "betas must be a list"),
        (lambda: theory.bipartite_windows(TURN, None, 0, 1, 1), ValueError, "complex eigenvalue"),
        (lambda: theory.hemisphere_probability(0, 3), ValueError, "n must be an integer of at least 1"),
        (lambda: theory.hemisphere_probability(3, 0), ValueError, "d must be an integer of at least 1"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
