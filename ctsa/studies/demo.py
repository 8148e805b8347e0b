"""The main job, end to end: heads of a pretrained transformer as a flow on the sphere, beside the discrete layer."""

import contextlib
import importlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctsa import observables, plot, pretrained, theory
from ctsa.flows.integration import integrate
from ctsa.geometry import random_tokens
from ctsa.reports import write_report
from ctsa.results.base import Trajectory, as_numpy
from ctsa.results.files import RUN
from ctsa.runs import read_config, run_config
from ctsa.runs.about import versions
from ctsa.runs.folder import CONFIG

SENTENCE = "The bank raised its interest rates again yesterday, and the price of houses in the city began to fall."
BACKENDS = ("torch", "jax")
CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Settings:
    """How long the demo runs; ``SHORT`` is for continuous integration."""

    tokens: int = 32
    sphere_time: float = 40.0
    layers: tuple[tuple[int, float], ...] = ((4, 100.0), (5, 110.0))
    depth: int = 200
    samples: int = 221


FULL = Settings()
SHORT = Settings(tokens=12, sphere_time=12.0, layers=((5, 12.0),), depth=30, samples=61)


def installed() -> list[str]:
    """Return the backends that can be used here, by looking for their packages without importing them."""
    needs = {"torch": ("torch", "torchdiffeq"), "jax": ("jax", "equinox", "diffrax")}
    return [name for name in BACKENDS if all(importlib.util.find_spec(p) is not None for p in needs[name])]


def _face(name: str) -> Any:
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return importlib.import_module(f"ctsa.{name}")


@contextlib.contextmanager
def _no_gradients(backend: str) -> Iterator[None]:
    if backend == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield


class _Report:
    """Prints, and remembers for the summary file and the report."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.facts: dict[str, Any] = {}
        self.results: dict[str, Trajectory] = {}
        self.lines: list[str] = []

    def keep(self, part: str, trajectory: Trajectory, **facts: Any) -> None:
        self.results[part] = trajectory
        self.facts[part] = {**{k: v for k, v in trajectory.stats.items() if k != "stopped"}, **facts}

    def picture(self, name: str, axes: Any) -> None:
        figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
        figure.savefig(self.folder / f"{name}.png", dpi=130, bbox_inches="tight")
        import matplotlib.pyplot as plt

        plt.close(figure)


def _run(report: _Report, name: str, config: str, backend: str, *changes: str) -> Trajectory:
    """Run a config that ships with the demo into a folder of its own, as ``ctsa run`` does, and return the trajectory."""
    settled = read_config(CONFIGS / f"{config}.toml", [*changes, "output.pictures=false", "output.report=false"])
    home = report.folder / name
    if (home / RUN).exists():  # of an earlier demo
        shutil.rmtree(home)
    return run_config(settled, home, backend=backend, progress=False).results["simulate"]


def _time_to_cluster(ts: np.ndarray, counts: np.ndarray) -> float | None:
    """Return the first time from which the final number of clusters stays."""
    changes = np.flatnonzero(counts != counts[-1])
    if len(changes) == 0:
        return float(ts[0])
    return None if changes[-1] + 1 == len(ts) else float(ts[changes[-1] + 1])


def run(folder: Path, backend: str, settings: Settings = FULL, text: str = SENTENCE, say: Callable = print) -> dict:
    """Run the demo: compute, draw and save into ``folder``; return what the summary says.

    Args:
        folder: where pictures (.png), a folder for each run, ``report.html`` and ``summary.json`` go; made if absent. What
            an earlier demo has left there is replaced.
        backend: "torch" or "jax".
        settings: ``FULL`` or ``SHORT``.
        text: the sentence for the pretrained heads.
        say: gets every line of the report.

    Raises:
        OSError: the folder cannot be made or written.
        ValueError: the text is empty or too long for the model.
    """
    import matplotlib

    matplotlib.use("Agg")
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    report = _Report(folder, say)
    others = [b for b in installed() if b != backend]
    with _no_gradients(backend):
        _on_the_sphere(report, backend, others, settings)
        try:
            model = pretrained.load()
        except (pretrained.WeightsNotFound, ImportError) as error:
            say(f"\nPretrained heads: left out. {error}")
            report.facts["pretrained"] = {"left out": str(error)}
        else:
            for layer, end in settings.layers:
                _of_a_layer(report, backend, model, layer, end, settings, text)
    seconds = time.perf_counter() - started
    _summary(report, seconds)
    with contextlib.suppress(ImportError):  # plotly
        write_report(
            report.results, folder / "report.html", title="The demo of ctsa", summary=report.lines,
            about={"versions": versions(backend), "backend": backend, "sentence": text},
            config=(folder / "sphere" / CONFIG).read_text(), repeat=f"ctsa demo --backend {backend}",
        )  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(report.facts, indent=2) + "\n")
    return report.facts


def _on_the_sphere(report: _Report, backend: str, others: list[str], settings: Settings) -> None:
    """The classic: Q = K = V = I on S^2, whose tokens meet in stages."""
    n, end, beta = settings.tokens, settings.sphere_time, 9.0
    report.say(f"Flow of {n} tokens on S^2, Q = K = V = I, beta = {beta:g}, to t = {end:g} ({backend})")
    x0, ts = random_tokens(n, 3, seed=0), np.linspace(0.0, end, settings.samples)
    field = _face(backend).SelfAttention(beta=beta)
    sizes = (f"tokens.n={n}", f"simulate.duration={end!r}", f"simulate.points={settings.samples}")
    trajectory = _run(report, "sphere", "sphere", backend, *sizes)
    counts = observables.cluster_count(trajectory.xs, gap=1e-2)
    energies = as_numpy(observables.energy(field, _face_array(backend, trajectory.xs)))
    facts: dict[str, Any] = {"clusters": int(counts[-1]), "time_to_cluster": _time_to_cluster(ts, counts)}
    facts["energy_monotone"] = bool((np.diff(energies) >= -1e-9 * np.abs(energies[:-1])).all())
    for other in others:
        first, second = (_whole(name, beta, x0, ts) for name in (backend, other))
        facts["parity"] = float(np.abs(as_numpy(second.xs) - as_numpy(first.xs)).max())
        facts["parity_steps"] = [first.stats["steps"], second.stats["steps"]]
    exact = theory.equiangular_time(0.9, 2.0, 8)
    check = integrate(_face(backend).SelfAttention(beta=2.0), np.eye(8), [0.0, float(exact)], atol=1e-10)
    facts["closed_form_error"] = abs(float(as_numpy(observables.gram(check.xs[-1]))[0, 1]) - 0.9)
    report.keep("sphere", trajectory, **facts)
    series = {
        "energy": energies / energies[-1],
        "clusters": counts,
        "effective rank": observables.effective_rank(trajectory.xs),
    }
    report.picture("sphere", plot.trajectory(trajectory, labels=observables.clusters(trajectory.xs[-1], 1e-2)))
    report.picture("sphere_gram", plot.gram(trajectory, order="clusters"))
    report.picture("sphere_observables", plot.panels(ts, series))


def _whole(backend: str, beta: float, x0: np.ndarray, ts: np.ndarray) -> Trajectory:
    with _no_gradients(backend):
        return integrate(_face(backend).SelfAttention(beta=beta), x0, ts, atol=1e-8)


def _face_array(backend: str, x: np.ndarray) -> Any:
    from ctsa._backend import load

    return load(backend).asarray(x)


def _of_a_layer(
    report: _Report, backend: str, model: Any, layer: int, end: float, settings: Settings, text: str
) -> None:
    """All heads of one layer of the model: the flow, and the discrete layer N(x + attention) with step 1."""
    heads = model.on_sphere(text, layer)
    n, d = heads.x.shape
    report.say(
        f"Layer {layer} of all-MiniLM-L6-v2: {len(heads.query)} heads, {n} tokens in R^{d}, beta = {heads.beta:.1f}, "
        f"flow to t = {end:g} and {settings.depth} discrete layers"
    )
    said = json.dumps(text, ensure_ascii=False)
    where = (f"field.layer={layer}", f"field.text={said}", f"tokens.layer={layer}", f"tokens.text={said}")
    sizes = (f"simulate.duration={end!r}", f"simulate.points={settings.samples}")
    flow = _run(report, f"layer{layer}-flow", "layer-flow", backend, *where, *sizes)
    discrete = _run(report, f"layer{layer}-discrete", "layer-discrete", backend, *where, f"simulate.depth={settings.depth}")
    ts = flow.ts
    total = heads.value.sum(0)
    facts: dict[str, Any] = {}
    ends = {}
    for name, path in (("flow", flow), ("layer", discrete)):
        counts = observables.cluster_count(path.xs)
        facts[f"{name}_clusters"] = int(counts[-1])
        facts[f"{name}_time_to_cluster"] = _time_to_cluster(np.asarray(path.ts), counts)
        ends[name] = path.xs[-1].mean(0)
    facts["end_cosine"] = float(ends["flow"] @ ends["layer"] / np.prod([np.linalg.norm(e) for e in ends.values()]))
    values, vectors = np.linalg.eig(total.T)
    lead = int(np.argmax(values.real))
    facts["leading_eigenvalue"] = [float(values[lead].real), float(abs(values[lead].imag))]
    if abs(values[lead].imag) > 1e-9:
        # The component along a left eigenvector turns at the imaginary part of its eigenvalue.
        phase = np.unwrap(np.angle(flow.xs.mean(1) @ vectors[:, lead]))
        half = len(ts) // 2
        facts["period"] = float(2 * np.pi / abs((phase[-1] - phase[half]) / (ts[-1] - ts[half])))
        facts["predicted_period"] = float(2 * np.pi / abs(values[lead].imag))
    report.keep(f"layer{layer}_flow", flow, **facts)
    report.results[f"layer{layer}_discrete"] = discrete
    report.picture(f"layer{layer}_flow", plot.trajectory(flow))
    report.picture(f"layer{layer}_discrete", plot.trajectory(discrete))
    report.picture(f"layer{layer}_gram", plot.gram(flow, times=[0.0, 1.0, 3.0, 9.0], names=heads.tokens))
    series = {
        "clusters": observables.cluster_count(flow.xs),
        "order parameter": observables.order_parameter(flow.xs),
        "effective rank": observables.effective_rank(flow.xs),
    }
    report.picture(f"layer{layer}_observables", plot.panels(ts, series, log_time=True))


def _when(t: float | None, unit: str) -> str:
    return "not settled" if t is None else f"settled at {unit} {t:.3g}"


def _plural(count: int) -> str:
    return f"{count} cluster" + ("" if count == 1 else "s")


def _summary(report: _Report, seconds: float) -> None:
    facts = report.facts

    def say(line: str) -> None:
        report.say(line)
        report.lines.append(line.strip())

    s = facts["sphere"]
    report.say("\nSummary")
    say(f"  S^2: {_plural(s['clusters'])}, {_when(s['time_to_cluster'], 't =')}; {s['steps']} steps, "
        f"{s['rejected']} rejected; energy {'never decreases' if s['energy_monotone'] else 'DECREASES'}")  # fmt: skip
    say(f"  Closed form (equiangular tokens): error {s['closed_form_error']:.1e}")
    if "parity" in s:
        say(f"  torch against JAX: largest difference {s['parity']:.1e}, steps {s['parity_steps']}")
    else:
        say("  torch against JAX: only one framework is installed")
    for name, f in facts.items():
        if "flow_clusters" not in f:
            continue
        label = f"Layer {name[5:-5]}"
        settled = _when(f["flow_time_to_cluster"], "t =")
        say(f"  {label} flow:  {_plural(f['flow_clusters'])}, {settled}; {f['steps']} steps")
        poles = "the same pole" if f["end_cosine"] > 0.99 else "opposite poles" if f["end_cosine"] < -0.99 else "apart"
        end = f"; ends at {poles} (cosine {f['end_cosine']:+.3f})" if "period" not in f else ""
        say(f"  {label} layer: {_plural(f['layer_clusters'])}, {_when(f['layer_time_to_cluster'], 'layer')}{end}")
        if "period" in f:
            theirs = f"predicted 2 pi / Im(lambda) = {f['predicted_period']:.2f}"
            say(f"  {label} rotates: period {f['period']:.2f}, {theirs}")
    report.say(f"  Pictures and arrays in {report.folder} ({seconds:.0f} s); begin with {report.folder / 'report.html'}")
