"""JAX: arrays that are spread over several devices, and blocks that go round among them."""

import jax
import jax.numpy as xp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "tokens"  # the axis of a mesh along which tokens are spread

_EXPLICIT = (
    "{what} has axes of type Explicit, for which every product must say where its result lies: make the mesh with "
    "jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,) * {count})"
)


def spread(x):
    """Tell whether an array of known values is spread over, or copied to, several devices."""
    return not isinstance(x, jax.core.Tracer) and isinstance(x, jax.Array) and len(x.sharding.device_set) > 1


def automatic(x, name):
    """Return an array where XLA says what lies where: the same memory, on the same devices of a mesh of automatic axes.

    Raises:
        ValueError: values are traced, or the mesh in use has explicit axes, so that they stay.
    """
    around = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit in around.axis_types:
        raise ValueError(_EXPLICIT.format(what="the mesh in use (jax.set_mesh)", count=len(around.axis_names)))
    if not isinstance(x, jax.Array):
        return x
    if isinstance(x, jax.core.Tracer):
        mesh = getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None)
        if mesh is not None and AxisType.Explicit in mesh.axis_types:
            raise ValueError(_EXPLICIT.format(what=f"the mesh of {name}, which is traced,", count=len(mesh.axis_names)))
        return x
    mesh = getattr(x.sharding, "mesh", None)
    if mesh is None or AxisType.Explicit not in mesh.axis_types:
        return x
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    return jax.device_put(x, NamedSharding(mesh, x.sharding.spec, memory_kind=x.sharding.memory_kind))


def parts():
    """Return over how many devices the mesh in use spreads tokens; 1 without one."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)


def around(start, absorb, finish, side):
    """Return what ``finish`` makes of sums over all keys, which go round in blocks; see ``ctsa.attention.ring``.

    Args:
        start: ``start(side)``, sums over no keys.
        absorb: ``absorb(sums, side, rows, columns)``, sums with a block more.
        finish: of the sums.
        side: ``(q, key, v, column, mask, causal)``; tokens are the axis -2.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names:
        raise ValueError(
            f"how='ring' needs a mesh of devices with an axis {AXIS!r} in use, got "
            f"{'none' if mesh.empty else f'axes {mesh.axis_names}'}: with jax.set_mesh(mesh): ..., or use "
            "how='chunked'"
        )
    count, n = mesh.shape[AXIS], side.key.shape[-2]
    if n % count:
        raise ValueError(
            f"how='ring' spreads n={n} tokens over {count} devices evenly: take a multiple, or how='chunked'"
        )
    kind, causal = type(side), side.causal
    arrays = {name: a for name, a in side._asdict().items() if name != "causal" and a is not None}
    absent = {name: None for name, a in side._asdict().items() if name != "causal" and a is None}
    here = n // count

    def local(arrays):
        me = jax.lax.axis_index(AXIS)
        rows = me * here + xp.arange(here)
        moving = {name: arrays[name] for name in ("key", "v", "column") if name in arrays}

        def step(carry, _):
            sums, moving, origin = carry
            columns = origin * here + xp.arange(here)
            given = {"q": arrays["q"], **moving}
            if "mask" in arrays:
                given["mask"] = jax.lax.dynamic_slice_in_dim(arrays["mask"], origin * here, here, -1)
            sums = absorb(sums, kind(**given, **absent, causal=causal), rows, columns)
            moving = {
                k: jax.lax.ppermute(a, AXIS, [(i, (i + 1) % count) for i in range(count)]) for k, a in moving.items()
            }
            return (sums, moving, (origin - 1) % count), None

        carry = (start(kind(**arrays, **absent, causal=causal)), moving, me)
        (sums, _, _), _ = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), carry, None, length=count)
        return finish(sums)

    spec = {name: PartitionSpec(*[None] * (a.ndim - 2), AXIS, None) for name, a in arrays.items()}
    out = max(arrays[name].ndim for name in ("q", "key", "v"))
    there = PartitionSpec(*[None] * (out - 2), AXIS, None)
    if "mask" in arrays:
        arrays["mask"] = jax.lax.stop_gradient(arrays["mask"])
    return jax.shard_map(local, in_specs=(spec,), out_specs=there, axis_names={AXIS}, check_vma=False)(arrays)
