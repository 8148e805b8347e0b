"""Bad input to constructors: the right class of error, and a message that names the argument and says what to do."""

import jax
import numpy as np
import pytest
import torch

import ctsa
from ctsa import checks
from ctsa.attention.weights import sinkhorn

EYE, ONES = np.eye(3), np.ones((2, 3))
NAN, INF = np.full((3, 3), np.nan), np.diag([1.0, np.inf, 1.0])
WITHOUT = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1]])  # a mask with an empty row

TABLE = {
    # wrong shapes
    "query-vector": ("SelfAttention", dict(query=[1.0, 2.0]), ValueError,
        r"^query must be 2-dimensional or 3-dimensional, got shape \(2,\)"),
    "key-four-axes": ("SelfAttention", dict(key=np.ones((1, 1, 3, 3))), ValueError,
        r"^key must be .*got shape \(1, 1, 3, 3\)"),
    "value-not-square": ("SelfAttention", dict(value=ONES), ValueError,
        r"^value has shape \(2, 3\), but axis -2 must be 3 to match its other side"),
    "ragged": ("SelfAttention", dict(value=[[1.0, 2.0], [3.0]]), ValueError,
        "^value must be a rectangular array, got nested lists of unequal"),
    "d-differs": ("SelfAttention", dict(query=EYE, key=np.eye(4)), ValueError,
        "^key has shape .*axis -1 must be 3 to match the token dimension d"),
    "d-of-value": ("SelfAttention", dict(query=EYE, value=np.eye(4)), ValueError,
        "^value has shape .*must be 3 to match the token dimension d"),
    "d-of-key-field": ("SelfAttention", dict(query=EYE, key_field=np.ones(4)), ValueError,
        r"^key_field has shape \(4,\), but axis -1 must be 3"),
    "m-differs": ("SelfAttention", dict(query=ONES, key=EYE), ValueError,
        "^query and key must map to the same width m, got 2 and 3"),
    "m-alone": ("SelfAttention", dict(query=ONES), ValueError,
        "^query and key must map to the same width m, got 2 and 3"),
    "heads-differ": ("SelfAttention", dict(query=np.ones((2, 3, 3)), beta=[1.0, 2.0, 3.0]), ValueError,
        "numbers of heads differ: query has 2, beta has 3"),
    "heads-of-mask": ("SelfAttention", dict(value=np.ones((2, 3, 3)), mask=np.ones((4, 5, 5))), ValueError,
        "heads differ: value has 2, mask has 4"),
    "beta-matrix": ("SelfAttention", dict(beta=EYE), ValueError,
        r"^beta must be a number or 1-dimensional, got shape \(3, 3\)"),
    "key-field-number": ("SelfAttention", dict(key_field=1.0), ValueError,
        r"^key_field must be 1-dimensional or 2-dimensional, got shape \(\)"),
    "empty": ("SelfAttention", dict(query=np.ones((0, 3)), key=np.ones((0, 3))), ValueError,
        r"^query must not be empty, got shape \(0, 3\)"),
    # wrong numbers
    "value-nan": ("SelfAttention", dict(value=NAN), ValueError,
        "^value must be finite, got 9 entries that are nan or inf"),
    "query-inf": ("SelfAttention", dict(query=INF), ValueError,
        "^query must be finite, got 1 entries"),
    "beta-nan": ("SelfAttention", dict(beta=float("nan")), ValueError,
        "^beta must be finite"),
    "beta-inf-head": ("SelfAttention", dict(beta=[1.0, np.inf]), ValueError,
        "^beta must be finite"),
    # wrong types
    "beta-none": ("SelfAttention", dict(beta=None), TypeError,
        "^beta must be a number or one number a head, got None"),
    "beta-text": ("SelfAttention", dict(beta="hot"), TypeError,
        "^beta must be real numbers, got str"),
    "value-object": ("SelfAttention", dict(value=object()), TypeError,
        "^value must be real numbers, got object"),
    "value-complex": ("SelfAttention", dict(value=[[1j, 0], [0, 1]]), TypeError,
        "^value must be real numbers, got list .complex128"),
    "value-complex-array": ("SelfAttention", dict(value=1j * EYE), TypeError,
        "^value must be real numbers, got ndarray .complex128"),
    "value-texts": ("SelfAttention", dict(value=np.array([["a", "b"], ["c", "d"]])), TypeError,
        "^value must be real numbers, got ndarray"),
    "value-module": ("SelfAttention", dict(value=torch.nn.Linear(3, 3)), TypeError,
        "^value must be real numbers, got Linear"),
    "value-set": ("SelfAttention", dict(value={1.0, 2.0}), TypeError,
        "^value must be real numbers, got set"),
    # weights
    "weights-unknown": ("SelfAttention", dict(weights="sotfmax"), ValueError,
        "^weights must be one of 'hardmax', 'l2', .*'unnormalised', got 'sotfmax'"),
    "weights-number": ("SelfAttention", dict(weights=3), TypeError,
        "^weights must be a name or a ctsa.attention.Weights, got 3"),
    "weights-function": ("SelfAttention", dict(weights=np.exp), TypeError,
        "^weights must be a name or a ctsa.attention.Weights"),
    # masks
    "mask-unknown": ("SelfAttention", dict(mask="casual"), ValueError,
        "^mask must be one of 'causal', got 'casual'"),
    "mask-not-square": ("SelfAttention", dict(mask=ONES), ValueError,
        r"^mask must be square \(n, n\), got shape \(2, 3\)"),
    "mask-vector": ("SelfAttention", dict(mask=np.ones(3)), ValueError,
        "^mask must be 2-dimensional or 3-dimensional"),
    "mask-negative": ("SelfAttention", dict(mask=-EYE), ValueError,
        "^mask must be booleans or non-negative numbers that multiply the weights"),
    "mask-additive": ("SelfAttention", dict(mask=np.where(EYE > 0, 0.0, -np.inf)), ValueError,
        "^mask must be finite"),
    "mask-empty-row": ("SelfAttention", dict(mask=WITHOUT), ValueError,
        "^mask row 1 is empty: token 1 would attend to nothing"),
    "mask-empty-hardmax": ("SelfAttention", dict(mask=WITHOUT, weights="hardmax"), ValueError,
        "^mask row 1 is empty"),
    "sinkhorn-causal": ("SelfAttention", dict(mask="causal", weights="sinkhorn"), ValueError,
        "^weights='sinkhorn' needs a mask without zeros"),
    "sinkhorn-zeros": ("SelfAttention", dict(mask=EYE, weights=sinkhorn(9)), ValueError,
        "^weights='sinkhorn' needs a mask without zeros"),
    "tangent-form": ("SelfAttention", dict(how="outre"), ValueError,
        "^how must be one of 'assembled', 'auto', 'chunked', 'dense', 'harmonic', 'outer', 'ring', 'scores'"),
    # geometry
    "geometry-text": ("SelfAttention", dict(geometry="sphere"), TypeError,
        r"^geometry must be ctsa.Sphere\(...\) or ctsa.Euclidean\(\), got 'sphere'"),
    "geometry-class": ("Oja", dict(value=EYE, geometry=ctsa.Sphere), TypeError,
        r"^geometry must be ctsa.Sphere\(...\)"),
    "geometry-channels": ("SelfAttention", dict(value=EYE, geometry=ctsa.Sphere(channels=2)), ValueError,
        "^channels=2 does not divide the token dimension d=3"),
    "frequency-channels": ("Rotation", dict(frequencies=[1.0, 2.0], geometry=ctsa.Sphere(channels=3)), ValueError,
        "^channels=3 does not divide"),
    "injection-channels": ("Injection", dict(input=[1.0] * 5, geometry=ctsa.Sphere(channels=3)), ValueError,
        "^channels=3 does not divide"),
    "oja-channels": ("Oja", dict(value=EYE, geometry=ctsa.Sphere(channels=2)), ValueError,
        "^channels=2 does not divide the token dimension d=3"),
    # other fields
    "oja-none": ("Oja", dict(value=None), TypeError,
        r"^value must be a \(d, d\) array, got None"),
    "oja-not-square": ("Oja", dict(value=ONES), ValueError,
        r"^value has shape \(2, 3\), but axis -2 must be 3"),
    "oja-heads": ("Oja", dict(value=np.ones((2, 3, 3))), ValueError,
        r"^value must be 2-dimensional, got shape \(2, 3, 3\)"),
    "rotation-neither": ("Rotation", dict(), ValueError,
        "^give exactly one of omega .* and frequencies"),
    "rotation-both": ("Rotation", dict(omega=0 * EYE, frequencies=[1.0]), ValueError,
        "^give exactly one of omega .* and frequencies"),
    "rotation-symmetric": ("Rotation", dict(omega=EYE), ValueError,
        r"^omega must be antisymmetric, but omega \+ omega\^T is up to 2: pass \(omega - omega.T\) / 2"),
    "rotation-not-square": ("Rotation", dict(omega=ONES), ValueError,
        r"^omega has shape \(2, 3\), but axis -2 must be 3"),
    "rotation-vector": ("Rotation", dict(omega=[1.0]), ValueError,
        "^omega must be 2-dimensional or 3-dimensional"),
    "rotation-nan": ("Rotation", dict(omega=NAN), ValueError,
        "^omega must be finite"),
    "frequency-number": ("Rotation", dict(frequencies=2.0), ValueError,
        "^frequencies must be 1-dimensional or 2-dimensional"),
    "injection-none": ("Injection", dict(input=None), TypeError,
        r"^input must be an \(n, d\), \(d,\) or \(..., n, d\) array, got None"),
    "injection-number": ("Injection", dict(input=1.0), ValueError,
        r"^input must be an array of 1 to 8 axes, got shape \(\)"),
    "injection-nan": ("Injection", dict(input=NAN), ValueError,
        "^input must be finite"),
    "perceptron-none": ("Perceptron", dict(weight_in=ONES, weight_out=None), TypeError,
        r"^weight_in \(m, d\) and weight_out \(d, m\) must be arrays"),
    "perceptron-turned": ("Perceptron", dict(weight_in=ONES, weight_out=ONES), ValueError,
        "^weight_out has shape .*must be 2 to match the width m of weight_in"),
    "perceptron-d": ("Perceptron", dict(weight_in=ONES, weight_out=np.ones((4, 2))), ValueError,
        "^weight_out has shape .*axis 0 must be 3 to match the token dimension"),
    "perceptron-bias-in": ("Perceptron", dict(weight_in=ONES, weight_out=ONES.T, bias_in=[1.0] * 3), ValueError,
        "^bias_in has shape .*must be 2 to match the width m"),
    "perceptron-bias-out": ("Perceptron", dict(weight_in=ONES, weight_out=ONES.T, bias_out=[1.0] * 2), ValueError,
        "^bias_out has shape .*must be 3 to match the token"),
    "perceptron-activation": ("Perceptron", dict(weight_in=ONES, weight_out=ONES.T, activation="swish"), ValueError,
        "^activation must be one of 'gelu', 'relu', 'tanh', got 'swish'"),
    # the algebra
    "sum-empty": ("Sum", dict(fields=[]), ValueError,
        "^fields must not be empty"),
    "sum-number": ("Sum", dict(fields=[3]), TypeError,
        "^fields must be callables, got int"),
    "scaled-text": ("Scaled", dict(field=print, factor="twice"), TypeError,
        "^factor must be real numbers, got str"),
    "scaled-none": ("Scaled", dict(field=print, factor=None), TypeError,
        "^factor must be a number, got None"),
    "scaled-vector": ("Scaled", dict(field=print, factor=[1.0, 2.0]), ValueError,
        r"^factor must be a number, got shape \(2,\)"),
    "scaled-nan": ("Scaled", dict(field=print, factor=float("nan")), ValueError,
        "^factor must be finite"),
    "scaled-number": ("Scaled", dict(field=3, factor=2.0), TypeError,
        "^field must be callable, got int"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_bad_arguments(face, name):
    kind, kwargs, error, message = TABLE[name]
    with pytest.raises(error, match=message):
        getattr(face, kind)(**kwargs)


def test_arrays_of_the_framework_are_checked_too(face):
    for value, error, message in (
        (face.array(NAN), ValueError, "^value must be finite, got 9 entries"),
        (face.array(ONES), ValueError, r"^value has shape \(2, 3\), but axis -2"),
        (face.array([1.0]), ValueError, r"^value must be 2-dimensional or 3-dimensional, got shape \(1,\)"),
        (face.array(EYE, "complex128"), TypeError, "^value must be real numbers, got .*complex128"),
    ):
        with pytest.raises(error, match=message):
            face.SelfAttention(value=value)


def test_multiples(face):
    field = face.SelfAttention()
    with pytest.raises(ValueError, match=r"^factor must be a number, got shape \(2,\)"):
        field * [1.0, 2.0]
    with pytest.raises(ValueError, match="^factor must be finite"):
        float("inf") * field
    with pytest.raises(TypeError):
        field * "twice"


def test_geometries_of_a_sum_agree(face):
    with pytest.raises(ValueError, match="^fields on different geometries do not add: .*Sphere.*Euclidean"):
        face.SelfAttention() + face.Oja(EYE, geometry=ctsa.Euclidean())
    with pytest.raises(ValueError, match="^fields on different geometries do not add"):
        face.SelfAttention() + face.Oja(np.eye(4), geometry=ctsa.Sphere(channels=2))


# ----------------------------------------------------------------------------------------------------- what is accepted
def test_what_is_accepted(face):
    skew = np.array([[0.0, -1e8], [1e8 * (1 + 1e-15), 0.0]])  # antisymmetric up to rounding at its own scale
    face.Rotation(omega=skew)
    face.Rotation(omega=[[0, -1], [1, 0]])
    face.SelfAttention(beta=-2.0, mask=[[True, False], [True, True]])
    face.SelfAttention(mask=WITHOUT, weights="unnormalised")  # a token that attends to nothing stands still
    face.SelfAttention(mask=[[2.0, 1.0], [1.0, 1.0]], weights="sinkhorn")
    face.SelfAttention(query=ONES, key=ONES, beta=np.float32(2.0))
    face.Scaled(lambda t, x: x, np.array(2.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_antisymmetry_is_judged_at_the_precision_of_the_array(face, dtype):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(8, 8)).astype(dtype))
    a = rng.normal(size=(8, 8)).astype(dtype)
    face.Rotation(omega=q @ (a - a.T) @ q.T)  # antisymmetric in exact arithmetic
    with pytest.raises(ValueError, match="^omega must be antisymmetric"):
        face.Rotation(omega=(a - a.T) + dtype_step(dtype) * np.ones((8, 8), dtype))


def dtype_step(dtype):
    return 1e-3 if dtype == "float32" else 1e-10


# ---------------------------------------------------------------------------------------------------------- small types
@pytest.mark.parametrize(
    ("channels", "error"), [(0, ValueError), (1, ValueError), (2.0, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_channels(channels, error):
    with pytest.raises(error, match="^channels must be an integer"):
        ctsa.Sphere(channels=channels)


@pytest.mark.parametrize(
    ("iterations", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("5", TypeError), (True, TypeError)]
)
def test_sinkhorn_iterations(iterations, error):
    with pytest.raises(error, match="^iterations must be an integer"):
        sinkhorn(iterations)


def test_integers_may_be_numpys():
    assert sinkhorn(np.int64(7)) == sinkhorn(7)
    assert ctsa.Sphere(channels=np.int64(2)) == ctsa.Sphere(channels=2)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(n=0, d=3), ValueError, "^n must be an integer of at least 1, got 0"),
        (dict(n=3, d=-1), ValueError, "^d must be an integer of at least 1, got -1"),
        (dict(n=3.5, d=3), TypeError, "^n must be an integer, got 3.5"),
        (dict(n=3, d=3, channels=2), ValueError, "^channels=2 does not divide the token dimension d=3"),
    ],
)
def test_random_tokens(kwargs, error, message):
    with pytest.raises(error, match=message):
        ctsa.random_tokens(**kwargs)


# ---------------------------------------------------------------------------------------------------------- the helpers
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.number("atol", "small"), TypeError, "^atol must be a number, got 'small'"),
        (lambda: checks.number("atol", None), TypeError, "^atol must be a number, got None"),
        (lambda: checks.number("atol", np.nan), ValueError, "^atol must be a finite number, got nan"),
        (lambda: checks.number("atol", 0, low=0, strict=True), ValueError, "^atol must be a finite number above 0"),
        (lambda: checks.number("atol", -1, low=0), ValueError, "^atol must be a finite number of at least 0, got -1"),
        (lambda: checks.integer("depth", 2.0), TypeError, "^depth must be an integer, got 2.0"),
        (lambda: checks.integer("depth", True), TypeError, "^depth must be an integer, got True"),
        (lambda: checks.integer("depth", 0, low=1), ValueError, "^depth must be an integer of at least 1, got 0"),
        (lambda: checks.choice("solver", "rk5", ["rk4"]), ValueError, "^solver must be one of 'rk4', got 'rk5'"),
        (lambda: checks.choice("solver", 3, ["rk4", "euler"]), ValueError, "^solver must be one of 'euler', 'rk4', "),
    ],
)  # fmt: skip
def test_helpers(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_helpers_pass_good_values_on():
    assert checks.number("atol", np.float32(0.5), low=0.5) == 0.5
    assert checks.integer("depth", np.int64(3), low=3) == 3
    checks.choice("solver", "rk4", ["rk4"])
    assert checks.common_dtype([np.ones(1, np.float32), None, np.ones(1, int)]) == "float32"
    assert checks.common_dtype([torch.ones(1), np.ones(1)]) == "float64"
    assert checks.common_dtype([torch.ones(1, dtype=torch.bfloat16), jax.numpy.ones(1, "float32")]) == "float32"
    assert checks.common_dtype([torch.ones(1, dtype=torch.bfloat16), np.ones(1, np.float16)]) == "float16"
    assert checks.common_dtype([None, np.ones(1, int)]) is None


def test_a_reversed_view_is_an_array_like_any_other(face, close):
    """torch reads no arrays of negative strides by itself."""
    x = ctsa.random_tokens(4, 3)
    moved = ctsa.integrate(face.Oja(np.diag([3.0, 2.0, 1.0])[::-1]), x[::-1], [0.0, 1.0])
    same = ctsa.integrate(face.Oja(np.diag([3.0, 2.0, 1.0])[::-1].copy()), x[::-1].copy(), [0.0, 1.0])
    close(moved.xs, face.numpy(same.xs))


@pytest.fixture
def looks(monkeypatch):
    """How often a state was checked so far."""
    count, tokens = [0], ctsa.checks.tokens

    def counted(*args, **kwargs):
        count[0] += 1
        return tokens(*args, **kwargs)

    monkeypatch.setattr(ctsa.checks, "tokens", counted)
    monkeypatch.setattr(ctsa.flows.systems, "tokens", counted)
    return count


V = np.diag([1.0, 0.5, 0.2])
ONCE = {
    "integrate": (1, lambda f, x: ctsa.integrate(f, x, [0.0, 1.0])),
    "lyapunov_spectrum": (1, lambda f, x: ctsa.lyapunov_spectrum(f, x, intervals=3, transient=0)),
    "basins": (1, lambda f, x: ctsa.basins(f, 20, n=4, d=3)),
    "compare": (3, lambda f, x: ctsa.compare(f, x, duration=1.0, step_sizes=[0.4, 0.2, 0.1, 0.05])),  # two reference flows
    "find_equilibria": (2, lambda f, x: ctsa.find_equilibria(f, 3, 3, starts=10)),
    "monitor of a flow": (2, lambda f, x: ctsa.monitor(f, x, duration=1.0)),
    "monitor of a layer": (2, lambda f, x: ctsa.monitor(ctsa.EulerLayer(f, 0.1), x, depth=8)),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_checked_state_is_not_checked_again(looks, torch_face, name):
    most, run = ONCE[name]
    run(torch_face.SelfAttention(beta=2.0, value=V), ctsa.random_tokens(4, 3))
    assert 1 <= looks[0] <= most
