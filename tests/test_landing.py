"""Output times are landed on, also by steps that are as long as the outputs are apart."""

import numpy as np
import pytest
from sampling import sample

import ctsa


def fields(face):
    rng = np.random.default_rng(0)
    x0 = ctsa.random_tokens(32, 3, seed=0)
    query, value = rng.normal(size=(2, 3, 3)) / np.sqrt(3)
    return face.SelfAttention(query, value=value, beta=4.0), x0


@pytest.mark.parametrize("solver", sample(["dopri5", "dopri8", "bosh3"], lambda solver: solver != "dopri8"))
@pytest.mark.parametrize("spacing", sample([0.2, 0.1, 0.4], lambda spacing: spacing == 0.2))
def test_no_slivers(face, solver, spacing):
    """From many outputs, one a step, to few: the run neither fails nor takes steps of an ulp."""
    field, x0 = fields(face)
    end = 100 * spacing  # as many outputs for every spacing, so that JAX compiles each solver once
    ts = np.linspace(0.0, end, 101)
    atol = 1e-5 if solver == "bosh3" else 1e-8
    dense = ctsa.integrate(field, x0, ts, solver, atol=atol)
    ends = ctsa.integrate(field, x0, [0.0, end], solver, atol=atol)
    assert dense.stats["steps"] <= ends.stats["steps"] + 2 * len(ts)
    assert np.abs(face.numpy(dense.xs[-1]) - face.numpy(ends.xs[-1])).max() < 1e3 * atol


def test_steps_of_the_spacing(face):
    """A rotation at a tolerance where the natural step is the spacing: as many steps as outputs, not a restart each."""
    field = face.Rotation(frequencies=[1.0])
    ts = np.linspace(0.0, 10.0, 101)
    for atol in np.geomspace(1e-12, 1e-6, 13):
        path = ctsa.integrate(field, ctsa.random_tokens(1, 2), ts, atol=atol)
        exact = np.arctan2(*face.numpy(path.xs[0, 0])[::-1]) + ts
        want = np.stack([np.cos(exact), np.sin(exact)], -1)
        assert np.abs(face.numpy(path.xs[:, 0]) - want).max() < 1e3 * atol
        assert path.stats["steps"] < 6 * len(ts)
