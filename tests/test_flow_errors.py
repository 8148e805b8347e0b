"""Bad input to integrate: an error at once, of the right kind, that names the argument and says what to do."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import ctsa

FLAT = ctsa.Euclidean()
X = ctsa.random_tokens(4, 3, seed=1)
SINGLE = X.astype(np.float32)
TS = [0.0, 1.0]


@pytest.fixture(scope="module")
def fields():
    """One plain field per framework: most bad calls never get to solve anything."""
    from conftest import FACES

    return {name: face.SelfAttention(beta=2.0) for name, face in FACES.items()}


def refused(error, words, *args, **options):
    """Call integrate and look for every word in the message of the error."""
    with pytest.raises(error) as caught:
        ctsa.integrate(*args, **options)
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is missing in: {message}"
    assert "\n" not in message and len(message) < 400
    return message


def without(x, i, j, value):
    x = x.copy()
    x[i, j] = value
    return x


# ------------------------------------------------------------------------------------------------------------- tokens
TOKENS = {
    "none": (None, TypeError, ["x0", "(..., n, d)", "None"]),
    "one token": (X[0], ValueError, ["x0", "shape (..., n, d)", "(3,)"]),
    "number": (1.0, ValueError, ["x0", "shape (..., n, d)", "()"]),
    "no tokens": (np.zeros((0, 3)), ValueError, ["x0", "at least 1", "(0, 3)"]),
    "no channels": (np.zeros((3, 0)), ValueError, ["x0", "at least 1", "(3, 0)"]),
    "ragged": ([[1.0, 0.0], [1.0]], ValueError, ["x0", "rectangular"]),
    "words": ("tokens", TypeError, ["x0", "real numbers", "str"]),
    "complex": (X + 0j, TypeError, ["x0", "real numbers", "complex"]),
    "integers": (np.eye(3, dtype=int), TypeError, ["x0", "floating", "int64", "astype(float)"]),
    "booleans": (np.eye(3, dtype=bool), TypeError, ["x0", "floating", "bool", "astype(float)"]),
    "not unit": (X * [[1.0], [1.0], [1.25], [1.0]], ValueError, ["x0", "unit", "up to 0.25", "normalize", "Euclidean"]),
    "barely not unit": (X * (1 + 1e-5), ValueError, ["x0", "unit", "up to 1e-05", "normalize=True"]),
    "zero": (X * [[1.0], [0.0], [1.0], [1.0]], ValueError, ["x0", "zero token", "(1,)", "direction"]),
    "nan": (without(X, 2, 1, np.nan), ValueError, ["x0", "finite", "nan or inf", "(2, 1)"]),
    "inf": (without(X, 0, 2, np.inf), ValueError, ["x0", "finite", "nan or inf", "(0, 2)"]),
}


@pytest.mark.parametrize("case", TOKENS)
def test_tokens(face, fields, case):
    x0, error, words = TOKENS[case]
    refused(error, words, fields[face.name], x0, TS)


def test_normalising_cannot_mend_everything(face, fields):
    for case in ("zero", "nan", "inf", "integers"):
        x0, error, words = TOKENS[case]
        refused(error, words[:2], fields[face.name], x0, TS, normalize=True)


def test_flat_space_refuses_only_what_is_not_finite(face):
    def field(t, x):
        return -x

    refused(ValueError, ["x0", "finite"], field, face.array([[1.0, np.nan]]), TS, geometry=FLAT)
    traj = ctsa.integrate(field, face.array([[3.0, 0.0]]), TS, geometry=FLAT)
    assert face.numpy(traj.xs)[-1, 0] == pytest.approx([3 * np.exp(-1), 0.0], abs=1e-7)


def test_mixed_frameworks(torch_face, jax_face, fields):
    words = ["x0", "torch", "jax", "numpy.asarray"]
    refused(TypeError, words, fields["torch"], jax_face.array(X), TS)
    refused(TypeError, words, fields["jax"], torch_face.array(X), TS)


def test_unknown_framework():
    for x0 in (X, X.tolist()):
        refused(TypeError, ["x0", "plain callable", "torch.Tensor", "jax.Array"], lambda t, x: 0 * x, x0, TS)


def test_precisions(face, fields):
    single = face.SelfAttention(beta=np.float32(2.0))
    words = ["x0", "float32", "float64", "parameters", "convert"]
    refused(ValueError, words, fields[face.name], face.array(SINGLE, "float32"), TS)
    refused(ValueError, words, single, face.array(X), TS, atol=1e-4)
    refused(ValueError, ["atol=1e-08", "float32", "loosen atol", "float64"], single, SINGLE, TS)
    refused(ValueError, ["atol=1e-16", "float64", "loosen atol"], fields[face.name], X, TS, atol=1e-16)


FITTING = {
    "mask": lambda face: face.SelfAttention(mask=np.ones((5, 5))),
    "value": lambda face: face.SelfAttention(value=np.eye(4)),
    "query": lambda face: face.SelfAttention(query=np.ones((2, 2, 4)), key=np.ones((2, 2, 4))),
    "key_field": lambda face: face.SelfAttention(key_field=np.ones(4)),
    "input": lambda face: face.Injection(np.ones((5, 3))),
    "omega": lambda face: face.Rotation(np.zeros((5, 3, 3))),
    "frequencies": lambda face: face.Rotation(frequencies=[1.0, 2.0]),
    "weight_in": lambda face: face.Perceptron(np.ones((6, 4)), np.ones((4, 6))),
}


@pytest.mark.parametrize("name", FITTING)
def test_tokens_that_do_not_fit_the_field(face, name):
    field = FITTING[name](face)
    words = ["x0", "n=4 tokens", "d=3", f"field's {name}"]
    refused(ValueError, words, field, X, TS)
    refused(ValueError, words, 2.0 * (face.SelfAttention() + field), X, TS)  # found in sums and multiples too


def test_one_token_does_not_broadcast(face):
    # A (1, d) state plus a (5, d) input would silently become five tokens.
    refused(ValueError, ["x0", "n=1 tokens", "input has shape (5, 3)"], face.Injection(np.ones((5, 3))), X[:1], TS)


def test_channels_that_do_not_divide(face):
    field = face.SelfAttention(geometry=ctsa.Sphere(channels=2))
    refused(ValueError, ["channels=2", "divide", "d=3"], field, X, TS)
    refused(ValueError, ["x0", "unit"], field, np.ones((3, 4)), TS)


# -------------------------------------------------------------------------------------------------------------- times
TIMES = {
    "equal": ([0, 0], ValueError, ["ts", "increase strictly", "ts[0]=0, ts[1]=0"]),
    "there and back": ([0, 1, 0.5], ValueError, ["ts", "increase strictly", "decrease", "ts[1]=1, ts[2]=0.5"]),
    "back and there": ([1, 0.5, 0.6], ValueError, ["ts", "ts[1]=0.5, ts[2]=0.6"]),
    "one": ([0.0], ValueError, ["ts", "at least two", "(1,)"]),
    "number": (3.0, ValueError, ["ts", "at least two", "()"]),
    "none at all": ([], ValueError, ["ts", "at least two", "(0,)"]),
    "table": ([[0, 1]], ValueError, ["ts", "at least two", "(1, 2)"]),
    "nearly equal": ([0, 1, 1 + 4e-16, 30], ValueError, ["ts[1] and ts[2]", "4.4e-16 apart", "leave one out"]),
    "nearly no time": ([0, 1e-300, 1], ValueError, ["ts[0] and ts[1]", "1e-300 apart", "leave one out"]),
    "nan": ([0, np.nan], ValueError, ["ts", "finite"]),
    "inf": ([0, np.inf], ValueError, ["ts", "finite"]),
    "words": (["now", "then"], TypeError, ["ts", "real numbers"]),
    "None": (None, TypeError, ["ts", "real numbers"]),
    "complex": ([0, 1j], TypeError, ["ts", "real numbers"]),
}


@pytest.mark.parametrize("case", TIMES)
def test_times(fields, case):
    ts, error, words = TIMES[case]
    refused(error, words, fields["torch"], X, ts)


def test_times_must_be_known(fields):
    import jax

    with pytest.raises(TypeError, match="ts must be known when the solve is built: pass NumPy times"):
        jax.jit(lambda ts: ctsa.integrate(fields["jax"], X, ts).xs)(np.array(TS))


# ------------------------------------------------------------------------------------------------------------ options
OPTIONS = {
    "negative atol": (dict(atol=-1e-8), ValueError, ["atol", "above 0", "-1e-08"]),
    "zero atol": (dict(atol=0), ValueError, ["atol", "above 0"]),
    "nan atol": (dict(atol=np.nan), ValueError, ["atol", "finite", "nan"]),
    "no atol": (dict(atol=None), TypeError, ["atol", "number", "None"]),
    "words for atol": (dict(atol="tight"), TypeError, ["atol", "number", "'tight'"]),
    "negative rtol": (dict(rtol=-1e-8), ValueError, ["rtol", "at least 0"]),
    "infinite rtol": (dict(rtol=np.inf), ValueError, ["rtol", "finite"]),
    "unknown solver": (dict(solver="dopri6"), ValueError, ["solver", "'dopri6'", "'dopri5'", "'dopri8'", "'rk4'"]),
    "no solver": (dict(solver=None), TypeError, ["solver", "name", "None"]),
    "number for solver": (dict(solver=5), TypeError, ["solver", "name", "5"]),
    "step missing": (dict(solver="rk4"), ValueError, ["solver='rk4'", "fixed step", "step="]),
    "step superfluous": (dict(step=0.1), ValueError, ["step", "'dopri5'", "euler", "atol"]),
    "zero step": (dict(solver="euler", step=0), ValueError, ["step", "above 0"]),
    "negative step": (dict(solver="euler", step=-0.1), ValueError, ["step", "above 0", "-0.1"]),
    "nan step": (dict(solver="euler", step=np.nan), ValueError, ["step", "finite"]),
    "words for step": (dict(solver="euler", step="small"), TypeError, ["step", "number"]),
    "absurd step": (dict(solver="euler", step=1e-12), ValueError, ["step=1e-12", "1e+12 steps"]),
    "no steps": (dict(max_steps=0), ValueError, ["max_steps", "at least 1", "0"]),
    "negative steps": (dict(max_steps=-5), ValueError, ["max_steps", "at least 1"]),
    "half a step": (dict(max_steps=1.5), TypeError, ["max_steps", "integer", "1.5"]),
    "unknown until": (dict(until="consensus"), ValueError, ["until", "'equilibrium'", "callable", "'consensus'"]),
    "number for until": (dict(until=3.0), ValueError, ["until", "callable", "3.0"]),
    "vector until": (dict(until=lambda t, x: x[..., 0]), ValueError, ["until(t, x)", "scalar"]),
    "float until": (dict(until=lambda t, x: 1.0), ValueError, ["until(t, x)", "scalar"]),
    "truth until": (dict(until=lambda t, x: x[0, 0] > 0), TypeError, ["until(t, x)", "real number", "bool"]),
    "negative rest": (dict(until="equilibrium", rest=-1), ValueError, ["rest", "above 0"]),
    "zero rest": (dict(until="equilibrium", rest=0), ValueError, ["rest", "above 0"]),
    "other geometry": (dict(geometry=FLAT), ValueError, ["geometry=Euclidean()", "contradicts", "leave it out"]),
    "other channels": (dict(geometry=ctsa.Sphere(3)), ValueError, ["geometry", "contradicts"]),
    "words for geometry": (dict(geometry="sphere"), TypeError, ["geometry", "ctsa.Sphere", "'sphere'"]),
    "words for adjoint": (dict(adjoint="backsolve"), TypeError, ["adjoint", "True or False", "'backsolve'"]),
    "no adjoint": (dict(adjoint=None), TypeError, ["adjoint", "True or False", "None"]),
    "adjoint and until": (dict(adjoint=True, until="equilibrium"), ValueError, ["until", "adjoint=True", "adjoint=False"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(face, fields, case):
    options, error, words = OPTIONS[case]
    refused(error, words, fields[face.name], X, TS, **options)


def test_solvers_of_the_other_framework(fields):
    import diffrax

    for solver in ("tsit5", "kvaerno5"):
        refused(ValueError, [f"solver='{solver}'", "JAX", "'dopri5'"], fields["torch"], X, TS, solver)
    refused(TypeError, ["solver", "JAX", "diffrax", "torch"], fields["torch"], X, TS, diffrax.Dopri5())
    refused(TypeError, ["adjoint", "JAX", "diffrax"], fields["torch"], X, TS, adjoint=diffrax.ForwardMode())
    refused(ValueError, ["solver", "'heun2'", "'dopri5'"], fields["jax"], X, TS, "heun2", step=0.1)


def test_methods_of_torchdiffeq_have_steps_or_not(fields):
    refused(ValueError, ["solver='heun2'", "step="], fields["torch"], X, TS, "heun2")
    refused(ValueError, ["step", "'fehlberg2'", "atol"], fields["torch"], X, TS, "fehlberg2", step=0.1)


# ------------------------------------------------------------------------------------------------------------- fields
def radial(t, x):
    return 0.5 * x


FIELDS = {
    "not tangent": (radial, ValueError, ["field", "not tangent", "up to 0.4", "ctsa.Sphere().project(x, v)", "Euclidean"]),
    "one row": (lambda t, x: x[0], ValueError, ["field", "shape", "(4, 3)", "(3,)"]),
    "number": (lambda t, x: 1.0, ValueError, ["field", "shape", "(4, 3)", "float"]),
    "nothing": (lambda t, x: None, ValueError, ["field", "shape", "(4, 3)", "NoneType"]),
    "nan": (lambda t, x: x * float("nan"), ValueError, ["field", "nan or inf", "x0", "t=0"]),
    "not enough arguments": (lambda x: x, TypeError, ["field(t, x)", "takes 1 argument"]),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields(face, case):
    field, error, words = FIELDS[case]
    refused(error, words, field, face.array(X), TS)


def test_velocities_of_another_framework(torch_face, jax_face):
    words = ["field", "torch array", "like x"]
    refused(TypeError, [*words, "numpy"], lambda t, x: np.zeros((4, 3)), torch_face.array(X), TS)
    refused(TypeError, [*words, "jax"], lambda t, x: jax_face.array(X), torch_face.array(X), TS)


def test_velocities_of_another_dtype(face):
    wide = face.array(np.zeros((4, 3)))
    words = ["field", "float32", "float64"]
    refused(TypeError, words, lambda t, x: wide, face.array(SINGLE, "float32"), TS, atol=1e-4)


@pytest.mark.parametrize("field", [None, 3, "attention", X], ids=["none", "number", "words", "array"])
def test_what_is_not_a_field(field):
    refused(TypeError, ["field", "callable", "field(t, x)", type(field).__name__], field, torch.as_tensor(X), TS)


def test_tangent_up_to_rounding(face):
    # The check must not stumble over a projection done in finite precision, nor over large velocities.
    def field(t, x):
        return ctsa.Sphere().project(x, 1e8 * x + 1e8)

    traj = ctsa.integrate(field, face.array(X), [0.0, 1e-9], atol=1e-4)
    assert np.isfinite(face.numpy(traj.xs)).all()


# ------------------------------------------------------------------------------------------------- JAX in 32-bit mode
PROGRAM = """
import jax.numpy as jnp, numpy as np, ctsa
from ctsa.jax import Oja, SelfAttention

def message(*args, **options):
    try:
        ctsa.integrate(*args, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

x0 = ctsa.random_tokens(4, 3, seed=1)
print(message(SelfAttention(beta=2.0), x0, [0.0, 1.0]))  # beta is float32 here, so the tokens are
single = x0.astype(np.float32)
print(message(lambda t, x: 0 * x, jnp.asarray(single), [0.0, 1.0]))
try:
    Oja(np.eye(3))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
field = Oja(np.diag([3, 2, 1]))
traj = ctsa.integrate(field, single, [0.0, 1.0, 2.0], atol=1e-5)
print(traj.xs.dtype, traj.ts.dtype, traj.stats["steps"] > 3, float(abs((traj.xs**2).sum(-1) - 1).max()) < 1e-6)
"""


def test_jax_in_32_bit_mode():
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    *tolerance, parameter, run = done.stdout.splitlines()
    assert len(tolerance) == 2
    for line in (*tolerance, parameter):
        assert 'jax.config.update("jax_enable_x64", True)' in line and "float32" in line
    assert all(re.match(r"ValueError: atol=1e-08 .* float32 .* loosen atol", line) for line in tolerance)
    assert parameter.startswith("ValueError: value is float64")
    assert run == "float32 float32 True True"
