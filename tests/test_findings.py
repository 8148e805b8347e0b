"""What findings are computed with, against exact answers; the studies themselves run in ``test_figures``."""

from pathlib import Path

import numpy as np
import pytest

import ctsa
from ctsa import theory
from ctsa.studies.figures import (
    finding_energy as energy,
    finding_looped_layer as looped,
    finding_singletons as singletons,
    finding_wrong_clusters as wrong,
)
from ctsa.studies.figures.bench import Bench
from ctsa.studies.names import FIGURES

PAGES = Path(__file__).resolve().parent.parent / "docs" / "findings"


@pytest.mark.parametrize("name", [name for name in FIGURES if name.startswith("finding-")])
def test_every_finding_has_a_page(name):
    page = (PAGES / f"{name.removeprefix('finding-')}.md").read_text()
    assert f"ctsa reproduce {name}" in page and "**Limits.**" in page
    assert f"\n{name.removeprefix('finding-')}\n" in (PAGES / "index.md").read_text()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_section_and_a_thumbnail(name):
    docs = PAGES.parent
    assert name.startswith("finding-") or f"\n\n`{name}`" in (docs / "reproduce.md").read_text()
    assert (docs / "images" / "reproduce" / f"{name}.png").is_file()


def test_misplaced_tokens_are_those_that_no_matching_saves():
    truth = np.array([[0, 0, 1, 1, 2], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
    labels = np.array([[2, 2, 0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
    assert wrong.misplaced(truth, labels).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("s, beta", [(0.5, 1.0), (2.0, 1.0), (1.3, 4.0)])
def test_energy_of_a_pair(s, beta, face):
    """Closed energy, its slope by differences, and dE/dt of the field agree."""
    angles = np.linspace(0.05, 1.5, 7)
    a = np.array([[1.0, s], [-s, 0.0]])
    field = energy.field_of(Bench("finding-energy", face.name), a, beta)
    x = energy.pairs(angles)
    np.testing.assert_allclose(face.numpy(ctsa.energy(field, face.array(x))), energy.pair(angles, s, beta), rtol=1e-13)
    by_differences = (energy.pair(angles + 1e-5, s, beta) - energy.pair(angles - 1e-5, s, beta)) / 2e-5
    np.testing.assert_allclose(
        -np.sin(2 * angles) / 2 * by_differences, energy.slope(angles, s, beta), rtol=1e-6, atol=1e-6
    )
    rates = energy.growth(field, a, beta, face.array(x))
    np.testing.assert_allclose(rates, energy.slope(angles, s, beta), rtol=1e-12, atol=1e-12)


def test_symmetric_growth_is_that_of_the_theorem(face):
    a = np.random.default_rng(0).normal(size=(3, 3))
    a = a + a.T
    field = energy.field_of(Bench("finding-energy", face.name), a, 2.0)
    x = face.array(ctsa.random_tokens(5, 3, seed=0, batch=(4,)))
    v = field(0.0, x)
    np.testing.assert_allclose(energy.growth(field, a, 2.0, x), energy.weighed(a, 2.0, x, v), rtol=1e-11)


def test_margins_are_the_rates_within_groups():
    v = np.diag([1.0, -4.0])
    plus, minus = singletons.margins(0.15, 2, 3)
    spectrum = theory.bipartite_spectrum(v, v, 0.15, 0, 2, 3).real
    assert np.abs(spectrum[:, None] - [-plus, -minus]).min(0) == pytest.approx([0, 0], abs=1e-12)
    plus, _ = singletons.margins(0.15, 1, 4)
    assert plus < 0 and theory.bipartite_spectrum(v, v, 0.15, 0, 1, 4)[0].real < 0


def test_directions_within_groups_and_across():
    labels = np.array([0, 1, 0, 1, 1, 2])
    mean = looped.averaging(labels)
    u, names = looped.directions(labels, 4)
    assert names[-1] == "across" and len(u) == 3  # a group of one has none within
    np.testing.assert_allclose(mean @ mean, mean, atol=1e-15)
    np.testing.assert_allclose(mean @ u[:-1], 0, atol=1e-15)
    np.testing.assert_allclose(mean @ u[-1], u[-1], atol=1e-15)
    np.testing.assert_allclose((u**2).sum((1, 2)), 1)
