"""JAX: what is asked about modules, which are pytrees."""

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["named_parameters", "numbers", "reference", "restless", "traced", "with_number"]


def reference(field):
    """Return the first floating array in a field's pytree, or None."""
    for a in jax.tree_util.tree_leaves(field):
        if eqx.is_inexact_array(a):
            return a
    return None


def traced(thing):
    """Tell whether values of an array, or of the leaves of a pytree, are not known yet."""
    return any(isinstance(a, jax.core.Tracer) for a in jax.tree_util.tree_leaves(thing))


def restless(module, noise=True):
    """Say why every call of a module is another map; None: a pytree holds no state, and dropout wants a key."""
    return None


def named_parameters(module):
    """Return name and value of every floating array in a pytree."""
    flat, _ = jax.tree_util.tree_flatten_with_path(module)
    return [(jax.tree_util.keystr(path).lstrip("."), a) for path, a in flat if eqx.is_inexact_array(a)]


def _named(module):
    flat = jax.tree_util.tree_flatten_with_path(module)[0]
    return [(".".join(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in p), a) for p, a in flat]


def numbers(module):
    """Return the leaves of a module that are single floating numbers, by name."""
    if not isinstance(module, eqx.Module):
        return {}
    return {
        name: jnp.asarray(a, float if isinstance(a, float) else a.dtype).reshape(())
        for name, a in _named(module)
        if isinstance(a, float) or (eqx.is_inexact_array(a) and a.size == 1)
    }


def with_number(module, name, value):
    """Return the module with another value of one of its ``numbers``."""
    place = [key for key, _ in _named(module)].index(name)
    old = jax.tree_util.tree_leaves(module)[place]
    new = jnp.reshape(value, jnp.shape(old))
    return eqx.tree_at(lambda m: jax.tree_util.tree_leaves(m)[place], module, new)
