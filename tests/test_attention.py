"""Attention weights: definitions, masks, heads, and the limits that hold exactly."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from reference import CASES, HEADS, D, N, attention, masks, parameters, state

import ctsa
from ctsa.attention import WEIGHTS, Weights, sinkhorn
from ctsa.derivatives import jvp_batched

ATTENTION = [name for name, (kind, _) in CASES.items() if kind == "SelfAttention"]
ROWS_SUM_TO_ONE = ("softmax", "hardmax", "l2", "sinkhorn")


def weights_of(face, x, **kwargs):
    return face.numpy(face.SelfAttention(**kwargs).attention(face.array(x)))


@pytest.fixture
def x():
    return ctsa.random_tokens(N, D, seed=1)


# ---------------------------------------------------------------------------------------------------------- definitions
@pytest.mark.parametrize("case", ATTENTION)
def test_weights(torch_face, case, close):
    x = state(case)
    kwargs = {name: value for name, value in CASES[case][1].items() if name != "geometry"}
    expected, _ = attention(x, **kwargs)
    found = weights_of(torch_face, x, **kwargs)
    close(found, expected if found.ndim == 3 else expected[0])


def test_known_weights():
    assert sorted(WEIGHTS) == ["hardmax", "l2", "linear", "sigmoid", "sinkhorn", "softmax", "unnormalised"]
    assert all(WEIGHTS[name].name == name for name in WEIGHTS)
    assert sorted(name for name, w in WEIGHTS.items() if w.normalised) == sorted(ROWS_SUM_TO_ONE)


def test_scores(face, x, close):
    p, r = parameters(0), np.arange(D) / D
    field = face.SelfAttention(**p, beta=0.7, key_field=r)
    expected = 0.7 * (np.einsum("ia,ma,mb,jb->ij", x, p["query"], p["key"], x) + x @ r)
    close(field.scores(face.array(x)), expected, 1e-14)
    distances = ((x @ p["query"].T)[:, None] - x @ p["key"].T) ** 2
    l2 = face.SelfAttention(**p, beta=0.7, weights="l2").scores(face.array(x))
    rest = face.numpy(l2) + 0.7 / 2 * distances.sum(-1)  # differs from the distances by a term that rows do not see
    close(rest, np.repeat(rest[:, :1], N, axis=1), 1e-14)


@pytest.mark.parametrize("kind", ROWS_SUM_TO_ONE)
@pytest.mark.parametrize("beta", [0.0, 1.0, 50.0])
def test_rows_sum_to_one(face, x, close, kind, beta):
    a = weights_of(face, x, beta=beta, weights=kind)
    close(a.sum(-1), np.ones(N), 1e-14)
    assert (a >= 0).all()


def test_definitions_on_the_sphere(face, x, close):
    s = 1.5 * x @ x.T
    close(weights_of(face, x, beta=1.5, weights="unnormalised"), np.exp(s) / N, 1e-14)
    close(weights_of(face, x, beta=1.5, weights="linear"), s / N, 1e-15)
    close(weights_of(face, x, beta=1.5, weights="sigmoid"), 1 / (1 + N * np.exp(-s)), 1e-14)
    # Unit queries and keys: |x - y|^2 = 2 - 2 <x, y>, so l2 is softmax.
    close(weights_of(face, x, beta=1.5, weights="l2"), weights_of(face, x, beta=1.5), 1e-14)


@pytest.mark.parametrize("kind", ["softmax", "l2", "sigmoid", "hardmax", "sinkhorn"])
def test_large_scores_do_not_overflow(face, x, kind):
    for beta in (1e4, -1e4):
        a = weights_of(face, x, beta=beta, weights=kind)
        assert np.isfinite(a).all() and a.min() >= 0 and a.max() <= 1


# ---------------------------------------------------------------------------------------------------------------- masks
@pytest.mark.parametrize("kind", sorted(set(WEIGHTS) - {"sinkhorn"}))
def test_masks(face, x, close, kind):
    lower = np.tril(np.ones((N, N)))
    causal, boolean, numbers = (
        weights_of(face, x, beta=2.0, weights=kind, mask=m) for m in ("causal", lower.astype(bool), lower)
    )
    assert (causal[np.triu_indices(N, 1)] == 0).all()
    close(causal, boolean, 0)
    close(causal, numbers, 0)
    full = weights_of(face, x, beta=2.0, weights=kind, mask=np.ones((N, N), bool))
    close(full, weights_of(face, x, beta=2.0, weights=kind), 1e-15)


def test_causal_rows(face, x, close):
    a = weights_of(face, x, beta=2.0, mask="causal")
    for i in range(N):
        e = np.exp(2.0 * x[: i + 1] @ x[i])
        close(a[i, : i + 1], e / e.sum(), 1e-14)


@pytest.mark.parametrize("kind", sorted(set(WEIGHTS) - {"sinkhorn"}))
def test_causal_tokens_do_not_see_later_ones(face, x, kind):
    field = face.SelfAttention(**parameters(), beta=0.5, weights=kind, mask="causal")
    y = ctsa.random_tokens(N, D, seed=2)
    for i in range(N - 1):
        mixed = np.concatenate([x[: i + 1], y[i + 1 :]])
        a, b = (face.numpy(field(0.0, face.array(z))) for z in (x, mixed))
        assert np.array_equal(a[: i + 1], b[: i + 1]) and not np.allclose(a[i + 1 :], b[i + 1 :])


@pytest.mark.parametrize("kind", ["softmax", "l2", "hardmax", "unnormalised", "linear"])
def test_weighted_tokens_are_repeated_tokens(face, x, close, kind):
    counts = np.array([1, 3, 1, 2, 4])
    which = np.repeat(np.arange(N), counts)
    # Weights that divide by the number of tokens: here N, there the sum of the counts.
    mask = np.tile(counts, (N, 1)) * (1.0 if kind in ROWS_SUM_TO_ONE else N / counts.sum())
    p = dict(**parameters(), beta=0.6, weights=kind)
    weighted = face.SelfAttention(**p, mask=mask)(0.0, face.array(x))
    repeated = face.SelfAttention(**p)(0.0, face.array(x[which]))
    close(face.numpy(weighted)[which], repeated, 1e-13)


@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(-5, 5))
def test_only_ratios_in_a_row_of_a_mask_matter_to_softmax(torch_face, close, seed, beta):
    rng, y = np.random.default_rng(seed), ctsa.random_tokens(N, D, seed)
    mask, scale = masks(seed)["weighted"], rng.uniform(0.1, 10, size=(N, 1))
    a, b = (weights_of(torch_face, y, beta=beta, mask=m) for m in (mask, scale * mask))
    close(a, b, 1e-14)


def test_integers_are_a_mask(face, x, close):
    mask = np.tril(np.ones((N, N), int))
    close(weights_of(face, x, mask=mask), weights_of(face, x, mask="causal"), 0)
    close(weights_of(face, x, mask=mask.tolist()), weights_of(face, x, mask="causal"), 0)


# -------------------------------------------------------------------------------------------------------------- hardmax
def test_hardmax_shares_ties(face, close):
    e = np.eye(3)
    x = np.stack([e[0], e[1], e[1], -e[0]])  # for token 1 and 2 the best are both; for 0 and 3 themselves
    a = weights_of(face, x, weights="hardmax")
    close(a, np.array([[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]), 0)
    others = 1 - np.eye(4)
    a = weights_of(face, x, weights="hardmax", mask=others)
    close(a, np.array([[0, 0.5, 0.5, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0]]), 0)


def test_hardmax_ties_survive_rounding(face, rng, close):
    triangle = np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [-0.5, -(0.75**0.5), 0]])
    for _ in range(5):
        r, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        a = weights_of(face, triangle @ r.T, weights="hardmax", mask=1 - np.eye(3))  # scores are -1/2 up to rounding
        close(a, (1 - np.eye(3)) / 2, 0)


def test_weights_of_a_mask_do_not_choose_the_maximum(face, x, close):
    mask = np.ones((N, N))
    mask[:, 0] = 1e6  # one heavy token does not become everybody's best
    close(weights_of(face, x, beta=3.0, weights="hardmax", mask=mask), np.eye(N), 0)


def test_hardmax_is_the_limit_of_softmax(face, close):
    x = ctsa.random_tokens(N, D, seed=7)
    p = parameters(7)
    close(weights_of(face, x, **p, beta=1e4), weights_of(face, x, **p, beta=1.0, weights="hardmax"))


# ------------------------------------------------------------------------------------------------------------- sinkhorn
def test_sinkhorn_is_doubly_stochastic(face, x, close):
    p = {name: a / 2 for name, a in parameters().items()}
    for mask in (None, masks()["weighted"]):
        a = weights_of(face, x, **p, weights=sinkhorn(200), mask=mask)
        close(a.sum(-1), np.ones(N), 1e-14)
        close(a.sum(-2), np.ones(N), 1e-13)


def test_sinkhorn_iterates(torch_face, x):
    def worst_column(iterations):
        return np.abs(weights_of(torch_face, x, beta=1.0, weights=sinkhorn(iterations)).sum(-2) - 1).max()

    errors = [worst_column(k) for k in (1, 5, 25)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert sinkhorn(7) == sinkhorn(7) != sinkhorn(8)  # equal static values do not recompile


def test_sinkhorn_of_a_symmetric_matrix_is_symmetric(face, x, close):
    a = weights_of(face, x, beta=2.0, weights=sinkhorn(300))
    close(a, a.T, 1e-13)


# ---------------------------------------------------------------------------------------------------------------- heads
def test_heads_add_up(face, x, close):
    p = parameters(1, HEADS)
    beta = np.array([0.5, 1.5])
    total = face.SelfAttention(**p, beta=beta)(0.0, face.array(x))
    each = [face.SelfAttention(*(a[h] for a in p.values()), beta=beta[h])(0.0, face.array(x)) for h in range(HEADS)]
    close(total, face.numpy(sum(each)), 1e-13)


def test_attention_has_an_axis_of_heads_where_parameters_have(face, x):
    value = parameters(1, HEADS)["value"]
    assert weights_of(face, x).shape == (N, N)
    for kwargs in (
        dict(value=value), dict(beta=[1.0, 2.0]), dict(key_field=np.ones((HEADS, D))), dict(mask=np.ones((HEADS, N, N)))
    ):  # fmt: skip
        field = face.SelfAttention(**kwargs)
        assert face.numpy(field.attention(face.array(x))).shape == (HEADS, N, N)
        assert face.numpy(field.scores(face.array(x))).shape == (HEADS, N, N)
        assert face.numpy(field(0.0, face.array(x))).shape == (N, D)


def test_one_head_is_no_head(face, x, close):
    p = parameters()
    one = face.SelfAttention(**{name: a[None] for name, a in p.items()}, beta=[2.0])
    close(one(0.0, face.array(x)), face.SelfAttention(**p, beta=2.0)(0.0, face.array(x)), 1e-15)


# --------------------------------------------------------------------------------------------------------------- limits
@pytest.mark.parametrize("kind", ["softmax", "unnormalised", "l2", "sinkhorn"])
def test_beta_zero_is_oja(face, x, close, kind):
    p = parameters()
    attention = face.SelfAttention(**p, beta=0.0, weights=kind)
    close(attention(0.0, face.array(x)), face.Oja(p["value"])(0.0, face.array(x)), 1e-14)


def test_only_the_product_of_query_and_key_matters(face, x, close):
    p = parameters()
    a = face.SelfAttention(**p)(0.0, face.array(x))
    b = face.SelfAttention(query=p["key"].T @ p["query"], value=p["value"])(0.0, face.array(x))
    close(a, b, 1e-13)


def test_consensus_attends_evenly(face, close):
    x = np.tile(ctsa.random_tokens(1, D, seed=3), (N, 1))
    for kind in ROWS_SUM_TO_ONE:
        close(weights_of(face, x, **parameters(), weights=kind), np.full((N, N), 1 / N), 1e-14)


# ------------------------------------------------------------------------------------------------- weights of one's own
def softplus(xp, s, n):
    return xp.log1p(xp.exp(s)) / n


OWN = {
    "exponential by the sum": (Weights("e", lambda xp, s, n: xp.exp(s), "sum"), "softmax"),
    "exponential": (Weights("e", lambda xp, s, n: xp.exp(s) / n), "unnormalised"),
    "share": (Weights("s", lambda xp, s, n: s / n), "linear"),
    "logistic": (Weights("l", lambda xp, s, n: 1 / (1 + n * xp.exp(-s))), "sigmoid"),
    "distance": (Weights("d", lambda xp, s, n: xp.exp(s), "sum", distance=True), "l2"),
}


@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "weighted"])
@pytest.mark.parametrize("name", OWN)
def test_a_pair_and_a_normaliser_make_the_weights(face, name, mask, close):
    """Values, closed-form derivative and Jacobian follow from the function of a pair."""
    mine, known = OWN[name]
    given = dict(**parameters(0), beta=0.7, mask=masks()[mask])
    one, other = face.SelfAttention(weights=mine, **given), face.SelfAttention(weights=known, **given)
    x = face.array(ctsa.random_tokens(N, D, seed=3))
    u = face.array(np.random.default_rng(4).normal(size=(5, N, D)))
    close(one.attention(x), other.attention(x), 1e-13)
    for a, b in zip(one.tangent(0.0, x, u), other.tangent(0.0, x, u), strict=True):
        close(a, b, 1e-13)
    close(one.drift_jacobian(0.0, x)[1], other.drift_jacobian(0.0, x)[1], 1e-13)
    assert one.weights.closed


@pytest.mark.parametrize("rows", [None, "sum", lambda xp, e, mask: e / e.sum(-1)[..., None]])
def test_slopes_of_any_pair_by_forward_mode(face, rows, close):
    mine = Weights("softplus", softplus, rows)
    field = face.SelfAttention(weights=mine, **parameters(0), beta=0.7)
    x = face.array(ctsa.random_tokens(N, D, seed=5))
    u = face.array(np.random.default_rng(6).normal(size=(3, N, D)))
    y, dy = jvp_batched(lambda z: field.drift(0.0, z), x, u)
    for how in ("scores", "outer", "assembled"):
        ours = face.SelfAttention(weights=mine, **parameters(0), beta=0.7, how=how).drift_tangent(0.0, x, u)
        close(ours[0], y, 1e-13)
        close(ours[1], dy, 1e-13)
    assert mine.closed == (not callable(rows)) and mine.normalised == (rows is not None)


def test_rows_are_their_own(torch_face):
    """A rule that says so gives some rows of the matrix from those rows alone."""
    s = torch_face.array(np.random.default_rng(0).normal(size=(N, N)))
    for weights in WEIGHTS.values():
        if weights.rowwise:
            assert (weights(s[:2]) == weights(s)[:2]).all()
    assert not WEIGHTS["sinkhorn"].rowwise


def test_what_weights_are_made_of():
    with pytest.raises(TypeError, match=r"pair must be a function \(xp, scores, n\), got str"):
        Weights("e", "exp")
    with pytest.raises(TypeError, match="rows must be None, 'sum' or a function"):
        Weights("e", softplus, "mean")
    with pytest.raises(ValueError, match="weights='sinkhorn' have no closed-form derivative"):
        WEIGHTS["sinkhorn"].with_slope(np.zeros((2, 2)))
