"""Derivatives of plain torch functions of few numbers, row by row in one backward pass, faster than vmap(jvp)."""

from collections.abc import Callable
from typing import Any

import torch

from ._compiling import asked

LARGEST = 64  # unknowns up to which all rows of the Jacobian are cheaper than directions


class ByRows:
    """A field ``(t, x)`` or layer ``(x)`` that takes any leading axes, with a ``tangent`` of its own."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args: Any) -> torch.Tensor:
        return self.function(*args)

    def tangent(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the function at ``x`` ``(n, d)`` and its derivative along ``u`` ``(k, n, d)``; ``args`` are [t,] x, u."""
        *before, x, u = args
        size = x.numel()
        with torch.enable_grad():
            copies = x.detach().expand(size, *x.shape).clone().requires_grad_()
            y = self.function(*before, copies)
            unit = torch.eye(size, dtype=x.dtype, device=x.device).view(size, *x.shape)
            (rows,) = torch.autograd.grad(y, copies, unit)
        return y[0].detach(), (u.reshape(len(u), size) @ rows.view(size, size).T).view(u.shape)


def by_rows(function: Any, x: torch.Tensor, before: tuple, forward: Callable) -> Any:
    """Return ``function`` with a ``tangent`` by rows where that is right and fast, else ``function`` itself.

    Args:
        function: a field or layer.
        x: a state ``(n, d)``.
        before: arguments before the state.
        forward: ``forward(u)`` is the derivative along directions ``(k, n, d)`` in forward mode, to compare with.
    """
    if asked() is not None or hasattr(function, "tangent") or x.numel() > LARGEST or x.ndim != 2:
        return function
    made = ByRows(function)
    u = torch.eye(x.numel(), dtype=x.dtype, device=x.device).view(-1, *x.shape)
    try:
        y, du = made.tangent(*before, x, u)
        many = function(*before, torch.stack([x, x + 0.25 * u[0]]))
        apart = torch.stack([function(*before, x), function(*before, x + 0.25 * u[0])])
        want = forward(u)
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return function
    if y.shape != x.shape or many.shape != apart.shape or du.dtype != want.dtype:
        return function
    close = torch.finfo(x.dtype).eps ** 0.5
    same = torch.allclose(many, apart, rtol=close, atol=close) and torch.allclose(du, want, rtol=close, atol=close)
    return made if same else function
