"""Results in sentences: what each kind says of itself, as lists of plain text."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .pieces import count, short, with_error
from .tokens import observed, on_sphere, one_run


def trajectory(traj: Any) -> list[str]:
    """Say how many tokens ran how far, in how many clusters they ended, and what the solver did."""
    ts, xs, batch = one_run(traj)
    layers = "layers" in traj.stats
    n, d = np.shape(traj.xs)[-2:]
    runs = f" in {count(int(np.prod(batch)), 'run')}" if batch else ""
    if not len(ts):
        return [f"{count(n, 'token')} in {count(d, 'dimension')}{runs}; no state is finite."]
    place = {2: ", on the circle"}.get(d, ", on the sphere") if on_sphere(xs) and d > 1 else ""
    where = f"{count(d, 'dimension')}{place}"
    span = f"layers {ts[0]:g} to {ts[-1]:g}" if layers else f"t = {short(float(ts[0]))} to {short(float(ts[-1]))}"
    found = [f"{count(n, 'token')} in {where}{runs}, {span}."]
    if len(ts) < np.shape(traj.ts)[-1]:
        found.append(f"Only the first {len(ts)} of {np.shape(traj.ts)[-1]} states are finite.")
    ends = observed(xs[[0, -1]])
    when = f"layer {ts[-1]:g}" if layers else f"t = {short(float(ts[-1]))}"
    which = " of the first run" if batch else ""
    if "clusters" in ends:
        found.append(f"{count(int(ends['clusters'][-1]), 'cluster')}{which} at {when}.")
    if "order parameter" in ends:
        r = ends["order parameter"]
        found.append(f"The order parameter goes from {short(r[0])} to {short(r[-1])}.")
    stats = traj.stats
    steps = np.asarray(stats.get("steps", np.nan), float)
    if steps.size and np.isfinite(steps).all():
        rejected = np.asarray(stats.get("rejected", 0), float)
        found.append(f"The solver took {_range(steps)} steps and rejected {_range(rejected)}.")
    if np.any(np.asarray(stats.get("stopped", False))):
        found.append("The run was stopped by its condition.")
    return found


def _range(values: Any) -> str:
    low, high = (short(float(v)) for v in (np.min(values), np.max(values)))
    return low if low == high else f"{low} to {high}"


def spectrum(spec: Any) -> list[str]:
    """Say the largest exponent, the neutral ones, the verdict, and the dimension."""
    unit = "unit of time" if spec.continuous else "layer"
    length = f"{short(float(spec.duration))} {'units of time' if spec.continuous else 'layers'}"
    if spec.exponents.ndim > 1:
        every = spec.exponents.reshape(-1, spec.exponents.shape[-1])
        lead = f"{short(spec.mean[0])} with a spread of {short(spec.spread[0])}"
        return [f"{len(every)} runs over {length}: the largest exponent is {lead}, per {unit}."]
    found = [f"The largest exponent is {with_error(spec.exponents[0], spec.stderr[0])} per {unit}, over {length}."]
    found.append(f"{count(spec.neutral_found, 'neutral exponent')}, {spec.neutral_expected} expected.")
    found.append(f"Verdict: {spec.verdict}.".replace("..", ".").replace("+-", "±"))
    if len(spec.exponents) < spec.dimension:
        found.append(f"{len(spec.exponents)} of {spec.dimension} exponents were computed.")
    if np.isfinite(spec.kaplan_yorke) and spec.kaplan_yorke > 0:
        found.append(
            f"The Kaplan\N{EN DASH}Yorke dimension is {with_error(spec.kaplan_yorke, spec.kaplan_yorke_stderr)}."
        )
    if np.any(spec.few):
        found.append("The run is short: error bars are rough guesses.")
    return found


def comparison(result: Any) -> list[str]:
    """Say how the error falls with the step, and what the layers do that the flow does not."""
    steps = np.asarray(result.step_sizes)
    end, sizes = short(np.max(result.ts)), count(len(steps), "step size")
    found = [f"{result.scheme.capitalize()} layers of {sizes} beside their flow to t = {end}."]
    if np.isfinite(result.order):
        found.append(f"The largest error falls with the power {result.order:.2f} of the step.")
    least = int(np.argmin(steps))
    found.append(f"With the smallest step, {short(steps[least])}, it is {result.worst_errors[least]:.2g}.")
    same = np.asarray(result.same_end)
    found.append(f"{int(same.sum())} of {len(same)} end where the flow does.")
    found += [f"Artefact: {a}." for a in result.artefacts] or ["No artefacts of finite steps were found."]
    return found


def equilibria(found: Any) -> list[str]:
    """Say how many there are of each kind, and how the search ended."""
    if not len(found):
        text = ["No equilibrium was found."]
    else:
        kinds = Counter(f"{e.kind} ({e._verdict.split(' (')[0]})" for e in found).most_common()
        number = count(len(found), "equilibrium", "equilibria")
        text = [f"{number} up to symmetry: {_listed(f'{n} {kind}' for kind, n in kinds)}."]
    if getattr(found, "reason", ""):
        text.append(f"The search ended: {found.reason}.".replace("..", "."))
    return text


def equilibrium(e: Any) -> list[str]:
    """Say what kind it is, whether it is stable, and its leading eigenvalue."""
    lead = np.asarray(e.eigenvalues)
    sizes = " + ".join(str(m) for m in sorted(np.ravel(e.multiplicities).tolist(), reverse=True))
    found = [f"{e.kind.capitalize()} of {sizes} tokens, {e._verdict}."]
    if lead.size:
        found.append(f"The largest real part of an eigenvalue is {short(float(lead.real.max()))}.")
    if e.neutral:
        found.append(f"{count(e.neutral, 'eigenvalue')} vanish, {e.neutral_symmetry} of them by symmetry.")
    return found


def limit_cycle(cycle: Any) -> list[str]:
    """Say the period, and whether it attracts."""
    return [f"A {'stable' if cycle.stable else 'unstable'} {cycle.kind} of period {short(float(cycle.period))}."]


def fixed_points(found: Any) -> list[str]:
    """Say how many there are and how stable they are."""
    kinds = Counter(np.asarray(found.stability).tolist())
    what = "fixed point" if type(found).__name__ == "FixedPoints" else f"cycle of period {found.period}"
    many = what.replace("point", "points").replace("cycle", "cycles")
    text = [
        f"{count(len(found), what, many)}: {_listed(f'{v} {k}' for k, v in kinds.items())}."
        if len(found)
        else f"No {what} was found."
    ]
    text.append(f"{len(found.member)} starts, of which {found.undecided} led to none and {found.left} diverged.")
    if len(found):
        text.append(f"The smallest spectral radius is {short(float(found.radius.min()))}.")
    return text


def basins(result: Any) -> list[str]:
    """Say where most starts went."""
    shares = result.shares()
    text = [
        f"{count(len(result), 'start')} led to {count(sum(not k.startswith('unresolved') for k in shares), 'limit')}."
    ]
    for name, (share, low, high) in list(shares.items())[:3]:
        verb = "are" if name.startswith("unresolved") else "went to"
        text.append(f"{share:.0%} {verb} {name} ({100 * result.confidence:g} % interval {low:.0%} to {high:.0%}).")
    return text


def branch(result: Any) -> list[str]:
    """Say the range, the stable share, and the special points."""
    p = np.asarray(result.parameters)
    span = f"{result.parameter} from {short(p.min())} to {short(p.max())}"
    text = [f"{count(len(result), 'point')} for {span}, {np.mean(result.stable):.0%} stable."]
    for point in result.points[:8]:
        kind = "Hopf point" if point.kind == "Hopf" else point.kind.capitalize()
        text.append(f"{kind} at {result.parameter} = {short(float(point.parameter))}.")
    return text


def diagram(result: Any) -> list[str]:
    """Say how many branches there are and what connects them."""
    kinds = Counter(point.kind for b in result for point in b.points)
    low, high = (short(float(v)) for v in result.span)
    text = [
        f"{count(len(result), 'branch', 'branches')} for {result.parameter} from {low} to {high} ({result.reason})."
    ]
    if kinds:
        text.append(
            "Special points: "
            + _listed(count(v, k if " " in k else f"{k} point") for k, v in kinds.most_common())
            + "."
        )
    return text


def diagnosis(result: Any) -> list[str]:
    """Say what the inputs do, and why."""
    counts = result.counts
    text = [f"Verdict on {count(len(result), 'input')} over {result.loops} loops: {result.verdict}."]
    if len(counts) > 1:
        text.append(_listed(f"{v} {k}" for k, v in counts.items()).capitalize() + ".")
    for kind in list(counts)[:3]:
        i = result.verdicts.index(kind)
        text.append(f"{kind.capitalize()}, as input {i}: {result.why[i]}.".replace("..", ".").replace("+-", "±"))
    if result.exponents.shape[1]:
        top = int(np.nanargmax(result.exponents[:, 0])) if np.isfinite(result.exponents[:, 0]).any() else 0
        text.append(
            f"The largest exponent is {with_error(result.exponents[top, 0], result.stderr[top, 0])} per loop (input {top})."
        )
    return text


def monitor(result: Any) -> list[str]:
    """Say how each monitor went from start to end."""
    unit = "t" if result.continuous else "layer"
    text = [f"{count(len(result.ts), 'state')}, {unit} {short(float(result.ts[0]))} to {short(float(result.ts[-1]))}."]
    for name in ("pseudo_energy", "contribution", "complex_share", "norm", "order_parameter"):
        values = np.asarray(getattr(result, name), float)
        if name not in result.missing and np.isfinite(values).any():
            values = values[np.isfinite(values)]
            text.append(f"{name.replace('_', ' ').capitalize()}: {short(values[0])} to {short(values[-1])}.")
    return text + [f"Left out: {name.replace('_', ' ')}, which {why}." for name, why in result.missing.items()]


def energy_report(result: Any) -> list[str]:
    """Say what was expected of the energy, and whether it held."""
    verb = "rise" if result.sign > 0 else "fall"
    why = f"by a theorem ({result.why})" if result.theorem else f"though no theorem says so ({result.why})"
    seen = "It did." if result.held else f"It did not: by {result.violation:.3g} at t = {short(float(result.at))}."
    return [f"The energy is expected to {verb}, {why}.", seen]


def leading(result: Any) -> list[str]:
    """Say the leading value."""
    values = np.asarray(result.values)
    if values.ndim > 1:
        return [f"Leading {values.shape[-1]} values of {count(int(np.prod(values.shape[:-1])), 'state')}."]
    what = "flow" if result.continuous else "layer"
    text = [f"{count(len(values), 'leading value')} of the Jacobian of a {what}; the first is {short(values[0])}."]
    return [*text, f"The largest residual is {np.max(result.residuals):.1e}."]


def jacobian_spectrum(result: Any) -> list[str]:
    """Say what grows in the end, and what at once."""
    values = np.asarray(result.eigenvalues)
    what, border = ("flow", "real part") if result.continuous else ("layer", "modulus")
    text = [f"{count(len(values), 'eigenvalue')} of the Jacobian of a {what}, {result.growing} of them growing."]
    text.append(f"The largest {border} is {short(float((values.real if result.continuous else np.abs(values)).max()))}.")
    if result.continuous:
        return [*text, f"At once a perturbation grows by at most {short(result.abscissa)} per unit of time."]
    return [*text, f"One layer stretches a perturbation by at most {short(result.norm)}."]


def jacobian_norms(result: Any) -> list[str]:
    """Say whether the bound holds."""
    verdict = "holds" if result.holds else "does not hold"
    return [f"The layer's Jacobian has the norm {short(result.norm)}; the bound {short(result.bound)} {verdict}."]


def training_run(run: Any) -> list[str]:
    """Say how the loss went, and how accurate the model became."""
    text = [f"{count(len(run.losses), 'step')} on {run.task}, {short(float(run.seconds))} seconds."]
    if len(run.losses):
        end = float(np.mean(np.asarray(run.losses)[-50:]))
        last = f"mean of the last {min(50, len(run.losses))}"
        text.append(f"The loss goes from {short(float(run.losses[0]))} to {short(end)} ({last}).")
    if len(run.accuracy):
        text.append(f"Validation accuracy at the end: {run.accuracy[-1]:.1%}.")
    if run.diverged is not None:
        text.append(f"Training diverged at step {run.diverged}.")
    return text


def evaluation(result: Any) -> list[str]:
    """Say the accuracy at the best depth."""
    best = int(np.argmax(result.accuracy))
    text = f"The best accuracy is {with_error(100 * float(result.accuracy[best]), 100 * float(result.error[best]))} %"
    return [f"{text} at depth {short(float(result.depths[best]))}, on {result.task}."]


def findings(result: Any) -> list[str]:
    """Return the title and the notes."""
    return [result.title if result.title.endswith(("?", ".")) else f"{result.title}.", *result.notes]


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts)


SAYS: dict[str, Callable[[Any], list[str]]] = {
    "Trajectory": trajectory, "LyapunovSpectrum": spectrum, "Comparison": comparison, "Equilibria": equilibria,
    "Equilibrium": equilibrium, "LimitCycle": limit_cycle, "FixedPoints": fixed_points, "Cycles": fixed_points,
    "Basins": basins, "Branch": branch, "Diagram": diagram, "Diagnosis": diagnosis, "MonitorRecord": monitor,
    "EnergyReport": energy_report, "Leading": leading, "JacobianSpectrum": jacobian_spectrum,
    "JacobianNorms": jacobian_norms, "TrainingRun": training_run, "Evaluation": evaluation, "Findings": findings,
}  # fmt: skip


def say(result: Any, kind: str) -> list[str]:
    """Return the sentences of a result; of a kind that is not known here what its ``repr`` says."""
    say_so = SAYS.get(kind)
    if say_so:
        return say_so(result)
    text = repr(result).removeprefix(f"{type(result).__name__}(").removesuffix(")")
    return [f"{text.rstrip('.')}."] if len(text) < 400 and "\n" not in text else []
