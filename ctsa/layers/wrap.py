"""Make a layer of any module or callable, so that every analysis takes it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ctsa import checks
from ctsa._backend import autodiff, backend, framework, half
from ctsa.calling import Calling
from ctsa.geometry import Geometry, geometry_of
from ctsa.parts import inner, static

from .base import Layer
from .foreign import first_array, received

Array = Any


class WrappedLayer(Layer):
    """Any module or callable as a layer ``layer(x) -> x`` on a geometry, with Jacobians by forward-mode derivatives.

    ``layer(x) = N(pick(module(scale * x)))`` on the sphere: where every output of the module has the length ``scale``, as
    that of RMSNorm and of LayerNorm without bias, this is the module itself in the coordinates ``x = X / scale``.
    In flat space, ``geometry=ctsa.Euclidean()``, nothing is normalised.

    ``ctsa.WrappedLayer`` takes any callable; ``ctsa.torch.WrappedLayer`` holds an ``nn.Module``, whose fused attention
    kernels, which have no forward-mode derivative, it replaces by plain ones; ``ctsa.jax.WrappedLayer`` holds a pytree.

    Args:
        module: ``module(x)`` returns the next state; of a tuple the first entry is taken, of an output object of
            ``transformers`` the ``last_hidden_state``.
        geometry: where the states live: ``ctsa.Sphere()`` (default), ``ctsa.Euclidean()`` or a geometry of yours.
        scale: length that the module expects of its tokens, a number; sqrt(d) after a LayerNorm.
        batched: the module wants ``(batch, n, d)``; all leading axes of a state are then handed over as one, also none.
        pick: maps what the module returns to the next state, where the rule above does not.
        check: let every analysis look at the module first, see ``ctsa.check_map``.

    A module in float16 or bfloat16 computes in its own precision, on states kept in float32 or float64.

    Raises:
        TypeError: ``module`` is not callable, or does not return an array.
        ValueError: the module changes the shape or the dtype of the state, returns nan, inf or zero tokens, or with
            ``batched`` takes the first axis for the tokens (``batch_first=False``).

    Example:
        >>> import torch, ctsa
        >>> from ctsa.torch import WrappedLayer
        >>> block = torch.nn.TransformerEncoderLayer(8, 2, dtype=torch.float64, batch_first=True).eval()
        >>> layer = WrappedLayer(block, geometry=ctsa.Euclidean(), batched=True)
        >>> tuple(ctsa.jacobian(layer, ctsa.random_tokens(3, 8)).shape)
        (24, 24)
    """

    field = None
    no_flow = "a wrapped module does not say which flow it is a step of; ctsa.effective_step compares it with one"
    module: Any
    scale: float
    batched: bool
    pick: Any
    check: bool
    parts = dict(module=inner(), scale=static(), batched=static(), pick=static(), check=static())

    def __init__(
        self,
        module: Callable[[Array], Any],
        geometry: Geometry | None = None,
        scale: float = 1.0,
        batched: bool = False,
        pick: Callable[[Any], Array] | None = None,
        check: bool = True,
    ):
        if not callable(module):
            raise TypeError(f"module must be callable as module(x), got {type(module).__name__}")
        if pick is not None and not callable(pick):
            raise TypeError(f"pick must be callable, got {type(pick).__name__}")
        own, scale = geometry_of(module, geometry), checks.number("scale", scale, low=0.0, strict=True)
        if scale != 1 and not own.radial:
            raise ValueError(f"scale is the length of tokens on the sphere; in {own.place} leave it at 1")
        first = _tokens_first(module) if batched else None
        if first:
            raise ValueError(
                f"batched=True hands (batch, n, d) to the module, but its {first} has batch_first=False and takes the "
                "first axis for the tokens: it would attend over the batch. Build it with batch_first=True, or set "
                f"module.{first}.batch_first = True"
            )
        self._assign(
            module=module, geometry=own, scale=scale, batched=bool(batched), pick=pick, check=bool(check)
        )  # fmt: skip

    @property
    def home(self):
        """What tells framework and dtype: the layer itself, or its module."""
        return self if framework(self) else self.module

    def tokens(self, u):
        """Return what the module is given at the state ``u``: ``scale * u``."""
        return self.scale * u

    def units(self, x):
        """Return the state at tokens ``x`` of the module, ``N(x)`` on the sphere: the inverse of ``tokens``."""
        return self.geometry.retract(x)

    def run(self, x: Array) -> Any:
        """Call the module."""
        return self.module(x)

    def image(self, x: Array, scale: float) -> Array:
        """Return what the module makes of ``scale * x``, before normalisation, of the shape and dtype of ``x``."""
        be, given = backend(x), x.reshape(-1, *x.shape[-2:]) if self.batched else x
        coarse = half(self.module, be.name) if autodiff(x) else None
        given = scale * given
        note = f"WrappedLayer called the module with {tuple(x.shape)}: batched=True adds a batch axis"
        with Calling(self.module, given, note=note if not self.batched and x.ndim == 2 else ""):
            y = self.run(be.asarray(given, coarse) if coarse else given)
        y = first_array(y) if self.pick is None else self.pick(y)
        hint = "; pass batched=True if it wants a batch axis" if not self.batched else ""
        y = received(be, y, given.shape, x, coarse, "module", hint)
        return y.reshape(x.shape)

    def move(self, x):
        y = self.image(x, self.scale)
        values = None if self.geometry.flat else checks.concrete(y)
        if values is not None:
            r = np.asarray(self.geometry.radius(values.astype(float)))
            if not (np.isfinite(r).all() and r.all()):
                what = "nan or inf" if not np.isfinite(r).all() else "a token that is zero, which has no direction"
                raise ValueError(f"module returned {what}")
        return y

    def describe(self):
        """Return the numbers that matter, for ``repr``."""
        return f"scale={self.scale:g}, {self.geometry}"

    def euler_step(self, x):
        raise ValueError(f"WrappedLayer has no flow: {self.no_flow}")

    def __repr__(self):
        return f"WrappedLayer({type(self.module).__name__}, {self.geometry})"


def _tokens_first(module: Any) -> str | None:
    """Name a part of a module of torch that takes the first axis for the tokens, or None."""
    parts = module.named_modules() if hasattr(module, "named_modules") else ()
    return next((name or "self" for name, part in parts if getattr(part, "batch_first", None) is False), None)
