"""Print how often verdicts are right, wrong and undecided, on systems of known motion and on a held-out draw.

    PYTHONPATH=. python tests/trust/verdicts.py             # the confusion tables, about 5 minutes
    PYTHONPATH=. python tests/trust/verdicts.py --held-out  # random parameters, judged by a run many times as long

Opt-in: ``tests/test_motion.py`` holds a sample of it to zero wrong verdicts.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import motions as known  # noqa: E402
from motions import MOTIONS, Motion, record, right  # noqa: E402

from ctsa.motion import judge  # noqa: E402

LENGTHS = (8, 20, 40, 50, 200, 1000, 5000)


def confusion(title: str, starts: int, **options) -> int:
    """Print right/wrong/undecided by truth and length; return how many were wrong."""
    cells, wrong = defaultdict(Counter), []
    for motion in MOTIONS:
        for seed in range(starts):
            for n in LENGTHS:
                verdict = judge(record(motion, n, longest=max(LENGTHS), seed=seed, **options))
                found = right(motion, verdict)
                for row in ((motion.truth or ("open",))[0], "all"):
                    cells[row, n][found] += 1
                if found is False:
                    wrong.append(f"{motion.name}, start {seed}, {n} intervals: {verdict}")
    print(f"\n{title}: right / wrong / undecided\n\n| truth | " + " | ".join(map(str, LENGTHS)) + " |")
    print("|---|" + "---|" * len(LENGTHS))
    for row in sorted({row for row, _ in cells}, key=lambda row: (row == "all", row)):
        shown = (cells[row, n] for n in LENGTHS)
        print(f"| {row} | " + " | ".join(f"{c[True]} / {c[False]} / {c[None]}" for c in shown) + " |")
    print("\n".join(["", *wrong]), flush=True)
    return len(wrong)


def drawn(count: int, seed: int):
    """Yield motions of random parameters and starts."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        u, x = rng.uniform(size=3), rng.uniform(0.1, 0.5, size=3)
        yield Motion(f"logistic {2.8 + 1.2 * u[0]:.4f}", (), known.logistic(2.8 + 1.2 * u[0]), (x[0],))
        yield Motion(f"Henon {1.4 * u[0]:.4f}", (), known.henon(1.4 * u[0]), (x[0] / 3, x[1] / 3))
        yield Motion(f"circle {u[0]:.4f} {u[1]:.3f}", (), known.circle(u[0], u[1]), (x[0],))
        yield Motion(f"twist {u[0]:.4f}", (), known.twist(u[0]), (3 * x[0], 0.5 * x[1]))
        if i % 2:
            continue
        yield Motion(f"Lorenz {200 * u[0]:.2f}", (), known.lorenz(200 * u[0]), tuple(10 * x), flow=True, steps=400)
        yield Motion(f"Roessler {2 + 7 * u[0]:.3f}", (), known.roessler(2 + 7 * u[0]), tuple(x), flow=True, steps=60)
        yield Motion(f"van der Pol {3 * u[0]:.3f}", (), known.van_der_pol(3 * u[0]), (x[0], x[1]), flow=True, steps=60)
        force = known.duffing(0.05 + 0.2 * u[0], 8 * u[1], 1.0)
        yield Motion(f"Duffing {u[0]:.3f} {8 * u[1]:.3f}", (), force, (x[0], x[1]), flow=True, steps=60, driven=True)


def held_out(count: int, seed: int, longest: int = 8000) -> int:
    """Print how verdicts agree with those of the longest run; two names for one thing (settling, equilibrium) agree."""
    cells, wrong = defaultdict(Counter), []
    for motion in drawn(count, seed):
        last = judge(record(motion, longest, longest=longest))
        for n in (50, 200, 1000, 4000):
            verdict = judge(record(motion, n, longest=longest))
            if "undecided" in (verdict.name, last.name):
                found = "undecided" if verdict.name == "undecided" else "no reference"
            else:
                same = verdict.name == last.name or verdict.name == "settling"
                found = "agrees" if same else "differs"
            cells[n][found] += 1
            if found == "differs":
                wrong.append(f"{motion.name}, {n} intervals: {verdict}\n    at {longest}: {last}")
    print("\n| intervals | agrees | differs | undecided | no reference |\n|---|---|---|---|---|")
    for n, c in cells.items():
        print(f"| {n} | {c['agrees']} | {c['differs']} | {c['undecided']} | {c['no reference']} |")
    print("\n".join(["", *wrong]), flush=True)
    return len(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--count", type=int, default=30, help="draws (held-out)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(time.strftime("%Y-%m-%d"), f"{len(MOTIONS)} systems")
    if given.held_out:
        held_out(given.count, given.seed)
        return 0
    wrong = confusion("float64, all exponents, three starts", 3)
    wrong += confusion("float64, the largest exponent only (count=1)", 1, count=1)
    wrong += confusion("float32", 1, dtype="float32")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
