"""Sweeps change no value on its way: what cannot be kept as it is, is refused or an error of its point."""

import numpy as np
import pytest

import ctsa

pytest.importorskip("zarr")
pytest.importorskip("xarray")


def swept(function, grid, **options):
    return ctsa.sweep(function, grid, workers=0, progress=False, **options)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([2**63 + 5, 2**63 + 7], ValueError),  # would come as negative ones
        ([1, 2**63 + 7], ValueError),
        ([2**53 + 1, 0.5], ValueError),  # would come as 2**53
        ([True, 2], TypeError),
        ([False, 2.5], TypeError),
        (["x\0", "y"], ValueError),  # NumPy drops the zero
        (["\udc80", "y"], ValueError),
        ({"x\0": 1}, ValueError),
    ],
)
def test_values_that_would_come_as_others_are_refused(values, error):
    with pytest.raises(error, match=r"grid\['a'\]"):
        swept(repr, {"a": values})


def test_values_that_can_be_kept_are():
    seen = swept(lambda a: repr(a), {"a": [2**63 - 1, -(2**63)]})
    assert seen["value"].values.tolist() == [str(2**63 - 1), str(-(2**63))]
    assert swept(lambda a: repr(a), {"a": [1, 2.5]})["value"].values.tolist() == ["1.0", "2.5"]
    assert swept(lambda a: repr(a), {"a": np.array([0.1], np.float32)})["value"].item() == repr(float(np.float32(0.1)))


@pytest.mark.parametrize(
    "returned",
    [
        {"a": 1, "a_": 2},  # the first would become a_, too
        {"x/y": 1, "x_y": 2},
        {"x": 1j, "x_real": 2},
        {1: 1, "1": 2},
    ],
)
def test_no_variable_hides_another(returned):
    data = swept(lambda a: returned, {"a": [1, 2]})
    assert all("two variables" in e for e in data["error"].values)


@pytest.mark.parametrize("name", ["", ".", "..", "zarr.json", "x" * 300, "\udc80"])
def test_names_that_no_array_can_have_are_errors_of_points(name):
    data = swept(lambda a: {name: 1.0} if a == 2 else {"x": 1.0}, {"a": [1, 2]})
    assert data["error"].values[0] == "" and "cannot name" in data["error"].values[1]
    with pytest.raises(TypeError, match="names of parameters"):
        swept(lambda **p: 1.0, {name: [1]})


def test_axes_and_variables_never_share_a_name():
    def many(a):
        axes = {"x": ("k", np.ones(3)), "y": ("k", np.ones(2)), "y_k": ("y_k", np.ones(4)), "z": ("y_k", np.ones(5))}
        return axes | {"u": ("a", np.ones(6)), "a_": np.ones(7)}

    data = swept(many, {"a": [1, 2]})
    assert {n: data[n].shape[1] for n in "xyzu"} | {n: data[n].shape[1] for n in ("y_k", "a_")} == {
        "x": 3, "y": 2, "y_k": 4, "z": 5, "u": 6, "a_": 7,
    }  # fmt: skip
    assert not set(data.dims) & set(data.data_vars) and set(data.coords) == {"a"}


def test_numbers_are_not_rounded_in_silence():
    data = swept(lambda a: {"v": a}, {"a": [2**53, 2**53 + 1, 2**60]})
    assert data["v"].values[[0, 2]].tolist() == [2.0**53, 2.0**60]
    assert "2**53" in data["error"].values[1] and np.isnan(data["v"].values[1])

    data = swept(lambda a: [a, 1], {"a": [2**53, 2**53 + 1]})
    assert data["value"].values[0].tolist() == [2.0**53, 1] and "2**53" in data["error"].values[1]

    several = [np.ones(2, np.float32), np.array([0.5, np.nan]), np.array([1 + 1e-12, 0]), np.array([1e300, 0])]
    data = swept(lambda a: several[a], {"a": [0, 1, 2, 3]})
    assert data["error"].values[1] == "" and all("float32" in e for e in data["error"].values[2:])


def test_text_that_cannot_be_written_fails_its_point_only():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def point(a):
        if a == 3:
            raise ValueError("\udc80\0")
        if a == 4:
            raise Mute
        return {"v": {0: "", 1: "ü→😀" * 999, 2: "\udc80", 5: "q\0"}[a]}

    data = swept(point, {"a": list(range(6))})
    assert data["v"].values.tolist() == ["", "ü→😀" * 999, "", "", "", ""]
    assert [e.partition(":")[0] for e in data["error"].values] == ["", "", *["ValueError"] * 2, "Mute", "ValueError"]


def test_labels_reach_a_batch_as_what_they_mean():
    def kinds(m, s):
        return {"kind": np.array([type(v).__name__ for v in m]), "sum": np.array([float(np.sum(v)) for v in m]) + s}

    data = swept(kinds, {"m": {"a": np.ones(2), "b": [3, 4]}, "s": [1, 2, 3]}, batched=True, batch=4)
    assert data["kind"].values.tolist() == [["ndarray"] * 3, ["list"] * 3]
    assert data["sum"].values.tolist() == [[3, 4, 5], [8, 9, 10]]


def test_a_first_point_that_says_nothing_fixes_nothing():
    data = swept(lambda a: {} if a == 0 else {"v": a}, {"a": [0, 1, 2]}, batch=1)
    assert not (data["error"] != "").any() and data["v"].values[1:].tolist() == [1, 2]


def test_one_call_at_a_time_writes(tmp_path):
    from ctsa.sweeps import run

    with run._alone(tmp_path / "sweep.zarr"), pytest.raises(BlockingIOError, match="another call of ctsa.sweep"):
        swept(abs, {"x": [1, 2]}, out=tmp_path)
    inner = []

    def point(x):
        with pytest.raises(BlockingIOError):
            swept(point, {"x": [1, 2]}, out=tmp_path)
        inner.append(x)
        return x

    assert swept(point, {"x": [1, 2]}, out=tmp_path, allow_unverified=True)["value"].values.tolist() == [1, 2]
    assert inner == [1, 2]


def test_another_precision_is_another_sweep(tmp_path):
    torch = pytest.importorskip("torch")

    def point(x):
        return float(torch.tensor(0.1) * x)

    first = swept(point, {"x": [1, 2]}, out=tmp_path)["value"].values
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match="torch_dtype = float32, and here it is float64"):
            swept(point, {"x": [1, 2]}, out=tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert swept(point, {"x": [1, 2]}, out=tmp_path)["value"].values.tolist() == first.tolist()


def test_workers_take_over_the_usual_type_too():
    """A worker that outlives a sweep in float64 counts in float32 in the next one."""
    torch = pytest.importorskip("torch")
    from ctsa.sweeps.work import Surroundings

    usual = Surroundings.here()
    try:
        Surroundings(dtype="float64").take_over()
        assert torch.get_default_dtype() == torch.float64
        Surroundings().take_over()  # a process without PyTorch says nothing
        assert torch.get_default_dtype() == torch.float64
        usual.take_over()
        assert torch.get_default_dtype() == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_whatever_a_point_raises_is_its_error():
    import asyncio

    def point(x):
        if x:
            raise [None, SystemExit, GeneratorExit, asyncio.CancelledError][x]("no")
        return 1.0

    errors = swept(point, {"x": [0, 1, 2, 3]})["error"].values.tolist()
    assert errors == ["", "SystemExit: no", "GeneratorExit: no", "CancelledError: no"]
    several = swept(lambda x: [point(int(i)) for i in x], {"x": [0, 1, 2, 3]}, batched=True)
    assert several["error"].values.tolist() == errors and several["value"].values[0] == 1.0
