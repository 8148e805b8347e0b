"""Results on disk: they come back whole, or say why not; nothing half-written is left; xarray; repr."""

import dataclasses
import json
import os
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ctsa
from ctsa.results.base import FORMAT

X = ctsa.random_tokens(3, 2, seed=1)
TS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def paths():
    """A trajectory of each framework, made once."""
    from conftest import FACES

    return {name: ctsa.integrate(face.SelfAttention(beta=2.0), X, TS) for name, face in FACES.items()}


@pytest.fixture
def saved(paths, tmp_path):
    return paths["torch"].save(tmp_path / "run")


def same(a, b):
    return (
        type(a) is type(b)
        and np.array_equal(np.asarray(a.ts), np.asarray(b.ts))
        and np.array_equal(np.asarray(a.xs), np.asarray(b.xs))
        and a.stats == b.stats
    )


# ----------------------------------------------------------------------------------------------------------- round trip
def test_round_trip(face, paths, tmp_path):
    traj = paths[face.name]
    path = traj.save(tmp_path / "run")
    assert path == tmp_path / "run.npz" and os.listdir(tmp_path) == ["run.npz"]
    back = ctsa.load(path)
    assert isinstance(back, ctsa.Trajectory) and isinstance(back.xs, np.ndarray) and isinstance(back.ts, np.ndarray)
    assert back.xs.dtype == back.ts.dtype == np.float64
    assert np.array_equal(back.xs, face.numpy(traj.xs)) and np.array_equal(back.ts, face.numpy(traj.ts))
    assert back.stats == traj.stats and {k: type(v) for k, v in back.stats.items()} == {
        k: type(v) for k, v in traj.stats.items()
    }
    assert repr(back) == repr(traj)
    again = ctsa.load(back.save(tmp_path / "again"))  # what was loaded saves and loads
    assert same(again, back)


@pytest.mark.parametrize("name, written", [
    ("run.npz", "run.npz"), ("beta=2.5", "beta=2.5.npz"), ("run.v2", "run.v2.npz"), ("läufe 1", "läufe 1.npz"),
])  # fmt: skip
def test_names(paths, tmp_path, name, written):
    assert paths["torch"].save(str(tmp_path / name)) == tmp_path / written
    assert same(ctsa.load(str(tmp_path / written)), ctsa.load(tmp_path / written))


def test_other_results(torch_face, jax_face, tmp_path):
    path = ctsa.iterate(torch_face.EulerLayer(torch_face.SelfAttention(), 0.1), X, depth=4)
    assert ctsa.load(path.save(tmp_path / "layers")).stats == {"layers": 4}
    single = ctsa.integrate(torch_face.SelfAttention(beta=np.float32(1)), X.astype(np.float32), TS, atol=1e-5)
    assert ctsa.load(single.save(tmp_path / "single")).xs.dtype == np.float32
    assert single.xs.requires_grad  # recorded derivatives do not hinder


def test_what_vmap_and_jit_return(jax_face, tmp_path):
    field = jax_face.Rotation(frequencies=[1.0])
    starts = jnp.asarray(ctsa.random_tokens(3, 2, seed=2, batch=(4,)))
    many = jax.jit(jax.vmap(lambda x: ctsa.integrate(field, x, TS)))(starts)
    back = ctsa.load(many.save(tmp_path / "many"))
    assert np.array_equal(back.xs, np.asarray(many.xs)) and back.xs.shape == (4, 3, 3, 2)
    assert back.stats["steps"] == many.stats["steps"].tolist()
    assert "[" not in repr(many) and "\n" not in repr(many)  # a line, however many runs
    counts = {"steps": jnp.arange(3, 6), "size": np.array([0.12345, 0.5]), "stopped": jnp.zeros(3, bool)}
    made = ctsa.Trajectory(np.zeros(1), X[None], counts)
    assert repr(made) == "Trajectory(xs: (1, 3, 2), steps=3...5, size=0.123...0.5, stopped=False)"
    seen = []
    jax.jit(lambda steps: seen.append(repr(ctsa.Trajectory(0, X, {"steps": steps}))))(counts["steps"])
    assert seen == ["Trajectory(xs: (3, 2), steps=(traced (3,)))"]
    data = many.to_xarray()
    assert data.xs.dims == ("sample_0", "time", "token", "component") and data.ts.dims == ("sample_0", "time")
    assert data.steps.dims == ("sample_0",) and data.steps.values.tolist() == many.stats["steps"].tolist()
    data.to_netcdf(tmp_path / "many.nc", engine="scipy")


def test_saving_over_an_older_file(paths, saved):
    older = ctsa.load(saved)
    half = dataclasses.replace(older, ts=older.ts[:2], xs=older.xs[:2])
    assert half.save(saved) == saved
    assert ctsa.load(saved).xs.shape == (2, 3, 2) and os.listdir(saved.parent) == ["run.npz"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_it(paths, saved):
    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o666 & ~umask


# ------------------------------------------------------------------------------------------------- failing to write
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("when", ["savez", "replace"])
def test_an_interrupted_save_leaves_the_old_file(paths, saved, monkeypatch, error, when):
    before = saved.read_bytes()

    def half_way(stream, **arrays):
        stream.write(b"half of it")
        raise error

    def refuse(*args):
        raise error

    monkeypatch.setattr(np, "savez", half_way) if when == "savez" else monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(type(error)):
        dataclasses.replace(paths["torch"], stats={}).save(saved)
    assert saved.read_bytes() == before and os.listdir(saved.parent) == ["run.npz"]


def test_folders_that_cannot_be_written(paths, tmp_path, saved):
    with pytest.raises(FileNotFoundError, match="the folder .*such does not exist: make it before writing folder"):
        paths["torch"].save(tmp_path / "no" / "such" / "folder")
    with pytest.raises(IsADirectoryError, match="path must name a file"):
        paths["torch"].save("")
    with pytest.raises(NotADirectoryError, match="run.npz is a file, not a folder"):
        paths["torch"].save(saved / "inside a file")
    assert os.listdir(tmp_path) == ["run.npz"]


# -------------------------------------------------------------------------------------------------- failing to read
def refused(path, *words):
    with pytest.raises(ValueError) as caught:
        ctsa.load(path)
    assert "pickle" not in str(caught.value)  # NumPy's advice to open it unsafely
    for word in (str(path), *words):
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file: .*run.npz"):
        ctsa.load(tmp_path / "run.npz")
    with pytest.raises(FileNotFoundError, match="is a folder: name a file in it$"):
        ctsa.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder .*nowhere does not exist"):
        ctsa.load(tmp_path / "nowhere" / "run.npz")
    (tmp_path / "run.npz").write_text("")
    with pytest.raises(FileNotFoundError, match=r"did you mean run.npz\?"):
        ctsa.load(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="name a file in it, as run.npz"):
        ctsa.load(tmp_path)


@pytest.mark.parametrize("path", [5, None, ["a"], b"run"])
def test_no_path(paths, path):
    for call in (ctsa.load, paths["torch"].save):
        with pytest.raises(TypeError, match=f"path must be a string or a pathlib.Path, got {type(path).__name__}"):
            call(path)


def test_damaged_files(saved):
    whole = saved.read_bytes()
    for length in (0, 1, 10, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        saved.write_bytes(whole[:length])
        refused(saved, "damaged")
    # A flipped bit anywhere is either refused or does no harm.
    for place in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        saved.write_bytes(bytes(flipped))
        try:
            back = ctsa.load(saved)
        except ValueError as error:
            assert str(saved) in str(error)
        else:
            saved.write_bytes(whole)
            assert same(back, ctsa.load(saved))


def test_foreign_files(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, xs=np.zeros(3))
    refused(path, "not a file saved by ctsa", "it has no header of ctsa, but the arrays xs: try numpy.load")
    path.write_text("just words")
    refused(path, "not a file saved by ctsa", "does not begin as an .npz file does")
    path.write_bytes(pickle.dumps({"xs": 1}))
    refused(path, "not a file saved by ctsa")
    np.save(tmp_path / "array.npy", np.zeros(3))
    refused(tmp_path / "array.npy", "not a file saved by ctsa")
    np.savez(path, __header__=np.array([{"ctsa": 1}], dtype=object))  # pickled: must not be opened
    refused(path, "not a file saved by ctsa", "holds Python objects, which are not opened")


GOOD = {"ctsa": FORMAT, "kind": "Trajectory", "values": {"stats": {}}, "parts": {}}
HEADERS = {
    "newer": ({**GOOD, "ctsa": 99}, "newer version"),
    "older": ({**GOOD, "ctsa": FORMAT - 1}, "older version of ctsa, whose files are no longer read"),
    "other kind": ({**GOOD, "kind": "Horoscope"}, "newer version"),
    "other kind inside": ({**GOOD, "parts": {"stats": [GOOD, {**GOOD, "kind": "Horoscope"}]}}, "newer version"),
    "no values": ({"ctsa": FORMAT, "kind": "Trajectory", "parts": {}}, "damaged"),
    "no parts": ({"ctsa": FORMAT, "kind": "Trajectory", "values": {"stats": {}}}, "damaged"),
    "no stats": ({**GOOD, "values": {}}, "damaged"),
    "too much": ({**GOOD, "values": {"stats": {}, "more": 1}}, "damaged"),
    "words for version": ({**GOOD, "ctsa": "one"}, "damaged"),
    "words for parts": ({**GOOD, "parts": "two"}, "damaged"),
    "list": ([1, 2, 3], "damaged"),
    "kind of another type": ({**GOOD, "kind": ["Trajectory"]}, "damaged"),
    "geometry of another kind": ({**GOOD, "values": {"stats": {"kept as": "geometry", "name": "Plate"}}}, "damaged"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tmp_path, case):
    header, words = HEADERS[case]
    path = tmp_path / "run.npz"
    np.savez(path, __header__=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), ts=np.zeros(1), xs=np.zeros(1))
    refused(path, words)


# ------------------------------------------------------------------------------------------------------------- values
def test_to_xarray(face, paths):
    pytest.importorskip("xarray")
    traj = paths[face.name]
    data = traj.to_xarray()
    assert data.xs.dims == ("time", "token", "component") and dict(data.sizes) == {"time": 3, "token": 3, "component": 2}
    assert np.array_equal(data.xs.values, face.numpy(traj.xs))
    assert "ts" in data.coords and data.ts.dims == ("time",) and data.ts.values.tolist() == TS
    assert data.attrs == traj.stats
    assert data.xs.isel(token=0, time=-1).shape == (2,)


def test_to_xarray_of_a_batch(torch_face):
    pytest.importorskip("xarray")
    starts = ctsa.random_tokens(3, 2, seed=2, batch=(4, 5))
    data = ctsa.integrate(torch_face.SelfAttention(), starts, TS).to_xarray()
    assert data.xs.dims == ("time", "batch_0", "batch_1", "token", "component") and data.ts.dims == ("time",)


def test_without_xarray(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match="pip install xarray"):
        paths["torch"].to_xarray()


def test_repr(face, paths):
    text = repr(paths[face.name])
    stats = paths[face.name].stats
    assert text.startswith("Trajectory(xs: (3, 3, 2), steps=") and "\n" not in text
    shown = f"evaluations={stats['evaluations']}, interpolated={stats['interpolated']}, "
    assert f"{shown}radius_error={stats['radius_error']:.3g}, stopped=False)" in text


def test_results_are_immutable(paths):
    with pytest.raises(dataclasses.FrozenInstanceError):
        paths["torch"].xs = None


def test_results_are_pytrees(paths):
    doubled = jax.tree_util.tree_map(lambda a: 2 * a, paths["jax"])
    assert isinstance(doubled, ctsa.Trajectory) and np.array_equal(doubled.xs, 2 * paths["jax"].xs)
    assert jax.jit(lambda traj: traj.xs[-1])(paths["jax"]).shape == (3, 2)


def test_torch_results_pickle(paths):
    back = pickle.loads(pickle.dumps(dataclasses.replace(paths["torch"], xs=paths["torch"].xs.detach())))
    assert torch.equal(back.xs, paths["torch"].xs) and back.stats == paths["torch"].stats
