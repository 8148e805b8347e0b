"""What runs on several devices, in a process of its own: ``XLA_FLAGS=--xla_force_host_platform_device_count=8``.

``test_devices`` starts it, and prints what fails. Each function that begins with ``check_`` is one. With
``--thorough`` they check more ways of spreading and kinds of attention.
"""

import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import ctsa
from ctsa.attention import ring
from ctsa.jax import EulerLayer, SelfAttention

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # programs that run once

THOROUGH = "--thorough" in sys.argv
AUTO = (AxisType.Auto, AxisType.Auto)
MESH = jax.make_mesh((2, 4), ("batch", "tokens"), axis_types=AUTO)
X = ctsa.random_tokens(8, 3, seed=0, batch=(4,))
RNG = np.random.default_rng(0)
FIELD = SelfAttention(beta=4.0, value=np.diag([3.0, 2.0, 1.0]))
SPECS = {"batch": P("batch"), "tokens": P(None, "tokens"), "both": P("batch", "tokens")}


def put(x, spec, mesh=MESH):
    return jax.device_put(x, NamedSharding(mesh, spec))


def close(a, b, tol=1e-12):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    off = float(np.abs(a - b).max())
    assert off <= tol * max(1.0, float(np.abs(b).max())), off


def lies(a, *spec):
    """Assert that an array lies on the mesh as a spec says, whatever axes of size 1 or None it leaves out."""
    wanted = NamedSharding(MESH, P(*spec))
    assert a.sharding.is_equivalent_to(wanted, a.ndim), a.sharding


def refused(call, kind, message):
    try:
        call()
    except kind as error:
        assert re.search(message, str(error)), error
    else:
        raise AssertionError(f"nothing was refused: {message}")


# ------------------------------------------------------------------------------------------------- flows, layers, spectra
def check_runs():
    """Flows and layers: the numbers of one device, and states that stay where they are, outside a mesh in use."""
    layer, ts = EulerLayer(FIELD, 0.1), [0.0, 0.5, 1.0]
    flow, path = ctsa.integrate(FIELD, X, ts).xs, ctsa.iterate(layer, X, 3).xs
    for name, spec in SPECS.items():
        if name == "batch" and not THOROUGH:
            continue
        x = put(X, spec)
        runs = [(ctsa.integrate(FIELD, x, ts), flow)] + [(ctsa.iterate(layer, x, 3), path)] * (name == "both")
        for run, wanted in runs:
            close(run.xs, wanted)
            lies(run.xs, None, *spec)


def check_meshes_of_explicit_axes():
    """As jax.make_mesh makes them by default: the state goes to a mesh of automatic axes, without being copied."""
    mesh = jax.make_mesh((2, 4), ("batch", "tokens"), axis_types=(AxisType.Explicit,) * 2)
    x = put(X, SPECS["both"], mesh)
    run = ctsa.integrate(FIELD, x, [0.0, 0.5])
    close(run.xs, ctsa.integrate(FIELD, X, [0.0, 0.5]).xs)
    lies(run.xs, None, "batch", "tokens")
    refused(
        lambda: jax.jit(lambda x: ctsa.integrate(FIELD, x, [0.0, 0.5]).xs)(x), ValueError,
        "the mesh of x0, which is traced, has axes of type Explicit.*axis_types",
    )  # fmt: skip
    with jax.set_mesh(mesh):
        refused(lambda: ctsa.integrate(FIELD, X, [0.0, 0.5]), ValueError, r"the mesh in use \(jax.set_mesh\) has axes")


def check_spectra():
    kw = dict(intervals=2, transient=0, count=2)
    layer = EulerLayer(FIELD, 0.1)
    found = ctsa.lyapunov_spectrum(layer, put(X, SPECS["batch"]), **kw)
    close(found.exponents, ctsa.lyapunov_spectrum(layer, X, **kw).exponents, 1e-11)
    kw |= dict(atol=1e-5)
    wanted = ctsa.lyapunov_spectrum(FIELD, X, **kw)
    with jax.set_mesh(MESH):
        found = ctsa.lyapunov_spectrum(FIELD, put(X, SPECS["both"]), **kw)
    close(found.exponents, wanted.exponents, 1e-11)


def check_ways_of_attention():
    x = ctsa.random_tokens(8, 2, seed=0, batch=(4,))
    for how in ("chunked", "harmonic") if THOROUGH else ("harmonic",):
        field = SelfAttention(beta=4.0, how=how)
        run = ctsa.integrate(field, put(x, SPECS["batch"]), [0.0, 0.3], "rk4", step=0.1)
        close(run.xs, ctsa.integrate(field, x, [0.0, 0.3], "rk4", step=0.1).xs)
        lies(run.xs, None, "batch")


def check_gradients():
    def of_flow(field, x):
        return (ctsa.integrate(field, x, [0.0, 0.5], "rk4", step=0.25).xs[-1] ** 3).sum()  # little to compile

    def of_layers(field, x):
        return (ctsa.iterate(EulerLayer(field, 0.1), x, 3).xs[-1] ** 3).sum()

    for loss, how, spec in ((of_layers, "auto", "batch"), (of_flow, "ring", "both"))[0 if THOROUGH else 1 :]:
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        by_field, by_x = gradient(FIELD, jnp.asarray(X))
        field = SelfAttention(beta=4.0, value=np.diag([3.0, 2.0, 1.0]), how=how)
        with jax.set_mesh(MESH):
            ours, moved = gradient(field, put(X, SPECS[spec]))
        close(moved, by_x)
        close(ours.value, by_field.value)
        close(ours.beta, by_field.beta)


def check_bad_states():
    """What is wrong with a state is said as it is on one device."""
    for bad, message in ((np.nan, "x0 must be finite"), (2.0, "unit tokens, but a length differs from 1 by up to 1")):
        x = X.copy()
        x[1, 2] *= bad
        refused(lambda x=x: ctsa.integrate(FIELD, put(x, SPECS["both"]), [0.0, 1.0]), ValueError, message)
    run = ctsa.integrate(FIELD, put(2 * X, SPECS["both"]), [0.0, 0.5], normalize=True)
    close(run.xs, ctsa.integrate(FIELD, X, [0.0, 0.5]).xs)
    mine = ctsa.integrate(lambda t, x: ctsa.Sphere().project(x, x[..., ::-1]), put(X, SPECS["both"]), [0.0, 0.5])
    lies(mine.xs, None, "batch", "tokens")
    refused(
        lambda: ctsa.integrate(lambda t, x: x * jnp.nan, put(X, SPECS["both"]), [0.0, 1.0]),
        ValueError,
        "nan or inf at x0",
    )


# --------------------------------------------------------------------------------------------------------------- the ring
def kinds():
    q, k, v = RNG.normal(size=(3, 2, 3, 3))
    mask = (RNG.uniform(size=(20, 20)) > 0.5) * RNG.uniform(size=(20, 20)) + np.eye(20)
    r = RNG.normal(size=(2, 3))
    return dict(
        heads=dict(query=q, key=k, value=v, beta=[1.0, 2.0]), heads_of_values=dict(value=v),
        heads_of_keys=dict(query=q[0], key=k[0], key_field=r), far=dict(beta=700.0, mask="causal"),
        unnormalised=dict(weights="unnormalised", query=q[0], key=k[0], mask="causal"),
        linear=dict(weights="linear", query=q, key=k), l2=dict(weights="l2", query=q, key=k),
        masked=dict(mask=mask, beta=2.0), heads_of_masks=dict(mask=np.stack([mask, mask.T]), weights="sigmoid"),
    )  # fmt: skip


def check_the_ring():
    """Values, derivatives along directions, and gradients of all weights: those of the whole matrix."""
    x = ctsa.random_tokens(20, 3, seed=1, batch=(2,))
    u = RNG.normal(size=(2, 2, 20, 3))
    spread, moving = put(x, SPECS["both"]), put(u, P(None, "batch", "tokens"))

    def everything(field, x, u):
        y, dy = field.drift_tangent(0.0, x, u)
        return y, dy, jax.grad(lambda x: (field.drift(0.0, x) ** 3).sum())(x)

    few = ("heads", "far", "unnormalised", "l2", "heads_of_masks")
    for i, (name, kw) in enumerate(kinds().items()):
        if name not in few and not THOROUGH:
            continue
        whole, ours = (SelfAttention(**kw, how=how) for how in ("dense", "ring"))
        # some queries at a time, 2 of the 5 that are here, or all
        ring.BLOCK, ring.LEAST = (12, 2) if i % 2 else (2**18, 8)
        with jax.set_mesh(MESH):
            found = jax.jit(everything)(ours, spread, moving)
        for a, b, tol in zip(found, jax.jit(everything)(whole, x, u), (1e-13, 1e-12, 1e-12), strict=True):
            assert np.isfinite(np.asarray(a)).all(), name
            close(a, b, tol)
        lies(found[0], "batch", "tokens")
    ring.BLOCK, ring.LEAST = 2**18, 8


def check_flows_round_the_ring():
    field = SelfAttention(beta=4.0, value=np.diag([3.0, 2.0, 1.0]), how="ring")
    with jax.set_mesh(MESH):
        run = ctsa.integrate(field, put(X, SPECS["tokens"]), [0.0, 0.5, 1.0])
        lies(run.xs, None, None, "tokens")
        close(run.xs, ctsa.integrate(FIELD, X, [0.0, 0.5, 1.0]).xs)
        path = ctsa.iterate(EulerLayer(field, 0.1), X, 3)  # NumPy, which goes to the devices of the mesh
        close(path.xs, ctsa.iterate(EulerLayer(FIELD, 0.1), X, 3).xs)


def check_what_the_ring_refuses():
    field = SelfAttention(how="ring")
    refused(
        lambda: field(0.0, X), ValueError, "how='ring' needs a mesh of devices with an axis 'tokens' in use, got none"
    )
    with jax.set_mesh(jax.make_mesh((8,), ("b",), axis_types=AUTO[:1])):
        refused(lambda: field(0.0, X), ValueError, r"with an axis 'tokens' in use, got axes \('b',\)")
    with jax.set_mesh(MESH):
        refused(lambda: field(0.0, X[:, :6]), ValueError, "spreads n=6 tokens over 4 devices evenly: take a multiple")
        close(SelfAttention()(0.0, X[:, :6]), SelfAttention(how="dense")(0.0, X[:, :6]))  # auto does without


def check_the_ring_is_found():
    """Where a mesh in use spreads tokens, "auto" takes it, and its program has no matrix of scores.

    The last, as it forgets what was compiled.
    """
    x = put(ctsa.random_tokens(1024, 3, seed=1), P("tokens"))
    field = SelfAttention(beta=2.0)

    def compiled(field):
        return jax.jit(lambda x: field.drift(0.0, x)).lower(x).compile()

    with jax.set_mesh(MESH):
        ours, named = compiled(field), compiled(SelfAttention(beta=2.0, how="ring"))
        jax.clear_caches()
    dense = compiled(SelfAttention(beta=2.0, how="dense"))
    for program in (ours, named):
        text = program.as_text()
        assert "collective-permute" in text and "all-gather" not in text and "1024,1024" not in text
        assert not re.search(r"\[(1024,256|256,1024)\]", text)
    block = 8 * 256 * 256
    assert named.memory_analysis().temp_size_in_bytes < 3 * block < dense.memory_analysis().temp_size_in_bytes
    close(ours(x), field.drift(0.0, np.asarray(x)))


if __name__ == "__main__":
    assert len(jax.devices()) == 8
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            began = time.process_time()
            check()
            print(f"{name} {time.process_time() - began:.1f} s", file=sys.stderr)
    print("all is well")
