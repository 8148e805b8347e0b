"""What commands print: a run as tables, or as JSON of a fixed shape."""

import json
from typing import Any

from pydantic import BaseModel, Field

from ctsa import __version__
from ctsa.runs import Run, answers
from ctsa.runs.telling import jsonable


class Summary(BaseModel):
    """What ``--json`` prints of a run; ``ctsa schema summary`` prints its schema."""

    ctsa: str = Field(description="version")
    folder: str
    state: str = Field(json_schema_extra={"enum": ["running", "done", "failed", "interrupted"]})
    backend: str
    dtype: str
    seed: int
    seconds: dict[str, float | None] = Field(description="by analysis; null where it is not done")
    errors: dict[str, str] = Field(description="by analysis that failed")
    results: dict[str, dict[str, Any]] = Field(description="by analysis: kind, numbers, words, arrays of up to 64 entries")


def summary(run: Run) -> dict[str, Any]:
    """Return a run as JSON."""
    told = run.about.get("analyses", {})
    results = {}
    for name in told:
        if name in run.results:
            found = run.results[name]
            results[name] = {"kind": type(found).__name__, **jsonable(answers(found))}
    return Summary(
        ctsa=__version__, folder=str(run.folder), state=run.state, backend=run.about["backend"], dtype=run.about["dtype"],
        seed=run.about["seed"], seconds={name: known.get("seconds") for name, known in told.items()},
        errors={name: known["error"] for name, known in told.items() if known.get("error")}, results=results,
    ).model_dump()  # fmt: skip


def print_sweep(run: Run, as_json: bool) -> None:
    """Print a sweep: its variables along its axes, or each point as an object of JSON."""
    data = run.sweep.load()
    if as_json:
        import numpy as np

        axes = [str(d) for d in data["done"].dims]
        points = []
        for at in np.ndindex(*(data.sizes[d] for d in axes)):
            place = dict(zip(axes, at, strict=True))
            point = {d: data[d].values[i].item() for d, i in place.items()}
            row = data.isel(place)
            told = {str(name): row[name].values for name in row.data_vars}
            points.append({"point": point, **jsonable({k: v.item() if not v.ndim else v for k, v in told.items()})})
        state = dict(ctsa=__version__, folder=str(run.folder), state=run.state, backend=run.about["backend"])
        print(json.dumps({**state, "points": points}, allow_nan=False))
        return
    print(data)
    print(f"\nwritten to {run.folder}/")


def print_run(run: Run, as_json: bool, about: bool = False) -> None:
    """Print a run: its results, and with ``about`` what it is."""
    if run.about.get("kind") == "sweep":
        if about and not as_json:
            print(f"{run.table()}\n")
        return print_sweep(run, as_json) if run.sweep is not None else print("no point is written yet")
    if as_json:
        print(json.dumps(summary(run), allow_nan=False))
        return None
    parts = [run.table()] if about else []
    for name in run.about.get("analyses", {}):
        if name in run.results:
            parts.append(f"{name}\n{run.results[name].table()}")
    print("\n\n".join(parts))
    if not about:
        print(f"\nwritten to {run.folder}/")
