"""The file that ``ctsa init`` writes: it runs as it is, and its comments show what else there is."""

EXAMPLE = """\
# A run of ctsa: `ctsa run {name}.toml` runs every analysis below, `ctsa lyapunov {name}.toml` one of them, and
# `ctsa check {name}.toml` says whether all is well and what it costs. Lines that begin with #: show what else there is.

backend = "torch"              # or "jax"; left out: one that is installed
dtype = "float64"              # or "float32"
seed = 0                       # of all that has no seed of its own
out = "{name}"                 # folder of results, log, pictures and report

# ------------------------------------------------------------------------------------------------ the vector field
[field]                        # [[field]], more than once, adds fields up
kind = "SelfAttention"         # or SymmetricAttention, MultiHeadAttention, EnergyAttention, Oja, Rotation, Injection,
beta = 4.0                     # Perceptron, Noise: the arguments are those of the classes of ctsa.torch and ctsa.jax
#: query = "identity"          # a matrix is a name: identity, gaussian, goe, psd, antisymmetric, rotation;
#: key = [[1, 0, 0], [0, 2, 0], [0, 0, 3]]                      # its rows;
#: value = {{kind = "goe", seed = 1, scale = 0.5}}              # a table: kind, seed, scale, width, heads, values, angle;
#: value = {{kind = "diagonal", values = [3.0, 2.0, 1.0]}}
#: value = "weights.npz:value"                                  # or an array of a file
#: weights = "softmax"         # or unnormalised, sigmoid, ...: see ctsa.torch.SelfAttention
#: mask = "causal"
#: heads = 1                   # of matrices that are drawn
#: factor = 1.0                # in front of the field

# The attention of a pretrained model (all-MiniLM-L6-v2, or a folder) on a sentence, with [tokens] of kind "sentence":
#: kind = "pretrained"
#: layer = 4

# ------------------------------------------------------------------------------------- the layer, in place of the flow
#: [layer]                     # then analyses look at a layer that is applied over and over
#: kind = "EulerLayer"         # or PostNormLayer, RungeKuttaLayer, ItrSA, AKOrN, pretrained (with layers = [2, 4])
#: step = 0.1

# ------------------------------------------------------------------------------------------------ where it starts
[tokens]
kind = "uniform"               # or hemisphere (angle), clusters (count, spread), equiangular (cosine), file (path),
                               # sentence (text, layer) of a pretrained model
n = 12
d = 3
#: seed = 0
#: batch = 8                   # so many starts at once
#: channels = 3                # of oscillators: tokens are d / channels unit vectors

[solver]
name = "dopri5"                # or dopri8, bosh3, heun, tsit5 and kvaerno5 (JAX), euler, midpoint, rk4 (with step)
atol = 1e-8
#: rtol = 0.0
#: max_steps = 100000

# ------------------------------------------------------------------------------------------------ what to find out
[simulate]                     # the trajectory
duration = 20.0                # of layers: depth = 100
points = 201
#: spacing = "log"             # or quadratic, dense at the start
#: merge = true                # tokens that have met go on as one: for long times

[lyapunov]                     # ctsa.lyapunov_spectrum
intervals = 100
interval = 1.0
transient = 20
#: count = 4                   # the leading ones

[jacobian]                     # eigenvalues, norm and growth at a state
time = 20.0                    # after so long

#: [compare]                   # ctsa.compare: the flow beside its layers
#: duration = 5.0
#: step_sizes = [0.4, 0.2, 0.1]

#: [equilibria]                # ctsa.find_equilibria
#: starts = 100

#: [basins]                    # ctsa.basins
#: starts = 100

#: [continue]                  # ctsa.bifurcation_diagram
#: parameter = "beta"
#: span = [0.5, 8.0]

#: [monitor]                   # ctsa.monitor
#: duration = 5.0

#: [diagnose]                  # ctsa.diagnose, of a layer
#: loops = 64

# ------------------------------------------------------------------------------------------------ many of them
#: [sweep]                     # `ctsa sweep {name}.toml`
#: run = "lyapunov"
#: axes."field.beta" = {{start = 1.0, stop = 9.0, count = 9}}   # or log = true, or a list of values
#: axes."tokens.seed" = {{count = 4}}                           # 0, 1, 2, 3
#: workers = 2
#: refine = {{axis = "field.beta", by = "verdict", rounds = 2}} # look closer where it changes

[output]
pictures = true
report = true                  # one HTML file that opens anywhere
"""


def example(name: str) -> str:
    """Return the text of a file that is called ``name`` and writes to a folder of that name."""
    return EXAMPLE.format(name=name)
