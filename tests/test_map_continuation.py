"""Fixed points of layers followed through parameters: special points of maps that are known exactly."""

import numpy as np
import pytest
import torch
from sampling import mainly

import ctsa
from ctsa._backend import backend

FLAT = ctsa.Euclidean()


def logistic(r):
    return lambda x: r * x * (1 - x)


def delayed(a):
    """``x_(n+1) = a x_n (1 - x_(n-1))`` as a map of the plane."""

    def layer(x):
        u, v = x[..., :1], x[..., 1:]
        return backend(x).xp.concatenate([a * u * (1 - v), u], -1)

    return layer


def fold(mu):
    return lambda x: x * x + mu


def cubic(mu):
    return lambda x: mu * x - x * x * x


def follow(face, layer_of, x, span, at, **kwargs):
    return ctsa.continue_equilibrium(None, face.array([x]), layer_of, span, at=at, geometry=FLAT, **kwargs)


def test_period_doubling_of_the_logistic_map(face, close):
    branch = follow(face, logistic, [0.6], (1.5, 3.5), 2.5)
    (point,) = branch.points
    assert point.kind == "period doubling" and branch.period_doublings[0].parameter == pytest.approx(3, abs=1e-10)
    assert point.multiplicity == 1 and point.x.item() == pytest.approx(2 / 3, abs=1e-10)
    r = branch.parameters
    close(branch.xs.ravel(), 1 - 1 / r, 1e-12)
    close(branch.eigenvalues[:, 0].real, 2 - r, 1e-12)
    assert (branch.stable == (r < 3)).all() and not branch.continuous


def test_the_branch_through_zero(torch_face):
    """At r = 1 the fixed points 0 and 1 - 1/r cross."""
    branch = follow(torch_face, logistic, [0.6], (0.5, 2.8), 2.5)
    (point,) = branch.points
    assert point.kind == "branch point" and point.parameter == pytest.approx(1, abs=1e-9)
    (other,) = ctsa.switch_branch(None, branch, parameter=logistic, geometry=FLAT)
    assert np.abs(other.xs).max() < 1e-10 and other.stable[other.parameters < 0.99].all()


@mainly("torch")
def test_neimark_sacker_of_the_delayed_logistic_map(face):
    branch = follow(face, delayed, [1 / 3, 1 / 3], (1.2, 2.3), 1.5)
    (point,) = branch.neimark_sacker_points
    assert point.parameter == pytest.approx(2, abs=1e-10)
    assert np.degrees(point.frequency) == pytest.approx(60, abs=1e-8) and point.multiplicity == 2
    assert (branch.stable == (branch.parameters < 2)).all() and "Neimark-Sacker" in branch.table()


@mainly("torch")
def test_fold(face):
    branch = follow(face, fold, [0.0], (-0.7, 1.0), 0.0)
    (point,) = branch.points
    assert point.kind == "fold" and point.parameter == pytest.approx(0.25, abs=1e-10)
    assert point.x.item() == pytest.approx(0.5, abs=1e-6)
    assert (branch.stable == (branch.xs.ravel() < 0.5 - 1e-9)).all()


def test_pitchfork(torch_face):
    branch = follow(torch_face, cubic, [0.0], (0.5, 1.5), 0.7)
    assert [p.kind for p in branch.points] == ["branch point"]
    assert branch.points[0].parameter == pytest.approx(1, abs=1e-10)
    diagram = ctsa.bifurcation_diagram(None, [torch_face.array([[0.0]])], cubic, (0.5, 1.5), at=0.7, geometry=FLAT)
    assert len(diagram) == 2 and "period doublings" in diagram.table()
    arms = diagram[1]
    assert np.abs(arms.xs.ravel() ** 2 - (arms.parameters - 1)).max() < 1e-10


@mainly("torch")
def test_layers_branch_where_their_flow_does(face):
    """An Euler step has the equilibria of its flow, and a multiplier ``1 + step * eigenvalue``."""
    a = np.diag([3.0, 2.0, 1.0])
    field = face.SelfAttention(key=a, value=a, beta=1.0)
    poles = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * [1.0, 0.0, 0.0]
    layer = ctsa.EulerLayer(field, 0.1)
    branch = ctsa.continue_equilibrium(layer, poles, "beta", (0.2, 1.0))
    assert [p.kind for p in branch.points] == ["branch point"]
    assert branch.points[0].parameter == pytest.approx(np.arctanh(2 / 3) / 3, abs=1e-10)
    along = ctsa.continue_equilibrium(layer, poles, "step", (0.05, 0.8))
    least = float(np.sort(ctsa.eigenvalues(field, poles).real)[0])
    assert along.points[0].kind == "period doubling"
    assert along.points[0].parameter == pytest.approx(-2 / least, abs=1e-10)


def test_a_number_of_a_module(torch_face):
    class Gain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, x):
            return torch.tanh(self.gain * x)

    layer = ctsa.torch.WrappedLayer(Gain(), geometry=FLAT)
    found = ctsa.find_fixed_points(layer, torch_face.array([[[1.0]]]))
    branch = ctsa.continue_equilibrium(layer, found.x[0], "gain", (0.5, 2.5))
    assert [p.kind for p in branch.points] == ["branch point"]
    assert branch.points[0].parameter == pytest.approx(1, abs=1e-9)


def test_along_an_input(torch_face, close):
    m, b = torch_face.array([[0.3, 0.2], [-0.1, 0.4]]), torch_face.array([[1.0, -1.0]])
    branch = follow(torch_face, lambda s: lambda x: x @ m.mT + s * b, [0.0, 0.0], (-1.0, 1.0), 0.0)
    exact = np.linalg.solve(np.eye(2) - m.numpy(), b.numpy()[0])
    close(branch.xs[:, 0], branch.parameters[:, None] * exact, 1e-12)
    assert branch.stable.all() and not branch.points


def test_kept_and_drawn(torch_face, tmp_path):
    branch = follow(torch_face, logistic, [0.6], (1.5, 3.5), 2.5)
    back = ctsa.load(branch.save(tmp_path / "branch.npz"))
    assert not back.continuous and repr(back) == repr(branch) and "period doubling" in back.table()
    branch.plot()
    ctsa.plot.continuation.eigenvalues(branch)
    branch.points[0].plot()


def test_bad_input(torch_face):
    x = torch_face.array([[0.6]])
    with pytest.raises(ValueError, match="not a fixed point.*find_fixed_points"):
        follow(torch_face, logistic, [0.3], (1.5, 3.5), 2.5)
    with pytest.raises(TypeError, match="returned list"):
        ctsa.continue_equilibrium(None, x, lambda r: [logistic(r)], (1.5, 3.5), at=2.5, geometry=FLAT)
    swap = ctsa.torch.WrappedLayer(lambda x: -x)
    with pytest.raises(ValueError, match="moves it by up to 2"):
        ctsa.continue_equilibrium(None, torch_face.array([[1.0, 0.0]]), lambda r: swap, (0.0, 1.0), at=0.5)
