"""What 2505.19458 looks at while a model trains: exponents, Jacobians, energies, contribution."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend
from ctsa.monitors import complex_share, contribution_index
from ctsa.results.base import Result, as_numpy, picture
from ctsa.results.text import lines
from ctsa.tangent import largest_finite_time, lyapunov_spectrum, mean_exponent, spectral_norm

from .evaluation import check_data, check_model, plain_inputs, starts_of

SERIES = ("largest", "mean", "asymptotic", "norm", "oscillating", "energy", "contribution")


@dataclass(frozen=True)
class Watched(Result):
    """Exponents and monitors of a model on some samples, nan where one was not asked for; arrays are ``(samples,)``.

    Attributes:
        largest: exponent over the first ``depth`` layers, ``log s_1 / depth``, the tangent map's largest singular value.
        mean: mean exponent over these, ``log |det| / (depth m)``.
        asymptotic: the largest Lyapunov exponent of the loop, a layer; of ``asymptotic_error`` each.
        asymptotic_error: its error bar.
        norm: largest singular value of the tangent Jacobian after ``depth`` layers.
        oscillating: share of complex eigenvalues of that Jacobian.
        energy: pseudo-energy after ``depth`` layers.
        contribution: share of the state in the leading eigenvectors of ``J + J^T``, ``ctsa.contribution_index``.
        depth: how many layers.
        task: name of the data.
    """

    largest: Any
    mean: Any
    asymptotic: Any
    asymptotic_error: Any
    norm: Any
    oscillating: Any
    energy: Any
    contribution: Any
    depth: int
    task: str
    _static: ClassVar[tuple[str, ...]] = ("depth", "task")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys((*SERIES, "asymptotic_error"), ("sample",))

    def means(self) -> dict[str, float]:
        """Return the mean of each over samples, of those that were measured."""
        found = {name: np.asarray(getattr(self, name), dtype=float) for name in SERIES}
        return {name: float(a.mean()) for name, a in found.items() if not np.isnan(a).all()}

    def table(self) -> str:
        """Return means and standard errors over samples as text."""
        rows = []
        for name in SERIES:
            a = np.asarray(getattr(self, name), dtype=float)
            if not np.isnan(a).all():
                spread = a.std(ddof=1) / np.sqrt(len(a)) if len(a) > 1 else float("nan")
                rows.append((name, f"{a.mean():.4g} +- {spread:.1g}"))
        return lines(rows)

    def plot(self, axes=None, **kwargs):
        """Draw every measure, a point a sample; return the ``Axes``."""
        return picture("training.watched")(self, axes=axes, **kwargs)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {value:.3g}" for name, value in self.means().items())
        return f"Watched({self.task}, {len(self.largest)} samples at depth {self.depth}: {shown})"


@analysis
def watch(
    model: Any,
    data: Any,
    *,
    depth: int = 16,
    samples: int = 16,
    measures: tuple[str, ...] = ("largest", "mean", "norm", "energy"),
    intervals: int = 200,
    transient: int = 60,
    refine: int = 1,
    seed: int = 0,
) -> Watched:
    """Measure exponents and monitors of a model on the first samples of some data.

    The cost of a sample of n d unknowns: "largest" and "norm" some products with Jacobians, "mean" a factorisation a
    layer, "oscillating" all eigenvalues of one Jacobian, "contribution" some of its eigenvectors, "asymptotic" a spectrum
    of ``transient + intervals`` layers.

    Args:
        model: a ``RecurrentModel``.
        data: a data set of ``ctsa.datasets``.
        depth: layers that exponents go over, and after which the rest is measured.
        samples: how many.
        measures: which of "largest", "mean", "asymptotic", "norm", "oscillating", "energy", "contribution".
        intervals, transient: layers of "asymptotic", see ``ctsa.lyapunov_spectrum``.
        refine: as for ``RecurrentModel.run``.
        seed: of the starts.

    Raises:
        ValueError: there is no such measure, or the data are of another task.
        TypeError: the model is none of ours.

    Example:
        >>> import ctsa, ctsa.torch
        >>> data = ctsa.datasets.task("sudoku-4x4", count=40)
        >>> model = ctsa.torch.RecurrentModel.for_task(data.train, d=16)
        >>> found = ctsa.training.watch(model, data.test, samples=2)
        >>> bool((found.mean < found.largest).all())
        True

    References:
        Tomihari and Karakida, arXiv 2505.19458.
    """
    check_model(model)
    check_data(model, data)
    depth, samples = checks.integer("depth", depth, low=1), checks.integer("samples", samples, low=1)
    if isinstance(measures, str):
        measures = (measures,)
    for name in measures:
        checks.choice("measures", name, SERIES)
    some = data[: min(samples, len(data))]
    noise = starts_of(model, some, checks.seed(seed))
    found: dict[str, Any] = {name: np.full(len(some), np.nan) for name in (*SERIES, "asymptotic_error")}
    inputs = plain_inputs(some.inputs)
    layer, u = model.layer_of(inputs, refine), model.start(inputs, backend(model.embedding).like(noise, model.embedding))
    total = depth * refine
    if "largest" in measures:
        found["largest"] = refine * np.asarray(largest_finite_time(layer, u, total))
    if "mean" in measures:
        found["mean"] = refine * np.asarray(mean_exponent(layer, u, total))
    if "asymptotic" in measures:
        run = lyapunov_spectrum(layer, u, count=1, intervals=intervals * refine, transient=transient * refine)
        found["asymptotic"] = refine * np.asarray(run.exponents)[..., 0]
        found["asymptotic_error"] = refine * np.asarray(run.stderr)[..., 0]
    if not set(measures) - {"largest", "mean", "asymptotic"}:
        return Watched(**found, depth=depth, task=data.name)
    end = model.onward(inputs, u, depth, refine=refine)
    if "norm" in measures:
        found["norm"] = np.asarray(spectral_norm(layer, end))
    if "energy" in measures:
        found["energy"] = as_numpy(model.energy(inputs, end))
    for i in range(len(some)):
        if not {"oscillating", "contribution"} & set(measures):
            break
        one = model.layer_of(inputs[i], refine)
        if "oscillating" in measures:
            found["oscillating"][i] = complex_share(one, end[i])
        if "contribution" in measures:
            found["contribution"][i] = contribution_index(one, end[i])
    return Watched(**found, depth=depth, task=data.name)
