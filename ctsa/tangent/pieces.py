"""Advance state and frame by one interval in pieces: layers, and flows whose steps another library takes."""

from typing import Any, NamedTuple

from ctsa._backend import backend, rounding
from ctsa.derivatives import layer_pushforward, pushforward, variational

from .coordinates import reorthonormalise

Array = Any
_BURST = 3.0  # a piece with that many times more is done again
_PIECE = 1.0  # most growth or decay, in powers of e, between two reorthonormalisations inside an interval


# ------------------------------------------------------------------------------------------- what is kept of an interval
class Rule(NamedTuple):
    """What is kept of an interval: triangular factors folded into one total, and a row made of what it ends with."""

    begin: Any  # (..., k) -> the total of no factor
    fold: Any  # (total, factor) -> total
    row: Any  # (looks, x, u, v) -> tuple of arrays
    moving: bool  # whether it looks at the velocity v


def log_diagonal(r: Array) -> Array:
    """Return the logarithms of the diagonal: of the growth factors, if ``r`` is triangular."""
    xp = backend(r).xp
    return xp.log(xp.linalg.diagonal(r))


def _one(like: Array) -> Array:
    be = backend(like)
    return be.eye(like.shape[-1], like) + be.xp.zeros_like(like)[..., None, :]


def _compound(total: Array, r: Array) -> Array:
    return r @ total


def _zero(like: Array) -> Array:
    return backend(like).xp.zeros_like(like)


def _add_logs(total: Array, r: Array) -> Array:
    return total + log_diagonal(r)


def longest(y: Array) -> Array:
    """Return the length of the longest token, ``(..., n, d)`` to ``(...)``, without overflow in between."""
    xp = backend(y).xp
    largest = xp.amax(xp.abs(y), (-2, -1))
    scale = xp.where(largest > 0, largest, xp.ones_like(largest))
    return scale * xp.amax(((y / scale[..., None, None]) ** 2).sum(-1), -1) ** 0.5


def _flat(y: Array) -> Array:
    return y.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])


def _state_and_frame(looks: Array, x: Array, u: Array, v: Array) -> tuple:
    return x, u


def _motion(looks: Array, x: Array, u: Array, v: Array) -> tuple:
    """Return coordinates of state and velocity along the columns of ``looks``, the largest velocity, the longest token."""
    return _flat(x) @ looks, _flat(v) @ looks, longest(v), longest(x)


FULL = Rule(_one, _compound, _state_and_frame, False)  # triangular factors, states and frames
THIN = Rule(_zero, _add_logs, _motion, True)  # logarithms of growth factors, and what verdicts need


# ------------------------------------------------------------------------------------------------------------ by pieces
def _push_flow(field, g, segment, interval, t, x, u, total, fold):
    """Advance by ``interval`` in pieces over which no direction shrinks or grows by much more than ``exp(_PIECE)``.

    Directions that shrink far below ``atol`` would escape the error control, and directions whose growth differs by more
    than 1e16 cannot be told apart; reorthonormalising in between changes no exponent.
    """
    be = backend(x)
    xp = be.xp
    rhs = be.partial(variational, field, g)

    def going(carry):
        done, _, _, _, _, _, ok = carry
        return ok & (done < interval)

    def piece(carry):
        done, split, taken, x, u, total, ok = carry
        _, du = pushforward(field, t + done, x, u)
        rate = xp.amax(xp.abs((u * du).sum((-2, -1))))  # of growth or decay; turning needs no reorthonormalisation
        left = interval - done
        count = split * xp.ceil(left * rate / _PIECE)
        count = xp.where(count >= split, count, split)
        # Each piece takes a step at least. A hundred times too many will not do, whatever the rate becomes: no need to try.
        hopeful = count <= 100 * segment.max_steps
        (y, v), solved, steps = be.flow_map(rhs, (x, u), t + done, left / count, segment)
        y, v, r = reorthonormalise(g, y, v)
        # The rate at the start does not see a burst ahead: a piece with more growth than that is done again, in halves.
        again = solved & (split < 2**20) & ~(xp.amax(xp.abs(log_diagonal(r))) < _BURST * _PIECE) & xp.isfinite(v).all()
        ok = ok & solved & xp.isfinite(rate)
        taken = taken + (steps if segment.steps is None else 1)  # all pieces of an interval share its steps
        ok = ok & hopeful & (taken <= segment.max_steps)
        end = xp.where(count == 1, interval, done + left / count)

        def keep(old, new):
            return xp.where(again, old, new)

        split = keep(2 * split, 0 * split + 1)
        return keep(done, end), split, taken, keep(x, y), keep(u, v), keep(total, fold(total, r)), ok

    start = (0 * interval, 0 * interval + 1, 0 * interval, x, u, total, xp.isfinite(x).all())
    _, _, _, x, u, total, ok = be.repeat_while(going, piece, start)
    return x, u, total, ok


def _push_layer(layers, g, interval, x, u, total, fold):
    """Also return by how much the last layer moved the state."""
    be = backend(x)
    before = x
    for i in range(interval):
        before = x
        x, u = layer_pushforward(layers[i % len(layers)], x, u)
    ok = be.xp.amax(be.xp.abs(g.radius(x) - 1)) < 1e3 * rounding(x)
    x, u, r = reorthonormalise(g, x, u)
    return x, u, fold(total, r), ok, x - before


def advance(rule: Rule, looks: Array, source: Any, static: tuple, interval: Any, t0: Any, carry: tuple) -> tuple:
    """Advance ``(index, x, u, h)`` by one interval; return it, and the total, whether it went well, and the row.

    The velocity of a layer is its last step. A flow pays one evaluation of the field for it.
    """
    index, x, u, h = carry
    kind, g, segment = static
    total = rule.begin(u[..., 0, 0] if u.ndim == 3 else backend(u).xp.moveaxis(u[..., 0, 0], 0, -1))
    if kind == "flow":
        x, u, total, ok = _push_flow(source, g, segment, interval, t0 + index * interval, x, u, total, rule.fold)
        v = source(t0 + (index + 1) * interval, x) if rule.moving else x
    else:
        layers = source if kind == "layers" else (source,)
        x, u, total, ok, v = _push_layer(layers, g, int(interval), x, u, total, rule.fold)
    return (index + 1, x, u, h), (total, ok, *rule.row(looks, x, u, v))
