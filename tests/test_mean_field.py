"""The density of tokens: closed forms, many tokens, and what it must not be taken for."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import FACES
from programs import as_one
from sampling import mainly, sample
from scipy.special import ive

import ctsa
from ctsa import theory
from ctsa._backend import backend
from ctsa.derivatives import jvp_batched
from ctsa.fields import spectral
from ctsa.geometry import Densities
from ctsa.geometry.densities import bands
from ctsa.results.values import decode, encode

MATRICES = {
    2: dict(query=[[1.0, 0.3], [-0.2, 0.8]], key=[[0.9, 0.0], [0.4, 1.1]], value=[[1.0, -0.5], [0.5, 0.7]]),
    3: dict(
        query=np.diag([1.0, 0.8, 1.1]), key=np.eye(3) + 0.2 * np.eye(3, k=1), value=np.eye(3) - 0.5 * np.eye(3, k=2)
    ),
}
HEADS = dict(query=np.stack([np.eye(2), [[0.0, 1.0], [-1.0, 0.0]]]), value=MATRICES[2]["value"], beta=[1.0, 2.0])


def some(field, seed=0):
    """The coefficients of a positive density."""
    return field.geometry.random(1, field.decay.shape[1], np.random.default_rng(seed))


# ------------------------------------------------------------------------------------------------------ the harmonics
@pytest.mark.parametrize("d, degree", [(2, 7), (3, 5)])
def test_harmonics(close, d, degree):
    b = spectral.basis(d, degree, 2 * degree)
    unit = np.eye(len(bands(d, degree)))
    close((b.values * b.shares) @ b.values.T, unit, 1e-13)
    slopes = np.einsum("agi,bgi,g->ab", b.slopes, b.slopes, b.shares)  # int |grad Y|^2 = l (l + d - 2)
    close(slopes, np.diag(2 * b.decay[0]), 1e-13)
    close((b.slopes * b.nodes).sum(-1), 0 * b.values, 1e-13)


@pytest.mark.parametrize(("face", "d"), sample([
    (name, d) for name in ("torch", "jax") for d in (2, 3)
], lambda name, d: name == "torch" or d == 2), indirect=["face"])  # fmt: skip
def test_coefficients_of_a_von_mises_density(face, close, d):
    """The mean of a harmonic of degree l is ``I_(l + nu) / I_nu`` times its value at the pole (Funk and Hecke)."""
    pole, kappa, nu = np.array([0.6, 0.8, 0.0][:d]), 3.0, d / 2 - 1
    field = face.MeanField(d=d, degree=20 if d == 2 else 14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = field.coefficients(lambda x: np.exp(kappa * x @ pole))
    l = bands(d, field.degree)
    close(c[0], ive(l + nu, kappa) / ive(nu, kappa) * spectral.values_at(pole[None], field.degree)[:, 0], 1e-12)
    rho = face.numpy(field.density(c))
    shares = face.numpy(field.shares)
    area = 2 * np.pi if d == 2 else 4 * np.pi
    assert abs(area * (shares * rho).sum() - 1) < 1e-14  # the mass
    points = ctsa.random_tokens(5, d, seed=1)
    wanted = np.exp(kappa * points @ pole) / (area * (shares * np.exp(kappa * face.numpy(field.nodes) @ pole)).sum())
    close(field.density(c, points), wanted, 1e-7)
    close(field.coefficients(7.0 * rho), c, 1e-13)  # values at nodes, of another mass


# ----------------------------------------------------------------------------------------------------------- exactness
@pytest.mark.parametrize(("face", "beta", "value", "sigma", "d", "degree", "weights"), sample([
    (name, *numbers, *size, weights)
    for name in ("torch", "jax")
    for numbers in ((3.0, 1.0, 0.2), (-2.0, -1.5, 0.0), (0.0, 1.0, 0.1))
    for size in ((2, 12), (3, 5))
    for weights in ("softmax", "unnormalised")
], lambda name, beta, *rest: name == "torch" or (beta, *rest[2:]) in (
    (3.0, 2, 12, "softmax"), (-2.0, 3, 5, "unnormalised"),
)), indirect=["face"])  # fmt: skip
def test_modes_of_the_uniform_density(face, d, degree, weights, beta, value, sigma):
    field = face.MeanField(beta=beta, value=value * np.eye(d), d=d, degree=degree, sigma=sigma, weights=weights)
    found = np.sort(ctsa.eigenvalues(field, field.uniform).real)
    rates = theory.uniform_growth_rate(bands(d, degree), beta, d, value=value, sigma=sigma, weights=weights)
    assert np.abs(found - np.sort(rates)).max() < 1e-9
    most = theory.most_unstable_mode(beta, d, value=value, sigma=sigma, weights=weights)[1]
    assert abs(max(rates.max(), 0.0) - most) < 1e-14


def test_most_unstable_mode_grows_as_the_root_of_beta():
    for beta in (200.0, 1000.0):
        for d in (2, 3):
            assert abs(theory.most_unstable_mode(beta, d)[0] - np.sqrt(2 * beta)) < 1
    assert theory.most_unstable_mode(3.0, sigma=2.0) == (0, 0.0) == theory.most_unstable_mode(3.0, value=-1.0)
    small, far = (theory.uniform_growth_rate([1, 2], b, 500) for b in (1e-3, 1.0))  # where Bessel functions underflow
    assert np.allclose(small, [499 / 500, 0.0], atol=1e-4) and (far > 0).all()


@pytest.mark.parametrize(("face", "d"), sample([
    (name, d) for name in ("torch", "jax") for d in (2, 3)
], lambda name, d: (name == "jax") == (d == 2)), indirect=["face"])  # fmt: skip
def test_small_perturbations_grow_exponentially(face, d):
    """To 1e-8 of their size: the difference of two runs has no part of second order."""
    field = face.MeanField(beta=4.0, d=d, degree=12 if d == 2 else 5, sigma=0.1)
    l = bands(d, field.degree)
    c = 1e-5 * (l <= 5)[None] * np.random.default_rng(0).uniform(-1, 1, size=(1, len(l)))
    up, down = (ctsa.integrate(field, s * c, [0.0, 0.25], solver="rk4", step=0.025) for s in (1, -1))
    exact = c * np.exp(0.25 * theory.uniform_growth_rate(l, 4.0, d, sigma=0.1))
    assert np.abs((face.numpy(up.xs[-1]) - face.numpy(down.xs[-1])) / 2 - exact).max() < 1e-8 * np.abs(c).max()


@pytest.mark.parametrize(("given", "weights"), [
    pytest.param(given, weights, id=f"{name}-{weights}",
                 marks=() if (name == "heads") == (weights == "unnormalised") else pytest.mark.thorough)
    for name, given in (("2", dict(MATRICES[2], beta=2.0)), ("heads", HEADS), ("3", dict(MATRICES[3], beta=2.0)))
    for weights in ("softmax", "unnormalised")
])  # fmt: skip
def test_closed_forms_and_faces_agree(torch_face, jax_face, close, given, weights):
    d = np.shape(given["value"])[-1]
    fields = [
        f.MeanField(**given, degree=10 if d == 2 else 4, sigma=0.3, weights=weights) for f in (torch_face, jax_face)
    ]
    c = np.stack([some(fields[0], s) for s in (0, 1)])  # a batch
    u = np.random.default_rng(2).normal(size=(3, *c.shape))
    given_to = (torch_face, fields[0]), (jax_face, fields[1])
    (v, dv), (w, dw) = (as_one(f, lambda c, u, field=field: field.tangent(0.0, c, u))(c, u) for f, field in given_to)
    close(v, w, 1e-12)
    close(dv, dw, 1e-12)
    close(dw, jvp_batched(lambda y: fields[0].drift(0.0, y), torch_face.array(c), torch_face.array(u))[1], 1e-12)
    fine = torch_face.MeanField(
        **given, degree=fields[0].degree, sigma=0.3, weights=weights, quadrature=fields[0].quadrature + 25
    )
    close(fine(0.0, c), w, 1e-12)  # means are exact to rounding


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("weights", ["softmax", "unnormalised"])
def test_attention_is_that_of_weighted_tokens(face, close, d, weights):
    """Tokens at the nodes, as heavy as the density there, see the same."""
    field = face.MeanField(**MATRICES[d], beta=2.0, degree=8 if d == 2 else 3, weights=weights)
    c = some(field)
    nodes, shares = face.numpy(field.nodes), face.numpy(field.shares)
    rho = face.numpy(field.density(c)) * (2 * np.pi if d == 2 else 4 * np.pi)
    mask = np.tile(len(nodes) * shares * rho, (len(nodes), 1))
    tokens = face.SelfAttention(**MATRICES[d], beta=2.0, weights=weights, mask=mask)
    velocity = as_one(face, field.token_velocity)(c)
    close(velocity, as_one(face, lambda x: tokens(0.0, x))(face.array(nodes)), 1e-12)
    close(field.token_velocity(c, nodes[:3]), velocity[:3], 1e-13)


def wavy(n, ks=(1, 2, 3, 4, 5), size=0.02):
    """Even tokens on the circle, moved along it by some waves."""
    angle = 2 * np.pi * np.arange(n) / n
    angle = angle + sum(size / k * np.sin(k * angle + k) for k in ks)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


@pytest.mark.parametrize(
    "given", [dict(beta=4.0), dict(MATRICES[2], beta=2.0), HEADS], ids=["identity", "matrices", "heads"]
)
def test_velocities_of_tokens_make_that_of_the_density(torch_face, close, given):
    """A smooth crowd of 400: sums over it are integrals, to rounding."""
    x, field = torch_face.array(wavy(400)), torch_face.MeanField(**given, d=2, degree=40)
    v = torch_face.SelfAttention(**given)(0.0, x)
    c, dc = torch.func.jvp(field.from_tokens, (x,), (v,))
    close(field(0.0, c), dc, 1e-11)


def test_many_tokens_move_as_their_density(jax_face):
    """20 000 of them."""
    field = jax_face.MeanField(beta=4.0, d=2, degree=32)
    tokens, x = jax_face.SelfAttention(beta=4.0, how="harmonic"), wavy(20_000)
    run = ctsa.integrate(tokens, x, [0.0, 0.5], solver="rk4", step=0.25)
    start, end = (np.asarray(field.from_tokens(s)) for s in run.xs)
    same = ctsa.integrate(field, start, [0.0, 0.5], atol=1e-11)
    assert np.abs(np.asarray(same.xs[-1]) - end).max() < 1e-6
    assert np.abs(end - start).max() > 1e-3  # something happened


def test_growth_measured_on_tokens(torch_face):
    """Modes 1 to 5 of a thousand tokens, to 1 %."""
    x, field = wavy(1000, size=1e-5), torch_face.MeanField(beta=4.0, d=2, degree=8)
    with torch.no_grad():
        run = ctsa.integrate(torch_face.SelfAttention(beta=4.0), x, [0.0, 1.0], solver="rk4", step=0.1)
    start, end = (field.from_tokens(s)[0].numpy().reshape(-1, 2)[:5] for s in run.xs)
    measured = np.log(np.linalg.norm(end, axis=1) / np.linalg.norm(start, axis=1))
    assert np.allclose(measured, theory.uniform_growth_rate(np.arange(1, 6), 4.0), rtol=0.01)


@mainly("torch")
def test_tokens_of_every_kind(face, close):
    x = ctsa.random_tokens(3000, 3, seed=0, batch=2)  # more than a block of them
    field = face.MeanField(d=3, degree=3)
    c = field.from_tokens(face.array(x))
    assert tuple(c.shape) == (2, 1, 15)
    every = spectral.values_at(x[1], 3).mean(1)
    close(c[1, 0], every, 1e-13)
    assert np.abs(every).max() < 4 / np.sqrt(3000)


# --------------------------------------------------------------------------------------------------------------- noise
@pytest.mark.parametrize(("face", "d", "beta", "value", "weights"), sample([
    (name, *numbers, weights)
    for name in ("torch", "jax")
    for numbers in ((2, 2.0, 1.0), (3, 3.0, 0.5), (3, -2.0, -1.0))
    for weights in ("softmax", "unnormalised")
], lambda name, d, beta, *rest: name == "torch" or rest == (0.5, "softmax")), indirect=["face"])  # fmt: skip
def test_critical_noise(face, d, beta, value, weights):
    sigma, k = theory.critical_noise(beta, d, value=value, weights=weights)
    assert k == (2 if value < 0 else 1)
    lead = []
    for s in (0.99 * sigma, sigma, 1.01 * sigma):
        field = face.MeanField(beta=beta, value=value * np.eye(d), d=d, degree=4, sigma=s, weights=weights)
        lead.append(ctsa.eigenvalues(field, field.uniform)[0].real)
    assert lead[0] > 1e-4 and abs(lead[1]) < 1e-9 and lead[2] < -1e-4
    assert theory.critical_noise(2.0, value=-1.0) == (0.0, 0)


@mainly("torch")
@pytest.mark.parametrize("d", [2, 3])
def test_the_bump_below_is_of_gibbs(face, d):
    """Unnormalised weights: ``exp(2 Phi / sigma^2) / Z``, Phi = int e^(beta x.y) dmu / beta, iterated, rests."""
    beta, degree = 1.0, 24 if d == 2 else 16
    sigma = (0.9 if d == 2 else 0.97) * theory.critical_noise(beta, d, weights="unnormalised")[0]
    field = face.MeanField(beta=beta, d=d, degree=degree, sigma=sigma, weights="unnormalised")
    nodes, shares = face.numpy(field.nodes), face.numpy(field.shares)
    kernel, rho = np.exp(beta * nodes @ nodes.T), np.exp(nodes[:, 0])
    for _ in range(900):
        gibbs = np.exp(2 / sigma**2 * (kernel @ (shares * rho)) / beta)
        rho, old = gibbs / (shares @ gibbs), rho
    assert np.abs(rho - old).max() < 1e-10 and rho.max() > 1.5
    c = field.coefficients(rho)
    assert float(field.tail(c)) < 1e-7 and np.abs(face.numpy(field(0.0, c))).max() < 1e-8
    if d == 2:
        lead = ctsa.eigenvalues(field, c).real
        assert np.abs(lead[0]) < 1e-8 and lead[1] < -1e-3  # it may be turned, and is stable


def test_uniform_and_bump_are_found(torch_face):
    face = torch_face
    sigma = theory.critical_noise(2.0)[0]
    field = face.MeanField(beta=2.0, d=2, degree=5, sigma=0.9 * sigma)
    found = ctsa.find_equilibria(field, 1, 10, starts=4, rounds=1)
    assert sorted(e.stable for e in found) == [False, True]
    uniform = next(e for e in found if not e.stable)
    assert uniform.index == 2 and np.abs(uniform.x).max() < 1e-9
    above = face.MeanField(beta=2.0, d=2, degree=5, sigma=1.3 * sigma)
    end = ctsa.integrate(above, some(above), [0.0, 60.0], atol=1e-7, until="equilibrium").xs[-1]
    assert np.abs(face.numpy(end)).max() < 1e-5


def test_the_bump_is_continued_to_the_critical_noise(jax_face):
    sigma = theory.critical_noise(2.0)[0]
    field = jax_face.MeanField(beta=2.0, d=2, degree=10, sigma=0.8 * sigma)
    with pytest.warns(UserWarning, match="not resolved: 1.3e-06"):
        end = ctsa.integrate(field, field.coefficients(lambda x: np.exp(x[:, 0])), [0.0, 60.0], atol=1e-10).xs[-1]
    branch = ctsa.continue_equilibrium(field, end, "sigma", (0.7 * sigma, 1.3 * sigma), step=0.06)
    assert abs(np.max(branch.parameters) - sigma) < 1e-4


# ----------------------------------------------------------------------------------------------------- what is resolved
@mainly("torch")
def test_runs_are_judged(face):
    field = face.MeanField(beta=4.0, d=2, degree=16)
    c = field.coefficients(lambda x: 1 + 0.3 * x[:, 0])
    with pytest.warns(UserWarning, match="the density is not resolved.*singular.*until=field.resolved"):
        run = ctsa.integrate(field, c, [0.0, 6.5], solver="rk4", step=0.1)
    assert run.stats["tail"] > 1e-6
    if face.name == "torch":  # on JAX events are the same code, which takes seconds to compile
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = ctsa.integrate(field, c, [0.0, 3.0, 6.5], solver="bosh3", until=field.resolved, atol=1e-4)
        assert run.stats["stopped"] and run.stats["tail"] < 1.01e-6 and abs(float(field.tail(run.xs[-1])) - 1e-6) < 1e-9
    with pytest.warns(UserWarning, match="density is off by .* cut off at degree 16: raise degree="):
        field.coefficients(lambda x: (x[:, 0] > 0.9).astype(float))
    assert abs(float(field.tail(field.from_tokens([[1.0, 0.0]]))) - (8 / 33) ** 0.5) < 1e-12  # white


def test_quadrature_is_enough_for_beta_or_an_error(face):
    field = face.MeanField(beta=2.0, d=2, degree=6)
    assert field.quadrature == face.MeanField(**field.arguments()).quadrature and field.reach >= 4
    with pytest.raises(ValueError, match="quadrature must be at least .* for degree=6 and queries as long as"):
        face.MeanField(beta=40.0, d=2, degree=6, quadrature=field.quadrature)
    if face.name == "torch":
        field.beta.data *= 20
        with pytest.raises(ValueError, match="beta, query or key have grown"):
            field(0.0, field.uniform)
    else:
        grown = jax.tree_util.tree_map(lambda a: 20 * a if a.ndim == 0 else a, field)
        assert np.isnan(np.asarray(jax.jit(lambda f, c: f(0.0, c))(grown, field.uniform))).all()


def test_large_beta(torch_face, close):
    """The degree of a kernel grows as the root of beta: far longer queries than its degree go."""
    field = torch_face.MeanField(beta=1000.0, d=2, degree=8)
    angles = 2 * np.pi * np.arange(1500) / 1500
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    masses = 1 + 0.3 * x[:, 0] + 0.2 * x[:, 1] ** 2
    c = field.coefficients(lambda p: 1 + 0.3 * p[:, 0] + 0.2 * p[:, 1] ** 2)
    few = torch_face.SelfAttention(beta=1000.0, masses=masses)
    close(field.token_velocity(c, x[:50]), few(0.0, torch.as_tensor(x))[:50], 1e-11)


def test_a_negative_density_has_no_softmax(face):
    field = face.MeanField(beta=2.0, d=2, degree=4)
    c = np.zeros((1, 8))
    c[0, 0] = -5.0
    assert np.isnan(face.numpy(field(0.0, c))).any()


# ------------------------------------------------------------------------------------------------------ as other fields
def test_gradients_agree(torch_face, jax_face, close):
    given = dict(MATRICES[2], degree=12)

    def loss(face, beta, sigma):
        field = face.MeanField(**given, beta=beta, sigma=sigma, quadrature=100)
        run = ctsa.integrate(field, 0.1 * some(field), [0.0, 0.5], solver="euler", step=0.1)
        return (run.xs[-1] ** 2).sum()

    b, s = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, 0.3))
    loss(torch_face, b, s).backward()
    grads = jax.jit(jax.grad(lambda b, s: loss(jax_face, b, s), (0, 1)))(2.0, 0.3)
    close(b.grad, grads[0], 1e-12)
    close(s.grad, grads[1], 1e-12)
    assert abs(float(grads[0])) > 1e-6


def test_conversion_copies_and_dtypes(torch_face, jax_face, close):
    field = torch_face.MeanField(**MATRICES[3], beta=2.0, degree=3, sigma=0.2)
    other = ctsa.jax.from_torch(field)
    assert other.quadrature == field.quadrature
    close(as_one(jax_face, other)(0.0, some(field)), field(0.0, some(field)), 1e-13)
    assert {n for n, _ in field.named_parameters()} == {"query", "key", "value", "beta", "sigma"}
    for face in (torch_face, jax_face):
        single = face.MeanField(value=np.eye(2, dtype=np.float32), degree=3)
        assert "float32" in str(as_one(face, single)(0.0, np.zeros((1, 6), np.float32)).dtype)
    assert repr(torch_face.MeanField(d=2, degree=3)).startswith("MeanField(beta=1, weights='softmax', d=2, degree=3")


def test_jax_does_not_compile_again_for_other_parameters(jax_face):
    traces = []

    @jax.jit
    def velocity(field, c):
        traces.append(1)
        return field(0.0, c)

    for beta in (1.0, 1.1, 1.2):
        field = jax_face.MeanField(beta=beta, d=2, degree=4, sigma=0.1 * beta, quadrature=40)
        velocity(field, jnp.asarray(some(field)))
    assert len(traces) == 1


def test_it_is_no_field_of_tokens(face):
    field = face.MeanField(beta=2.0, value=MATRICES[2]["value"], degree=4, sigma=1.0)
    with pytest.raises(ValueError, match="field must be one of tokens"):
        ctsa.classify(field, field.uniform)
    with pytest.raises(ValueError, match="different geometries"):
        field + face.SelfAttention()
    with pytest.raises(TypeError, match="attention"):
        ctsa.energy_report(field, np.zeros((2, 1, 8)))
    with pytest.raises(ValueError, match="starts must be states"):
        ctsa.basins(field, 3, n=1, d=8)
    with pytest.raises(ValueError, match="n=4 tokens"):
        field(0.0, ctsa.random_tokens(4, 2))
    found = ctsa.symmetry.symmetry_of(field, 1, 8)
    assert not len(found.generators) and len(found.classes) == 1
    twice = 2.0 * field  # sums and multiples are those of any field
    assert np.allclose(face.numpy(twice(0.0, some(field))), 2 * face.numpy(field(0.0, some(field))))


def test_the_space_of_densities():
    for sphere, features in ((2, 10), (3, 24)):
        g = Densities(sphere)
        c = g.random(1, features, np.random.default_rng(0), (50,))
        values = spectral.basis(sphere, g.degree(features), 60).values
        assert (1 + c @ values).min() > 0.05  # positive
        assert json.loads(json.dumps(g, default=encode), object_hook=decode) == g != ctsa.Euclidean()
    for wrong in (
        lambda: Densities(4),
        lambda: Densities(2).check_dimension(7),
        lambda: Densities(3).check_dimension(9),
    ):
        with pytest.raises(ValueError, match="must be 2|a density has"):
            wrong()


# ----------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("given, error, words", [
    (dict(), ValueError, "d must be 2 .* where no matrix"),
    (dict(d=4), ValueError, "d must be 2 .*got 4"),
    (dict(d=3, value=np.eye(2)), ValueError, "d must be 2 .*got 3 and 2"),
    (dict(d=2, sigma=-1.0), ValueError, "sigma must be at least 0"),
    (dict(d=2, sigma=None), TypeError, "sigma must be a number"),
    (dict(d=2, beta=None), TypeError, "beta must be a number"),
    (dict(d=2, weights="sigmoid"), ValueError, "weights must be 'softmax' or 'unnormalised'"),
    (dict(d=2, degree=0), ValueError, "degree must be an integer of at least 1"),
    (dict(d=3, degree=10_000), ValueError, "the nodes of this degree would need"),
    (dict(d=2, quadrature=10), ValueError, "quadrature must be"),
    (dict(query=np.ones((2, 2)), value=np.eye(3)), ValueError, "value has shape"),
])  # fmt: skip
def test_bad_arguments(face, given, error, words):
    with pytest.raises(error, match=words):
        face.MeanField(**given)


def test_bad_densities(face):
    field = face.MeanField(d=2, degree=3)
    other = FACES["jax" if face.name == "torch" else "torch"]
    for call, words in (
        (lambda: field.coefficients(np.ones(3)), "density must have a value at each of the"),
        (lambda: field.coefficients(lambda x: x[:, 0]), "density must not be negative"),
        (lambda: field.coefficients(lambda x: 0 * x[:, 0]), "density must not be negative and have mass"),
        (lambda: field.from_tokens(2 * np.eye(2)), "unit tokens"),
        (lambda: field.from_tokens(np.eye(3)), "x must have 2 components"),
        (lambda: field.density(field.uniform, np.ones((2, 2, 2)) / 2**0.5), r"points must be unit vectors \(B, 2\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="convert it to NumPy"):
        field.from_tokens(other.array(np.eye(2)))
    with pytest.raises(ValueError, match="quadrature must be given"):
        jax.jit(lambda b: FACES["jax"].MeanField(beta=b, d=2, degree=3)(0.0, jnp.zeros((1, 6))))(1.0)
    assert backend(field.uniform).name == face.name


def test_densities_have_no_monitors_of_tokens(face):
    field = face.MeanField(beta=2.0, d=2, degree=4)
    c = field.coefficients(lambda x: 1 + 0.3 * x[:, 0])
    for call in (
        lambda: ctsa.pseudo_energy(field, c),
        lambda: ctsa.contribution_index(field, c),
        lambda: ctsa.monitor(field, c, duration=1.0),
        lambda: ctsa.monitor(face.EulerLayer(field, 0.1), c, depth=2),
    ):
        with pytest.raises(ValueError, match="system must be one of tokens: its states are coefficients of a density"):
            call()
    assert 0 <= ctsa.complex_share(field, c) <= 1  # which is one of any linearised motion
