"""The Energy Transformer's field: the gradient of its energy, which never increases."""

import jax
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import sample

import ctsa

N, D, HEADS = 5, 4, 2
R = np.random.default_rng(0)
Q, K = R.normal(size=(2, HEADS, 3, D))
MEMORY = R.normal(size=(6, D))
OTHERS = 1.0 - np.eye(N)
X = ctsa.random_tokens(N, D, seed=1)
FLAT = R.normal(size=(N, D))

CASES = {
    "sphere": dict(query=Q, key=K, beta=1.3),
    "sphere, memory": dict(query=Q, key=K, beta=[0.7, 1.9], memory=MEMORY, mask=OTHERS),
    "one head": dict(beta=2.0, mask="causal"),
    "flat": dict(query=Q, key=K, beta=1.3, memory=MEMORY, gain=0.8, bias=R.normal(size=D), geometry=ctsa.Euclidean()),
    "flat, no eps": dict(query=Q[0], key=K[0], beta=0.9, mask=OTHERS, eps=0.0, geometry=ctsa.Euclidean()),
}


def state(case):
    return FLAT if "geometry" in CASES[case] else X


def energy(g, query=None, key=None, beta=1.0, memory=None, mask=None, **_):
    """The formula, a sum at a time, of normalised tokens g."""
    query, key = (np.eye(D) if a is None else a for a in (query, key))
    query, key = query.reshape(-1, *query.shape[-2:]), key.reshape(-1, *key.shape[-2:])
    mask = np.tril(np.ones((N, N))) if isinstance(mask, str) else np.ones((N, N)) if mask is None else mask
    betas, total = np.broadcast_to(beta, len(query)), 0.0
    for q, k, b in zip(query, key, betas, strict=True):
        for i in range(N):
            total -= np.log(sum(mask[i, j] * np.exp(b * (q @ g[i]) @ (k @ g[j])) for j in range(N))) / b
    if memory is not None:
        total -= 0.5 * (np.maximum(g @ memory.T, 0) ** 2).sum()
    return total


@pytest.mark.parametrize("case", CASES)
def test_the_energy(face, case):
    field, x = face.EnergyAttention(**CASES[case]), state(case)
    g, e = map(face.numpy, as_one(face, lambda x: (field.normalised(x), field.energy(x)))(face.array(x)))
    assert float(e) == pytest.approx(energy(g, **CASES[case]), rel=1e-12)


def test_layer_norm_is_that_of_torch(torch_face, close):
    case = CASES["flat"]
    norm = torch.nn.LayerNorm(D, eps=1e-5, dtype=torch.float64)
    norm.weight.data, norm.bias.data = torch.full((D,), 0.8, dtype=torch.float64), torch.tensor(case["bias"])
    close(torch_face.EnergyAttention(**case).normalised(torch.tensor(FLAT)), norm(torch.tensor(FLAT)))


@pytest.mark.parametrize("case", CASES)
def test_the_drift_is_minus_the_gradient_with_respect_to_g(jax_face, close, case):
    """-dE/dg by reverse-mode differentiation of the energy of normalised tokens."""
    made = {k: v for k, v in CASES[case].items() if k not in ("geometry", "gain", "bias", "eps")}
    on_g = jax_face.EnergyAttention(**made)
    field, x = jax_face.EnergyAttention(**CASES[case]), jax_face.array(state(case))
    both = jax.jit(lambda x: (field.drift(0.0, x), jax.grad(on_g.energy)(field.normalised(x))))
    drift, gradient = map(np.asarray, both(x))
    close(drift, -gradient)


@pytest.mark.parametrize(("face", "case"), sample([
    (name, case) for name in ("torch", "jax") for case in CASES
], lambda name, case: name == "torch" or case in ("sphere, memory", "flat")), indirect=["face"])  # fmt: skip
def test_tangent(face, close, case):
    field, x = face.EnergyAttention(**CASES[case]), face.array(state(case))
    u = face.array(np.random.default_rng(3).normal(size=(3, N, D)))

    def both(x, u):
        return *field.tangent(0.0, x, u), *ctsa.derivatives.jvp_batched(lambda y: field.velocity(0.0, y), x, u)

    v, dv, *auto = map(face.numpy, as_one(face, both)(x, u))
    close(v, auto[0])
    close(dv, auto[1])


# JAX, which computes the same and compiles each run, takes the two that have everything in them
@pytest.mark.parametrize(("face", "case"), [
    *(("torch", case) for case in CASES), ("jax", "sphere, memory"), ("jax", "flat"),
], indirect=["face"])  # fmt: skip
def test_the_energy_never_increases(face, case):
    """A theorem for any Q and K, asymmetric ones too: not true of the energy of plain self-attention."""
    field = face.EnergyAttention(**CASES[case])
    traj = ctsa.integrate(field, state(case), np.linspace(0.0, 1.5, 7), "heun", atol=1e-5)
    e = face.numpy(as_one(face, field.energy)(traj.xs))
    assert (np.diff(e) < 0).all()


def test_the_update_of_the_paper(face, close):
    """x <- x - alpha dE/dg, and parity of ten of them."""
    field = face.EnergyAttention(**CASES["flat"])
    layer = face.EulerLayer(field, step=0.05)
    x = FLAT
    for _ in range(10):
        x = x + 0.05 * face.numpy(field.drift(0.0, face.array(x)))
    close(ctsa.iterate(layer, FLAT, depth=10).xs[-1], x)


def test_parity_and_conversion(torch_face, jax_face, close):
    for case in CASES:
        made = torch_face.EnergyAttention(**CASES[case])
        other = jax_face.from_torch(made)
        close(other(0.0, jax_face.array(state(case))), torch_face.numpy(made(0.0, torch_face.array(state(case)))))


def test_a_batch(face, close):
    field = face.EnergyAttention(**CASES["sphere, memory"])
    both = np.stack([X, ctsa.random_tokens(N, D, seed=5)])
    of = as_one(face, lambda x: (field(0.0, x), field.energy(x)))
    (v, e), (w, _) = of(face.array(both)), of(face.array(both[1]))
    close(v[1], face.numpy(w))
    assert tuple(e.shape) == (2,)


def test_bad_input(face):
    cases = [
        (ValueError, "beta must be positive", dict(beta=0.0)),
        (TypeError, "beta and gain", dict(beta=None)),
        (ValueError, "same width", dict(query=np.ones((2, 4)), key=np.ones((3, 4)))),
        (ValueError, "memory has shape", dict(query=np.ones((2, 4)), key=np.ones((2, 4)), memory=np.ones((2, 3)))),
        (ValueError, "numbers of heads differ", dict(query=np.ones((2, 2, 4)), key=np.ones((3, 2, 4)))),
        (ValueError, "bias belongs to LayerNorm", dict(bias=np.ones(4))),
        (ValueError, "mask row 0 is empty", dict(mask=np.zeros((3, 3)))),
        (ValueError, "eps must be", dict(eps=-1.0)),
    ]
    for error, words, options in cases:
        with pytest.raises(error, match=words):
            face.EnergyAttention(**options)
    with pytest.raises(ValueError, match="memory has shape"):
        ctsa.integrate(face.EnergyAttention(memory=np.ones((2, 3))), X, [0.0, 1.0])


def test_energy_takes_it_alone_in_sums_and_multiples(face, close):
    field = face.EnergyAttention(query=np.eye(3)[:2], key=np.eye(3)[1:], beta=2.0)
    x = ctsa.random_tokens(5, 3, batch=(2,))
    want = field.energy(face.array(x))
    for whole in (field, 2.0 * field, field + face.Rotation(omega=np.zeros((3, 3))), 0.5 * field + face.Oja(np.eye(3))):
        close(ctsa.energy(whole, face.array(x)), want, 1e-15)
        close(ctsa.energy(whole, x), want, 1e-15)  # NumPy, as from a file
    attention = face.SelfAttention(beta=2.0)
    close(ctsa.energy(3.0 * attention, x), ctsa.energy(attention, x), 1e-15)
    with pytest.raises(TypeError, match="one SelfAttention or EnergyAttention term, got Sum with 2"):
        ctsa.energy(field + attention, x)
    with pytest.raises(TypeError, match="one SelfAttention or EnergyAttention term, got Rotation with 0"):
        ctsa.energy(face.Rotation(omega=np.zeros((3, 3))), x)
    with pytest.raises(TypeError, match="one SelfAttention term, got EnergyAttention with 0"):
        ctsa.entropy(field, x)
