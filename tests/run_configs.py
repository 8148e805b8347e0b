"""Small configs of runs, for tests."""

from ctsa.runs import read_config

SMALL = [
    "tokens.n=4", "simulate.duration=2", "simulate.points=21", "lyapunov.intervals=12", "lyapunov.transient=4",
    "jacobian.time=2", "compare.duration=1", "compare.step_sizes=[0.2, 0.1]", "equilibria.starts=4", "basins.starts=8",
    "continue.starts=4", "continue.span=[0.8, 2.2]", "continue.states=1", "monitor.points=5", "monitor.duration=1",
]  # fmt: skip
LAYER = ["layer.kind=EulerLayer", "layer.step=0.1"]


def config_of(*changes, name=None):
    config = read_config(None, [*SMALL, *changes])
    return config if name is None else config.only(name)


def made_of(*changes, face="torch"):
    return read_config(None, ["tokens.n=4", *changes]).make(face)
