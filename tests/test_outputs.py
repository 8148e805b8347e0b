"""Outputs inside of steps: as good as the steps, for no evaluations, the same in both frameworks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import FACES
from sampling import mainly, sample

import ctsa
from ctsa._backend import _interpolants, _torch_tableaus

ATOL = {"dopri5": 1e-8, "dopri8": 1e-8, "tsit5": 1e-8, "bosh3": 1e-6, "heun": 1e-4}
PAIRS = [(name, solver) for solver in ATOL for name in ("torch", "jax") if name == "jax" or solver != "tsit5"]
DENSE = np.linspace(0.0, 3.0, 301)  # on JAX every number of outputs is a program


def once(name, solver):
    """Whether one framework has it alone; of the others see test_parity."""
    return name == "torch" or solver == "tsit5"


def turning():
    """Eight Oja flows of one token that turn and settle: V and the starts."""
    a, b = np.random.default_rng(14).normal(size=(2, 4, 4))
    return 0.6 * (a - a.T) + 0.2 * (b + b.T), ctsa.random_tokens(1, 4, seed=13, batch=(8,))


def solve(name, ts, solver, **options):
    face = FACES[name]
    value, x0 = turning()
    with torch.no_grad():
        path = ctsa.integrate(face.Oja(value), x0, ts, solver, **options)
    return face.numpy(path.xs), path.stats


def error(xs, ts):
    return np.abs(xs - ctsa.theory.oja_flow(*turning(), ts)).max()


@pytest.mark.parametrize("name, solver", sample(PAIRS, once))
def test_errors_of_all_outputs(name, solver):
    atol = ATOL[solver]
    xs, stats = solve(name, DENSE, solver, atol=atol)
    ends, alone = solve(name, [0.0, 3.0], solver, atol=atol)
    assert error(xs, DENSE) < 20 * atol
    assert np.abs(np.linalg.norm(xs, axis=-1) - 1).max() < 1e-15
    assert 0 < stats["interpolated"] <= 299 and alone["interpolated"] == 0
    if solver != "dopri8":
        assert stats["interpolated"] == 299
        assert {**stats, "radius_error": 0, "interpolated": 0} == {**alone, "radius_error": 0}
        assert np.abs(xs[-1] - ends[-1]).max() < 1e-14


@pytest.mark.parametrize("name, solver", sample(PAIRS, lambda name, solver: name == "torch"))
def test_evaluations_do_not_depend_on_outputs(name, solver):  # of tsit5 see above
    few, many = (solve(name, np.linspace(0.0, 3.0, n + 1), solver, atol=ATOL[solver])[1] for n in (10, 1000))
    if solver == "dopri8":  # whose steps are shortened where its interpolant falls behind
        assert many["evaluations"] < 1.5 * few["evaluations"]
        assert many["steps"] < 30
    else:
        assert few["evaluations"] == many["evaluations"] and few["steps"] == many["steps"]


@pytest.mark.parametrize("name, solver, order", [
    ("torch", "heun", 2), ("torch", "bosh3", 3), ("torch", "dopri5", 5), ("torch", "dopri8", 6),
    pytest.param("jax", "tsit5", 5, marks=pytest.mark.thorough),  # of its errors see above
])  # fmt: skip
def test_order_of_interpolated_outputs(name, solver, order):
    """Steps of one size, which a loose tolerance leaves alone: so do outputs inside of them converge."""
    steps = {"dopri8": (0.4, 0.3, 0.2), "heun": (0.04, 0.02, 0.01)}.get(solver, (0.2, 0.1, 0.05))
    errors = []
    for h in steps:
        ts = np.linspace(0.0, 1.2, 121)
        xs, stats = solve(name, ts, solver, atol=0.1, largest_step=h)
        assert stats["rejected"] == 0
        errors.append(error(xs, ts))
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > order - 0.25, (slope, errors)


def alike(runs):
    (a, one), (b, two) = runs
    for k in ("steps", "rejected", "evaluations", "interpolated"):
        assert one[k] == two[k]
    assert np.abs(a - b).max() < 1e-13


@pytest.mark.parametrize("solver", sample(  # of dopri8 see below
    ["dopri5", "heun", "dopri8", "bosh3"], lambda solver: solver in ("dopri5", "heun")
))
def test_parity(solver):
    rng = np.random.default_rng(0)
    query, value = rng.normal(size=(2, 3, 3)) / np.sqrt(3)
    x0, ts = ctsa.random_tokens(12, 3, seed=0), np.linspace(0.0, 4.0, 77)
    runs = []
    for face in FACES.values():
        with torch.no_grad():
            path = ctsa.integrate(face.SelfAttention(query, value=value, beta=3.0), x0, ts, solver, atol=ATOL[solver])
        runs.append((face.numpy(path.xs), path.stats))
    alike(runs)


def test_what_is_measured_is_the_error():
    """The measure of dopri8's interpolant is of its order and, in the median of random fields, of its size."""
    rng, method = np.random.default_rng(2), _torch_tableaus.tableau("dopri8")
    assert abs(method.measure.sum()) < 1e-15 and all(abs(method.measure @ method.c**k) < 1e-15 for k in range(1, 5))
    assert abs(method.measure @ method.c**5) > 1e-6

    def slopes(f, y, h):
        k = []
        for row in method.a:
            k.append(f(y + h * sum((a * b for a, b in zip(row, k, strict=False)), 0 * y)))
        return np.array(k)

    ratios, sizes = [], []
    for _ in range(40):
        a, b = rng.normal(size=(2, 6, 6)) / 6**0.5
        y, h = rng.normal(size=6), 0.4

        def f(y, a=a, b=b):
            return np.tanh(a @ y) - b @ (y * y) / 4

        measured = []
        for step in (h, h / 2):
            k, off = slopes(f, y, step), 0.0
            for share in (0.3, 0.5, 0.7, 0.85):
                inside = y + method.shares(np.array([share * step]), step)[0] @ k
                fine = y
                for _ in range(8):
                    fine = fine + share * step / 8 * method.step @ slopes(f, fine, share * step / 8)
                off = max(off, np.linalg.norm(inside - fine))
            measured.append(np.linalg.norm(step * method.measure @ k))
            ratios.append(off / measured[-1])
        sizes.append(np.log2(measured[0] / measured[1]))
    assert 0.5 < np.median(ratios) < 2 and np.quantile(ratios, 0.9) < 4
    assert 5.5 < np.median(sizes) < 7.5


def test_dopri8_lands_where_its_interpolant_is_too_coarse():
    """Outputs closer than a step, but not than its interpolant allows: landing is the longer step, and is taken."""
    step = 3.0 / solve("torch", [0.0, 3.0], "dopri8", atol=1e-12)[1]["steps"]
    ts = np.linspace(0.0, 3.0, int(3.0 / step * 1.2))
    xs, stats = solve("torch", ts, "dopri8", atol=1e-12)
    assert stats["interpolated"] < len(ts) // 2
    assert error(xs, ts) < 50e-12
    alike([(xs, stats), solve("jax", ts, "dopri8", atol=1e-12)])
    xs, stats = solve("torch", DENSE, "dopri8", atol=1e-12)
    assert stats["interpolated"] > 200 and stats["steps"] < 120
    assert error(xs, DENSE) < 50e-12


@pytest.mark.parametrize("name, solver", sample([
    ("torch", "dopri5"), ("torch", "dopri8"), ("jax", "tsit5"), ("jax", "dopri8"),
], lambda name, solver: name == "torch" or solver == "dopri8"))  # fmt: skip
def test_landing_on_request(name, solver):
    """A step ends on every output: they are as accurate as ends of steps, which are shorter than needed."""
    xs, stats = solve(name, DENSE, solver, atol=1e-8, land=True)
    assert stats["interpolated"] == 0 and stats["steps"] >= 300
    assert error(xs, DENSE) < 1e-10
    if name == "torch":
        few, stats = solve(name, DENSE[::100], solver, atol=1e-8, land=True)
        assert stats["interpolated"] == 0 and error(few, DENSE[::100]) < 1e-7


@pytest.mark.parametrize("solver", sample(["kvaerno5", "Ralston"], 1))
def test_other_methods_land(solver):
    import diffrax

    ts = np.linspace(0.0, 1.0, 11)
    xs, stats = solve("jax", ts, getattr(diffrax, solver, lambda: solver)(), atol=1e-6)
    assert stats["interpolated"] == 0 and stats["steps"] >= 10 and error(xs, ts) < 1e-4


def test_a_solver_of_diffrax_that_does_not_land():
    import diffrax

    xs, stats = solve("jax", DENSE, diffrax.Dopri8(), atol=1e-8)
    assert stats["interpolated"] > 200 and error(xs, DENSE) < 2e-7


def test_backward_in_time_and_in_float32(face):
    value, x0 = turning()
    ts = np.linspace(1.0, -1.0, 301)
    with torch.no_grad():
        back = ctsa.integrate(face.Oja(value), x0, ts, atol=1e-9)
        low = ctsa.integrate(face.Oja(value.astype("float32")), x0.astype("float32"), DENSE, atol=1e-5)
    assert np.abs(face.numpy(back.xs) - ctsa.theory.oja_flow(value, x0, ts - 1.0)).max() < 3e-8
    assert back.stats["interpolated"] == 299
    assert str(low.xs.dtype).endswith("float32") and error(face.numpy(low.xs), DENSE) < 2e-4


def test_gradients_of_outputs_inside_of_steps():
    """The derivative of an interpolated state by the start and by the field, against that of the closed form."""
    value, x0 = turning()
    ts = np.linspace(0.0, 1.0, 33)
    weights = np.random.default_rng(3).normal(size=(33, 8, 1, 4))

    given = [torch.tensor(a, requires_grad=True) for a in (value, x0)]
    ys = given[1] @ torch.linalg.matrix_exp(torch.as_tensor(ts)[:, None, None] * given[0]).mT[:, None]
    loss = (torch.as_tensor(weights) * ys / ys.norm(dim=-1, keepdim=True)).sum()
    want = [a.numpy() for a in torch.autograd.grad(loss, given)]
    tangent = np.asarray(want[1]) - (np.asarray(want[1]) * x0).sum(-1, keepdims=True) * x0

    def ours(value, x):
        return (weights * ctsa.integrate(FACES["jax"].Oja(value), x, ts, atol=1e-10).xs).sum()

    by_value, by_start = jax.jit(jax.grad(ours, (0, 1)))(jnp.asarray(value), jnp.asarray(x0))
    assert np.abs(np.asarray(by_value) - np.asarray(want[0])).max() < 1e-7
    assert np.abs(np.asarray(by_start) - tangent).max() < 1e-7
    for adjoint in (False, True):
        field, x = FACES["torch"].Oja(value), torch.as_tensor(x0).requires_grad_()
        path = ctsa.integrate(field, x, ts, atol=1e-10, adjoint=adjoint)
        assert path.stats["interpolated"] == 31
        (torch.as_tensor(weights) * path.xs).sum().backward()
        assert np.abs(field.value.grad.numpy() - np.asarray(want[0])).max() < 1e-7
        assert np.abs(x.grad.numpy() - tangent).max() < 1e-7


@mainly("torch")
def test_outputs_around_an_event(face):
    """Of the outputs inside the step of a stop those before it are kept."""
    value, x0 = turning()
    at = 1.23456789

    def until(t, x):
        return t - at

    path = ctsa.integrate(face.Oja(value), x0, DENSE, "dopri5", atol=1e-9, until=until)
    ts = face.numpy(path.ts)
    assert len(ts) == 125 and ts[:-1].tolist() == DENSE[:124].tolist() and ts[-1] == pytest.approx(at, abs=1e-14)
    assert np.abs(face.numpy(path.xs) - ctsa.theory.oja_flow(value, x0, ts)).max() < 2e-8
    assert path.stats["interpolated"] == 123


def test_cubics_and_quartics_meet_the_ends():
    for name in ("dopri5", "dopri8", "bosh3", "heun", "fehlberg2"):
        method = _torch_tableaus.tableau(name)
        c = _interpolants.polynomials(name, tuple(method.step))
        assert np.abs(c.sum(1) - method.step).max() < (2e-12 if name == "dopri8" else 1e-14)  # its digits are as published
        assert np.allclose(c[:, 0], np.eye(len(c))[0])  # the slope at its start
