"""One call that says what a recurrent layer does on every input, and why."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import analysis, backend, rounding
from ctsa._backend._solve import progress_bar, show_progress
from ctsa._types import States
from ctsa.flows.systems import System, system_of
from ctsa.geometry import Geometry
from ctsa.layers.check import check_foreign, noise_of
from ctsa.results.base import as_numpy
from ctsa.results.checkpoints import Checkpoint
from ctsa.results.identity import Identity

from .chunk import diagnosis_of
from .exits import rules_of
from .passing import Passed
from .plan import Plan, counting, first_of, map_of, of_members
from .restarts import moments
from .result import Diagnosis, joined

Array = Any
_NUMBERS = 2**25  # of the states of a chunk along a run


@analysis
def diagnose(
    layer: Any,
    x0: States,
    loops: int = 64,
    *,
    restarts: int = 4,
    exponents: int = 4,
    period: int = 8,
    multipliers: int = 4,
    tolerance: float = 1e-3,
    trained: int | None = None,
    band: float = 2.0,
    exits: dict[str, float] | None = None,
    readout: Callable | None = None,
    score: Callable | None = None,
    field: Any = None,
    tokens: bool = True,
    probes: int = 1,
    gap: float = 1e-2,
    chunk: int | None = None,
    checkpoint: Any = None,
    geometry: Geometry | None = None,
    normalize: bool = False,
    seed: int = 0,
    allow_unverified: bool = False,
    progress: bool | None = None,
) -> Diagnosis:
    """Apply a recurrent layer to a batch of inputs, loop after loop, and say what it does on each, and why.

    Of every input one of:

    - *settles*: steps shrink geometrically onto a fixed point; also alternating (leading multiplier negative) or
      spiralling (complex);
    - *marginal*: at rest or ever slower, with a leading multiplier of one: nothing pulls back what is pushed away;
    - *periodic*: back to the same state after p loops;
    - *wanders*: bounded, neither repeating nor growing apart (quasi-periodic);
    - *chaotic* so far: bounded, and neighbours separate exponentially;
    - *drifts*: the same step all the time; *expands*: steps grow;
    - *undecided*: the run does not show it; ``loops_to_decide`` says how long to go on.

    The states decide by the rule of ``lyapunov_spectrum(...).verdict``, see "What a verdict means". Where they leave it
    open, the fixed point near the end (Newton's method with GMRES) and its multipliers (Arnoldi's method) may decide:
    steps shrink at the rate of the leading multiplier, and the fixed point lies as far as that rate says.

    It costs ``1 + restarts + 2 exponents`` applications of the layer a loop, and some 100 products with its Jacobian at the
    end. No Jacobian is formed. Memory is that of the states of a chunk.

    Args:
        layer: a ``Loop``, any layer ``layer(x) -> x``, or a sequence of layers (``loops`` is then their number).
        x0: states ``(batch, n, d)``, ``(n, d)``, or as a ``Loop`` of several parts knows them: one an input.
        loops: how often the layer is applied.
        restarts: from how many other random starts every input is run.
        exponents: how many Lyapunov exponents, at most.
        period: longest cycle that is looked for.
        multipliers: how many leading eigenvalues at the end state; 0 leaves out all that is found there.
        tolerance: relative distance that counts as arrived.
        trained: how many loops the model was trained with: about the sizes at that loop lies the band of ``safe_depth``,
            which is nan without.
        band: sizes of states and readouts may differ by this factor from those at loop ``trained``.
        exits: thresholds of rules to stop early, by name: "first order" (step), "second order" (change of the step,
            twice in a row), "cosine" (one less that of successive states), "kl" and "argmax" (of the readout: distance of
            its distributions; how often the same in a row).
        readout: what the model says of states as the step knows them, ``(batch, ..., classes)``; by default the loop's.
        score: ``score(readout) -> (batch,)`` of a whole batch, such as the share of right answers, after every loop; not
            with chunks.
        field: a field ``(t, x)``; the step of it that the layer takes is found, see ``ctsa.effective_step``.
        tokens: keep the steps of every token, clusters, ranks.
        probes: random directions of the inputs for ``input_gain``; 0 leaves it out.
        gap: distance below which tokens belong to one cluster.
        chunk: how many inputs go side by side; None chooses by size.
        checkpoint: path of a file to which finished chunks are written, and from which they are read.
        geometry: where a bare callable lives.
        normalize: normalise ``x0``.
        seed: of restarts, frames and probes.
        allow_unverified: continue also where layer or file do not show which run it is.
        progress: draw a bar; None draws it in a terminal.

    Returns:
        ``Diagnosis``: ``print`` it, ``.table()``, ``.plot()``, ``.per_input``, ``.member(i)``, ``.save(path)``.

    Raises:
        ValueError, TypeError: an argument is wrong, or the layer is not one map: see ``ctsa.check_map``.

    Example:
        >>> import torch, ctsa
        >>> weights = torch.diag(torch.tensor([0.5, -0.9], dtype=torch.float64))
        >>> loop = ctsa.Loop(lambda x, e: x @ weights + e, inputs=torch.ones(3, 4, 2, dtype=torch.float64))
        >>> report = ctsa.diagnose(loop, torch.zeros(3, 4, 2, dtype=torch.float64), loops=32)
        >>> report.counts, report.modes[0], round(float(report.rate[0]), 6)
        ({'settles': 3}, 'alternating', -0.105361)

    References:
        Saad, *Numerical Methods for Large Eigenvalue Problems* (2011), ch. 6 (Arnoldi); stopping rules: Geiping et al.,
        arXiv 2502.05171, and arXiv 2509.23314; restarts: arXiv 2605.21488; recall: arXiv 2604.15259.
    """
    system = system_of(layer, geometry)
    if system.flow:
        raise TypeError("layer is a field(t, x): ctsa.EulerLayer(field, step) makes a layer of it")
    loops = checks.integer("loops", loops, low=1)
    if system.kind == "layers" and loops > len(system.source):
        raise ValueError(f"loops={loops}, but there are {len(system.source)} layers")
    read = readout if readout is not None else getattr(first_of(system), "readout", None)
    for name, function in (("readout", read), ("score", score), ("field", field)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be callable, got {type(function).__name__}")
    if score is not None and read is None:
        raise ValueError("score looks at a readout, and there is none: readout=")
    plan = Plan(
        loops, checks.integer("restarts", restarts), checks.integer("exponents", exponents, low=1),
        checks.integer("period", period, low=1), checks.integer("multipliers", multipliers),
        checks.number("tolerance", tolerance, low=0.0, strict=True),
        None if trained is None else checks.integer("trained", trained, low=0),
        checks.number("band", band, low=1.0, strict=True), rules_of(exits, read is not None), read, score, field,
        bool(checks.flag("tokens", tokens)), checks.integer("probes", probes),
        checks.number("gap", gap, low=0.0, strict=True), checks.seed(seed),
    )  # fmt: skip
    if plan.trained is not None and plan.trained > loops:
        raise ValueError(f"trained={plan.trained} is more than loops={loops}")
    x = system.start(x0, normalize)
    batch = tuple(x.shape[:-2])
    if len(batch) > 1:
        raise ValueError(f"x0 must be states (batch, n, d), got shape {tuple(x.shape)}: join its leading axes")
    dimension = system.geometry.dimension(*x.shape[-2:])
    plan = replace(plan, exponents=min(plan.exponents, dimension))
    check_foreign(map_of(system, 0), x, system.geometry)
    whole = x if batch else x[None]
    width = _width(chunk, whole, loops)
    if score is not None and width < len(whole):
        raise ValueError(f"score looks at all {len(whole)} inputs at once, which chunk={width} splits")
    each = float(np.prod(x.shape[-2:])) * (loops + 1)
    checks.room(f"the states of {loops} loops of one input", each * min(width, len(whole)), remedy="take fewer loops")
    system = _one_map(system, whole, loops)
    run = _Run(system, whole, plan, width, checkpoint, bool(allow_unverified))
    return run.go(progress)


def _one_map(system: System, x: Array, loops: int) -> System:
    """Return a loop that is told its number, but does not care for it, as the one map that it is."""
    if not counting(system.source) or loops == 1:
        return system
    be, numbers = backend(x), sorted({0, 1, loops // 2, loops - 1})
    first, *others = (as_numpy(be.call(map_of(system, k), x)) for k in numbers)
    same = all(np.array_equal(first, other) for other in others)
    return System(system.kind, system.source.at(0), system.geometry) if same else system


def _width(chunk: int | None, x: Array, loops: int) -> int:
    size = int(np.prod(x.shape[1:])) * (loops + 1)
    return max(1, min(256, _NUMBERS // size)) if chunk is None else checks.integer("chunk", chunk, low=1)


class _Run:
    def __init__(self, system, x, plan, width, checkpoint, allow_unverified):
        self.system, self.x, self.plan, self.width = system, x, plan, width
        some = of_members(system, np.arange(width)) if width < len(x) else system
        noise = noise_of(map_of(some, 0), x[:width], system.geometry)
        self.noise = max(rounding(x), noise)
        packing, values = getattr(first_of(system), "packing", None), as_numpy(x).astype(float)
        parts = {"x": values} if packing is None else packing.columns(values)
        self.given = {name: moments(a) for name, a in parts.items()}
        self.identity = ""
        self.done: list[Diagnosis] = []
        self.kept = Checkpoint(None, "diagnose")
        if checkpoint is not None:
            settings = {k: v for k, v in vars(plan).items() if k not in ("readout", "score", "field")}
            who = Identity(
                system=(system.source, plan.readout, plan.score, plan.field), start=x, settings=(settings, width)
            )
            self.identity = str(who)
            self.kept = Checkpoint(checkpoint, "diagnose", who, allow_unverified=allow_unverified)
            state = self.kept.load()
            self.done = [] if state is None else list(state.parts)

    def go(self, progress: bool | None) -> Diagnosis:
        total = len(self.x)
        bar = progress_bar(total, backend(self.x).name) if show_progress(progress) else None
        try:
            have = sum(map(len, self.done))
            with self.kept:
                for at in range(have, total, self.width):
                    index = np.arange(at, min(at + self.width, total))
                    self.done.append(self._chunk(index))
                    if self.kept.due:
                        self.done = [joined(self.done)]
                    self.kept.offer({}, parts=self.done)
                    if bar is not None:
                        bar.update(index[-1] + 1 - bar.n)
        finally:
            if bar is not None:
                bar.close()
        return joined(self.done)

    def _chunk(self, index: np.ndarray) -> Diagnosis:
        everything = len(index) == len(self.x)
        system = self.system if everything else of_members(self.system, index)
        x = self.x[index[0] : index[-1] + 1]
        part = Passed(system, x, self.plan, int(index[0]), self.noise, self.given)
        return diagnosis_of(part, self.identity)
