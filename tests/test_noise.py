"""Fields with noise: laws that are known, orders that are measured, paths that are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sampling import mainly, sample

import ctsa
from ctsa import theory
from ctsa._backend import no_graph
from ctsa.flows.stochastic import increments

ORIGIN = {2: [1.0, 0.0], 3: [1.0, 0.0, 0.0]}
TWIST = np.array([[1.0, 2.0, 0.0], [-1.0, 0.0, 0.5], [0.0, 0.0, -1.0]])


class Ellipse(ctsa.Geometry):
    """``x^2 + y^2 / 4 = 1``, reached along rays: a retraction that bends aside."""

    def retract(self, y):
        return y / (y[..., :1] ** 2 + y[..., 1:] ** 2 / 4) ** 0.5

    def project(self, x, v):
        normal = x * self.like([1.0, 0.25], x)
        return v - (normal * v).sum(-1)[..., None] * normal / (normal * normal).sum(-1)[..., None]

    def dimension(self, n, d):
        return n


# ---------------------------------------------------------------------------------------------------------------- paths
@pytest.mark.parametrize("count", [1, 6, 7, 40])
def test_half_the_step_refines_the_path(close, count):
    coarse, fine = (np.concatenate(list(increments(3, 1, c, 2.0, (4, 2)))) for c in (count, 2 * count))
    assert coarse.shape == (count, 4, 2)
    close(fine.reshape(count, 2, 4, 2).sum(1), coarse, 1e-14)


def test_paths_do_not_depend_on_how_they_are_cut(close):
    whole = np.concatenate(list(increments(0, 0, 96, 1.0, (3,))))
    for most in (1, 2, 5, 32):
        pieces = list(increments(0, 0, 96, 1.0, (3,), most))
        assert max(map(len, pieces)) <= max(2, most)  # two halves of a step come together
        close(np.concatenate(pieces), whole, 0)


def test_increments_are_normal_and_independent():
    w = np.concatenate(list(increments(0, 0, 4096, 2.0, (20,))))
    assert abs(w.var() * 2048 - 1) < 0.02 and abs(w.mean()) < 4 * (w.var() / w.size) ** 0.5
    assert abs((w[1:] * w[:-1]).mean() * 2048) < 0.015  # neighbours in time, of the same and of other bridges
    assert abs((w[:, 1:] * w[:, :-1]).mean() * 2048) < 0.015
    other = np.concatenate(list(increments(0, 1, 4096, 2.0, (20,))))
    assert abs((w * other).mean() * 2048) < 0.015


@mainly("torch")
# ----------------------------------------------------------------------------------------------------------------- laws
@pytest.mark.parametrize("d", [2, 3])
def test_brownian_motion(face, d):
    """Harmonics of degree l decay at the rate ``sigma^2 / 2 l (l + d - 2)``."""
    n, sigma, ts = 40_000, 0.7, np.array([0.0, 0.5, 1.0])
    run = ctsa.integrate(face.Noise(sigma), np.tile(ORIGIN[d], (n, 1)), ts, step=0.025, seed=1)
    xs = face.numpy(run.xs)
    assert np.abs((xs**2).sum(-1) - 1).max() < 1e-14
    p = xs[..., 0]
    for l, y in ((1, p), (2, 2 * p**2 - 1 if d == 2 else (3 * p**2 - 1) / 2)):
        exact = np.exp(-(sigma**2) / 2 * l * (l + d - 2) * ts)
        assert (np.abs(y.mean(1) - exact)[1:] < 4 * y.std(1)[1:] / n**0.5).all()
    sideways = xs[1:, :, 1].mean(1)
    assert (np.abs(sideways) < 4 * xs[1:, :, 1].std(1) / n**0.5).all()


@mainly("torch")
def test_one_strength_a_token(face):
    n, sigma = 2000, np.repeat([0.2, 0.6], 1000)
    field = face.Noise(sigma) + face.Noise(0.3)  # independent noises: squares add
    run = ctsa.integrate(field, np.tile(ORIGIN[2], (n, 1)), [0.0, 0.5], step=0.05, seed=2)
    p = face.numpy(run.xs)[-1, :, 0].reshape(2, 1000)
    exact = np.exp(-0.25 * (np.array([0.2, 0.6]) ** 2 + 0.09))
    assert (np.abs(p.mean(1) - exact) < 4 * p.std(1) / 1000**0.5).all()


@mainly("torch")
def test_uniform_on_an_ellipse(face):
    """On a curve Brownian motion ends uniform in arc length, whatever the retraction."""
    g, n = Ellipse(), 8000
    with no_graph():
        run = ctsa.integrate(
            face.Noise(1.0, geometry=g), np.tile([1.0, 0.0], (n, 1)), [0.0, 20.0], step=0.05, seed=0
        )
    found = face.numpy(run.xs)[-1, :, 1] ** 2
    angle = 2 * np.pi * np.arange(4000) / 4000
    speed = np.sqrt(np.sin(angle) ** 2 + 4 * np.cos(angle) ** 2)
    exact = (4 * np.sin(angle) ** 2 * speed).sum() / speed.sum()
    assert abs(found.mean() - exact) < 4 * found.std() / n**0.5 + 0.02  # and a bias of the order of the step


@mainly("torch")
def test_members_of_a_batch_are_independent(face):
    x = np.tile(ORIGIN[2], (2, 500, 1))
    end = face.numpy(ctsa.integrate(face.Noise(0.5), x, [0.0, 1.0], step=0.1, seed=0).xs[-1])[..., 1]
    assert abs(np.corrcoef(end)[0, 1]) < 4 / 500**0.5 and np.abs(end).max() > 0.5
    again, other = (face.numpy(ctsa.integrate(face.Noise(0.5), x, [0.0, 1.0], step=0.1, seed=s).xs[-1]) for s in (0, 1))
    assert (again[..., 1] == end).all() and np.abs(other[..., 1] - end).max() > 0.1


@mainly("torch")
def test_tokens_with_noise_move_as_their_density(face):
    """10 000 tokens beside ``MeanField``, below the critical noise, within standard errors."""
    n, beta = 10_000, 4.0
    sigma = 0.5 * theory.critical_noise(beta)[0]
    angle = 2 * np.pi * np.arange(n) / n
    angle = angle + 0.6 * np.sin(angle)
    x = np.stack([np.cos(angle), np.sin(angle)], -1)
    field = face.MeanField(beta=beta, d=2, degree=24, sigma=sigma)
    noisy = face.SelfAttention(beta=beta, how="harmonic") + face.Noise(sigma)
    with no_graph():
        density = ctsa.integrate(field, field.from_tokens(x), [0.0, 1.0], solver="rk4", step=0.02)
        run = ctsa.integrate(noisy, x, [0.0, 1.0], step=0.1, seed=0)
        start, end = (face.numpy(field.from_tokens(s))[0] for s in run.xs)
    assert np.abs(face.numpy(density.xs)[-1, 0] - end).max() < 4 * n**-0.5
    assert np.abs(end - start).max() > 8 * n**-0.5


# --------------------------------------------------------------------------------------------------------------- orders
def errors(face, d, geometry, solver, ks=(3, 4, 5, 6)):
    """Root mean square distances at the end of the same paths from those of a fine step."""
    x = ctsa.random_tokens(1, d, seed=0, batch=800)
    field = face.SelfAttention(value=0.5 * TWIST[:d, :d], geometry=geometry) + face.Noise(0.8, geometry=geometry)
    ends = [face.numpy(ctsa.integrate(field, x, [0.0, 1.0], solver, step=2.0**-k, seed=2).xs[-1]) for k in (*ks, 9)]
    return np.array([np.sqrt(((end - ends[-1]) ** 2).sum(-1).mean()) for end in ends[:-1]])


@pytest.mark.parametrize("d, geometry, order", [(2, None, 0.5), (3, None, 0.5), (2, ctsa.Euclidean(), 1.0)])
def test_order_of_paths(torch_face, d, geometry, order):
    for solver in ("heun", "euler"):
        with torch.no_grad():
            off = errors(torch_face, d, geometry, solver)
        assert abs(np.polyfit(np.log([8, 16, 32, 64]), -np.log(off), 1)[0] - order) < 0.15


@mainly("torch")
def test_order_of_means(face):
    """A geodesic step on the two-sphere has the mean cosine ``m(s)``, s = sigma^2 h; ``m(h)^(1/h)`` tends to 1/e as h."""
    r = np.linspace(0.0, 9.0, 4001)
    n, exact = 60_000, {}
    for h in (1.0, 0.5, 0.25, 0.125):
        density = r * np.exp(-r * r / 2)
        exact[h] = ((np.cos(h**0.5 * r) * density).sum() / density.sum()) ** (1 / h)
    off = np.abs(np.array(list(exact.values())) - np.exp(-1))
    assert (np.abs(np.log2(off[1:-1] / off[2:]) - 1) < 0.25).all() and off[-1] < 0.01
    for h in (1.0, 0.25):
        run = ctsa.integrate(face.Noise(1.0), np.tile(ORIGIN[3], (n, 1)), [0.0, 1.0], step=h, seed=1)
        end = face.numpy(run.xs)[-1]
        assert abs(end[:, 0].mean() - exact[h]) < 4 * end[:, 0].std() / n**0.5
    run = ctsa.integrate(face.Noise(1.0), np.tile(ORIGIN[2], (n, 1)), [0.0, 1.0], step=1.0, seed=1)
    one = face.numpy(run.xs)[-1, :, 0]
    assert abs(float(one.mean()) - np.exp(-0.5)) < 4 * float(one.std()) / n**0.5  # on the circle the law is exact


def test_without_noise_the_order_is_two(torch_face):
    x, quiet = ctsa.random_tokens(6, 3, seed=0), torch_face.SelfAttention(value=TWIST)
    exact = torch_face.numpy(ctsa.integrate(quiet, x, [0.0, 1.0], atol=1e-11).xs[-1])
    for solver, order in (("heun", 2), ("euler", 1)):
        ends = (
            ctsa.integrate(quiet + torch_face.Noise(0.0), x, [0.0, 1.0], solver, step=h).xs[-1] for h in (0.05, 0.025)
        )
        with torch.no_grad():
            off = [np.abs(torch_face.numpy(end) - exact).max() for end in ends]
        assert abs(np.log2(off[0] / off[1]) - order) < 0.2


# ----------------------------------------------------------------------------------------------------------- both faces
@pytest.mark.parametrize(
    "geometry",
    sample([None, ctsa.Sphere(channels=2), ctsa.Euclidean(), Ellipse()],
           lambda geometry: getattr(geometry, "channels", None) is None),
    ids=["sphere", "circles", "flat", "ellipse"],
)
def test_faces_agree(torch_face, jax_face, close, geometry):
    d = 2 if isinstance(geometry, Ellipse) else 4
    x = np.random.default_rng(0).normal(size=(3, 5, d))
    x = x if geometry is None else np.asarray(geometry.retract(x))
    ts, ends = [0.0, 0.3, 1.0], []
    for face in (torch_face, jax_face):
        field = face.SelfAttention(beta=2.0, geometry=geometry) + face.Noise(
            [0.1, 0.2, 0.3, 0.4, 0.0], geometry=geometry
        )
        run = ctsa.integrate(field, x, ts, step=0.07, seed=4, normalize=geometry is None)
        assert run.stats["steps"] == 5 + 10 and run.stats["seed"] == 4 and run.xs.shape == (3, 3, 5, d)
        ends.append(run.xs)
    close(ends[0], ends[1], 1e-12)


def test_gradients_agree(torch_face, jax_face, close):
    x = ctsa.random_tokens(5, 3, seed=0)

    def loss(face, beta, sigma):
        run = ctsa.integrate(face.SelfAttention(beta=beta) + face.Noise(sigma), x, [0.0, 0.5], step=0.05, seed=3)
        return run.xs[-1, :, 0].sum()

    b, s = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, 0.3))
    loss(torch_face, b, s).backward()
    both = jax.jit(jax.value_and_grad(lambda b, s: loss(jax_face, b, s), (0, 1)))
    value, grads = both(2.0, 0.3)
    close(b.grad, grads[0], 1e-11)
    close(s.grad, grads[1], 1e-11)
    h = 1e-5
    slope = (float(both(2.0, 0.3 + h)[0]) - float(both(2.0, 0.3 - h)[0])) / (2 * h)
    assert abs(slope - float(grads[1])) < 1e-6 and np.isfinite(float(value))


# ------------------------------------------------------------------------------------------------------------- refusals
def test_a_noise_has_no_velocity(face):
    x = ctsa.random_tokens(4, 3, seed=0)
    field = face.SelfAttention() + face.Noise(0.1)
    for call in (
        lambda: field(0.0, x),
        lambda: ctsa.jacobian(field, x),
        lambda: ctsa.lyapunov_spectrum(field, x, intervals=2),
        lambda: ctsa.find_equilibria(field, 4, 3, starts=2),
        lambda: ctsa.basins(field, 2, n=4, d=3),
        lambda: ctsa.iterate(ctsa.EulerLayer(field, 0.1), x, 2),
        lambda: ctsa.compare(field, x, duration=0.2, step_sizes=[0.1]),
    ):
        with pytest.raises(TypeError, match="a noise has no velocity: ctsa.integrate"):
            call()


@pytest.mark.parametrize("given, error, words", [
    (dict(), ValueError, "step must be given where there is noise"),
    (dict(step=0.1, solver="dopri8"), ValueError, "solver must be one of 'heun', 'euler' where there is noise"),
    (dict(step=0.1, ts=[1.0, 0.0]), ValueError, "ts must increase where there is noise"),
    (dict(step=0.1, until="equilibrium"), ValueError, "until does not go with noise"),
    (dict(step=0.1, adjoint=True), ValueError, "adjoint does not go with noise"),
    (dict(step=0.1, largest_step=0.1), ValueError, "largest_step does not go with noise"),
    (dict(step=0.1, max_steps=5), ValueError, "step=0.1 needs 10 steps, more than max_steps=5"),
    (dict(step=0.1, seed=-1), ValueError, "seed must be an integer of at least 0"),
    (dict(step=0.1, seed=0.5), TypeError, "seed must be an integer"),
    (dict(step=-1.0), ValueError, "step must be a finite number above 0"),
])  # fmt: skip
def test_bad_calls(face, given, error, words):
    field, x = face.SelfAttention() + face.Noise(0.1), ctsa.random_tokens(4, 3, seed=0)
    with pytest.raises(error, match=words):
        ctsa.integrate(field, x, **{"ts": [0.0, 1.0], **given})


def test_bad_noises(face):
    x, ts = ctsa.random_tokens(4, 3, seed=0), [0.0, 1.0]
    for call, error, words in (
        (lambda: face.Noise(None), TypeError, "sigma must be a number"),
        (lambda: face.Noise(-0.1), ValueError, "sigma must be at least 0, got -0.1"),
        (lambda: face.Noise([[0.1]]), ValueError, "sigma must be a number or 1-dimensional"),
        (lambda: ctsa.integrate(2.0 * face.Noise(0.1), x, ts, step=0.1), ValueError, "noise inside of a multiple"),
        (lambda: ctsa.integrate(face.Noise([0.1, 0.2]), x, ts, step=0.1), ValueError, "n=4 tokens"),
        (lambda: ctsa.integrate(face.SelfAttention(), x, ts, seed=1), ValueError, "seed is for the noise"),
        (lambda: face.SelfAttention() + face.Noise(0.1, ctsa.Euclidean()), ValueError, "different geometries"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_a_run_that_fails_hands_over_what_there_is(face):
    growing = face.Noise(0.1, ctsa.Euclidean()) + face.SelfAttention(value=1e200 * np.eye(2), geometry=ctsa.Euclidean())
    with pytest.raises(ctsa.IntegrationError, match="the state became nan or inf; take a smaller step") as caught:
        ctsa.integrate(growing, [[1.0, 0.0]], [0.0, 0.001, 1.0], step=0.001)
    assert 1 <= len(caught.value.trajectory) <= 2


def test_jax_does_not_compile_again_for_other_parameters(jax_face):
    traces = []

    def drift(t, x):
        traces.append(1)
        return 0 * x

    for sigma, seed in ((0.1, 0), (0.2, 1)):
        ctsa.integrate(jax_face.Noise(sigma) + drift, jnp.asarray([[1.0, 0.0]]), [0.0, 0.5, 1.0], step=0.125, seed=seed)
        count = len(traces) if sigma == 0.1 else count  # noqa: F821
    assert len(traces) <= count + 1  # the look at the velocity at the start
