"""Recurrent self-attention as a model: embedded inputs drive a layer, which is applied again and again, and read out."""

import math
import warnings
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ctsa import checks
from ctsa._backend import backend, dtype_name, framework, on_graph
from ctsa.fields.base import Field
from ctsa.flows import Solver, integrate
from ctsa.geometry import Euclidean, Geometry, Sphere
from ctsa.layers import readout_norm
from ctsa.layers.stopping import following
from ctsa.parts import PARAMETER, Part, inner, parameter, static, walk

from .starting import attention_arguments, geometry_of_kind, head_masks, sizes_of, uniform

Array = Any
KINDS = ("itrsa", "akorn", "akorn-rmsnorm", "energy", "none")
_GAINED = ("itrsa", "akorn-rmsnorm", "energy")  # kinds whose normalisation has a gain, gamma
_WITHOUT_STEP = "the layer has no flow, so that a part of its step is another map: refine needs a scalar gamma"


class Model:
    """What models share: a face supplies ``_assign``, which stores the parts, and fields and layers to make them of."""

    parts: ClassVar[dict[str, Part]] = {}

    def _assign(self, **values: Any) -> None:
        raise NotImplementedError("take the model from a face: ctsa.torch or ctsa.jax")

    @staticmethod
    def kit() -> Any:
        """Return the face whose fields and layers the model is made of."""
        raise NotImplementedError("take the model from a face: ctsa.torch or ctsa.jax")

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that make an equal model, in either framework."""
        return {name: getattr(self, name) for name in self.parts}

    def trained(self) -> list[tuple]:
        """Return the places of the arrays that train: ``("attention", "query")``."""
        return [path for path, part, value in walk(self) if part.kind == PARAMETER and value is not None]


class RecurrentModel(Model):
    """Recurrent self-attention with input injection, as in AKOrN and 2505.19458, and its continuous-depth variant.

    Inputs become ``C = embedding[input] + position``. The state starts from ``N(C)`` where an input is known and from noise
    where it is blank; then one layer, which is a layer of ``ctsa`` for every analysis (``layer_of``), is applied ``depth``
    times with the same weights, and the last state is read out, a token at a time or pooled.

    ============== ============================================================= ===============================
    kind           layer                                                         of ``ctsa``
    ============== ============================================================= ===============================
    itrsa          ``X <- gamma N(X + step (C + MSA(X)))``                       ``ItrSA``
    akorn          ``x <- N(x + step (Omega x + P_x (C + MSA(x))))``, an         ``AKOrN``
                   oscillator a time
    akorn-rmsnorm  the same, with a gain gamma after N                           ``AKOrN(gamma=)``
    energy         as itrsa, with the attention of the Energy Transformer        ``ItrSA(EnergyAttention)``
    none           ``X <- X + step (C + MSA(X))``                                ``EulerLayer``, flat
    ============== ============================================================= ===============================

    With ``solver=`` depth is continuous: the flow ``du/dt = h F(u)`` of which the layer is an Euler step of size h is
    integrated over ``depth`` units of time with the same weights: one layer is one unit. ``refine=k`` takes k layers
    a unit, each with a k-th of the step; as k grows, they tend to the flow. Both need a layer that has a flow: a scalar
    gamma.

    Args:
        embedding: ``(vocabulary, d)`` for integer inputs ``(..., n)``, of which 0 is the blank; for inputs
            ``(..., n, features)`` a matrix ``(features, d)`` that they are multiplied with.
        attention: the field ``MSA``, on the geometry of the kind: ``MultiHeadAttention``, ``EnergyAttention``, any of ours.
        head: readout ``(classes, m)``, of the hidden layer, or of the tokens where there is none.
        kind: one of the above.
        position: ``(n, d)``, added to the embedding; None: positions are not told apart.
        step: eta, positive; learnt.
        gamma: gain of the normalisation, a number or ``(d,)``, learnt; None is ``sqrt(d)``: tokens then have entries of
            size 1.
        frequencies: natural frequencies of AKOrN, ``(d / 2,)``, a 2x2 block each; None: none.
        hidden: ``(m, d)``, a layer with ReLU before the head; None: none.
        hidden_bias, head_bias: ``(m,)`` and ``(classes,)``, or None.
        lengths: ``(d', size, d)``: tokens are read by the lengths of d' vectors (``readout_norm``); None: as they are.
        pooled: read out the mean over tokens: logits ``(..., classes)`` instead of ``(..., n, classes)``.
        noise: standard deviation of the start where the input is blank, an entry.

    Raises:
        ValueError, TypeError: sizes or kinds do not fit each other.

    Example:
        >>> import ctsa, ctsa.torch
        >>> data = ctsa.datasets.task("sudoku-4x4", count=20)
        >>> model = ctsa.torch.RecurrentModel.for_task(data.train, d=16, heads=4, seed=0)
        >>> tuple(model(data.train.inputs[:3], depth=8).shape)
        (3, 16, 4)
        >>> ctsa.iterate(model.layer_of(data.train.inputs[0]), model.start(data.train.inputs[0]), 8)
        Trajectory(xs: (9, 16, 16), layers=8)

    References:
        Tomihari and Karakida, arXiv 2505.19458; Miyato et al., arXiv 2410.13821.
    """

    embedding: Any
    position: Any
    attention: Any
    step: Any
    gamma: Any
    frequencies: Any
    lengths: Any
    hidden: Any
    hidden_bias: Any
    head: Any
    head_bias: Any
    kind: str
    pooled: bool
    noise: float
    geometry: Geometry
    parts = dict(
        embedding=parameter("vd"), position=parameter("nd"), attention=inner(), step=parameter(), gamma=parameter("d"),
        frequencies=parameter("p"), lengths=parameter("osd"), hidden=parameter("md"), hidden_bias=parameter("m"),
        head=parameter("cm"), head_bias=parameter("c"), kind=static(), pooled=static(), noise=static(),
    )  # fmt: skip

    def __init__(
        self,
        embedding: Any,
        attention: Any,
        head: Any,
        *,
        kind: str = "itrsa",
        position: Any = None,
        step: Any = 1.0,
        gamma: Any = None,
        frequencies: Any = None,
        hidden: Any = None,
        hidden_bias: Any = None,
        head_bias: Any = None,
        lengths: Any = None,
        pooled: bool = False,
        noise: float = 1.0,
    ):
        checks.choice("kind", kind, KINDS)
        if not isinstance(attention, Field):
            raise TypeError(f"attention must be a field of ctsa, got {type(attention).__name__}")
        arrays = dict(
            embedding=checks.parameter("embedding", embedding, 2), position=checks.parameter("position", position, 2),
            step=checks.parameter("step", step, 0), gamma=checks.parameter("gamma", gamma, 0, 1),
            frequencies=checks.parameter("frequencies", frequencies, 1), lengths=checks.parameter("lengths", lengths, 3),
            hidden=checks.parameter("hidden", hidden, 2), hidden_bias=checks.parameter("hidden_bias", hidden_bias, 1),
            head=checks.parameter("head", head, 2), head_bias=checks.parameter("head_bias", head_bias, 1),
        )  # fmt: skip
        for name in ("embedding", "step", "head"):
            if arrays[name] is None:
                raise TypeError(f"{name} must be an array, got None")
        d = arrays["embedding"].shape[1]
        _check_sizes(arrays, attention, d)
        _check_kind(kind, attention.geometry, arrays, d)
        if kind in _GAINED and arrays["gamma"] is None:
            arrays["gamma"] = checks.parameter("gamma", math.sqrt(d), 0)
        self._assign(
            **arrays, attention=attention, kind=kind, pooled=bool(checks.flag("pooled", pooled)),
            noise=checks.number("noise", noise, low=0.0), geometry=attention.geometry,
        )  # fmt: skip

    @classmethod
    def for_task(
        cls,
        task: Any,
        *,
        d: int = 64,
        heads: int = 4,
        kind: str = "itrsa",
        channels: int = 4,
        masks: bool = True,
        positions: bool = True,
        gamma: str = "vector",
        gain: float | None = None,
        step: float = 1.0,
        frequency: float = 0.05,
        tied: bool = False,
        readout: str = "linear",
        noise: float = 1.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> Any:
        """Return an untrained model of the sizes of a task, drawn from a seed, the same in both frameworks.

        Embedding and positions are normal, linear maps uniform as those of ``nn.Linear``.

        Args:
            task: a data set of ``ctsa.datasets``.
            d: dimension of a token.
            heads: how many; each has the width ``d / heads``.
            kind: of layer, see the class.
            channels: N of AKOrN, components of an oscillator; d is whole tokens.
            masks: let the masks of the task (rows, columns, boxes of Sudoku) each rule a head; heads left over see all.
            positions: learn where tokens stand.
            gamma: "vector" or "scalar"; only a scalar one has a flow.
            gain: gamma at the start; None is ``sqrt(d)``.
            step: eta at the start.
            frequency: of AKOrN at the start.
            tied: tie values to scores, ``SymmetricAttention``.
            readout: "linear", or "norm" for lengths of oscillators.
            noise: see the class.
            seed: of all that is drawn.
            dtype: "float32" or "float64".

        Raises:
            ValueError, TypeError: sizes do not fit each other.
        """
        checks.choice("kind", kind, KINDS)
        checks.choice("gamma", gamma, ("vector", "scalar"))
        checks.choice("readout", readout, ("linear", "norm"))
        checks.choice("dtype", dtype, ("float32", "float64"))
        d, heads = checks.integer("d", d, low=2), checks.integer("heads", heads, low=1)
        channels, seed = checks.integer("channels", channels, low=2), checks.seed(seed)
        size = sizes_of(task)
        n, classes = size["n"], size["classes"]
        if tied and kind == "energy":
            raise ValueError("tied=True does not go with kind='energy', whose attention has no values")
        ruling = head_masks(size["masks"], heads) if checks.flag("masks", masks) else None
        rng = np.random.default_rng(seed)
        width = 2 * d
        arrays: dict[str, Any] = dict(embedding=rng.normal(size=(size["rows"], d)))
        arrays["position"] = rng.normal(size=(n, d)) if checks.flag("positions", positions) else None
        arguments = attention_arguments(rng, kind, d, heads, ruling, bool(checks.flag("tied", tied)))
        arrays |= dict(
            hidden=uniform(rng, d, width, d), hidden_bias=uniform(rng, d, width), head=uniform(rng, width, classes, width),
            head_bias=uniform(rng, width, classes),
        )  # fmt: skip
        if readout == "norm":
            arrays["lengths"] = uniform(rng, d, d, 4, d)
        if kind in _GAINED:
            gain = math.sqrt(d) if gain is None else checks.number("gain", gain)
            arrays["gamma"] = np.full(d, gain) if gamma == "vector" else np.asarray(gain)
        if kind.startswith("akorn") and not d % 2:
            arrays["frequencies"] = np.full(d // 2, checks.number("frequency", frequency))
        arrays["step"] = np.asarray(checks.number("step", step, low=0.0, strict=True))

        def cast(given: dict[str, Any]) -> dict[str, Any]:
            return {k: None if a is None else np.asarray(a, dtype=dtype) for k, a in given.items()}

        kit = cls.kit()
        field = kit.EnergyAttention if kind == "energy" else kit.SymmetricAttention if tied else kit.MultiHeadAttention
        attention = field(**cast(arguments), geometry=geometry_of_kind(kind, channels, d))
        embedding, head = cast(dict(e=arrays.pop("embedding"), h=arrays.pop("head"))).values()
        return cls(embedding, attention, head, kind=kind, pooled=size["pooled"], noise=noise, **cast(arrays))

    # ------------------------------------------------------------------------------------------------- inputs and layers
    def _tokens(self, inputs: Any) -> Array:
        """Return inputs as an array of the framework, checked where their values are known."""
        be = backend(self.embedding)
        given = framework(inputs) if hasattr(inputs, "dtype") else None
        a = inputs if given == be.name else np.asarray(inputs.detach().cpu() if given == "torch" else inputs)
        coded = "int" in str(a.dtype)
        if not coded and "float" not in str(a.dtype):
            raise TypeError(f"inputs must be integers (..., n) or floating features (..., n, f), got {a.dtype}")
        rows, n = self.embedding.shape[0], None if self.position is None else self.position.shape[0]
        rank, tokens = (1, -1) if coded else (2, -2)
        if a.ndim < rank or (not coded and a.shape[-1] != rows) or (n is not None and a.shape[tokens] != n):
            wanted = f"(..., {n or 'n'})" if coded else f"(..., {n or 'n'}, {rows})"
            raise ValueError(f"inputs must have the shape {wanted}, got {tuple(a.shape)}")
        values = checks.concrete(a)
        if coded and values is not None and values.size and not (0 <= values.min() and values.max() < rows):
            raise ValueError(f"inputs must be integers of 0 ... {rows - 1}, got {values.min()} ... {values.max()}")
        if a.__class__ is np.ndarray:
            a = be.like(a.astype(float), self.embedding) if not coded else be.xp.asarray(a.astype(np.int64))
        elif be.name == "torch" or not coded:  # uint8 would be a mask to PyTorch
            a = be.asarray(a, "int64" if coded else dtype_name(self.embedding))
        return self.placed(a)

    def placed(self, a: Array) -> Array:
        """Return an array of the framework where the model is."""
        moved = hasattr(a, "to") and a.device != self.embedding.device  # JAX moves by itself
        return a.to(self.embedding.device) if moved else a

    def _coded(self, tokens: Array) -> bool:
        return "int" in str(tokens.dtype)

    def inputs_of(self, inputs: Any) -> Array:
        """Return ``C = embedding[inputs] + position``: ``(..., n, d)``."""
        tokens = self._tokens(inputs)
        c = self.embedding[tokens] if self._coded(tokens) else tokens @ self.embedding
        return c if self.position is None else c + self.position

    def layer_of(self, inputs: Any, refine: int = 1) -> Any:
        """Return the layer for these inputs, with the model's own weights: for one sample, or a batch ``(..., n)``.

        Args:
            inputs: integers ``(..., n)``, or features ``(..., n, f)``.
            refine: into how many steps one is cut; each takes a part of the step.

        Raises:
            ValueError: ``refine`` is not 1, and the layer has no flow.
        """
        kit, refine = self.kit(), checks.integer("refine", refine, low=1)
        step = self.step if refine == 1 else self.step / refine
        drive = self.attention + kit.Injection(self.inputs_of(inputs), geometry=self.geometry)
        if self.kind == "none":
            return kit.EulerLayer(drive, step)
        if self.kind.startswith("akorn"):
            turning = None if self.frequencies is None else kit.Rotation(
                frequencies=self.frequencies, geometry=self.geometry
            )  # fmt: skip
            make: Any = partial(kit.AKOrN, drive, turning)
        else:
            make = partial(kit.ItrSA, drive)
        if on_graph(self.gamma) or self.gamma is None:
            layer = make(step=step, gamma=self.gamma)
        else:
            with warnings.catch_warnings():  # that a vector gamma has no flow was a choice
                warnings.simplefilter("ignore", UserWarning)
                layer = make(step=step, gamma=self.gamma)
        if refine > 1 and layer.no_flow:
            raise ValueError(f"{_WITHOUT_STEP}. {layer.no_flow}")
        return layer

    def field_of(self, inputs: Any) -> Any:
        """Return the field of the flow whose Euler steps the layers are, in units of one layer: ``du/dt = h F(u)``.

        Raises:
            ValueError: there is no flow; the message says why.
        """
        layer = self.layer_of(inputs)
        if layer.no_flow:
            raise ValueError(f"the model has no flow: {layer.no_flow}. RecurrentModel.for_task(gamma='scalar') has one")
        return layer.field * layer.flow_step

    def start(self, inputs: Any, seed: Any = 0) -> Array:
        """Return the first state ``(..., n, d)``: ``N(C)`` where the input is known, ``N(noise)`` where it is blank.

        Args:
            inputs: as for ``layer_of``.
            seed: of the noise, an integer, or the noise itself, ``(..., n, d)``.
        """
        tokens = self._tokens(inputs)
        c = self.inputs_of(tokens)
        be = backend(c)
        if self._coded(tokens) and self.noise > 0:
            if not getattr(seed, "ndim", 0):  # np.int64(3) is a seed, too
                # In float32 whatever the dtype, so that a model starts alike in all of them.
                seed = np.random.default_rng(checks.seed(seed)).standard_normal(tuple(c.shape), dtype=np.float32)
            c = be.xp.where((tokens > 0)[..., None], c, self.noise * be.like(_noise(seed, tuple(c.shape)), c))
        return self.geometry.retract(c)

    # ----------------------------------------------------------------------------------------------------------- running
    def run(
        self, inputs: Any, depth: int = 16, seed: Any = 0, *, refine: int = 1, solver: Any = None, adjoint: Any = False
    ) -> Array:
        """Return the state after ``depth`` layers, or after ``depth`` units of time of the flow: ``(..., n, d)``.

        Args:
            inputs: as for ``layer_of``.
            depth: how many layers.
            seed: as for ``start``.
            refine: as for ``layer_of``; ``depth * refine`` layers are taken.
            solver: name or ``ctsa.Solver``: integrate the flow instead; atol is 1e-8, in float32 1e-5, if it does not say.
            adjoint: as for ``ctsa.integrate``, where there is a solver.
        """
        tokens = self._tokens(inputs)
        return self.onward(tokens, self.start(tokens, seed), depth, refine=refine, solver=solver, adjoint=adjoint)

    def onward(
        self, inputs: Any, u: Array, depth: int, *, refine: int = 1, solver: Any = None, adjoint: Any = False
    ) -> Array:
        """Return the state ``depth`` layers, or units of time, after a state ``u``; see ``run``."""
        depth, refine = checks.integer("depth", depth), checks.integer("refine", refine, low=1)
        if solver is not None and refine != 1:
            raise ValueError("refine goes with layers: leave it out with solver=")
        if not depth:
            return u
        if solver is not None:
            solver = solver if isinstance(solver, Solver) else Solver(solver)
            if solver.atol is None:
                solver = replace(solver, atol=1e-8 if dtype_name(u) == "float64" else 1e-5)
            # At rest an adaptive solver sees no error, and takes steps so long that they amplify what it does not see;
            # gradients, which do, explode. A layer, one unit, is not too long a step for Euler, nor for what is better.
            longest = None if solver.step is not None or solver.name == "scipy_solver" else 1.0
            ts = [0.0, float(depth)]
            return integrate(self.field_of(inputs), u, ts, solver, largest_step=longest, adjoint=adjoint).xs[-1]
        be, layer = backend(u), self.layer_of(inputs, refine)
        return be.repeat(be.partial(following, layer), u, depth * refine)

    def states(self, inputs: Any, depth: int = 16, seed: Any = 0, *, refine: int = 1) -> Array:
        """Return the states after 0, 1, ..., ``depth`` layers: ``(depth + 1, ..., n, d)``."""
        tokens, depth = self._tokens(inputs), checks.integer("depth", depth, low=1)
        u, layer = self.start(tokens, seed), self.layer_of(tokens, refine)
        be = backend(u)
        us = be.scan(be.partial(_kept, layer, refine), u, depth)[1]
        return be.xp.concatenate([u[None], us])

    def tokens(self, u: Array) -> Array:
        """Return the tokens that are read at states, ``gamma * u``, as ``layer_of(...).tokens`` does."""
        return u if self.gamma is None else self.gamma * u

    def read(self, u: Array) -> Array:
        """Return the logits of states ``(..., n, d)``: ``(..., n, classes)``, or ``(..., classes)`` where pooled."""
        be = backend(u)
        y = self.tokens(u)
        if self.lengths is not None:
            y = readout_norm(y, self.lengths)
        if self.pooled:
            y = y.mean(-2)
        if self.hidden is not None:
            y = y @ self.hidden.mT
            y = y if self.hidden_bias is None else y + self.hidden_bias
            y = be.xp.where(y > 0, y, be.xp.zeros_like(y))
        y = y @ self.head.mT
        return y if self.head_bias is None else y + self.head_bias

    def energy(self, inputs: Any, u: Array) -> Array:
        """Return the pseudo-energy ``-sum_i <X_i, C_i + MSA(X)_i>`` of states: ``(...)``, see ``ctsa.pseudo_energy``."""
        x = self.tokens(u)
        v = self.inputs_of(inputs) + self.attention.drift(backend(u).like(0.0, u), x)
        return -(x * v).sum((-2, -1))

    def logits(self, inputs: Any, depth: int = 16, seed: Any = 0, **options: Any) -> Array:
        """Return the readout after ``depth`` layers, see ``run`` for the options."""
        return self.read(self.run(inputs, depth, seed, **options))

    def describe(self) -> str:
        """Return what matters, for ``repr``."""
        return f"{self.kind}, d={self.embedding.shape[1]}, {self.geometry}"


def _noise(noise: Any, shape: tuple[int, ...]) -> Any:
    """Return noise that fits a start of a shape; axes of batches may be broadcast, or stand before those of the inputs."""
    given = tuple(noise.shape)
    if given[-2:] != shape[-2:] or any(a != b and 1 not in (a, b) for a, b in zip(given[-3::-1], shape[-3::-1])):
        raise ValueError(f"noise must have the shape (..., {shape[-2]}, {shape[-1]}) of the start {shape}, got {given}")
    return noise


def _kept(layer: Any, refine: int, u: Array) -> tuple[Array, Array]:
    be = backend(u)
    u = be.repeat(be.partial(following, layer), u, refine)
    return u, u


def _check_sizes(arrays: dict[str, Any], attention: Any, d: int) -> None:
    known = checks.sizes(attention)
    if known.get("d", d) != d:
        raise ValueError(f"attention is for tokens of dimension {known['d']}, but embedding has {d}")
    for name, axis in (("position", 1), ("gamma", 0), ("hidden", 1), ("lengths", 2)):
        if arrays[name] is not None and arrays[name].ndim:
            checks.fits(name, arrays[name], axis, d, "the dimension d of embedding")
    if arrays["frequencies"] is not None and 2 * arrays["frequencies"].shape[0] != d:
        raise ValueError(f"frequencies must have d / 2 = {d / 2:g} entries, got {arrays['frequencies'].shape[0]}")
    if arrays["position"] is not None and known.get("n", arrays["position"].shape[0]) != arrays["position"].shape[0]:
        raise ValueError(f"attention is for {known['n']} tokens, but position for {arrays['position'].shape[0]}")
    read = d if arrays["lengths"] is None else arrays["lengths"].shape[0]
    if arrays["hidden"] is not None:
        checks.fits("hidden", arrays["hidden"], 1, read, "what is read of a token")
        checks.fits("hidden_bias", arrays["hidden_bias"], 0, arrays["hidden"].shape[0], "the width of hidden")
        read = arrays["hidden"].shape[0]
    elif arrays["hidden_bias"] is not None:
        raise ValueError("hidden_bias needs hidden")
    checks.fits("head", arrays["head"], 1, read, "the width before it")
    checks.fits("head_bias", arrays["head_bias"], 0, arrays["head"].shape[0], "the classes of head")


def _check_kind(kind: str, home: Geometry, arrays: dict[str, Any], d: int) -> None:
    wanted = Euclidean() if kind == "none" else Sphere()
    fits = isinstance(home, Sphere) if kind.startswith("akorn") else home == wanted
    if not fits:
        where = "ctsa.Sphere(channels=N)" if kind.startswith("akorn") else repr(wanted)
        raise ValueError(f"kind={kind!r} needs attention on {where}, got {home!r}")
    if kind not in _GAINED and arrays["gamma"] is not None:
        raise ValueError(f"kind={kind!r} has no gamma: kinds with one are {', '.join(_GAINED)}")
    if not kind.startswith("akorn") and arrays["frequencies"] is not None:
        raise ValueError(f"kind={kind!r} has no frequencies: those are AKOrN's")
    step = checks.concrete(arrays["step"])
    if step is not None and not step > 0:
        raise ValueError(f"step must be positive, got {float(step):g}")
