"""Limit cycles: rotating consensus against its closed spectrum, cycles of known period, and what there is none of."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ctsa
from ctsa import theory

SKEW = np.array([[1.0, 0.3, 0.1], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]])
TURN = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, -1.0]])  # 1 +- 2i, -1
VALUES = {"normal": TURN, "not normal": SKEW @ TURN @ np.linalg.inv(SKEW)}


def turning(n):
    """Consensus in the plane of the leading pair."""
    return np.tile([[0.6, 0.8, 0.0]], (n, 1))


def sorted_multipliers(m):
    return m[np.lexsort((-m.imag.round(9), -np.abs(m).round(9)))]


@pytest.mark.parametrize("case", VALUES)
def test_rotating_consensus(torch_face, case):
    value = VALUES[case]
    cycle = ctsa.find_limit_cycle(torch_face.SelfAttention(value=value), ctsa.random_tokens(3, 3, seed=1))
    assert cycle.kind == "rotating consensus" and cycle.stable and cycle.neutral == 1 and cycle.neutral_symmetry == 0
    assert cycle.period == pytest.approx(2 * np.pi / 2, abs=1e-10) and cycle.residual < 1e-8
    # exp(T (mu - a)) for the other eigenvalues, 1 along the flow, exp(-a T) for the modes within the group.
    exact = np.sort(np.r_[1.0, np.exp(np.pi * (-1 - 1)), np.full(4, np.exp(-np.pi))])[::-1]
    assert np.abs(cycle.multipliers - exact).max() < 1e-10
    assert np.abs(sorted_multipliers(theory.consensus_multipliers(value, 3)) - cycle.multipliers).max() < 1e-10
    assert np.abs(cycle.exponents - np.r_[0, [-1] * 4, -2]).max() < 1e-8
    angle = ctsa.gram(cycle.x)
    assert np.abs(angle - 1).max() < 1e-12


def test_unstable_cycles_are_found(torch_face):
    # A larger real eigenvalue repels from the plane of the pair: the flow never gets there, Newton does.
    value = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.4]])
    field = torch_face.SelfAttention(value=value)
    x = ctsa.Sphere().retract(turning(3) + 0.02 * np.random.default_rng(3).normal(size=(3, 3)))
    cycle = ctsa.find_limit_cycle(field, x, 3.0)
    assert cycle.kind == "rotating consensus" and not cycle.stable
    assert cycle.multipliers[0] == pytest.approx(np.exp(0.4 * np.pi), rel=1e-9)
    assert cycle.period == pytest.approx(np.pi, abs=1e-10)


def test_bipartite_states_rotate_as_well(torch_face):
    # Two opposite groups of equal size turn together, slower by m = tanh(beta), their mean field.
    field = torch_face.SelfAttention(value=TURN, beta=1.0)
    m = np.tanh(1.0)
    cycle = ctsa.find_limit_cycle(field, turning(2) * [[1], [-1]], 3.0 / m)
    assert cycle.kind == "rotating bipartite consensus"
    assert cycle.period == pytest.approx(np.pi / m, abs=1e-10)


def test_relative_equilibria_and_shortest_periods(torch_face):
    # A shared rotation turns any state; three times round is not the period.
    field = torch_face.Rotation(np.array([[0.0, -2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    cycle = ctsa.find_limit_cycle(field, ctsa.random_tokens(2, 3, seed=4), 3 * np.pi)
    assert cycle.period == pytest.approx(np.pi, abs=1e-10) and cycle.kind == "relative equilibrium"
    assert np.abs(cycle.multipliers - 1).max() < 1e-9 and not cycle.stable  # a centre: nothing is attracted


def test_symmetric_families_of_cycles(torch_face):
    # V = I on top of a rotation of S^2 about an axis: consensus turns about it, at any latitude.
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    field = torch_face.SelfAttention() + torch_face.Rotation(turn)
    cycle = ctsa.find_limit_cycle(field, np.tile([[0.6, 0.0, 0.8]], (2, 1)), 6.2)
    assert cycle.kind == "rotating consensus" and cycle.period == pytest.approx(2 * np.pi, abs=1e-9)
    assert np.abs(np.sort(np.abs(cycle.multipliers)) - np.sort([1, 1, *[np.exp(-2 * np.pi)] * 2])).max() < 1e-9


def oscillator(t, x):
    """Van der Pol, mu = 1."""
    xp = torch if isinstance(x, torch.Tensor) else jnp
    a, b = x[..., 0], x[..., 1]
    return xp.stack([b, (1 - a * a) * b - a], -1)


def normal_form(t, x):
    """The Hopf normal form: a circle of radius 1, turned in 2 pi / 3."""
    r2 = (x * x).sum(-1, keepdims=True)
    xp = torch if isinstance(x, torch.Tensor) else jnp
    turned = xp.stack([-x[..., 1], x[..., 0]], -1)
    return x - r2 * x + 3 * turned


def test_van_der_pol():
    cycle = ctsa.find_limit_cycle(oscillator, torch.tensor([[2.0, 0.0]]).double(), 6.6, geometry=ctsa.Euclidean())
    assert cycle.period == pytest.approx(6.663286859323130, abs=1e-11) and cycle.stable
    # Liouville: the product of the multipliers is exp of the divergence along the cycle, which the second one then is.
    ts = np.linspace(0, cycle.period, 301)
    xs = ctsa.integrate(oscillator, torch.as_tensor(cycle.x), ts, atol=1e-10, geometry=ctsa.Euclidean()).xs[:, 0, 0].numpy()
    divergence = ((1 - xs**2)[:-1]).mean() * cycle.period  # of a periodic function the trapezium rule is exact
    assert cycle.multipliers[1].real == pytest.approx(np.exp(divergence), rel=1e-6)


def test_normal_form(torch_face, jax_face):
    """In both frameworks."""
    cycles = [ctsa.find_limit_cycle(normal_form, face.array([[1.1, 0.0]]), 2.0, solver=solver, geometry=ctsa.Euclidean())
              for face, solver in ((torch_face, "dopri8"), (jax_face, "dopri5"))]  # fmt: skip
    for cycle in cycles:
        assert cycle.period == pytest.approx(2 * np.pi / 3, abs=1e-11)
        assert np.abs(cycle.multipliers - [1, np.exp(-4 * np.pi / 3)]).max() < 1e-9
        assert np.abs(np.linalg.norm(cycle.x) - 1) < 1e-11 and cycle.kind == "rotating consensus"
    assert np.abs(cycles[0].x - cycles[1].x).max() < 1e-9


def test_newton_converges_quadratically():
    errors = []
    for iterations in (1, 2):
        cycle = ctsa.find_limit_cycle(normal_form, torch.tensor([[1.02, 0.0]]).double(), 2.08, tol=1.0,
                                      iterations=iterations, atol=1e-9, geometry=ctsa.Euclidean())  # fmt: skip
        errors.append(abs(cycle.period - 2 * np.pi / 3) + abs(np.linalg.norm(cycle.x) - 1))
    assert 1e-7 < errors[0] < 1e-2 and errors[1] < 20 * errors[0] ** 2, errors


def test_results(tmp_path, torch_face):
    x = turning(2)
    cycle = ctsa.find_limit_cycle(torch_face.SelfAttention(value=TURN), x, 3.0)
    again = ctsa.load(cycle.save(tmp_path / "cycle"))
    assert again.period == cycle.period and np.array_equal(again.multipliers, cycle.multipliers)
    assert repr(cycle).startswith("LimitCycle(rotating consensus, period=3.14159265")


# --------------------------------------------------------------------------------------------------- nothing to find
def refused(error, words, *args, **options):
    with pytest.raises(error) as caught:
        ctsa.find_limit_cycle(*args, **options)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"


def test_flows_that_come_to_rest(torch_face):
    field = torch_face.SelfAttention(value=np.diag([2.0, 1.0]))
    refused(ctsa.LimitCycleError, ["comes to rest", "find_equilibria"], field, ctsa.random_tokens(3, 2))
    refused(ctsa.LimitCycleError, ["equilibrium"], field, [[1.0, 0.0]] * 3, 1.0)


def test_newton_gives_up_in_words():
    off = torch.tensor([[3.0, 0.0]]).double()
    words = ["came back to within", "start closer"]
    refused(ctsa.LimitCycleError, words, normal_form, off, 0.3, iterations=1, geometry=ctsa.Euclidean())


def test_bad_input(face):
    field = face.SelfAttention(value=TURN)
    x = ctsa.random_tokens(3, 3)
    refused(TypeError, ["layer"], lambda x: x, x)
    refused(TypeError, ["field(t, x)", "int"], 3, x)
    refused(TypeError, ["float64"], face.SelfAttention(value=TURN.astype(np.float32)), x.astype(np.float32))
    refused(ValueError, ["one state"], field, ctsa.random_tokens(3, 3, batch=(2,)))
    refused(ValueError, ["period", "-1"], field, x, -1.0)
    refused(ValueError, ["tol"], field, x, 3.0, tol=0.0)
    refused(ValueError, ["horizon"], field, x, horizon=-2.0)
    refused(ValueError, ["unit"], field, 2 * x)
    refused(ValueError, ["depends on time"], lambda t, x: 0 * x + t, face.array(x), geometry=ctsa.Euclidean())
