"""``ctsa.Solver``: one value that carries a solver and its settings through every function that integrates."""

import diffrax
import numpy as np
import pytest

import ctsa
from ctsa.layers import Stroboscopic

X = ctsa.random_tokens(4, 3, seed=0)
V = np.diag([2.0, 1.0, 0.5])


def field_of(face):
    return face.SelfAttention(value=V, beta=1.0)


def same(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_integrate(face):
    field = field_of(face)
    fine = ctsa.Solver("dopri8", rtol=1e-9, atol=1e-11, max_steps=50)
    apart = ctsa.integrate(field, X, [0.0, 1.0], "dopri8", rtol=1e-9, atol=1e-11, max_steps=50)
    for one in (ctsa.integrate(field, X, [0.0, 1.0], fine), ctsa.integrate(field, X, [0.0, 1.0], solver=fine)):
        assert same(face.numpy(one.xs), face.numpy(apart.xs)) and one.stats["steps"] == apart.stats["steps"]
    steps = ctsa.Solver("rk4", step=0.1)
    by_step = ctsa.integrate(field, X, [0.0, 1.0], steps)
    assert same(face.numpy(by_step.xs), face.numpy(ctsa.integrate(field, X, [0.0, 1.0], "rk4", step=0.1).xs))
    with pytest.raises(ctsa.IntegrationError, match="max_steps=3"):
        ctsa.integrate(field, X, [0.0, 50.0], ctsa.Solver(max_steps=3))


def test_what_is_left_out_is_the_functions_own(torch_face):
    field = field_of(torch_face)
    assert same(
        torch_face.numpy(ctsa.integrate(field, X, [0.0, 1.0], ctsa.Solver("dopri8")).xs),
        torch_face.numpy(ctsa.integrate(field, X, [0.0, 1.0], "dopri8").xs),
    )


def test_spectra_have_one_identity(torch_face):
    field, run = field_of(torch_face), dict(intervals=3, transient=2, count=2)
    apart = ctsa.lyapunov_spectrum(field, X, solver="dopri8", atol=1e-10, **run)
    one = ctsa.lyapunov_spectrum(field, X, solver=ctsa.Solver("dopri8", atol=1e-10), **run)
    assert one.identity == apart.identity and same(one.history, apart.history)
    longer = run | dict(intervals=5)
    more = ctsa.lyapunov_spectrum(field, X, solver=ctsa.Solver("dopri8", atol=1e-10), resume=apart, **longer)
    assert len(more.history) > 3
    other = ctsa.lyapunov_spectrum(field, X, solver=ctsa.Solver("dopri8", atol=1e-9), **run)
    assert other.identity != one.identity
    with pytest.raises(ValueError, match="another run"):
        ctsa.lyapunov_spectrum(field, X, solver=ctsa.Solver("dopri8", atol=1e-9), resume=apart, **run)


def test_every_function_takes_it(torch_face):
    field = field_of(torch_face)
    fine = ctsa.Solver("dopri8", atol=1e-10, max_steps=1000)
    pairs = [
        (lambda s: ctsa.covariant_vectors(field, X, intervals=4, transient=2, transient_back=2, **s).vectors),
        (lambda s: ctsa.finite_time_exponents(field, X, 1.0, **s)),
        (lambda s: ctsa.gali(field, X, 3, intervals=3, **s)[1]),
        (lambda s: ctsa.basins(field, X[None], duration=50.0, **s).ends),
        (lambda s: torch_face.numpy(Stroboscopic(field, 1.0, **s)(torch_face.array(X)))),
    ]
    for run in pairs:
        assert same(run(dict(solver=fine)), run(dict(solver="dopri8", atol=1e-10, max_steps=1000)))
    comp = ctsa.compare(field, X, 1.0, [0.2, 0.1], solver=ctsa.Solver("dopri8", atol=1e-10))
    assert comp.table() == ctsa.compare(field, X, 1.0, [0.2, 0.1], solver="dopri8", atol=1e-10).table()
    turning = torch_face.Rotation(frequencies=[1.0]) + torch_face.Oja(np.eye(2))
    cycle = ctsa.find_limit_cycle(turning, [[1.0, 0.0]], solver=ctsa.Solver("dopri8", atol=1e-11))
    assert cycle.period == pytest.approx(2 * np.pi, abs=1e-8)


def test_solvers_of_diffrax(jax_face):
    field = field_of(jax_face)
    one = ctsa.integrate(field, X, [0.0, 1.0], ctsa.Solver(diffrax.Tsit5(), atol=1e-9))
    assert same(one.xs, ctsa.integrate(field, X, [0.0, 1.0], "tsit5", atol=1e-9).xs)


def test_contradictions(torch_face):
    field, fine = field_of(torch_face), ctsa.Solver("dopri8", atol=1e-10)
    with pytest.raises(ValueError, match=r"atol=1e-08 contradicts Solver\('dopri8', atol=1e-10\): give atol once"):
        ctsa.integrate(field, X, [0.0, 1.0], fine, atol=1e-8)  # also where it is the default
    with pytest.raises(ValueError, match="solver has rtol=1e-06, but compare takes no rtol"):
        ctsa.compare(field, X, 1.0, [0.2], solver=ctsa.Solver(rtol=1e-6))
    with pytest.raises(ValueError, match="but Stroboscopic takes no step"):
        Stroboscopic(field, 1.0, solver=ctsa.Solver("rk4", step=0.1))
    assert ctsa.compare(field, X, 1.0, [0.2], solver=ctsa.Solver("dopri8", atol=1e-10), atol=None).depths.tolist() == [5]
    same_twice = ctsa.integrate(field, X, [0.0, 0.1], fine, atol=1e-10)
    assert same_twice.stats["steps"] > 0


@pytest.mark.parametrize(
    ("error", "words", "make"),
    [
        (ValueError, "atol must be", lambda: ctsa.Solver(atol=-1.0)),
        (TypeError, "rtol must be a", lambda: ctsa.Solver(rtol="small")),
        (ValueError, "step must be", lambda: ctsa.Solver("rk4", step=0.0)),
        (ValueError, "max_steps must be", lambda: ctsa.Solver(max_steps=0)),
        (TypeError, "name must be the name", lambda: ctsa.Solver(ctsa.Solver())),
    ],
)
def test_bad_settings(error, words, make):
    with pytest.raises(error, match=words):
        make()


def test_repr():
    assert repr(ctsa.Solver()) == "Solver('dopri5')"
    assert repr(ctsa.Solver("rk4", step=0.1)) == "Solver('rk4', step=0.1)"
