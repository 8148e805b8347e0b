"""Kinds of equilibria: the definitions, on states made by hand, in both frameworks."""

import numpy as np
import pytest
import torch

import ctsa

V = np.diag([3.0, 2.0, 1.0])
E = np.eye(3)
POLYGON = np.stack([[np.cos(a), np.sin(a), 0.0] for a in 2 * np.pi * np.arange(3) / 3])


def field(face, value=V, beta=1.0, **options):
    return face.SelfAttention(value=value, query=value, beta=beta, **options)


CASES = {
    "consensus": (E[[1, 1, 1]], "consensus", (3,), 1),
    "consensus, other end": (-E[[0, 0]], "consensus", (2,), 0),
    "bipartite": (E[[2, 2, 2]] * [[1], [-1], [1]], "bipartite consensus", (2, 1), 2),
    "several axes": (np.concatenate([E[[0, 1]], -E[[0, 1]]]), "clustering", (1, 1, 1, 1), -1),
    "moving": (ctsa.random_tokens(3, 3), "none", (1, 1, 1), -1),
    "one token": (E[[0]], "consensus", (1,), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_kinds(face, case):
    x, kind, sizes, direction = CASES[case]
    found = ctsa.classification(field(face), face.array(x))
    assert ctsa.classify(field(face), face.array(x)) == found.kind == kind
    assert tuple(found.multiplicities) == sizes and found.eigenvector == direction
    assert (found.speed < 1e-12) == (kind != "none") and not found.zero_output
    assert (found.overlap > 1 - 1e-12) == (direction >= 0)


def test_axes_are_an_equilibrium_only_if_balanced(torch_face):
    assert ctsa.classify(field(torch_face), E[[0, 1]]) == "none"


def test_polygons(torch_face):
    # beta = 0 and V = I: the output is the mean, which vanishes.
    plain = torch_face.SelfAttention(beta=0.0)
    found = ctsa.classification(plain, POLYGON)
    assert found.kind == "polygonal" and found.zero_output and found.eigenvector == -1
    # Two opposite groups of equal size have no output either, but they are named by their shape.
    pair = ctsa.classification(plain, POLYGON[[0, 0]] * [[1], [-1]])
    assert pair.kind == "bipartite consensus" and pair.zero_output
    # With scores the regular polygon is an equilibrium with an output along each token.
    warm = ctsa.classification(torch_face.SelfAttention(beta=1.0), POLYGON)
    assert warm.kind == "clustering" and not warm.zero_output


def test_degenerate_bipartite(torch_face):
    # x^T A x = 0 and equal groups: an equilibrium along no eigenvector (Altafini's exception).
    a = np.diag([1.0, -1.0])
    x = np.array([[1.0, 1.0], [-1.0, -1.0]]) / 2**0.5
    found = ctsa.classification(torch_face.SelfAttention(query=a, value=np.diag([2.0, 1.0])), x)
    assert found.kind == "bipartite consensus" and found.zero_output and found.eigenvector == -1


def test_equal_eigenvalues_have_many_eigenvectors(torch_face):
    v = np.diag([2.0, 2.0, 1.0])
    x = np.array([[0.6, 0.8, 0.0]])
    assert ctsa.classification(field(torch_face, v), np.tile(x, (3, 1))).eigenvector == 0
    triangle = ctsa.classification(torch_face.SelfAttention(), POLYGON)  # every vector is an eigenvector, but they differ
    assert triangle.eigenvector == -1 and triangle.overlap < 0.9


def test_directions_count_complex_eigenvalues(torch_face):
    v = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -2.0]])  # +-i, then -2
    found = ctsa.classification(torch_face.SelfAttention(value=v), E[[2, 2]])
    assert found.kind == "consensus" and found.eigenvector == 2


def test_tolerances(torch_face):
    x = ctsa.Sphere().retract(E[[0, 0]] + [[0, 1e-5, 0], [0, -1e-5, 0]])
    assert ctsa.classify(field(torch_face), x) == "none"
    assert ctsa.classify(field(torch_face), x, rest=1e-3) == "consensus"
    assert ctsa.classify(field(torch_face), x, rest=1e-3, gap=1e-7) == "clustering"


def test_flow_limits_are_classified(torch_face):
    flow = ctsa.integrate(field(torch_face, beta=4.0), ctsa.random_tokens(6, 3, seed=2), [0.0, 100.0])
    assert ctsa.classify(field(torch_face, beta=4.0), flow.xs[-1]) == "bipartite consensus"


def test_plain_callables_and_flat_space():
    x = torch.as_tensor(POLYGON)
    assert ctsa.classify(lambda t, x: 0 * x, x) == "clustering"  # nothing is known of its drift
    assert ctsa.classify(lambda t, x: 0 * x, x[[1, 1]]) == "consensus"
    flat = ctsa.classification(lambda t, x: x - x**3, torch.ones(2, 2).double(), geometry=ctsa.Euclidean())
    assert flat.kind == "consensus" and flat.eigenvector == -1 and not flat.zero_output


def test_saves(torch_face, tmp_path):
    found = ctsa.classification(field(torch_face), E[[0, 0]])
    again = ctsa.load(found.save(tmp_path / "c"))
    assert again.kind == "consensus" and again.labels.tolist() == [0, 0] and again.eigenvector == 0
    assert repr(again) == "Classification(consensus, multiplicities=(2), eigenvector=0, speed=0.0e+00)"


BAD = {
    "field": (dict(field=3), TypeError, ["field", "callable"]),
    "layer": (dict(field=lambda x: x), TypeError, ["layer", "discretises"]),
    "rank": (dict(x=ctsa.random_tokens(3, 3, batch=(2,))), ValueError, ["one state", "(2, 3, 3)"]),
    "unit": (dict(x=2 * E), ValueError, ["x must have unit tokens"]),
    "shape": (dict(x=ctsa.random_tokens(3, 4)), ValueError, ["x has n=3", "d=4"]),
    "rest": (dict(rest=0), ValueError, ["rest"]),
    "gap": (dict(gap=-1.0), ValueError, ["gap"]),
    "nan": (dict(x=np.full((2, 3), np.nan)), ValueError, ["finite"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(face, case):
    changed, error, words = BAD[case]
    arguments = dict(field=field(face), x=E, rest=1e-6, gap=1e-3) | changed
    with pytest.raises(error) as caught:
        ctsa.classify(arguments["field"], arguments["x"], arguments["rest"], gap=arguments["gap"])
    for word in words:
        assert word in str(caught.value)
