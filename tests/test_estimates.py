"""Estimates: memory by sizes, time by probes."""

import numpy as np
import pytest
from run_configs import LAYER, config_of
from sampling import mainly

import ctsa
from ctsa.runs import ANALYSES, read_config
from ctsa.runs.estimating import Estimate, duration, estimate, estimate_of, size


def test_estimates_of_memory(torch_face):
    field = torch_face.SelfAttention()
    huge = np.zeros((60_000, 64))
    huge[:, 0] = 1.0
    assert estimate("simulate", field, huge, probe=False).fits  # in blocks of rows
    field = torch_face.SelfAttention(how="dense")
    found = estimate("simulate", field, huge, probe=False)
    assert not found.fits and found.memory > 3 * 8 * 60_000**2 and "of these 60000 tokens would fit" in found.advice
    with pytest.raises(ValueError, match="simulate would need about .* GiB .*: .* tokens would fit"):
        found.require()
    assert not estimate("jacobian", field, ctsa.random_tokens(30_000, 3), probe=False).fits
    assert estimate("lyapunov", field, ctsa.random_tokens(32, 3), probe=False).fits
    with pytest.raises(ValueError, match="lyapunov would need"):
        estimate("lyapunov", field, ctsa.random_tokens(32, 3), intervals=10**12, probe=False).require()


@mainly("torch")
def test_estimates_of_time(face):
    """The time of a thousand times as much is a thousand times as long, whatever the machine does meanwhile."""
    field, x0 = face.SelfAttention(), ctsa.random_tokens(8, 3)
    found = estimate("lyapunov", field, x0, intervals=10**6, transient=0)
    assert isinstance(found, Estimate) and found.unit == "intervals" and found.amount == 10**6
    assert 10 < found.seconds < 10**6 and found.probe < 60
    assert estimate("simulate", face.EulerLayer(field, 0.1), x0, depth=100).unit == "layers"


@pytest.mark.parametrize("name", list(ANALYSES))
def test_every_analysis_has_an_estimate(name):
    layer = ANALYSES[name].system == "layer"
    config = read_config(None, ["tokens.n=4", *LAYER]).only(name) if layer else config_of(name=name)
    if name == "equilibria":
        config = config_of("equilibria.starts=2", "tokens.n=2", name=name)
    found = estimate_of(name, config.make("torch"), config.analyses[name])
    assert found.fits and found.memory > 0 and (np.isfinite(found.seconds) or name in ("continue", "survey"))
    assert found.table().startswith("analysis") and found.unit in found.table()


def test_words_of_sizes():
    assert [duration(s) for s in (0.5, 100, 7200, 3e5, 1e9, np.nan)] == [
        "0.5 s", "1.67 minutes", "2 hours", "3.47 days", "31.7 years", "not known"
    ]  # fmt: skip
    assert [size(2.0**k) for k in (10, 20, 30, 40)] == ["1 KiB", "1 MiB", "1 GiB", "1 TiB"]
