"""What a framework expects of its objects: modules and pytrees, gradients, compilation, conversion, isolation."""

import copy
import inspect
import io
import pickle
import shutil
import subprocess
import sys
import textwrap
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from programs import as_one
from reference import CASES, HEADS, D, N, masks, parameters, state

import ctsa
import ctsa.jax
import ctsa.torch
from ctsa.attention.weights import sinkhorn

case = pytest.mark.parametrize("case", CASES)
SPHERE = ctsa.Sphere(channels=2)


def build(face, case):
    kind, kwargs = CASES[case]
    return getattr(face, kind)(**kwargs)


def nested(face, dtype="float64"):
    """A sum of multiples of sums, on oscillators."""
    p = {name: a.astype(dtype) for name, a in parameters(1, HEADS).items()}
    attention = face.SelfAttention(
        **p, beta=[0.5, 1.5], weights=sinkhorn(7), mask=masks()["weighted"].astype(dtype), geometry=SPHERE
    )
    turn = face.Rotation(frequencies=np.array([1.0, -2.0], dtype), geometry=SPHERE)
    push = face.Perceptron(np.ones((3, D), dtype), np.ones((D, 3), dtype), activation="gelu", geometry=SPHERE)
    return 2.0 * (attention - 0.5 * (turn + push)) + face.Injection(np.ones((N, D), dtype), geometry=SPHERE)


def contents(value):
    """Everything a field is made of, nested, with arrays as (dtype, shape, numbers)."""
    if hasattr(value, "arguments"):
        return type(value).__name__, {name: contents(v) for name, v in value.arguments().items()}
    if isinstance(value, list):
        return [contents(v) for v in value]
    if isinstance(value, (torch.Tensor, jax.Array)):
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), value.tolist()
    return value


# ----------------------------------------------------------------------------------------------------------- conversion
@case
def test_round_trip(torch_face, jax_face, case):
    here, there = build(torch_face, case), build(jax_face, case)
    carried = ctsa.jax.from_torch(here)
    assert isinstance(carried, ctsa.jax.Field) and isinstance(ctsa.torch.from_jax(there), ctsa.torch.Field)
    assert contents(here) == contents(carried) == contents(there)
    assert contents(ctsa.torch.from_jax(carried)) == contents(here)
    assert contents(ctsa.jax.from_torch(ctsa.torch.from_jax(there))) == contents(there)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_round_trip_of_nested_sums(torch_face, jax_face, close, dtype):
    here, there = nested(torch_face, dtype), nested(jax_face, dtype)
    carried = ctsa.jax.from_torch(here)
    assert contents(here) == contents(there) == contents(carried) == contents(ctsa.torch.from_jax(there))
    assert {leaf.dtype for leaf in jax.tree_util.tree_leaves(carried)} == {np.dtype(dtype)}
    assert {p.dtype for p in [*here.parameters(), *here.buffers()]} == {getattr(torch, dtype)}
    weights = carried.terms()[0].field.terms()[0].weights
    assert weights == sinkhorn(7) and carried.geometry == SPHERE
    x = state("channels-2", 2)
    a, b = here(0.0, torch_face.array(x, dtype)), jax.jit(lambda x: carried(0.0, x))(jax_face.array(x, dtype))
    assert str(a.dtype) == f"torch.{dtype}" and b.dtype == dtype
    close(a, b, 1e-12 if dtype == "float64" else 1e-5)


def test_conversion_makes_copies(torch_face):
    field = torch_face.SelfAttention(**parameters())
    carried = ctsa.jax.from_torch(field)
    before = np.asarray(carried.value).copy()
    with torch.no_grad():
        field.value.mul_(2.0)
    assert np.array_equal(carried.value, before)
    again = ctsa.torch.from_jax(carried)
    again.value.data.mul_(3.0)
    assert np.array_equal(carried.value, before)


def test_what_is_not_ours_does_not_convert(torch_face, jax_face):
    for field, convert in (
        (torch_face.SelfAttention(), ctsa.jax.from_torch),
        (jax_face.SelfAttention(), ctsa.torch.from_jax),
    ):
        with pytest.raises(TypeError, match="a plain callable does not: .*<lambda>"):
            convert(field + (lambda t, x: x))
        with pytest.raises(TypeError, match="only fields of ctsa convert, got builtins.function"):
            convert(lambda t, x: x)
    with pytest.raises(TypeError, match="a plain callable does not: Linear"):
        ctsa.jax.from_torch(torch_face.SelfAttention() + Linear())


def test_frameworks_do_not_mix_in_a_sum(torch_face, jax_face):
    with pytest.raises(TypeError, match=r"different frameworks do not add \(jax, torch\): convert with from_torch"):
        torch_face.SelfAttention() + jax_face.SelfAttention()
    with pytest.raises(TypeError, match="different frameworks do not add"):
        jax_face.SelfAttention() + torch_face.SelfAttention()


def test_parameters_of_the_other_framework_are_taken(torch_face, jax_face, close):
    v = parameters()["value"]
    assert contents(torch_face.Oja(jax_face.array(v))) == contents(torch_face.Oja(v))
    assert contents(jax_face.Oja(torch_face.array(v))) == contents(jax_face.Oja(v))


# --------------------------------------------------------------------------------------------------------------- dtypes
@pytest.mark.parametrize(
    ("kwargs", "dtype"),
    [
        (dict(), "float64"),
        (dict(beta=2), "float64"),
        (dict(beta=2.0, value=[[1, 2], [3, 4]]), "float64"),
        (dict(value=np.eye(2, dtype=np.float32)), "float32"),
        (dict(value=np.eye(2, dtype=np.float32), beta=2.0, query=[[1.0, 0.0]], key=np.eye(2)[:1].tolist()), "float32"),
        (dict(value=np.eye(2, dtype=np.float32), beta=2, mask=np.ones((3, 3), bool)), "float32"),
        (dict(value=np.eye(2, dtype=np.float32), query=np.eye(2)), "float64"),
        (dict(value=np.eye(2, dtype=int), query=np.eye(2, dtype=np.float32)), "float32"),
        (dict(value=np.eye(2, dtype=int), mask=np.ones((3, 3), int)), "float64"),
        (dict(value=np.eye(2, dtype=np.float32), beta=np.float32(2.0)), "float32"),
    ],
)
def test_one_dtype_a_field(face, kwargs, dtype):
    """Arrays with a floating dtype decide, the widest wins; lists, Python numbers, integers and booleans follow."""
    field = face.SelfAttention(**kwargs)
    arrays = [a for a in (field.query, field.key, field.value, field.beta, field.mask) if a is not None]
    assert {str(a.dtype).removeprefix("torch.") for a in arrays} == {dtype}
    x = face.array(ctsa.random_tokens(3, 2), dtype)
    shape_of = (lambda f, *a: f(*a)) if face.name == "torch" else jax.eval_shape
    assert shape_of(field, 0.0, x).dtype == x.dtype
    assert shape_of(field.tangent, 0.0, x, x[None])[1].dtype == x.dtype
    assert shape_of(2.0 * field, 0.0, x).dtype == x.dtype
    assert str((2.0 * field).factor.dtype).removeprefix("torch.") == dtype


@pytest.mark.parametrize("kind", ["int64", "bool"])
def test_integer_and_boolean_arrays_of_the_framework(face, kind, close):
    mask = np.tril(np.ones((N, N)))
    x = face.array(state("identity"))
    field = face.SelfAttention(value=face.array(np.eye(D), "int64"), mask=face.array(mask, kind))
    causal = face.SelfAttention(mask="causal")
    close(*as_one(face, lambda x: (field(0.0, x), causal(0.0, x)))(x), 1e-15)


def test_results_keep_float32(face, close):
    for name in ("hardmax-weighted", "sigmoid-heads", "l2-none", "gelu-biases", "rotation", "injection"):
        kind, kwargs = CASES[name]
        narrow = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
        field, x = getattr(face, kind)(**narrow), state(name)
        tangent = jax.jit(lambda *a, f=field: f.tangent(*a)) if face.name == "jax" else field.tangent
        with jax.default_matmul_precision("highest"):  # of the caller's own jit: on a GPU it would be TF32
            v, dv = tangent(face.array(0.0, "float32"), face.array(x, "float32"), face.array(x[None], "float32"))
        assert str(v.dtype).removeprefix("torch.") == str(dv.dtype).removeprefix("torch.") == "float32"
        twin = build(face, name)
        wide = as_one(face, lambda x, f=twin: f(0.0, x))(face.array(x))
        close(face.numpy(v).astype(float), face.numpy(wide), 1e-5)


# -------------------------------------------------------------------------------------------------------------- PyTorch
class Linear(torch.nn.Module):
    """Somebody's own module, used as a field."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(D, dtype=torch.float64))

    def forward(self, t, x):
        return ctsa.Sphere().project(x, x @ self.weight.T)


def test_modules(torch_face):
    field = torch_face.SelfAttention(**parameters(), mask=np.ones((N, N)), beta=2.0)
    assert isinstance(field, torch.nn.Module)
    assert dict(field.named_parameters()).keys() == {"query", "key", "value", "beta"}
    assert dict(field.named_buffers()).keys() == {"mask"}
    assert all(p.requires_grad for p in field.parameters())
    total = 2.0 * field + torch_face.Injection([1.0] * D)
    assert {name for name, _ in total.named_parameters()} == {
        "fields.0.field.query", "fields.0.field.key", "fields.0.field.value", "fields.0.field.beta", "fields.1.input"
    }  # fmt: skip


def test_terms_of_other_kinds_keep_everybodys_parameters(torch_face, close):
    x = torch_face.array(state("identity"))
    field, module = torch_face.SelfAttention(value=np.eye(D)), Linear()
    for total, count in ((field + (lambda t, x: 0 * x), 2), (field + module, 3), (field + module + torch.sin_, 3)):
        assert len(list(total.parameters())) == count
        assert len(total.state_dict()) == count
    close((field + module)(0.0, x), field(0.0, x) + module(0.0, x), 1e-14)
    assert (field + module).float().terms()[0].beta.dtype == torch.float32


def test_state_dict(torch_face, close):
    first, second = nested(torch_face), nested(torch_face)
    with torch.no_grad():
        for a in [*first.parameters(), *first.buffers()]:
            a += torch.rand(a.shape, generator=torch.Generator(a.device).manual_seed(0), dtype=a.dtype)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    assert contents(first) != contents(second)
    second.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert contents(first) == contents(second)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))], ids=["deepcopy", "pickle"])
def test_copies(face, again):
    field = nested(face)
    assert contents(again(field)) == contents(field)


def test_modules_move_and_train(torch_face):
    field, x = torch_face.SelfAttention(**parameters(), beta=0.5), torch_face.array(state("identity"))
    before = contents(field)
    optimiser = torch.optim.SGD(field.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = field(0.0, x).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0] and contents(field) != before
    assert field.to(torch.float32)(0.0, x.float()).dtype == torch.float32


def test_a_given_parameter_is_shared(torch_face):
    value = torch.nn.Parameter(torch.eye(D, dtype=torch.float64))
    first, second = torch_face.Oja(value), torch_face.SelfAttention(value=value)
    assert first.value is value and second.value is value
    tensor = torch.eye(D, dtype=torch.float64)
    field = torch_face.Oja(tensor)
    tensor += 1
    assert torch.equal(field.value, torch.eye(D, dtype=torch.float64))  # a tensor is copied


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")
def test_torch_compile(torch_face, close):
    field = torch_face.SelfAttention(**parameters(), beta=0.7, mask="causal")
    x = torch_face.array(state("identity", 2))
    compiled = torch.compile(lambda y: field(0.0, y), fullgraph=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Dynamo detected")  # about our code
        close(compiled(x), field(0.0, x))
    y = x.clone().requires_grad_()
    compiled(y).square().sum().backward()
    z = x.clone().requires_grad_()
    field(0.0, z).square().sum().backward()
    close(y.grad, z.grad)


def test_torch_compile_traces_every_kind_without_breaks(torch_face, close):
    x, u = torch_face.array(state("channels-2")), torch_face.array(state("identity")[None])
    for field in (
        build(torch_face, "hardmax-boolean"), build(torch_face, "shared-key-field"), build(torch_face, "l2-heads"),
        torch_face.SelfAttention(weights=sinkhorn(3), geometry=SPHERE),
    ):  # fmt: skip
        compiled = torch.compile(lambda y, field=field: field(0.0, y), fullgraph=True, backend="eager")
        close(compiled(x), field(0.0, x), 1e-15)
    field = nested(torch_face) + build(torch_face, "frequencies-tokens")
    close(torch.compile(lambda y: field(0.0, y), fullgraph=True, backend="eager")(x), field(0.0, x), 1e-15)
    field = build(torch_face, "softmax-heads")
    compiled = torch.compile(lambda y: field.tangent(0.0, y, u)[1], fullgraph=True, backend="eager")
    close(compiled(x), field.tangent(0.0, x, u)[1], 1e-15)


def test_torch_does_not_recompile_for_other_parameters(torch_face):
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    field, x = torch_face.SelfAttention(**parameters()), torch_face.array(state("identity"))
    compiled = torch.compile(field, fullgraph=True, backend=counter)
    t = torch.tensor(0.0)
    first = compiled(t, x)
    with torch.no_grad():
        for p in field.parameters():
            p *= 1.5
    second = compiled(t + 1, x)
    assert counter.frame_count == 1 and not torch.equal(first, second)


# ------------------------------------------------------------------------------------------------------------------ JAX
def test_pytrees(jax_face):
    field = jax_face.SelfAttention(**parameters(), mask=np.ones((N, N)), beta=2.0, key_field=np.ones(D))
    assert isinstance(field, eqx.Module)
    assert len(jax.tree_util.tree_leaves(field)) == 6
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(nested(jax_face)))
    doubled = jax.tree_util.tree_map(lambda a: 2 * a, field)
    assert float(doubled.beta) == 4.0 and doubled.weights == field.weights and doubled.geometry == field.geometry
    again = jax.tree_util.tree_unflatten(*reversed(jax.tree_util.tree_flatten(field)))
    assert contents(again) == contents(field)


def test_equal_fields_have_equal_structure(jax_face):
    def structure(**kwargs):
        return jax.tree_util.tree_structure(jax_face.SelfAttention(**kwargs))

    assert structure(beta=1.0, weights=sinkhorn(5)) == structure(beta=2.0, weights=sinkhorn(5))
    assert structure(weights=sinkhorn(5)) != structure(weights=sinkhorn(6))
    assert structure(geometry=SPHERE) == structure(geometry=ctsa.Sphere(channels=2)) != structure()
    assert structure(mask="causal") != structure()


def test_jax_does_not_recompile_for_other_parameters(jax_face):
    traces = []

    @jax.jit
    def velocity(field, t, x):
        traces.append(1)
        return field.tangent(t, x, x[None])

    x = jax_face.array(state("channels-2"))
    for scale in (1.0, 2.0, 3.0):
        velocity(jax.tree_util.tree_map(lambda a, s=scale: s * a, nested(jax_face)), scale, scale * x)
    assert len(traces) == 1
    for beta in (1.0, 2, np.float64(3.0), np.array(4.0)):
        velocity(jax_face.SelfAttention(beta=beta), 0.0, x)
    assert len(traces) == 2


def test_fields_are_vmapped(jax_face, close):
    x, betas = jax_face.array(state("identity")), jnp.linspace(0.5, 2.0, 3)
    many = jax.vmap(lambda b: jax_face.SelfAttention(beta=b))(betas)  # built under vmap: values are not known
    assert many.beta.shape == (3,)
    found = jax.vmap(lambda field: field(0.0, x))(many)
    close(found, np.stack([jax_face.SelfAttention(beta=float(b))(0.0, x) for b in betas]), 1e-14)


def test_fields_are_made_under_jit(jax_face, close):
    x, p = jax_face.array(state("identity")), {k: jax_face.array(v) for k, v in parameters().items()}
    made = jax.jit(lambda p, b: jax_face.SelfAttention(**p, beta=b, mask=jnp.ones((N, N)))(0.0, x))(p, 0.7)
    close(made, jax_face.SelfAttention(**p, beta=0.7)(0.0, x), 1e-14)
    with pytest.raises(ValueError, match="query and key must map to the same width"):  # shapes are known under jit
        jax.jit(lambda q: jax_face.SelfAttention(query=q, key=p["key"])(0.0, x))(jnp.ones((2, D)))


def test_sums_with_bare_callables_under_jit(jax_face, close):
    x, w = jax_face.array(state("identity")), jax_face.array(CASES["rotation"][1]["omega"])
    total = jax_face.SelfAttention() + (lambda t, y: y @ w.T)
    close(eqx.filter_jit(total)(0.0, x), total(0.0, x), 1e-14)


# ------------------------------------------------------------------------------------------------------------ gradients
GRADIENTS = [
    "softmax-causal", "linear-boolean", "l2-heads", "sinkhorn-weighted", "shared-key-field", "oja", "rotation",
    "frequencies-tokens", "injection", "gelu-biases",
]  # fmt: skip


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_agree(torch_face, jax_face, case, close):
    x = state(case)
    here, there = build(torch_face, case), build(jax_face, case)
    target = np.random.default_rng(0).normal(size=x.shape)
    (here(0.0, torch_face.array(x)) * torch_face.array(target)).sum().backward()
    grads = jax.jit(jax.grad(lambda field: (field(0.0, jax_face.array(x)) * target).sum()))(there)
    names = [name for name, _ in here.named_parameters()]
    assert names
    for name in names:
        a = getattr(here, name).grad
        assert torch.isfinite(a).all() and a.abs().max() > 0
        close(a, getattr(grads, name))


def test_gradient_with_respect_to_beta(torch_face, jax_face, close):
    x, h = state("identity"), 1e-5

    @jax.jit
    def loss(b):
        return jax_face.SelfAttention(beta=b)(0.0, jax_face.array(x))[0, 0]

    exact = jax.grad(loss)(2.0)
    field = torch_face.SelfAttention(beta=2.0)
    field(0.0, torch_face.array(x))[0, 0].backward()
    close(field.beta.grad, exact)
    assert abs(float(exact - (loss(2.0 + h) - loss(2.0 - h)) / (2 * h))) < 1e-9


def test_gradient_of_a_closed_form_tangent(torch_face, jax_face, close):
    """Regularisers differentiate the Jacobian: reverse mode over the closed form."""
    x, u = state("identity"), np.random.default_rng(1).normal(size=(2, N, D))
    here, there = build(torch_face, "softmax-causal"), build(jax_face, "softmax-causal")
    here.tangent(0.0, torch_face.array(x), torch_face.array(u))[1].square().sum().backward()
    loss = lambda f: (f.tangent(0.0, jax_face.array(x), jax_face.array(u))[1] ** 2).sum()  # noqa: E731
    grads = jax.jit(jax.grad(loss))(there)
    for name in ("query", "key", "value", "beta"):
        close(getattr(here, name).grad, getattr(grads, name))


def test_masks_and_factors_do_not_train(torch_face, jax_face):
    field = 2.0 * torch_face.SelfAttention(mask=np.ones((N, N)))
    assert {name for name, _ in field.named_parameters()} == {"field.beta"}
    assert dict(field.named_buffers()).keys() == {"factor", "field.mask"}
    # In JAX everything is a leaf; a mask with zeros must not turn gradients into nan.
    masked = jax_face.SelfAttention(mask=np.tril(np.ones((N, N))), beta=2.0)
    x = jax_face.array(state("identity"))
    grads = jax.grad(lambda f: (f(0.0, x) ** 2).sum())(masked)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree_util.tree_leaves(grads))
    assert float(jnp.abs(grads.mask).max()) == 0


# ------------------------------------------------------------------------------------------------------------ isolation
def run(code):
    """Run Python in a process of its own; return what it wrote on stdout."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


BLOCK = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {blocked}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Block())
"""


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_face_works_without_the_other_framework(name):
    other, blocked = {
        "torch": ("jax", ["jax", "jaxlib", "equinox", "diffrax"]), "jax": ("torch", ["torch", "torchdiffeq"])
    }[name]  # fmt: skip
    setup = dict(torch="", jax='import jax; jax.config.update("jax_enable_x64", True)')[name]
    code = BLOCK.format(blocked=set(blocked)) + f"""
    {setup}
    import numpy as np, ctsa
    from ctsa.{name} import Injection, SelfAttention
    field = 2.0 * SelfAttention(value=np.eye(3), beta=2.0) + Injection([1.0, 0.0, 0.0])
    path = ctsa.iterate(ctsa.EulerLayer(field, step=0.1), ctsa.random_tokens(4, 3), depth=2)
    traj = ctsa.integrate(field, path.xs[-1], [0.0, 0.1], solver="euler", step=0.1)
    print(ctsa.cluster_count(traj.xs[-1]), ctsa.effective_rank(traj.xs).shape[0])
    print(sorted(set({blocked}) & set(sys.modules)))
    try:
        import ctsa.{other}
    except ImportError as error:
        print(error)
    """
    first, loaded, message = run(code).splitlines()
    assert first == "4 2" and loaded == "[]"
    assert message.startswith(f"ctsa.{other} needs ") and message.endswith(f": pip install 'ctsa[{other}]'")


def test_importing_ctsa_loads_no_framework_and_a_face_only_its_own():
    """The face of JAX is looked at below, in a process that has loaded it anyway."""
    code = """
        import sys, numpy as np, ctsa
        from ctsa import theory
        ctsa.gram(ctsa.random_tokens(4, 3)); ctsa.clusters(np.eye(3)); theory.equiangular_time(0.5, 1.0, 4)
        print(sorted({"torch", "jax", "equinox", "diffrax", "torchdiffeq"} & set(sys.modules)))
        import ctsa.torch
        ctsa.torch.SelfAttention(beta=2.0)
        print(sorted({"jax", "equinox", "diffrax"} & set(sys.modules)))
    """
    assert run(code).splitlines() == ["[]", "[]"]


def test_jax_without_64_bits_and_without_torch():
    code = """
        import sys, warnings
        warnings.simplefilter("error")  # JAX would truncate with a warning
        import numpy as np, ctsa
        from ctsa.jax import SelfAttention, Scaled
        field = SelfAttention(value=[[1.0, 0.0], [0.0, 1.0]], beta=2.0, mask=[[1, 0], [1, 1]])
        field = 2.0 * (field + SelfAttention(query=np.eye(2, dtype=np.float32)))
        v = field(0.0, ctsa.random_tokens(2, 2).astype(np.float32))
        print(v.dtype, field.factor.dtype, field.field.fields[0].beta.dtype)
        for build in (
            lambda: SelfAttention(value=np.eye(2)),
            lambda: SelfAttention(beta=np.float64(2.0)),
        ):
            try:
                build()
                print("no error")
            except ValueError as error:
                print(error)
        print(sorted({"torch", "torchdiffeq"} & set(sys.modules)))
    """
    dtypes, *messages, loaded = run(code).splitlines()
    assert loaded == "[]"
    assert dtypes == "float32 float32 float32"
    for name, message in zip(("value", "beta"), messages, strict=True):
        assert message.startswith(f"{name} is float64, but JAX is running in 32-bit mode")
        assert 'jax.config.update("jax_enable_x64", True)' in message


def test_constructors_say_what_they_take(torch_face, jax_face):
    """An editor sees names, defaults and types, the same on both faces."""
    for name in torch_face.module.__all__:
        if isinstance(getattr(torch_face, name), type) and name != "Field":
            here, there = (inspect.signature(getattr(face, name)) for face in (torch_face, jax_face))
            assert here == there and not any(p.annotation is p.empty for p in here.parameters.values()), name
