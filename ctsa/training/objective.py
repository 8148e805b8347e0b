"""The loss of a model on a batch: cross entropy after some depth, and the regularisers; the same in both frameworks."""

from dataclasses import dataclass, fields
from typing import Any

from ctsa import regularise
from ctsa._backend import backend
from ctsa.flows import Solver
from ctsa.layers.stopping import following

from .settings import Penalty, Settings

Array = Any


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return ``-log p(target)``, of every token or sample: ``(...)`` of logits ``(..., classes)``."""
    be = backend(logits)
    logits = be.asarray(logits, "float32") if "16" in str(logits.dtype) else logits
    chosen = targets[..., None] == be.xp.arange(logits.shape[-1], **_device(logits))
    return be.logsumexp(logits, -1) - be.xp.where(chosen, logits, be.xp.zeros_like(logits)).sum(-1)


def _device(x: Array) -> dict[str, Any]:
    return dict(device=x.device) if backend(x).name == "torch" else {}


def _unrolled(settings: "Objective", model: Any, tokens: Array, u: Array, depth: Any, largest: int) -> Array:
    """Return the state after ``depth`` layers, which may be a traced number of at most ``largest``."""
    be, layer = backend(u), model.layer_of(tokens, settings.refine)
    depth, largest = depth * settings.refine, largest * settings.refine
    if settings.last is not None:
        return regularise.unroll(layer, u, depth, last=settings.last * settings.refine)
    if isinstance(depth, int):
        return be.repeat(be.partial(following, layer), u, depth)

    def advance(carry):
        i, x = carry
        return (i + 1, be.xp.where(i < depth, following(layer, x), x)), 0 * i

    return be.scan(advance, (0 * depth, u), largest)[0][1]


@dataclass(frozen=True)
class Objective:
    """``objective(model, (inputs, targets, noise, other), depth, options)``: the terms of the loss, by name.

    ``options`` says with ``"due"`` which regularisers count at this step, by their places in ``penalties``, and with
    ``"largest"`` the largest depth that is drawn. Objectives that compute the same are equal, so that JAX compiles once
    for all seeds and rates.
    """

    depth: int
    last: int | None
    refine: int
    solver: str | None
    atol: float
    adjoint: bool
    penalties: tuple[Penalty, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Objective":
        """Return the objective of a run."""
        return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})

    def __call__(self, model: Any, data: tuple, depth: Any, options: dict[str, Any]) -> dict[str, Array]:
        inputs, targets, noise, other = data
        u = model.start(inputs, noise)
        if self.solver is None:
            end = _unrolled(self, model, inputs, u, depth, options["largest"])
        else:
            solver = Solver(self.solver, atol=self.atol)
            end = model.run(inputs, int(depth), noise, solver=solver, adjoint=self.adjoint)
        terms = {"loss": cross_entropy(model.read(end), targets).mean()}
        for place in options["due"]:
            penalty = self.penalties[place]
            value = penalised(penalty, model, inputs, u, end, other, self)
            terms[f"{penalty.kind}.{place}"] = penalty.weight * value
        return terms


def penalised(p: Penalty, model: Any, inputs: Array, u: Array, end: Array, other: Array, settings: Objective) -> Array:
    """Return the value of a regulariser, the mean over samples."""
    if p.kind == "spectral":
        return regularise.spectral_regulariser(model.attention, iterations=p.iterations)
    if p.kind in ("symmetry", "orthogonality"):
        return getattr(regularise, p.kind)(model.attention)
    be, some = backend(u), slice(0, p.samples)
    layer, last = model.layer_of(inputs[some], settings.refine), be.stop_gradient(end[some])
    loops = p.loops or settings.depth * settings.refine
    if p.kind == "exponent":
        return regularise.exponent(
            layer, u[some], loops=loops, count=p.count, target=p.target, above=p.above
        ).mean()  # fmt: skip
    if p.kind == "restart":
        return regularise.restart(layer, u[some], model.start(inputs[some], other[some]), loops=loops).mean()
    if p.kind == "scale":
        return regularise.scale(model.layer_of(inputs[some]).tokens(end[some])).mean()
    if p.kind == "residual":
        return regularise.residual(layer, last).mean()
    if p.kind == "rms_gain":
        return regularise.rms_gain(layer, last, v=be.like(other[some], last)[None]).mean()
    return getattr(regularise, p.kind)(layer, last, above=1.0 if p.above is None else p.above).mean()
