"""
Many runs: sweeps, thresholds, a run that is kept
=================================================

A figure over a parameter takes hundreds of runs. ``ctsa.sweep`` makes them, on all cores or on a cluster, and hands them
over as one labelled dataset; ``refine`` looks closer where an answer changes. A file of settings does the same from the
command line, and keeps what came of it.
"""

# %%
# How many clusters, for how long?
# --------------------------------
# Tokens on the sphere meet in stages (arXiv 2410.06833): clusters look at rest for a time that grows exponentially with
# the inverse temperature beta, until two of them merge.
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

import ctsa
from ctsa.torch import SelfAttention

short = bool(os.environ.get("CTSA_SHORT"))
times = np.array([0.0, 2.0, 5.0, 10.0, 20.0])


def clusters(beta, seed):
    with torch.no_grad():
        flow = ctsa.integrate(SelfAttention(beta=beta), ctsa.random_tokens(24, 3, seed=seed), times, atol=1e-6)
    return {"clusters": (("time",), ctsa.cluster_count(flow.xs[1:], gap=1e-2))}


grid = {"beta": np.linspace(1.0, 12.0, 4 if short else 12), "seed": range(2 if short else 8)}
data = ctsa.sweep(clusters, grid, workers=0).assign_coords(time=times[1:])  # workers=None: all cores
print(data["clusters"].mean("seed").round(1).sel(time=20.0).values)

# %%
# Means over seeds, with their standard errors. The same data are a map.
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
ctsa.plot.sweep(data, "clusters", x="beta", over="seed", ax=axes[0])
ctsa.plot.sweep(data.sel(time=20.0), "clusters", x="beta", y="seed", ax=axes[1])

# %%
# A threshold, closer and closer
# ------------------------------
# Two tokens at opposite ends of the leading eigenvector of V = diag(3, 2, 1) with A = V: a stable state from
# ``beta = artanh(2/3) / 3`` on (arXiv 2511.11553). Points are added where the growth rate changes its sign.
V = np.diag([3.0, 2.0, 1.0])
poles = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])


def growth(beta):
    return {"growth": ctsa.eigenvalues(SelfAttention(key=V, value=V, beta=beta), poles).real[0]}


found = ctsa.sweep(growth, {"beta": [0.1, 1.0]}, workers=0, refine="beta", rounds=16, by="growth")
low = float(found.beta.where(found.growth > 0).max())
high = float(found.beta.where(found.growth <= 0).min())
print(f"{len(found.beta)} points: between {low:.6f} and {high:.6f}; artanh(2/3) / 3 = {np.arctanh(2 / 3) / 3:.6f}")
ctsa.plot.sweep(found, "growth")

# %%
# A run that is kept
# ------------------
# What ``ctsa run first.toml`` does, from Python: checked first, foretold, then run into a folder that opens again, with
# a report that moves. ``resume=True`` would go on after an interrupt.
from ctsa.runs import read_config, run_config

settings = ["field.beta=9", "simulate.duration=20", "simulate.points=101", "jacobian.time=20"]
config = read_config(None, settings)
print(ctsa.estimate("simulate", SelfAttention(beta=9.0), ctsa.random_tokens(32, 3), duration=20.0))
run = run_config(config, tempfile.mkdtemp() + "/first", backend="torch", progress=False)
print(run)
print(run.results["jacobian"])
run.results["simulate"].plot()
print(sorted(path.name for path in run.folder.iterdir() if path.name[0] != "."))
