"""Pseudo-energy, contribution index, complex eigenvalues, energies and theorems, Jacobian bounds, the regulariser."""

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sampling import mainly, sample

import ctsa
from ctsa.monitors.energies import energy_promise

N, D = 5, 4
X = ctsa.random_tokens(N, D, seed=1)
RNG = np.random.default_rng(2)
VALUE, QUERY, KEY, INPUT = (
    RNG.normal(size=(D, D)),
    RNG.normal(size=(3, D)),
    RNG.normal(size=(3, D)),
    RNG.normal(size=(N, D)),
)
PAIRS, FLAT = ctsa.Sphere(channels=2), ctsa.Euclidean()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def attention(face, geometry=None, **options):
    return face.SelfAttention(QUERY, KEY, VALUE, beta=0.8, geometry=geometry, **options)


def driven(face, geometry=None):
    return attention(face, geometry) + face.Injection(INPUT, geometry=geometry)


def itrsa(face, step=0.7, gamma=0.5):
    return face.ItrSA(driven(face), step=step, gamma=gamma)


def akorn(face):
    turn = face.Rotation(frequencies=[1.0, -2.0], geometry=PAIRS)
    return face.AKOrN(driven(face, PAIRS), turn, step=0.5)


# -------------------------------------------------------------------------------------------------------- pseudo-energy
def test_pseudo_energy(face):
    def exact(x):
        return -(x * face.numpy(driven(face).drift(0.0, face.array(x)))).sum()

    batch = ctsa.random_tokens(N, D, seed=3, batch=(2,))
    assert face.numpy(ctsa.pseudo_energy(driven(face), batch)) == pytest.approx([exact(x) for x in batch], rel=1e-13)
    for layer in (face.EulerLayer(driven(face), 0.1), face.PostNormLayer(driven(face), 0.1)):
        assert float(face.numpy(ctsa.pseudo_energy(layer, X))) == pytest.approx(exact(X), rel=1e-13)
    x = face.numpy(itrsa(face).tokens(face.array(X)))  # X = gamma u
    assert float(face.numpy(ctsa.pseudo_energy(itrsa(face), X))) == pytest.approx(exact(x), rel=1e-13)
    y = PAIRS.retract(X)
    own, rotating = akorn(face).energy(face.array(y)), ctsa.pseudo_energy(akorn(face).field, y)
    assert float(face.numpy(ctsa.pseudo_energy(akorn(face), y))) == float(face.numpy(own))
    assert float(face.numpy(rotating)) == pytest.approx(float(face.numpy(own)), rel=1e-12)  # <x, Omega x> = 0


def test_pseudo_energy_has_gradients(torch_face):
    field = driven(torch_face)
    ctsa.pseudo_energy(field, X).backward()
    assert field.fields[0].value.grad.abs().max() > 0


# --------------------------------------------------------------------------------------------------- contribution index
def index_by_hand(j, x, count):
    values, vectors = np.linalg.eigh(j + j.T)
    top = vectors[:, np.argsort(values)[-count:]]
    return ((x.ravel() @ top) ** 2).sum() / (x**2).sum()


def drift_jacobian(face, field, x):
    return face.numpy(field.drift_jacobian(0.0, face.array(x))[1])


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_contribution_index(face, share):
    j, count = drift_jacobian(face, driven(face), X), max(1, int(np.ceil(share * N * D)))
    exact = index_by_hand(j, X, count)
    for system in (driven(face), face.PostNormLayer(driven(face), 0.3)):
        assert ctsa.contribution_index(system, X, share) == pytest.approx(exact, rel=1e-9)
    if share == 0.2:  # matrix-free: Lanczos
        assert ctsa.contribution_index(driven(face), X, share, dense=False) == pytest.approx(exact, rel=1e-8)
        own = index_by_hand(drift_jacobian(face, driven(face), 0.5 * X), X, count)
        assert ctsa.contribution_index(itrsa(face), X, share) == pytest.approx(own, rel=1e-9)


@mainly("jax")
def test_contribution_in_batches_and_by_count(face):
    x, field = ctsa.random_tokens(N, D, seed=4, batch=(3,)), driven(face)
    for dense in (True, False):
        found = ctsa.contribution_index(field, x, count=4, dense=dense)
        exact = [index_by_hand(drift_jacobian(face, field, each), each, 4) for each in x]
        assert found.shape == (3,) and np.abs(found - exact).max() < 1e-9
    most, size = N * D - 2, N * D  # the others are fewer
    exact = index_by_hand(drift_jacobian(face, field, X), X, most)
    assert ctsa.contribution_index(field, X, count=most, dense=False) == pytest.approx(exact, rel=1e-9)
    assert ctsa.contribution_index(field, X, count=size, dense=False) == 1.0
    with pytest.raises(ValueError, match=f"count={size + 1} is more than n d = {size}"):
        ctsa.contribution_index(field, X, count=size + 1)
    many = ctsa.random_tokens(400, 3)
    with pytest.raises(RuntimeError, match="of 90 eigenvectors .*raise budget=1"):
        ctsa.contribution_index(face.SelfAttention(beta=1.0), many, count=90, budget=1)


def test_contribution_of_a_bare_layer(torch_face):
    """Of a callable that is not ours it is the whole map's Jacobian."""
    w = torch_face.array(VALUE)
    index = ctsa.contribution_index(lambda x: x @ w.mT, torch_face.array(X), 0.2, geometry=FLAT)
    assert index == pytest.approx(index_by_hand(np.kron(np.eye(N), VALUE), X, 4), rel=1e-9)
    free = ctsa.contribution_index(lambda x: x @ w.mT, torch_face.array(X), 0.25, geometry=FLAT, dense=False)
    assert free == pytest.approx(index_by_hand(np.kron(np.eye(N), VALUE), X, 5), rel=1e-8)


def test_contribution_index_of_many_tokens_needs_no_matrix(torch_face):
    n, d = 160, 8  # n d = 1280: beyond the size at which Jacobians are formed
    x, value = ctsa.random_tokens(n, d), np.diag(np.arange(d, 0.0, -1))
    index = ctsa.contribution_index(torch_face.Oja(value), x, 1 / (n * d))
    mean = x.mean(0)  # the leading eigenvector of V (x) 11^T / n
    assert index == pytest.approx(n * mean[0] ** 2 / n, rel=1e-9)


# ------------------------------------------------------------------------------------------------- complex eigenvalues
def test_complex_share(torch_face):
    gradient = torch_face.SelfAttention(value=np.diag([3.0, 2.0, 1.0, 0.5]), query=np.diag([3.0, 2.0, 1.0, 0.5]))
    pole = np.ones((N, 1)) * np.eye(D)[0]
    assert ctsa.complex_share(gradient, pole) == 0
    value = np.diag([3.0, 1.0, 0.0, 0.0]) + np.array([[0] * 4, [0] * 4, [0, 0, 0, -1.0], [0, 0, 1.0, 0]])
    turning = torch_face.SelfAttention(value=value)
    assert ctsa.complex_share(turning, pole) == pytest.approx(2 / (N * (D - 1)))  # mu - lambda, once each
    assert ctsa.complex_share(torch_face.EulerLayer(turning, 0.1), pole) == pytest.approx(2 / (N * (D - 1)))


# --------------------------------------------------------------------------------------------------------------- energy
SYMMETRIC = VALUE + VALUE.T
TWO = np.stack([SYMMETRIC, np.eye(D)])
ROOT = np.linalg.cholesky(SYMMETRIC @ SYMMETRIC + np.eye(D)).T  # Q = K: A = Q^T Q is symmetric


@pytest.mark.parametrize(
    ("options", "sign", "why"),
    [
        (dict(), 1, None),
        (dict(query=SYMMETRIC, value=2.0 * SYMMETRIC), 1, None),
        (dict(query=SYMMETRIC, value=-2.0 * SYMMETRIC), -1, None),
        (dict(query=ROOT, key=ROOT, value=0.1 * ROOT.T @ ROOT, beta=0.2), 1, None),
        (dict(beta=-1.0, weights="unnormalised"), 1, None),
        (dict(query=TWO, value=TWO, weights="unnormalised", beta=[0.3, 0.5]), 1, None),
        (dict(query=[SYMMETRIC], value=[SYMMETRIC], beta=0.4), 1, None),
        (dict(geometry=PAIRS), 1, None),
        (dict(query=VALUE, value=SYMMETRIC / 2), 1, "A = Q^T K is not symmetric"),
        (dict(value=SYMMETRIC), 1, "V is no multiple of A"),
        (dict(query=TWO, value=TWO), 1, "2 heads with softmax"),
        (dict(query=TWO, value=[SYMMETRIC, -np.eye(D)], weights="unnormalised"), 1, "same for all heads"),
        (dict(mask="causal"), 1, "there is a mask"),
        (dict(mask=np.ones((N, N))), 1, "there is a mask"),
        (dict(key_field=np.ones(D)), 1, "there is a key field"),
        (dict(weights="sigmoid"), 1, "weights are 'sigmoid'"),
    ],
)  # fmt: skip
def test_theorems_on_energies(torch_face, options, sign, why):
    """Where a theorem is claimed, dE/dt along the velocity has its sign at random states; nothing is claimed elsewhere."""
    field = torch_face.SelfAttention(**({"beta": 1.0} | options))
    promise = energy_promise(field)
    assert promise.theorem == (why is None) and (why or "") in promise.why
    if why is None:
        assert promise.sign == sign
        g = field.geometry
        x = g.retract(np.random.default_rng(3).normal(size=(50, N, D)))
        x = torch_face.array(x)
        v = field(0.0, x).detach()
        rate = torch.func.jvp(lambda y: ctsa.energy(field, y), (x,), (v,))[1].detach().numpy()
        assert (sign * rate).min() > 0
        assert energy_promise(-2.0 * field).sign == -sign and energy_promise(0.5 * field).sign == sign


def test_counterexample(torch_face):
    """A = [[1, 2], [-2, 0]], V = (A + A^T) / 2: the energy falls although V is A's symmetric part."""
    a = np.array([[1.0, 2.0], [-2.0, 0.0]])
    field = torch_face.SelfAttention(key=a, value=(a + a.T) / 2, beta=1.0)
    angles = 0.1333 * np.pi * np.array([1, -1])
    x = np.stack([np.cos(angles), np.sin(angles)], -1)
    report = ctsa.energy_report(field, ctsa.integrate(field, x, np.linspace(0, 0.5, 11)))
    assert not report.theorem and not report.held and report.violation > 0.05
    assert "A = Q^T K is not symmetric" in repr(report) and "violated by" in repr(report)
    falls = -np.diff(report.energies)
    assert report.violation == pytest.approx(falls.max()) and report.at == report.ts[np.argmax(falls) + 1]
    report.plot().figure.canvas.draw()


@pytest.mark.parametrize("geometry", [None, PAIRS, FLAT])
def test_energy_of_energy_attention_never_rises(torch_face, geometry):
    field = torch_face.EnergyAttention(QUERY, KEY, beta=0.8, memory=VALUE, geometry=geometry)
    x = np.random.default_rng(3).normal(size=(2, N, D))
    x = x if geometry == FLAT else field.geometry.retract(x)
    run = ctsa.integrate(field, x, np.linspace(0, 3, 16))
    report = ctsa.energy_report(field, run)
    assert report.theorem and report.sign == -1 and report.held and report.violation == 0
    assert report.energies.shape == (16, 2) and repr(report) == "EnergyReport(guaranteed to fall; falls throughout)"
    assert not ctsa.energy_report(-1.0 * field, run).held  # backward it rises
    other = field + torch_face.Injection(INPUT, geometry=geometry)
    assert not energy_promise(other).theorem and "other terms" in energy_promise(other).why


def test_energy_reports(torch_face, jax_face, tmp_path):
    ends = []
    flow = ctsa.integrate(torch_face.SelfAttention(beta=2.0), X, np.linspace(0, 2, 5)).xs.detach().numpy()
    for face in (jax_face, torch_face):
        field = face.SelfAttention(beta=2.0)
        report = ctsa.energy_report(field, flow)
        assert report.theorem and report.held
        ends.append(report.energies)
    assert np.abs(ends[0] / ends[1] - 1).max() < 1e-13
    layers = ctsa.energy_report(field, ctsa.iterate(ctsa.EulerLayer(field, 0.1), X, depth=4))
    assert not layers.theorem and layers.why == "layers take steps of finite size" and layers.held
    again = ctsa.load(layers.save(tmp_path / "report"))
    assert repr(again) == repr(layers)
    with pytest.raises(TypeError, match="one attention term"):
        ctsa.energy_report(torch_face.Oja(np.eye(D)), X[None])
    with pytest.raises(ValueError, match="beta = 0"):
        ctsa.energy_report(torch_face.SelfAttention(beta=0.0), np.stack([X, X]))
    with pytest.raises(ValueError, match="at least two states"):
        ctsa.energy_report(torch_face.SelfAttention(), X)


# --------------------------------------------------------------------------------------------------------------- bounds
def random_layer(face, kind, rng, n):
    heads = int(rng.integers(1, 3))
    scale = rng.uniform(0.2, 2.0)
    q, k, v = (scale * rng.normal(size=(heads, m, D)) for m in (3, 3, D))
    pairs = PAIRS if kind in ("akorn", "akorn, no projection", "akorn, identity", "oscillators") else None
    field = face.SelfAttention(
        q, k, v, beta=rng.uniform(0, 2, size=heads), geometry=pairs, key_field=rng.normal(size=D)
    )
    field = field + face.Injection(rng.normal(size=(n, D)), geometry=pairs)
    step, turn = rng.uniform(0.05, 5), face.Rotation(frequencies=rng.normal(size=D // 2), geometry=pairs)
    return {
        "post-norm": lambda: face.PostNormLayer(field, step),
        "euler": lambda: face.EulerLayer(field + turn, step),
        "oscillators": lambda: face.EulerLayer(field, step),
        "geodesic": lambda: face.EulerLayer(field, step, retraction="exp"),
        "rk4": lambda: face.RungeKuttaLayer(field, step),
        "itrsa": lambda: face.ItrSA(field, step, gamma=rng.uniform(0.1, 2)),
        "akorn": lambda: face.AKOrN(field, turn, step),
        "akorn, no projection": lambda: face.AKOrN(field, turn, step, project=False),
        "akorn, identity": lambda: face.AKOrN(field, step=step, identity=True),
    }[kind]()


KINDS = (
    "post-norm", "euler", "oscillators", "geodesic", "rk4", "itrsa", "akorn", "akorn, no projection", "akorn, identity",
)  # fmt: skip


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), n=st.integers(1, 6))
def test_jacobian_bounds_hold(torch_face, seed, kind, n):
    rng = np.random.default_rng(seed)
    layer = random_layer(torch_face, kind, rng, n)
    x = layer.geometry.retract(rng.normal(size=(n, D)))
    found = ctsa.jacobian_norms(layer, x)
    j = ctsa.jacobian(layer, x).detach().numpy()
    assert found.norm == pytest.approx(np.linalg.norm(j, 2), rel=1e-9)
    assert found.holds and found.norm <= found.bound * (1 + 1e-9) and found.tangent_norm <= found.norm * (1 + 1e-9)
    y = layer.move(torch_face.array(x)).detach()
    assert found.radius == pytest.approx(float(layer.geometry.radius(y).min()), rel=1e-12)
    if kind not in ("geodesic", "rk4"):
        assert found.update_norm <= found.lipschitz and found.bound <= found.a_priori


LAYERS = ["post-norm", "euler", "oscillators", "geodesic", "itrsa", "akorn, identity"]


@pytest.mark.parametrize(
    ("face", "kind"),
    sample(
        [(name, kind) for name in ("torch", "jax") for kind in LAYERS],
        lambda name, kind: name == "torch" or kind in ("post-norm", "oscillators", "itrsa"),  # JAX compiles each
    ),
    indirect=["face"],
)
def test_norms_by_products(face, kind):
    layer = random_layer(face, kind, np.random.default_rng(3), 4)
    x = layer.geometry.retract(np.random.default_rng(4).normal(size=(2, 4, D)))
    dense, products = (ctsa.jacobian_norms(layer, x, dense=way) for way in (True, False))
    for i in range(2):
        alone = ctsa.jacobian_norms(layer, x[i])
        for name in alone._static:
            for found in (dense[i], products[i]):
                assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-9, nan_ok=True)


def test_norms_of_many_tokens_form_no_matrix(torch_face, monkeypatch):
    from ctsa.tangent._products import Link

    forward = Link.forward

    def few(link, u):
        assert len(u) == 1
        return forward(link, u)

    monkeypatch.setattr("ctsa.tangent.norms.tangent_jacobians", None)
    monkeypatch.setattr(Link, "forward", few)
    layer, x = torch_face.PostNormLayer(torch_face.Oja(np.diag([3.0, 2.0, 1.0])), 0.5), ctsa.random_tokens(500, 3)
    found = ctsa.jacobian_norms(layer, x)
    assert found.update_norm == pytest.approx(3.0, rel=1e-9)  # |V (x) 11^T / n|


def test_norms_by_the_definition(torch_face):
    """ItrSA: |J| <= max|gamma| / R (1 + eta |J_MSA(X)|) with a vector gamma, all of it written out."""
    gamma = np.array([0.5, 1.0, 2.0, 0.3])
    with pytest.warns(UserWarning):
        layer = torch_face.ItrSA(driven(torch_face), step=0.7, gamma=gamma)
    found = ctsa.jacobian_norms(layer, X)
    tokens = gamma * X
    y = tokens + 0.7 * driven(torch_face).drift(0.0, torch_face.array(tokens)).detach().numpy()
    j = np.linalg.norm(drift_jacobian(torch_face, driven(torch_face), tokens), 2)
    assert found.update_norm == pytest.approx(j, rel=1e-12)
    assert found.bound == pytest.approx(2.0 / np.linalg.norm(y, axis=-1).min() * (1 + 0.7 * j), rel=1e-12)
    assert found.lipschitz == ctsa.lipschitz_bound(driven(torch_face), N, 2.0)
    assert "bound of the layer Jacobian" in found.table()


def test_lipschitz_bound(torch_face):
    """The printed formula, and the other fields."""
    f, h = torch_face, 2
    q, k, v = (RNG.normal(size=(h, m, D)) for m in (3, 3, D))
    beta, n, r = np.array([0.5, 1.5]), 7, 1.3
    exact = np.sqrt(3) * sum(
        np.linalg.norm(v[i], 2) * np.sqrt(beta[i] ** 2 * np.linalg.norm(q[i].T @ k[i], 2) ** 2 * r**4 * (4 * n + 1) + n)
        for i in range(h)
    )
    field = f.SelfAttention(q, k, v, beta=beta)
    assert ctsa.lipschitz_bound(field, n, r) == pytest.approx(exact, rel=1e-12)
    omega = VALUE - VALUE.T
    assert ctsa.lipschitz_bound(3.0 * f.Oja(VALUE) + f.Rotation(omega), n) == pytest.approx(
        3 * np.linalg.norm(VALUE, 2) + np.linalg.norm(omega, 2), rel=1e-12
    )
    mlp = f.Perceptron(QUERY, KEY.T, activation="gelu")
    slope = 1.12905 * np.linalg.norm(QUERY, 2) * np.linalg.norm(KEY, 2)
    assert ctsa.lipschitz_bound(mlp, n) == pytest.approx(slope, rel=1e-12)
    x = torch_face.array(np.linspace(-3, 3, 6001))
    assert torch.func.vmap(torch.func.grad(torch.nn.functional.gelu))(x).max() < 1.12905
    assert ctsa.lipschitz_bound(f.Oja(VALUE).rescaled(2.0), n) == pytest.approx(2 * np.linalg.norm(VALUE, 2), rel=1e-12)
    assert np.isnan(ctsa.lipschitz_bound(f.SelfAttention(weights="sigmoid"), n))
    assert np.isnan(ctsa.lipschitz_bound(lambda t, x: x, n))


def test_normalisation_keeps_the_norm_of_order_one(torch_face):
    """The bound of attention grows like sqrt(n); the norm of the normalised layer does not grow."""
    norms, lipschitz = [], []
    for n in (4, 16, 64):
        layer = torch_face.ItrSA(torch_face.SelfAttention(value=np.eye(D), beta=1.0), step=10.0, gamma=1.0)
        found = ctsa.jacobian_norms(layer, ctsa.random_tokens(n, D, seed=0))
        norms.append(found.norm * found.radius / 10)  # R grows with the step; its share in n is left out
        lipschitz.append(found.lipschitz)
    assert lipschitz[2] / lipschitz[0] > 3.5
    assert max(norms) < 2 * min(norms)


def test_bounds_in_both_frameworks(torch_face, jax_face):
    a, b = (ctsa.jacobian_norms(itrsa(face), X) for face in (torch_face, jax_face))
    assert [getattr(a, f) for f in a._static] == pytest.approx([getattr(b, f) for f in b._static], rel=1e-11)


# ------------------------------------------------------------------------------------------------------------- a record
def test_record_of_a_layer(torch_face, jax_face, tmp_path):
    records = [ctsa.monitor(itrsa(face), X, depth=3, share=0.2) for face in (torch_face, jax_face)]
    for name in ("ts", "pseudo_energy", "contribution", "complex_share", "norm", "order_parameter"):
        assert np.abs(getattr(records[0], name) - getattr(records[1], name)).max() < 1e-10
    record, layer = records[0], itrsa(torch_face)
    path = ctsa.iterate(layer, X, depth=3)
    again = ctsa.monitor(layer, path, share=0.2)
    assert np.array_equal(again.norm, record.norm)
    for i, x in enumerate(path.xs.detach().numpy()):
        assert record.pseudo_energy[i] == pytest.approx(ctsa.pseudo_energy(layer, x).item(), rel=1e-12)
        assert record.contribution[i] == pytest.approx(ctsa.contribution_index(layer, x, 0.2), rel=1e-9)
        assert record.complex_share[i] == ctsa.complex_share(layer, x)
        assert record.norm[i] == pytest.approx(ctsa.spectral_norm(layer, x), rel=1e-12)
        assert record.order_parameter[i] == pytest.approx(np.linalg.norm(x.mean(0)), rel=1e-12)
    assert repr(ctsa.load(record.save(tmp_path / "record"))) == repr(record)
    axes = record.plot()
    axes[0].figure.canvas.draw()
    assert [ax.lines[0].get_ydata().tolist() for ax in axes][0] == record.pseudo_energy.tolist()
    assert len(record.table().splitlines()) == 5


def test_record_of_a_flow(torch_face):
    record = ctsa.monitor(driven(torch_face), X, duration=2.0, points=5)
    assert record.continuous and record.ts == pytest.approx([0, 0.5, 1, 1.5, 2])
    bare = ctsa.monitor(lambda t, x: 0 * x, torch_face.array(X), duration=1.0, points=2)
    assert np.isnan(bare.pseudo_energy).all() and bare.norm.tolist() == [0, 0]
    assert list(bare.missing) == ["pseudo_energy"] and not record.missing
    lines = bare.table().splitlines()  # no column of nan, but the reason
    assert "pseudo_energy" not in lines[0] and "nan" not in bare.table() and "pseudo_energy" in record.table()
    assert lines[-1].startswith("left out: pseudo_energy needs the update C + MSA(X)")
    axes = bare.plot()
    axes[0].figure.canvas.draw()
    assert len(axes) == 5 and "pseudo energy needs the update" in axes[0].texts[0].get_text().replace("\n", " ")
    layers = ctsa.monitor(ctsa.EulerLayer(driven(torch_face), 0.1), X, depth=40, points=5)
    assert layers.ts.tolist() == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (dict(), ValueError, "a layer needs depth="),
        (dict(depth=2, duration=1.0), ValueError, "a layer needs depth="),
        (dict(depth=0), ValueError, "depth must be"),
        (dict(depth=2, points=1), ValueError, "points must be"),
        (dict(depth=2, share=0), ValueError, "share must be"),
        (dict(depth=2, share=1.5), ValueError, "share must be at most 1"),
    ],
)
def test_bad_input(torch_face, given, error, message):
    with pytest.raises(error, match=message):
        ctsa.monitor(itrsa(torch_face), X, **given)


def test_more_bad_input(torch_face):
    path = ctsa.iterate(itrsa(torch_face), X, depth=2)
    with pytest.raises(ValueError, match="start is a trajectory"):
        ctsa.monitor(itrsa(torch_face), path, depth=2)
    with pytest.raises(ValueError, match="a flow needs duration="):
        ctsa.monitor(driven(torch_face), X)
    with pytest.raises(ValueError, match="duration must be"):
        ctsa.monitor(driven(torch_face), X, duration=-1.0)
    with pytest.raises(ValueError, match="one state"):
        ctsa.monitor(attention(torch_face), ctsa.random_tokens(N, D, batch=(2,)), duration=1.0)
    with pytest.raises(TypeError, match="whose drift is known"):
        ctsa.pseudo_energy(ctsa.WrappedLayer(lambda x: x), X)
    with pytest.raises(TypeError, match="wrap it in ctsa.WrappedLayer"):
        ctsa.jacobian_norms(lambda x: x, X)
    with pytest.raises(TypeError, match="pass one layer"):
        ctsa.contribution_index([itrsa(torch_face)], X)
    with pytest.raises(ValueError, match="one state"):
        ctsa.complex_share(attention(torch_face), X[None])


# ----------------------------------------------------------------------------------------------------------- regulariser
def test_regulariser_by_hand(face):
    weights, bias = RNG.normal(size=(2, 3, D)), RNG.normal(size=D)
    exact = sum((np.linalg.norm(w, 2) ** 2 - 1) ** 2 for w in weights) + np.linalg.norm(bias) ** 4
    arrays = [face.array(weights), face.array(bias), face.array(3.0)]
    assert float(face.numpy(ctsa.spectral_regulariser(arrays))) == pytest.approx(exact, rel=1e-12)
    alone = ctsa.spectral_regulariser(face.array(weights[0]))
    assert float(face.numpy(alone)) == pytest.approx((np.linalg.norm(weights[0], 2) ** 2 - 1) ** 2, rel=1e-12)
    field = face.SelfAttention(weights, weights, key_field=bias) + face.Injection(INPUT)
    expected = 2 * (exact - np.linalg.norm(bias) ** 4) + np.linalg.norm(bias) ** 4  # the input is no weight
    for system in (field, face.ItrSA(field), face.EulerLayer(2.0 * field, 0.1), face.AKOrN(field)):
        assert float(face.numpy(ctsa.spectral_regulariser(system))) == pytest.approx(expected, rel=1e-12)


def test_regulariser_trains(torch_face, jax_face):
    """Gradients: torch, JAX and the closed form 4 sigma (sigma^2 - 1) u v^T; finite at the identity, too."""
    u, s, v = np.linalg.svd(VALUE)
    exact = 4 * s[0] * (s[0] ** 2 - 1) * np.outer(u[:, 0], v[0])
    field = torch_face.SelfAttention(value=VALUE)
    ctsa.spectral_regulariser(field).backward()
    assert np.abs(field.value.grad.numpy() - exact).max() < 1e-11
    grads = eqx.filter_grad(ctsa.spectral_regulariser)(jax_face.SelfAttention(value=VALUE))
    assert np.abs(np.asarray(grads.value) - exact).max() < 1e-11
    flat = torch_face.SelfAttention(value=np.eye(D))
    ctsa.spectral_regulariser(flat).backward()
    assert torch.isfinite(flat.value.grad).all()
    assert np.isfinite(jax.grad(ctsa.spectral_regulariser)(jax.numpy.eye(D))).all()


def test_regulariser_bad_input(torch_face):
    with pytest.raises(ValueError, match="nothing to regularise"):
        ctsa.spectral_regulariser(torch_face.SelfAttention())
    with pytest.raises(TypeError, match="source must hold arrays, got str"):
        ctsa.spectral_regulariser(["a"])
