"""What a training run is told: values that are checked as they are made, from Python or from a file."""

from typing import Literal

from pydantic import Field, model_validator

from ctsa.settings import Checked, one_of

Kind = Literal[
    "spectral", "symmetry", "orthogonality", "exponent", "spectral_norm", "spectral_radius", "rms_gain", "residual",
    "scale", "restart",
]


Measure = Literal["largest", "mean", "asymptotic", "norm", "oscillating", "energy", "contribution"]


class Penalty(Checked):
    """A regulariser in training: ``weight`` times its mean over samples joins the loss.

    Attributes:
        kind: a function of ``ctsa.regularise``: "spectral", "symmetry" and "orthogonality" (of the weights of attention),
            "exponent" (flossing, with ``target``; from the start of the run), "spectral_norm", "spectral_radius",
            "rms_gain", "residual", "scale" (at its end), "restart" (two starts).
        weight: its factor.
        every: at every so many steps.
        samples: on so many samples of a batch.
        count: how many exponents.
        target, above: see ``ctsa.regularise.exponent``.
        loops: over how many loops, for exponents and restarts; None: the depth of training.
        iterations: of "spectral", power iterations instead of singular values.

    Example:
        >>> from ctsa.training import Penalty
        >>> Penalty(kind="spectral", weight=1e-4).every
        1
    """

    kind: Kind
    weight: float = Field(gt=0)
    every: int = Field(default=1, ge=1)
    samples: int = Field(default=8, ge=1)
    count: int = Field(default=1, ge=1)
    target: float | None = None
    above: float | None = None
    loops: int | None = Field(default=None, ge=1)
    iterations: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "Penalty":
        if self.target is not None and self.above is not None:
            raise ValueError("target and above are two regularisers: leave one out")
        return self


class Settings(Checked):
    """How a model is trained, see ``ctsa.train``.

    Attributes:
        steps: of the optimiser.
        batch: samples a step.
        depth: layers, or units of time, through which the loss is taken.
        depths: "fixed", or draw the depth of every step: "uniform" (from half of ``depth`` to one and a half),
            "lognormal", "poisson-lognormal" (see ``ctsa.regularise.sample_loops``).
        last: gradients through so many layers at the end only; None: through all.
        optimiser: "adam", "adamw" or "sgd".
        rate: learning rate after warm-up.
        decay: of weights.
        warmup: steps over which the rate rises linearly.
        schedule: "cosine" (to 0 at the end) or "constant".
        clip: largest norm of a gradient; None: none.
        average: of weights, exponential: the factor of the past (.995 in AKOrN); 0: none.
        relabel: exchange symbols at random in each batch, where a task allows it.
        solver: integrate the flow with it instead of taking layers.
        atol: absolute tolerance of the solver.
        adjoint: gradients by the adjoint equation.
        refine: layers a unit of depth, each with a part of the step.
        precision: "full", that of the model, or "bfloat16".
        compile: ``torch.compile`` the loss (PyTorch; JAX always compiles).
        penalties: regularisers.
        watch: measure exponents, energies, ... every so many steps; None: never.
        watch_samples: on so many samples of validation.
        measures: which, of those of ``ctsa.training.watch``.
        validate_every: measure accuracy every so many steps; None: at the end only.
        save_every: seconds between two checkpoints.
        seed: of batches, starts and depths.

    Example:
        >>> from ctsa.training import Settings
        >>> Settings(steps=100, optimiser="sgd").rate
        0.003
    """

    steps: int = Field(default=250, ge=1)
    batch: int = Field(default=32, ge=1)
    depth: int = Field(default=16, ge=1)
    depths: Literal["fixed", "uniform", "lognormal", "poisson-lognormal"] = "fixed"
    last: int | None = Field(default=None, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = Field(default=3e-3, gt=0, allow_inf_nan=False)
    decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=50, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float | None = Field(default=1.0, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    relabel: bool = True
    solver: str | None = None
    atol: float = Field(default=1e-4, gt=0)
    adjoint: bool = False
    refine: int = Field(default=1, ge=1)
    precision: Literal["full", "bfloat16"] = "full"
    compile: bool = False
    penalties: tuple[Penalty, ...] = Field(default=(), strict=False)
    watch: int | None = Field(default=None, ge=1)
    watch_samples: int = Field(default=16, ge=1)
    measures: tuple[Measure, ...] = Field(default=("largest", "mean", "norm", "energy"), strict=False)
    validate_every: int | None = Field(default=None, ge=1)
    save_every: float = Field(default=30.0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.solver is not None and self.refine > 1:
            raise ValueError("refine goes with layers: leave it out with solver")
        if self.solver is not None and (self.depths != "fixed" or self.last is not None):
            raise ValueError("depths and last go with layers: leave them out with solver")
        if self.adjoint and self.solver is None:
            raise ValueError("adjoint goes with solver: layers have their gradients through the steps")
        return self


PRESETS: dict[str, Settings] = {
    "small": Settings(),
    "quick": Settings(batch=64),
    "quick-akorn": Settings(steps=700),
    "full": Settings(steps=1000),
    "paper": Settings(steps=100_000, batch=100, rate=1e-3, warmup=1000, schedule="constant", average=0.995),
}


def preset(name: str) -> Settings:
    """Return the settings of a preset: "small", "quick", "quick-akorn", "full" or "paper".

    Raises:
        ValueError: there is none of this name.
    """
    return PRESETS[one_of("preset", name, PRESETS)]
