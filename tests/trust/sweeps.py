"""Kill sweeps at random moments, and see that the same call makes the same store of what is left.

``python tests/trust/sweeps.py [--kills 20] [--seed 0]``: in turn the process that asks, one that works, and the scheduler
are killed, each a random time after a random number of points is written, or while the store is made.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ctsa
from ctsa.sweeps import read

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))
import sweep_points  # noqa: E402


def written(out):
    try:
        return int(read(out).done.sum())
    except FileNotFoundError:
        return 0


class Cluster:
    """A scheduler and two workers, processes of their own."""

    def __init__(self, folder):
        path = os.pathsep.join([str(TESTS), *(p for p in sys.path if p)])
        quiet = {"env": {**os.environ, "PYTHONPATH": path}, "stderr": subprocess.DEVNULL}
        kept = Path(folder) / "scheduler.json"
        common = ["--scheduler-file", str(kept), "--no-dashboard"]
        run = [sys.executable, "-m"]
        here = ["--host", "127.0.0.1", "--port", "0"]
        self.scheduler = subprocess.Popen([*run, "distributed.cli.dask_scheduler", *here, *common], **quiet)
        work = [*run, "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *common]
        self.workers = [subprocess.Popen(work, **quiet) for _ in range(2)]
        while not kept.exists() or not kept.read_text().strip().endswith("}"):
            time.sleep(0.05)
        self.address = json.loads(kept.read_text())["address"]

    def __enter__(self):
        return self

    def __exit__(self, *why):
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()


def trial(kind, count, delay, folder):
    """Kill once; return what to say of it, and whether the sweep came out as it should."""
    out = Path(folder) / "out"
    with Cluster(folder) if kind != "client" else tempfile.TemporaryDirectory() as there:
        command = [sys.executable, str(TESTS / "sweep_points.py"), str(out)]
        command += [there.address] if kind != "client" else []
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not out.exists() if count < 0 else written(out) < count):
            time.sleep(0.01)
        time.sleep(delay)
        victim = {"client": process}.get(kind) or (there.scheduler if kind == "scheduler" else there.workers[0])
        alive = victim.poll() is None and process.poll() is None
        os.kill(victim.pid, signal.SIGKILL)
        status = process.wait()
    before = written(out)
    grid, function = sweep_points.GRID, sweep_points.slow
    data = ctsa.sweep(function, grid, out, workers=0).load().drop_attrs()
    ended = kind != "worker" or (status == 0 and before == data.done.size)  # the other worker does it all
    return f"{kind} at {count} + {delay:.3f} s, alive {alive}: {before} points were written", data, ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    whole = ctsa.sweep(sweep_points.slow, sweep_points.GRID, workers=0).drop_attrs()
    wrong = 0
    for i in range(given.kills):
        with tempfile.TemporaryDirectory() as folder:
            kind, count = ("client", "worker", "scheduler")[i % 3], int(rng.integers(-1, 50))
            said, data, ended = trial(kind, count, float(rng.uniform(0, 0.1)), folder)
            good = ended and data.identical(whole)
            wrong += not good
            print(f"{'as undisturbed' if good else 'WRONG'}: {said}", flush=True)
    print(f"{given.kills} kills, {wrong} sweeps differ from the undisturbed one")
    sys.exit(wrong > 0)
