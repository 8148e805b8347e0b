"""Wrong values by the kind of argument, as pairs (name of the fault, value)."""

import numpy as np


class Thing:
    """Nothing that anything could want."""

    def __repr__(self):
        return "Thing()"


def of_states(good, array, other):
    """Wrong states for a good one, NumPy ``(..., n, d)``."""
    good = np.asarray(good, dtype=float)
    spoilt = {name: good.copy() for name in ("nan", "inf", "zero token")}
    spoilt["nan"][..., 0, 0], spoilt["inf"][..., 0, 0], spoilt["zero token"][..., 0, :] = np.nan, np.inf, 0.0
    yield from [
        ("None", None),
        ("text", "abc"),
        ("number", 3.0),
        ("thing", Thing()),
        ("function", abs),
        ("ragged", [[1.0, 0.0], [1.0]]),
        ("one axis", array(np.ones(3))),
        ("no tokens", array(np.zeros((0, good.shape[-1])))),
        ("no components", array(np.zeros((3, 0)))),
        ("complex", good + 0j),
        ("integers", np.ones(good.shape, int)),
        ("other framework", other(good)),
    ]
    yield from ((name, array(a)) for name, a in spoilt.items())


def of_sphere(good, array, other):
    """States that are not unit, too."""
    yield from of_states(good, array, other)
    yield "not unit", array(2.0 * np.asarray(good))
    yield "unit to 1e-3", array((1 + 1e-3) * np.asarray(good))


def of_fitting(good, array, other):
    """States of other sizes, too, for what has fixed ones."""
    yield from of_sphere(good, array, other)
    yield "wrong d", array(np.eye(good.shape[-1] + 1)[: good.shape[-2]])


INTEGERS = [
    ("None", None),
    ("text", "a"),
    ("half", 1.5),
    ("negative", -1),
    ("nan", float("nan")),
    ("array", np.arange(3)),
    ("thing", Thing()),
]
COUNTS = [*INTEGERS, ("zero", 0), ("too many", 10**15)]
SEEDS = [kind for kind in INTEGERS if kind[0] != "array"]
NUMBERS = [
    ("None", None),
    ("text", "a"),
    ("nan", float("nan")),
    ("inf", float("inf")),
    ("list", [1.0, 2.0]),
    ("complex", 1j),
    ("thing", Thing()),
]
POSITIVE = [*NUMBERS, ("zero", 0.0), ("negative", -1.0)]
CHOICES = [("number", 3), ("nonsense", "nonsense"), ("thing", Thing()), ("list", ["a"])]
FLAGS = [("text", "no"), ("number", 2), ("list", [True])]
PATHS = [("number", 3.5), ("missing folder", "/nowhere/at/all/file.npz"), ("thing", Thing())]
TIMES = [
    ("None", None),
    ("text", "a"),
    ("number", 1.0),
    ("one", [0.0]),
    ("nan", [0.0, float("nan")]),
    ("again", [0.0, 0.0]),
    ("to and fro", [0.0, 1.0, 0.5]),
    ("two axes", np.zeros((2, 2))),
    ("complex", [0.0, 1j]),
    ("texts", ["a", "b"]),
]


def fields(array):
    """Wrong fields."""
    return [
        ("None", None),
        ("text", "abc"),
        ("number", 3),
        ("thing", Thing()),
        ("no arguments", lambda: 0),
        ("one argument", lambda x: x),
        ("three arguments", lambda t, x, y: x),
        ("returns None", lambda t, x: None),
        ("returns a number", lambda t, x: 1.0),
        ("other shape", lambda t, x: x[..., :1, :]),
        ("nan", lambda t, x: x * float("nan")),
        ("radial", lambda t, x: x),
    ]


def layers(array):
    """Wrong layers."""
    return [
        ("None", None),
        ("text", "abc"),
        ("number", 3),
        ("thing", Thing()),
        ("no arguments", lambda: 0),
        ("two arguments", lambda t, x: x),
        ("returns None", lambda x: None),
        ("returns a number", lambda x: 1.0),
        ("other shape", lambda x: x[..., :1, :]),
        ("nan", lambda x: x * float("nan")),
        ("leaves", lambda x: 2 * x),
        ("empty", []),
    ]


def matrices(shape):
    """Wrong parameters, for one of a shape."""
    return [
        ("text", "abc"),
        ("thing", Thing()),
        ("nan", np.full(shape, np.nan)),
        ("inf", np.full(shape, np.inf)),
        ("complex", np.ones(shape) * 1j),
        ("empty", np.zeros((0, *shape[1:]))),
        ("too many axes", np.ones((2, 2, 2, *shape))),
        ("ragged", [[1.0, 2.0], [1.0]]),
        ("texts", [["a"]]),
    ]
