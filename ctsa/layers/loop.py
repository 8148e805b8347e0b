"""A loop model's step as a layer: states of several parts, inputs and the number of the loop as arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ctsa import checks
from ctsa._backend import autodiff, backend, framework, half, load
from ctsa.calling import Calling
from ctsa.parts import inner, static

from .base import Layer
from .foreign import first_array, received
from .packing import Packing, packing_of

Array = Any


class Loop(Layer):
    """The step of a loop model as a layer: ``state -> step(state, inputs, k)``, applied over and over.

    The state may be one array ``(n, d)``, or a tuple or dict of arrays of any shape, ``parts=``, each on a manifold of its
    own. ``inputs`` are what the step is given in every loop (an embedding, a prompt), and ``k`` is the number of the loop,
    0, 1, 2, ...; a step may take only ``(state)``, ``(state, inputs)``, or all three. It sees a batch: every array has one
    leading axis of members.

    Analyses see one array ``(..., n, d)``: ``pack`` makes it of a state, ``unpack`` makes a state of it, and both are done
    for ``x0``. Parts that are tokens of one dimension on one manifold lie one below the other; others lie in one row.

    A step that takes ``k`` is another map in every loop: ``layers(depth)`` is the sequence of them, which ``iterate`` and
    spectra take, and ``at(k)`` is one of them, for Jacobians.

    ``ctsa.torch.Loop`` and ``ctsa.jax.Loop`` hold modules: parameters train, and move with the loop.

    Args:
        step: any callable or module. What it returns has the structure of the state; of a state that is one array, the
            first entry of a tuple, or the ``last_hidden_state``, is taken.
        inputs: an array, or tuples and dicts of arrays; what is no array is handed over as it is.
        parts: the shape of the state of one member, or a tuple or dict of shapes (or of arrays of one member); None for one
            array ``(n, d)`` of any size.
        readout: what the model says of a state, ``readout(state)``, ``(batch, ...)``, such as logits; ``ctsa.diagnose``
            watches it.
        geometry: where the parts live, one for all, or a dict or tuple of them; flat space by default, so that nothing is
            normalised.
        scale: length that the step expects of tokens on the sphere, for all parts or each.
        batched: whether the first axis of every array in ``inputs`` counts members; if not, all members share it.
        k: the number of the loop, see ``at``.
        check: let every analysis look at the step first, see ``ctsa.check_map``.

    Raises:
        TypeError, ValueError: an argument is wrong; when called, what the step returns is no such state.

    Example:
        >>> import torch, ctsa
        >>> def step(state, inputs, k):
        ...     low = torch.tanh(state["low"] + state["high"].mean(-2, keepdim=True) + inputs)
        ...     return {"low": low, "high": 0.5 * state["high"] + 0.1 * low[:, :2]}
        >>> inputs = torch.ones(5, 4, 3, dtype=torch.float64)  # five members
        >>> loop = ctsa.Loop(step, inputs, parts={"low": (4, 3), "high": (2, 3)}, k=0)
        >>> x = loop.pack({"low": torch.zeros(5, 4, 3).double(), "high": torch.zeros(5, 2, 3).double()})
        >>> tuple(x.shape), tuple(loop.unpack(loop(x))["high"].shape)
        ((5, 6, 3), (5, 2, 3))
        >>> tuple(ctsa.lyapunov_spectrum(loop, x, intervals=8, transient=0, count=2).exponents.shape)
        (5, 2)
    """

    field = None
    no_flow = "a loop does not say which flow it is a step of; ctsa.effective_step compares it with one"
    module: Any
    inputs: Any
    readout: Any
    k: Any
    packing: Packing
    batched: bool
    check: bool
    takes: int  # of (state, inputs, k)
    parts = dict(
        module=inner(), inputs=inner(), readout=inner(), k=inner(), packing=static(), batched=static(), check=static(),
        takes=static(),
    )  # fmt: skip

    def __init__(
        self,
        step: Callable,
        inputs: Any = None,
        *,
        parts: Any = None,
        readout: Callable | None = None,
        geometry: Any = None,
        scale: Any = 1.0,
        batched: bool = True,
        k: int | None = None,
        check: bool = True,
    ):
        if not callable(step):
            raise TypeError(f"step must be callable as step(state, inputs, k), got {type(step).__name__}")
        if readout is not None and not callable(readout):
            raise TypeError(f"readout must be callable as readout(state), got {type(readout).__name__}")
        packing = packing_of(parts, geometry, scale)
        if k is not None and framework(k) is None:
            k = checks.integer("k", k)
        self._assign(
            module=step, inputs=inputs, readout=readout, k=k, packing=packing, geometry=packing.geometry,
            batched=checks.flag("batched", batched), check=checks.flag("check", check),
            takes=arguments(step, inputs is not None),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- other loops of it
    def _with(self, **changes: Any) -> "Loop":
        """Return the loop of the same step with another ``k``, or other inputs."""
        kept = self.packing
        same: dict[str, Any] = dict(
            inputs=self.inputs, readout=self.readout, geometry=kept.geometries, scale=kept.scales, batched=self.batched,
            k=self.k, check=self.check,
        )  # fmt: skip
        shapes: Any = dict(zip(kept.names, kept.shapes, strict=True)) if kept.kind == "dict" else kept.shapes
        same["parts"] = shapes[0] if kept.kind == "array" and shapes else shapes or None
        return type(self)(self.module, **{**same, **changes})

    @property
    def counts(self) -> bool:
        """Whether the step takes the number of the loop."""
        return self.takes == 3

    def at(self, k: int) -> "Loop":
        """Return the map of loop ``k``."""
        k = checks.integer("k", k)
        # An array, or JAX would compile every loop anew.
        return self._with(k=load("jax").xp.asarray(k) if autodiff(self.home) == "jax" else k)

    def layers(self, depth: int, start: int = 0) -> "list[Loop]":
        """Return the maps of the loops ``start``, ``start + 1``, ...: ``depth`` of them."""
        depth, start = checks.integer("depth", depth, low=1), checks.integer("start", start)
        return [self.at(k) for k in range(start, start + depth)] if self.counts else [self] * depth

    def with_inputs(self, inputs: Any, batched: bool | None = None) -> "Loop":
        """Return the loop with other inputs."""
        return self._with(inputs=inputs, batched=self.batched if batched is None else batched)

    def members(self, index: Any) -> "Loop":
        """Return the loop with the inputs of some members: of one, which has no batch axis then, or of a slice or list."""
        if self.inputs is None or not self.batched:
            return self
        one = hasattr(index, "__index__") and not getattr(index, "ndim", 0)
        return self._with(inputs=mapped(lambda a: a[index], self.inputs), batched=not one)

    # ------------------------------------------------------------------------------------------------------------ states
    @property
    def home(self):
        """What tells framework and dtype: the loop itself, its step, or its inputs."""
        if autodiff(self):
            return self
        return self.module if autodiff(self.module) else next(leaves(self.inputs), self.module)

    @property
    def state_shape(self) -> tuple[int, int] | None:
        """Shape ``(n, d)`` of a packed state; None where a state is one array of any size."""
        return self.packing.shape

    def pack(self, state: Any) -> Array:
        """Return a state, a batch of states or those along a run, ``(..., *shape)``, as one array ``(..., n, d)``."""
        return self.geometry.retract(self.packing.put(state))

    def unpack(self, x: Array) -> Any:
        """Return packed states ``(..., n, d)`` as the step knows them: arrays ``(..., *shape)``."""
        return self.packing.take(x)

    def tokens(self, u):
        """Return a packed state as the step knows it: ``unpack(u)``."""
        return self.unpack(u)

    def units(self, x):
        """Return a state of the model as one array: ``pack(x)``."""
        return self.pack(x)

    def _given(self, inputs: Any, x: Array) -> Any:
        """Return inputs for the members of states ``(..., n, d)``, in one leading axis."""
        be, batch = backend(x), tuple(x.shape[:-2])

        def handed(a):
            if framework(a) is None or not getattr(a, "ndim", 0):
                return a
            if framework(a) == "numpy":
                a = be.like(a, x) if a.dtype.kind == "f" else be.xp.asarray(a)
            if not self.batched:
                own: tuple = ()
            else:
                own = tuple(a.shape[:1])
                if batch[-1:] != own and own != (1,):
                    states = f"{batch[-1]} members" if batch else "one state"
                    raise ValueError(
                        f"inputs of shape {tuple(a.shape)} are those of {own[0]} members, but there is {states}: take "
                        "loop.members(...), or batched=False if all members share them"
                    )
            rest = tuple(a.shape[len(own) :])
            a = a.reshape(*[1] * (len(batch) - len(own)), *own, *rest) if batch or not own else a.reshape(own + rest)
            return be.xp.broadcast_to(a, batch + rest).reshape(-1, *rest) if batch else a.reshape(1, *rest)

        return mapped(handed, inputs)

    def run(self, *args: Any) -> Any:
        """Call the step."""
        return self.module(*args)

    def image(self, x: Array, scale: float | None = None, inputs: Any = None) -> Array:
        """Return what the step makes of packed states, before normalisation, of the shape and dtype of ``x``."""
        be, many = backend(x), x.reshape(-1, *x.shape[-2:])
        if self.takes == 3 and self.k is None:
            raise ValueError(
                "the step takes the number k of the loop, so that the loop is another map every time: loop.at(k) is one of "
                "them, loop.layers(depth) all, one after the other"
            )
        coarse = half(self.module, be.name) if autodiff(x) else None
        state = self.packing.take(many)
        state = state if scale in (None, self.packing.scales[0]) else scale * many
        given = self._given(self.inputs if inputs is None else inputs, x)
        if coarse:
            state, given = (mapped(lambda a: _coarse(be, a, coarse), tree) for tree in (state, given))
        with Calling(self.module, many, "step"):
            y = self.run(*(state, given, self.k)[: self.takes])
        if self.packing.kind == "array":
            y = first_array(y)
        shapes = self.packing.shapes or [tuple(x.shape[-2:])]
        parts = self.packing.parts(y, "what the step returns")
        parts = [
            received(be, a, (many.shape[0], *shape), x, coarse, "the step")
            for a, shape in zip(parts, shapes, strict=True)
        ]
        if self.packing.kind == "dict":
            y = dict(zip(self.packing.names, parts, strict=True))
        else:
            y = tuple(parts) if self.packing.kind == "tuple" else parts[0]
        return self.packing.put(y, "what the step returns").reshape(x.shape)

    @property
    def scale(self) -> float:
        """Length that the step expects of the tokens of a state that is one array."""
        return self.packing.scales[0]

    def move(self, x):
        return self.image(x)

    def read(self, x: Array) -> Array:
        """Return ``readout`` of packed states ``(..., n, d)``: ``(..., *what it returns of one)``.

        Raises:
            ValueError: the loop has no readout.
        """
        if self.readout is None:
            raise ValueError("the loop has no readout: ctsa.Loop(step, readout=...)")
        y = self.readout(self.packing.take(x.reshape(-1, *x.shape[-2:])))
        return y.reshape(*x.shape[:-2], *y.shape[1:])

    def describe(self) -> str:
        """Return the numbers that matter, for ``repr``."""
        parts = ", ".join(f"{n} {s}" for n, s in zip(self.packing.names, self.packing.shapes, strict=False))
        return ", ".join(filter(None, (parts, str(self.geometry), "" if self.k is None else f"k={self.k}")))

    def euler_step(self, x):
        raise ValueError(f"Loop has no flow: {self.no_flow}")

    def __repr__(self):
        return f"Loop({getattr(self.module, '__name__', type(self.module).__name__)}, {self.describe()})"


def arguments(step: Any, inputs: bool, taken: int = 0) -> int:
    """Count how many of (state, inputs, k) a step takes: those without a default, and ``inputs`` and ``k`` where given.

    Raises:
        TypeError: it takes more, or none, or has no place for inputs that are given.
    """
    if hasattr(step, "func") and hasattr(step, "args"):  # a partial
        return arguments(step.func, inputs, taken + len(step.args))
    needed = checks.arity(step)
    needed = needed if needed == -1 else needed - taken
    try:
        named = list(inspect.signature(getattr(step, "forward", step)).parameters.values())
    except (TypeError, ValueError):
        named = []
    places = [p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][taken:]
    if needed == -1:  # *args, or no signature
        return 3
    if not 1 <= needed <= 3:
        raise TypeError(f"step must be callable as step(state, inputs, k), but takes {needed} arguments: wrap it")
    if inputs and needed == 1:
        if len(places) < 2:
            raise TypeError("inputs are given, but step takes the state only: step(state, inputs)")
        needed = 2
    return 3 if needed == 2 and places[2:3] in (["k"], ["loop"]) else needed


def mapped(f: Callable, tree: Any) -> Any:
    """Apply a function to everything in nested dicts, tuples and lists."""
    if isinstance(tree, Mapping):
        return {key: mapped(f, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(f, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(mapped(f, value) for value in tree)
    return f(tree)


def leaves(tree: Any):
    """Yield the arrays of a framework in nested dicts, tuples and lists."""
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, (tuple, list)):
        for each in tree:
            yield from leaves(each)
    elif autodiff(tree) and hasattr(tree, "shape"):
        yield tree


def _coarse(be: Any, a: Any, kind: str) -> Any:
    return be.asarray(a, kind) if framework(a) == be.name and "float" in str(getattr(a, "dtype", "")) else a
