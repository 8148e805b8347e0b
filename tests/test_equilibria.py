"""Equilibria: all of them, against closed forms, Poincare and Hopf, integration, and the other framework."""

import math
import os
from collections import Counter

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sampling import sample

import ctsa
from ctsa import theory
from ctsa.equilibria import newton
from ctsa.equilibria.newton import solve
from ctsa.equilibria.starts import recombined_starts, structured_starts, symmetric_starts
from ctsa.fields.matrices import consensus_matrix, eigenspaces
from ctsa.symmetry import symmetry_of
from ctsa.symmetry.rotations import rotation_modes
from ctsa.torch import SelfAttention

slow = pytest.mark.skipif(not os.environ.get("CTSA_SLOW"), reason="minutes: set CTSA_SLOW=1")
V = np.diag([3.0, 2.0, 1.0])
# (n, d, beta): distinct equilibria, and stable ones, modulo permutations and reflections; then all states. V = A.
# From 20,000 random, symmetric and recombined starts; see test_dense and docs/equilibria.md.
COUNTS = {
    (2, 2, 0.25): (4, 1, 8), (2, 2, 1.0): (6, 2, 20), (2, 2, 4.0): (6, 2, 20), (3, 2, 0.25): (6, 1, 40),
    (3, 2, 1.0): (12, 2, 124), (3, 2, 4.0): (12, 2, 124), (4, 2, 0.25): (10, 1, 128), (4, 2, 1.0): (19, 3, 516),
    (4, 2, 4.0): (28, 3, 884), (2, 3, 0.25): (8, 1, 24), (2, 3, 1.0): (12, 2, 48), (2, 3, 4.0): (12, 2, 48),
    (3, 3, 0.25): (13, 1, 108), (3, 3, 1.0): (35, 2, 492), (3, 3, 4.0): (36, 2, 516), (4, 3, 0.25): (31, 1, 900),
    (4, 3, 1.0): (83, 3, 4460), (4, 3, 4.0): (116, 3, 6396),
}  # fmt: skip


def standard(face, d=3, beta=1.0, **options):
    return face.SelfAttention(query=V[:d, :d], value=V[:d, :d], beta=beta, **options)


def total(found, stable=None):
    return sum(e.orbit for e in found if stable is None or e.stable == stable)


def close_sets(a, b, tol=1e-7):
    """Each spectrum of one list is in the other."""
    assert len(a) == len(b)
    rest = list(b)
    for e in a:
        gaps = [np.abs(e.eigenvalues - f.eigenvalues).max() + abs(e.orbit - f.orbit) for f in rest]
        k = int(np.argmin(gaps))
        assert gaps[k] < tol, e
        rest.pop(k)


# ------------------------------------------------------------------------------------------------------- all of them
@pytest.mark.parametrize("case", sample([(k,) for k in COUNTS if k[0] < 4 or k[1] < 3 or k[2] == 0.25], 8))
def test_all_are_found(torch_face, case):
    n, d, beta = case
    found = ctsa.find_equilibria(standard(torch_face, d, beta), n, d)
    assert (len(found), len(found.stable), total(found)) == COUNTS[case], found.reason
    assert max(e.speed for e in found) < 1e-10
    assert found.report["index_sum"] == found.report["euler"] == (2**n if d == 3 else 0)
    assert "Poincare" in found.reason and found.report["seen_once"] == 0
    census = theory.census(V[:d, :d], V[:d, :d], beta, n)
    assert total(found, stable=True) == sum(census.values())  # stable ones: consensus and bipartite, as counted exactly
    kinds = Counter(e.kind for e in found)
    assert kinds["consensus"] == d and kinds["bipartite consensus"] == d * (n // 2)
    assert all(e.index == (e.eigenvalues.real > 0).sum() and e.neutral == 0 for e in found)


@slow
@pytest.mark.parametrize("case", COUNTS)
def test_dense(torch_face, case):
    """20,000 starts find what the default call finds, and nothing else."""
    n, d, beta = case
    field = standard(torch_face, d, beta)
    found = ctsa.find_equilibria(field, n, d)
    s, rng = found.symmetry, np.random.default_rng(1)
    x = np.concatenate([
        ctsa.random_tokens(n, d, seed=2, batch=(10_000,)),
        symmetric_starts(n, d, 5_000, rng, s.signs, s.basis, ctsa.Sphere()),
        recombined_starts(np.stack([e.x for e in found]), 5_000, rng, s.signs, s.basis, ctsa.Sphere()),
    ])  # fmt: skip
    ends = solve(field, torch.as_tensor(x))
    met = set()
    marks = np.stack([np.linalg.svd(e.x, compute_uv=False) for e in found])
    for y in ends.states[ends.speeds < 1e-10]:
        near = np.flatnonzero(np.abs(marks - np.linalg.svd(y, compute_uv=False)).max(1) < 1e-5)
        same = [k for k in near if s.same(y, found[k].x)]
        assert len(same) == 1
        met.update(same)
    assert len(met) == len(found) == COUNTS[case][0]


def test_frameworks_agree(torch_face, jax_face):
    close_sets(*(ctsa.find_equilibria(standard(face), 3, 3) for face in (torch_face, jax_face)))
    programs = ctsa._backend._jax_march._march.programs()
    ctsa.find_equilibria(standard(jax_face, beta=0.7), 3, 3, starts=37, seed=5, rounds=1)
    assert ctsa._backend._jax_march._march.programs() == programs  # other numbers compile nothing


def test_the_seed_decides(torch_face):
    def states(seed):
        return np.stack([e.x for e in ctsa.find_equilibria(standard(torch_face, 2), 2, 2, seed=seed)])

    assert np.array_equal(states(3), states(3))
    close_sets(*(ctsa.find_equilibria(standard(torch_face, 2), 2, 2, seed=seed) for seed in (3, 4)))


@pytest.mark.parametrize("seed", sample([0, 1, 2], 1))
def test_general_matrices(torch_face, seed):
    # Nothing symmetric but x -> -x: no census, but Poincare and Hopf, and the closed forms where there are some.
    a, v = np.random.default_rng(seed).normal(size=(2, 3, 3))
    found = ctsa.find_equilibria(torch_face.SelfAttention(query=a, value=v), 3, 3)
    assert found.report["index_sum"] == 8 and len(found.symmetry.signs) == 2
    for e in found:
        if e.kind == "consensus":
            assert np.abs(e.eigenvalues - theory.consensus_spectrum(v, e.eigenvector, 3)).max() < 1e-8
    assert sum(e.kind == "consensus" for e in found) == len(eigenspaces(v))


# ------------------------------------------------------------------------------------------------------- closed forms
def test_spectra(torch_face):
    found = ctsa.find_equilibria(standard(torch_face, beta=0.5), 4, 3)
    met = Counter()
    for e in found:
        if e.kind == "consensus":
            exact = theory.consensus_spectrum(V, e.eigenvector, 4)
        elif e.kind == "bipartite consensus":
            plus = int((e.x[:, e.eigenvector] > 0).sum())
            exact = theory.bipartite_spectrum(V, V, 0.5, e.eigenvector, plus, 4 - plus)
        else:
            continue
        met[e.kind] += 1
        assert e.eigenvector >= 0 and e.overlap > 1 - 1e-12
        assert np.abs(e.eigenvalues - exact).max() < 1e-9
        assert e.stable == bool((exact.real < 0).all())
    assert met == {"consensus": 3, "bipartite consensus": 6}
    for e in found:
        j = ctsa.eigenvalues(standard(torch_face, beta=0.5), e.x)
        assert np.abs(np.sort(e.eigenvalues.real) - np.sort(j.real)).max() < 1e-9


def test_unnormalised_weights(torch_face):
    found = ctsa.find_equilibria(standard(torch_face, weights="unnormalised"), 2, 3)
    for e in found:
        if e.kind == "consensus":
            exact = theory.consensus_spectrum(V, e.eigenvector, 2) * np.exp(V[e.eigenvector, e.eigenvector])
            assert np.abs(e.eigenvalues - exact).max() < 1e-9
    assert found.report["index_sum"] == 4


def test_two_heads(torch_face):
    value = np.random.default_rng(3).normal(size=(2, 3, 3))
    found = ctsa.find_equilibria(torch_face.SelfAttention(query=value[::-1].copy(), value=value), 2, 3)
    poles = [e for e in found if e.kind == "consensus"]
    spaces = eigenspaces(value.sum(0))  # the sum of all values acts at consensus
    assert sorted(e.eigenvector for e in poles) == [k for k, _, _ in spaces]
    assert found.report["index_sum"] == 4


@pytest.mark.parametrize("extra", ["perceptron", "injection", "bare"])
def test_sums(torch_face, extra):
    rng = np.random.default_rng(4)
    field = standard(torch_face) + {
        "perceptron": lambda: torch_face.Perceptron(rng.normal(size=(5, 3)), rng.normal(size=(3, 5))),
        "injection": lambda: torch_face.Injection([0.3, 0.2, 0.1]),
        "bare": lambda: lambda t, x: x @ torch.as_tensor(np.diag([0.0, 0.0, 2.5])),
    }[extra]()
    found = ctsa.find_equilibria(field, 2, 3)
    assert found and found.report["index_sum"] == 4
    for e in found:
        x = torch.as_tensor(e.x)
        speed = field(0.0, x).detach().norm(dim=-1).max()
        assert float(speed) < 1e-10
        assert np.abs(e.eigenvalues.sum() - ctsa.divergence(field, x)) < 1e-8
    assert len(found.symmetry.signs) == {"perceptron": 2, "injection": 1, "bare": 8}[extra]


def test_causal_mask(torch_face):
    # No permutation is a symmetry: token 1 sees itself, and sits on one of the four poles.
    v = np.diag([2.0, 0.7])
    field = torch_face.SelfAttention(query=v, value=v, mask="causal")
    found = ctsa.find_equilibria(field, 2, 2)
    assert not found.symmetry.exchangeable and found.report["index_sum"] == 0
    for e in found:
        assert np.abs(np.abs(e.x[0]).max() - 1) < 1e-12
        if e.kind == "consensus":
            exact = theory.consensus_spectrum(v, e.eigenvector, 2, mask="causal")
            assert np.abs(e.eigenvalues - exact).max() < 1e-9
        # Two sign changes and nothing else: four images, or two where a token sits on the mirror of one.
        assert e.orbit == len({tuple(np.round(e.x * s, 6).ravel() + 0.0) for s in found.symmetry.signs})
    # Token 2 solves one scalar equation given token 1: count its zeros on the circle.
    angle = np.linspace(0, 2 * np.pi, 100_001)[:-1] + 1e-5
    for pole in np.eye(2):
        y = np.stack([np.cos(angle), np.sin(angle)], 1)
        s = np.stack([y @ v @ pole, np.einsum("ia,ab,ib->i", y, v, y)], 1)
        w = np.exp(s - s.max(1, keepdims=True))
        w /= w.sum(1, keepdims=True)
        drift = (w[:, :1] * pole + w[:, 1:] * y) @ v
        turn = drift[:, 1] * y[:, 0] - drift[:, 0] * y[:, 1]
        zeros = int((np.sign(turn) != np.sign(np.roll(turn, 1))).sum())
        assert zeros == sum(e.orbit for e in found if abs(e.x[0] @ pole) > 0.5) / 2


# ---------------------------------------------------------------------------------------------------------- stability
def test_verdicts_against_the_flow(torch_face):
    field = standard(torch_face)
    found = ctsa.find_equilibria(field, 3, 3)
    rng = np.random.default_rng(5)
    x = np.stack([e.x for e in found])
    y = x + 1e-4 * rng.normal(size=(4, *x.shape))
    with torch.no_grad():
        ends = ctsa.integrate(field, torch.as_tensor(y), [0.0, 40.0], normalize=True).xs[-1].numpy()
    far = np.abs(ends - x).max((-2, -1))
    for k, e in enumerate(found):
        assert (far[:, k] < 1e-6).all() if e.stable else (far[:, k] > 1e-2).any(), e


def test_rotation_symmetry(torch_face):
    # Q = K = V = I: every equilibrium is one of a family that rotations sweep out, and zeros are no instability.
    field = torch_face.SelfAttention(beta=2.0)
    found = ctsa.find_equilibria(field, 4, 3)
    assert Counter(e.kind for e in found) == {"consensus": 1, "bipartite consensus": 2, "clustering": 3}
    for e in found:
        assert e.neutral == e.neutral_symmetry == e.family == rotation_modes(field, e.x) and math.isinf(e.orbit)
        assert e.stable == (e.kind == "consensus")
    assert math.isnan(found.report["index_sum"])
    exact = np.r_[[0.0] * 2, [-1.0] * 6]
    assert np.abs(found[0].eigenvalues - exact).max() < 1e-9
    # Among the others: the regular tetrahedron, and the square.
    grams = [np.sort(ctsa.gram(e.x)[np.triu_indices(4, 1)]) for e in found if len(e.multiplicities) == 4]
    for wanted in (np.full(6, -1 / 3), np.array([-1, -1, 0, 0, 0, 0])):
        assert min(np.abs(g - wanted).max() for g in grams) < 1e-9


def test_families_without_a_symmetry(torch_face):
    # V has equal eigenvalues, but the scores tell the directions apart: a circle of consensus that nothing rotates.
    field = torch_face.SelfAttention(query=np.diag([1.0, 2.0, 3.0]), value=np.diag([2.0, 2.0, 1.0]))
    found = ctsa.find_equilibria(field, 2, 3)
    circle = [e for e in found if e.kind == "consensus" and e.eigenvector == 0]
    assert len(circle) == 1
    (e,) = circle
    assert (e.neutral, e.neutral_symmetry, e.family, e.stable, e.orbit) == (1, 0, 1, True, math.inf)


def test_symmetry_explains_part(torch_face):
    v = np.diag([2.0, 2.0, 1.0])
    found = ctsa.find_equilibria(torch_face.SelfAttention(query=v, value=v), 2, 3)
    assert len(found.symmetry.generators) == 1 and [len(b) for b in found.symmetry.blocks] == [2]
    poles = [e for e in found if e.kind == "consensus"]
    assert [(e.eigenvector, e.family, e.stable) for e in poles] == [(0, 1, True), (2, 0, False)]
    assert poles[1].orbit == 2


def test_degenerate_equilibria_are_marginal(torch_face):
    # x' = -x^3 in flat space: attracting, but the linearisation cannot tell. Its approximations are one.
    start = torch_face.array(np.random.default_rng(6).normal(size=(20, 1, 1)))
    found = ctsa.find_equilibria(cubic, 1, 1, starts=start, rounds=1, geometry=ctsa.Euclidean())
    assert len(found) == 1
    assert found[0].marginal and not found[0].stable and found[0].neutral == 1 and found[0].family == 0


def cubic(t, x):
    return -(x**3)


# -------------------------------------------------------------------------------------------------------- any callable
def lorenz(t, x):
    xp = torch if isinstance(x, torch.Tensor) else jax.numpy
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    return xp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1)


def test_lorenz(face):
    start = face.array(10 * np.random.default_rng(7).normal(size=(20, 1, 3)))
    found = ctsa.find_equilibria(lorenz, 1, 3, starts=start, geometry=ctsa.Euclidean(), rounds=1)
    assert sorted(e.orbit for e in found) == [1, 2]  # the origin, and a pair under (x, y, z) -> (-x, -y, z)
    wing = next(e for e in found if e.orbit == 2)
    assert np.abs(np.abs(wing.x[0]) - [72**0.5, 72**0.5, 27]).max() < 1e-10
    cubic = np.roots([1, 41 / 3, 8 / 3 * 38, 2 * 80 / 3 * 27])
    assert np.abs(np.sort_complex(wing.eigenvalues) - np.sort_complex(cubic)).max() < 1e-8
    assert not any(e.stable for e in found)


def test_oscillators(torch_face):
    # Pairs of channels are phases; two tokens of two oscillators live on a torus, whose Euler characteristic is 0.
    rng, g = np.random.default_rng(8), ctsa.Sphere(channels=2)
    field = torch_face.SelfAttention(value=rng.normal(size=(4, 4)), geometry=g)
    field = field + torch_face.Injection(rng.normal(size=4), geometry=g)
    found = ctsa.find_equilibria(field, 2, 4)
    assert found and found.report["index_sum"] == 0
    for e in found:
        assert np.abs(np.linalg.norm(e.x.reshape(2, 2, 2), axis=-1) - 1).max() < 1e-12 and len(e.eigenvalues) == 4
        assert np.abs(np.sort(ctsa.eigenvalues(field, e.x).real) - np.sort(e.eigenvalues.real)).max() < 1e-9


# ----------------------------------------------------------------------------------------------------- nothing to find
@pytest.mark.parametrize(("name", "d"), [("rotation", 2), ("turning value", 2), ("two planes", 4)])
def test_no_equilibria(torch_face, name, d):
    field = {
        "rotation": lambda: torch_face.Rotation(frequencies=[1.0]),
        "turning value": lambda: torch_face.SelfAttention(value=[[1.0, -1.0], [1.0, 1.0]]),
        "two planes": lambda: torch_face.Rotation(frequencies=[1.0, 2.0]),
    }[name]()
    found = ctsa.find_equilibria(field, 2, d)
    assert list(found) == [] and found.stable == [] and found.counts == {}
    assert "none of" in found.reason and "find_limit_cycle" in found.reason and "lowest speed" in found.reason
    assert found.report["moving"] == 16


def test_centres_are_not_stable(torch_face):
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = ctsa.find_equilibria(torch_face.Rotation(turn), 2, 3)
    assert {e.kind for e in found} == {"consensus", "bipartite consensus"} and total(found) == 4
    assert all(e.marginal and not e.stable and e.index == 0 for e in found)


# ------------------------------------------------------------------------------------------------------ known, looks
def test_known_ones_are_left_out(torch_face):
    field = standard(torch_face)
    everything = ctsa.find_equilibria(field, 3, 3)
    known: list = []
    for seed in range(8):  # small searches, each looking elsewhere, add up to the whole
        more = ctsa.find_equilibria(
            field, 3, 3, starts=10, seed=seed, known=known, structured=False, flow_limits=False, rounds=1
        )  # fmt: skip
        assert not any(everything.symmetry.same(e.x, k.x) for e in more for k in known)
        known += more
        if len(known) == len(everything):
            break
    close_sets(known, everything)
    last = ctsa.find_equilibria(field, 3, 3, known=[e.x for e in known], rounds=1)
    assert not last and "led to known ones" in last.reason and last.report["known"] > 100


def test_results(torch_face, tmp_path):
    found = ctsa.find_equilibria(standard(torch_face, 2), 2, 2)
    e = next(e for e in found if e.kind == "bipartite consensus" and e.stable)
    assert repr(e).startswith("Equilibrium(bipartite consensus 1+1 on v0, stable, speed=")
    assert "6 equilibria, 2 stable" in repr(found) and found.counts[("consensus", True)] == 1
    again = ctsa.load(e.save(tmp_path / "one"))
    assert np.array_equal(again.x, e.x) and again.kind == e.kind and again.orbit == e.orbit == 2
    assert np.array_equal(again.eigenvalues, e.eigenvalues) and again.stable is True
    doubled = jax.tree_util.tree_map(lambda a: 2 * a, e)
    assert np.array_equal(doubled.x, 2 * e.x) and doubled.kind == e.kind


# ------------------------------------------------------------------------------------------------ Newton, and orbits
def test_jacobians(torch_face, jax_face):
    """Closed form, forward mode for a bare callable, the other framework, and ``ctsa.jacobian`` are one."""
    x = ctsa.random_tokens(3, 3, seed=9, batch=(3,))
    turn = np.cross(np.eye(3), [1.0, 2.0, 3.0])
    fields = [face.SelfAttention(query=V, value=V, mask="causal") + face.Rotation(turn) for face in (torch_face, jax_face)]
    bare = fields[0]
    systems = [(fields[0], torch_face), (lambda t, x: bare(t, x), torch_face), (fields[1], jax_face)]
    for system, face in systems:
        s = solve(system, face.array(x), iterations=0)
        assert np.abs(s.states - x).max() < 1e-15
        for k in range(3):
            state = torch.as_tensor(x[k])
            assert np.abs(s.velocities[k] - bare(0.0, state).detach().numpy()).max() < 1e-14
            exact = ctsa.jacobian(bare, state, basis="tangent").detach().numpy()
            assert np.abs(s.jacobians[k] - exact).max() < 1e-13


def test_convergence_is_quadratic_also_in_families(torch_face, monkeypatch):
    # The residual after each number of steps, near a state of a family of dimension three, without polishing.
    field = torch_face.SelfAttention(beta=1.0, value=-np.eye(3))
    e = ctsa.find_equilibria(field, 4, 3, rounds=1)[0]
    assert e.family == 3
    x = ctsa.Sphere().retract(e.x + 0.03 * np.random.default_rng(10).normal(size=e.x.shape))
    monkeypatch.setattr(newton, "_POLISH", 0)
    speeds = [float(solve(field, torch.as_tensor(x[None]), iterations=k, rest=1e-15).speeds[0]) for k in (0, 1, 2, 3)]
    assert speeds[1] < 10 * speeds[0] ** 2 and speeds[2] < 10 * speeds[1] ** 2 and speeds[3] < 10 * speeds[2] ** 2


SYMMETRIES: dict = {}


def symmetric_case(name):
    """Symmetry of a field, found once."""
    if name not in SYMMETRIES:
        v = np.diag([2.0, 2.0, 1.0])
        options = {"reflections": dict(query=V, value=V), "rotations": {}, "both": dict(query=v, value=v),
                   "causal": dict(query=V, value=V, mask="causal")}[name]  # fmt: skip
        SYMMETRIES[name] = symmetry_of(SelfAttention(**options), 5, 3)
    return SYMMETRIES[name]


def moved_by(name, x, rng):
    """A state that the symmetries of the case cannot tell from ``x``."""
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    p = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    signs = rng.choice([-1.0, 1.0], size=3)
    y = {"reflections": lambda: x * signs, "causal": lambda: x * signs, "rotations": lambda: x @ q,
         "both": lambda: np.concatenate([x[:, :2] @ p, x[:, 2:] * signs[0]], 1)}[name]()  # fmt: skip
    return y if name == "causal" else rng.permutation(y)


@pytest.mark.parametrize("name", ["reflections", "rotations", "both", "causal"])
@given(seed=st.integers(0, 10**6), tied=st.booleans())
@settings(max_examples=25)
def test_duplicates(name, seed, tied):
    s, rng = symmetric_case(name), np.random.default_rng(seed)
    x = ctsa.random_tokens(5, 3, seed=seed)
    if tied:  # symmetric states have many ways to be matched
        x = ctsa.Sphere().retract(np.round(2 * x) + 1e-9)[[0, 0, 1, 2, 2]]
        x[3] = -x[0]
    y = moved_by(name, x, rng)
    assert s.same(x, y) and s.same(y, x)
    other = y.copy()
    other[2] = ctsa.Sphere().retract(other[2] + 0.01 * rng.normal(size=3))
    assert not s.same(x, other)
    assert s.modes(x) == {"reflections": 0, "causal": 0, "both": 1}.get(name, 3 if np.linalg.matrix_rank(x) > 1 else 2)


def test_orbits_are_counted(torch_face):
    s = symmetry_of(standard(torch_face), 4, 3)
    rng = np.random.default_rng(11)
    a, b = ctsa.random_tokens(2, 3, seed=12)
    for x in (np.eye(3)[[0, 0, 0, 0]], np.array([1, 1, -1, -1])[:, None] * np.eye(3)[0], np.stack([a, a, b, -b]),
              np.stack([a, a * [1, -1, 1], b, b]), ctsa.random_tokens(4, 3, seed=13)):  # fmt: skip
        images = {tuple(np.round((x * sign)[rng.permutation(4)], 9).ravel() + 0.0) for sign in s.signs for _ in range(400)}
        assert s.orbit(x) == len(images)


def test_partial_exchange(torch_face):
    # Tokens 0 and 1 play the same part, and so do 2 and 3.
    mask = np.ones((4, 4))
    mask[:2, 2:] = 0.5
    s = symmetry_of(torch_face.SelfAttention(value=V, mask=mask), 4, 3)
    assert s.classes.tolist() == [0, 0, 1, 1] and not s.exchangeable
    x = ctsa.random_tokens(4, 3, seed=14)
    assert s.same(x, x[[1, 0, 3, 2]]) and not s.same(x, x[[2, 3, 0, 1]])


# ------------------------------------------------------------------------------------------------------------- starts
def test_matrix_at_consensus(torch_face):
    heads = np.random.default_rng(15).normal(size=(2, 3, 3))
    field = 2.0 * torch_face.SelfAttention(value=heads) + torch_face.Rotation(V - V.T) + torch_face.Injection(V[0])
    assert np.abs(consensus_matrix(field, 3) - 2 * heads.sum(0)).max() < 1e-15
    two = torch_face.SelfAttention(query=heads)  # two heads with the identity as value
    assert np.abs(consensus_matrix(two, 3) - 2 * np.eye(3)).max() < 1e-15
    assert consensus_matrix(lambda t, x: x, 3) is None


@pytest.mark.parametrize("n", [1, 2, 5])
def test_structured_starts_hit(torch_face, n):
    x = structured_starts(standard(torch_face), n, 3)
    assert x.shape[1:] == (n, 3) and np.abs(np.linalg.norm(x, axis=-1) - 1).max() < 1e-12
    speeds = solve(standard(torch_face), torch.as_tensor(x), iterations=0).speeds
    assert (speeds < 1e-12).sum() >= 6 + 3 * (n - 1)  # both ends of three axes, and the splits between them


# ---------------------------------------------------------------------------------------------------------- bad input
def refused(error, words, *args, **options):
    with pytest.raises(error) as caught:
        ctsa.find_equilibria(*args, **options)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"


def test_bad_input(torch_face):
    face, field = torch_face, torch_face.SelfAttention(value=V)
    refused(TypeError, ["field", "callable", "int"], 3, 2, 3)
    refused(TypeError, ["field(t, x)", "layer", "discretises"], face.EulerLayer(field, step=0.1), 2, 3)
    refused(ValueError, ["n", "at least 1"], field, 0, 3)
    refused(ValueError, ["d=1", "at least 2"], lambda t, x: x, 2, 1)
    refused(ValueError, ["starts", "d=4", "value"], field, 2, 4)
    refused(ValueError, ["starts", "at least 1"], field, 2, 3, starts=0)
    refused(TypeError, ["n must be an integer"], field, 2.5, 3)
    refused(ValueError, ["starts", "(S, 2, 3)"], field, 2, 3, starts=ctsa.random_tokens(3, 3, batch=(4,)))
    refused(ValueError, ["starts", "unit"], field, 2, 3, starts=np.ones((4, 2, 3)))
    refused(ValueError, ["known", "(2, 3)", "(3, 3)"], field, 2, 3, known=[ctsa.random_tokens(3, 3)])
    refused(ValueError, ["known", "zero token"], field, 2, 3, known=[np.zeros((2, 3))])
    refused(ValueError, ["rest"], field, 2, 3, rest=0.0)
    refused(ValueError, ["rounds"], field, 2, 3, rounds=-1)
    refused(TypeError, ["plain callable", "starts="], lambda t, x: x, 2, 3)
    refused(ValueError, ["not tangent"], lambda t, x: x + 1, 2, 3, starts=face.array(ctsa.random_tokens(2, 3, batch=(4,))))
    refused(ValueError, ["channels=2", "d=3"], lambda t, x: x, 2, 3, geometry=ctsa.Sphere(channels=2))
    refused(ValueError, ["geometry", "contradicts"], field, 2, 3, geometry=ctsa.Euclidean())
    refused(ValueError, ["mask"], face.SelfAttention(mask=np.ones((4, 4))), 3, 3)
    single = face.SelfAttention(value=V.astype(np.float32))
    refused(ValueError, ["rest=1e-10 is", "float32", "raise rest"], single, 2, 3)


def test_terms_read_at_other_tokens(torch_face):
    """Consensus under F(gain * x) is an eigenvector of V diag(gain); with a bias it is none."""
    v, gain = np.array([[1.0, 0.7], [0.2, 2.0]]), np.array([2.0, 0.5])
    field = torch_face.SelfAttention(key=np.diag([1.0, 2.0]), value=v)
    inner = field.rescaled(gain)
    assert np.array_equal(consensus_matrix(inner, 2), v * gain)
    assert np.allclose(consensus_matrix((2.0 * inner + field).rescaled(3.0), 2), 3 * (2 * v * gain + v), rtol=1e-14)
    assert consensus_matrix(field.rescaled(2.0, np.array([0.1, 0.3])).rescaled(2.0), 2) is None
    found = ctsa.find_equilibria(inner, 2, 2)
    assert sorted(e.eigenvector for e in found if "consensus" in e.kind) == [0, 0, 1, 1]
    for e in found:
        if e.kind == "consensus":
            assert np.abs(e.eigenvalues - theory.consensus_spectrum(v * gain, e.eigenvector, 2)).max() < 1e-9


def test_poincare_and_hopf_ask_for_continuity(torch_face):
    mask = ~np.eye(3, dtype=bool)  # without j = i: the most similar other token
    found = ctsa.find_equilibria(torch_face.SelfAttention(value=V[:2, :2], weights="hardmax", mask=mask), 3, 2)
    assert math.isnan(found.report["index_sum"]) and "Poincare" not in found.reason and len(found) == 4


def test_one_known_equilibrium(torch_face):
    field = standard(torch_face, 2)
    first, *others = ctsa.find_equilibria(field, 2, 2)
    again = ctsa.find_equilibria(field, 2, 2, known=first)
    close_sets(again, others)


def test_single_precision(torch_face):
    v = V[:2, :2].astype(np.float32)
    found = ctsa.find_equilibria(torch_face.SelfAttention(query=v, value=v), 2, 2, rest=1e-4)
    assert (len(found), len(found.stable)) == COUNTS[2, 2, 1.0][:2] and found[0].x.dtype == np.float64
    assert max(e.speed for e in found) < 1e-4
