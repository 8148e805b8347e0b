"""Pictures: tokens and observables here; spectra, comparisons, equilibria and branches in modules of their own."""

from . import (
    clusters as clusters,
    comparison as comparison,
    continuation as continuation,
    equilibria as equilibria,
    experiments as experiments,
    monitors as monitors,
    spectra as spectra,
    survey as survey,
    training as training,
)
from ._style import style as style
from .film import animate as animate
from .sweeps import sweep as sweep
from .tokens import (
    angles as angles,
    circle as circle,
    gram as gram,
    gram_matrix as gram_matrix,
    mergers as mergers,
    observables as observables,
    panels as panels,
    principal as principal,
    sphere as sphere,
    trajectory as trajectory,
)
