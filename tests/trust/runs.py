"""Kill runs at random moments, go on, and compare with runs that nothing has disturbed.

``python tests/trust/runs.py [--kills 20] [--seed 0]``: simulate, lyapunov, basins and train, each until it has been killed
so often. Prints a line for each, and exits with 1 if anything differs or cannot be read.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ctsa

LONG = {
    "simulate": ["tokens.n=64", "simulate.duration=400", "simulate.points=2001", "field.beta=6"],
    "lyapunov": ["tokens.n=16", "lyapunov.intervals=600", "lyapunov.transient=10", "field.value={kind='goe', seed=1}"],
    "basins": ["tokens.n=8", "basins.starts=400", "field.beta=4"],
}
TRAINING = """
[task]
name = "sudoku-4x4"
count = 200
ood_count = 50
[model]
d = 16
[training]
steps = 300
batch = 8
depth = 8
save_every = 0.2
"""


def command(name, out, config):
    words = [sys.executable, "-m", "ctsa", name, *([str(config)] if name == "train" else []), "--backend", "torch"]
    changes = [] if name == "train" else [*LONG[name], "output.report=false", "output.pictures=false"]
    return [*words, "--out", str(out), "--quiet", *(word for change in changes for word in ("--set", change))]


def what(name, out):
    if name == "train":
        run = ctsa.load(out / "run.npz")
        return {"losses": np.asarray(run.losses), "gradients": np.asarray(run.gradients)}
    found = ctsa.load(out).results[name]
    known = (key for key in ("xs", "ts", "history", "ends", "kind_index") if hasattr(found, key))
    return {key: np.asarray(getattr(found, key)) for key in known}


def readable(name, out):
    if name == "train":
        log = out / "log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()[:-1]] if log.exists() else []
    run = ctsa.load(out)
    return [run.table(), *(run.results[each] for each in run.results)]


def trial(name, kills, rng, folder):
    config = folder / "train.toml"
    config.write_text(TRAINING)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    subprocess.run(command(name, folder / "whole", config), check=True, capture_output=True, env=env)
    whole, length = what(name, folder / "whole"), time.monotonic() - began
    killed, different, rounds = 0, 0, 0
    while killed < kills:
        out, more, rounds = folder / f"cut-{rounds}", [], rounds + 1
        while True:
            words, pipes = [*command(name, out, config), *more], dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            run = subprocess.Popen(words, env=env, **pipes)
            try:
                run.wait(rng.uniform(0.2, 1.0) * length if killed < kills else None)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                killed += 1
            said = run.communicate()[1].decode()
            if run.returncode == 0:
                break
            if run.returncode != -signal.SIGKILL:
                raise SystemExit(f"{name}: {said}")
            if (out / ("config.json" if name == "train" else "run.json")).exists():
                readable(name, out)
                more = ["--resume"]
        found = what(name, out)
        different += any(not np.array_equal(whole[key], found[key], equal_nan=True) for key in whole)
    print(f"{name}: {killed} kills in {rounds} runs of {length:.1f} s, {different} differ", flush=True)
    return different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*LONG, "train"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    worst = 0
    for name in given.names:
        with tempfile.TemporaryDirectory() as folder:
            worst += trial(name, given.kills, random.Random(f"{given.seed} {name}"), Path(folder))
    sys.exit(1 if worst else 0)
