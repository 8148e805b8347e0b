"""Events: where they are found, how their time and state depend on the data, and fields that depend on time."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sampling import sample

import ctsa
import ctsa.torch
from ctsa.events import depends_on_time
from ctsa.layers import Stroboscopic

FLAT = ctsa.Euclidean()


EVENTS = {
    "two zeros": lambda xp, t, x: (t - 5.0) * (t - 5.1) + 0 * x[..., 0, 0],
    "three zeros": lambda xp, t, x: (x[..., 0, 0] - 4.0) * (x[..., 0, 0] - 4.2) * (t - 4.5),
    "cos": lambda xp, t, x: xp.cos(t + 0 * x[..., 0, 0]),
    "sin": lambda xp, t, x: xp.sin(t + 0 * x[..., 0, 0]),
    "log": lambda xp, t, x: xp.log(2 - x[..., 0, 0]),
    "log at the start": lambda xp, t, x: xp.log(x[..., 0, 0] - 1),
    "blip": lambda xp, t, x: xp.exp(-(((t - 6.0) / 0.01) ** 2)) - 0.5 + 0 * x[..., 0, 0],
    "at 2": lambda xp, t, x: x[..., 0, 0] - 2,
}
BRANCHES = [functools.partial(event, jnp) for event in EVENTS.values()]


@jax.jit
def numbered(i, t, x):
    return jax.lax.switch(i, BRANCHES, t, x)


class Maths:
    """The few functions of a framework that these tests need."""

    def __init__(self, name):
        self.name = name
        self.xp, self.array = (torch, lambda a: torch.as_tensor(np.asarray(a, dtype=float))) if name == "torch" else (
            jnp, jnp.asarray
        )  # fmt: skip

    def event(self, name):
        """Return an event; in JAX it is told by a number, so that all of them are one program."""
        if self.name == "torch":
            return lambda t, x: EVENTS[name](torch, t, x)
        return eqx.Partial(numbered, jnp.asarray(list(EVENTS).index(name)))

    def gradients(self, f, x):
        """Return the gradients of several numbers, of one run; in JAX compiled as one program."""
        if self.name == "torch":
            x = self.array(x).requires_grad_()
            return [np.asarray(torch.autograd.grad(y, x, retain_graph=True)[0]) for y in f(x)]
        return [np.asarray(row) for row in jax.jit(jax.jacrev(f))(self.array(np.asarray(x, dtype=float)))]


@pytest.fixture(params=["torch", "jax"])
def maths(request):
    return Maths(request.param)


def one(t, x):
    return 0 * x + 1


def run(maths, event, ts=(0.0, 1.5, 10.0), x0=0.0, **options):
    return ctsa.integrate(one, maths.array([[x0]]), list(ts), until=maths.event(event), geometry=FLAT, **options)


# ------------------------------------------------------------------------------------------------------------ found
def test_two_zeros_in_one_step(maths):
    traj = run(maths, "two zeros")
    assert traj.stats["stopped"] and float(traj.ts[-1]) == pytest.approx(5.0, abs=1e-12)
    assert traj.xs[-1, 0, 0] == pytest.approx(5.0, abs=1e-12)


def test_three_zeros_in_one_step(maths):
    assert float(run(maths, "three zeros").ts[-1]) == pytest.approx(4.0, abs=1e-12)


def test_direction(maths):
    ways = (1,) if maths.name == "jax" else (0, -1, 1)  # each compiles on JAX, and 1 tells both from the others
    for way in ways:
        wanted = 3 * np.pi / 2 if way == 1 else np.pi / 2
        assert float(run(maths, "cos", direction=way).ts[-1]) == pytest.approx(wanted, abs=1e-12)
    # Backward the run goes down the same hill that it comes up forward.
    for way in ways[-2:]:
        wanted = -3 * np.pi / 2 if way == 1 else -np.pi / 2
        assert float(run(maths, "cos", (0.0, -1.5, -10.0), direction=way).ts[-1]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_zero_at_the_start_is_left_first(maths, sign):
    direction = 1 if maths.name == "jax" and sign < 0 else 0  # a program that test_direction has
    traj = run(maths, "sin", (0.0, sign * 1.5, sign * 10.0), direction=direction)
    assert float(traj.ts[-1]) == pytest.approx(sign * np.pi, abs=1e-12)


def test_going_on_from_a_stop():
    """A run that begins where another stopped goes to the next crossing, whatever rounding has left there."""
    t, x = 0.0, torch.tensor([[0.3]], dtype=torch.float64)
    for turn in range(1, 5):
        traj = ctsa.integrate(one, x, [t, t + 10.0], until=lambda t, x: torch.sin(x[0, 0]), geometry=FLAT)
        t, x = float(traj.ts[-1]), traj.xs[-1]
        assert float(x) == pytest.approx(turn * np.pi, abs=1e-11)


def test_nan_is_an_error_that_names_the_time(maths):
    with pytest.raises(ValueError, match=r"nan or inf at t=3"):
        run(maths, "log", (0.0, 1.5, 3.0))
    with pytest.raises(ValueError, match=r"start, t=0"):
        run(maths, "log at the start", (0.0, 1.5, 3.0))


def test_largest_step(maths):
    steps = ctsa.integrate(one, maths.array([[0.0]]), [0.0, 10.0], largest_step=0.5, geometry=FLAT).stats["steps"]
    assert 20 <= steps <= 26  # the first ones grow up to it
    # A blip that nine looks at a step of nine would never meet.
    traj = run(maths, "blip", largest_step=0.02)
    assert float(traj.ts[-1]) == pytest.approx(6 - 0.01 * np.log(2) ** 0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(direction=2), ["direction", "1", "-1", "0"]),
        (dict(largest_step=0.0), ["largest_step", "above 0"]),
        (dict(largest_step=0.1, solver="rk4", step=0.1), ["largest_step", "step is the largest"]),
        (dict(until="equilibrium", direction=1), ["direction", "equilibrium"]),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError) as error:
        given = dict(dict(until=lambda t, x: x[0, 0] - 2), **options)
        ctsa.integrate(one, torch.zeros(1, 1, dtype=torch.float64), [0.0, 1.0], geometry=FLAT, **given)
    assert all(word in str(error.value) for word in words)


# ---------------------------------------------------------------------------------------------------------- members
def test_each_member_stops_at_its_own_time(maths):
    x0 = maths.array([[[0.0]], [[1.0]], [[-20.0]]])
    traj = ctsa.integrate(one, x0, [0.0, 1.5, 10.0], until=maths.event("at 2"), geometry=FLAT)
    assert traj.xs.shape == (3, 3, 1, 1) and np.asarray(traj.stats["stopped"]).tolist() == [True, True, False]
    times = np.asarray(traj.stats["stop_times"])
    assert times[:2] == pytest.approx([2.0, 1.0], abs=1e-12) and np.isnan(times[2])
    want = np.array([[0, 1, -20], [1.5, 2, -18.5], [2, 2, -10]])
    assert np.asarray(traj.xs)[:, :, 0, 0] == pytest.approx(want, abs=1e-12)


def test_gradients_of_each_member(maths):
    def times(x0, **options):
        until = lambda t, x: x[..., 0, 0] - 2  # noqa: E731
        traj = ctsa.integrate(lambda t, x: x, x0, [0.0, 9.0], until=until, geometry=FLAT, **options)
        return traj.stats["stop_times"].sum()

    x0, wanted = maths.array([[[0.5]], [[1.5]]]), [-2.0, -1 / 1.5]
    if maths.name == "torch":
        (slope,) = torch.autograd.grad(times(x0.requires_grad_()), x0)
    else:  # forward mode compiles in a fraction of the time
        along = jax.jit(lambda v: jax.jvp(lambda x: times(x, adjoint=diffrax.ForwardMode()), (x0,), (v,))[1])
        slope = np.array([along(x0 * np.reshape(row, (2, 1, 1))) for row in np.eye(2)]) / x0.ravel()
    assert np.ravel(slope) == pytest.approx(wanted, rel=1e-6)


# --------------------------------------------------------------------------------------------------------- gradients
def stop(z):
    """Run x' = k x from x0 to 2: t = log(2 / x0) / k, and the state is 2 whatever x0 and k are."""
    traj = ctsa.integrate(
        lambda t, x: z[1] * x, z[0].reshape(1, 1), [0.0, 0.3, 9.0], until=lambda t, x: x[0, 0] - 2, atol=1e-11,
        geometry=FLAT,
    )  # fmt: skip
    return (traj.xs[-1].sum(), traj.ts[-1]), (traj.ts, traj.xs[:, 0, 0], traj.stats["stopped"])


@jax.jit  # one program for all tests of it
def stop_in_jax(z, weights):
    """Return the gradient of weights times (state, time) of the stop, and the run."""
    _, back, run = jax.vjp(stop, z, has_aux=True)
    return back(tuple(weights))[0], run


def test_gradient_through_the_stop(maths):
    if maths.name == "torch":
        of_state, of_time = maths.gradients(lambda z: stop(z)[0], [0.5, 0.7])
    else:
        of_state, of_time = (np.asarray(stop_in_jax(jnp.array([0.5, 0.7]), w)[0]) for w in np.eye(2))
    assert of_state == pytest.approx([0, 0], abs=1e-8)
    assert of_time == pytest.approx([-1 / (0.5 * 0.7), -np.log(4) / 0.7**2], rel=1e-8)


@pytest.mark.parametrize("maths", sample(["torch", "jax"], lambda name: name == "torch"), indirect=True)
def test_gradient_by_the_event_and_backward(maths):
    """The place of the event may depend on a parameter, too: x = 3 - (-t) reaches c at t = c - 3."""

    def solve(c):
        until = lambda t, x: x[0, 0] - c.sum()  # noqa: E731
        traj = ctsa.integrate(one, maths.array([[3.0]]), [0.0, -10.0], until=until, geometry=FLAT)
        return traj.ts[-1], traj.xs[-1].sum()

    of_time, of_state = maths.gradients(solve, [1.0])
    assert of_time == pytest.approx([1.0], abs=1e-10)
    assert of_state == pytest.approx([1.0], abs=1e-10)


def test_order_parameter_at_the_stop(torch_face):
    """On the sphere the order parameter at the stop is what it was asked to be: its gradient is zero."""
    field, x0 = torch_face.SelfAttention(beta=2.0), torch.as_tensor(ctsa.random_tokens(5, 3, 1)).requires_grad_()
    until = lambda t, x: ctsa.order_parameter(x) - 0.9  # noqa: E731
    traj = ctsa.integrate(field, x0, [0.0, 50.0], until=until, atol=1e-10)
    assert traj.stats["stopped"]
    (slope,) = torch.autograd.grad(ctsa.order_parameter(traj.xs[-1]), x0, retain_graph=True)
    assert slope.abs().max() < 1e-8
    (slope,) = torch.autograd.grad(traj.ts[-1], x0)
    ahead = torch.as_tensor(np.random.default_rng(0).normal(size=(5, 3)))
    ahead = ahead - (ahead * x0.detach()).sum(-1, keepdim=True) * x0.detach()
    with torch.no_grad():
        ends = [
            float(ctsa.integrate(field, x0 + h * ahead, [0.0, 50.0], until=until, atol=1e-10, normalize=True).ts[-1])
            for h in (1e-4, -1e-4)
        ]
    assert float((slope * ahead).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)


def test_no_gradient_through_a_jump():
    """The time at which a value jumps has a derivative, but the value does not tell it: asking is an error."""
    x0 = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    until = lambda t, x: torch.where(x[0, 0] > 2, 1.0, -1.0).double()  # noqa: E731
    traj = ctsa.integrate(one, x0, [0.0, 10.0], until=until, geometry=FLAT)
    assert float(traj.ts[-1]) == pytest.approx(2.0, abs=1e-9)
    with pytest.raises(ValueError, match="no derivative"):
        traj.xs[-1].sum().backward()


def test_fixed_steps_in_jax_have_no_gradient_of_the_time():
    """There a run ends with its step: the time of that end does not move, but that of the event does. Not 0, nan."""

    def end(a):
        traj = ctsa.integrate(
            lambda t, x: -a * x, jnp.ones((1, 1)), [0.0, 3.0], until=lambda t, x: x.sum() - 0.5, solver="rk4", step=0.125,
            geometry=FLAT, adjoint=diffrax.ForwardMode(),
        )  # fmt: skip
        return traj.ts[-1], traj.xs[-1].sum()

    of_time, of_state = jax.jit(lambda a: jax.jvp(end, (a,), (jnp.ones(()),))[1])(jnp.ones(()))
    assert np.isnan(of_time) and of_state == pytest.approx(-0.75 * np.exp(-0.75), rel=1e-4)


def test_under_jit_the_event_is_located():
    _, (ts, xs, stopped) = stop_in_jax(jnp.array([0.5, 1.0]), np.ones(2))
    assert bool(stopped) and np.asarray(ts) == pytest.approx([0, 0.3, np.log(4)], abs=1e-10)
    assert xs[-1] == pytest.approx(2.0, abs=1e-10)
    _, (_, xs, stopped) = stop_in_jax(jnp.array([1e-5, 1.0]), np.ones(2))
    assert not bool(stopped) and xs[-1] == pytest.approx(1e-5 * np.exp(9), abs=1e-11 * np.exp(9))


# ---------------------------------------------------------------------------------------------------------- driven
def test_depends_on_time(maths):
    x = maths.array([[0.0, 0.0]])
    assert not depends_on_time(lambda t, u: -u, x, geometry=FLAT)
    assert depends_on_time(lambda t, u: -u + maths.xp.cos(t), x)
    assert not depends_on_time(lambda t, u: u * maths.xp.cos(t), x)  # at zero nothing is seen
    assert depends_on_time(lambda t, u: u * maths.xp.cos(t), x, geometry=FLAT)
    assert depends_on_time(lambda t, u: -u + maths.xp.sin(2 * np.pi * t) + 1e-6 * t, x)


def test_noise_is_not_time():
    assert not depends_on_time(lambda t, u: u + torch.rand(1, 1), torch.ones(1, 1))


def test_driven_fields_are_refused_where_rest_is_meant(maths):
    def drive(t, u):
        return -u + maths.xp.cos(t)

    x = maths.array([[1.0]])
    calls = [
        lambda **kw: ctsa.basins(drive, x[None], duration=20.0, geometry=FLAT, **kw),
        lambda **kw: ctsa.classification(drive, x, geometry=FLAT, **kw),
        lambda **kw: ctsa.classify(drive, x, geometry=FLAT, **kw),
        lambda **kw: ctsa.find_equilibria(drive, 1, 1, starts=x[None], rounds=1, geometry=FLAT, **kw),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="field depends on time.*pass t="):
            call()
    assert ctsa.classify(drive, x, t=0.0, geometry=FLAT) == "consensus"  # frozen on purpose
    with pytest.raises(ValueError, match="until='equilibrium'"):
        ctsa.integrate(drive, x, [0.0, 5.0], until="equilibrium", geometry=FLAT)
    with pytest.raises(ValueError, match="field depends on time"):
        driven = lambda p: lambda t, u: p * maths.xp.cos(t) - u  # noqa: E731
        ctsa.continue_equilibrium(None, x, driven, (0.0, 2.0), at=1.0, geometry=FLAT)


def test_stroboscopic_map(maths):
    """x' = -x + cos t: the response is (cos t + sin t) / 2, and all else dies as exp(-t)."""
    solver = "dopri5" if maths.name == "jax" else "dopri8"  # compiles sooner, runs sooner
    layer = Stroboscopic(lambda t, x: -x + maths.xp.cos(t), 2 * np.pi, geometry=FLAT, solver=solver, atol=1e-11)
    x = maths.array([[0.0]])
    assert ctsa.iterate(layer, x, depth=4).xs[-1, 0, 0] == pytest.approx(0.5, abs=1e-9)
    assert ctsa.eigenvalues(layer, x).real == pytest.approx([np.exp(-2 * np.pi)], rel=1e-7)
    exponents = ctsa.lyapunov_spectrum(layer, x, intervals=1, transient=0).exponents
    assert exponents / (2 * np.pi) == pytest.approx([-1.0], abs=1e-8)
    with pytest.raises(ValueError, match="does not have the period 6"):
        Stroboscopic(lambda t, x: -x + maths.xp.cos(t), 6.0, geometry=FLAT)(x)


def test_max_steps_limits_an_interval(maths):
    field = getattr(ctsa, maths.name).SelfAttention(beta=2.0, value=np.diag([1.0, 0.5, 0.2]))
    for interval in (300.0, 1e9):
        with pytest.raises(ctsa.LyapunovError, match="too many steps"):
            ctsa.lyapunov_spectrum(
                field, ctsa.random_tokens(4, 3), interval=interval, intervals=1, transient=0, max_steps=50
            )
