"""Jacobians against finite differences and exact spectra; matrix-free against dense."""

import jax
import numpy as np
import pytest
from dynamics import cat, consensus_jacobian, lorenz
from reference import CASES, D, N, parameters, state
from sampling import mainly, sample

import ctsa
from ctsa.results.base import as_numpy

FLAT = ctsa.Euclidean()
# kinks and ties have no finite differences worth the name
SMOOTH = [name for name in CASES if "hardmax" not in name]


def make(face, case):
    kind, kwargs = CASES[case]
    return getattr(face, kind)(**kwargs)


def differences(f, x, step=6e-4):
    """Fourth-order central differences (n d, n d)."""
    out = []
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = step
        e = e.reshape(x.shape)
        out.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * step))
    return np.array(out).reshape(x.size, x.size).T


def evaluate(face, f):
    return lambda x: face.numpy(f(face.array(x)))


def dense_basis(geometry, x):
    e = np.asarray(geometry.basis(x))
    n, d, r = e.shape
    out = np.zeros((n, d, n, r))
    for i in range(n):
        out[i, :, i] = e[i]
    return out.reshape(n * d, n * r)


@pytest.mark.parametrize("case", SMOOTH)
def test_fields_against_finite_differences(torch_face, close, case):
    field, x = make(torch_face, case), state(case)
    exact = differences(evaluate(torch_face, lambda y: field(0.0, y)), x)
    close(ctsa.jacobian(field, x), exact, 1e-8)
    basis = dense_basis(field.geometry, x)
    close(ctsa.jacobian(field, x, basis="tangent"), basis.T @ exact @ basis, 1e-8)


@pytest.mark.parametrize("case", ["softmax-heads", "l2-weighted", "channels-4", "euclidean", "gelu-biases", "oja"])
def test_both_faces(torch_face, jax_face, close, case):
    x = state(case)
    for basis in ("ambient", "tangent"):
        a, b = (ctsa.jacobian(make(face, case), x, basis=basis) for face in (torch_face, jax_face))
        close(torch_face.numpy(a), jax_face.numpy(b))


@pytest.mark.parametrize("case", ["softmax-weighted", "heads-causal", "channels-2", "euclidean", "tanh-biases"])
def test_layers_against_finite_differences(torch_face, close, case):
    """Rows in a basis at the image: the singular values are the map's."""
    layer, x = torch_face.EulerLayer(make(torch_face, case), step=0.4), state(case)
    exact = differences(evaluate(torch_face, layer), x)
    close(ctsa.jacobian(layer, x), exact, 1e-8)
    g = layer.geometry
    left = dense_basis(g, g.retract(evaluate(torch_face, layer)(x)))
    close(ctsa.jacobian(layer, x, basis="tangent"), left.T @ exact @ dense_basis(g, x), 1e-8)
    project = left @ left.T @ exact @ dense_basis(g, x)  # no component is lost: images of tangents are tangent
    close(project, exact @ dense_basis(g, x), 1e-8)


def test_sums_and_bare_callables(torch_face, close):
    field = 2.0 * (make(torch_face, "softmax-none") + make(torch_face, "rotation")) + make(torch_face, "tanh")
    x = state("softmax-none")
    close(ctsa.jacobian(field, x), differences(evaluate(torch_face, lambda y: field(0.0, y)), x), 1e-8)
    bare = ctsa.jacobian(lambda t, y: field(t, y), torch_face.array(x))
    close(bare, ctsa.jacobian(field, x))


@pytest.mark.parametrize("case", ["softmax-weighted", "channels-2", "oja-channels", "euclidean", "gelu-flat"])
def test_bases_are_orthonormal_and_tangent(face, close, case):
    x = state(case)
    g = make(face, case).geometry
    e = face.numpy(g.basis(face.array(x)))
    close(np.swapaxes(e, -1, -2) @ e, np.broadcast_to(np.eye(e.shape[-1]), (N, e.shape[-1], e.shape[-1])), 1e-14)
    assert N * e.shape[-1] == g.dimension(N, D)
    tangent = np.moveaxis(e, -1, 0)
    close(face.numpy(g.project(face.array(x), face.array(tangent))), tangent, 1e-14)


@pytest.mark.parametrize("x", [[1.0, 0, 0], [-1.0, 0, 0], [0.0, 1, 0], [-1e-17, 0, 1]])
def test_basis_at_poles(face, close, x):
    e = face.numpy(ctsa.Sphere().basis(face.array([x])))[0]
    close(e.T @ e, np.eye(2), 1e-15)
    close(np.array(x) @ e, np.zeros(2), 1e-15)


# ---------------------------------------------------------------------------------------------------------- divergence
def drift_divergence(face, field, x):
    """sum_i tr(P_i d_i F_i) - (N - 1) <x_i, F_i> over tokens or oscillators, from differences of the drift F."""
    j = differences(evaluate(face, lambda y: field.drift(0.0, y)), x)
    f = face.numpy(field.drift(0.0, face.array(x)))
    if isinstance(field.geometry, ctsa.Euclidean):
        return np.trace(j)
    size = field.geometry.channels or D
    total, flat_x, flat_f = 0.0, x.reshape(-1, size), f.reshape(-1, size)
    for i, (e, v) in enumerate(zip(flat_x, flat_f, strict=True)):
        block = j[i * size : (i + 1) * size, i * size : (i + 1) * size]
        total += np.trace((np.eye(size) - np.outer(e, e)) @ block) - (size - 1) * (e @ v)
    return total


@pytest.mark.parametrize("case", SMOOTH)
def test_divergence_is_the_trace(torch_face, case):
    field, x = make(torch_face, case), state(case)
    got = ctsa.divergence(field, x)
    assert got == pytest.approx(drift_divergence(torch_face, field, x), abs=1e-8, rel=1e-8)
    assert got == pytest.approx(float(np.trace(torch_face.numpy(ctsa.jacobian(field, x, basis="tangent")))), abs=1e-12)
    assert got == pytest.approx(ctsa.eigenvalues(field, x).sum().real, abs=1e-11)


def test_divergence_of_lorenz(face):
    assert ctsa.divergence(lorenz, face.array([[1.0, 2.0, 3.0]]), geometry=FLAT) == pytest.approx(-41 / 3, abs=1e-13)


# --------------------------------------------------------------------------------------------------- exact eigenvalues
@pytest.mark.parametrize(
    "weights, mask", [("softmax", None), ("softmax", "causal"), ("softmax", "weighted"), ("unnormalised", None)]
)
def test_eigenvalues_at_consensus(face, weights, mask):
    """mu w - lambda_k, and -lambda_k (n - 1)(d - 1) times where the mask is full; V without symmetry."""
    rng = np.random.default_rng(3)
    b = np.eye(D) + 0.2 * rng.normal(size=(D, D))
    mu = np.array([2.0, 1.2, 0.5, -0.7])
    value = b @ np.diag(mu) @ np.linalg.inv(b)
    query, key = parameters(0)["query"], parameters(0)["key"]
    array = {None: None, "causal": np.tril(np.ones((N, N))), "weighted": rng.uniform(0.2, 2.0, size=(N, N))}[mask]
    given = "causal" if mask == "causal" else array
    field = face.SelfAttention(query=query, key=key, value=value, beta=0.8, weights=weights, mask=given)
    k = np.ones((N, N)) if array is None else array
    k = k / k.sum(1, keepdims=True)
    w = np.sort(np.linalg.eigvals(k))
    for index in range(D):
        v = b[:, index] / np.linalg.norm(b[:, index])
        others = np.delete(mu, index)
        exact = np.array([m * one - mu[index] for m in others for one in w])
        if mask is None:
            repeated = np.isclose(exact, -mu[index], atol=1e-9).sum()
            assert repeated == (N - 1) * (D - 1)
        if weights == "unnormalised":
            exact = exact * np.exp(0.8 * (query @ v) @ (key @ v))
        x = np.ones((N, 1)) * v
        got = ctsa.eigenvalues(field, face.array(x))
        # as sets, by the characteristic polynomial's power sums: a Jordan block has eigenvalues to eps^(1/n) only
        j = face.numpy(ctsa.jacobian(field, face.array(x), basis="tangent"))
        for power in (1, 2, 3, 4):
            trace = np.trace(np.linalg.matrix_power(j, power))
            assert abs(trace - (exact**power).sum()) < 1e-9 * max(1.0, np.abs(exact).max() ** power)
        assert np.abs(np.sort(got.real) - np.sort(exact.real)).max() < (1e-9 if mask is None else 1e-3)
        assert (np.diff(got.real) <= 0).all()


def test_consensus_jacobian_of_the_tests(torch_face, close):
    """The oracle of the spectra is the Jacobian, up to the choice of a basis."""
    value = np.diag([3.0, 2.0, 1.0, -1.0])
    v = np.eye(4)[0]
    j, basis = consensus_jacobian(value, None, v, N)
    field = torch_face.SelfAttention(value=value, beta=1.3)
    dense = torch_face.numpy(ctsa.jacobian(field, np.ones((N, 1)) * v))
    close(basis.T @ dense @ basis, j)


def test_bipartite_eigenvalues(torch_face):
    """science of the bipartite state: 2 x 2 blocks, against the formula."""
    value, beta, plus, minus = np.diag([3.0, 2.0, 1.0]), 1.0, 3, 2
    c, r = np.exp(2 * beta * 3.0), plus / minus
    up, down = (r * c - 1) / (r * c + 1), (c - r) / (c + r)
    s = (up + down) / 2
    exact = [-3 * up] * ((plus - 1) * 2) + [-3 * down] * ((minus - 1) * 2)
    for mu in (2.0, 1.0):
        exact += list(np.roots([1, -(mu * (1 + s) - 6 * s), (mu - 3) * (s * mu - 3 * up * down)]))
    x = np.array([[1.0, 0, 0]] * plus + [[-1.0, 0, 0]] * minus)
    got = ctsa.eigenvalues(torch_face.SelfAttention(query=value, value=value, beta=beta), x)
    assert np.abs(np.sort(got.real) - np.sort(np.real(exact))).max() < 1e-12


def test_eigenvalues_are_sorted_and_complex(torch_face):
    found = ctsa.eigenvalues(torch_face.Rotation(frequencies=[2.0, 1.0], geometry=FLAT), np.ones((1, 4)))
    assert np.abs(found - [2j, 1j, -1j, -2j]).max() < 1e-14


# -------------------------------------------------------------------------------------------------- norms, matrix-free
@pytest.mark.parametrize("case", ["softmax-weighted", "channels-2", "euclidean", "sinkhorn-none"])
def test_norms(face, case):
    field, x = make(face, case), state(case)
    j = face.numpy(ctsa.jacobian(field, x, basis="tangent"))
    assert ctsa.spectral_norm(field, x) == pytest.approx(np.linalg.svd(j, compute_uv=False)[0], rel=1e-12)
    assert ctsa.numerical_abscissa(field, x) == pytest.approx(np.linalg.eigvalsh((j + j.T) / 2)[-1], rel=1e-12)
    layer = face.EulerLayer(field, step=0.3)
    j = face.numpy(ctsa.jacobian(layer, x, basis="tangent"))
    assert ctsa.spectral_norm(layer, x) == pytest.approx(np.linalg.svd(j, compute_uv=False)[0], rel=1e-12)


@pytest.mark.parametrize("case", ["softmax-weighted", "heads-causal", "channels-2", "euclidean"])
@pytest.mark.parametrize("make_layer", [False, True], ids=["field", "layer"])
def test_operator_is_the_jacobian(torch_face, close, case, make_layer):
    field, x = make(torch_face, case), state(case)
    system = torch_face.EulerLayer(field, step=0.4) if make_layer else field
    j = torch_face.numpy(ctsa.jacobian(system, x))
    g = field.geometry
    right = dense_basis(g, x)
    left = dense_basis(g, g.retract(torch_face.numpy(system(torch_face.array(x))))) if make_layer else right
    dense = left @ left.T @ j @ right @ right.T
    operator = ctsa.jacobian_operator(system, x)
    close(operator @ np.eye(N * D), dense)
    close(operator.H @ np.eye(N * D), dense.T)


MATRIX_FREE = [
    (name, case, kind, which)
    for name, case in (
        ("torch", "softmax-weighted"),
        ("torch", "channels-2"),
        ("torch", "euclidean"),
        ("jax", "euclidean"),
    )
    for kind in ("field", "layer")
    for which in ("real", "modulus", "singular", "symmetric")
    if (kind, which) != ("layer", "symmetric")
]


@pytest.mark.parametrize("name, case, kind, which", MATRIX_FREE)
def test_leading_against_dense(torch_face, jax_face, name, case, kind, which):
    face, make_layer = {"torch": torch_face, "jax": jax_face}[name], kind == "layer"
    field, x = make(face, case), state(case)
    system = face.EulerLayer(field, step=0.4) if make_layer else field
    found = ctsa.leading(system, x, 4, which=which)
    if which == "singular":
        dense = np.linalg.svd(face.numpy(ctsa.jacobian(system, x, basis="tangent")), compute_uv=False)[:4]
    elif which == "symmetric":
        j = face.numpy(ctsa.jacobian(system, x, basis="tangent"))
        dense = np.linalg.eigvalsh((j + j.T) / 2)[::-1][:4]
        assert dense[0] == pytest.approx(ctsa.numerical_abscissa(system, x), abs=1e-12)
    else:
        values = ctsa.eigenvalues(system, x)
        order = np.argsort(-(values.real if which == "real" else np.abs(values)), kind="stable")
        dense = values[order]
    size = {"real": np.real, "modulus": np.abs}.get(which, np.asarray)
    assert np.abs(size(found.values) - size(dense[:4])).max() < 1e-8
    for value in found.values:
        assert np.abs(dense - value).min() < 1e-8  # each is an eigenvalue, its imaginary part too
    assert (found.residuals < 1e-7).all()
    assert found.vectors.shape == (4, N, D)
    if not isinstance(field.geometry, ctsa.Euclidean):
        for v in found.vectors:
            for part in (v.real, v.imag) if np.iscomplexobj(v) else (v,):
                assert np.abs(field.geometry.project(x, part) - part).max() < 1e-8  # tangent


def test_leading_skips_the_radial_zeros(torch_face):
    """All tangent eigenvalues are negative here; the zeros of the radial directions must not show."""
    field, x = torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0])), np.ones((5, 1)) * [[1.0, 0, 0]]
    found = ctsa.leading(field, x, 2)
    assert np.abs(found.values - [-1, -2]).max() < 1e-9


def test_leading_at_the_tokens_of_the_same_seed(torch_face):
    """The start vector is not the state itself, of which projection would leave nothing."""
    field = torch_face.SelfAttention(beta=2.0)
    for seed in range(3):
        x = ctsa.random_tokens(6, 3, seed=seed)
        found = ctsa.leading(field, x, 2, seed=seed)
        assert np.abs(found.values.real - ctsa.eigenvalues(field, x).real[:2]).max() < 1e-8


def test_leading_of_a_large_system(torch_face):
    field = torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0]))
    found = ctsa.leading(field, np.ones((400, 1)) * [[1.0, 0, 0]], 2)
    assert np.abs(found.values - [-1, -2]).max() < 1e-8


# --------------------------------------------------------------------------------------- beyond the size, and in batches
@pytest.mark.parametrize(
    ("case", "make_layer"),
    sample(
        [(case, layer) for case in ("softmax-weighted", "channels-2", "euclidean") for layer in (False, True)],
        lambda case, layer: layer == (case != "euclidean"),
    ),
)
def test_norms_by_products_and_in_batches(face, case, make_layer):
    field, x = make(face, case), state(case, 3)
    system = face.EulerLayer(field, step=0.4) if make_layer else field
    dense, products = (ctsa.spectral_norm(system, x, dense=way) for way in (True, False))
    assert dense.shape == (3,) and np.abs(products / dense - 1).max() < 1e-10
    for way, found in ((True, dense), (False, products), (None, dense)):
        alone = [ctsa.spectral_norm(system, each, dense=way) for each in x]
        assert isinstance(alone[0], float) and np.abs(found - alone).max() < 1e-12
    assert ctsa.spectral_norm(system, x.reshape(3, 1, N, D)).shape == (3, 1)


@pytest.mark.parametrize("which", ["real", "singular"])
def test_leading_values_of_a_batch(torch_face, which):
    field, x = make(torch_face, "softmax-weighted"), state("softmax-weighted", 3)
    found = ctsa.leading(field, x, 2, which=which)
    assert found.values.shape == found.residuals.shape == (3, 2) and found.vectors.shape == (3, 2, N, D)
    for i in range(3):
        alone = ctsa.leading(field, x[i], 2, which=which)
        assert np.array_equal(found.member(i).values, alone.values) and "mode" in found.member(i).table()
    assert "batch (3,)" in repr(found) and "batch_0" in found.to_xarray()["residuals"].dims
    for draw in (found.table, found.plot):
        with pytest.raises(ValueError, match="batch of states .*member"):
            draw()


@mainly("torch")
def test_crowded_values_of_many_tokens(face, monkeypatch):
    """Thousands of values that crowd, in single precision too; no matrix is formed."""
    n = 700
    x, value = ctsa.random_tokens(n, 3), np.random.default_rng(0).normal(size=(3, 3))
    norms = []
    for dtype in (np.float64, np.float32):
        field = face.SelfAttention(value=value.astype(dtype), beta=dtype(1.0))
        layer = face.EulerLayer(field, step=0.01)
        with monkeypatch.context() as m:
            m.setattr("ctsa.tangent.norms.tangent_jacobians", None)
            norms.append(ctsa.spectral_norm(layer, x.astype(dtype)))
            top = ctsa.numerical_abscissa(field, x.astype(dtype))
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert norms[0] == pytest.approx(ctsa.spectral_norm(layer_of(face, value), x, dense=True), rel=1e-10)
    assert 0 < top < 2 * np.linalg.norm(value, 2)


def layer_of(face, value):
    return face.EulerLayer(face.SelfAttention(value=value, beta=1.0), step=0.01)


def test_products_on_an_oblique_geometry(torch_face):
    """Where projection is not orthogonal, transposed products and norms still are those of the tangent Jacobian."""

    class Graph(ctsa.Geometry):  # z = x^2 / 2, projected along z
        def retract(self, y):
            return y * self.like([1, 1, 0], y) + y[..., :1] ** 2 / 2 * self.like([0, 0, 1], y)

        def project(self, x, v):
            return v * self.like([1, 1, 0], v) + x[..., :1] * v[..., :1] * self.like([0, 0, 1], v)

        def dimension(self, n, d):
            return 2 * n

    g, w = Graph(), torch_face.array(np.random.default_rng(0).normal(size=(3, 3)))
    x = torch_face.array(g.retract(np.random.default_rng(1).normal(size=(3, 3))))

    def field(t, x):
        return g.project(x, x @ w + x.mean(0))

    assert ctsa.spectral_norm(field, x, dense=False, geometry=g) == pytest.approx(
        ctsa.spectral_norm(field, x, geometry=g), rel=1e-10
    )


def test_budgets(torch_face):
    field, x = make(torch_face, "softmax-weighted"), state("softmax-weighted")
    with pytest.raises(RuntimeError, match="after 2 products.*raise budget=2, or pass dense=True"):
        ctsa.spectral_norm(field, x, dense=False, budget=2)
    many, value = ctsa.random_tokens(400, 3), np.random.default_rng(0).normal(size=(3, 3))
    with pytest.raises(RuntimeError, match="of 20 leading values .*raise budget=1, loosen tol") as caught:
        ctsa.leading(layer_of(torch_face, value), many, 20, which="singular", budget=1)
    assert len(caught.value.eigenvalues) < 20
    with pytest.raises(ValueError, match="budget must be an integer of at least"):
        ctsa.spectral_norm(field, x, budget=0)


# ----------------------------------------------------------------------------------------------------------- bad input
def test_errors(torch_face):
    field, x = make(torch_face, "identity"), state("identity")
    with pytest.raises(ValueError, match="basis must be one of 'ambient', 'tangent'"):
        ctsa.jacobian(field, x, basis="normal")
    with pytest.raises(ValueError, match="one state"):
        ctsa.jacobian(field, state("identity", 2))
    with pytest.raises(ValueError, match="unit tokens"):
        ctsa.jacobian(field, 2 * x)
    with pytest.raises(TypeError, match="sequence of layers has no single Jacobian"):
        ctsa.jacobian([torch_face.EulerLayer(field, step=0.1)], x)
    with pytest.raises(TypeError, match="divergence belongs to fields"):
        ctsa.divergence(torch_face.EulerLayer(field, step=0.1), x)
    with pytest.raises(ValueError, match="count=19 must be below n d - 1 = 19"):
        ctsa.leading(field, x, 19)
    with pytest.raises(ValueError, match="which must be one of"):
        ctsa.leading(field, x, which="smallest")
    with pytest.raises(TypeError, match="takes 3 arguments"):
        ctsa.jacobian(lambda t, x, p: x, torch_face.array(x))


def test_map_of_the_torus(face):
    assert np.array_equal(face.numpy(ctsa.jacobian(cat, face.array([[0.3, 0.4]]), geometry=FLAT)), [[2, 1], [1, 1]])


def test_float32_is_no_tf32_on_a_gpu(jax_face, monkeypatch):
    """JAX would take TF32 there: what computes asks for full precision, unless the user has set it."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, seen = jax_face.array(ctsa.random_tokens(3, 2)), set()

    def field(t, x):
        seen.add(jax.config.jax_default_matmul_precision)
        return ctsa.Sphere().project(x, x @ np.asarray([[1.0, 0.5], [0.2, 2.0]]))

    steps = dict(solver="euler", step=0.1)  # the least to compile
    runs = {
        "integrate": lambda f: ctsa.integrate(f, x, [0.0, 0.1], **steps),
        "iterate": lambda f: ctsa.iterate(ctsa.EulerLayer(f, 0.1), x, 2),
        "lyapunov_spectrum": lambda f: ctsa.lyapunov_spectrum(f, x, intervals=1, transient=0, **steps),
        "jacobian": lambda f: ctsa.jacobian(f, x),
        "eigenvalues": lambda f: ctsa.eigenvalues(f, x),
    }
    for name, run in runs.items():
        seen.clear()
        run(lambda t, x: field(t, x))  # a field of its own, so that it is traced anew
        assert seen == {"highest"}, name
    with jax.default_matmul_precision("float32"):
        seen.clear()
        ctsa.jacobian(lambda t, x: field(t, x), x)
        assert seen == {"float32"}


# ------------------------------------------------------------------------------------------------ all of one state
def test_jacobian_spectrum(face):
    """Every number of it is that of the function of its name; at consensus of Oja's flow they are known."""
    field = face.SelfAttention(value=np.diag([3.0, 2.0, 1.0]), beta=1.5)
    x = ctsa.random_tokens(5, 3, seed=4)
    found = ctsa.jacobian_spectrum(field, x)
    assert np.array_equal(found.eigenvalues, ctsa.eigenvalues(field, x)) and found.continuous
    assert found.norm == pytest.approx(float(np.squeeze(ctsa.spectral_norm(field, x))), rel=1e-12)
    assert found.abscissa == pytest.approx(ctsa.numerical_abscissa(field, x), rel=1e-12)
    assert found.divergence == pytest.approx(ctsa.divergence(field, x), rel=1e-12)
    assert found.speed == pytest.approx(np.linalg.norm(as_numpy(field(0.0, face.array(x))), axis=-1).max(), rel=1e-14)
    assert found.abscissa >= found.eigenvalues.real.max() and found.norm >= np.abs(found.eigenvalues).max()
    pole = ctsa.jacobian_spectrum(face.Oja(np.diag([3.0, 2.0, 1.0])), [[1.0, 0.0, 0.0]])
    assert np.allclose(np.sort(pole.eigenvalues.real), [-2, -1]) and pole.growing == 0 and pole.speed < 1e-15
    saddle = ctsa.jacobian_spectrum(face.Oja(np.diag([3.0, 2.0, 1.0])), [[0.0, 1.0, 0.0]])
    assert saddle.growing == 1 and saddle.abscissa == pytest.approx(1.0)


def test_jacobian_spectrum_of_a_layer(face):
    layer = face.EulerLayer(face.Oja(np.diag([3.0, 2.0, 1.0])), 0.5)
    found = ctsa.jacobian_spectrum(layer, [[1.0, 0.0, 0.0]])
    assert np.allclose(found.eigenvalues, [0.5, 0.0]) and not found.continuous  # 1 + step (lambda - 3)
    assert found.growing == 0 and found.norm == pytest.approx(0.5) and found.speed < 1e-15
    assert "trace" in found.table() and "after layers" in found.table()


def test_a_spectrum_needs_tokens_that_move(face):
    with pytest.raises(ValueError, match="cannot move; d must be at least 2"):
        ctsa.jacobian_spectrum(face.SelfAttention(), np.ones((2, 1)))
