"""Where tokens live: the sphere, products of small spheres (oscillators), Euclidean space, or a manifold of your own.

A geometry is a small frozen value with the handful of maps that fields, solvers and analyses need. Solvers never
see the constraint: they see the *degree-1 extension* of a field ``F`` from the sphere to the punctured space::

    G(y) = |y| F(y / |y|),

whose radii are first integrals. Runge--Kutta methods commute with the scaling of a token, so normalising on read-out is
the same as projecting after every step. ``Geometry`` says what a manifold of your own has to answer, and how a field on
it is extended.
"""

from .base import Geometry as Geometry, direction_generator as direction_generator, length as length
from .choice import check_geometry as check_geometry, geometry_of as geometry_of
from .densities import Densities as Densities
from .euclidean import Euclidean as Euclidean
from .keeping import Described as Described
from .product import Product as Product
from .sphere import Sphere as Sphere, random_tokens as random_tokens
