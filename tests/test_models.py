"""RecurrentModel: its layers written out in NumPy, both frameworks, gradients, files, the flow behind it."""

import pickle
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from programs import as_one
from sampling import mainly, sample

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.attention import Positions, Weights

N, D, HEADS = 4, 8, 2
ROWS, COLUMNS = np.arange(N) // 2, np.arange(N) % 2
MASKS = np.stack([np.equal.outer(a, a) for a in (ROWS, COLUMNS)])
TASK = SimpleNamespace(
    inputs=np.array([[1, 0, 2, 0], [0, 0, 1, 2], [2, 1, 0, 0]]), targets=np.zeros((3, N), int), classes=3,
    vocabulary=3, features=None, masks=MASKS,
)  # fmt: skip
IMAGES = SimpleNamespace(
    inputs=np.random.default_rng(5).normal(size=(3, N, 2)), targets=np.zeros(3, int), classes=3, vocabulary=None,
    features=2, masks=None,
)  # fmt: skip
NOISE = np.random.default_rng(9).normal(size=(3, N, D))
KINDS = {
    "itrsa": {}, "akorn": dict(channels=4), "akorn-rmsnorm": dict(channels=2), "energy": dict(gamma="scalar"),
    "none": dict(step=0.3),
}  # fmt: skip


def model_of(face, kind="itrsa", task=TASK, **changes):
    options = dict(d=D, heads=HEADS, seed=1, dtype="float64") | KINDS[kind] | changes
    return face.RecurrentModel.for_task(task, kind=kind, **options)


def bent(model):
    """Return a model of torch whose gain is a vector of different entries, and whose step and frequencies are not 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in ("gamma", "frequencies", "step"):
            a = getattr(model, name)
            if a is not None:
                a.mul_(1 + 0.3 * torch.rand(a.shape, generator=generator, dtype=a.dtype))
    return model


# ------------------------------------------------------------------------------------------------------------ written out
def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads_of(x, w, mask):
    """Multi-head attention of one state, a head at a time."""
    y = w.get("output_bias", 0.0)
    for h in range(HEADS):
        q, k = (x @ w[name][h].T + w[f"{name}_bias"][h] for name in ("query", "key"))
        s = np.where(mask[h] > 0, w["beta"] * q @ k.T, -np.inf)
        y = y + softmax(s) @ (x @ w["value"][h].T + w["value_bias"][h]) @ w["output"][h].T
    return y


def groups(x, size):
    z = x.reshape(N, -1, size)
    return (z / np.linalg.norm(z, axis=-1, keepdims=True)).reshape(N, D)


def layer_by_hand(w, kind, u, c):
    """The next unit state, from the formulas in the docstring of the model."""
    attention = {k.removeprefix("attention."): v for k, v in w.items()}
    msa = lambda x: heads_of(x, attention, attention["mask"])  # noqa: E731
    size = {"itrsa": D, "akorn": 4, "akorn-rmsnorm": 2}.get(kind)
    x = w.get("gamma", 1.0) * u
    y = c + msa(x)
    if kind.startswith("akorn"):
        U, Y = u.reshape(N, -1, size), y.reshape(N, -1, size)
        y = (Y - (U * Y).sum(-1, keepdims=True) * U).reshape(N, D)
        turned = np.stack([-w["frequencies"] * x[:, 1::2], w["frequencies"] * x[:, 0::2]], -1)
        y = y + turned.reshape(N, D)
    z = x + w["step"] * y
    return z if kind == "none" else groups(z, size)


@pytest.mark.parametrize("kind", ["itrsa", "akorn", "akorn-rmsnorm", "none"])
def test_a_layer_is_its_formula(kind):
    """Masks, biases, a vector gain and frequencies included, for a sample, and for a batch of them."""
    model = bent(model_of(ctsa.torch, kind))
    w = ctsa.models.files.arrays_of(model)
    c = w["embedding"][TASK.inputs] + w["position"]
    start = np.where((TASK.inputs > 0)[..., None], c, NOISE)
    if kind != "none":
        start = np.stack([groups(x, {"itrsa": D, "akorn": 4, "akorn-rmsnorm": 2}[kind]) for x in start])
    np.testing.assert_allclose(model.start(TASK.inputs, NOISE).detach(), start, rtol=0, atol=1e-14)
    wanted = np.stack([layer_by_hand(w, kind, u, ci) for u, ci in zip(start, c, strict=True)])
    given = torch.tensor(start)
    np.testing.assert_allclose(model.layer_of(TASK.inputs)(given).detach(), wanted, rtol=0, atol=1e-13)
    for i in range(3):
        one = model.layer_of(TASK.inputs[i])(given[i])
        np.testing.assert_allclose(one.detach(), wanted[i], rtol=0, atol=1e-13)
    np.testing.assert_allclose(model.run(TASK.inputs, 1, NOISE).detach(), wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", [TASK, IMAGES], ids=["tokens", "features"])
def test_frameworks_agree_and_convert(kind, task):
    model = bent(model_of(ctsa.torch, kind, task, readout="norm" if kind == "itrsa" else "linear"))
    twin = ctsa.jax.from_torch(model)
    mine, theirs = model(task.inputs, 3, NOISE), jax.jit(lambda noise: twin(task.inputs, 3, noise))(NOISE)
    assert mine.shape == ((3, N, 3) if task is TASK else (3, 3))
    np.testing.assert_allclose(mine.detach(), theirs, rtol=0, atol=1e-13)
    back = ctsa.torch.from_jax(twin)
    assert torch.equal(back(task.inputs, 3, NOISE), mine)
    fresh = model_of(ctsa.torch, kind, task, readout="norm" if kind == "itrsa" else "linear", seed=4)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(task.inputs, 3, NOISE), mine)
    drawn = model_of(ctsa.jax, kind, task)  # from the same seed, the same numbers
    same = model_of(ctsa.torch, kind, task)
    for a, b in zip(ctsa.models.files.arrays_of(same).values(), ctsa.models.files.arrays_of(drawn).values(), strict=True):
        assert np.array_equal(a, b)


def test_runs_are_those_of_its_layer(face):
    model = model_of(face)
    one = TASK.inputs[0]
    u = model.start(one, 3)
    traj = ctsa.iterate(model.layer_of(one), u, 5)

    def of_the_model(x, end):
        return model.states(one, 5, 3), model.run(one, 5, 3), model.onward(one, x, 3), model.energy(one, end)

    states, end, onward, energy = map(face.numpy, as_one(face, of_the_model)(traj.xs[2], traj.xs[-1]))
    np.testing.assert_allclose(face.numpy(traj.xs), states, rtol=0, atol=1e-14)
    np.testing.assert_allclose(end, states[-1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(onward, states[-1], rtol=0, atol=1e-14)
    assert face.numpy(model.run(one, 0, 3)).tolist() == face.numpy(u).tolist()
    assert energy == pytest.approx(float(face.numpy(ctsa.pseudo_energy(model.layer_of(one), traj.xs[-1]))), rel=1e-13)
    assert not np.array_equal(face.numpy(model.start(one, 4)), face.numpy(u))
    known = one > 0
    assert np.array_equal(face.numpy(model.start(one, 4))[known], face.numpy(u)[known])
    assert ctsa.diagnose(model.layer_of(one), u, loops=32).verdict


@pytest.mark.parametrize("kind", ["itrsa", "akorn", "akorn-rmsnorm", "energy", "none"])
def test_finer_steps_tend_to_the_flow(kind):
    """First order: twice as many layers, half the distance; the layer is the Euler step of size h of its flow."""
    model = model_of(ctsa.torch, kind, gamma="scalar")
    flow = model.run(TASK.inputs, 2, NOISE, solver=ctsa.Solver("dopri5", atol=1e-9)).detach()
    off = [(model.run(TASK.inputs, 2, NOISE, refine=k).detach() - flow).abs().max().item() for k in (48, 96)]
    orders = np.log2(np.array(off[:-1]) / off[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.06)
    layer = model.layer_of(TASK.inputs[0])
    assert ctsa.as_euler(layer).difference < 1e-13


def test_flows_of_both_frameworks_agree(torch_face, jax_face):
    runs = [
        f.numpy(model_of(f, gamma="scalar").run(TASK.inputs, 3, NOISE, solver=ctsa.Solver("bosh3", atol=1e-5)))
        for f in (torch_face, jax_face)
    ]
    np.testing.assert_allclose(*runs, rtol=0, atol=1e-12)


# --------------------------------------------------------------------------------------------------------------- gradients
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_everything_alike(kind):
    model = bent(model_of(ctsa.torch, kind))
    twin = ctsa.jax.from_torch(model)
    model(TASK.inputs, 3, NOISE).square().mean().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if name != "attention.gain"}  # LayerNorm's, in flat space
    assert all(g is not None and g.abs().max() > 0 for g in grads.values()), [n for n, g in grads.items() if g is None]
    theirs = eqx.filter_jit(eqx.filter_grad(lambda m: (m(TASK.inputs, 3, NOISE) ** 2).mean()))(twin)
    found = ctsa.models.files.arrays_of(theirs)
    for name, g in grads.items():
        np.testing.assert_allclose(found[name], g, rtol=0, atol=1e-12, err_msg=name)


def test_the_adjoint_agrees_with_the_steps(face):
    """Also of tensors that are computed from parameters: the input, and the step of the flow."""
    solver = ctsa.Solver("dopri5", atol=2e-9)

    def grads(adjoint):
        model = model_of(face, gamma="scalar")

        def loss(m):
            return (m(TASK.inputs, 1, face.array(NOISE), solver=solver, adjoint=adjoint) ** 2).mean()

        if face.name == "jax":
            return ctsa.models.files.arrays_of(eqx.filter_grad(loss)(model))
        loss(model).backward()
        return {name: p.grad.numpy() for name, p in model.named_parameters()}

    direct, adjoint = grads(False), grads(True)
    for name in ("embedding", "position", "step", "gamma", "attention.query", "attention.value_bias", "head"):
        scale = np.abs(direct[name]).max()
        np.testing.assert_allclose(adjoint[name], direct[name], rtol=0, atol=1e-6 * scale, err_msg=name)


def test_functional_call_and_compilation():
    model = model_of(ctsa.torch)
    other = {name: 1.1 * p for name, p in model.named_parameters()}
    called = torch.func.functional_call(model, other, (TASK.inputs, 2, NOISE))
    moved = model_of(ctsa.torch)
    with torch.no_grad():
        for p in moved.parameters():
            p.mul_(1.1)
    np.testing.assert_allclose(called.detach(), moved(TASK.inputs, 2, NOISE).detach(), rtol=0, atol=1e-13)
    twin = model_of(ctsa.jax)
    count = 0

    @eqx.filter_jit
    def compiled(m, inputs, noise):
        nonlocal count
        count += 1
        return m(inputs, 2, noise)

    for scale in (1.0, 1.1):
        m = jax.tree_util.tree_map(lambda a, s=scale: a * s if eqx.is_inexact_array(a) else a, twin)
        compiled(m, jax.numpy.asarray(TASK.inputs), jax.numpy.asarray(NOISE))
    assert count == 1


# ------------------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_models(tmp_path, kind):
    model = bent(model_of(ctsa.torch, kind))
    path = ctsa.models.save(model, tmp_path / "model.safetensors")
    for home in ("torch", "jax"):
        found = ctsa.models.load(path, home)
        assert type(found).__module__ == f"ctsa.{home}"
        y = found(TASK.inputs, 2, NOISE)
        np.testing.assert_allclose(y.detach() if home == "torch" else y, model(TASK.inputs, 2, NOISE).detach(), atol=1e-13)
    assert ctsa.models.save(ctsa.jax.from_torch(model), tmp_path / "other.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "other.safetensors"]


def test_files_keep_fields(tmp_path, face):
    turning = Positions.rotary(n=5, m=4)
    w = np.random.default_rng(0).normal(size=(3, 2, 4, 8))
    field = 2.0 * face.MultiHeadAttention(*w, output=w[0].swapaxes(-1, -2), positions=turning) + face.Injection(np.ones(8))
    x = face.array(ctsa.random_tokens(5, 8))
    path = ctsa.models.save(field, tmp_path / "f.safetensors")
    assert np.array_equal(face.numpy(ctsa.models.load(path, face.name)(0.0, x)), face.numpy(field(0.0, x)))
    causal = face.SelfAttention(mask="causal", weights="l2", geometry=ctsa.Sphere(channels=2))
    read = ctsa.models.load(ctsa.models.save(causal, path), face.name)
    assert read.causal and read.weights.name == "l2" and read.geometry == ctsa.Sphere(channels=2)
    own = face.SelfAttention(weights=Weights("mine", lambda xp, s, n: s))
    with pytest.raises(TypeError, match="the weights of attention that have a name"):
        ctsa.models.save(own, path)
    assert ctsa.models.load(path, face.name).causal  # the older file is as it was
    with pytest.raises(TypeError, match="thing must be a field or model of ctsa.torch or ctsa.jax, got function"):
        ctsa.models.save(lambda t, x: x, path)


class _Dangerous:
    def __reduce__(self):
        return (pytest.fail, ("a file ran code",))


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "pickle", "other", "later"])
def test_files_that_are_damaged(tmp_path, damage):
    path = ctsa.models.save(model_of(ctsa.torch), tmp_path / "m.safetensors")
    whole = path.read_bytes()
    from safetensors.numpy import save

    content = {
        "empty": b"", "noise": np.random.default_rng(0).bytes(400), "cut": whole[: len(whole) // 2],
        "pickle": pickle.dumps(_Dangerous()), "other": save({"a": np.ones(2)}),
        "later": save({"a": np.ones(2)}, {"ctsa": "99", "header": "{}"}),
    }[damage]  # fmt: skip
    path.write_bytes(content)
    with pytest.raises(ValueError, match="99, this version reads" if damage == "later" else "is not a model of ctsa"):
        ctsa.models.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        ctsa.models.load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="make it before writing"):
        ctsa.models.save(model_of(ctsa.torch), tmp_path / "absent" / "m.safetensors")


# --------------------------------------------------------------------------------------------------------------- bad input
def test_wrong_inputs(face):
    model = model_of(face)
    for inputs, kind, words in (
        ([1, 2, 0], ValueError, r"inputs must have the shape \(..., 4\), got \(3,\)"),
        ([1, 2, 0, 3], ValueError, r"inputs must be integers of 0 ... 2, got 0 ... 3"),
        ([1, -1, 0, 2], ValueError, r"integers of 0 ... 2, got -1 ... 2"),
        ([True] * 4, TypeError, "got bool"),
        (["a"] * 4, TypeError, "inputs must be integers"),
        (np.ones((4, 2)), ValueError, r"inputs must have the shape \(..., 4, 3\), got \(4, 2\)"),
    ):
        with pytest.raises(kind, match=words):
            model(inputs)
    with pytest.raises(ValueError, match="refine goes with layers"):
        model.run(TASK.inputs, 2, refine=2, solver="dopri5")
    with pytest.raises(ValueError, match="depth must be an integer of at least 0"):
        model.run(TASK.inputs, -1)


def test_no_flow():
    model = bent(model_of(ctsa.torch))
    with pytest.raises(ValueError, match="the model has no flow: gamma is a vector"):
        model.field_of(TASK.inputs)
    with pytest.raises(ValueError, match="refine needs a scalar gamma"):
        model.run(TASK.inputs, 2, refine=2)
    with pytest.raises(ValueError, match="the model has no flow"):
        model.run(TASK.inputs, 2, solver="dopri5")


def test_wrong_parts(face):
    attention = face.SelfAttention()
    good = dict(embedding=np.ones((3, D)), attention=attention, head=np.ones((2, D)))
    face.RecurrentModel(**good)
    oscillating = face.SelfAttention(geometry=ctsa.Sphere(channels=2))
    for change, kind, words in (
        (dict(kind="itrs"), ValueError, "kind must be one of"),
        (dict(attention=lambda t, x: x), TypeError, "attention must be a field of ctsa"),
        (dict(attention=oscillating), ValueError, r"kind='itrsa' needs attention on Sphere\(channels=None\)"),
        (dict(kind="none"), ValueError, r"kind='none' needs attention on Euclidean\(\)"),
        (dict(kind="akorn", gamma=2.0), ValueError, "kind='akorn' has no gamma"),
        (dict(frequencies=np.ones(D // 2)), ValueError, "kind='itrsa' has no frequencies"),
        (dict(kind="akorn", frequencies=np.ones(3)), ValueError, r"frequencies must have d / 2 = 4 entries, got 3"),
        (dict(position=np.ones((4, D + 1))), ValueError, "position"),
        (dict(step=-1.0), ValueError, "step must be positive"),
        (dict(step=None), TypeError, "step must be an array, got None"),
        (dict(head=np.ones((2, D + 1))), ValueError, "head"),
        (dict(hidden_bias=np.ones(3)), ValueError, "hidden_bias needs hidden"),
        (dict(noise=-1.0), ValueError, "noise"),
        (dict(pooled=1), TypeError, "pooled must be True or False"),
        (dict(embedding=np.full((3, D), np.nan)), ValueError, "embedding must be finite"),
    ):
        with pytest.raises(kind, match=words):
            face.RecurrentModel(**good | change)
    for change, kind, words in (
        (dict(heads=3), ValueError, "heads=3 does not divide d=8"),
        (dict(kind="akorn", channels=3), ValueError, "channels=3 does not divide d=8"),
        (dict(kind="energy", tied=True), ValueError, "tied=True does not go with kind='energy'"),
        (dict(gamma="tensor"), ValueError, "gamma must be one of"),
        (dict(dtype="float16"), ValueError, "dtype must be one of"),
        (dict(task=TASK.inputs), TypeError, "task must be a data set of ctsa.datasets, got ndarray"),
    ):
        with pytest.raises(kind, match=words):
            face.RecurrentModel.for_task(**dict(task=TASK, d=D, heads=HEADS) | change)


# --------------------------------------------------------------------------- attention tied to its scores, and R_E
def test_symmetric_attention_is_attention_with_that_value(face):
    r = np.random.default_rng(2)
    q, k = r.normal(size=(2, HEADS, 3, D))
    a = np.einsum("hmi,hmj->hij", q, k)
    x, u = face.array(ctsa.random_tokens(5, D)), face.array(r.normal(size=(2, 5, D)))
    tied = face.SymmetricAttention(q, k, beta=0.7)
    plain = face.SelfAttention(q, k, 0.5 * (a + a.swapaxes(1, 2)), beta=0.7)
    both = as_one(face, lambda x, u: (tied.tangent(0.0, x, u), plain.tangent(0.0, x, u)))(x, u)
    for mine, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(face.numpy(mine), face.numpy(theirs), rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        face.numpy(ctsa.jacobian(tied, x)), face.numpy(ctsa.jacobian(plain, x)), rtol=0, atol=1e-14
    )  # fmt: skip
    assert float(face.numpy(ctsa.regularise.symmetry(tied))) == 0.0
    assert float(face.numpy(ctsa.regularise.symmetry(plain))) < 1e-28
    assert face.SymmetricAttention().value is None
    with pytest.raises(ValueError, match="query must be square"):
        face.SymmetricAttention(query=np.ones((3, D)))


@mainly("torch")
def test_energy_of_tied_attention_rises(face):
    """One symmetric head with unnormalised weights ascends sum exp(beta <x_i, A x_j>)."""
    a = np.random.default_rng(3).normal(size=(3, 3))
    a = a + a.T
    field = face.SymmetricAttention(query=np.eye(3), key=a, beta=0.5, weights="unnormalised")
    xs = face.numpy(ctsa.integrate(field, ctsa.random_tokens(6, 3), np.linspace(0, 0.3, 7), "heun", atol=1e-4).xs)
    rise = np.diff(np.exp(0.5 * np.einsum("tia,ab,tjb->tij", xs, a, xs)).sum((1, 2)))
    assert (rise > 0).all()


def test_regularisers_of_weights_against_numpy(face):
    model = model_of(face)
    w = {k.removeprefix("attention."): v for k, v in ctsa.models.files.arrays_of(model).items() if k.startswith("att")}
    a = np.einsum("hmi,hmj->hij", w["query"], w["key"])
    v = w["output"] @ w["value"]
    wanted = ((v - 0.5 * (a + a.swapaxes(1, 2))) ** 2).sum()
    assert float(face.numpy(ctsa.regularise.symmetry(model))) == pytest.approx(wanted, rel=1e-13)
    stacked = {name: w[name].reshape(-1, D) for name in ("query", "key", "value")}
    stacked["output"] = np.concatenate(list(w["output"]), axis=1)
    for name, found in model.attention.matrices().items():
        if name in stacked:
            np.testing.assert_array_equal(face.numpy(found), stacked[name])
    biases = [w[name].ravel() for name in ("query_bias", "key_bias", "value_bias", "output_bias")]
    spectral = sum((np.linalg.norm(m, 2) ** 2 - 1) ** 2 for m in stacked.values()) + sum((b @ b) ** 2 for b in biases)
    for source in (model, model.attention, model.layer_of(TASK.inputs)):
        assert float(face.numpy(ctsa.spectral_regulariser(source))) == pytest.approx(spectral, rel=1e-12)
    apart = sum(((m @ m.T - np.eye(D)) ** 2).sum() for name, m in stacked.items() if name in ("value", "output"))
    assert float(face.numpy(ctsa.regularise.orthogonality(model))) == pytest.approx(apart, rel=1e-12)
    with pytest.raises(ValueError, match="source must hold SelfAttention or MultiHeadAttention"):
        ctsa.regularise.symmetry(face.Injection(np.ones(3)))
    with pytest.raises(ValueError, match="all of them are the identity"):
        ctsa.regularise.symmetry(face.SelfAttention())


# ---------------------------------------------------------------------------------------------------- AKOrN with a gain
GAINS = {"scalar": 1.7, "equal": np.full(D, 1.7), "vector": np.linspace(1, 2, D)}


def oscillating(face, gamma):
    r = np.random.default_rng(4)
    osc = ctsa.Sphere(channels=4)
    coupling = face.SelfAttention(value=r.normal(size=(D, D)), geometry=osc) + face.Injection(r.normal(size=(N, D)), osc)
    return face.AKOrN(coupling, face.Rotation(frequencies=r.normal(size=D // 2), geometry=osc), step=0.3, gamma=gamma)


@pytest.mark.filterwarnings("ignore:AKOrN has no flow")
@pytest.mark.parametrize(("face", "kind"), sample([
    (name, kind) for name in ("torch", "jax") for kind in GAINS
], lambda name, kind: name == "torch" or kind == "vector"), indirect=["face"])  # fmt: skip
def test_akorn_with_a_gain(face, kind):
    gamma = GAINS[kind]
    layer = oscillating(face, gamma)
    x = face.array(ctsa.random_tokens(N, D, channels=4, seed=2))
    u = face.array(np.random.default_rng(1).normal(size=(2, N, D)))
    h = 1e-6

    def at(x, u):
        X = layer.tokens(x)
        drift = layer.coupling.drift(0.0, X)
        wanted = layer.geometry.retract(X + 0.3 * (layer.rotation.drift(0.0, X) + layer.geometry.project(x, drift)))
        moved = (layer.update(x + h * u[0]) - layer.update(x - h * u[0])) / (2 * h)
        return *layer.tangent(x, u), layer.units(X), moved, wanted, X, drift

    y, dy, back, moved, wanted, X, drift = map(face.numpy, as_one(face, at)(x, u))
    np.testing.assert_allclose(back, face.numpy(x), rtol=0, atol=1e-15)
    np.testing.assert_allclose(dy[0], moved, rtol=0, atol=1e-8)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-15)
    energy = -(X * drift).sum()
    assert float(face.numpy(layer.energy(x))) == pytest.approx(energy, rel=1e-13)
    assert float(face.numpy(ctsa.pseudo_energy(layer, x))) == pytest.approx(energy, rel=1e-13)
    if np.ptp(gamma) > 0:
        assert layer.no_flow and layer.field is None
    else:
        assert ctsa.as_euler(layer).difference < 1e-13
        assert float(face.numpy(layer.flow_step)) == pytest.approx(0.3)
    assert np.isfinite(ctsa.jacobian_norms(layer, x).bound)


def test_akorn_gains_that_do_not_fit(face):
    with pytest.raises(ValueError, match="coupling is for 8 components, but gamma for 7"):
        oscillating(face, np.ones(7))
    with pytest.raises(ValueError, match="gamma must not have zeros"):
        oscillating(face, np.r_[np.ones(7), 0])
    with pytest.warns(UserWarning, match="AKOrN has no flow: gamma is a vector"):
        oscillating(face, np.linspace(1, 2, D))


def test_seeds_noise_and_tokens_as_arrays_of_other_kinds(face):
    model = model_of(face)
    wanted = face.numpy(model.start(TASK.inputs, 3))
    for seed in (np.int64(3), np.array(3), face.array(3, "int32")):  # numbers: seeds, not noise of threes
        assert np.array_equal(face.numpy(model.start(TASK.inputs, seed)), wanted)
    assert tuple(model.start(TASK.inputs[0], NOISE).shape) == tuple(model.start(TASK.inputs, NOISE[0]).shape) == NOISE.shape
    for noise in (NOISE[0, 0], NOISE[:, :1], NOISE[:2]):
        with pytest.raises(ValueError, match=r"noise must have the shape \(..., 4, 8\) of the start \(3, 4, 8\), got"):
            model.start(TASK.inputs, noise)
    logits = face.numpy(model(TASK.inputs, depth=2))
    for kind in ("uint8", "int8", "int32"):  # bytes were a mask to PyTorch
        assert np.array_equal(face.numpy(model(face.array(TASK.inputs, kind), depth=2)), logits)
    small = model_of(face, task=IMAGES, dtype="float32")
    assert np.array_equal(
        face.numpy(small(face.array(IMAGES.inputs), depth=2)), face.numpy(small(IMAGES.inputs, depth=2))
    )


def test_files_refuse_what_a_subclass_computes(tmp_path):
    class Doubled(ctsa.torch.SelfAttention):
        def drift(self, t, x):
            return 2 * super().drift(t, x)

    class Named(ctsa.torch.SelfAttention):
        def describe(self):
            return "named"

    with pytest.raises(TypeError, match="not the drift of Doubled: it is code"):
        ctsa.models.save(Doubled(beta=2.0), tmp_path / "field")
    assert ctsa.models.load(ctsa.models.save(Named(beta=2.0), tmp_path / "field")).beta.item() == 2.0
