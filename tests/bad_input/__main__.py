"""Print how the library takes bad input: ``PYTHONPATH=tests python -m bad_input [torch] [jax]`` (minutes)."""

import sys
from collections import Counter

import conftest  # JAX in 64 bits, one thread
import jax.numpy as jnp
import torch

from bad_input.allowed import ALLOWED
from bad_input.calls import calls
from bad_input.run import run

OTHER = {"torch": jnp.asarray, "jax": torch.as_tensor}

for name in sys.argv[1:] or list(OTHER):
    counts, lines = run(calls(conftest.FACES[name], OTHER[name]), ALLOWED)
    total = Counter()
    for (_, verdict), number in counts.items():
        total[verdict] += number
    every = sum(total.values())
    print(
        f"\nctsa.{name}: {every} wrong inputs, "
        + ", ".join(f"{v} {n} ({n / every:.1%})" for v, n in total.most_common())
    )
    print("\n".join(sorted(lines)))
