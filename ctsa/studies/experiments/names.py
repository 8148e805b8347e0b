"""Experiments by name, and what each asks."""

# The module has the same name, with underscores, and a function run(lab).
EXPERIMENTS: dict[str, str] = {
    "criticality": "does an exponent near zero go with accuracy?",
    "test-time": "what do more loops, and more starts with a vote, gain?",
    "regularisers": "what do R_Spec, R_E and flossing do?",
    "normalisation": "what does normalisation, and its gain at the start, decide?",
    "oscillators": "how large may the oscillators of AKOrN be?",
    "heads": "what does the number of heads change?",
    "continuous": "trained as a flow, used as layers, and the other way round",
}
PRESETS = ("quick", "full")
