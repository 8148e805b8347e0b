"""Checks of what users pass in: each error names the argument, what was wanted, what came, and what to try."""

import inspect
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ._backend import autodiff, backend, dtype_name, framework, graded, load, modules, placed, rounding, spread
from .parts import everything, walk

Array = Any
# Nothing of this size is begun; what fits may still be slow.
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**36
_SINGLE = 4e-6  # how far from 1 lengths are that were normalised in float32


def number(name: str, value: Any, *, low: float = -math.inf, strict: bool = False) -> float:
    """Return ``value`` as a finite float of at least (``strict``: above) ``low``."""
    if graded(value):
        raise TypeError(f"{name} requires a gradient, but as a number it has none: pass float({name}.detach())")
    try:
        x = float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(x) or x < low or (strict and x == low):
        bound = "" if low == -math.inf else f" {'above' if strict else 'of at least'} {low:g}"
        raise ValueError(f"{name} must be a finite number{bound}, got {value!r}")
    return x


def numbers(name: str, value: Any) -> np.ndarray:
    """Return a number or an array of them as float64, all finite."""
    try:
        a: Any = np.asarray(value)
        a = None if np.iscomplexobj(a) else a.astype(float)
    except (TypeError, ValueError):
        a = None
    if a is None:
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r:.60}") from None
    if value is None or not np.isfinite(a).all():
        raise ValueError(f"{name} must be finite, got {value!r:.60}")
    return a


def integer(name: str, value: Any, *, low: int = 0) -> int:
    """Return ``value`` as an int of at least ``low``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        i = value.__index__()
    except TypeError:  # an array of several
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if i < low:
        raise ValueError(f"{name} must be an integer of at least {low}, got {i}")
    return i


def constant(name: str, value: Any) -> Any:
    """Return ``value``, through which no gradient passes; refuse a tensor of PyTorch that requires one."""
    if getattr(value, "requires_grad", False):
        raise TypeError(f"{name} requires a gradient, but is a constant, which has none: pass {name}.detach()")
    return value


def seed(value: Any, name: str = "seed") -> int:
    """Return ``value`` as the seed of a NumPy Generator: an integer of at least 0."""
    return integer(name, value)


def flag(name: str, value: Any, unset: bool = False) -> bool | None:
    """Return ``value`` if it is True or False (or None, where ``unset``)."""
    if isinstance(value, (bool, np.bool_)) or (unset and value is None):
        return value if value is None else bool(value)
    raise TypeError(f"{name} must be True or False{', or None' if unset else ''}, got {value!r}")


def arity(function: Any) -> int:
    """Count the positional arguments without default of a callable; -1 where that cannot be told."""
    try:
        parameters = inspect.signature(getattr(function, "forward", function)).parameters.values()
    except (TypeError, ValueError):
        return -1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return -1
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def room(what: str, entries: float, itemsize: int = 8, remedy: str = "") -> None:
    """Raise ValueError if arrays of so many entries cannot fit into the memory of this machine."""
    size = float(entries) * itemsize
    if size > MEMORY:
        raise ValueError(
            f"{what} would need {size / 2**30:.3g} GiB, more than the {MEMORY / 2**30:.3g} GiB of this machine"
            f"{': ' + remedy if remedy else ''}"
        )


def states(x: Any, name: str = "x", finite: bool = False) -> Array:
    """Return states ``(..., n, d)`` for an observable: lists become NumPy, the rank is checked.

    Raises:
        TypeError: not floating numbers.
        ValueError: fewer than two axes, an empty one, or (``finite``) nan or inf.
    """
    if x is None:
        raise TypeError(f"{name} must be an array (..., n, d), got None")
    a = plain(name, x)
    kind = dtype_name(a)
    if a.dtype == object:
        a = a.astype(float)
    elif "float" not in kind:
        if framework(a) != "numpy" or kind == "bool":
            raise TypeError(f"{name} must be floating, got {kind}: convert it")
        a = a.astype(float)
    if a.ndim < 2 or 0 in tuple(a.shape)[-2:]:
        raise ValueError(f"{name} must have shape (..., n, d) with n and d at least 1, got {tuple(a.shape)}")
    values = concrete(a) if finite else None
    if values is not None and not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got nan or inf")
    return a


def choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    allowed = sorted(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def plain(name: str, value: Any) -> Any:
    """Return lists and scalars as NumPy arrays, arrays as they are; refuse what is not numeric."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and any(autodiff(v) for v in value):
        value = _stacked(name, value)
    own = framework(value) is not None and hasattr(value, "dtype")
    try:
        a = value if own else np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array, got nested lists of unequal lengths") from None
    kind = getattr(a.dtype, "name", str(a.dtype)).rpartition(".")[2]
    if not kind.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise TypeError(f"{name} must be real numbers, got {type(value).__name__} ({kind})")
    # Lists and Python numbers are weakly typed, like integers: they take the dtype of the arrays beside them.
    return a if own or a.dtype.kind != "f" else a.astype(object)


def _stacked(name: str, parts: list | tuple) -> Array:
    """Return a list of arrays, numbers among them, as one array of their framework, on the graph that they are on."""
    arrays = [v for v in parts if autodiff(v) and hasattr(v, "shape")]
    if not arrays or len({framework(v) for v in arrays}) > 1:
        raise TypeError(
            f"{name} must be an array or a list of arrays of one framework, got a list of "
            f"{', '.join(sorted({type(v).__name__ for v in parts}))}"
        )
    be = backend(arrays[0])
    try:
        return be.xp.stack([be.like(v, arrays[0]) for v in parts])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is a list of arrays that do not stack ({error}): pass one array") from None


def concrete(x: Array) -> np.ndarray | None:
    """Return the values as NumPy, or None where they are not known yet (under jit, vmap or grad)."""
    if isinstance(x, np.ndarray):
        return x.astype(float) if x.dtype == object else x
    return backend(x).concrete(x)


def finite(x: Array) -> bool | None:
    """Tell whether all values are finite, on the devices where they lie; None where they are not known yet."""
    if spread(x):
        return bool(backend(x).xp.isfinite(x).all())
    values = concrete(x)
    return None if values is None else bool(np.isfinite(values).all())


def parameter(name: str, value: Any, *ranks: int) -> Any:
    """Check one parameter of a field: an array of one of the given ranks, with finite entries."""
    a = plain(name, value)
    if a is None:
        return None
    if a.ndim not in ranks:
        wanted = " or ".join(f"{r}-dimensional" if r else "a number" for r in ranks)
        wanted = wanted if len(ranks) < 4 else f"an array of {ranks[0]} to {ranks[-1]} axes"
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(a.shape)}")
    if 0 in a.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(a.shape)}")
    values = concrete(a)
    if values is not None and not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(values)).sum())} entries that are nan or inf")
    return a


def fits(name: str, array: Any, axis: int, size: int, why: str) -> None:
    """Raise unless ``array.shape[axis] == size``."""
    if array is not None and array.shape[axis] != size:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, but axis {axis} must be {size} to match {why}")


def attention_mask(mask: Any, normalised: bool = True) -> Any:
    """Check a mask ``(n, n)`` or ``(heads, n, n)``: non-negative, and no empty row where rows are normalised."""
    values = None if mask is None else concrete(constant("mask", mask))
    if values is None:
        return mask
    if values.shape[-1] != values.shape[-2]:
        raise ValueError(f"mask must be square (n, n), got shape {values.shape}")
    if (values < 0).any():
        raise ValueError("mask must be booleans or non-negative numbers that multiply the weights, got negative ones")
    if normalised and not values.any(-1).all():
        row = int(np.argwhere(~values.any(-1))[0][-1])
        raise ValueError(f"mask row {row} is empty: token {row} would attend to nothing")
    return mask


def common_dtype(values: Iterable[Any]) -> str | None:
    """Name the widest floating dtype among the arrays that have one; None where all are lists, numbers or integers."""
    names = {dtype_name(v) for v in values if v is not None}
    floating = [n for n in names if n.startswith(("float", "bfloat"))]
    return max(floating, key=lambda n: (int(n.lstrip("bfloat")), not n.startswith("b"))) if floating else None


def tokens(x0: Any, field: Any, geometry: Any, *, normalize: bool | None = False, name: str = "x0") -> Array:
    """Check and convert a state: to the field's framework and dtype, finite, unit tokens.

    Tokens that are unit to the rounding of float32 are accepted and normalised. ``normalize=None`` is for functions that
    have no such argument to advise.

    Raises:
        TypeError: no framework can be told, frameworks are mixed, or the array is not floating.
        ValueError: wrong rank, empty, nan or inf, zero rows, rows that are not unit (says how far off), dtypes differ.
    """
    if x0 is None:
        raise TypeError(f"{name} must be an array (..., n, d), got None")
    if normalize is not None:
        flag("normalize", normalize)
    own, came = framework(field), framework(x0)
    if own is None and came in (None, "numpy"):
        raise TypeError(
            f"{name} is {type(x0).__name__} and the field is a plain callable, so the framework is unknown: "
            f"pass {name} as a torch.Tensor or a jax.Array"
        )
    home = own or came
    assert home is not None
    if came not in (None, "numpy", home):
        raise TypeError(
            f"{name} is an array of {came}, but the field is one of {home}: convert {name} with numpy.asarray"
        )
    be = load(home)
    x = plain(name, x0)
    kind = dtype_name(x)
    if x.dtype != object and "float" not in kind:
        raise TypeError(f"{name} must be floating, got {kind}: convert it, e.g. {name}.astype(float)")
    reference = modules(home).reference(field)
    if came in (None, "numpy"):
        x = be.asarray(x, None if reference is None else dtype_name(reference), reference, name)
    elif reference is not None and x.dtype != reference.dtype:
        raise ValueError(f"{name} is {x.dtype} but the field's parameters are {reference.dtype}: convert one of them")
    if x.ndim == 1 and len(x):
        raise ValueError(
            f"{name} must have shape (..., n, d), got {tuple(x.shape)}: a system of {len(x)} variables is one token, "
            f"{name}[None]"
        )
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name} must have shape (..., n, d) with n and d at least 1, got {tuple(x.shape)}")
    geometry.check_dimension(x.shape[-1])
    fit_field(field, x.shape, name)
    return _unit(be, placed(x, name), geometry, normalize, name)


def given(x: Any, field: Any, name: str = "x", axis: bool = False) -> Array:
    """Check what a field or layer of ours is called with: convert NumPy and lists, compare framework, dtype and sizes.

    Values are not looked at, so that it costs nothing under a transform, and little outside.

    Args:
        x: state ``(..., n, d)``.
        field: the field or layer.
        name: of the argument.
        axis: ``x`` are directions ``(k, ..., n, d)``.
    """
    home = framework(field)
    if home is None:
        return x
    be = load(home)
    reference = modules(home).reference(field)
    if framework(x) != home or not hasattr(x, "dtype"):
        if x is None or isinstance(x, (str, bytes)) or callable(x) or framework(x) not in (None, "numpy"):
            came = type(x).__name__ if framework(x) in (None, "numpy", home) else f"an array of {framework(x)}"
            raise TypeError(f"{name} must be an array (..., n, d) of {home}, or NumPy, got {came}")
        kind = None if reference is None else dtype_name(reference)
        x = be.asarray(states(x, name), kind, reference, name)
    if x.ndim < 2 + axis or 0 in tuple(x.shape)[-2:]:
        wanted = "directions (k, ..., n, d)" if axis else "(..., n, d)"
        hint = f": a system of {x.shape[0]} variables is one token, {name}[None]" if x.ndim == 1 and not axis else ""
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}{hint}")
    kind = dtype_name(x)
    if "float" not in kind:
        raise TypeError(f"{name} must be floating, got {kind}: convert it")
    if reference is not None and x.dtype != reference.dtype:
        raise ValueError(f"{name} is {x.dtype} but the parameters are {reference.dtype}: convert one of them")
    fit_field(field, x.shape[1:] if axis else x.shape, name)
    return x


def directions(x: Any, u: Any) -> None:
    """Raise ValueError unless ``u`` are directions ``(k, ..., n, d)`` at a state ``(..., n, d)``."""
    for name, a, least in (("x", x, 2), ("u", u, 3)):
        if not hasattr(a, "shape"):
            raise TypeError(f"{name} must be an array, got {type(a).__name__}")
        if len(a.shape) < least:
            wanted = "directions (k, ..., n, d)" if name == "u" else "(..., n, d)"
            hint = ": u[None] is one direction" if name == "u" and tuple(a.shape) == tuple(x.shape) else ""
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(a.shape)}{hint}")
    if tuple(u.shape[1:]) != tuple(x.shape):
        raise ValueError(f"u must be directions (k, {str(tuple(x.shape))[1:]} at x, got shape {tuple(u.shape)}")


def _shaped(field: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield name, axes and value of every array with axes in a field or layer of ours, and in its parts."""
    for path, part, a in walk(field):
        if part.axes and bool(getattr(a, "ndim", 0)):
            yield str(path[-1]), part.axes, a


def fit_field(field: Any, shape: Iterable[int], name: str = "x0") -> None:
    """Raise ValueError if a parameter of a field or layer of ours does not fit states of a shape ``(..., n, d)``.

    Inputs may have the leading axes of a batch of states.
    """
    *batch, n, d = shape
    for part in _attending(field):
        if not getattr(part, "in_blocks", lambda n: False)(n):
            count = float(np.prod(batch, dtype=float)) * part.heads.count * float(n) ** 2
            what = f"attention among {n} tokens, with a score for each pair,"
            room(what, 2 * count, remedy="take fewer tokens, or how='chunked'")
    for key, axes, a in _shaped(field):
        if key == "input" and a.ndim > 2 and not _broadcasts(tuple(a.shape[:-2]), tuple(batch)):
            raise ValueError(
                f"{name} has batch axes {tuple(batch)}, but the field's input has {tuple(a.shape[:-2])} "
                f"(shape {tuple(a.shape)}): give every state of the batch its input, or take one, input[0]"
            )
        if any(size != {"n": n, "d": d}[c] for c, size in axis_sizes(axes, tuple(a.shape))):
            shape = tuple(a.shape)
            raise ValueError(f"{name} has n={n} tokens of dimension d={d}, but the field's {key} has shape {shape}")


def one_input(field: Any) -> None:
    """Raise ValueError if inputs of a field of ours have batch axes, where states are not those of a batch."""
    for key, _, a in _shaped(field):
        if key == "input" and a.ndim > 2:
            raise ValueError(
                f"field has an input of shape {tuple(a.shape)}, for a batch of states, but this is about one flow: loop "
                "over the inputs, a field each"
            )


def _attending(field: Any) -> Iterator[Any]:
    """Return the fields within a field or layer of ours that have a score for each pair of tokens."""
    return (each for each in everything(field) if hasattr(each, "heads") and hasattr(each, "drift"))


def _broadcasts(given: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    """Whether axes broadcast to those of a batch without adding any."""
    tail = batch[len(batch) - len(given) :]
    return len(given) <= len(batch) and all(g in (1, b) for g, b in zip(given, tail, strict=True))


def sizes(field: Any) -> dict[str, int]:
    """Return what the parameters of a field or layer of ours fix: numbers "n" of tokens and "d" of components."""
    shape = getattr(field, "state_shape", None)  # of a loop of several parts
    found: dict[str, int] = {} if shape is None else dict(zip("nd", shape, strict=True))
    for _, axes, a in _shaped(field):
        found.update(axis_sizes(axes, tuple(a.shape)))
    return found


def axis_sizes(axes: str, shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """Return what the last axes of an array say of the numbers "n" of tokens and "d" of components."""
    pairs = zip(axes[len(axes) - len(shape) :] if len(shape) < len(axes) else axes, shape[-len(axes) :], strict=True)
    return [("d", 2 * size) if c == "p" else (c, size) for c, size in pairs if c in "ndp"]


def _unit(be: Any, x: Array, geometry: Any, normalize: bool | None, name: str) -> Array:
    slack = 1e3 * rounding(x)
    if spread(x) and not normalize:  # looked at where it lies; what is wrong is said below
        if bool(be.xp.isfinite(x).all() & (be.xp.abs(geometry.radius(x) - 1) <= slack).all()):
            return x
    values = concrete(x)
    if values is None:  # traced: the same conditions, checked when the program runs
        r = geometry.radius(x)
        x = be.guard(x, be.xp.isfinite(x).all() & (r > 0).all(), f"{name} has nan, inf or zero tokens")
        if normalize:
            return geometry.retract(x)
        near, what = be.xp.abs(r - 1), "have unit tokens; normalise them" if geometry.unit else f"lie on {geometry.place}"
        x = be.xp.where(near.max() <= slack, x, geometry.retract(x))
        return be.guard(x, (near <= max(slack, _SINGLE)).all(), f"{name} must {what}")
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"{name} must be finite, got nan or inf, first at index {tuple(int(i) for i in bad)}")
    with np.errstate(all="ignore"):
        radii = np.asarray(geometry.radius(values))
    if not (radii > 0).all():
        at = tuple(int(i) for i in np.argwhere(~(radii > 0))[0][:-1])
        if not geometry.radial:
            raise ValueError(f"{name} has a token at index {at} that stands for no point of {geometry.place}")
        raise ValueError(f"{name} has a zero token at index {at}: it has no direction")
    off = float(np.abs(radii - 1).max())
    if normalize:
        return geometry.retract(x)
    if off <= slack:
        return x
    if off <= _SINGLE:
        return geometry.retract(x)
    if not geometry.unit:
        cure = f"geometry.retract({name})" if normalize is None else "normalize=True"
        raise ValueError(f"{name} must lie on {geometry.place}, but a token is off by up to {off:.3g}: pass {cure}")
    cure = f"normalise it, ctsa.Sphere().retract({name})" if normalize is None else "pass normalize=True"
    raise ValueError(
        f"{name} must have unit tokens, but a length differs from 1 by up to {off:.3g}: {cure}, or take a field with "
        "geometry=ctsa.Euclidean() if its states do not live on the sphere"
    )


def output_times(ts: Any, name: str = "ts", eps: float = 0.0) -> np.ndarray:
    """Check output times: one-dimensional, at least two, finite, strictly increasing or strictly decreasing.

    Solvers step from one to the next, so they must be further apart than the shortest step, ``16 eps max |t|``.
    """
    every = list(ts) if isinstance(ts, (list, tuple)) else [ts]
    if any(graded(t) for t in every):
        raise TypeError(
            f"{name} requires a gradient, which does not pass through output times (it is the velocity there): pass "
            f"{name} without, e.g. {name}.detach()"
        )
    if isinstance(ts, (list, tuple)):
        ts = [backend(t).to_numpy(t) if autodiff(t) else t for t in ts]
    if autodiff(ts):
        values = backend(ts).concrete(ts)
        if values is None:
            raise TypeError(f"{name} must be known when the solve is built: pass NumPy times, not a traced array")
        ts = values
    a = np.asarray(ts)
    if a.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got {a.dtype}")
    a = a.astype(np.float64)
    if a.ndim != 1 or len(a) < 2:
        raise ValueError(f"{name} must be at least two times, the first being that of x0, got shape {a.shape}")
    if not np.isfinite(a).all():
        raise ValueError(f"{name} must be finite")
    steps = np.diff(a)
    if not ((steps > 0).all() or (steps < 0).all()):
        i = int(np.argmax(steps * np.sign(a[-1] - a[0] or 1) <= 0))
        raise ValueError(
            f"{name} must increase strictly (or decrease strictly, to run backward): "
            f"{name}[{i}]={a[i]:g}, {name}[{i + 1}]={a[i + 1]:g}"
        )
    gaps, shortest = np.abs(steps), 16 * eps * float(np.abs(a).max())
    if gaps.min() < shortest:
        i = int(np.argmin(gaps))
        raise ValueError(
            f"{name}[{i}] and {name}[{i + 1}] are {gaps[i]:.2g} apart, less than the shortest step there can be, "
            f"{shortest:.2g}: leave one out"
        )
    return a


def tolerances(rtol: Any, atol: Any, dtype: Any, eps: float) -> tuple[float, float]:
    """Check rtol >= 0 and atol > 0, and that the dtype can hold them."""
    rtol, atol = number("rtol", rtol, low=0.0), number("atol", atol, low=0.0, strict=True)
    floor = 8 * eps
    if rtol + atol < floor:
        first, _, kind = str(dtype).rpartition(".")
        remedy = "loosen atol, or pass float64 tokens and parameters"
        if not first and kind != "float64":  # of JAX
            remedy += ' (after jax.config.update("jax_enable_x64", True), first thing in your program)'
        raise ValueError(f"atol={atol:g} with rtol={rtol:g} is below what {kind} can hold ({floor:.1g}): {remedy}")
    return rtol, atol
