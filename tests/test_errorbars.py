"""Error bars cover the truth as often as they say: random products, correlated noise, (opt-in) strange attractors."""

import os

import numpy as np
import pytest
import scipy.stats
from dynamics import LORENZ_START, henon, lorenz, roessler
from sampling import sample
from scipy.special import polygamma
from trust import series
from trust.series import DIMENSION, GINIBRE, autoregressive

import ctsa
from ctsa.errorbars import ONE_SIGMA, error_bar, error_bars, standard_error

FLAT = ctsa.Euclidean()
GINIBRE_VARIANCE = polygamma(1, (DIMENSION - series.INDEX + 1) / 2) / 4


@pytest.fixture(scope="module")
def products():
    return series.ginibre(np.random.default_rng(0), 1000, 200)


def test_random_products_have_the_exact_exponents(products):
    """T8, which the calibration rests on: the mean, and the variance of a step."""
    error = np.sqrt(GINIBRE_VARIANCE / products.shape[0] / products.shape[1])
    assert (np.abs(products.mean((0, 1)) - GINIBRE) < 4 * error).all()
    assert np.abs(products.var((0, 1)) / GINIBRE_VARIANCE - 1).max() < 0.02


def covered(rows, truth, *levels, bars=None):
    """Shares of the rows (count, N) whose intervals of the levels hold the truth."""
    bars = [error_bar(row) for row in rows] if bars is None else bars
    off = np.abs(rows.mean(1) - truth)
    return [(off < [bar.half_width(level) for bar in bars]).mean() for level in levels]


def test_error_bars_of_random_products_are_calibrated(products):
    for i, truth in enumerate(GINIBRE):
        bars = [error_bar(run) for run in products[..., i]]
        one, most = covered(products[..., i], truth, ONE_SIGMA, 0.95, bars=bars)
        assert one == pytest.approx(0.68, abs=0.04) and most == pytest.approx(0.95, abs=0.02), i
        sigmas = np.array([bar.sigma for bar in bars])
        assert abs(sigmas.mean() / np.sqrt(GINIBRE_VARIANCE[i] / 200) - 1) < 0.08, i


def test_random_products_through_the_spectrum(torch_face):
    """The same by a sequence of layers: one repetition, to show that nothing is lost on the way."""
    matrices = np.random.default_rng(1).normal(size=(200, DIMENSION, DIMENSION))
    stack = [torch_face.EulerLayer(torch_face.Oja(m - np.eye(DIMENSION), geometry=FLAT), step=1.0) for m in matrices]
    x0, frame = np.zeros((1, DIMENSION)), np.eye(DIMENSION)[:, None]
    got = ctsa.lyapunov_spectrum(stack, x0, intervals=200, transient=0, frame=frame)
    q, rows = np.eye(DIMENSION), []
    for m in matrices:
        q, r = np.linalg.qr(m @ q)
        rows.append(np.log(np.abs(np.diag(r))))
    assert np.abs(got.history - rows).max() < 1e-11
    assert got.stderr.tolist() == [standard_error(got.history[:, i]) for i in np.argsort(-got.history.mean(0))]
    assert (np.abs(got.exponents - GINIBRE) < 4 * np.sqrt(GINIBRE_VARIANCE / 200)).all()
    assert np.abs(np.log(got.stderr / np.sqrt(GINIBRE_VARIANCE / 200))).max() < np.log(3)  # one run of 200: a rough size


# --------------------------------------------------------------------------------------------------- correlated series
@pytest.mark.parametrize("phi", sample([-0.5, 0.0, 0.5, 0.9], 2))
def test_correlated_series(phi):
    rows = autoregressive(np.random.default_rng(3), phi, 800, 400)
    bars = [error_bar(row) for row in rows]
    one, most = covered(rows, 0.0, ONE_SIGMA, 0.95, bars=bars)
    assert one == pytest.approx(0.68, abs=0.045) and most == pytest.approx(0.95, abs=0.02)
    sigmas = np.array([bar.sigma for bar in bars])
    assert 0.85 < sigmas.mean() / np.sqrt((rows.mean(1) ** 2).mean()) < 1.15


@pytest.mark.parametrize("length", sample([200, 400, 600, 1000], 2))
def test_a_spectral_line_does_not_fool_the_error(length):
    """Block averages see the line or not, depending on how their length fits its period: off by factors 0.6 to 5."""
    rows = series.line(np.random.default_rng(8), 600, length)
    one, most = covered(rows, 0.0, ONE_SIGMA, 0.95)
    assert one == pytest.approx(0.68, abs=0.07) and most == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("length", [50, 200, 1000])
def test_telescoping_series(length):
    """Bounded sums, as of neutral exponents: sigma / sqrt(N) would be far too large; the mean is (x_N - x_0) / N."""
    rows = series.telescoping(np.random.default_rng(7), 300, length)
    sigmas = np.array([error_bar(row).sigma for row in rows])
    assert 1 / 3 < np.median(sigmas) / (2**0.5 / length) < 3


@pytest.mark.parametrize("phi", [0.9, 0.5, 0.0, -0.5, -0.8])
def test_correlation_time(phi):
    exact = (1 + phi) / (1 - phi)
    row = autoregressive(np.random.default_rng(4), phi, 1, 100_000)[0]
    assert error_bar(row).correlation_time == pytest.approx(exact, rel=0.2)


def test_few_is_said_of_series_of_few_correlation_times():
    rng = np.random.default_rng(9)
    assert np.mean([error_bar(row).few for row in autoregressive(rng, 0.9, 200, 50)]) > 0.9  # 2.6 of them
    assert np.mean([error_bar(row).few for row in autoregressive(rng, 0.0, 200, 200)]) < 0.02


def test_errors_shrink_with_length():
    x = autoregressive(np.random.default_rng(5), 0.5, 1, 64_000)[0]
    assert standard_error(x[:4000]) / standard_error(x) == pytest.approx(4, rel=0.3)


def test_errors_scale_and_shift_with_the_series():
    x = np.random.default_rng(6).normal(size=300)
    assert standard_error(3 * x + 7) == pytest.approx(3 * standard_error(x), rel=1e-12)
    assert standard_error(x[::-1]) == pytest.approx(standard_error(x), rel=0.2)


def test_short_and_constant_series():
    assert np.isnan(standard_error(np.ones(7)))
    assert standard_error(np.ones(8)) == 0 and error_bar(np.ones(8)).correlation_time == 1
    assert standard_error(np.full(100, 0.1)) == 0  # whose mean is not 0.1 to the last digit
    assert np.isnan(standard_error([1.0, np.nan] * 10)) and np.isnan(standard_error([1.0, np.inf] * 10))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("length", [8, 9, 10, 13, 50, 333])
def test_series_of_any_kind_get_finite_errors(length):
    rng, t = np.random.default_rng(length), np.arange(length)
    rows = [np.cos(0.3 * t), (-1.0) ** t, t * 1.0, 0.5**t, np.where(t == 3, 1.0, 0.0), rng.normal(size=length).cumsum()]
    for row in rows:
        for scale in (1e-200, 1.0, 1e200):
            bar = error_bar(scale * row)
            assert 0 <= bar.sigma < np.inf and bar.dof >= 1 and bar.correlation_time > 0
            assert bar.half_width(0.5) <= bar.half_width(ONE_SIGMA) <= bar.half_width(0.95)


def test_periodic_series_have_errors_of_the_size_of_an_unfinished_period():
    x = np.cos(0.37 * np.arange(400) + 1)
    assert 0.1 < standard_error(x) / abs(x.mean()) < 20


def test_intervals_of_a_spectrum():
    """Student's t about the means; ensembles have an interval a member."""
    rng = np.random.default_rng(0)
    history = rng.normal(size=(60, 2, 3)) + [1.0, 0.0, -1.0]
    rest = dict(x=np.zeros((2, 1, 3)), frame=np.zeros((3, 2, 1, 3)), interval=1.0, start=0, speed=np.ones(2),
                rotations=np.zeros(2), dimension=3, continuous=True)  # fmt: skip
    spec = ctsa.LyapunovSpectrum(history=history, **rest)
    low, high = spec.confidence_interval(0.95)
    assert low.shape == (2, 3) and np.allclose((low + high) / 2, spec.exponents)
    bars = error_bars(history)
    assert np.allclose(np.sort(high - low), np.sort(2 * bars.sigma * student_95(bars.dof)))
    one = spec.confidence_interval(ONE_SIGMA)[1] - spec.exponents
    assert np.allclose(one, spec.stderr, rtol=1e-12) and (high - spec.exponents > 1.9 * one).all()
    assert spec.few.shape == spec.correlation_time.shape == (2, 3) and spec.few.dtype == bool
    for level in (0.0, 1.0, 95, -0.1, float("nan")):
        with pytest.raises(ValueError, match="level"):
            spec.confidence_interval(level)
    with pytest.raises(TypeError, match="level"):
        spec.confidence_interval("95 %")


def student_95(dof):
    return scipy.stats.t.ppf(0.975, dof)


# ---------------------------------------------------------------------------------------------------------- attractors
slow = pytest.mark.skipif(not os.environ.get("CTSA_SLOW"), reason="minutes: set CTSA_SLOW=1")

# asymptotic values known to the digits shown, from runs far longer than these
ATTRACTORS = {
    "lorenz": (lorenz, LORENZ_START, dict(interval=1.0, atol=1e-8), [0.9056, 0.0, -14.5723], 1e-4),
    "roessler": (roessler, [[1.0, 1.0, 1.0]], dict(interval=5.0, atol=1e-8), [0.0714, 0.0, -5.394], 1e-3),
    "henon": (henon, [[0.1, 0.1]], dict(interval=1), [0.41922, -1.62319], 2e-5),
}


def test_lorenz_and_henon_are_near_their_asymptotic_values(jax_face):
    """A short version of the opt-in tests."""
    for name, intervals in (("lorenz", 300), ("henon", 3000)):
        system, start, options, exact, digits = ATTRACTORS[name]
        got = ctsa.lyapunov_spectrum(
            system, jax_face.array(start), intervals=intervals, transient=50, geometry=FLAT, **options
        )
        assert (np.abs(got.exponents - exact) < 3 * got.stderr + 3 / got.duration + digits).all(), name
        assert got.verdict[0] == "chaotic" and got.neutral_expected == got.neutral_found == (name == "lorenz")


@slow
@pytest.mark.slow
def test_long_run_of_lorenz(jax_face):
    got = ctsa.lyapunov_spectrum(
        lorenz, jax_face.array(LORENZ_START), intervals=10_000, transient=100, geometry=FLAT, interval=1.0, atol=1e-8
    )
    assert (got.stderr < 2e-3).all(), got.stderr
    assert (np.abs(got.exponents - [0.9056, 0, -14.5723]) < 3 * got.stderr + 1e-4).all(), got
    assert abs(got.kaplan_yorke - 2.0622) < 3 * got.kaplan_yorke_stderr + 1e-4
    assert abs(got.exponents.sum() + 41 / 3) < 1e-6


@slow
@pytest.mark.slow
@pytest.mark.parametrize("name", ATTRACTORS)
def test_coverage_on_attractors(jax_face, name):
    """Windows of one long run: the 68 % interval of each covers the asymptotic value about that often."""
    system, start, options, exact, digits = ATTRACTORS[name]
    windows, length = 100, 400
    got = ctsa.lyapunov_spectrum(
        system, jax_face.array(start), intervals=windows * length, transient=200, geometry=FLAT, **options
    )
    for i in range(len(exact)):
        rows = got.history[:, i].reshape(windows, length)
        # the mean of all windows is known better than their own errors, and is not rounded to a few digits
        (share,) = covered(rows, got.history[:, i].mean(), ONE_SIGMA)
        print(f"{name} exponent {i + 1}: {100 * share:.0f} % of {windows} windows of {length} intervals")
        assert 0.55 < share and (share < 0.85 or exact[i] == 0.0), (name, i, share)
        assert abs(got.history[:, i].mean() - exact[i]) < 4 * standard_error(got.history[:, i]) + digits
