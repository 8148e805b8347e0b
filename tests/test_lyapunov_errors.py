"""Bad input gets an error that names the argument; nothing computed is lost."""

import numpy as np
import pytest
from dynamics import LORENZ_START, lorenz, tangent_frame

import ctsa
from ctsa._backend import backend

X = ctsa.random_tokens(3, 3, seed=1)
FLAT = ctsa.Euclidean()


def run(system, x0=X, **options):
    return ctsa.lyapunov_spectrum(system, x0, **{"intervals": 3, "transient": 0, **options})


@pytest.fixture
def field(torch_face):
    return torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0]))


# ------------------------------------------------------------------------------------------------------- counts, times
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(count=7), "count=7 is more than the dimension of the manifold, 6"),
        (dict(count=0), "count must be an integer of at least 1, got 0"),
        (dict(interval=0.0), "interval must be a finite number above 0"),
        (dict(interval=-1.0), "interval must be a finite number above 0"),
        (dict(interval=np.nan), "interval must be a finite number"),
        (dict(intervals=0), "intervals must be an integer of at least 1"),
        (dict(transient=-1), "transient must be an integer of at least 0, got -1"),
        (dict(stop_stderr=0.0), "stop_stderr must be a finite number above 0"),
        (dict(atol=0.0), "atol must be a finite number above 0"),
        (dict(atol=1e-16), "below what float64 can hold"),
        (dict(rtol=-1.0), "rtol must be a finite number of at least 0"),
        (dict(solver="rk9"), "solver must be one of"),
        (dict(solver="rk4"), "has a fixed step: pass step="),
        (dict(step=0.1), "adapts its own steps"),
        (dict(t0=np.inf), "t0 must be a finite number"),
        (dict(max_steps=0), "max_steps must be an integer of at least 1"),
        (dict(geometry=FLAT), "contradicts the field's own"),
    ],
)
def test_bad_values(field, options, message):
    with pytest.raises(ValueError, match=message):
        run(field, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(count=2.5), "count must be an integer, got 2.5"),
        (dict(intervals=2.5), "intervals must be an integer"),
        (dict(transient=None), "transient must be an integer"),
        (dict(interval="long"), "interval must be a number"),
        (dict(geometry="sphere"), "geometry must be ctsa.Sphere"),
    ],
)
def test_bad_types(field, options, message):
    with pytest.raises(TypeError, match=message):
        run(field, **options)


# -------------------------------------------------------------------------------------------------------------- frames
def bad_frames():
    good = tangent_frame(X)
    double = np.concatenate([good[:2], good[:1] + good[1:2]])
    return [
        (good + 0.1 * X, "frame is not tangent at x0 .off by up to"),
        (double, "frame is rank deficient"),
        (np.concatenate([good[:1], 0 * good[:1]]), "frame is rank deficient"),
        (good[:, :2], "frame must have shape"),
        (good[0], "frame must have shape"),
        (np.where(np.arange(3) == 1, np.nan, good), "frame must be finite"),
        (np.concatenate([good, good[:1]]), "frame has 7 directions, more than the dimension of the manifold, 6"),
        (np.zeros((0, 3, 3)), "frame must have shape"),
    ]


@pytest.mark.parametrize("frame, message", bad_frames(), ids=lambda p: p[:24] if isinstance(p, str) else "")
def test_bad_frames(field, frame, message):
    with pytest.raises(ValueError, match=message):
        run(field, frame=frame)


def test_frame_and_count(field):
    with pytest.raises(ValueError, match="count=3 contradicts frame, which has 2 directions"):
        run(field, frame=tangent_frame(X)[:2], count=3)
    assert run(field, frame=tangent_frame(X)[:2], count=2, intervals=1).exponents.shape == (2,)


def test_frame_need_not_be_orthonormal(field):
    good = tangent_frame(X)[:3]
    mixed = np.einsum("ij,jnd->ind", np.tril(np.ones((3, 3))) * 5, good)
    a, b = run(field, frame=good), run(field, frame=mixed)
    assert np.abs(a.history - b.history).max() < 1e-6


# ------------------------------------------------------------------------------------------------------------- systems
def test_not_callable():
    with pytest.raises(
        TypeError, match="system must be a field.t, x., a layer.x., or a sequence of layers, got ndarray"
    ):
        run(np.eye(3))


def test_three_arguments(torch_face):
    with pytest.raises(TypeError, match="takes 3 arguments: wrap it in a function"):
        run(lambda t, x, p: x, torch_face.array(X))
    assert run(lambda t, x, p=1: 0 * x, torch_face.array(X), intervals=1).continuous  # a default does not count


@pytest.mark.parametrize("stack", [[], [lambda x: x, 3]])
def test_bad_sequences(torch_face, stack):
    with pytest.raises(TypeError, match="non-empty sequence of layers"):
        run(stack, torch_face.array(X))


def test_layers_of_two_geometries(torch_face):
    rotation = dict(frequencies=[1.0])
    stack = [torch_face.EulerLayer(torch_face.Rotation(**rotation, geometry=g), step=0.1) for g in (None, FLAT)]
    with pytest.raises(ValueError, match="different geometries"):
        run(stack, [[1.0, 0.0]])


def test_layers_count_in_whole_numbers(field, torch_face):
    layer = torch_face.EulerLayer(field, step=0.1)
    with pytest.raises(TypeError, match="interval must be an integer, got 0.5"):
        run(layer, interval=0.5)
    with pytest.raises(ValueError, match="interval must be an integer of at least 1"):
        run(layer, interval=0)
    with pytest.raises(ValueError, match="step is for flows"):
        run(layer, step=0.1)
    assert run(layer, interval=2.0).duration == 6


def test_unknown_framework():
    with pytest.raises(TypeError, match="the framework is unknown"):
        run(lambda t, x: 0 * x)


@pytest.mark.parametrize("x0, message", [(2 * X, "unit tokens"), (0 * X, "zero token"), (X[0], "must have shape")])
def test_bad_starts(field, x0, message):
    with pytest.raises(ValueError, match=message):
        run(field, x0)


def test_normalize(field):
    assert np.allclose(run(field, 2 * X, normalize=True).history, run(field, X).history, atol=1e-12)


def test_float32_cannot_hold_the_tolerance(torch_face):
    single = torch_face.SelfAttention(beta=np.float32(1.0))
    with pytest.raises(ValueError, match="below what float32 can hold"):
        run(single, torch_face.array(X, "float32"))
    got = run(single, torch_face.array(X, "float32"), atol=1e-5)
    assert got.history.dtype == np.float64 and got.x.dtype == np.float32


def test_parameters_that_do_not_fit(field):
    with pytest.raises(ValueError, match="value has shape"):
        run(field, ctsa.random_tokens(3, 4))


# ------------------------------------------------------------------------------------------------------------- mid-run
def leaving(x):
    """Forgets to normalise."""
    return 1.1 * x


def test_layer_that_leaves_the_sphere(face):
    with pytest.raises(ValueError, match="left the sphere"):
        run(leaving, face.array(X))


def exploding(t, x):
    """x' = x^2: infinite at t = 1 from x = 1."""
    return x * x


def test_failure_in_mid_run_keeps_the_history(jax_face):
    x0 = jax_face.array([[1.0]])
    options = dict(interval=0.25, geometry=FLAT, max_steps=500)
    with pytest.raises(ctsa.LyapunovError, match=r"broke off at t=0\.75.*raise max_steps") as caught:
        run(exploding, x0, intervals=10, **options)
    kept = caught.value.spectrum
    times = 0.25 * np.arange(4)
    exact = 2 * np.log((1 - times[:-1]) / (1 - times[1:])) / 0.25  # u ~ x^2 = (1 - t)^-2
    assert np.abs(kept.history[:, 0] - exact).max() < 1e-5
    assert kept.x == pytest.approx(4.0, abs=1e-5)  # the state at the last sound time
    assert kept.exponents.shape == (1,)
    again = ctsa.lyapunov_spectrum(exploding, x0, intervals=2, transient=0, **options)
    assert np.array_equal(kept.history[:2], again.history)


def dying(x):
    """A layer that turns to nan once the first component falls below 0.2."""
    xp = backend(x).xp
    y = ctsa.Sphere().retract(x + 0.1 * ctsa.Sphere().project(x, x @ backend(x).like(np.diag([0.0, 0, 1]), x)))
    return xp.where(y[..., :1] < 0.2, xp.nan * y, y)


def test_nan_in_mid_run_keeps_the_history(face):
    x0 = face.array([[0.8, 0.0, 0.6]])
    with pytest.raises(ctsa.LyapunovError, match="broke off at interval .*nan") as caught:
        run(dying, x0, intervals=200, transient=2)
    kept = caught.value.spectrum
    assert 3 < len(kept.history) < 100 and np.isfinite(kept.history).all()
    assert kept.start == 2
    sound = run(dying, x0, intervals=len(kept.history), transient=2)
    assert np.array_equal(sound.history, kept.history) and np.array_equal(sound.x, kept.x)
    assert np.array_equal(sound.frame, kept.frame)


def test_failure_in_the_transient_has_no_history(jax_face):
    with pytest.raises(ctsa.LyapunovError) as caught:
        run(exploding, jax_face.array([[1.0]]), interval=0.25, geometry=FLAT, max_steps=500, transient=5)
    assert caught.value.spectrum is None


def test_bare_field_that_is_not_tangent(face):
    with pytest.raises(ValueError, match="field is not tangent to the sphere"):
        run(lambda t, x: x + 1.0, face.array(X))


def test_bare_field_of_wrong_shape(torch_face):
    with pytest.raises(ValueError, match="shape"):
        run(lambda t, x: x[:2], torch_face.array(X))


# -------------------------------------------------------------------------------------------------------------- resume
def test_resume_of_something_else(field):
    for other in (3.0, "spectrum", np.ones(3), ctsa.integrate(field, X, [0.0, 1.0])):
        with pytest.raises((TypeError, ValueError), match="resume must be a LyapunovSpectrum"):
            run(field, resume=other)


def test_resume_of_another_run(field):
    done = run(field, intervals=1)
    with pytest.raises(ValueError, match="resume must be a LyapunovSpectrum of the same interval, count, n and d"):
        run(field, interval=0.5, resume=done)
    with pytest.raises(ValueError, match="resume must be"):
        run(field, count=2, resume=done)
    with pytest.raises(ValueError, match="resume must be"):
        run(field, ctsa.random_tokens(4, 3), resume=done)


# -------------------------------------------------------------------------------------- covariant vectors and the rest
def test_covariant_vectors(face):
    start = face.array(LORENZ_START)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tolerance'"):
        ctsa.covariant_vectors(lorenz, start, geometry=FLAT, tolerance=1e-8)
    with pytest.raises(ValueError, match="loop over a batch"):
        ctsa.covariant_vectors(lorenz, face.array([LORENZ_START] * 2), geometry=FLAT)
    with pytest.raises(ValueError, match="intervals must be an integer of at least 1"):
        ctsa.covariant_vectors(lorenz, start, geometry=FLAT, intervals=0)
    with pytest.raises(ValueError, match="transient_back must be"):
        ctsa.covariant_vectors(lorenz, start, geometry=FLAT, transient_back=-1)


def test_covariant_vectors_of_a_singular_map(torch_face):
    layer = torch_face.EulerLayer(torch_face.Oja(np.diag([0.0, -0.5, -1.0]), geometry=FLAT), step=1.0)
    with pytest.raises(ValueError, match="mapped to zero within an interval: ask for fewer"):
        ctsa.covariant_vectors(layer, np.ones((1, 3)), intervals=3, transient=1, frame=np.eye(3)[:, None])


def test_finite_time_exponents(torch_face, field):
    with pytest.raises(ValueError, match="duration=2.5 must be a multiple of interval=1"):
        ctsa.finite_time_exponents(field, X, 2.5)
    with pytest.raises(ValueError, match="duration must be a finite number above 0"):
        ctsa.finite_time_exponents(field, X, 0.0)


def test_gali_of_one(field):
    with pytest.raises(ValueError, match="count must be an integer of at least 2"):
        ctsa.gali(field, X, 1)


def test_members(field):
    one = run(field, intervals=1)
    with pytest.raises(ValueError, match="index must have 0 entries"):
        one.member(0)
    many = run(field, ctsa.random_tokens(3, 3, batch=(2,)), intervals=1)
    for name in ("kaplan_yorke", "entropy", "verdict", "neutral_expected", "neutral_found", "kaplan_yorke_stderr"):
        with pytest.raises(ValueError, match="take it from spectrum.member"):
            getattr(many, name)
