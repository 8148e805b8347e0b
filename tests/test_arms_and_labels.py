"""Pitchforks reached along their arm, parameters of modules of one's own, and the labels of basins in flat space."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sampling import mainly, sample

import ctsa
import ctsa.torch

FLAT = ctsa.Euclidean()
ARMS = {  # field of the parameter, and the arm
    "supercritical": (lambda p: lambda t, x: p * x + x**3, lambda p: (-p) ** 0.5),
    "subcritical": (lambda p: lambda t, x: -p * x - x**3, lambda p: (-p) ** 0.5),
    "sheared": (lambda p: lambda t, x: (x - 0.3 * p) * (p + (x - 0.3 * p) ** 2), lambda p: (-p) ** 0.5 + 0.3 * p),
}


@pytest.mark.parametrize(
    ("start", "name"),
    sample(
        [(start, name) for start in (-1.0, -0.9, -0.77, -0.5) for name in ARMS],
        lambda start, name: start == -0.5 or (start, name) in ((-1.0, "sheared"), (-0.77, "supercritical")),
    ),
)
def test_pitchfork_along_its_arm(name, start):
    field_of, arm = ARMS[name]
    x = torch.tensor([[arm(start)]], dtype=torch.float64)
    for step in (0.01, 0.02, 0.05) if start == -0.77 else (0.02, 0.05):  # the finest takes as long as both others
        diagram = ctsa.bifurcation_diagram(None, [x], field_of, (-1.2, 1.2), at=start, geometry=FLAT, step=step)
        assert [[q.kind for q in b.points] for b in diagram] == [["branch point"], ["branch point"]]
        assert all(abs(b.points[0].parameter) < 1e-12 for b in diagram)


@mainly("torch")
def test_pitchfork_along_its_arm_on_the_circle(face):
    """angle' = sin a (cos a - p): the arm cos a = p meets a = 0 at p = 1."""
    field = face.SelfAttention(value=np.diag([0.0, 1.0]), beta=1.0) + 0.5 * face.Injection([1.0, 0.0])
    diagram = ctsa.bifurcation_diagram(field, [np.array([[0.5, 0.75**0.5]])], "factor", (0.2, 1.5))
    assert len(diagram) == 2
    for branch in diagram:
        (point,) = branch.points
        assert point.kind == "branch point" and abs(point.parameter - 1) < 1e-12


@pytest.mark.parametrize(
    ("field_of", "x", "p", "folds"),
    [
        (lambda p: lambda t, x: p - x**2, 1.0, 1.0, [0.0]),
        (lambda p: lambda t, x: 1e-4 * (p - x**2), 1.0, 1.0, [0.0]),
        (lambda p: lambda t, x: p + x - x**3, -1.5, -1.875, [2 / 27**0.5, -2 / 27**0.5]),
        (lambda p: lambda t, x: p - x**3, 1.0, 1.0, []),  # the cubic point: the parameter only slows down
    ],
)
def test_folds_stay_folds(field_of, x, p, folds):
    start = torch.tensor([[x]], dtype=torch.float64)
    points = ctsa.continue_equilibrium(None, start, field_of, (-3.0, 3.0), at=p, geometry=FLAT).points
    assert [q.kind for q in points] == ["fold"] * len(folds)
    assert sorted(q.parameter for q in points) == pytest.approx(sorted(folds), abs=1e-11)


class TorchField(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, t, x):
        return self.k - x**2


class JaxField(eqx.Module):
    k: float = 1.0

    def __call__(self, t, x):
        return self.k - x**2


@pytest.mark.parametrize(("make", "array"), [(TorchField, torch.as_tensor), (JaxField, jnp.asarray)])
def test_a_parameter_of_a_module_of_ones_own(make, array):
    field, x = make(), array(np.array([[1.0]]))
    (fold,) = ctsa.continue_equilibrium(field, x, "k", (-1.0, 2.0), geometry=FLAT).points
    assert fold.kind == "fold" and abs(fold.parameter) < 1e-12
    assert float(np.asarray(getattr(field.k, "data", field.k))) == 1.0
    with pytest.raises(ValueError, match=r"parameter='q'.*its numbers are 'k'\): name one of those, or pass a function"):
        ctsa.continue_equilibrium(field, x, "q", (-1.0, 2.0), geometry=FLAT)
    with pytest.raises(ValueError, match=r"it has none that is a number\): pass a function"):
        ctsa.continue_equilibrium(lambda t, x: -x, 0 * x, "q", (-1.0, 2.0), geometry=FLAT)


def test_a_parameter_function_must_return_a_field():
    with pytest.raises(TypeError, match=r"parameter\(1\) returned float"):
        ctsa.continue_equilibrium(None, torch.ones(1, 1), lambda p: p, (0.1, 2.0), at=1.0, geometry=FLAT)


@pytest.mark.parametrize("array", sample([torch.as_tensor, jnp.asarray], lambda array: array is jnp.asarray))
def test_starts_that_escape_are_a_label(array):
    """x' = x^3 - x reaches infinity in finite time from |x| > 1, and 0 from elsewhere."""
    starts = array(np.linspace(-1.95, 2.05, 41)[:, None, None])
    found = ctsa.basins(lambda t, x: x**3 - x, starts, geometry=FLAT)
    inside = np.abs(np.asarray(starts)[:, 0, 0]) < 1
    assert np.array_equal(found.labels(), np.where(inside, "consensus", "escaped"))
    assert found.share("escaped")[0] == (~inside).mean() and "escaped" in found.table() and found.plot() is not None


def test_numbered_limits():
    """Three wells, of which two have one name by kind; a line of equilibria is one limit."""
    starts = torch.linspace(-2.9, 3.1, 25, dtype=torch.float64)[:, None, None]
    found = ctsa.basins(lambda t, x: -torch.sin(np.pi * x), starts, geometry=FLAT)
    assert found.attractor.tolist() == (np.round(np.asarray(starts)[:, 0, 0] / 2).astype(int) + 1).tolist()
    assert set(found.counts()) == {f"consensus #{k}" for k in range(4)}
    pairs = torch.as_tensor(np.random.default_rng(0).normal(size=(6, 3, 2)))
    flock = ctsa.basins(lambda t, x: x.mean(-2, keepdim=True) - x, pairs, geometry=FLAT)
    assert flock.counts() == {"consensus (marginal)": 6}
