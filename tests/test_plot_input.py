"""Every drawing function refuses what it cannot draw: the argument is named, and no figure is left behind."""

import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ctsa

MODULES = [ctsa.plot.tokens, ctsa.plot.comparison, ctsa.plot.continuation, ctsa.plot.equilibria, ctsa.plot.spectra]
MODULES += [ctsa.plot.training, ctsa.plot.film, ctsa.plot.sweeps]
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
}
OTHER = ctsa.JacobianNorms(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, True)  # a result, of which there is no picture
WRONG = {
    "nothing": None, "a word": "abc", "an object": object(), "a function": len, "an empty dict": {}, "an empty list": [],
    "another result": OTHER, "ragged": [[1.0, 0.0], [1.0]], "nan": np.full((4, 3), np.nan), "a list of words": ["a", "b"],
}  # fmt: skip
SECOND = {"ctsa.plot.tokens.observables": {"series": {"a": [1.0]}}, "ctsa.plot.tokens.panels": {"series": {"a": [1.0]}}}
SECOND["ctsa.plot.equilibria.census_bars"] = {"betas": [1.0]}
SECOND["ctsa.plot.film.animate"] = {"path": "film.gif"}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_all_are_here():
    assert len(FUNCTIONS) == 37


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_kinds(name, kind):
    function = FUNCTIONS[name]
    first = next(iter(inspect.signature(function).parameters))
    with pytest.raises((TypeError, ValueError)) as caught:
        function(WRONG[kind], **SECOND.get(name, {}))
    text = str(caught.value)
    assert re.match(rf"{first}\b", text) and len(text) < 300, text
    assert len(text.split("got")) > 1 or "wanted" in text, text
    assert not plt.get_fignums(), "a figure was made before the check"
    if kind in ("nothing", "a word", "an object", "a function", "another result"):
        assert type(caught.value) is TypeError or first in ("found", "runs", "table", "ts", "x"), text


T = np.linspace(0, 1, 5)
CIRCLE = (T, np.stack([np.cos(T), np.sin(T)], -1)[:, None])
SPEC = ctsa.LyapunovSpectrum(
    np.random.default_rng(0).normal(size=(9, 3)), np.zeros((1, 3)), np.zeros((3, 1, 3)), 1.0, 0, np.array(1.0),
    np.array(0), 3, True,
)  # fmt: skip
CLV = ctsa.CovariantVectors(np.zeros((5, 1, 3)), np.tile(np.eye(3)[:2, None], (5, 1, 1, 1)), np.zeros((4, 2)), 1.0)
BAD = {
    "log_time must be True or False, got 'x'": lambda: ctsa.plot.observables(T, {"a": T}, log_time="x"),
    "log_time must be True or False, got 1": lambda: ctsa.plot.angles(CIRCLE, log_time=1),
    "traj: wanted finite states, got nan or inf everywhere": lambda: ctsa.plot.sphere(np.full((4, 3), np.nan)),
    r"traj must have times ts beside xs, .* got CovariantVectors: pass its .xs": lambda: ctsa.plot.sphere(CLV),
    r"traj must be a Trajectory, or states \(T, n, d\), got dict": lambda: ctsa.plot.trajectory({"xs": T}),
    r"series\['a'\]: wanted finite numbers": lambda: ctsa.plot.observables(T, {"a": T * np.nan, "b": T}),
    r"series\['a'\] must be an array of real numbers, got NoneType": lambda: ctsa.plot.panels(T, {"a": None}),
    "tail must be a number, got 'all'": lambda: ctsa.plot.circle(CIRCLE, tail="all"),
    "spread must be a number, got None": lambda: ctsa.plot.circle(CIRCLE, spread=None),
    "x: wanted a finite state": lambda: ctsa.plot.gram_matrix(np.full((3, 2), np.inf)),
    "spec must be a LyapunovSpectrum, got list: ctsa.lyapunov_spectrum": lambda: ctsa.plot.spectra.spectrum([1]),
    "count must be an integer of at least 1, got 0": lambda: ctsa.plot.spectra.convergence(SPEC, count=0),
    "width must be a finite number of at least 0, got -1": lambda: ctsa.plot.spectra.convergence(SPEC, width=-1),
    "values must be finite complex numbers, .* got 1 of 2": lambda: ctsa.plot.spectra.eigenvalues([1, np.nan]),
    "values must be complex numbers": lambda: ctsa.plot.spectra.eigenvalues("ab"),
    "continuous must be True or False": lambda: ctsa.plot.spectra.eigenvalues([1j], continuous="map"),
    "neutral must be an integer": lambda: ctsa.plot.spectra.eigenvalues([1j], neutral=0.5),
    "bins must be an integer": lambda: ctsa.plot.spectra.angles(CLV, bins=2.5),
    "split must lie between 1 and 1, got 5": lambda: ctsa.plot.spectra.angles(CLV, split=5),
    "columns must be an integer of at least 1": lambda: ctsa.plot.equilibria.equilibria([np.eye(3)], columns=0),
    "found: wanted a finite state": lambda: ctsa.plot.equilibria.equilibrium([[np.nan, 0, 0]]),
    "found must be a Basins, got int": lambda: ctsa.plot.equilibria.basin_shares({1.0: 3}),
    "result must be a Branch or a Diagram or a list of them, got int": lambda: ctsa.plot.continuation.diagram([1]),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        BAD[message]()
    assert not plt.get_fignums()
