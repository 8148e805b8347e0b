"""Fixed points and cycles of layers from exact facts: linear maps, logistic and Henon maps, steps of attention."""

import numpy as np
import pytest
import torch
from sampling import mainly

import ctsa
from ctsa import theory
from ctsa._backend import backend

FLAT = ctsa.Euclidean()
V = np.diag([3.0, 2.0, 1.0])


def column(face, values, dtype="float64"):
    """One-dimensional states ``(S, 1, 1)``."""
    return face.array(np.asarray(values, dtype=float).reshape(-1, 1, 1), dtype)


def logistic(r):
    return lambda x: r * x * (1 - x)


def henon(x):
    a, b = x[..., :1], x[..., 1:]
    return backend(x).xp.concatenate([1 - 1.4 * a * a + b, 0.3 * a], -1)


# --------------------------------------------------------------------------------------------------------- fixed points
@mainly("torch")
def test_linear_maps(face, close):
    rng = np.random.default_rng(0)
    m, b = rng.normal(size=(4, 4)) / 2.2, rng.normal(size=4)
    a, c = face.array(m.T), face.array(b)
    found = ctsa.find_fixed_points(lambda x: x @ a + c, face.array(rng.normal(size=(6, 1, 4))), geometry=FLAT)
    assert len(found) == 1 and found.counts.tolist() == [6] and found.undecided == 0
    close(found.x[0, 0], np.linalg.solve(np.eye(4) - m, b), 1e-12)
    exact = np.linalg.eigvals(m)
    assert np.abs(found.multipliers[0][:, None] - exact).min(1).max() < 1e-12
    assert found.radius[0] == pytest.approx(np.abs(exact).max(), abs=1e-12)
    assert found.stable[0] == (np.abs(exact).max() < 1)


@pytest.mark.parametrize(("r", "stable"), [(2.9, True), (3.2, False), (3.5, False), (3.83, False)])
def test_logistic_map(torch_face, r, stable):
    found = ctsa.find_fixed_points(logistic(r), column(torch_face, np.linspace(0.05, 0.95, 12)), geometry=FLAT)
    at = int(np.abs(found.x.ravel() - (1 - 1 / r)).argmin())
    assert found.x.ravel()[at] == pytest.approx(1 - 1 / r, abs=1e-14)
    assert found.multipliers[at].item() == pytest.approx(2 - r, abs=1e-12)
    assert found.stable[at] == stable and found.errors[at] < 1e-14
    share, low, high = found.shares[at]
    assert share == found.counts[at] / 12 and 0 < low < share <= high <= 1


def test_henon_map(torch_face, close):
    starts = torch_face.array(np.random.default_rng(0).uniform([-1.5, -0.6], [1.5, 0.6], (30, 1, 2)))
    found = ctsa.find_fixed_points(henon, starts, loops=0, geometry=FLAT)
    exact = (-0.7 + np.array([1, -1]) * np.sqrt(0.49 + 5.6)) / 2.8
    assert len(found) == 2
    close(np.sort(found.x[:, 0, 0]), np.sort(exact), 1e-12)
    for x, z in zip(found.x[:, 0, 0], found.multipliers, strict=True):
        close(np.sort(z.real), np.sort(-1.4 * x + np.array([1, -1]) * np.sqrt(1.96 * x * x + 0.3)), 1e-12)
    assert (found.stability == "unstable").all()


@mainly("torch")
@pytest.mark.parametrize("kind", ["EulerLayer", "PostNormLayer", "ItrSA"])
def test_steps_of_attention(face, kind):
    """At consensus on v_k the flow's spectrum is known; a layer's multipliers follow from its Euler step there."""
    n, step = 4, 0.5
    field = face.SelfAttention(value=V, beta=1.0)
    layer = getattr(ctsa, kind)(field, step)
    found = ctsa.find_fixed_points(layer, 12, n=n, d=3, seed=1)
    values = np.diag(V)
    seen = 0
    for x, z in zip(found.x, found.multipliers, strict=True):
        k = int(np.abs(x[0]).argmax())
        if np.abs(np.abs(x @ np.eye(3)[k]) - 1).max() > 1e-9 or np.ptp(x[:, k]) > 1e-9:
            continue
        seen += 1
        size = step if kind == "EulerLayer" else step / (1 + step * values[k])
        exact = np.sort(1 + size * np.asarray(theory.consensus_spectrum(V, k, n)).real)
        assert np.abs(np.sort(z.real) - exact).max() < 1e-10
    assert seen and found.stable[0]


def test_points_are_found_modulo_symmetry(torch_face):
    """Both poles of consensus are one point; without symmetries they are two."""
    layer = ctsa.EulerLayer(torch_face.SelfAttention(value=V, beta=1.0), 0.5)
    one = ctsa.find_fixed_points(layer, 12, n=2, d=3)
    many = ctsa.find_fixed_points(layer, 12, n=2, d=3, symmetric=False)
    consensus = [np.abs(f.x[:, 0] - f.x[:, 1]).max(-1) < 1e-9 for f in (one, many)]
    assert [int(c[f.stable].sum()) for c, f in zip(consensus, (one, many), strict=True)] == [1, 2]


def test_symmetries_of_a_wrapped_layer_are_found(torch_face):
    """Tokens that do not see each other, at one of two places each: all at one, or one of three at the other."""
    layer = ctsa.torch.WrappedLayer(lambda x: torch.tanh(2 * x), geometry=FLAT)
    starts = torch_face.array(np.random.default_rng(0).normal(size=(40, 3, 1)))
    found = ctsa.find_fixed_points(layer, starts)
    assert found.stable.sum() == 2 and np.allclose(np.abs(found.x[found.stable]), np.abs(found.x[0, 0]))
    assert ctsa.find_fixed_points(layer, starts, symmetric=False).stable.sum() == 8


def test_rotations_are_neutral_and_do_not_count(torch_face):
    found = ctsa.find_fixed_points(ctsa.EulerLayer(torch_face.SelfAttention(), 0.5), 10, n=4, d=3)
    assert found.stable.sum() == 1 and found.neutral_symmetry[0] == 2  # consensus anywhere
    assert found.radius[0] == pytest.approx(1, abs=1e-12)


def test_neutral_within_error(torch_face):
    found = ctsa.find_fixed_points(lambda x: x - x**3, column(torch_face, [0.1, -0.2]), geometry=FLAT)
    assert set(found.stability) <= {"neutral"} and abs(found.x).max() < 1e-3


def test_a_jordan_block(torch_face):
    """Rounding moves its eigenvalues by the square root, which leaves no doubt that it attracts."""
    m, b = torch_face.array([[0.9, 0.0], [1.0, 0.9]]), torch_face.array([1.0, 2.0])
    found = ctsa.find_fixed_points(lambda x: x @ m + b, torch_face.array(np.zeros((3, 1, 2))), geometry=FLAT)
    assert found.stable.all() and (np.abs(found.multipliers - 0.9) <= found.slack).all() and found.slack.max() < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99, 1.0, 1.01, -0.97, -1.0])
def test_linear_maps_by_their_radius(torch_face, rho, dtype):
    b = torch_face.array([[1.0, -2.0]], dtype)
    starts = torch_face.array(np.random.default_rng(0).normal(size=(4, 1, 2)), dtype)
    found = ctsa.find_fixed_points(lambda x: rho * x + b, starts, geometry=FLAT)
    if rho == 1:  # a drift
        assert len(found) == 0
        return
    assert np.abs(found.x[0] - np.array([1.0, -2.0]) / (1 - rho)).max() < (1e-10 if dtype == "float64" else 1e-2)
    kinds = {0.5: "stable", 0.9: "stable", 0.99: "stable", 1.01: "unstable", -0.97: "stable", -1.0: "neutral"}
    assert found.stability.tolist() == [kinds[rho]]


def test_undecided_and_diverged(torch_face):
    creeping = ctsa.find_fixed_points(lambda x: x + 1e-5, column(torch_face, [0.1, 1.0]), geometry=FLAT)
    assert len(creeping) == 0 and creeping.undecided == 2 and "none found" in creeping.table()
    leaving = ctsa.find_fixed_points(lambda x: 2 * x * x + 1, column(torch_face, [0.1, 1.0]), geometry=FLAT)
    assert len(leaving) == 0 and leaving.left == 2 and leaving.diverged.all()


@mainly("torch")
def test_single_precision(face):
    found = ctsa.find_fixed_points(logistic(2.9), column(face, [0.2, 0.5, 0.8], "float32"), geometry=FLAT)
    assert len(found) == 1 and found.stable[0] and 1e-6 < found.floor < 1e-3
    assert abs(found.x.item() - (1 - 1 / 2.9)) < 1e-6
    assert abs(found.multipliers.item() + 0.9) < found.slack.item() < 1e-3


def test_large_layers_have_leading_multipliers(torch_face):
    rng = np.random.default_rng(0)
    scale = np.concatenate([[0.9, -0.8, 0.5], rng.uniform(-0.3, 0.3, 1025)])
    a, b = torch_face.array(scale), torch_face.array(rng.normal(size=1028))
    found = ctsa.find_fixed_points(
        lambda x: a * x + b, torch_face.array(rng.normal(size=(2, 1, 1028))), leading=2, geometry=FLAT
    )
    assert len(found) == 1 and not found.complete and found.stable[0]
    assert np.abs(found.multipliers[0].real - [0.9, -0.8]).max() < 1e-8


def test_frameworks_agree(torch_face, jax_face, close):
    found = [
        ctsa.find_fixed_points(face.EulerLayer(face.SelfAttention(value=V, beta=2.0), 0.5), 8, n=3, d=3)
        for face in (torch_face, jax_face)
    ]
    assert found[0].member.tolist() == found[1].member.tolist()
    close(np.abs(found[0].x), np.abs(found[1].x), 1e-9)
    close(found[0].multipliers.real, found[1].multipliers.real, 1e-9)


def test_kept_and_shown(torch_face, tmp_path):
    found = ctsa.find_fixed_points(logistic(3.83), column(torch_face, np.linspace(0.1, 0.9, 6)), geometry=FLAT)
    back = ctsa.load(found.save(tmp_path / "found.npz"))
    assert back.table() == found.table() and repr(back) == repr(found) and len(back) == len(found)
    assert found.to_xarray()["x"].dims == ("point", "token", "component")
    assert "unstable" in found.table()
    axes = found.plot()
    assert len(axes.containers) == len(found)


# --------------------------------------------------------------------------------------------------------------- cycles
@mainly("torch")
def test_cycles_of_the_logistic_map(face, close):
    starts = column(face, np.linspace(0.05, 0.95, 12))
    two = ctsa.find_cycles(logistic(3.2), 2, starts, geometry=FLAT)
    exact = (4.2 + np.array([1, -1]) * np.sqrt(0.2 * 4.2)) / 6.4
    close(np.sort(two.x.ravel()), np.sort(exact), 1e-13)
    assert two.multipliers.item() == pytest.approx(4 + 6.4 - 3.2**2, abs=1e-12) and two.stable.all()
    three = ctsa.find_cycles(logistic(3.83), 3, starts, geometry=FLAT)
    x = three.x[three.stable].ravel()
    assert len(x) == 3
    close(logistic(3.83)(x), np.roll(x, -1), 1e-14)
    slope = np.prod(3.83 * (1 - 2 * x))
    assert three.multipliers[three.stable].item() == pytest.approx(slope, abs=1e-11)


def test_cycles_have_exactly_their_period(torch_face):
    starts = column(torch_face, np.linspace(0.05, 0.95, 12))
    for r, period in ((2.9, 2), (3.2, 4), (3.5, 3)):
        found = ctsa.find_cycles(logistic(r), period, starts, geometry=FLAT)
        assert len(found) == 0 and (found.member == -3).sum() >= 10
    four = ctsa.find_cycles(logistic(3.5), 4, starts, geometry=FLAT)
    assert len(four) == 1 and four.stable[0]
    unstable = ctsa.find_cycles(logistic(3.5), 2, starts, geometry=FLAT)
    assert not unstable.stable[0] and unstable.multipliers.item() == pytest.approx(4 + 7 - 3.5**2, abs=1e-12)


def test_the_two_cycle_of_henon(torch_face, close):
    """The only one: ``x^2 - x (1 - b) / a + ((1 - b)^2 - a) / a^2 = 0``; its multipliers have the product b^2."""
    starts = torch_face.array(np.random.default_rng(0).uniform(-0.5, 0.5, (10, 1, 2)))
    found = ctsa.find_cycles(henon, 2, starts, geometry=FLAT)
    assert len(found) == 1
    a, b = 1.4, 0.3
    exact = np.roots([1, -(1 - b) / a, ((1 - b) ** 2 - a) / a**2])
    close(np.sort(found.x[0, :, 0, 0]), np.sort(exact), 1e-12)
    assert np.prod(found.multipliers).real == pytest.approx(b * b, abs=1e-12)


def test_a_cycle_of_a_layer_on_the_sphere(torch_face, close):
    """Reflection and rotation of the circle: a turn by 120 degrees has only cycles of three."""
    c, s = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
    turn = torch_face.array([[c, -s], [s, c]])
    layer = ctsa.torch.WrappedLayer(lambda x: x @ turn)
    starts = torch_face.array(ctsa.random_tokens(1, 2, batch=4))
    found = ctsa.find_cycles(layer, 3, starts)
    assert len(found) == 1 and found.stable[0] and found.neutral_symmetry.tolist() == [1]
    assert len(ctsa.find_fixed_points(layer, starts)) == 0


def test_bad_input(torch_face):
    x = column(torch_face, [0.1])
    with pytest.raises(ValueError, match=r"n must be given .*find_fixed_points\(layer, 64"):
        ctsa.find_fixed_points(ctsa.EulerLayer(torch_face.SelfAttention(), 0.5))
    with pytest.raises(TypeError, match="plain callable"):
        ctsa.find_fixed_points(lambda x: x, 3, n=2, d=2)
    with pytest.raises(TypeError, match="find_equilibria"):
        ctsa.find_fixed_points(torch_face.SelfAttention(), 3, n=2, d=2)
    with pytest.raises(ValueError, match="period"):
        ctsa.find_cycles(logistic(3.2), 0, x, geometry=FLAT)
    with pytest.raises(ValueError, match="confidence"):
        ctsa.find_fixed_points(logistic(3.2), x, confidence=1.0, geometry=FLAT)
    noisy = ctsa.torch.WrappedLayer(lambda x: x + 0.1 * torch.randn_like(x), geometry=FLAT)
    with pytest.raises(ValueError, match="another output for the same input"):
        ctsa.find_fixed_points(noisy, x)


def test_members_with_inputs_of_their_own_are_refused(torch_face):
    b = column(torch_face, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"no other number of members.*settle"):
        ctsa.find_fixed_points(lambda x: torch.stack([x[i] / 2 + b[i] for i in range(3)]), column(torch_face, [0.1] * 3),
                               geometry=FLAT)  # fmt: skip
    with pytest.raises(ValueError, match=r"another output for a state alone.*settle"):
        ctsa.basins(lambda x: x / 2 + b[: len(x)], column(torch_face, [0.1] * 3), geometry=FLAT)


def test_the_period_map_of_a_driven_flow(torch_face):
    """``x' = -x + cos t`` rests at (cos t + sin t) / 2, seen once a period; its multiplier is exp(-2 pi)."""
    from ctsa.layers import Stroboscopic

    layer = Stroboscopic(lambda t, x: -x + torch.cos(t), 2 * np.pi, solver="dopri8", atol=1e-9, geometry=FLAT)
    found = ctsa.find_fixed_points(layer, column(torch_face, [0.0, 1.0]), loops=2)
    assert found.x.item() == pytest.approx(0.5, abs=1e-9) and found.stable.all()
    assert found.multipliers.item().real == pytest.approx(np.exp(-2 * np.pi), abs=1e-8)


def test_half_precision_that_jitters_is_undecided():
    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh()).bfloat16()
    layer = ctsa.torch.WrappedLayer(block, geometry=FLAT)
    found = ctsa.find_fixed_points(layer, torch.randn(4, 2, 16), evaluations=30)
    assert found.floor <= 1e-3 and (found.residuals <= 1e-3).all()
