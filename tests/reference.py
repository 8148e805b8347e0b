"""The fields written out token by token in NumPy, from their equations, and a table of cases that all tests share."""

import math

import numpy as np

N, D, M, HEADS = 5, 4, 3, 2  # one set of sizes, so that JAX compiles every operation once


# ------------------------------------------------------------------------------------------------------- token by token
def head_of(array, h, rank):
    """The parameter of head ``h``: arrays of one more than ``rank`` axes have an axis of heads."""
    return None if array is None else np.asarray(array, float)[h] if np.ndim(array) > rank else np.asarray(array, float)


def weigh(s, mask, kind, iterations=50):
    """Weights of one head from its scores."""
    n = len(s)
    w = np.ones((n, n)) if mask is None else np.asarray(mask, float)
    a = np.zeros((n, n))
    if kind == "sinkhorn":
        a = w * np.exp(s - s.max())
        for _ in range(iterations):
            a = a / a.sum(0, keepdims=True)
            a = a / a.sum(1, keepdims=True)
        return a
    for i in range(n):
        seen = [j for j in range(n) if w[i, j] > 0]
        top = max(s[i, j] for j in seen)
        for j in seen:
            if kind in ("softmax", "l2"):
                a[i, j] = w[i, j] * math.exp(s[i, j] - top)
            elif kind == "hardmax":
                a[i, j] = w[i, j] * (s[i, j] >= top - 1e-12)
            elif kind == "unnormalised":
                a[i, j] = w[i, j] * math.exp(s[i, j]) / n
            elif kind == "linear":
                a[i, j] = w[i, j] * s[i, j] / n
            elif kind == "sigmoid":
                a[i, j] = w[i, j] / (1 + n * math.exp(-s[i, j]))
        if kind in ("softmax", "l2", "hardmax"):
            a[i] /= a[i].sum()
    return a


def attention(x, query=None, key=None, value=None, beta=1.0, weights="softmax", mask=None, key_field=None):
    """Weights (heads, n, n) and the output of attention (n, d) of one sample."""
    n, d = x.shape
    weights = getattr(weights, "name", weights)
    mask = np.tril(np.ones((n, n))) if isinstance(mask, str) else mask
    parts = ((query, 2), (key, 2), (value, 2), (beta, 0), (key_field, 1), (mask, 2))
    heads = max([len(a) for a, rank in parts if a is not None and np.ndim(a) > rank], default=1)
    every, out = [], np.zeros((n, d))
    for h in range(heads):
        q, k, v, b, r, w = (head_of(a, h, rank) for a, rank in parts)
        q, k, v = (np.eye(d) if a is None else a for a in (q, k, v))
        s = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                qi, kj = q @ x[i], k @ x[j]
                s[i, j] = -b * ((qi - kj) @ (qi - kj)) / 2 if weights == "l2" else b * (qi @ kj)
                if r is not None:
                    s[i, j] += b * (r @ x[j])
        a = weigh(s, w, weights)
        every.append(a)
        for i in range(n):
            out[i] += sum(a[i, j] * (v @ x[j]) for j in range(n))
    return np.stack(every), out


def oja(x, value):
    return np.stack([value @ (sum(x) / len(x)) for _ in x])


def rotation(x, omega=None, frequencies=None):
    out = np.zeros_like(x)
    for i, row in enumerate(x):
        if omega is not None:
            out[i] = (omega if omega.ndim == 2 else omega[i]) @ row
        else:
            f = frequencies if frequencies.ndim == 1 else frequencies[i]
            for c, w in enumerate(f):
                out[i, 2 * c], out[i, 2 * c + 1] = -w * row[2 * c + 1], w * row[2 * c]
    return out


def injection(x, input):
    return np.stack([input if input.ndim == 1 else input[i] for i in range(len(x))])


def perceptron(x, weight_in, weight_out, bias_in=None, bias_out=None, activation="tanh"):
    sigma = {
        "tanh": math.tanh,
        "relu": lambda z: max(z, 0.0),
        "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    }[activation]
    out = np.zeros_like(x)
    for i, row in enumerate(x):
        for j in range(len(weight_in)):
            out[i] += weight_out[:, j] * sigma(weight_in[j] @ row + (0 if bias_in is None else bias_in[j]))
        out[i] += 0 if bias_out is None else bias_out
    return out


DRIFTS = {
    "SelfAttention": lambda x, **kw: attention(x, **kw)[1],
    "Oja": oja,
    "Rotation": rotation,
    "Injection": injection,
    "Perceptron": perceptron,
}


def project(x, v, geometry=None):
    """Tangent projection, a group of channels at a time."""
    if type(geometry).__name__ == "Euclidean":
        return v
    size = getattr(geometry, "channels", None) or x.shape[-1]
    out = np.empty_like(v)
    for i in range(len(x)):
        for c in range(0, x.shape[-1], size):
            e, w = x[i, c : c + size], v[i, c : c + size]
            out[i, c : c + size] = w - (e @ w) * e
    return out


def velocity(kind, kwargs, x):
    """Velocity of the field ``kind(**kwargs)`` at ``x`` of any batch axes."""
    kwargs = dict(kwargs)
    geometry = kwargs.pop("geometry", None)
    flat = x.reshape(-1, *x.shape[-2:])
    return np.stack([project(e, DRIFTS[kind](e, **kwargs), geometry) for e in flat]).reshape(x.shape)


# ---------------------------------------------------------------------------------------------------------------- cases
def parameters(seed=0, *heads):
    """Random query, key (m, d) and value (d, d) of order-one scores, with leading axes ``heads``."""
    rng = np.random.default_rng(seed)
    shapes = dict(query=(M, D), key=(M, D), value=(D, D))
    return {name: rng.normal(size=(*heads, *shape)) for name, shape in shapes.items()}


def masks(seed=1):
    rng = np.random.default_rng(seed)
    some = rng.random((N, N)) < 0.5
    np.fill_diagonal(some, True)
    return {"none": None, "causal": "causal", "boolean": some, "weighted": rng.uniform(0.2, 3.0, size=(N, N))}


def antisymmetric(*shape):
    a = np.random.default_rng(2).normal(size=shape)
    return a - np.swapaxes(a, -1, -2)


def cases():
    """name -> (class, constructor arguments): all weights and masks, heads, geometries, and the other fields."""
    import ctsa
    from ctsa.attention.weights import WEIGHTS

    rng = np.random.default_rng(3)
    one, two = parameters(0), parameters(1, HEADS)
    key_field, key_fields = rng.normal(size=D), rng.normal(size=(HEADS, D))
    sphere2, sphere4, flat = ctsa.Sphere(channels=2), ctsa.Sphere(channels=4), ctsa.Euclidean()
    table = {}
    for kind in WEIGHTS:
        for name, mask in masks().items():
            if kind != "sinkhorn" or name in ("none", "weighted"):
                table[f"{kind}-{name}"] = ("SelfAttention", dict(**one, beta=0.7, weights=kind, mask=mask))
        table[f"{kind}-heads"] = (
            "SelfAttention",
            dict(**two, beta=np.array([0.5, 1.2]), weights=kind, key_field=key_fields, geometry=sphere2),
        )
    headed_mask = np.stack([masks()["boolean"], masks()["weighted"]])
    table |= {
        "identity": ("SelfAttention", dict(beta=2.0)),
        "negative-beta": ("SelfAttention", dict(**one, beta=-1.5)),
        "no-query": ("SelfAttention", dict(value=one["value"], key=rng.normal(size=(D, D)), beta=0.9)),
        "key-field": ("SelfAttention", dict(key_field=key_field, beta=1.5)),
        "shared-key-field": ("SelfAttention", dict(**two, key_field=key_field, beta=0.5, mask=headed_mask)),
        "beta-heads": ("SelfAttention", dict(beta=np.array([0.5, 2.0]), value=one["value"])),
        "mask-heads": ("SelfAttention", dict(beta=0.8, value=one["value"], mask=headed_mask)),
        "value-heads": ("SelfAttention", dict(value=two["value"], query=one["query"], key=one["key"], beta=0.6)),
        "heads-causal": ("SelfAttention", dict(**two, beta=0.7, mask="causal")),
        "channels-2": ("SelfAttention", dict(**one, geometry=sphere2)),
        "channels-4": ("SelfAttention", dict(**one, geometry=sphere4)),
        "euclidean": ("SelfAttention", dict(**one, geometry=flat)),
        "oja": ("Oja", dict(value=one["value"])),
        "oja-channels": ("Oja", dict(value=one["value"], geometry=sphere2)),
        "rotation": ("Rotation", dict(omega=antisymmetric(D, D))),
        "rotation-tokens": ("Rotation", dict(omega=antisymmetric(N, D, D), geometry=sphere2)),
        "frequencies": ("Rotation", dict(frequencies=rng.normal(size=D // 2), geometry=flat)),
        "frequencies-tokens": ("Rotation", dict(frequencies=rng.normal(size=(N, D // 2)), geometry=sphere2)),
        "injection": ("Injection", dict(input=rng.normal(size=(N, D)))),
        "injection-shared": ("Injection", dict(input=rng.normal(size=D), geometry=sphere2)),
        "injection-flat": ("Injection", dict(input=rng.normal(size=D), geometry=flat)),
    }
    wide = dict(weight_in=rng.normal(size=(6, D)), weight_out=rng.normal(size=(D, 6)))
    biases = dict(bias_in=rng.normal(size=6), bias_out=rng.normal(size=D))
    table |= {
        "tanh": ("Perceptron", wide),
        "tanh-biases": ("Perceptron", dict(**wide, **biases, geometry=sphere4)),
        "relu-biases": ("Perceptron", dict(**wide, **biases, activation="relu")),
        "gelu-biases": ("Perceptron", dict(**wide, **biases, activation="gelu", geometry=sphere2)),
        "gelu-flat": ("Perceptron", dict(**wide, **biases, activation="gelu", geometry=flat)),
    }
    return table


CASES = cases()


def state(case, *batch, seed=4):
    """Unit tokens for the geometry of a case, of shape (*batch, N, D)."""
    y = np.random.default_rng(seed).normal(size=(*batch, N, D))
    geometry = CASES[case][1].get("geometry")
    return y / np.linalg.norm(y, axis=-1, keepdims=True) if geometry is None else geometry.retract(y)
