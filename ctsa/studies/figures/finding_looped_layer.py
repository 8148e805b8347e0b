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
    dtype, slack = ("float32", 1e-6) if bench.quick else ("float64", 1e-11)
    model = pretrained.load()
    loop, be = pretrained.loop(model, LAYER, bench.face, dtype=dtype), load(bench.backend)
    path = as_numpy(ctsa.iterate(loop, be.asarray(model.states(TEXT)[LAYER], dtype), transient, every=10).xs)
    gap = 1e-3 * np.sqrt(model.d)
    labels = clusters(path[-1], gap)
    counts = [int(clusters(x, gap).max()) + 1 for x in path]
    sizes = np.bincount(labels)
    bench.say(f"{counts[-1]} groups of {sizes.tolist()} tokens after {transient} loops")
    bench.check(
        "groups after the transient",
        counts[-1],
        len(labels) - 1,
        relation="at most",
        source="else nothing is synchronised",
    )
    mean = averaging(labels)
    spread = np.abs(path[-1] - mean @ path[-1]).max()
    bench.check("farthest component of a token from the mean of its group", spread, 0.0, 2e-2, source="synchronised")
    x, (u, names) = be.asarray(mean @ path[-1], dtype), directions(labels, model.d)
    projections = np.stack(
        [
            mean if name == "across" else np.diag((v != 0).any(1) * 1.0) @ (np.eye(len(mean)) - mean)
            for name, v in zip(names, u, strict=True)
        ]
    )
    u = be.asarray(u, dtype)
    leaves(bench, loop, x, u, mean, projections, slack)
    march = be.partial(_step, loop, be.asarray(mean, dtype), be.asarray(projections, dtype))
    logs = as_numpy(be.scan(march, (x, u), wait + loops)[1]).astype(float)[wait:]
    bars = [error_bar(column) for column in logs.T]
    found, errors = logs.mean(0), [float(bar.sigma) for bar in bars]
    for name, value, error in zip(names, found, errors, strict=True):
        bench.say(f"{name}: {value:+.4f} +- {error:.4f}")
        if name == "across":
            bench.check(
                "exponent across groups",
                value,
                PUBLISHED,
                3 * np.hypot(error, ERROR),
                source="largest exponent over 1400 loops",
            )
        elif not bench.quick:  # sixty loops do not resolve the sign
            bench.check(f"exponent {name}", value, -2 * error, relation="at most", source="its tokens stay together")
    rows = [
        dict(part="exponent", which=name, exponent=float(value), stderr=error, loop=0, groups=0)
        for name, value, error in zip(names, found, errors, strict=True)
    ]
    rows += [
        dict(part="groups", which="", exponent=0.0, stderr=0.0, loop=10 * i, groups=count)
        for i, count in enumerate(counts)
    ]
    told = ", ".join(
        f"{name} {value:+.4f} +- {error:.4f}" for name, value, error in zip(names, found, errors, strict=True)
    )
    notes = [
        f"{len(labels)} tokens are {counts[-1]} groups of {sorted(sizes.tolist(), reverse=True)} after {transient} loops.",
        f"Largest exponents over {loops} loops: {told}.",
    ]
    return bench.found(rows, notes)


def averaging(labels: np.ndarray) -> np.ndarray:
    """Return the matrix that puts the mean of its group in place of each token."""
    same = (labels[:, None] == labels).astype(float)
    return same / same.sum(1)


def directions(labels: np.ndarray, d: int) -> tuple[np.ndarray, list[str]]:
    """Return a direction within each group of two or more, which leaves its mean, and one that moves whole groups."""
    rng, mean = np.random.default_rng(0), averaging(labels)
    found, names = [], []
    for k, size in enumerate(np.bincount(labels)):
        if size > 1:
            u = rng.normal(size=(len(labels), d)) * (labels == k)[:, None]
            found.append(u - mean @ u)
            names.append(f"within the group of {size} that token {int(np.argmax(labels == k))} is in")
    found.append(mean @ rng.normal(size=(len(labels), d)))
    return np.stack([u / np.linalg.norm(u) for u in found]), [*names, "across"]


def leaves(bench: Bench, loop: Any, x: Any, u: Any, mean: np.ndarray, projections: np.ndarray, slack: float) -> None:
    """Check that groups stay together in the map, and that its derivative keeps the kinds of directions apart."""
    y, du = map(as_numpy, backend(x).call(layer_pushforward, loop, x, u))
    bench.near(
        "tokens of a group after one loop, farthest apart",
        y, mean @ y, slack, source="a layer treats tokens alike",
    )  # fmt: skip
    bench.near(
        "directions after one loop, largest part of another kind",
        du, projections @ du, slack, source="symmetry of equal tokens",
    )  # fmt: skip


def _step(loop: Any, mean: Any, projections: Any, carry: tuple) -> tuple:
    """Go one loop, take out what rounding adds of other kinds, and return the logarithms of lengths."""
    x, u = carry
    y, du = layer_pushforward(loop, x, u)
    du = projections @ du
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
