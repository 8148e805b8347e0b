"""All tables of docs/benchmarks.md from one command: ``python tests/benchmarks [PART ...]``, an hour or two.

Each script runs in a process of its own, one thread; peers are timed in the same process in turns. A PART runs only the
scripts whose names have it (``python tests/benchmarks flow lyapunov``). ``bench_device.py`` is for machines with a GPU, and
stands by itself.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

TABLES = [  # as docs/benchmarks.md names them
    "flow --sizes 8x3,32x3,256x3,128x64",
    "merging --plain",
    "lyapunov",
    "systems",
    "compiling",
    "tangent jax",
    "tangent torch",
    "products torch --dense",
    "products jax",
    "basins",
    "diagnose",
    "training torch",
    "training jax",
    "chunked",
    "chunked --flow",
    "harmonic",
    "harmonic --runs",
    "sweeps spectra trivial",
    "film",
]


def main(wanted: list[str]) -> int:
    """Run the scripts; return how many failed."""
    here, failed = Path(__file__).parent, 0
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for table in TABLES:
        name, *options = table.split()
        if wanted and not any(part in name for part in wanted):
            continue
        began = time.perf_counter()
        print(f"\n== bench_{table}", flush=True)
        done = subprocess.run([sys.executable, here / f"bench_{name}.py", *options], env=os.environ | one)
        print(f"== bench_{table}: {time.perf_counter() - began:.0f} s, exit {done.returncode}", flush=True)
        failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
