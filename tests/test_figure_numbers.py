"""What figures of the literature are held against: closed forms of theirs, on cases that are known."""

import numpy as np
import pytest

from ctsa import theory
from ctsa.studies.figures import causal, phase_diagram, staircase, trajectories


def test_hemispheres():
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
    assert not trajectories.in_hemisphere(tetrahedron)
    assert trajectories.in_hemisphere(tetrahedron[:3]) and trajectories.in_hemisphere(-tetrahedron[1:])
    assert trajectories.in_hemisphere(np.stack([tetrahedron, np.abs(tetrahedron)])).tolist() == [False, True]


def test_centres():
    angle = np.array([[0.0, 0.5, 1.2, 6.2, 1.9]])
    assert causal.centres(angle, 1.0, False).tolist() == [[True, False, True, False, False]]
    assert causal.centres(angle, 0.6, True).tolist() == [[True, False, True, False, True]]
    assert causal.centres(angle, 0.65, True).tolist() == [[True, False, True, False, True]]
    assert causal.centres(angle, 0.75, True).tolist() == [[True, False, False, False, False]]
    assert causal.nearest(np.array([6.2]), np.array([0.0, 3.0])) == pytest.approx([2 * np.pi - 6.2])


def test_numbers_of_centres():
    assert causal.strong_number(1, 0.5) == pytest.approx(1)
    assert causal.strong_number(2, 0.5) == pytest.approx(2 - 0.5 / np.pi)
    full = 2 * np.pi / 0.1  # a circle so full that no more fit: Renyi's constant
    assert causal.parking(10**6, 0.1) / full == pytest.approx(0.7475979, abs=1e-4)
    assert causal.parking(10**3, 1e-6) == pytest.approx(1000, rel=1e-3)  # none are near each other


@pytest.mark.parametrize("beta", [0.5, 6.0])
def test_when_clusters_meet(beta):
    known = theory.equiangular_time(1 - staircase.GAP**2 / 2, beta, 2)
    assert staircase.merge_time(beta, 0.5) == pytest.approx(float(known), rel=1e-7)
    assert staircase.merge_time(beta, 0.25) == pytest.approx(staircase.merge_time(beta, 0.75), rel=1e-10)


def test_equiangular_products():
    ts = np.array([0.0, 1.0, 3.0])
    exact = (np.exp(2 * ts) - 1) / (np.exp(2 * ts) + 31)  # beta = 0
    assert np.abs(phase_diagram.equiangular(ts, 0.0) - exact).max() < 1e-6
    assert phase_diagram.crossing(ts, np.array([0.0, 0.4, 0.5])) == 3.0
    assert np.isnan(phase_diagram.crossing(ts, np.zeros(3)))
