"""Attention in factors, with biases and positions: against plain loops, SelfAttention, differences, AKOrN's own layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from programs import as_one
from sampling import sample

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.attention import Positions, sinkhorn
from ctsa.fields.matrices import consensus_matrix
from ctsa.symmetry import symmetry_of

N, D, M, H = 5, 8, 4, 3
RNG = np.random.default_rng(0)
W = {name: RNG.normal(size=(H, M, D)) / 2 for name in ("query", "key", "value")}
W["output"] = RNG.normal(size=(H, D, M)) / 2
BIASES = {f"{name}_bias": RNG.normal(size=(H, M)) for name in ("query", "key", "value")} | {
    "output_bias": RNG.normal(size=D)
}
ANGLES = RNG.normal(size=(H, N, 2))
X = ctsa.random_tokens(N, D, seed=1)
KINDS = {
    "none": None,
    "rotary": Positions.rotary(N, M),
    "rotary, interleaved": Positions.rotary(N, M, layout="interleaved", planes=1),
    "rotations": Positions.rotations(ANGLES),
    "rotations of scores": Positions.rotations(ANGLES[0], values=False),
    "any blocks": Positions(*RNG.normal(size=(4, N, 2, 2, 2))),
}


def turn(blocks, i, z, halves):
    """T_i z for one head, in a plain loop."""
    if blocks is None:
        return z
    z, p = z.copy(), blocks.shape[-3]
    pairs = [(k, k + p) for k in range(p)] if halves else [(2 * k, 2 * k + 1) for k in range(p)]
    for k, pair in enumerate(pairs):
        z[list(pair)] = blocks[i, k] @ z[list(pair)]
    return z


def by_loops(x, w, biases, positions, beta, mask=None):
    """The defining sums."""
    y = np.zeros_like(x)
    turns = {} if positions is None else positions.arrays
    halves = positions is not None and positions.layout == "halves"

    def of(name, h, i, z):
        blocks = turns.get(name)
        blocks = blocks[h] if blocks is not None and blocks.ndim == 5 else blocks
        return turn(blocks, i, z, halves)

    for h in range(H):
        q, k, v = (
            [of(name, h, i, w[name][h] @ x[i] + biases.get(f"{name}_bias", np.zeros((H, M)))[h]) for i in range(len(x))]
            for name in ("query", "key", "value")
        )
        for i in range(len(x)):
            a = np.exp([beta * q[i] @ k[j] for j in range(len(x))])
            a = a if mask is None else a * mask[i]
            mixed = sum(a[j] * v[j] for j in range(len(x))) / a.sum()
            y[i] += w["output"][h] @ of("output", h, i, mixed)
    return y + biases.get("output_bias", 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [False, True])
def test_against_plain_loops(face, kind, biased, close):
    biases = BIASES if biased else {}
    field = face.MultiHeadAttention(**W, beta=0.7, positions=KINDS[kind], **biases)
    wanted = by_loops(X, W, biases, KINDS[kind], 0.7)
    close(face.numpy(field.drift(0.0, face.array(X))), wanted, 1e-13)
    causal = face.MultiHeadAttention(**W, beta=0.7, positions=KINDS[kind], **biases, mask="causal")
    wanted = by_loops(X, W, biases, KINDS[kind], 0.7, np.tri(N))
    close(face.numpy(causal.drift(0.0, face.array(X))), wanted, 1e-13)


WEIGHTS = ["softmax", "unnormalised", "linear", "l2", "sigmoid", sinkhorn(20)]


@pytest.mark.parametrize(
    ("face", "weights"),
    sample(
        [(name, weights) for name in ("torch", "jax") for weights in WEIGHTS],
        lambda name, weights: name == "torch" or weights in ("softmax", "l2"),  # JAX compiles each
    ),
    indirect=["face"],
)
def test_without_positions_it_is_self_attention(face, weights, close):
    field = face.MultiHeadAttention(**W, beta=0.7, weights=weights)
    plain = face.SelfAttention(W["query"], W["key"], W["output"] @ W["value"], beta=0.7, weights=weights)
    x, u = face.array(X), face.array(RNG.normal(size=(3, N, D)))
    (*one, first), (*other, second) = (
        as_one(face, lambda x, u, f=f: (*f.tangent(0.0, x, u), *f.drift_jacobian(0.0, x), f.attention(x)))(x, u)
        for f in (field, plain)
    )
    for a, b in zip(one, other, strict=True):
        close(face.numpy(a), face.numpy(b), 1e-12)
    close(face.numpy(first), face.numpy(second), 1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", ["softmax", "l2", "sigmoid"])
def test_derivatives(torch_face, kind, weights, close):
    field = torch_face.MultiHeadAttention(**W, positions=KINDS[kind], **BIASES, weights=weights, beta=[0.5, 1.0, 2.0])
    x, u = torch.as_tensor(np.stack([X, X[::-1]])), torch.as_tensor(RNG.normal(size=(4, 2, N, D)))
    y, dy = field.drift_tangent(0.0, x, u)
    for i in range(4):
        close(dy[i], torch.func.jvp(lambda z: field.drift(0.0, z), (x,), (u[i],))[1], 1e-12)
    eps = 1e-6
    quotient = (field.drift(0.0, x + eps * u[0]) - field.drift(0.0, x - eps * u[0])) / (2 * eps)
    close(dy[0], quotient, 1e-7)
    _, j = field.drift_jacobian(0.0, x)
    close((j @ u.reshape(4, 2, -1, 1))[..., 0].reshape(u.shape), dy, 1e-11)
    left, right = (torch.as_tensor(RNG.normal(size=(2, N, D, r))) for r in (3, 2))
    _, full, own = field.drift_compressed(0.0, x, left, right)
    blocks = j.reshape(2, N, D, N, D)
    wanted = torch.einsum("bidr,bidje,bjes->birjs", left, blocks, right)
    found = full + torch.einsum("birs,ij->birjs", own, torch.eye(N, dtype=x.dtype))
    close(found, wanted, 1e-11)


@pytest.mark.parametrize("kind", sample(["rotary", "rotations"], 1))
def test_frameworks_agree(torch_face, jax_face, kind, close):
    found = []
    for face in (torch_face, jax_face):
        field = face.MultiHeadAttention(**W, positions=KINDS[kind], **BIASES)
        x0 = face.array(X)
        spectrum = ctsa.lyapunov_spectrum(
            field, x0, intervals=4, transient=0, count=4, interval=0.25, solver="heun", atol=1e-5
        )
        found.append([spectrum.x, spectrum.exponents, ctsa.eigenvalues(field, x0)])
    for a, b in zip(*found):
        close(a, b, 1e-9)
    field = torch_face.MultiHeadAttention(**W, positions=KINDS[kind], **BIASES, mask="causal")
    other = ctsa.jax.from_torch(field)
    close(jax.jit(lambda x: other(0.0, x))(jnp.asarray(X)), field(0.0, torch.as_tensor(X)), 1e-13)
    close(ctsa.torch.from_jax(other)(0.0, torch.as_tensor(X)), field(0.0, torch.as_tensor(X)), 1e-13)


@given(st.integers(1, 50), st.integers(0, 30))
def test_rotary_scores_depend_on_differences(first, seed):
    rng = np.random.default_rng(seed)
    x = torch.as_tensor(ctsa.random_tokens(N, D, seed=seed))
    w = {name: rng.normal(size=(M, D)) for name in ("query", "key")}
    for layout in ("halves", "interleaved"):
        here, there = (
            ctsa.torch.MultiHeadAttention(**w, positions=Positions.rotary(N, M, first=k, layout=layout)) for k in (0, first)
        )
        assert torch.allclose(here.scores(x), there.scores(x), rtol=0, atol=1e-10)
    same = torch.ones(N, 1, dtype=x.dtype) * x[:1]  # equal tokens: scores of a Toeplitz matrix
    s = here.scores(same)[0]
    assert torch.allclose(s[1:, 1:], s[:-1, :-1], rtol=0, atol=1e-12)


def test_permutations_are_no_symmetry_any_more(torch_face):
    x0 = torch.as_tensor(X)
    order = [1, 0, 2, 3, 4]
    plain = torch_face.MultiHeadAttention(**W)
    assert torch.allclose(plain(0.0, x0[order]), plain(0.0, x0)[order])
    placed = torch_face.MultiHeadAttention(**W, positions=KINDS["rotary"])
    assert not torch.allclose(placed(0.0, x0[order]), placed(0.0, x0)[order])
    assert [len(set(symmetry_of(field, N, D).classes)) for field in (plain, placed)] == [1, N]
    total = (W["output"] @ W["value"]).sum(0)
    assert np.allclose(consensus_matrix(plain, D), total) and consensus_matrix(placed, D) is None


def test_gradients_reach_angles(torch_face, jax_face):
    def end(face, angles):
        field = face.MultiHeadAttention(**W, positions=Positions.rotations(angles), **BIASES)
        return (field(0.0, face.array(X)) ** 3).sum()

    angles = torch.tensor(ANGLES, requires_grad=True)
    end(torch_face, angles).backward()
    of_jax = jax.jit(lambda a: end(jax_face, a))
    slope = np.asarray(jax.jit(jax.grad(of_jax))(jnp.asarray(ANGLES)))
    assert np.allclose(angles.grad.numpy(), slope, rtol=1e-10, atol=1e-12)
    u, eps = RNG.normal(size=ANGLES.shape), 1e-6
    quotient = (float(of_jax(ANGLES + eps * u)) - float(of_jax(ANGLES - eps * u))) / (2 * eps)
    assert quotient == pytest.approx(float((slope * u).sum()), rel=1e-6)
    blocks = torch.nn.Parameter(torch.as_tensor(KINDS["rotations"].query))
    field = torch_face.MultiHeadAttention(**W, positions=Positions(blocks, blocks))
    assert any(p is blocks for p in field.parameters())


def test_single_precision(face, close):
    w = {name: a.astype(np.float32) for name, a in (W | BIASES).items()}
    field = face.MultiHeadAttention(**w, positions=KINDS["rotations"], beta=np.float32(0.7))
    y = as_one(face, lambda x: field.drift(0.0, x))(face.array(X, "float32"))
    assert "float32" in str(y.dtype)
    close(face.numpy(y), by_loops(X, W, BIASES, KINDS["rotations"], 0.7), 1e-5)


# ------------------------------------------------------------------------------------- AKOrN's layer as published
def authors_step(x, c, w, biases, blocks, omega, gamma, heads, channels):
    """One step of AKOrN's Sudoku layer, from its description: heads take every h-th channel (arXiv 2410.13821)."""
    n, d = x.shape
    m = d // heads

    def split(z):  # (n, d) -> (heads, n, m), head h has the channels h, h + heads, ...
        return z.reshape(n, m, heads).transpose(2, 0, 1)

    def placed(name, z):  # rotate pairs of components of every token
        pairs = z.reshape(heads, n, m // 2, 2)
        return np.einsum("npab,hnpb->hnpa", blocks[name], pairs).reshape(heads, n, m)

    q, k, v = (placed(name, split(x @ w[name].T + biases[name])) for name in ("query", "key", "value"))
    s = q @ k.transpose(0, 2, 1) / np.sqrt(m)
    a = np.exp(s - s.max(-1, keepdims=True))
    y = placed("output", (a / a.sum(-1, keepdims=True)) @ v)
    y = y.transpose(1, 2, 0).reshape(n, d) @ w["output"].T + biases["output"] + c
    groups, pull = x.reshape(n, -1, channels), y.reshape(n, -1, channels)
    pull = pull - (pull * groups).sum(-1, keepdims=True) * groups
    turned = np.einsum("gab,ngb->nga", omega, groups)
    z = groups + gamma * (turned + pull)
    return (z / np.linalg.norm(z, axis=-1, keepdims=True)).reshape(n, d)


def test_akorn_with_rotations_is_the_published_layer(torch_face, jax_face, close):
    """81 tokens of 64 channels in oscillators of 4, 8 heads, 16 steps."""
    n, d, heads, channels, gamma = 81, 64, 8, 4, 0.7
    rng, m = np.random.default_rng(3), 8
    w = {name: rng.normal(size=(d, d)) / d**0.5 for name in ("query", "key", "value", "output")}
    biases = {name: 0.1 * rng.normal(size=d) for name in w}
    angles = rng.normal(size=(n, m // 2))
    positions = Positions.rotations(angles)
    blocks = positions.arrays
    freq = rng.normal(size=d // channels)
    omega = np.zeros((d // channels, channels, channels))
    omega[:, 0, 1] = omega[:, 2, 3] = freq
    omega[:, 1, 0] = omega[:, 3, 2] = -freq
    c, x = rng.normal(size=(n, d)), ctsa.random_tokens(n, d, seed=2, channels=channels)
    at = np.arange(d).reshape(m, heads).T  # the channels of each head
    four = ctsa.Sphere(channels=channels)
    wanted = [x]
    for _ in range(16):
        wanted.append(authors_step(wanted[-1], c, w, biases, blocks, omega, gamma, heads, channels))
    for face in (torch_face, jax_face):
        coupling = face.MultiHeadAttention(
            w["query"][at], w["key"][at], w["value"][at], np.moveaxis(w["output"][:, at], 1, 0), beta=m**-0.5,
            positions=positions, query_bias=biases["query"][at], key_bias=biases["key"][at],
            value_bias=biases["value"][at], output_bias=biases["output"], geometry=four,
        )  # fmt: skip
        whole = np.zeros((d, d))
        for g, block in enumerate(omega):
            whole[4 * g : 4 * g + 4, 4 * g : 4 * g + 4] = block
        layer = face.AKOrN(
            coupling + face.Injection(c, geometry=four), face.Rotation(omega=whole, geometry=four), step=gamma
        )
        path = ctsa.iterate(layer, face.array(x), 16)
        close(face.numpy(path.xs[1]), wanted[1], 1e-13)
        close(face.numpy(path.xs[-1]), wanted[-1], 1e-12)


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(("make", "what"), [
    (lambda: ctsa.torch.MultiHeadAttention(query=np.ones((2, 3)), key=np.ones((3, 3))), "query and key must have the same"),
    (lambda: ctsa.torch.MultiHeadAttention(value=np.ones((2, 3))), "value and output must have the same width"),
    (lambda: ctsa.torch.MultiHeadAttention(query=np.ones((2, 3)), value=np.ones((2, 4))), "token dimensions differ"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, beta=[1.0, 2.0]), "numbers of heads differ"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, query_bias=np.ones(3)), "query_bias must have the width"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, positions="rotary"), "positions must be a ctsa.attention.Positions"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, positions=Positions.rotary(N, 8)), "4 planes, more than"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, positions=KINDS["rotary"])(0.0, X[:3]), "turn_query has shape"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, weights="nonsense"), "weights must be one of"),
    (lambda: ctsa.torch.MultiHeadAttention(beta=None), "beta must be"),
    (lambda: ctsa.torch.MultiHeadAttention(**W, weights="sinkhorn", mask="causal"), "a mask without zeros"),
    (lambda: Positions(np.ones((3, 2))), "must be an array of 4 to 5 axes|must be 4-dimensional"),
    (lambda: Positions(np.ones((3, 2, 3, 2))), "must be blocks"),
    (lambda: Positions(np.ones((3, 2, 2, 2)), np.ones((4, 2, 2, 2))), "the same number of tokens"),
    (lambda: Positions(layout="pairs"), "layout must be one of"),
    (lambda: Positions.rotary(3, 4, planes=3), "more than the m=4 components"),
    (lambda: Positions.rotary(3, 4, frequencies=[1.0]), "frequencies must have shape"),
    (lambda: Positions.rotary(3, 4, base=-1.0), "base must be"),
    (lambda: Positions.rotations(None), "angles must be"),
    (lambda: Positions.rotations(np.ones(3)), "angles must be"),
])  # fmt: skip
def test_bad_input(make, what):
    with pytest.raises((TypeError, ValueError), match=what):
        make()


# ------------------------------------------------------------------------------------ what others ask of such a field
def test_turned_values_descend_from_an_energy(torch_face, close):
    """Q = K = V = O^T, values and outputs turned, unnormalised: dE/dx_i = n F(x)_i; without turned values not."""
    q = W["query"]
    for values in (True, False):
        field = torch_face.MultiHeadAttention(
            q, q, q, q.swapaxes(-1, -2), weights="unnormalised", positions=Positions.rotations(ANGLES, values=values)
        )
        x = torch.tensor(X, requires_grad=True)
        (slope,) = torch.autograd.grad(ctsa.energy(field, x), x)
        gap = (slope - N * field.drift(0.0, x)).abs().max().item()
        assert gap < 1e-12 if values else gap > 1e-2
    report = ctsa.energy_report(field, ctsa.integrate(field, X, [0.0, 0.5]))
    assert not report.theorem and "positions" in report.why
    plain = torch_face.MultiHeadAttention(q, q)
    assert not ctsa.energy_report(plain, ctsa.integrate(plain, X, [0.0, 0.5])).theorem


@pytest.mark.parametrize("given", [
    dict(W, value=W["value"][0], output=W["output"][0]), dict(query=np.eye(D), beta=[1.0, 2.0]),
    dict(query_bias=np.ones((2, D))), dict(W, output=W["output"][0]),
])  # fmt: skip
def test_consensus_counts_heads(torch_face, given, close):
    """Heads that share value and output all count: at consensus the drift is the matrix times the token."""
    field = torch_face.MultiHeadAttention(**given)
    x = torch.as_tensor(np.tile(X[:1], (N, 1)))
    close(field.drift(0.0, x)[0].detach(), consensus_matrix(field, D) @ X[0], 1e-13)


def test_text(face):
    field = face.MultiHeadAttention(**W, positions=KINDS["rotary"])
    assert "positions" in repr(field) or face.name == "jax"
    assert repr(KINDS["rotary"]) == "Positions(query (5, 2, 2, 2), key (5, 2, 2, 2), halves)"
    assert KINDS["rotary"] == KINDS["rotary"] and KINDS["rotary"] != KINDS["rotations"]
    four = ctsa.Sphere(channels=4)
    assert "AKOrN" in repr(face.AKOrN(face.MultiHeadAttention(**W, positions=KINDS["rotary"], geometry=four)))


def test_itrsa_with_positions(torch_face, jax_face, close):
    """A step of the layer is its formula, in both frameworks, and sizes are checked."""
    ends = []
    for face in (torch_face, jax_face):
        attention = face.MultiHeadAttention(**W, positions=KINDS["rotary"], mask="causal")
        layer = face.ItrSA(attention, step=0.7, gamma=0.5)
        x = face.array(X)
        y = 0.5 * X + 0.7 * face.numpy(attention.drift(0.0, 0.5 * x))
        close(face.numpy(layer(x)), y / np.linalg.norm(y, axis=-1, keepdims=True), 1e-14)
        ends.append(face.numpy(ctsa.iterate(layer, x, 12).xs[-1]))
    close(*ends, 1e-13)
    with pytest.raises(ValueError, match="n=3 tokens"):
        layer(face.array(X[:3]))


def test_other_angles_do_not_compile_again(jax_face):
    seen = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    for seed in range(2):
        angles = np.random.default_rng(seed).normal(size=ANGLES.shape)
        ctsa.integrate(jax_face.MultiHeadAttention(**W, positions=Positions.rotations(angles)), X, [0.0, 0.25], "heun")
        if not seed:
            seen.clear()
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not seen
