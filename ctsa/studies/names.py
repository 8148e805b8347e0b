"""Studies by name: figures of the literature, experiments with trained models, findings of our own."""

from typing import NamedTuple

# The module in ``experiments`` has the same name, with underscores, and a function run(lab).
EXPERIMENTS: dict[str, str] = {
    "criticality": "does an exponent near zero go with accuracy?",
    "test-time": "what do more loops, and more starts with a vote, gain?",
    "regularisers": "what do R_Spec, R_E and flossing do?",
    "gains": "what does normalisation, and its gain at the start, decide?",
    "oscillators": "how large may the oscillators of AKOrN be?",
    "heads": "what does the number of heads change?",
    "continuous": "trained as a flow, used as layers, and the other way round",
}
PRESETS = ("quick", "full")


class Figure(NamedTuple):
    """What a figure shows, and whose it is."""

    asks: str
    source: str


# The module in ``figures`` has the same name, with underscores, and the functions run(bench) and draw(found, axes).
FIGURES: dict[str, Figure] = {
    "modes": Figure("which modes of the uniform state grow, and how many clusters are there?", "arXiv:2410.23228"),
    "phase-diagram": Figure("when do tokens meet, by beta and dimension?", "arXiv:2312.10794"),
    "trajectories": Figure("how do tokens of the two-sphere gather?", "arXiv:2312.10794"),
    "polytopes": Figure("where do tokens without normalisation go?", "arXiv:2305.05465"),
    "staircase": Figure("how long do clusters last, and what is the energy meanwhile?", "arXiv:2410.06833"),
    "causal": Figure("what does a causal mask change, and which tokens gather others?", "arXiv:2411.04990"),
    "normalisation": Figure("what does the place of normalisation decide?", "arXiv:2510.22026"),
    "repulsive": Figure("where do tokens rest that repel each other?", "arXiv:2501.03096"),
    "finding-energy": Figure("is the symmetric part of A, taken for V, enough for an energy?", "arXiv:2505.19458"),
    "finding-wrong-clusters": Figure(
        "how often does a loop of fixed steps end in other clusters than its flow?", "arXiv:2312.10794"
    ),
    "finding-singletons": Figure("does a group of one token need to decay within itself?", "arXiv:2511.11553"),
    "finding-injection-norms": Figure(
        "does a norm below one, or above, tell whether a loop settles?", "arXiv:2505.19458"
    ),
    "finding-looped-layer": Figure(
        "a layer of MiniLM as a loop: which tokens synchronise, and what stays chaotic?", "all-MiniLM-L6-v2"
    ),
    "exponents": Figure(
        "what are the exponents of recurrent attention with and without normalisation?", "arXiv:2505.19458"
    ),
    "jacobian-norm": Figure("how large is the Jacobian of a layer, and how tight is its bound?", "arXiv:2505.19458"),
    "looped-layer": Figure("what does each layer of MiniLM do as a loop, and how fast?", "all-MiniLM-L6-v2"),
    "multistability": Figure("how many states are stable at once, and where do random starts go?", "arXiv:2511.11553"),
    "oscillation": Figure("what do layers make of oscillations, which have exponents of zero?", "arXiv:2505.19458"),
    "mean-field": Figure("what does the density of tokens do, and what do finitely many?", "arXiv:2312.10794"),
    "noise": Figure("how much noise keeps tokens apart, and how do they fluctuate?", "arXiv:2412.14813"),
}
STUDIES: dict[str, str] = {name: figure.asks for name, figure in FIGURES.items()} | EXPERIMENTS


def module_of(name: str) -> str:
    """Return the module of a study."""
    home = "figures" if name in FIGURES else "experiments"
    return f"{__package__}.{home}.{name.replace('-', '_')}"
