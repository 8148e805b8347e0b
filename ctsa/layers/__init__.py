"""Recurrent layers: maps ``layer(x) -> x`` that know the flow they are a step of, and their iteration."""

from .base import Layer as Layer
from .check import MapReport as MapReport, check_map as check_map
from .euler import EulerLayer as EulerLayer, PostNormLayer as PostNormLayer
from .iteration import iterate as iterate
from .loop import Loop as Loop
from .normalisation import SpeedRegulated as SpeedRegulated
from .projections import read_projections as read_projections
from .recurrent import AKOrN as AKOrN, ItrSA as ItrSA, readout_norm as readout_norm
from .runge_kutta import RungeKuttaLayer as RungeKuttaLayer
from .stroboscopic import Stroboscopic as Stroboscopic
from .wrap import WrappedLayer as WrappedLayer
