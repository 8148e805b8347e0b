"""JAX: a step of an optimiser on a model, and its state as NumPy arrays."""

from functools import lru_cache, partial
from importlib import import_module

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


@lru_cache
def _transform(kind, decay):
    try:
        optax = import_module("optax")
    except ImportError as error:
        raise ImportError("training with JAX needs optax; run: pip install 'ctsa[training]'") from error
    if kind == "adamw":
        return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(decay))
    before = [optax.add_decayed_weights(decay)] if decay else []
    return optax.chain(*before, optax.scale_by_adam() if kind == "adam" else optax.identity())


def _cast(tree, kind):
    return jax.tree_util.tree_map(lambda a: a.astype(kind) if eqx.is_inexact_array(a) else a, tree)


def _norm(tree):
    return jnp.sqrt(sum(jnp.sum(a * a) for a in jax.tree_util.tree_leaves(tree)))


def _loss(objective, half, options, depth, data, rest, weights):
    model = eqx.combine(weights, rest)
    if half:
        model, data = _cast(model, jnp.bfloat16), _cast(data, jnp.bfloat16)
    terms = objective(model, data, depth, dict(options))
    total = sum(terms.values())
    return total.astype(jnp.float32) if half else total, terms


@eqx.filter_jit
def _advance(how, weights, average, state, rest, data, depth, rate, options):
    """Take one step; ``how`` is what does not change in a run: objective, transform, clip, factor of the average, half."""
    objective, transform, clip, past, half = how
    loss = partial(_loss, objective, half, options, depth, data, rest)
    (_, terms), grads = eqx.filter_value_and_grad(loss, has_aux=True)(weights)
    norm = _norm(grads)
    ok = jnp.isfinite(norm) & jnp.isfinite(sum(terms.values()))
    if clip is not None:
        scale = jnp.minimum(1.0, clip / (norm + 1e-6))
        grads = jax.tree_util.tree_map(lambda g: g * scale, grads)
    moves, new = transform.update(grads, state, weights)
    moved = jax.tree_util.tree_map(lambda w, m: w - (rate * m).astype(w.dtype), weights, moves)
    pick = partial(jax.tree_util.tree_map, lambda a, b: jnp.where(ok, a, b))
    moved, new = pick(moved, weights), pick(new, state)
    if average is not None:
        average = pick(jax.tree_util.tree_map(lambda a, w: a + (1 - past) * (w - a), average, moved), average)
    return moved, average, new, terms | {"gradient": norm}


class Trainer:
    """A model with its optimiser; ``objective(model, data, depth, options)`` gives scalars by name, summed to the loss."""

    def __init__(self, model, objective, kind, *, decay=0.0, clip=None, average=0.0, half=False, compiled=False):
        places = model.trained()
        spec = jax.tree_util.tree_map(lambda _: False, model)
        spec = eqx.tree_at(lambda m: [_at(m, path) for path in places], spec, [True] * len(places))
        self.weights, self.rest = eqx.partition(model, spec)
        transform = _transform(kind, decay)
        self.how = objective, transform, clip, average, half
        self.state = transform.init(self.weights)
        self.average = self.weights if average else None

    @property
    def model(self):
        """The model as it stands."""
        return eqx.combine(self.weights, self.rest)

    def step(self, data, depth, rate, options):
        """Move the parameters once; return the terms of the loss and the norm of the gradient, floats."""
        data = tuple(None if a is None else jnp.asarray(a) for a in data)
        frozen = tuple(sorted(options.items()))
        depth = jnp.asarray(depth) if options.get("varies") else depth
        self.weights, self.average, self.state, terms = _advance(
            self.how, self.weights, self.average, self.state, self.rest, data, depth, jnp.asarray(rate), frozen
        )
        return {name: float(value) for name, value in terms.items()}

    def averaged(self):
        """Return the model with averaged weights; with the weights themselves where none are averaged."""
        return eqx.combine(self.weights if self.average is None else self.average, self.rest)

    def _groups(self):
        return dict(weights=self.weights, average=self.average, optimiser=self.state)

    def arrays(self):
        """Return everything that a later step depends on, by name."""
        return {
            f"{name}.{i}": np.array(a)
            for name, tree in self._groups().items()
            for i, a in enumerate(jax.tree_util.tree_leaves(tree))
        }

    def trained(self):
        """Return which arrays of the model train."""
        return [".".join(map(str, path)) for path in self.model.trained()]

    def restore(self, arrays):
        """Take up what ``arrays`` returned."""
        back = {}
        for name, tree in self._groups().items():
            leaves, shape = jax.tree_util.tree_flatten(tree)
            leaves = [jnp.asarray(arrays[f"{name}.{i}"], a.dtype) for i, a in enumerate(leaves)]
            back[name] = jax.tree_util.tree_unflatten(shape, leaves)
        self.weights, self.average, self.state = back["weights"], back["average"], back["optimiser"]


def _at(tree, path):
    for name in path:
        tree = tree[name] if isinstance(name, int) else getattr(tree, name)
    return tree
