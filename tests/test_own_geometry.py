"""A geometry of one's own: ellipsoids, whose flows are those of the sphere in other coordinates.

With ``x = L u`` and ``M = (L L^T)^-1`` the sphere ``|u| = 1`` becomes ``x^T M x = 1``, the projection
``v - <x, M v> x``, and attention of ``Q, K, V`` that of ``Q L^-1, K L^-1, L V L^-1``. Trajectories and equilibria are
images of each other; exponents and eigenvalues are the same.
"""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import mainly, sample

import ctsa
from ctsa import derivatives
from ctsa.equilibria import newton

N, D, K = 4, 3, 5
AXES = (2.0, 1.0, 0.5)
SHEAR = ((1.5, 0.4, 0.0), (0.0, 1.0, -0.3), (0.2, 0.0, 0.6))


@dataclass(frozen=True)
class Ellipsoid(ctsa.Geometry):
    """The image of the unit sphere under a matrix L."""

    matrix: tuple
    closed = radial = True

    def check_dimension(self, d):
        if d != len(self.matrix):
            raise ValueError(f"tokens of dimension {d} on an ellipsoid of dimension {len(self.matrix)}")

    def _unit(self, x):
        return x @ self.like(np.linalg.inv(self.matrix).T, x)

    def radius(self, y):
        return (self._unit(y) ** 2).sum(-1)[..., None] ** 0.5

    def project(self, x, v):
        return v - (self._unit(x) * self._unit(v)).sum(-1)[..., None] * x

    def dimension(self, n, d):
        return n * (d - 1)

    def euler_characteristic(self, n, d):
        return (1 + (-1) ** (d - 1)) ** n


@dataclass(frozen=True)
class Plain(ctsa.Geometry):
    """The same by the three methods that are needed, and no more."""

    matrix: tuple
    closed = True

    def retract(self, y):
        return Ellipsoid(self.matrix).retract(y)

    def project(self, x, v):
        return Ellipsoid(self.matrix).project(x, v)

    def dimension(self, n, d):
        return n * (d - 1)


@dataclass(frozen=True)
class Cylinder(ctsa.Geometry):
    """A circle times a line, with orthogonal projection: not closed, and no ray needs to meet it."""

    def retract(self, y):
        r = (y[..., :1] ** 2 + y[..., 1:2] ** 2) ** 0.5
        return y / (r * self.like([1, 1, 0], y) + self.like([0, 0, 1], y))

    def project(self, x, v):
        m = x * self.like([1, 1, 0], x)
        return v - (m * v).sum(-1)[..., None] * m

    def dimension(self, n, d):
        return 2 * n


def ellipsoid(axes=AXES, kind=Ellipsoid):
    return kind(tuple(map(tuple, np.diag(axes).tolist())))


OWN = [ellipsoid(), Ellipsoid(SHEAR), Plain(SHEAR), Cylinder()]
EVERY = [ctsa.Sphere(), ctsa.Sphere(channels=2), ctsa.Euclidean(), *OWN]


def name(geometry):
    return f"{type(geometry).__name__}{getattr(geometry, 'matrix', geometry.channels or '')}".replace(" ", "")


own, every = (pytest.mark.parametrize("geometry", some, ids=name) for some in (OWN, EVERY))
HOMES = {"Ellipsoid": Ellipsoid(SHEAR), "Plain": Plain(SHEAR)}
conjugate = pytest.mark.parametrize("home", HOMES.values(), ids=name)


def conjugate_runs(in_jax, kept="jax"):
    """Both geometries in torch and one in JAX; thorough what is there twice. The sphere in torch: nothing is compiled."""
    cases = [("torch", home) for home in HOMES.values()] + [("jax", HOMES[in_jax])]
    ids = [f"{face}-{name(home)}" for face, home in cases]
    each_once = sample(cases, lambda face, home: face == kept or home != HOMES[in_jax])
    return pytest.mark.parametrize(("face", "home"), each_once, ids=ids, indirect=["face"])


def width(geometry):
    return 4 if geometry.channels else D


def points(geometry, seed=0):
    """A state, and ambient directions."""
    rng, d = np.random.default_rng(seed), width(geometry)
    return geometry.random(N, d, rng), rng.normal(size=(K, N, d))


def jvps(face, f, x, u):
    if face.name == "torch":
        return torch.func.vmap(lambda v: torch.func.jvp(f, (x,), (v,))[1])(u)
    return jax.vmap(lambda v: jax.jvp(f, (x,), (v,))[1])(u)


def attention(face, geometry, value, beta=1.5):
    """Attention on the sphere, or what it becomes on an ellipsoid."""
    if isinstance(geometry, ctsa.Sphere):
        return face.SelfAttention(value=value, beta=beta)
    m = np.array(geometry.matrix)
    inverse = np.linalg.inv(m)
    return face.SelfAttention(inverse, inverse, m @ value @ inverse, beta, geometry=geometry)


def value(seed=3, d=D):
    return np.random.default_rng(seed).normal(size=(d, d))


def image(u, home):
    return u @ np.array(home.matrix).T


# ---------------------------------------------------------------------------------------- what every geometry satisfies
@pytest.mark.parametrize("kind", ["numpy", "torch", "jax"])
@every
def test_projection_retraction_and_basis(geometry, kind, request, close):
    face = None if kind == "numpy" else request.getfixturevalue(f"{kind}_face")
    given, back = (np.array, np.asarray) if face is None else (face.array, face.numpy)
    x, u = points(geometry)
    d = x.shape[-1]

    def maps(x, u):
        y, v = geometry.retract(u), geometry.project(x, u)
        return geometry.radius(x), geometry.radius(y), y, geometry.retract(y), v, geometry.project(x, v), geometry.basis(x)

    found = (maps if face is None else as_one(face, maps))(given(x), given(u))
    radius, other, y, again, v, projected, e = map(back, found)  # the basis is (n, d, r)
    close(radius, np.ones_like(radius), 1e-14)
    close(other, np.ones_like(other), 1e-14)
    close(again, y, 1e-14)
    close(projected, v, 1e-14)
    assert N * e.shape[-1] == geometry.dimension(N, d) == N * np.linalg.matrix_rank(e[0])
    close(np.swapaxes(e, 1, 2) @ e, np.broadcast_to(np.eye(e.shape[-1]), (N, *[e.shape[-1]] * 2)), 1e-14)
    columns = np.moveaxis(e, -1, 0)
    close(geometry.project(given(x), given(columns)), columns, 1e-14)


@every
def test_derivatives(face, geometry, close):
    x, u = points(geometry)
    rng, d = np.random.default_rng(1), x.shape[-1]
    w, at, along = face.array(rng.normal(size=(d, d))), face.array(x), face.array(u)
    drift = lambda z: (z @ w.T) ** 2  # noqa: E731
    f = lambda z: geometry.project(z, drift(z))  # noqa: E731
    y = face.array(x + 0.1 * rng.normal(size=x.shape))

    def jacobian(z):
        unit = face.array(np.eye(N * d).reshape(N * d, N, d))
        return drift(z), jvps(face, drift, z, unit).reshape(N * d, N * d).T

    def ours(at, y, along):
        dy = jvps(face, drift, at, along)
        extended = geometry.extend_tangent(lambda a, b: (f(a), jvps(face, f, a, b)), y, along)
        projected, retracted = geometry.project_tangent(at, along, drift(at), dy), geometry.retract_tangent(y, along)
        return (projected, retracted, *extended), geometry.extend_jacobian(jacobian, y)

    def exact(at, y, along):
        slopes = (jvps(face, f, at, along), jvps(face, geometry.retract, y, along))
        return *slopes, geometry.extend(f, y), jvps(face, lambda z: geometry.extend(f, z), y, along)

    (found, (h, j)), want = as_one(face, lambda *given: (ours(*given), exact(*given)))(at, y, along)
    for a, b in zip(found, want, strict=True):
        close(a, b, 1e-13)
    *_, g, dg = found
    close(h, g, 1e-13)
    close(face.numpy(j) @ u.reshape(K, -1).T, face.numpy(dg).reshape(K, -1).T, 1e-12)


@own
def test_the_default_basis_has_a_derivative(face, geometry, close):
    """The projector on the tangent space, of the basis, and by differences."""
    x, u = points(geometry)

    def projector(z):
        e = geometry.basis(z)
        return e @ e.swapaxes(-1, -2)

    both = as_one(face, lambda z, v: (projector(z), jvps(face, projector, z, v)[0]))

    def at(s):
        return face.numpy(both(face.array(geometry.retract(x + s * u[0])), v)[0])

    v = face.array(geometry.project(x, u[0])[None])
    found = both(face.array(x), v)[1]
    close(found, (at(1e-5) - at(-1e-5)) / 2e-5, 1e-6)


@every
def test_charts_are_inverse_to_retraction(geometry, close):
    x, u = points(geometry)
    w = 0.2 * geometry.project(x, u[0])
    found, beyond = geometry.chart(x, geometry.retract(x + w))
    close(found, w, 1e-13)
    assert not beyond.any()


@every
def test_generators_keep_the_manifold(geometry):
    x, _ = points(geometry)
    for w in geometry.generators(x.shape[-1]):
        assert np.abs(w + w.T).max() < 1e-14
        assert np.abs(geometry.project(x, x @ w.T) - x @ w.T).max() < 1e-8


@pytest.mark.parametrize("geometry, d, count", [
    (ctsa.Sphere(), 4, 6), (ctsa.Sphere(2), 4, 2), (ctsa.Euclidean(), 3, 3), (ellipsoid(), 3, 0),
    (ellipsoid((2.0, 1.0, 1.0)), 3, 1), (ellipsoid((1.0, 1.0, 1.0)), 3, 3), (Cylinder(), 3, 1),
])  # fmt: skip
def test_number_of_generators(geometry, d, count):
    assert len(geometry.generators(d)) == count


def test_euler_characteristics():
    assert [ctsa.Sphere().euler_characteristic(3, d) for d in (2, 3, 4)] == [0, 8, 0]
    assert ctsa.Sphere(channels=3).euler_characteristic(1, 6) == 4
    assert ctsa.Euclidean().euler_characteristic(2, 2) is None is Cylinder().euler_characteristic(2, 2)


# --------------------------------------------------------------------------------------------------- the conjugate flow
@conjugate
def test_velocities_are_images(face, home, close):
    u = ctsa.random_tokens(N, D, batch=(2,))
    v = face.numpy(attention(face, ctsa.Sphere(), value())(0.0, face.array(u)))
    close(attention(face, home, value())(0.0, face.array(image(u, home))), image(v, home), 1e-13)


@conjugate_runs(in_jax="Plain", kept="torch")  # in JAX see single steps
def test_integrate(face, torch_face, home, close):
    u, ts = ctsa.random_tokens(N, D), [0.0, 1.0, 3.0]
    exact = ctsa.integrate(attention(torch_face, ctsa.Sphere(), value()), u, ts, "dopri8", atol=1e-13)
    field = attention(face, home, value())
    traj = ctsa.integrate(field, image(u, home), ts, "dopri8", atol=1e-13)
    close(traj.xs, image(torch_face.numpy(exact.xs), home), 1e-11)
    close(home.radius(face.numpy(traj.xs)), np.ones((3, N, 1)), 1e-14)
    back = ctsa.integrate(field, face.numpy(traj.xs)[-1], ts[::-1], "dopri8", atol=1e-13)
    close(face.numpy(back.xs)[-1], image(u, home), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("face", "home"), sample([("torch", HOMES["Plain"]), ("jax", HOMES["Ellipsoid"])], 1),
    ids=["torch", "jax"], indirect=["face"],
)
def test_order_of_convergence(face, home):
    u, ts = ctsa.random_tokens(N, D), [0.0, 2.0]
    exact = ctsa.integrate(attention(face, ctsa.Sphere(), value()), u, ts, "dopri8", atol=1e-13).xs[-1]
    errors = []
    for step in (0.1, 0.05, 0.025):
        run = ctsa.integrate(attention(face, home, value()), image(u, home), ts, "rk4", step=step)
        assert np.abs(home.radius(face.numpy(run.xs)) - 1).max() < 1e-14  # outputs are on it whatever the step
        errors.append(np.abs(face.numpy(run.xs[-1]) - image(face.numpy(exact), home)).max())
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(slopes - 4).max() < 0.35, slopes


@mainly("torch")
def test_steps_are_images(face, torch_face, close):
    """The degree-1 extension commutes with scaling, so that even single steps are images, however long."""
    home, u = Ellipsoid(SHEAR), ctsa.random_tokens(N, D)
    of_sphere = ctsa.integrate(attention(torch_face, ctsa.Sphere(), value()), u, [0.0, 2.0], "rk4", step=0.5)
    run = ctsa.integrate(attention(face, home, value()), image(u, home), [0.0, 2.0], "rk4", step=0.5)
    close(run.xs, image(torch_face.numpy(of_sphere.xs), home), 1e-12)


@conjugate_runs(in_jax="Plain")
def test_spectrum_at_an_equilibrium(face, torch_face, home, close):
    """All exponents are those on the sphere: real parts of the eigenvalues; one step has the same factors on both."""
    v, run = np.diag([3.0, 1.0, -2.0]), dict(intervals=5, interval=0.5, transient=15, solver="rk4", step=0.25)
    u = np.eye(3)[[0, 0]]
    spectra = [
        ctsa.lyapunov_spectrum(attention(where, g, v), x, **run)
        for where, g, x in ((torch_face, ctsa.Sphere(), u), (face, home, image(u, home)))
    ]
    assert spectra[1].dimension == 2 * (D - 1) == len(spectra[1].exponents)
    close(spectra[1].exponents, spectra[0].exponents, 1e-6)
    assert spectra[1].bounded


@pytest.mark.slow
@pytest.mark.parametrize(("face", "geometry"), sample([
    ("torch", Ellipsoid(SHEAR)), ("torch", Cylinder()), ("jax", Cylinder()),
], lambda face, _: face == "torch"), indirect=["face"])  # fmt: skip
def test_sum_of_exponents_is_the_mean_divergence(face, geometry):
    """Div F is the trace of the Jacobian in orthonormal bases; exact in time, up to quadrature."""
    u, w = points(geometry)[0][:2], face.array(0.5 * value())
    field = lambda t, x: geometry.project(x, x @ w.T / (1 + (x @ w) ** 2))  # noqa: E731
    ts = np.linspace(0.0, 1.0, 81)
    spectrum = ctsa.lyapunov_spectrum(
        field, face.array(u), geometry=geometry, intervals=2, interval=0.5, transient=0, atol=1e-11
    )
    xs = ctsa.integrate(field, face.array(u), ts, geometry=geometry, atol=1e-12).xs
    j = face.numpy(derivatives.tangent_jacobian(field, geometry, 0.0, xs)[2])
    div = np.trace(j, axis1=1, axis2=2)
    assert np.abs(j[0] - face.numpy(ctsa.jacobian(field, xs[0], geometry=geometry, basis="tangent"))).max() < 1e-12
    simpson = (ts[1] - ts[0]) / 3 * (div[0] + 4 * div[1::2].sum() + 2 * div[2:-1:2].sum() + div[-1])
    assert abs(spectrum.exponents.sum() - simpson / ts[-1]) < 1e-5


@conjugate_runs(in_jax="Ellipsoid", kept="torch")  # in JAX see velocities and derivatives
def test_jacobian_at_an_equilibrium(face, torch_face, home, close):
    v = np.diag([3.0, 2.0, 1.0]) + 0.2 * value()
    sphere = attention(torch_face, ctsa.Sphere(), v)
    u = ctsa.find_equilibria(sphere, 3, D, starts=10)[1].x
    both = ((sphere, torch_face.array(u)), (attention(face, home, v), face.array(image(u, home))))
    found = [face.numpy(ctsa.jacobian(f, x, basis="tangent")) for f, x in both]
    assert found[1].shape == (3 * (D - 1), 3 * (D - 1))
    close(*(np.sort_complex(np.linalg.eigvals(j).round(13)) for j in found), 1e-9)
    close(*(np.sort_complex(ctsa.eigenvalues(f, x).round(12)) for f, x in both), 1e-9)


def rows_of(found, n, home=None):
    """States up to the order and the signs of axes, as a sorted list: the symmetries that a diagonal field has."""
    some = []
    for e in found:
        u = np.asarray(e.x) if home is None else np.asarray(e.x) @ np.linalg.inv(home.matrix).T
        eigen = np.sort_complex(np.asarray(e.eigenvalues).round(6))
        some.append((*np.abs(u).sum(0).round(5), *np.sort(eigen.real)))
    return sorted(some)


@mainly("torch")
def test_equilibria_are_images(face, close):
    v, home = np.diag([3.0, 2.0, 1.0]), ellipsoid()
    of_sphere = ctsa.find_equilibria(attention(face, ctsa.Sphere(), v), 2, D, starts=30)
    found = ctsa.find_equilibria(attention(face, home, v), 2, D, starts=30)
    assert len(found) == len(of_sphere)
    close(np.array(rows_of(found, 2, home)), np.array(rows_of(of_sphere, 2)), 1e-4)
    assert found.report["index_sum"] == of_sphere.report["index_sum"] == found.report["euler"] == 4
    kinds = [sorted(e.kind for e in some) for some in (found, of_sphere)]
    assert kinds[0] == kinds[1]
    for e in found:
        assert np.abs(home.radius(np.asarray(e.x)) - 1).max() < 1e-13


def test_equilibria_without_closed_forms(torch_face):
    """What is needed is enough: no index is known, and mirrors that do not keep the manifold are not used."""
    v, home = np.diag([3.0, 2.0, 1.0]), Plain(SHEAR)
    found = ctsa.find_equilibria(attention(torch_face, home, v), 2, D, starts=40)
    sphere = attention(torch_face, ctsa.Sphere(), v)
    images = [torch.as_tensor(np.asarray(e.x) @ np.linalg.inv(SHEAR).T) for e in found]
    assert len(found) >= 5 and max(float(sphere(0.0, u).detach().abs().max()) for u in images) < 1e-7
    assert np.isnan(found.report["index_sum"])
    one = ctsa.classification(attention(torch_face, Ellipsoid(SHEAR), v), image(np.eye(3)[[1, 1]], home))
    assert one.kind == "consensus" and one.eigenvector == 1
    assert ctsa.classification(attention(torch_face, home, v), image(np.eye(3)[[1, 1]], home)).eigenvector == -1


@mainly("torch")
def test_basins_are_images(face, close):
    v, home, u = np.diag([3.0, 2.0, 1.0]), ellipsoid(), ctsa.random_tokens(N, D, batch=(20,))
    of_sphere = ctsa.basins(attention(face, ctsa.Sphere(), v, 4.0), u, duration=60.0)
    found = ctsa.basins(attention(face, home, v, 4.0), image(u, home), duration=60.0)
    assert np.array_equal(found.kind_index, of_sphere.kind_index)
    assert np.array_equal(found.eigenvector, of_sphere.eigenvector)
    close(found.ends, image(of_sphere.ends, home), 1e-6)
    drawn = ctsa.basins(attention(face, home, v, 4.0), 20, n=N, d=D, duration=1.0)  # by the geometry
    close(home.radius(drawn.ends), np.ones((20, N, 1)), 1e-14)


def test_escape_along_a_cylinder(torch_face):
    home, up = Cylinder(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    x = torch.as_tensor(home.random(1, 3, np.random.default_rng(0), (4,)))
    found = ctsa.basins(lambda t, x: home.project(x, x * up), x, duration=60.0, geometry=home)
    assert found.counts() == {"escaped": 4}


# ----------------------------------------------------------------------------------------- layers, comparison, branches
@mainly("torch")  # in JAX see the velocities
def test_layers(face, close):
    home, u = Ellipsoid(SHEAR), ctsa.random_tokens(N, D)
    x = face.array(image(u, home))
    for make in (ctsa.EulerLayer, ctsa.PostNormLayer):
        of_sphere, layer = (make(attention(face, g, value()), step=0.3) for g in (ctsa.Sphere(), home))
        close(layer(x), image(face.numpy(of_sphere(face.array(u))), home), 1e-13)
        close(layer.euler_step(x), face.numpy(of_sphere.euler_step(face.array(u))), 1e-13)
        form = ctsa.as_euler(layer)
        assert form.difference < 1e-13
        fit = ctsa.effective_step(layer, x)
        close(fit.steps, face.numpy(layer.euler_step(x)), 1e-11)
        assert fit.residuals.max() < 1e-7
    run = ctsa.iterate(ctsa.EulerLayer(attention(face, home, value()), 0.1), x, depth=5)
    close(home.radius(face.numpy(run.xs)), np.ones((6, N, 1)), 1e-14)
    spectra = [ctsa.eigenvalues(ctsa.EulerLayer(attention(face, g, np.diag([3.0, 2.0, 1.0])), 0.1), face.array(y))
               for g, y in ((ctsa.Sphere(), np.eye(3)[[0, 0]]), (home, image(np.eye(3)[[0, 0]], home)))]  # fmt: skip
    close(*(np.sort_complex(s) for s in spectra), 1e-9)


def test_effective_step_without_a_chart_of_its_own(torch_face):
    home = Plain(SHEAR)
    layer = ctsa.EulerLayer(attention(torch_face, home, value()), 0.1)
    fit = ctsa.effective_step(layer, image(ctsa.random_tokens(N, D), home))
    assert np.abs(fit.steps - 0.1).max() < 1e-11 and fit.common_residual < 1e-7


@mainly("torch")
def test_compare(face, close):
    v, u, home = np.diag([3.0, 2.0, 1.0]), ctsa.random_tokens(3, D), ellipsoid()
    of_sphere, found = (
        ctsa.compare(attention(face, g, v), x, step_sizes=[0.2, 0.1], duration=8.0, atol=1e-9)
        for g, x in ((ctsa.Sphere(), u), (home, image(u, home)))
    )
    assert found.flow_kind == of_sphere.flow_kind and list(found.layer_kinds) == list(of_sphere.layer_kinds)
    xs = found.layer_xs
    close(np.nan_to_num(xs), np.nan_to_num(image(of_sphere.layer_xs, home)), 1e-10)
    close(np.sort(found.measured.real), np.sort(of_sphere.measured.real), 1e-6)
    assert found.geometry == home


def test_a_branch(torch_face, close):
    u, home = np.eye(3)[[0, 0, 0]] * np.array([[1.0], [1.0], [-1.0]]), ellipsoid()
    branches = [
        ctsa.continue_equilibrium(attention(torch_face, g, np.diag([3.0, 2.0, 1.0]), 0.2), x, "beta", (0.2, 2.0))
        for g, x in ((ctsa.Sphere(), u), (home, image(u, home)))
    ]
    close(branches[1].point_parameters, branches[0].point_parameters, 1e-6)
    assert [p.kind for p in branches[1].points] == [p.kind for p in branches[0].points]


# --------------------------------------------------------------------------------------------------------------- errors
def test_what_is_needed():
    with pytest.raises(TypeError, match=r"Nothing needs a method retract\(y\), or radius\(y\) and radial = True"):
        type("Nothing", (ctsa.Geometry,), {})
    half = type("Half", (ctsa.Geometry,), {"retract": lambda self, y: y})()
    with pytest.raises(NotImplementedError, match=r"Half needs a method project\(x, v\)"):
        half.project(np.eye(2), np.eye(2))
    with pytest.raises(NotImplementedError, match=r"Half needs a method dimension\(n, d\)"):
        half.dimension(1, 2)
    assert half.place == "the Half" and ctsa.Sphere().place == "the sphere"


@mainly("torch")
def test_errors_name_the_geometry(face):
    home = Ellipsoid(SHEAR)
    field, x = attention(face, home, value()), image(ctsa.random_tokens(N, D), home)
    with pytest.raises(ValueError, match="x0 must lie on the Ellipsoid, but .* off by up to 1: pass normalize=True"):
        ctsa.integrate(field, 2 * x, [0.0, 1.0])
    assert np.allclose(face.numpy(ctsa.integrate(field, 2 * x, [0.0, 1.0], normalize=True).xs)[0], x)
    with pytest.raises(ValueError, match=r"not tangent to the Ellipsoid: its normal part .* Project it \(geo"):
        ctsa.integrate(lambda t, y: y, face.array(x), [0.0, 1.0], geometry=home)
    with pytest.raises(ValueError, match="tokens of dimension 2 on an ellipsoid of dimension 3"):
        face.Oja(np.eye(2), geometry=home)
    with pytest.raises(ValueError, match="layer left the Ellipsoid: after 1 layers a token is off by 1"):
        ctsa.iterate(lambda y: 2 * y, face.array(x), 3, geometry=home)
    with pytest.raises(ValueError, match="left the Ellipsoid: it is off by up to 1"):
        ctsa.check_map(lambda y: 2 * y, face.array(x), home)
    with pytest.raises(ValueError, match="bounds are known on the sphere and in flat .* lives on the Ellipsoid"):
        ctsa.jacobian_norms(ctsa.EulerLayer(field, 0.1), x)
    with pytest.raises(TypeError, match=r"attention must be a field of ctsa on ctsa.Sphere\(\)"):
        ctsa.ItrSA(field)
    with pytest.raises(ValueError, match="coupling must live on ctsa.Sphere"):
        ctsa.AKOrN(field)


def test_what_asks_for_rays(face):
    home = Plain(SHEAR)
    x = image(ctsa.random_tokens(N, D), home)
    with pytest.raises(ValueError, match="on the Plain tokens are not along their normals"):
        ctsa.PostNormLayer(attention(face, home, value()), 0.1).euler_step(face.array(x))
    with pytest.raises(ValueError, match="scale is the length of tokens on the sphere; in the Plain leave it at 1"):
        ctsa.WrappedLayer(lambda y: y, geometry=home, scale=2.0)


def test_a_geometry_must_be_one():
    with pytest.raises(TypeError, match="one of your own derives from ctsa.Geometry"):
        ctsa.integrate(lambda t, x: x, torch.eye(3), [0.0, 1.0], geometry=object())


def test_equal_geometries_compile_once(jax_face):
    """A second ellipsoid of the same axes is the same program."""
    calls = []

    def field(t, x):
        calls.append(1)
        return Ellipsoid(SHEAR).project(x, x[..., ::-1])

    x = jax_face.array(image(ctsa.random_tokens(N, D), Ellipsoid(SHEAR)))
    ctsa.integrate(field, x, [0.0, 1.0], "euler", step=0.5, geometry=Ellipsoid(SHEAR))
    first = len(calls)
    ctsa.integrate(field, x, [0.0, 1.0], "euler", step=0.5, geometry=Ellipsoid(SHEAR))
    assert len(calls) - first <= 2  # the checks of the velocity, no more


@mainly("torch")
def test_bases_belong_to_their_jacobians(face):
    """The default basis is another in NumPy and in torch; symmetries and Newton's method must not mix them."""
    round_sphere = Plain(tuple(map(tuple, np.eye(4))))
    field = face.SelfAttention(beta=2.0, geometry=round_sphere)
    found = ctsa.symmetry.symmetry_of(field, N, 4)
    assert len(found.generators) == 6 and found.exchangeable  # all rotations of R^4

    x = face.array(round_sphere.random(N, 4, np.random.default_rng(1), (3,)))
    solved = newton.solve(field, x, iterations=0)
    for state, e, j in zip(solved.states, solved.bases, solved.jacobians, strict=True):
        u = derivatives.basis_directions(e).reshape(len(j), -1)
        ambient = face.numpy(ctsa.jacobian(field, face.array(state)))
        assert np.abs(u @ ambient @ u.T - j).max() < 1e-13
