"""Draw the figure of the paper from the tables of docs/benchmarks.md: `python paper/figure.py`.

Nothing is measured here: the tables are what `make bench` printed on one machine.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
COLOURS = {"diffrax": "#777777", "torchdiffeq": "#bb8800", "lyapax": "#8866aa", "ctsa": "#0072b2"}


def rows(heading: str, count: int) -> list[list[str]]:
    """Return the cells of the first rows of the first table under a heading."""
    text = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table[:count]]


def number(cell: str) -> float:
    """Return a number as the tables print it, nan for a dash."""
    found = re.match(r"[\d.]+", cell)
    return float(found[0]) if found else float("nan")


def integration(ax) -> None:
    """Seconds against the largest error of all outputs, a mark for each size and method."""
    methods = ["diffrax", "diffrax", "ctsa", "ctsa", "torchdiffeq", "ctsa", "ctsa"]
    for row in rows("Integration", 8):
        for k, (method, cell) in enumerate(zip(methods, row[1:], strict=True)):
            time, error = re.match(r"([\d.]+) \(([\d.e-]+)", cell).groups()
            ax.loglog(float(error), float(time), "o" if k < 4 else "^", ms=4, color=COLOURS[method], alpha=0.8)
    for name in ("diffrax", "torchdiffeq", "ctsa"):
        ax.plot([], [], "s", color=COLOURS[name], label=name)
    ax.plot([], [], "o", color="none", mec="black", label="JAX")
    ax.plot([], [], "^", color="none", mec="black", label="PyTorch")
    ax.legend(frameon=False, fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    ax.set(xlabel="largest error of all outputs", ylabel="CPU seconds of a flow")


def spectra(ax) -> None:
    """Seconds of Lyapunov spectra on JAX."""
    table = rows("Lyapunov spectra", 5)
    kinds = {"diffrax": [number(row[1]) for row in table], "lyapax": [number(row[6]) for row in table]}
    kinds["ctsa"] = [min(x for x in map(number, row[2:4]) if x == x) for row in table]
    for k, (name, times) in enumerate(kinds.items()):
        ax.bar([i + 0.27 * (k - 1) for i in range(len(table))], times, 0.25, color=COLOURS[name], label=name)
    ax.set_xticks(range(len(table)), [row[0].partition(" (")[0].replace(", ", "\n") for row in table], fontsize=7)
    ax.set(yscale="log", ylabel="CPU seconds of a spectrum", xlabel="tokens × dimension, exponents")
    ax.legend(frameon=False, fontsize=7, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))


def main() -> None:
    """Draw both panels."""
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.9), dpi=160, layout="constrained")
    integration(axes[0])
    spectra(axes[1])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=7)
        ax.xaxis.label.set_size(8), ax.yaxis.label.set_size(8)
    figure.savefig(HERE / "benchmarks.png")


if __name__ == "__main__":
    main()
