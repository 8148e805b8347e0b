"""What integrate does beside solving: stops, batches, transformations, derivatives, counts, failures, progress."""

import functools
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sampling import mainly, sample
from scipy.linalg import expm
from scipy.optimize import brentq

import ctsa
from ctsa._backend import _jax_solve, _solve

FLAT = ctsa.Euclidean()
TS = np.linspace(0, 2, 5)
EULER = dict(solver="euler", step=0.1)


def arrays(face, traj):
    return face.numpy(traj.ts), face.numpy(traj.xs)


@pytest.fixture(scope="module")
def x0():
    return ctsa.random_tokens(4, 3, seed=1)


def attention(face):
    """One field for most tests, so that JAX compiles it once."""
    value = np.array([[1.0, 0.4, 0.0], [-0.4, 0.8, 0.2], [0.1, 0.0, 0.5]])
    return face.SelfAttention(query=np.eye(3) + 0.3 * value, value=value, beta=2.0)


# --------------------------------------------------------------------------------------------------------- equilibria
def resting(face):
    return face.SelfAttention(beta=2.0)


def test_until_equilibrium(torch_face, jax_face, x0):
    ends = []
    for face in (torch_face, jax_face):
        field = resting(face)
        traj = ctsa.integrate(field, x0, 40 * TS, until="equilibrium", rest=1e-6, atol=1e-10)
        ts, xs = arrays(face, traj)
        assert traj.stats["stopped"] and len(ts) == len(xs) == 2 and 0 < ts[-1] < 20
        velocity = resting(torch_face)(0.0, torch.as_tensor(xs[-1]))
        speed = np.linalg.norm(torch_face.numpy(velocity), axis=-1).max()
        assert 1e-8 < speed < 1e-6  # at rest, and not for long
        ends.append((ts[-1], traj.stats["steps"], traj.stats["rejected"], traj.stats["evaluations"]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-7)
    assert ends[0][1:] == ends[1][1:]


def test_another_tolerance_of_rest(torch_face, x0):
    times = [
        float(ctsa.integrate(resting(torch_face), x0, [0.0, 80.0], until="equilibrium", rest=tol, atol=1e-11).ts[-1])
        for tol in (1e-2, 1e-4, 1e-6)
    ]
    assert np.allclose(np.diff(times), np.log(100), atol=0.5)  # it settles like exp(-t)


def test_rest_from_the_start(face):
    traj = ctsa.integrate(resting(face), np.tile([[1.0, 0, 0]], (4, 1)), TS, until="equilibrium")
    ts, xs = arrays(face, traj)
    assert traj.stats["stopped"] and traj.stats["steps"] == 1
    assert len(ts) == 2 and ts[-1] < 1e-3 and (xs == xs[0]).all()


def test_rest_that_never_comes(face, x0):
    traj = ctsa.integrate(resting(face), x0, TS, until="equilibrium")
    assert not traj.stats["stopped"] and arrays(face, traj)[0].tolist() == TS.tolist()


# -------------------------------------------------------------------------------------------------------------- events
VALUE = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
START = np.tile([0.0, 1.0, 0.0], (4, 1))  # the shape of most states here, for whose checks JAX compiles many programs


def _plane(normal, rate, offset, t, x):
    return (normal * x[0]).sum() + rate * t - offset


_jitted_plane = jax.jit(_plane)


def plane(face, normal, rate=0.0, offset=0.0):
    """The event <normal, x_0> + rate t = offset. On JAX its numbers are arrays, so that all planes share a program."""
    numbers = [face.array(a) for a in (normal, rate, offset)]
    return functools.partial(_plane, *numbers) if face.name == "torch" else eqx.Partial(_jitted_plane, *numbers)


def stopped(face, until, ts=TS, solver="dopri8", **options):
    traj = ctsa.integrate(face.Oja(VALUE), START, ts, solver, until=until, **options)
    return traj, *arrays(face, traj)


def exact_crossing():
    """When the Oja flow from (0, 1) crosses the diagonal, by its closed form."""

    def gap(t):
        a, b, _ = expm(t * VALUE) @ START[0]
        return a - b

    return brentq(gap, 0.01, 2, xtol=1e-15)


def test_event(torch_face, jax_face):
    ends = []
    for face in (torch_face, jax_face):
        for atol in (1e-6, 1e-10):
            traj, ts, xs = stopped(face, plane(face, [1, -1, 0]), [0.0, 0.2, 1.0, 1.5, 2.0], atol=atol)
            assert traj.stats["stopped"] and ts[:-1].tolist() == [0.0, 0.2]
            assert abs(ts[-1] - exact_crossing()) < 10 * atol
            assert np.abs(xs - ctsa.theory.oja_flow(VALUE, START, ts)).max() < 10 * atol
            assert abs(xs[-1, 0, 0] - xs[-1, 0, 1]) < 1e-14  # the state of the crossing, not of the end of the step
        ends.append(ts[-1])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_event_in_fixed_steps(torch_face, jax_face):
    ends = []
    for face in (torch_face, jax_face):
        traj, ts, xs = stopped(face, plane(face, [1, -1, 0]), [0.0, 0.2, 1.0], "rk4", step=0.02)
        assert traj.stats["stopped"] and len(ts) == 3
        assert abs(ts[-1] - exact_crossing()) < 1e-6
        assert abs(xs[-1, 0, 0] - xs[-1, 0, 1]) < 1e-14
        ends.append(ts[-1])
    assert ends[0] == pytest.approx(ends[1], rel=1e-13)


def test_the_order_of_fixed_step_events(torch_face):
    # Only the last step is cut short, so the time of the event is as accurate as the method.
    steps = np.array([0.1, 0.05, 0.025])
    until = plane(torch_face, [1, -1, 0])
    errors = [abs(stopped(torch_face, until, [0.0, 2.0], "midpoint", step=h)[1][-1] - exact_crossing()) for h in steps]
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] - 2) < 0.3, errors


def test_event_that_never_happens(face):
    traj, ts, _ = stopped(face, plane(face, [1, 0, 0], offset=-2.0))
    assert not traj.stats["stopped"] and ts.tolist() == TS.tolist()


def test_event_on_an_output_time(face):
    assert stopped(face, plane(face, [0, 0, 0], rate=1.0, offset=1.0))[1].tolist() == [0.0, 0.5, 1.0]


def test_event_at_either_end(face):
    traj, ts, _ = stopped(face, plane(face, [0, 0, 0], rate=1.0, offset=2.0))
    assert traj.stats["stopped"] and ts.tolist() == TS.tolist()
    traj, ts, _ = stopped(face, plane(face, [1, 0, 0]))  # starts on its zero, leaves it and does not come back
    assert not traj.stats["stopped"] and ts.tolist() == TS.tolist()


def test_event_backward_in_time(torch_face):
    until = plane(torch_face, [0, 0, 0], rate=1.0, offset=-0.7)
    _, ts, xs = stopped(torch_face, until, -TS, atol=1e-11)
    assert ts.tolist() == [0.0, -0.5, pytest.approx(-0.7, abs=1e-14)]
    assert np.abs(xs - ctsa.theory.oja_flow(VALUE, START, ts)).max() < 1e-9


def test_a_stop_under_jit(jax_face):
    # Shapes are fixed: outputs after the stop hold the stop.
    until = plane(jax_face, [1, -1, 0])
    traj = jax.jit(lambda x: ctsa.integrate(jax_face.Oja(VALUE), x, TS, until=until))(START)
    ts, xs = np.asarray(traj.ts), np.asarray(traj.xs)
    assert bool(traj.stats["stopped"]) and ts.shape == (5,) and ts[0] == 0
    assert ts[1] == pytest.approx(exact_crossing(), abs=1e-7) and (ts[1:] == ts[1]).all()
    assert (xs[1:] == xs[1]).all() and np.isfinite(float(traj.stats["radius_error"]))
    assert np.abs(xs - ctsa.theory.oja_flow(VALUE, START, ts)).max() < 1e-7


# -------------------------------------------------------------------------------------------- batches and vmap, jit
def test_a_batch_shares_its_steps(torch_face):  # on JAX see the Oja flows along a batch
    field, starts = attention(torch_face), ctsa.random_tokens(4, 3, seed=2, batch=(2, 3))
    traj = ctsa.integrate(field, starts, TS, atol=1e-11)
    _, xs = arrays(torch_face, traj)
    assert xs.shape == (5, 2, 3, 4, 3)
    _, one = arrays(torch_face, ctsa.integrate(field, starts[1, 2], TS, atol=1e-11))
    assert np.abs(xs[:, 1, 2] - one).max() < 1e-9
    assert isinstance(traj.stats["steps"], int)


def test_vmap_has_steps_of_its_own(jax_face):
    field = attention(jax_face)
    near = np.tile([[1.0, 0, 0]], (4, 1)) + 1e-3 * ctsa.random_tokens(4, 3, seed=4)
    starts = np.stack([ctsa.random_tokens(4, 3, seed=3), ctsa.Sphere().retract(near)])
    many = jax.jit(jax.vmap(lambda x: ctsa.integrate(field, x, TS)))(jnp.asarray(starts))
    assert many.xs.shape == (2, 5, 4, 3)
    steps = many.stats["steps"].tolist()
    assert steps[0] != steps[1]
    for i in range(2):
        one = ctsa.integrate(field, starts[i], TS)
        assert one.stats["steps"] == steps[i]
        assert np.abs(np.asarray(one.xs) - np.asarray(many.xs)[i]).max() < 1e-13


def test_jit(jax_face, x0):
    field = attention(jax_face)
    eager = ctsa.integrate(field, x0, TS)
    jitted = eqx.filter_jit(lambda f, x: ctsa.integrate(f, x, TS))(field, jnp.asarray(x0))
    assert np.abs(np.asarray(eager.xs) - np.asarray(jitted.xs)).max() < 1e-14
    assert jitted.ts.tolist() == TS.tolist()
    assert {k: int(jitted.stats[k]) for k in ("steps", "rejected", "evaluations")} == {
        k: eager.stats[k] for k in ("steps", "rejected", "evaluations")
    }


def turning(x, frequency, outward):
    """A turn of the circle in few steps, of a field that may also point off it."""

    def field(t, x):
        return frequency * x @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + outward * x * (1 - t)

    return ctsa.integrate(field, x, [0.0, 1.0], max_steps=30).xs


JITTED = {"jit": jax.jit(turning), "filter_jit": eqx.filter_jit(turning)}
GOOD, NUMBERS = np.array([[0.6, 0.8]]), np.array([1.0, 0.0])


@pytest.mark.parametrize("jit", sample(JITTED, lambda jit: jit == "filter_jit"))
def test_bad_tokens_under_jit(jit, capfd):
    assert np.isfinite(JITTED[jit](GOOD, *NUMBERS)).all()
    for bad, message in ((2, "x0 must have unit tokens; normalise them"), (0, "x0 has nan, inf or zero tokens")):
        with pytest.raises((RuntimeError, ValueError), match=message):
            jax.block_until_ready(JITTED[jit](bad * GOOD, *NUMBERS))


def test_a_failing_solve_under_jit(capfd):
    with pytest.raises(RuntimeError, match="max_steps"):
        jax.block_until_ready(JITTED["filter_jit"](GOOD, 99 * NUMBERS[0], NUMBERS[1]))


def test_bad_fields_under_jit(capfd):
    with pytest.raises(RuntimeError, match="field is not tangent to the sphere"):
        jax.block_until_ready(JITTED["filter_jit"](GOOD, *NUMBERS[[0, 0]]))


class Counted(eqx.Module):
    """A field whose Python body runs only when JAX traces it."""

    value: jax.Array
    traces: list = eqx.field(static=True)

    def __call__(self, t, x):
        self.traces.append(t)
        return ctsa.Sphere().project(x, jnp.cos(0 * t) * x @ self.value.T)


class Traces(list):
    __hash__ = object.__hash__  # a static field of a pytree must be hashable
    __eq__ = object.__eq__


def test_other_numbers_do_not_recompile(jax_face, x0):
    traces = Traces()

    def solve(seed, x, ts, **options):
        field = Counted(jnp.asarray(np.random.default_rng(seed).normal(size=(3, 3))), traces)
        ctsa.integrate(field, x, ts, **options)
        before, after = solve.seen, len(traces)
        solve.seen = after
        return after - before

    solve.seen = 0
    other = ctsa.random_tokens(4, 3, seed=9)
    assert solve(0, x0, [0.0, 1.0], atol=1e-6) > 0
    assert solve(1, other, [0.3, 1.7], atol=1e-7, rtol=1e-7) == 0
    assert solve(2, x0, [0.0, 1.0], atol=1e-6, until="equilibrium", rest=1e-2) > 0
    assert solve(3, other, [0.0, 2.0], atol=1e-5, until="equilibrium", rest=1e-3) == 0


def test_fields_of_ours_do_not_recompile(jax_face):
    programs = ctsa._backend._jax_solve._solve.programs
    rng = np.random.default_rng(0)

    def solve():
        field = jax_face.SelfAttention(value=rng.normal(size=(2, 2)), beta=rng.uniform(1, 2))
        omega = rng.normal() * np.array([[0, 1.0], [-1, 0]])
        field = field + rng.uniform() * jax_face.Rotation(omega)
        ctsa.integrate(field, ctsa.random_tokens(3, 2, seed=int(rng.integers(99))), np.sort(rng.uniform(size=3)))
        return programs()

    assert solve() == solve() == solve()


# --------------------------------------------------------------------------------------------------------- derivatives
@pytest.fixture(scope="module")
def problem():
    """A loss of the outputs of a multi-head field with rotation and injection, its parameters and a direction."""
    rng = np.random.default_rng(5)
    n, d, heads, m = 4, 3, 2, 2
    shapes = dict(query=(heads, m, d), key=(heads, m, d), value=(heads, d, d), beta=(heads,), omega=(d, d))
    shapes["input"] = (n, d)
    parameters = {k: rng.normal(size=s) for k, s in shapes.items()}
    parameters["beta"] = np.array([0.8, 1.4])
    direction = {k: rng.normal(size=s) for k, s in shapes.items()}
    for p in (parameters, direction):
        p["omega"] = p["omega"] - p["omega"].T
    u = rng.normal(size=(n, d))
    start = ctsa.random_tokens(n, d, seed=6)
    u -= (u * start).sum(1, keepdims=True) * start
    weights = rng.normal(size=(3, n, d))
    return parameters, direction, start, u, weights


def assemble(face, p):
    heads = face.SelfAttention(query=p["query"], key=p["key"], value=p["value"], beta=p["beta"])
    return heads + face.Rotation(p["omega"]) + face.Injection(p["input"])


TIMES = [0.0, 0.6, 1.5]


def gradients(face, problem, **options):
    """The loss, its gradient by x0, and by each parameter."""
    p, _, start, _, weights = problem
    if face.name == "torch":
        field, x = assemble(face, p), face.array(start).requires_grad_()
        loss = (face.array(weights) * ctsa.integrate(field, x, TIMES, **options).xs).sum()
        loss.backward()
        grads = [a.grad.numpy() for a in field.parameters()]
        return loss.item(), x.grad.numpy(), dict(zip(p, grads, strict=True))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def value(fx):
        return (weights * ctsa.integrate(fx[0], fx[1], TIMES, **options).xs).sum()

    loss, (field, x) = value((assemble(face, p), jnp.asarray(start)))
    one, two, three = field.fields
    named = dict(query=one.query, key=one.key, value=one.value, beta=one.beta, omega=two.omega, input=three.input)
    return float(loss), np.asarray(x), {k: np.asarray(v) for k, v in named.items()}


THROUGH_STEPS = dict(solver="dopri8", atol=1e-12)


@pytest.fixture(scope="module")
def plain(problem):
    """Gradients through the steps of dopri8 at a tight tolerance, in torch, which compiles nothing."""
    return gradients(named_faces()["torch"], problem, **THROUGH_STEPS)


def named_faces():
    from conftest import FACES

    return FACES


def close_gradients(a, b, tol):
    assert a[0] == pytest.approx(b[0], rel=tol)
    for one, two in ((a[1], b[1]), *((a[2][k], b[2][k]) for k in a[2])):
        assert np.abs(one - two).max() < tol * max(1.0, np.abs(two).max())


@pytest.mark.thorough  # see gradients by the adjoint equation, and those of outputs inside of steps
def test_gradients_agree(jax_face, problem, plain):
    close_gradients(plain, gradients(jax_face, problem, **THROUGH_STEPS), 1e-8)


def test_gradients_against_differences(torch_face, problem, plain):
    p, direction, start, u, weights = problem

    def loss(s):
        moved = {k: a + s * direction[k] for k, a in p.items()}
        x = ctsa.Sphere().retract(start + s * u)
        with torch.no_grad():
            xs = ctsa.integrate(assemble(torch_face, moved), x, TIMES, "dopri8", atol=1e-13).xs
        return float((torch_face.array(weights) * xs).sum())

    h = 1e-3
    slope = np.array([1, -8, 8, -1]) @ [loss(k * h) for k in (-2, -1, 1, 2)] / (12 * h)
    _, by_start, by_parameter = plain
    expected = (by_start * u).sum() + sum((by_parameter[k] * direction[k]).sum() for k in p)
    assert abs(slope - expected) < 1e-8 * abs(expected)
    # Lengths of tokens are normalised away, so the gradient is tangent.
    assert np.abs((by_start * start).sum(1)).max() < 1e-9


@pytest.mark.parametrize("name, solver", [
    ("torch", "dopri5"), ("torch", "dopri8"), pytest.param("jax", "dopri5", marks=pytest.mark.slow),
])  # fmt: skip
def test_adjoint_gradients(problem, plain, name, solver):
    adjoint = gradients(named_faces()[name], problem, solver=solver, atol=1e-9, adjoint=True)
    close_gradients(adjoint, plain, 3e-8)  # dopri8 would be off by 1e-6 if the way back did not land on ts[0]


def test_adjoint_gradients_in_fixed_steps(torch_face, problem, plain):
    adjoint = gradients(torch_face, problem, solver="rk4", step=0.01, adjoint=True)
    close_gradients(adjoint, plain, 1e-6)


def test_gradients_through_fixed_steps(torch_face, problem):
    # rk4 is differentiated step by step: exact for the map that it is, hence close to the flow's.
    rough = gradients(torch_face, problem, solver="rk4", step=0.1)
    fine = gradients(torch_face, problem, solver="rk4", step=0.05)
    close_gradients(rough, fine, 1e-3)


@pytest.mark.slow
def test_forward_mode_on_jax(jax_face):
    import diffrax

    def state(value, x):
        return ctsa.integrate(jax_face.Oja(value), x, [0.0, 1.0], atol=1e-11, adjoint=diffrax.ForwardMode()).xs[-1]

    def exact(value, x):
        y = x @ jax.scipy.linalg.expm(value).T
        return y / jnp.linalg.norm(y, axis=-1, keepdims=True)

    toward = (jnp.asarray([[0.3, -1.0], [2.0, 0.5]]), jnp.asarray([[0.7, 0.0]]))
    at = (jnp.asarray(VALUE[:2, :2]), jnp.asarray(START[:1, :2]))
    slope, expected = jax.jit(lambda at, toward: [jax.jvp(f, at, toward)[1] for f in (state, exact)])(at, toward)
    assert np.abs(np.asarray(slope) - np.asarray(expected)).max() < 1e-8


def test_adjoint_needs_to_see_the_parameters(torch_face, x0):
    field = attention(torch_face)
    with pytest.raises(ValueError, match=r"adjoint=True .* nn\.Module"):
        ctsa.integrate(lambda t, x: field(t, x), torch_face.array(x0), TS, adjoint=True)
    # Without parameters there is nothing to miss.
    ctsa.integrate(lambda t, x: field(t, x).detach(), torch_face.array(x0), TS, adjoint=True)


@pytest.mark.slow
def test_numbers_from_outside_of_a_callable():
    """A bare callable may hold what is differentiated or mapped: x(1) = cos(w) x0 + sin(w) J x0."""
    quarter, start = np.array([[0.0, 1.0], [-1.0, 0.0]]), jnp.asarray([[0.6, 0.8]])

    def end(w):
        traj = ctsa.integrate(lambda t, x: w * (x @ quarter), start, [0.0, 1.0], "rk4", step=0.02)
        return traj.xs[-1, 0, 0]

    w = np.array([0.3, 1.0, 2.0])
    exact, slope = 0.6 * np.cos(w) - 0.8 * np.sin(w), -0.6 * np.sin(w) - 0.8 * np.cos(w)
    ends, slopes = jax.jit(jax.vmap(jax.value_and_grad(end)))(jnp.asarray(w))  # both at once: one program
    assert np.abs(np.asarray(ends) - exact).max() < 1e-7 and np.abs(np.asarray(slopes) - slope).max() < 1e-7


def test_nothing_is_recorded_without_need(torch_face, x0):
    field = attention(torch_face)
    assert ctsa.integrate(field, x0, TS).xs.requires_grad
    with torch.no_grad():
        assert not ctsa.integrate(field, x0, TS).xs.requires_grad
    for a in field.parameters():
        a.requires_grad_(False)
    assert not ctsa.integrate(field, x0, TS).xs.requires_grad


def test_gradient_up_to_a_stop(torch_face, x0):
    # The end state of a stopped run carries its derivatives (at fixed end time).
    field = torch_face.Oja(VALUE)
    traj = ctsa.integrate(field, START, TS, until=plane(torch_face, [1, -1, 0]))
    traj.xs[-1, 0, 0].backward()
    assert field.value.grad.abs().max() > 0


# --------------------------------------------------------------------------------------------------------------- counts
def test_torch_counts_every_evaluation(torch_face, x0):
    field = attention(torch_face)
    for solver in ("dopri5", "dopri8", "bosh3", "heun", "euler", "midpoint", "rk4"):
        options = dict(step=0.1) if solver in ("euler", "midpoint", "rk4") else dict(atol=1e-5)
        count = 0

        def counted(t, x):
            nonlocal count
            count += 1
            return field(t, x).detach()

        traj = ctsa.integrate(counted, torch_face.array(x0), TS, solver, **options)
        assert traj.stats["evaluations"] == count - 1  # one more to look at the velocity before the solve


class Calls(eqx.Module):
    """Counts what is really evaluated when the compiled program runs."""

    count: Traces = eqx.field(static=True)

    def __call__(self, t, x):
        jax.debug.callback(lambda t: self.count.append(float(t)), t)
        return jnp.cos(t) * (x @ jnp.array([[0.0, 1.0], [-1.0, 0.0]]))


@pytest.mark.parametrize("solver", sample(
    ["dopri5", "dopri8", "tsit5", "bosh3", "heun", "euler", "midpoint", "rk4"],
    1,
))  # fmt: skip
def test_jax_counts_every_evaluation(solver):
    count = Traces()
    options = dict(step=0.1) if solver in ("euler", "midpoint", "rk4") else dict(atol=1e-4)
    traj = ctsa.integrate(Calls(count), jnp.asarray([[1.0, 0.0]]), [0.0, 1.0, 3.0], solver, **options)
    jax.effects_barrier()
    assert traj.stats["evaluations"] == len(count) - 1


def test_what_is_counted(face, x0):
    traj = ctsa.integrate(attention(face), x0, TS, atol=1e-8)
    s = traj.stats
    assert s["evaluations"] == 6 * (s["steps"] + s["rejected"]) + 3  # first-same-as-last, and two for the first step
    assert all(isinstance(s[k], int) for k in ("steps", "rejected", "evaluations"))
    assert isinstance(s["radius_error"], float) and s["stopped"] is False


# ------------------------------------------------------------------------------------------------------------- failures
def failing(*args, **options):
    with pytest.raises(ctsa.IntegrationError) as caught:
        ctsa.integrate(*args, **options)
    return caught.value


def test_too_many_steps(face, x0):
    good = ctsa.integrate(attention(face), x0, TS)
    needed = good.stats["steps"] + good.stats["rejected"]
    for steps in (1, needed - 1) if face.name == "torch" else (needed - 1,):  # each number compiles on JAX
        error = failing(attention(face), x0, TS, max_steps=steps)
        assert f"max_steps={steps}" in str(error) and "loosen atol" in str(error)
        ts, xs = arrays(face, error.trajectory)
        assert 1 <= len(ts) < 5 and ts.tolist() == TS[: len(ts)].tolist()
        assert np.abs(xs - arrays(face, good)[1][: len(ts)]).max() < 1e-14
        assert error.trajectory.stats["steps"] + error.trajectory.stats["rejected"] == steps
    assert len(ts) == 4
    exactly = ctsa.integrate(attention(face), x0, TS, max_steps=needed)
    assert np.abs(arrays(face, exactly)[1] - arrays(face, good)[1]).max() < 1e-14


@mainly("torch")
def test_too_many_fixed_steps(face, x0):
    good = ctsa.integrate(attention(face), x0, TS, **EULER)
    error = failing(attention(face), x0, TS, **EULER, max_steps=10)
    ts, xs = arrays(face, error.trajectory)
    assert ts.tolist() == [0.0, 0.5, 1.0] and "max_steps=10" in str(error)
    assert np.abs(xs - arrays(face, good)[1][:3]).max() < 1e-14


def square(t, x):
    return x * x


def test_blow_up(torch_face, jax_face):
    stats = []
    for face in (torch_face, jax_face):
        error = failing(square, face.array([[0.8]]), TS, "dopri8", rtol=1e-8, geometry=FLAT)  # infinite at t = 1.25
        ts, xs = arrays(face, error.trajectory)
        assert ts.tolist() == [0.0, 0.5, 1.0] and "reached t=1 of 2" in str(error)
        assert np.abs(xs[:, 0, 0] * (1.25 - ts) - 1).max() < 1e-6
        assert "the step size went to zero" in str(error)  # not: the same step of three roundings of t, until max_steps
        assert error.trajectory.stats["rejected"] < 300
        stats.append(error.trajectory.stats["steps"])
    assert stats[0] == pytest.approx(stats[1], rel=0.1)


@pytest.mark.parametrize("solver", sample(["dopri5", "dopri8", "tsit5"], 1))
def test_blow_up_in_single_precision(torch_face, jax_face, solver):
    for face in (torch_face, jax_face)[solver == "tsit5" :]:
        start = face.array([[0.8]], "float32")
        error = failing(square, start, TS, solver, atol=1e-5, geometry=FLAT)
        assert "the step size went to zero" in str(error) and error.trajectory.stats["rejected"] < 300


def root(t, x):
    return x * (0.77 - t) ** 0.5


def arch(t, x):
    return (1 - x * x) ** 0.5


def test_trial_steps_into_nan_are_shortened(torch_face, jax_face):
    # x = sin(t) stays in the domain, the stages of long steps do not.
    stats = []
    for face in (torch_face, jax_face):
        traj = ctsa.integrate(arch, face.array([[0.0]]), [0.0, 1.57], atol=1e-6, geometry=FLAT)
        assert abs(arrays(face, traj)[1][-1, 0, 0] - np.sin(1.57)) < 1e-6
        stats.append((traj.stats["steps"], traj.stats["rejected"]))
    assert stats[0] == stats[1] and stats[0][1] > 10


@pytest.mark.parametrize("name, options", [
    ("torch", dict(solver="dopri5")), ("torch", dict(solver="dopri8")), ("torch", EULER),
    ("jax", dict(solver="dopri8")), ("jax", EULER),
])  # fmt: skip
def test_nan_in_mid_run(torch_face, jax_face, name, options):
    # The right-hand side ends at t = 0.77.
    face = torch_face if name == "torch" else jax_face
    error = failing(root, face.array([[1.0]]), np.linspace(0, 2, 9), **options, geometry=FLAT)
    ts, xs = arrays(face, error.trajectory)
    assert ts.tolist() == [0.0, 0.25, 0.5, 0.75] and "nan or inf" in str(error)
    if options is not EULER:
        assert np.abs(xs[:, 0, 0] - np.exp(2 / 3 * (0.77**1.5 - (0.77 - ts) ** 1.5))).max() < 1e-6


@pytest.mark.parametrize("options", [dict(solver="dopri8"), dict(solver="rk4", step=0.05)], ids=["dopri8", "rk4"])
def test_an_interrupt_hands_over_what_there_is(torch_face, x0, options):
    field = attention(torch_face)
    good = ctsa.integrate(field, x0, TS, **options)
    calls = 0

    def impatient(t, x):
        nonlocal calls
        calls += 1
        if calls > good.stats["evaluations"] - 3:
            raise KeyboardInterrupt
        return field(t, x).detach()

    with pytest.raises(KeyboardInterrupt) as caught:
        ctsa.integrate(impatient, torch_face.array(x0), TS, **options)
    kept = caught.value.trajectory
    assert 3 <= len(kept.ts) < 5 and (kept.xs - good.xs[: len(kept.ts)]).abs().max() < 1e-14


@pytest.mark.parametrize("error", [ZeroDivisionError, AssertionError, ValueError])
def test_other_exceptions_of_the_field_come_through(torch_face, x0, error):
    def broken(t, x):
        if t > 0.5:
            raise error("mine")
        return 0 * x

    with pytest.raises(error, match="^mine$"):
        ctsa.integrate(broken, torch_face.array(x0), TS)


def test_failures_leave_the_next_solve_alone(face, x0):
    before = ctsa.integrate(attention(face), x0, TS)
    few = before.stats["steps"] + before.stats["rejected"] - 1  # with which JAX has compiled it already
    failing(attention(face), x0, TS, max_steps=few)
    assert np.array_equal(arrays(face, ctsa.integrate(attention(face), x0, TS))[1], arrays(face, before)[1])


# ------------------------------------------------------------------------------------------------------------- progress
@pytest.fixture
def clock(monkeypatch):
    """The time that bars go by: it passes where a test lets it, whatever the speed of the machine."""
    now = [time.time()]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def slow(face, clock, seconds):
    """A field at rest whose every evaluation takes ``seconds``."""

    def still(x):
        clock[0] += seconds
        return 0 * x

    if face.name == "torch":
        return lambda t, x: still(x)
    return lambda t, x: jax.pure_callback(lambda x: still(np.asarray(x)), x, x)


def test_a_bar_for_solves_that_last(face, clock, capsys):
    # A second before it shows; JAX reports every fifty steps.
    field = slow(face, clock, 0.012)
    traj = ctsa.integrate(field, face.array([[1.0, 0.0]]), [0.0, 1.5], "euler", step=0.01, progress=True)
    shown = capsys.readouterr().err
    assert "integrate" in shown and "%" in shown
    assert traj.stats["steps"] == 150


def test_compiling_is_said(jax_face, x0, capsys, monkeypatch):
    """A line says why nothing moves, until the solver does."""
    field, solve, live = attention(jax_face), _jax_solve._solve, _solve.Notice.waiting

    def slowly(*args, **kwargs):
        for notice in list(live):
            notice.timer.join()  # as if it took long enough to compile
        return solve(*args, **kwargs)

    monkeypatch.setattr(_jax_solve, "_solve", slowly)
    monkeypatch.setattr(_solve.Notice, "after", 0.0)
    ctsa.integrate(field, x0, TS, progress=False)
    assert capsys.readouterr().err == ""
    ctsa.integrate(field, x0, TS, progress=True)
    shown = capsys.readouterr().err
    assert shown.startswith("\rJAX compiles") and shown.endswith(" \r") and not live


def test_bars_of_jax_begin_with_a_notice():
    live = _solve.Notice.waiting
    bar = _solve.progress_bar(2.0, "jax")
    assert len(live) == 1
    bar.update(1)
    assert not live and bar.n == 1
    bar.close()
    for framework in ("jax", "torch", ""):
        _solve.progress_bar(2.0, framework).close()
        assert not live


@pytest.mark.parametrize("progress", [True, False, None])
def test_silence(face, x0, clock, capsys, progress):
    traj = ctsa.integrate(attention(face), x0, TS, progress=progress)
    assert "integrate" not in capsys.readouterr().err  # no time passes, or not wanted, or no terminal
    plain = ctsa.integrate(attention(face), x0, TS, progress=False)
    xs, wanted = arrays(face, traj)[1], arrays(face, plain)[1]
    if face.name == "jax":  # to the bit only with the optimisations that these tests do without: the bar parts fused sums
        assert np.abs(xs - wanted).max() < 1e-13 and traj.stats == pytest.approx(plain.stats, rel=1e-6)
    else:
        assert np.array_equal(xs, wanted) and traj.stats == plain.stats


def test_a_terminal_gets_a_bar_by_itself(torch_face, clock, monkeypatch, capsys):
    field = slow(torch_face, clock, 0.15)
    ctsa.integrate(field, torch_face.array([[1.0, 0.0]]), [0.0, 1.0], "euler", step=0.1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ctsa.integrate(field, torch_face.array([[1.0, 0.0]]), [0.0, 1.0], "euler", step=0.1)
    assert "integrate" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- what is accepted
def test_starts_and_times_of_any_kind(face, x0):
    field = attention(face)
    expected = arrays(face, ctsa.integrate(field, x0, TS))[1]
    for start in (x0.tolist(), face.array(x0), np.asfortranarray(x0)):
        for ts in (TS.tolist(), tuple(TS), face.array(TS)):
            assert np.array_equal(arrays(face, ctsa.integrate(field, start, ts))[1], expected)
    whole = ctsa.integrate(field, x0, range(5))  # as many as of TS
    assert arrays(face, whole)[0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] and whole.ts.dtype == face.array(0.0).dtype


def test_normalize(face, x0):
    field = attention(face)
    lengths = np.array([[0.1], [1.0], [3.0], [40.0]])
    expected = arrays(face, ctsa.integrate(field, x0, TS))[1]
    xs = arrays(face, ctsa.integrate(field, lengths * x0, TS, normalize=True))[1]
    assert np.abs(xs - expected).max() < 1e-12


def test_the_start_is_not_changed(face, x0):
    start = face.array(x0)
    traj = ctsa.integrate(attention(face), start, TS)
    assert np.array_equal(face.numpy(start), x0)
    assert np.abs(arrays(face, traj)[1][0] - x0).max() < 1e-15


def test_a_solver_of_diffrax(jax_face, x0):
    import diffrax

    field = attention(jax_face)
    ours = ctsa.integrate(field, x0, TS, "dopri5")
    theirs = ctsa.integrate(field, x0, TS, diffrax.Dopri5())
    assert np.array_equal(np.asarray(ours.xs), np.asarray(theirs.xs)) and ours.stats == theirs.stats
    fixed = ctsa.integrate(field, x0, TS, diffrax.Ralston(), step=0.1)
    assert fixed.stats["steps"] == 20 and np.abs(np.asarray(fixed.xs) - np.asarray(ours.xs)).max() < 1e-2


def test_methods_of_torchdiffeq(torch_face, x0):
    field = attention(torch_face)
    ours = ctsa.integrate(field, x0, TS, "dopri8", atol=1e-10).xs
    for solver, options, allowed in (("heun3", dict(step=0.05), 1e-4), ("fehlberg2", dict(atol=3e-6), 1e-3)):
        assert (ctsa.integrate(field, x0, TS, solver, **options).xs - ours).abs().max() < allowed


def test_oscillators(torch_face):
    pairs = ctsa.Sphere(channels=2)
    start = ctsa.random_tokens(3, 4, seed=1, channels=2)
    field = torch_face.Rotation(frequencies=[1.0, -2.0], geometry=pairs)
    ts, xs = arrays(torch_face, ctsa.integrate(field, start, TS, atol=1e-11))
    assert np.abs(np.linalg.norm(xs.reshape(5, 3, 2, 2), axis=-1) - 1).max() < 1e-15
    angles = np.arctan2(xs[..., 1::2], xs[..., 0::2])
    turned = angles - angles[0] - ts[:, None, None] * np.array([1.0, -2.0])
    assert np.abs(np.sin(turned)).max() < 1e-9
