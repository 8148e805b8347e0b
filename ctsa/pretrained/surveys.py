"""Every head of a model as a flow: its spectrum, where its tokens end, its exponents, how far the layer is from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import backend
from ctsa._backend._solve import progress_bar, show_progress
from ctsa.flows.integration import integrate
from ctsa.flows.solver import Solver, takes_solver
from ctsa.observables import cluster_count
from ctsa.results.base import Result, as_numpy, picture
from ctsa.tangent.lyapunov import lyapunov_spectrum

from ._sphere import choose
from ._subspace import basis, consensus_exponents, reduced_arguments, score_sizes, value_spectrum
from ._transformer import Array, State, reading
from .heads import Heads, SphereHeads
from .model import Pretrained
from .opening import load

ENDS = ("fixed", "rotating", "bipartite", "clusters", "apart", "undecided")


@dataclass(frozen=True)
class Survey(Result):
    """What :func:`survey` found, arrays over layers L and heads H.

    Attributes:
        model: kind of the model and its folder's name.
        tokens: the ``n`` tokens of the text.
        layers: indices of the layers, ``(L,)``.
        heads: indices of the heads, ``(H,)``.
        duration: how long the flows were followed.
        eigenvalues: of the value matrix, by real part, ``(L, H, m)`` complex; the other d - m vanish.
        layer_eigenvalue: the leading one of the sum over all heads of a layer, ``(L,)``.
        asymmetry: ``|A - A^T| / |A + A^T|`` of ``A = Q^T K`` (Frobenius), ``(L, H)``: 0 symmetric, 1 as of a random matrix.
        beta: of the plain form, ``(L,)``.
        gain: ``beta |A|_2``, ``(L, H)``: how much two tokens can differ in score.
        end: where the tokens go, ``(L, H)`` strings:

            - "fixed": they meet, and the cluster comes to rest on an eigenvector of the leading eigenvalue of V;
            - "rotating": they meet, and the cluster turns in the plane of a leading complex pair;
            - "bipartite": two antipodal clusters;
            - "clusters": two clusters or more, otherwise;
            - "apart": no two tokens meet;
            - "undecided": the number of clusters changed in the second half of the run; or no two tokens met in a run
              shorter than ten times ``1 / Re lambda``; or all tokens met while no eigenvalue of V has a
              positive real part, so that consensus does not attract.
        clusters: their number, ``(L, H)``.
        speed: of the fastest token at the end of the run, ``(L, H)``.
        period: ``2 pi / |Im lambda|`` where the end is "rotating", else inf, ``(L, H)``.
        exponents: the leading Lyapunov exponents, ``(L, H, count)``.
        stderr: their standard errors, zero where the exponents are exact.
        source: where the exponents come from, ``(L, H)`` strings: "closed form" (consensus), or "finite time" (along
            the flow after the run).
        step: what the layer adds to its tokens in units of their length, ``(L,)``: 1 in post-norm models, the mean of
            ``|y| / |r|`` where attention reads ``y`` and the sum goes to the residual stream ``r`` in pre-norm ones.
        effective_step: the step of an Euler method that does what one layer ``N(x + step o)`` of the head does,
            ``step / (1 + step <x, o>)``, mean over tokens, ``(L, H)``.
        turn: by how much that layer turns a token, mean in degrees, ``(L, H)``.
        distance: between that layer and the flow after a time of ``step``, mean in degrees, ``(L, H)``.
        layer_distance: the same with all heads of the layer, ``(L,)``.
        model_distance: from the flow of all heads to what the model's own attention makes of its tokens, biases
            included, ``(L,)``.
    """

    model: str
    tokens: Any
    layers: Any
    heads: Any
    duration: float
    eigenvalues: Any
    layer_eigenvalue: Any
    asymmetry: Any
    beta: Any
    gain: Any
    end: Any
    clusters: Any
    speed: Any
    period: Any
    exponents: Any
    stderr: Any
    source: Any
    step: Any
    effective_step: Any
    turn: Any
    distance: Any
    layer_distance: Any
    model_distance: Any
    _static: ClassVar[tuple[str, ...]] = ("model", "duration")
    _dims: ClassVar[dict[str, tuple[str, ...]]] = {
        **dict.fromkeys(("asymmetry", "gain", "end", "clusters", "speed", "period", "source"), ("layer", "head")),
        **dict.fromkeys(("effective_step", "turn", "distance"), ("layer", "head")),
        **dict.fromkeys(("exponents", "stderr"), ("layer", "head", "exponent")),
        "eigenvalues": ("layer", "head", "eigenvalue"),
        **dict.fromkeys(("layers", "layer_eigenvalue", "beta", "step"), ("layer",)),
        **dict.fromkeys(("layer_distance", "model_distance"), ("layer",)),
        "heads": ("head",),
        "tokens": ("token",),
    }

    def __repr__(self) -> str:
        return f"Survey({self.model}: {self.summary()})"

    @property
    def counts(self) -> dict[str, int]:
        """How many heads end in each way, in the order of the attribute ``end``."""
        found = Counter(np.ravel(self.end).tolist())
        return {end: found[end] for end in ENDS if found[end]}

    def summary(self) -> str:
        """Return one line: how many heads end in which way."""
        parts = ", ".join(f"{count} {end}" for end, count in self.counts.items())
        return f"{self.end.size} heads, n = {len(self.tokens)}: {parts}"

    def table(self) -> str:
        """Return a table as text, a row a head.

        ``lambda`` is the leading eigenvalue of V among the m that need not vanish, ``skew`` the asymmetry, ``exponent``
        the largest one (with a star where it is of finite time), ``step`` the effective one, ``turn`` and ``off`` are
        the degrees of ``turn`` and ``distance``.
        """
        head = f"{'layer':>5} {'head':>4}  {'lambda':^15} {'skew':>5} {'gain':>6}  {'end':<9} {'q':>3} {'period':>7} "
        rows = [f"{head} {'exponent':>9} {'step':>5} {'turn':>5} {'off':>5}"]
        for i, layer in enumerate(self.layers):
            for j, h in enumerate(self.heads):
                at = (i, j)
                period = f"{self.period[at]:7.1f}" if np.isfinite(self.period[at]) else f"{'-':>7}"
                star = " " if self.source[at] == "closed form" else "*"
                rows.append(
                    f"{layer:>5} {h:>4}  {_complex(self.eigenvalues[i, j, 0]):<15} {self.asymmetry[at]:5.2f} "
                    f"{self.gain[at]:6.1f}  {self.end[at]:<9} {self.clusters[at]:>3} {period}  "
                    f"{self.exponents[i, j, 0]:+8.4f}{star} {self.effective_step[at]:5.2f} {self.turn[at]:5.1f} "
                    f"{self.distance[at]:5.1f}"
                )
        return "\n".join(rows)

    def layer_table(self) -> str:
        """Return a table as text, a row a layer, all its heads together.

        ``lambda`` is the leading eigenvalue of the sum of all V, ``off`` the distance between flow and plain layer,
        ``model`` that between flow and the model's own attention, in degrees.
        """
        rows = [f"{'layer':>5}  {'lambda':^15} {'beta':>6} {'step':>5} {'off':>5} {'model':>6}"]
        for i, layer in enumerate(self.layers):
            rows.append(
                f"{layer:>5}  {_complex(self.layer_eigenvalue[i]):<15} {self.beta[i]:6.1f} {self.step[i]:5.2f} "
                f"{self.layer_distance[i]:5.1f} {self.model_distance[i]:6.1f}"
            )
        return "\n".join(rows)

    def plot(self, axes=None):
        """Draw the ends as a map of layers and heads, and the leading eigenvalues; return the two ``Axes``."""
        return picture("survey.ends_and_eigenvalues")(self, ENDS, axes=axes)


def _complex(z: complex) -> str:
    sign = " " if z.real >= 0 else "-"
    return f"{sign}{abs(z.real):.3f}" + (f" +- {abs(z.imag):.3f}i" if abs(z.imag) > 5e-4 else "")


@takes_solver
def survey(
    model: Pretrained | str | PathLike[str] | None,
    text: Any,
    *,
    face: Any,
    layers: Any = None,
    heads: Any = None,
    duration: float = 300.0,
    count: int = 4,
    solver: Any = "dopri5",
    rtol: float = 0.0,
    atol: float = 1e-8,
    max_steps: int = 100_000,
    seed: int = 0,
    progress: bool | None = None,
) -> Survey:
    """Follow the flow of every head of a model, each on its own, on the tokens of a text.

    Heads are taken in the plain form (:meth:`Pretrained.on_sphere`): no biases, one ``beta`` a layer. The tokens of a
    head of rank m never leave the span of where they start and of the range of V, so every flow is computed there, in at
    most n + m + count instead of d dimensions, without approximation. It ends after ``duration``, or where all tokens
    are at rest (slower than 1e-6).

    The exponents of a consensus, at rest or turning, are known in closed form from the spectrum of V. Those of other
    ends are of finite time: 100 intervals of one unit of time, after the run and a transient of 20.

    Args:
        model: a model, or the folder of one; None is all-MiniLM-L6-v2.
        text: one sentence, or token ids ``(n,)``.
        face: ``ctsa.torch`` or ``ctsa.jax``, which computes the flows.
        layers: indices of layers; None for all.
        heads: indices of heads, the same in every layer; None for all.
        duration: how long to follow a flow (at least four steps of the layer).
        count: how many exponents.
        solver, rtol, atol, max_steps: of the flows and their exponents, adaptive, see ``ctsa.integrate``; a ``ctsa.Solver``
            holds them all.
        seed: of the directions from which exponents start.
        progress: draw a bar; None draws it in a terminal.

    Returns:
        A ``Survey``, with ``table()``, ``summary()`` and ``plot()``.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.
        ValueError: queries and keys of the model turn with the position (Llama, Qwen, Mistral, ModernBERT).
        WeightsNotFound, ImportError: as for :func:`load`.

    Example:
        >>> import ctsa.torch
        >>> from ctsa import pretrained
        >>> found = pretrained.survey(None, "Tokens cluster.", face=ctsa.torch, layers=[4], heads=[1, 2])
        >>> found.summary()
        '2 heads, n = 6: 2 fixed'

    References:
        Consensus at the leading eigenvector: Altafini, arXiv 2511.11553.
    """
    model = model if isinstance(model, Pretrained) else load(model)
    if model._network.blocks[0].frequencies is not None:
        raise ValueError(
            f"model: queries and keys of {model.kind} turn with the position, which a survey of plain heads "
            "leaves out: model.field(layer, face, text, head=h) has them"
        )
    duration, given = checks.number("duration", duration, low=0.0, strict=True), Solver(solver, rtol, atol, None, max_steps)
    count = checks.integer("count", count, low=1)
    if not callable(getattr(face, "SelfAttention", None)):
        raise TypeError(f"face must be ctsa.torch or ctsa.jax, got {face!r:.60}")
    chosen_layers = _indices("layers", layers, model.layers)
    chosen_heads = _indices("heads", heads, model.head_count)
    tokens = model.tokens(text)
    states = model.states(text)
    run = _Run(face, duration, count, given, seed)
    rows: list[dict[str, Any]] = []
    per_layer: list[dict[str, Any]] = []
    total = len(chosen_layers) * len(chosen_heads)
    bar = progress_bar(float(total)) if show_progress(progress) else None
    try:
        for layer in chosen_layers:
            facts, around = run.layer(model, layer, states[layer])
            per_layer.append(facts)
            for h in chosen_heads:
                rows.append(run.head(around, h))
                if bar is not None:
                    bar.update(1)
    finally:
        if bar is not None:
            bar.close()
    shape = (len(chosen_layers), len(chosen_heads))
    by_head = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
    return Survey(
        model=f"{model.kind}, {model.folder.name}",
        tokens=np.array(tokens),
        layers=np.array(chosen_layers),
        heads=np.array(chosen_heads),
        duration=duration,
        **{k: v.reshape(*shape, *v.shape[1:]) for k, v in by_head.items()},
        **{k: np.stack([facts[k] for facts in per_layer]) for k in per_layer[0]},
    )


def _indices(name: str, given: Any, count: int) -> list[int]:
    if given is None:
        return list(range(count))
    found = choose(given, count, name)
    return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class _Layer:
    """A layer on the sphere, and what its heads need."""

    heads: Heads
    plain: SphereHeads
    step: float


@dataclass(frozen=True)
class _Run:
    """The settings of a survey, and what it does with a layer and with a head."""

    face: Any
    duration: float
    count: int
    solver: Solver
    seed: int

    def _field(self, **arguments: Any) -> Any:
        field = self.face.SelfAttention(**arguments)
        return field.requires_grad_(False) if hasattr(field, "requires_grad_") else field  # torch records no graph

    def layer(self, model: Pretrained, layer: int, state: Array) -> tuple[dict[str, Any], _Layer]:
        heads, plain = model.heads(layer), model.on_sphere(state, layer)
        step = float(np.mean(plain.norms / np.linalg.norm(state, axis=-1))) if model.pre_norm else 1.0
        field = self._field(query=plain.query, key=plain.key, value=plain.value, beta=plain.beta, mask=plain.mask)
        flow = as_numpy(integrate(field, plain.x, [0.0, step], self.solver).xs[-1])
        discrete = _unit(plain.x + step * _drift(field, plain.x))
        after = state + model.attention_output(state, layer)
        if model.pre_norm:  # what the layer's attention would read next
            after = reading(model._network, layer, State(after, None)).z
        values = np.linalg.eigvals(plain.value.sum(0))
        facts = dict(
            beta=plain.beta,
            step=step,
            layer_eigenvalue=complex(values[np.argmax(values.real)]),
            layer_distance=_degrees(flow, discrete),
            model_distance=_degrees(flow, _unit(after)),
        )
        return facts, _Layer(heads, plain, step)

    def head(self, around: _Layer, h: int) -> dict[str, Any]:
        heads, plain, step = around.heads, around.plain, around.step
        n, d = plain.x.shape
        values = value_spectrum(heads.value_in[h], heads.value_out[h])
        asymmetry, norm = score_sizes(heads.query[h], heads.key[h])
        e = basis(plain.x, heads.value_out[h], self.count, self.seed)
        x0 = _unit(plain.x @ e)
        field = self._field(**reduced_arguments(heads, h, e, plain.beta))
        output = _drift(field, x0)
        discrete = _unit(x0 + step * output)
        time = max(self.duration, 4 * step)
        run = integrate(field, x0, [0.0, step, time / 2, time], self.solver, until="equilibrium")
        xs = as_numpy(run.xs)
        early = xs[1]  # at rest before, if the run stopped before
        short = not run.stats["stopped"] and 0 < values[0].real * time < 10
        end, clusters = _end(xs[2:] if len(xs) > 2 else xs[1:], values[0], short)
        if end in ("fixed", "rotating"):
            exponents, source = consensus_exponents(values, n, d, self.count, plain.mask is not None), "closed form"
            stderr = np.zeros(self.count)
        else:
            # In the reduced space, whose extra directions stand for all that are normal to it.
            spectrum = lyapunov_spectrum(
                field, xs[-1], count=self.count, intervals=100, transient=20, solver=self.solver, seed=self.seed,
                progress=False,
            )  # fmt: skip
            exponents, stderr, source = np.asarray(spectrum.exponents), np.asarray(spectrum.stderr), "finite time"
        return dict(
            eigenvalues=values,
            asymmetry=asymmetry,
            gain=plain.beta * norm,
            end=end,
            clusters=clusters,
            speed=_speed(field, xs[-1]),
            period=2 * np.pi / abs(values[0].imag) if end == "rotating" else np.inf,
            exponents=exponents,
            stderr=stderr,
            source=source,
            effective_step=float(np.mean(step / (1 + step * (x0 * output).sum(-1)))),
            turn=_degrees(x0, discrete),
            distance=_degrees(early, discrete),
        )


def _drift(field: Any, x: Array) -> Array:
    return as_numpy(field.drift(0.0, _like(field, x)))


def _speed(field: Any, x: Array) -> float:
    return float(np.linalg.norm(as_numpy(field.velocity(0.0, _like(field, x))), axis=-1).max())


def _like(field: Any, x: Array) -> Any:
    return backend(field.beta).like(x, field.beta)


def _end(late: Array, lead: complex, short: bool) -> tuple[str, int]:
    """Tell where tokens go from the states in the middle (if the run did not stop) and at the end, ``(1 or 2, n, d)``.

    short: the run ended before anything need have grown, so tokens that are apart may meet yet.
    """
    counts = cluster_count(late)
    clusters = int(counts[-1])
    if clusters == 1:
        if lead.real <= 0:
            return "undecided", 1
        return ("rotating" if lead.imag else "fixed"), 1
    if counts[0] != clusters:
        return "undecided", clusters
    gram = late[-1] @ late[-1].T
    if clusters == 2 and (np.abs(np.abs(gram) - 1) < 1e-5).all():
        return "bipartite", 2
    if clusters < len(gram):
        return "clusters", clusters
    return ("undecided" if short else "apart"), clusters


def _unit(x: Array) -> Array:
    unit: Array = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return unit


def _degrees(x: Array, y: Array) -> float:
    """Return the mean angle between the tokens of two states of unit tokens."""
    half = np.clip(np.linalg.norm(x - y, axis=-1) / 2, 0.0, 1.0)  # precise for small angles
    return float(np.degrees(2 * np.arcsin(half)).mean())
