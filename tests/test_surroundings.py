"""What functions of others read besides their arguments is a part of a program of JAX: what changes later is not lost."""

import functools

import numpy as np
import pytest

import ctsa

jax, eqx = pytest.importorskip("jax"), pytest.importorskip("equinox")
_jax_march = pytest.importorskip("ctsa._backend._jax_march")
surroundings = pytest.importorskip("ctsa._backend._jax_surroundings").surroundings
RATE, FLAT = 1.0, ctsa.Euclidean()
X = np.ones((1, 2))


def of_global(t, x):
    return -RATE * x


def of_closure(rates):
    return lambda t, x: -rates[0] * x


class Thing:
    def __init__(self):
        self.rate = 1.0

    def __call__(self, t, x):
        return -self.rate * x

    def method(self, t, x):
        return -self.rate * x


class Module(eqx.Module):
    scale: jax.Array

    def __call__(self, t, x):
        return -RATE * self.scale * x


def change_global(rate):
    global RATE
    RATE = rate


def cases():
    rates, array, thing, other = [1.0], [np.ones(2)], Thing(), Thing()
    yield "global", of_global, change_global
    yield "module", Module(jax.numpy.ones(())), change_global
    yield "closure", of_closure(rates), functools.partial(rates.__setitem__, 0)
    yield "array", of_closure(array), lambda rate: array.__setitem__(0, np.full(2, rate))
    yield "object", thing, functools.partial(setattr, thing, "rate")
    yield "method", other.method, functools.partial(setattr, other, "rate")
    yield "partial", functools.partial(lambda rates, t, x: -rates[0] * x, rates), functools.partial(rates.__setitem__, 0)


ANALYSES = {
    "integrate": lambda f, x: -np.log(ctsa.integrate(f, x, [0.0, 1.0], geometry=FLAT).xs[-1][0, 0]),
    "spectrum": lambda f, x: -ctsa.lyapunov_spectrum(f, x, intervals=2, transient=0, geometry=FLAT).exponents[0],
    "eigenvalues": lambda f, x: -ctsa.eigenvalues(f, x, geometry=FLAT)[0].real,
}


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name, field, change", list(cases()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_has_changed_is_seen(analysis, name, field, change):
    x = jax.numpy.asarray(X)
    for rate in (1.0, 2.0, 1.0):
        change(rate)
        assert float(ANALYSES[analysis](field, x)) == pytest.approx(rate, abs=1e-6)


def test_events_and_layers_see_it_too():
    level, x = [2.0], jax.numpy.asarray(X)
    until = lambda t, x: x[0, 0] - level[0]  # noqa: E731
    grow = lambda t, x: x  # noqa: E731
    layer = lambda x: level[0] * x  # noqa: E731
    for level[0] in (2.0, 3.0):
        run = ctsa.integrate(grow, x, [0.0, 9.0], until=until, geometry=FLAT)
        assert float(run.ts[-1]) == pytest.approx(np.log(level[0]), abs=1e-7)
        assert float(ctsa.iterate(layer, x, 2, geometry=FLAT).xs[-1][0, 0]) == level[0] ** 2
        found = ctsa.lyapunov_spectrum(layer, x, intervals=2, transient=0, geometry=FLAT)
        assert found.exponents[0] == pytest.approx(np.log(level[0]))


COUNT = 0


class Counting:
    def __init__(self):
        self.calls, self.times = 0, []

    def __call__(self, t, x):
        self.calls += 1
        self.times.append(t)
        return -x


def counters():
    log, items, calls = [], {"calls": 0}, 0

    def appends(t, x):
        log.append(t)
        return -x

    def stores(t, x):
        items["calls"] += 1
        return -x

    def sets(t, x):
        nonlocal calls
        calls += 1
        return -x

    def of_module(t, x):
        global COUNT
        COUNT += 1
        return -x

    return appends, stores, sets, of_module, Counting()


@pytest.mark.parametrize("field", counters(), ids=lambda f: getattr(f, "__name__", "object"))
def test_what_a_function_writes_is_not_what_it_reads(field):
    x = jax.numpy.asarray(X)
    run = functools.partial(ctsa.lyapunov_spectrum, field, x, intervals=2, transient=0, geometry=FLAT)
    run()
    compiled = _jax_march._march_tangent.programs()
    run()
    assert _jax_march._march_tangent.programs() == compiled


def test_ours_read_nothing_else(jax_face):
    field = jax_face.SelfAttention(beta=2.0) + jax_face.Rotation(np.zeros((4, 3, 3)))
    assert surroundings((field, ctsa.Sphere(), X, {"solver": "dopri5"})) is None
    assert surroundings((field + (lambda t, x: 0 * x),)) is not None


def test_large_arrays_and_objects_that_refuse_are_no_burden():
    large = np.zeros(2**21)

    def reads(t, x):
        return -x + large[0]

    before = surroundings(reads)
    large[:] = 1.0
    assert surroundings(reads) != before

    class Refuses:
        __slots__ = ("inner",)

        @property
        def __dict__(self):
            raise RuntimeError("no")

        def __call__(self, t, x):
            return -x

    run = ctsa.integrate(Refuses(), jax.numpy.asarray(X), [0.0, 1.0], geometry=FLAT)
    assert float(run.xs[-1][0, 0]) == pytest.approx(np.exp(-1), abs=1e-7)
