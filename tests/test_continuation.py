"""Branches of equilibria against closed forms: attention on the sphere, normal forms in flat space."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sampling import mainly
from scipy.integrate import quad
from scipy.optimize import brentq

import ctsa
from ctsa._backend import backend
from ctsa.continuation.bifurcations import NODES, interpolated_root

FLAT = ctsa.Euclidean()
VALUES = np.array([3.0, 2.0, 1.0])


@pytest.fixture(autouse=True)
def _nothing_lost():
    """A special point that cannot be located makes a warning: here it is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def poles(plus, minus, d=3):
    """Tokens at both ends of the first axis."""
    return np.r_[np.ones(plus), -np.ones(minus)][:, None] * np.eye(d)[0]


def diagonal(face, values=VALUES, beta=1.0):
    return face.SelfAttention(key=np.diag(values), value=np.diag(values), beta=beta)


def residuals(make, branch, face):
    return [np.abs(face.numpy(make(p)(0.0, face.array(x)))).max() for p, x in zip(branch.parameters, branch.xs)]


# ------------------------------------------------------------------------------------------------- attention, exact
def test_balanced_poles_lose_stability(face, close):
    branch = ctsa.continue_equilibrium(diagonal(face), poles(2, 2), "beta", (0.05, 1.5), step=0.1)
    exact = np.arctanh(VALUES[:0:-1] / 3) / 3  # tanh(beta l1) = l_k / l1
    assert [p.kind for p in branch.points] == ["branch point"] * 2
    assert [p.parameter for p in branch.points] == pytest.approx(exact, abs=1e-12)
    assert (branch.begins, branch.ends) == ("span", "span")
    assert (branch.parameters[0], branch.parameters[-1]) == (0.05, 1.5)
    close(branch.xs, np.broadcast_to(poles(2, 2), branch.xs.shape))
    assert np.array_equal(branch.index, (branch.parameters[:, None] < exact).sum(1))
    assert np.array_equal(branch.stable, branch.index == 0)
    for k, point in enumerate(branch.points):  # all tokens tilt towards v3, and towards v2
        close(np.abs(point.vectors), np.broadcast_to(np.eye(3)[2 - k], (1, 4, 3)), 1e-9)


def test_eigenvalues_along_a_branch(torch_face, close):
    branch = ctsa.continue_equilibrium(diagonal(torch_face), poles(3, 1), "beta", (0.05, 1.5), count=8)
    for i in range(0, len(branch), 9):
        field = diagonal(torch_face, beta=branch.parameters[i])
        close(branch.eigenvalues[i].real, ctsa.eigenvalues(field, branch.xs[i]).real, 1e-10)
        assert branch.index[i] == (ctsa.eigenvalues(field, branch.xs[i]).real > 1e-9).sum()
        assert branch.neutral[i] == 0


@mainly("torch")
def test_tilted_poles(face, close):
    """Tokens (cos a, +-sin a) are at rest where tanh(beta l1 cos^2 a) = l2 / l1: a pitchfork, towards larger beta."""
    field, crossing = diagonal(face), np.arctanh(2 / 3) / 3
    branch = ctsa.continue_equilibrium(field, poles(2, 2), "beta", (0.05, 1.5), step=0.1)
    (tilted,) = ctsa.switch_branch(field, branch, 1, step=0.1)
    assert tilted.parameters.min() == pytest.approx(crossing, abs=1e-12)
    close(tilted.xs[..., 0] ** 2, np.broadcast_to((crossing / tilted.parameters)[:, None], tilted.xs.shape[:2]), 1e-9)
    close(tilted.xs[..., 2], 0 * tilted.xs[..., 2], 1e-9)
    ends = tilted.xs[[0, -1], :, 1].mean(1)  # both arms, to both ends of the span
    assert ends[0] == pytest.approx(-ends[1]) and abs(ends[1]) > 0.9
    assert tilted.parameters[0] == tilted.parameters[-1] == 1.5
    middle = [p for p in tilted.branch_points if abs(p.parameter - crossing) < 1e-9]
    assert len(middle) == 1 and middle[0].multiplicity == 1 and abs(middle[0].slopes) == pytest.approx([1.0])
    assert max(residuals(lambda p: diagonal(face, beta=p), tilted, face)) < 1e-11


def test_both_faces_give_the_same_branch(torch_face, jax_face, close):
    a, b = (
        ctsa.switch_branch(
            f, ctsa.continue_equilibrium(f, poles(2, 2), "beta", (0.05, 1.5), step=0.1), 1, step=0.1
        )[0]
        for f in (diagonal(torch_face), diagonal(jax_face))
    )
    assert (a.framework, b.framework) == ("torch", "jax")
    for name in ("parameters", "arclength", "eigenvalues", "index", "point_parameters"):
        close(np.asarray(getattr(a, name)), np.asarray(getattr(b, name)), 1e-9)
    close(np.abs(a.xs), np.abs(b.xs), 1e-9)  # the sign of a null vector is free


@settings(max_examples=10)
@given(st.floats(1.0, 4.0), st.floats(0.1, 0.9), st.floats(0.0, 6.0))
def test_any_eigenvalues_in_any_coordinates(first, ratio, angle):
    from ctsa.torch import SelfAttention

    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a = turn @ np.diag([first, ratio * first]) @ turn.T
    crossing = np.arctanh(ratio) / first
    field, x = SelfAttention(key=a, value=a, beta=crossing / 2), poles(1, 1, 2) @ turn.T
    branch = ctsa.continue_equilibrium(field, x, "beta", (0.3 * crossing, 2 * crossing), step=0.1)
    assert [p.parameter for p in branch.points] == pytest.approx([crossing], rel=1e-11)


def test_tokens_of_the_smaller_group_part(torch_face, close):
    """Poles with 7 and 3 tokens: the 3 part where exp(2 beta l1) = 7 / 3, in (3 - 1)(d - 1) directions at once."""
    field, crossing = diagonal(torch_face, beta=0.1), np.log(7 / 3) / 6
    branch = ctsa.continue_equilibrium(field, poles(7, 3), "beta", (0.02, 1.5), step=0.1)
    point = branch.branch_points[0]
    assert point.parameter == pytest.approx(crossing, abs=1e-12) and point.multiplicity == 4
    close(point.vectors[:, :7], 0 * point.vectors[:, :7], 1e-7)
    close(point.vectors[:, 7:].sum(1), np.zeros((4, 3)), 1e-7)
    flat = point.vectors.reshape(4, -1)
    close(flat @ flat.T / 10, np.eye(4), 1e-9)  # unit in the metric of the branch

    along = ctsa.switch_branch(field, branch, point, step=0.1)
    assert len(along) == 2  # one token against two, towards v2 and towards v3
    for new in along:
        assert max(residuals(lambda p: diagonal(torch_face, beta=p), new, torch_face)) < 1e-10
        labels = [ctsa.clusters(x, gap=1e-6).tolist() for x in new.xs[[0, -1]]]
        assert labels == [[0] * 7 + [1, 2, 2]] * 2
    direction = np.zeros((10, 3))
    direction[7:, 1] = [0, 1, -1]  # the third token stays: another axis of symmetry
    (new,) = ctsa.switch_branch(field, branch, point, direction, max_points=10, step=0.1)
    assert len(np.unique(ctsa.clusters(new.xs[-1], gap=1e-6))) == 4
    assert len(ctsa.switch_branch(field, branch, point, 0, max_points=5)) <= 1
    found = ctsa.switch_branch(field, branch, point, "random", tries=3, max_points=5)
    assert found
    assert all(max(residuals(lambda p: diagonal(torch_face, beta=p), b, torch_face)) < 1e-10 for b in found)


def height(s, beta=1.0):
    """Injection q that holds tokens (+-cos a, sin a), s = sin a, where V = A = diag(3, 2)."""
    return s * (3 * np.tanh(3 * beta * (1 - s * s)) - 2)


@mainly("jax")
def test_closed_branch_with_folds(face, close):
    """Poles pushed by q along v2: q = sin a (3 tanh(3 cos^2 a) - 2), a closed curve with four folds."""
    field = diagonal(face, [3.0, 2.0]) + 0.0 * face.Injection([0.0, 1.0])
    branch = ctsa.continue_equilibrium(field, poles(1, 1, 2), "factor", (-3.0, 3.0), step=0.04)
    assert (branch.begins, branch.ends) == ("closed", "closed")
    assert np.array_equal(branch.xs[0], branch.xs[-1])
    close(branch.parameters, height(branch.xs[:, 0, 1]), 1e-9)
    close(branch.xs[:, 0] * [-1, 1], branch.xs[:, 1], 1e-9)
    step = 1e-6
    top = brentq(lambda s: (height(s + step) - height(s - step)) / step, 0.1, 0.9)
    folds = np.sort([p.parameter for p in branch.folds])
    assert folds == pytest.approx([-height(top)] * 2 + [height(top)] * 2, abs=1e-11)
    # where both tokens are on the second axis, the branch of consensus crosses: q = -+2
    turns = [p for p in branch.branch_points if abs(abs(p.parameter) - 2) < 1e-6]
    assert [p.parameter for p in turns] == pytest.approx([-2.0, 2.0], abs=1e-10)
    assert max(abs(p.slope) for p in (*turns, *branch.folds)) < 1e-8
    assert np.diff(branch.arclength).max() <= 0.0404


@pytest.mark.parametrize("step", [0.06, 0.07])
def test_points_where_the_parameter_turns_are_no_folds_if_branches_cross(torch_face, step):
    """The same curve: its tips at q = -+2 were folds for some steps, whose nodes came too near to them."""
    field = diagonal(torch_face, [3.0, 2.0]) + 0.0 * torch_face.Injection([0.0, 1.0])
    branch = ctsa.continue_equilibrium(field, poles(1, 1, 2), "factor", (-3.0, 3.0), step=step)
    assert len(branch.folds) == 4
    tips = [abs(p.parameter) for p in branch.branch_points if abs(abs(p.parameter) - 2) < 1e-3]
    assert tips == pytest.approx([2.0, 2.0], abs=1e-8)


# ------------------------------------------------------------------------------------------------- symmetry, families
def test_rotations_are_no_bifurcation(face):
    """A triangle under Q = K = V = I: three neutral directions along the way, which are left out."""
    angles = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    branch = ctsa.continue_equilibrium(face.SelfAttention(beta=2.0), triangle, "beta", (0.5, 6.0), step=0.1, count=9)
    assert branch.points == () and (branch.neutral == 3).all()
    for i in (0, len(branch) - 1):
        field = face.SelfAttention(beta=float(branch.parameters[i]))
        values = ctsa.eigenvalues(field, branch.xs[i]).real
        assert branch.index[i] == (values > 1e-9).sum() == 3
        assert np.sort(np.r_[branch.eigenvalues[i].real, np.zeros(3)]) == pytest.approx(np.sort(values), abs=1e-9)


def test_family_that_moves_under_rotations(torch_face, close):
    """Two tokens at angle 0 and two at +-a: a depends on beta; no drift along the rotations."""

    def torque(a, beta):
        weights = np.exp(beta * np.cos([a, 0.0, 2 * a])) * [2, 1, 1]
        return -(weights @ np.sin([a, 0.0, 2 * a]))

    def tokens(a):
        return np.array([[np.cos(b), np.sin(b)] for b in (0, 0, a, -a)])

    def angle(beta):
        return brentq(torque, 1.7, 2.9, args=(beta,), xtol=1e-14)

    branch = ctsa.continue_equilibrium(torch_face.SelfAttention(beta=2.0), tokens(angle(2.0)), "beta", (1.0, 4.0), step=0.1)
    assert (branch.neutral == 1).all() and (branch.begins, branch.ends) == ("span", "span")
    exact = np.array([angle(b) for b in branch.parameters])
    close(ctsa.gram(branch.xs), ctsa.gram(np.array([tokens(a) for a in exact])), 1e-9)
    assert np.ptp(exact) > 0.05


def test_drift_along_a_symmetry(torch_face):
    field = torch_face.SelfAttention(beta=1.0) + 0.0 * torch_face.Rotation(frequencies=[1.0])
    with pytest.raises(ValueError, match="makes it drift along a symmetry"):
        ctsa.continue_equilibrium(field, poles(2, 1, 2), "factor", (-1.0, 1.0))


def test_family_without_symmetry(torch_face, close):
    """An ellipse of equilibria for each p, which no motion of space explains."""

    def field_of(p):
        return lambda t, x: (p - x[..., :1] ** 2 - 4 * x[..., 1:] ** 2) * x

    start = torch_face.array([[0.6, 0.4]])
    branch = ctsa.continue_equilibrium(None, start, field_of, (0.5, 3.0), at=1.0, geometry=FLAT, step=0.1)
    x, y = branch.xs[:, 0].T
    close(x**2 + 4 * y**2, branch.parameters, 1e-11)
    assert (branch.neutral == 1).all() and branch.stable.all() and branch.points == ()
    close(branch.eigenvalues[:, 0].real, -2 * branch.parameters, 1e-9)


# ------------------------------------------------------------------------------------------------- flat space
def fold(p):
    return lambda t, x: p - x * x


def pitchfork(p):
    return lambda t, x: p * x - x**3


def transcritical(p):
    return lambda t, x: p * x - x * x


@mainly("torch")
def test_fold(face, close):
    branch = ctsa.continue_equilibrium(None, face.array([[1.0]]), fold, (-1.0, 2.0), at=1.0, geometry=FLAT)
    assert branch.parameter == "fold" and [p.kind for p in branch.points] == ["fold"]
    assert branch.folds[0].parameter == pytest.approx(0.0, abs=1e-12)
    close(branch.folds[0].x, [[0.0]], 1e-9)
    assert np.diff(branch.arclength).max() <= 0.0202
    x = branch.xs[:, 0, 0]
    close(x**2, branch.parameters, 1e-11)
    assert np.array_equal(branch.stable, x > 0) and (branch.parameters[0], branch.parameters[-1]) == (2.0, 2.0)


def test_arclength_through_a_fold(torch_face):
    """Length of p = x^2 in the metric dx^2 + dp^2 / 9; chords are short of it by a second-order term."""
    exact = quad(lambda x: (1 + 4 * x * x / 9) ** 0.5, -(2**0.5), 2**0.5)[0]
    off = []
    for step in (0.08, 0.04):
        start = torch_face.array([[1.0]])
        b = ctsa.continue_equilibrium(None, start, fold, (-1.0, 2.0), at=1.0, geometry=FLAT, step=step)
        off.append(exact - b.arclength[-1])
        assert b.folds[0].arclength == pytest.approx(exact / 2, abs=4 * off[-1])
    assert 0 < off[1] < 0.35 * off[0] < 1e-3


@pytest.mark.parametrize("start", [-0.5, 0.0])
def test_pitchfork(torch_face, close, start):
    x, options = torch_face.array([[0.0]]), dict(geometry=FLAT, step=0.08)
    branch = ctsa.continue_equilibrium(None, x, pitchfork, (-1.0, 1.0), at=start, **options)
    assert [p.kind for p in branch.points] == ["branch point"]
    assert branch.points[0].parameter == pytest.approx(0.0, abs=1e-12)
    (arms,) = ctsa.switch_branch(None, branch, parameter=pitchfork, geometry=FLAT, step=0.08)
    x = arms.xs[:, 0, 0]
    close(x**2, arms.parameters, 1e-11)
    assert x.min() == pytest.approx(-1.0) and x.max() == pytest.approx(1.0) and arms.stable[np.abs(x) > 1e-6].all()
    (again,) = ctsa.switch_branch(None, arms, parameter=pitchfork, geometry=FLAT, step=0.08)  # and back
    close(again.xs, 0 * again.xs, 1e-11)
    assert np.ptp(again.parameters) == 2.0


@pytest.mark.parametrize("x", [0.0, -0.5])
def test_transcritical(torch_face, close, x):
    start = torch_face.array([[x]])
    branch = ctsa.continue_equilibrium(None, start, transcritical, (-1.0, 1.0), at=-0.5, geometry=FLAT)
    assert [p.kind for p in branch.points] == ["branch point"]
    assert branch.points[0].parameter == pytest.approx(0.0, abs=1e-12)
    (other,) = ctsa.switch_branch(None, branch, parameter=transcritical, geometry=FLAT)
    close(other.xs[:, 0, 0], (0.0 if x else 1.0) * other.parameters, 1e-11)
    assert np.ptp(other.parameters) == 2.0


def brusselator(b, a=1.3):
    def field(t, x):
        u, v = x[..., 0], x[..., 1]
        return backend(x).xp.stack([a + u * u * v - (b + 1) * u, b * u - u * u * v], -1)

    return field


def test_brusselator(face, close):
    start = face.array([[1.3, 2.0 / 1.3]])
    branch = ctsa.continue_equilibrium(None, start, brusselator, (0.5, 6.0), at=2.0, geometry=FLAT, step=0.06)
    (hopf,) = branch.points
    assert hopf.kind == "Hopf" and hopf.multiplicity == 2 and branch.hopf_points[0].parameter == hopf.parameter
    assert hopf.parameter == pytest.approx(1 + 1.3**2, abs=1e-11) and hopf.frequency == pytest.approx(1.3, abs=1e-10)
    close(branch.xs[:, 0, 1], branch.parameters / 1.3, 1e-11)
    assert np.array_equal(branch.stable, branch.parameters < 1 + 1.3**2)
    with pytest.raises(ValueError, match="must be a branch point, got a Hopf"):
        ctsa.switch_branch(None, branch, hopf, parameter=brusselator, geometry=FLAT)


def test_hopf_on_the_sphere(face):
    """A token at v1 of V with eigenvalues p and 0.7 +- 2i: stable until p falls below 0.7. V is built with NumPy."""

    def field_of(p):
        return face.Oja(value=np.array([[p, 0, 0], [0, 0.7, -2], [0, 2, 0.7]]))

    x = [[1.0, 0.0, 0.0]]
    branch = ctsa.continue_equilibrium(None, np.array(x), field_of, (0.0, 2.0), at=1.5)
    (hopf,) = branch.points
    assert (hopf.kind, hopf.multiplicity) == ("Hopf", 2)
    assert (hopf.parameter, hopf.frequency) == pytest.approx((0.7, 2.0), abs=1e-11)


@pytest.mark.parametrize("channels", [None, 2])
def test_oscillators(torch_face, close, channels):
    """C + q D injected: every oscillator points along its part of C + q D."""
    geometry = ctsa.Sphere(channels)
    c, d = np.random.default_rng(0).normal(size=(2, 3, 4))
    make = lambda a: torch_face.Injection(a, geometry=geometry)  # noqa: E731
    start = geometry.retract(c + 0.5 * d)
    branch = ctsa.continue_equilibrium(make(c) + 0.5 * make(d), start, "factor", (0.0, 2.0), step=0.1)
    close(branch.xs, geometry.retract(c + branch.parameters[:, None, None] * d), 1e-11)
    assert branch.stable.all() and branch.points == ()


# ------------------------------------------------------------------------------------------------- accuracy, compilation
def test_special_points_do_not_depend_on_the_step(torch_face):
    field = diagonal(torch_face, [3.0, 2.0]) + 0.1 * torch_face.Injection([0.0, 1.0])
    x = np.array([[1.0, 0.0], [-1.0, 0.0]])
    s = brentq(lambda s: height(s) - 0.1, 0.0, 0.4, xtol=1e-15)
    x = np.array([[(1 - s * s) ** 0.5, s], [-((1 - s * s) ** 0.5), s]])
    found = []
    for step in (0.1, 0.05, 0.025):
        branch = ctsa.continue_equilibrium(field, x, "factor", (0.0, 1.0), step=step, max_points=100000)
        found.append([p.parameter for p in branch.points])
    assert len(found[0]) == 2
    assert found[0] == pytest.approx(found[2], abs=1e-8) and found[1] == pytest.approx(found[2], abs=1e-11)


def test_a_field_without_symmetry(torch_face):
    """Random matrices, an injection switched off and reversed: at every special point an eigenvalue is on the axis."""
    q, k, v = np.random.default_rng(3).normal(size=(3, 3, 3))
    attention = torch_face.SelfAttention(query=q, key=k, value=v, beta=1.0)
    injection = torch_face.Injection(np.random.default_rng(0).normal(size=(4, 3)))

    def field_of(p):
        return attention + p * injection

    field, x = field_of(0.5), ctsa.random_tokens(4, 3, seed=0)
    x = ctsa.integrate(field, x, [0.0, 60.0]).xs[-1].detach()
    branch = ctsa.continue_equilibrium(field, x, "factor", (-2.0, 2.0), max_points=200, step=0.1)
    assert len(branch.folds) > 2 and len(branch.hopf_points) > 0
    for point in branch.points:
        at, x = field_of(point.parameter), torch_face.array(point.x)
        assert np.abs(torch_face.numpy(at(0.0, x))).max() < 1e-10
        assert np.abs(ctsa.eigenvalues(at, x) - 1j * point.frequency).min() < 1e-8
        assert (abs(point.slope) < 1e-8) == (point.kind == "fold")


def test_location_is_of_sixth_order():
    errors = []
    for h in (0.4, 0.2, 0.1):
        s = 1.01 + h * NODES
        errors.append(abs(interpolated_root(s, np.log(s), 1.05) - 1))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 5.5).all() and errors[-1] < 1e-8


def test_other_parameters_compile_nothing_new(jax_face):
    built = []

    def field_of(p):
        built.append(p)
        return lambda t, x: p - x * x

    def run(at):
        ctsa.continue_equilibrium(None, jax_face.array([[at**0.5]]), field_of, (0.1, 2.0), at=at, geometry=FLAT)
        return len(built)

    first = run(1.0)
    assert run(0.5) == first + 1  # once, to see what it returns


# ------------------------------------------------------------------------------------------------- how branches end
def test_reasons(torch_face):
    start = torch_face.array([[1.0]])
    short = ctsa.continue_equilibrium(None, start, fold, (-1.0, 2.0), at=1.0, geometry=FLAT, max_points=10)
    assert (short.begins, short.ends) == ("max_points", "max_points") and len(short) == 21

    def root(p):
        return lambda t, x: p**0.5 - x

    with np.errstate(invalid="ignore"):
        halted = ctsa.continue_equilibrium(None, start, root, (-1.0, 2.0), at=torch_face.array(1.0), geometry=FLAT)
    assert (halted.begins, halted.ends) == ("step too small", "span")
    assert 0 < halted.parameters[0] < 0.05


# ------------------------------------------------------------------------------------------------- diagrams
@pytest.fixture(scope="module")
def two_tokens():
    import ctsa.torch

    field = ctsa.torch.SelfAttention(key=np.diag([3.0, 2.0]), value=np.diag([3.0, 2.0]), beta=1.0)
    x = poles(1, 1, 2)
    return ctsa.bifurcation_diagram(field, [x, -x, x[[1, 0]]], "beta", (0.1, 2.0), step=0.04)


def test_diagram(two_tokens, close):
    """Poles; from these the tilted pair; from that pairs in which one token moves and the other hardly does."""
    assert two_tokens.parents.tolist() == [-1, 0, 1] and two_tokens.reason == "complete"
    first, second, third = two_tokens.branches
    crossing = np.arctanh(2 / 3) / 3
    close(first.xs, np.broadcast_to(poles(1, 1, 2), first.xs.shape))
    close(second.xs[..., 0] ** 2, np.broadcast_to((crossing / second.parameters)[:, None], second.xs.shape[:2]), 1e-9)
    (birth,) = {round(p.parameter, 9) for p in third.branch_points}
    assert birth in [round(p.parameter, 9) for p in second.branch_points]
    from ctsa.torch import SelfAttention

    def field(beta):
        return SelfAttention(key=np.diag([3.0, 2.0]), value=np.diag([3.0, 2.0]), beta=beta)

    def second_eigenvalue(beta):
        c = np.sqrt(crossing / beta)
        s = np.sqrt(1 - c * c)
        return ctsa.eigenvalues(field(beta), np.array([[c, s], [-c, s]]))[1].real

    assert birth == pytest.approx(brentq(second_eigenvalue, 0.3, 0.5, xtol=1e-14), abs=1e-9)
    # the same states as a search at one parameter finds
    at = 1.0
    searched = [e for e in ctsa.find_equilibria(field(at), 2, 2) if e.kind == "clustering"]
    for e in searched:
        gram = e.x @ e.x.T
        near = [b.xs[i] for b in (second, third) for i in range(len(b)) if abs(b.parameters[i] - at) < 0.03]
        assert min(np.abs(x @ x.T - gram).max() for x in near) < 0.05


def test_diagram_options(torch_face):
    field, x = diagonal(torch_face, [3.0, 2.0]), poles(1, 1, 2)
    few = ctsa.bifurcation_diagram(field, x, "beta", (0.1, 2.0), max_branches=2, step=0.1)
    assert (len(few), few.reason) == (2, "max_branches")
    one = ctsa.bifurcation_diagram(field, [x, np.ones((2, 1)) * [[1.0, 0.0]]], "beta", (0.1, 2.0), switch=False, step=0.1)
    assert (len(one), one.reason, one.parents.tolist()) == (2, "not switched", [-1, -1])
    with pytest.raises(IndexError, match="branch 2 of 2"):
        one[2]
    with pytest.raises(ValueError, match="starts must be a list of at least one equilibrium"):
        ctsa.bifurcation_diagram(field, [])
    with pytest.raises(ValueError, match="starts must have one shape"):
        ctsa.bifurcation_diagram(field, [x, poles(2, 1, 2)], "beta", (0.1, 2.0), switch=False)


# ------------------------------------------------------------------------------------------------- results
def test_results_are_saved(two_tokens, tmp_path):
    loaded = ctsa.load(two_tokens.save(tmp_path / "diagram"))
    assert repr(loaded) == repr(two_tokens) and len(loaded) == 3
    branch = two_tokens[1]
    again = ctsa.load(branch.save(tmp_path / "branch"))
    assert repr(again) == repr(branch) and again.points[0].kind == "branch point"
    for one, other in zip(branch.points, again.points):
        assert np.array_equal(one.vectors, other.vectors) and one.parameter == other.parameter
    point = ctsa.load(branch.points[0].save(tmp_path / "point"))
    assert np.array_equal(point.x, branch.points[0].x) and point.kind == "branch point"
    assert loaded[-1].ends == two_tokens[2].ends


def test_equilibria_and_numpy_start_a_branch(torch_face):
    field = diagonal(torch_face)
    given_as = [poles(2, 2), torch_face.array(poles(2, 2)), poles(2, 2) + 0.0]
    (found,) = [e for e in ctsa.find_equilibria(field, 2, 3) if e.kind == "bipartite consensus" and e.stable]
    branches = [ctsa.continue_equilibrium(field, x, "beta", (0.5, 1.5), step=0.1) for x in (*given_as, found)]
    assert all(b.stable.all() for b in branches)
    near = np.array([[1.0, 1e-4, 0.0], [-1.0, 1e-4, 0.0]])
    rough = ctsa.continue_equilibrium(field, near / np.linalg.norm(near, axis=1)[:, None], "beta", (0.5, 1.5), step=0.1)
    assert np.abs(np.abs(rough.xs) - np.abs(poles(1, 1))).max() < 1e-9


# ------------------------------------------------------------------------------------------------- bad input
def test_bad_parameters(torch_face):
    field, x = diagonal(torch_face), poles(1, 1)
    total = field + 0.5 * torch_face.Injection([0.0, 0.0, 1.0])
    go = ctsa.continue_equilibrium
    with pytest.raises(ValueError, match="'gamma' is not a parameter of SelfAttention .*numbers are 'beta'"):
        go(field, x, "gamma")
    with pytest.raises(ValueError, match="numbers are 'beta', 'factor'"):
        go(total, x, "omega")
    with pytest.raises(ValueError, match="'value' must be a number, but has shape"):
        go(field, x, "value")
    with pytest.raises(ValueError, match="'beta' is in 2 terms"):
        go(field + field, x, "beta")
    with pytest.raises(ValueError, match="it has none that is a number"):
        go(lambda t, y: y, torch_face.array(x), "beta")
    heads = torch_face.SelfAttention(value=np.stack([np.eye(3)] * 2), beta=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"must be a number, but has shape \(2,\)"):
        go(heads, x, "beta")
    with pytest.raises(TypeError, match="parameter must be a name or a function"):
        go(field, x, 3)
    with pytest.raises(ValueError, match="at must be the present value"):
        go(None, x, lambda p: diagonal(torch_face, beta=p), (0.0, 1.0))


def test_bad_states_and_spans(torch_face):
    field, x = diagonal(torch_face), poles(1, 1)
    go = ctsa.continue_equilibrium
    with pytest.raises(ValueError, match="x is not an equilibrium, its velocity is up to .*find_equilibria"):
        go(field, ctsa.random_tokens(3, 3, seed=0), "beta", (0.0, 2.0))
    with pytest.raises(ValueError, match="must have unit tokens"):
        go(field, 2 * x, "beta", (0.0, 2.0))
    with pytest.raises(TypeError, match=r"one state \(n, d\) in float64"):
        go(field, np.stack([x, x]), "beta", (0.0, 2.0))
    single = torch_face.SelfAttention(value=np.eye(3, dtype="float32"))
    with pytest.raises(TypeError, match="in float64"):
        go(single, x, "beta", (0.0, 2.0))
    with pytest.raises(ValueError, match="span must increase"):
        go(field, x, "beta", (2.0, 0.0))
    with pytest.raises(ValueError, match=r"span=\(2, 3\) must contain the present value of beta, 1"):
        go(field, x, "beta", (2.0, 3.0))
    with pytest.raises(ValueError, match="span must be two finite numbers"):
        go(field, x, "beta", 3.0)
    with pytest.raises(ValueError, match="step must be a finite number above 0"):
        go(field, x, "beta", (0.0, 2.0), step=0.0)
    with pytest.raises(ValueError, match="max_points must be an integer of at least 1"):
        go(field, x, "beta", (0.0, 2.0), max_points=0)
    with pytest.raises(ValueError, match="step must be positive") as caught:
        go(None, x, lambda p: ctsa.EulerLayer(field, p), (0.0, 2.0), at=1.0)
    assert "beyond the span" in caught.value.__notes__[0]


def test_bad_switches(torch_face):
    field = diagonal(torch_face)
    branch = ctsa.continue_equilibrium(field, poles(1, 1), "beta", (0.2, 1.0))
    with pytest.raises(ValueError, match="point=5, but the branch has 1 branch points"):
        ctsa.switch_branch(field, branch, 5)
    with pytest.raises(ValueError, match="direction must be one of 'random', 'symmetric'"):
        ctsa.switch_branch(field, branch, 0, "up")
    with pytest.raises(ValueError, match="direction=1, but the null space has 1"):
        ctsa.switch_branch(field, branch, 0, 1)
    with pytest.raises(ValueError, match="direction must have the shape"):
        ctsa.switch_branch(field, branch, 0, np.ones(3))
    with pytest.raises(ValueError, match="no part in the null space"):
        ctsa.switch_branch(field, branch, 0, np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]))


# ------------------------------------------------------------------------------------------------- pictures
@pytest.fixture
def plt():
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def drawn(ax):
    """Return stable lines, unstable lines and markers as lists of coordinates."""
    ax.figure.canvas.draw()
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    solid = [line.get_xydata() for line in lines if line.get_linestyle() == "-"]
    dashed = [line.get_xydata() for line in lines if line.get_linestyle() == "--"]
    marks = [(line.get_marker(), *line.get_xydata()[0]) for line in ax.lines if line.get_linestyle() == "None"]
    return solid, dashed, marks


def test_picture_of_a_fold(torch_face, plt):
    start = torch_face.array([[1.0]])
    branch = ctsa.continue_equilibrium(None, start, fold, (-1.0, 2.0), at=1.0, geometry=FLAT, step=0.05)
    ax = branch.plot()
    (solid,), (dashed,), ((marker, p, x),) = drawn(ax)
    assert solid[:, 1].min() >= -1e-9 and dashed[:, 1].max() <= 1e-9  # they meet in the fold
    assert solid[:, 1].max() == pytest.approx(2**0.5) and dashed[:, 1].min() == pytest.approx(-(2**0.5))
    assert (marker, p, x) == ("s", pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("fold", "first component")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["stable", "unstable", "fold"]


def test_picture_of_a_diagram(two_tokens, plt):
    from ctsa.plot import continuation as plot_continuation

    _, given_ax = plt.subplots()
    ax = two_tokens.plot(lambda x: x[0, 0] ** 2, ax=given_ax, label="overlap", legend=False)
    assert ax is given_ax and ax.get_legend() is None and ax.get_ylabel() == "overlap"
    solid, dashed, marks = drawn(ax)
    crossing = np.arctanh(2 / 3) / 3
    assert len(solid) == 1 and solid[0][0, 0] == pytest.approx(crossing)  # the poles, from there on
    arms = [line for line in dashed if line[0, 0] == pytest.approx(crossing)]
    assert len(arms) == 2 and np.abs(arms[0][-1] - arms[1][-1]).max() < 1e-9  # drawn alike, so that dashes meet
    assert {m[0] for m in marks} == {"o"}
    assert len(marks) == sum(len(b.points) for b in two_tokens)
    assert two_tokens[0].plot().get_ylabel() == "order parameter"
    values = plot_continuation.eigenvalues(two_tokens[0])
    assert np.array_equal(values.lines[0].get_xydata()[:, 1], two_tokens[0].eigenvalues[:, 0].real)
    assert values.lines[0].get_linestyle() == "-" and values.get_xlabel() == r"$\beta$" == ax.get_xlabel()
    assert [t.get_text() for t in values.get_legend().get_texts()] == ["branch point"]
    plot_continuation.diagram(list(two_tokens))
    with pytest.raises(TypeError, match="observable must be a function of a state"):
        two_tokens.plot("overlap")
    with pytest.raises(ValueError, match="observable must return one number"):
        two_tokens[0].plot(lambda x: x)
    with pytest.raises(ValueError, match="at least one branch"):
        plot_continuation.diagram([])


@mainly("jax")
def test_branch_points_where_the_parameter_stands_still(face):
    """At beta = 0 all x, -x rest, a circle at one value. Curves cross it at eigenvectors, and where x A x or e V e = 0."""
    v, a = np.diag([2.0, -1.0]), np.array([[1.0, 1.0], [1.0, -0.5]])
    field = face.SelfAttention(key=a, value=v, beta=1.0)
    axis = ctsa.continue_equilibrium(field, poles(1, 1, 2), "beta", (-1.0, 2.0), step=0.1)
    (zero,) = (p for p in axis.branch_points if abs(p.parameter) < 1e-9)
    (circle,) = ctsa.switch_branch(field, axis, zero, step=0.1)
    assert circle.ends == "closed" and np.abs(circle.parameters).max() < 1e-9 and not circle.folds
    angles = np.sort([np.arctan2(p.x[0, 1], p.x[0, 0]) % np.pi for p in circle.branch_points])
    tangents = np.roots([-0.5, 2.0, 1.0])  # x A x = 0 for the slope x_2 / x_1
    flat = np.arctan([*tangents, 1 / 2**0.5, -1 / 2**0.5]) % np.pi  # e V e = 0 for e = (-x_2, x_1): 2 x_2^2 = x_1^2
    exact = np.sort(np.repeat([0.0, np.pi / 2, *flat], 2))
    gaps = (angles[:, None] - exact + np.pi / 2) % np.pi - np.pi / 2
    assert len(angles) == 12 and np.abs(gaps).min(0).max() < 1e-8 and np.abs(gaps).min(1).max() < 1e-8
    fork = min(circle.branch_points, key=lambda p: abs(p.x[0, 1] / p.x[0, 0] - 1 / 2**0.5))
    (other,) = ctsa.switch_branch(field, circle, fork, step=0.1)
    assert np.ptp(other.parameters) > 0.5
    assert max(residuals(lambda p: face.SelfAttention(key=a, value=v, beta=p), other, face)) < 1e-11
