"""What a result says in numbers and words: for summaries in JSON, and for the points of a sweep."""

import math
from typing import Any

import numpy as np

from ctsa import observables
from ctsa.results.base import as_numpy

_KINDS = ("consensus", "bipartite consensus", "clustering", "polygonal")
# Axes of arrays, where there are other than NAME_0, NAME_1, ...; None: of a length that differs from run to run.
AXES: dict[str, tuple[str, ...] | None] = {
    "exponents": ("exponent",), "exponents_stderr": ("exponent",), "real": ("mode",), "imag": ("mode",),
    "step_sizes": ("step_size",), "end_errors": ("step_size",), "special_parameters": None,
}  # fmt: skip
_MOST = 64  # entries of an array in a summary


def answers(result: Any) -> dict[str, Any]:
    """Return numbers, words and arrays by name: what one asks a result for.

    ``NAME_stderr`` is the standard error of ``NAME``. Results of other kinds give the numbers and words among
    their fields.
    """
    own = _OF.get(type(result).__name__, _fields)
    return {name: _plain(value) for name, value in own(result).items()}


def jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """Return answers as JSON can say them: nan and inf as null, arrays as lists; those of over 64 entries are left out."""
    return {k: _json(v) for k, v in values.items() if np.size(v) <= _MOST}


def _json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "c":
            return {"real": _json(value.real), "imag": _json(value.imag)}
        return [_json(v) for v in value.tolist()]
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    if isinstance(value, complex):
        return {"real": _json(value.real), "imag": _json(value.imag)}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    value = as_numpy(value)
    return value.item() if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim) else value


def _fields(result: Any) -> dict[str, Any]:
    found = {name: getattr(result, name) for name in getattr(result, "__dataclass_fields__", {})}
    return {name: v for name, v in found.items() if isinstance(v, bool | int | float | str | np.generic)}


def _trajectory(r: Any) -> dict[str, Any]:
    end = as_numpy(r.xs)[-1]
    one = end.ndim == 2
    counts = observables.cluster_count(end, gap=1e-2)
    stats = {name: v for name, v in r.stats.items() if isinstance(v, bool | int | float)}
    return {
        "end_time": as_numpy(r.ts)[-1], "clusters": int(counts) if one else np.asarray(counts),
        "order_parameter": as_numpy(observables.order_parameter(end)),
        "effective_rank": as_numpy(observables.effective_rank(end)), **stats,
    }  # fmt: skip


def _lyapunov(r: Any) -> dict[str, Any]:
    found = {"exponents": r.exponents, "exponents_stderr": r.stderr}
    if np.ndim(r.exponents) == 1:  # of an ensemble each member has its own
        found |= {"kaplan_yorke": r.kaplan_yorke, "kaplan_yorke_stderr": r.kaplan_yorke_stderr, "entropy": r.entropy}
        found |= {"entropy_stderr": r.entropy_stderr}
        found |= {"verdict": str(r.verdict.name), "neutral_found": r.neutral_found, "neutral_expected": r.neutral_expected}
    return found


def _jacobian(r: Any) -> dict[str, Any]:
    values = np.asarray(r.eigenvalues)
    return {"real": values.real, "imag": values.imag, "growing": r.growing, **_fields(r)}


def _diagnosis(r: Any) -> dict[str, Any]:
    found = {"rate": r.rate, "radius": r.radius, "exponents": r.exponents, "exponents_stderr": r.stderr}
    found = {name: np.asarray(a) for name, a in found.items()}
    if len(r) == 1:  # one input needs no axis
        return {"verdict": str(np.asarray(r.verdicts)[0]), **{name: a[0] for name, a in found.items()}}
    return {"verdicts": np.asarray(r.verdicts).astype(str), **found}


def _comparison(r: Any) -> dict[str, Any]:
    return {"step_sizes": r.step_sizes, "end_errors": r.end_errors, "order": r.order, "end_order": r.end_order}


def _equilibria(r: Any) -> dict[str, Any]:
    stable = [e for e in r if e.stable]
    return {
        "found": len(r), "stable": len(stable), "stable_kinds": ", ".join(sorted({e.kind for e in stable})),
        **{f"stable_{kind.replace(' ', '_')}": sum(e.kind == kind for e in stable) for kind in _KINDS}, "reason": r.reason,
    }  # fmt: skip


def _basins(r: Any) -> dict[str, Any]:
    shares = r.shares()
    leading = next(iter(shares))
    return {
        "starts": len(r), "most_frequent": leading, "share": shares[leading][0], "share_low": shares[leading][1],
        "share_high": shares[leading][2], "resolved": float(np.mean(r.resolved)), "kinds": len(shares),
    }  # fmt: skip


def _diagram(r: Any) -> dict[str, Any]:
    names = ("folds", "branch_points", "hopf_points")
    points = {n: int(sum(len(getattr(b, n)) for b in r)) for n in names}
    at = sorted(float(p.parameter) for b in r for n in names for p in getattr(b, n))
    return {"branches": len(r), **points, "special_parameters": np.array(at)}


def _monitor(r: Any) -> dict[str, Any]:
    return {f"{name}_{when}": np.asarray(getattr(r, name))[at] for name in
            ("pseudo_energy", "contribution", "complex_share", "norm", "order_parameter")
            if getattr(r, name) is not None and np.ndim(getattr(r, name)) == 1
            for when, at in (("first", 0), ("last", -1))}  # fmt: skip


def _findings(r: Any) -> dict[str, Any]:
    differ = [check.what for check in r.checked if not check.passed]
    checks = {"checks": len(r.checks), "passed": r.passed, "differ": differ} if r.checks else {}
    return {**_fields(r), **checks}


_OF = {
    "Trajectory": _trajectory, "LyapunovSpectrum": _lyapunov, "JacobianSpectrum": _jacobian, "Diagnosis": _diagnosis,
    "Comparison": _comparison, "Equilibria": _equilibria, "Basins": _basins, "Diagram": _diagram, "MonitorRecord": _monitor,
    "Findings": _findings,
}  # fmt: skip
