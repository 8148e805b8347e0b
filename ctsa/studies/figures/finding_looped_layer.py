"""Layer 3 of all-MiniLM-L6-v2 over and over: tokens synchronise into groups, and the groups are chaotic."""

from typing import Any

import numpy as np

import ctsa
from ctsa import pretrained
from ctsa._backend import backend, load
from ctsa.clustering import clusters
from ctsa.derivatives import layer_pushforward
from ctsa.errorbars import error_bar
from ctsa.results.base import as_numpy
from ctsa.studies.findings import Findings

from .bench import Bench

TEXT = "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."
LAYER = 3
PUBLISHED, ERROR = 0.0805, 0.0055  # the largest exponent over 1400 loops after 300, by ``lyapunov_spectrum``


def run(bench: Bench) -> Findings:
    """Wait for groups, then measure exponents within each and across all of them."""
    transient, loops, wait = (240, 60, 10) if bench.quick else (400, 1400, 50)
    model = pretrained.load()
    loop, be = pretrained.loop(model, LAYER, bench.face), load(bench.backend)
    path = as_numpy(ctsa.iterate(loop, be.asarray(model.states(TEXT)[LAYER]), transient, every=10).xs)
    gap = 1e-3 * np.sqrt(model.d)
    labels = clusters(path[-1], gap)
    counts = [int(clusters(x, gap).max()) + 1 for x in path]
    sizes = np.bincount(labels)
    bench.say(f"{counts[-1]} groups of {sizes.tolist()} tokens after {transient} loops")
    bench.check("groups after the transient", counts[-1], len(labels) - 1, relation="at most", source="else nothing is synchronised")
    mean = averaging(labels)
    x = be.asarray(mean @ path[-1])
    u, names = directions(labels, model.d)
    leaves(bench, loop, x, be.asarray(u), mean, names)
    march = be.partial(_step, loop, be.asarray(mean), be.asarray(np.array([name == "across" for name in names], float)))
    logs = as_numpy(be.scan(march, (x, be.asarray(u)), wait + loops)[1])[wait:]
    bars = [error_bar(column) for column in logs.T]
    found, errors = logs.mean(0), [float(bar.sigma) for bar in bars]
    for name, value, error in zip(names, found, errors, strict=True):
        bench.say(f"{name}: {value:+.4f} +- {error:.4f}")
        if name == "across":
            bench.check("exponent across groups", value, PUBLISHED, 3 * np.hypot(error, ERROR), source="largest exponent over 1400 loops")
        else:
            bench.check(f"exponent {name}", value, -2 * error, relation="at most", source="its tokens stay together")
    rows = [dict(part="exponent", which=name, exponent=float(value), stderr=error, loop=0, groups=0)
            for name, value, error in zip(names, found, errors, strict=True)]  # fmt: skip
    rows += [dict(part="groups", which="", exponent=0.0, stderr=0.0, loop=10 * i, groups=count) for i, count in enumerate(counts)]
    told = ", ".join(f"{name} {value:+.4f} +- {error:.4f}" for name, value, error in zip(names, found, errors, strict=True))
    notes = [f"{len(labels)} tokens are {counts[-1]} groups of {sorted(sizes.tolist(), reverse=True)} after {transient} loops.",
             f"Largest exponents over {loops} loops: {told}."]  # fmt: skip
    return bench.found(rows, notes)


def averaging(labels: np.ndarray) -> np.ndarray:
    """Return the matrix that puts the mean of its group in place of each token."""
    same = (labels[:, None] == labels).astype(float)
    return same / same.sum(1)


def directions(labels: np.ndarray, d: int) -> tuple[np.ndarray, list[str]]:
    """Return a random direction within each group of two or more, which leaves its mean, and one that moves groups as a whole."""
    rng, mean = np.random.default_rng(0), averaging(labels)
    found, names = [], []
    for k, size in enumerate(np.bincount(labels)):
        if size > 1:
            u = rng.normal(size=(len(labels), d)) * (labels == k)[:, None]
            found.append(u - mean @ u)
            names.append(f"within the group of {size} that token {int(np.argmax(labels == k))} is in")
    found.append(mean @ rng.normal(size=(len(labels), d)))
    return np.stack([u / np.linalg.norm(u) for u in found]), [*names, "across"]


def leaves(bench: Bench, loop: Any, x: Any, u: Any, mean: np.ndarray, names: list[str]) -> None:
    """Check that groups stay together in the map, and that its derivative keeps both kinds of directions apart."""
    y, du = map(as_numpy, layer_pushforward(loop, x, u))
    bench.check("tokens of a group after one loop, farthest apart", np.abs(y - mean @ y).max(), 0.0, 1e-11, source="a layer treats tokens alike")
    off = [np.abs(v - mean @ v if name == "across" else mean @ v).max() for name, v in zip(names, du, strict=True)]
    bench.check("directions after one loop, largest part of the other kind", max(off), 0.0, 1e-11, source="symmetry of equal tokens")


def _step(loop: Any, mean: Any, across: Any, carry: tuple) -> tuple:
    """Go one loop, take out what rounding adds of the other kind, and return the logarithms of lengths."""
    x, u = carry
    y, du = layer_pushforward(loop, x, u)
    whole, kind = mean @ du, across[:, None, None]
    du = kind * whole + (1 - kind) * (du - whole)
    length = (du * du).sum((-2, -1)) ** 0.5
    return (mean @ y, du / length[:, None, None]), backend(x).xp.log(length)


def draw(found: Findings, *, axes: Any = None) -> Any:
    """Draw the number of groups against the loop, and exponents with their errors; return the two ``Axes``."""
    from .drawing import finish, panels

    left, right = panels(axes, 2)
    mine = found.where(part="groups")
    left.plot(mine["loop"], mine["groups"], "o-", markersize=3, linewidth=1)
    left.set_ylim(0)
    finish(left, "loop", "groups of equal tokens")
    mine = found.where(part="exponent")
    at = np.arange(len(mine["which"]))
    right.errorbar(at, mine["exponent"], mine["stderr"], fmt="o", markersize=3, capsize=2)
    right.axhline(0, color="0.7", linewidth=0.8)
    labels = ["across" if w == "across" else f"within {w.split()[4]}" for w in mine["which"].tolist()]
    right.set_xticks(at, labels)
    right.set_xlim(-0.5, len(at) - 0.5)
    finish(right, "", "largest exponent")
    return np.array([left, right])
