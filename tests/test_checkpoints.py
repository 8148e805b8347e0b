"""Runs kept in a file: to the same bits after any stop, whole at any moment, and never mistaken for one another."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ctsa
from ctsa.results import Checkpoint, Identity, RunState

ARRAYS = {
    "weights": np.random.default_rng(0).normal(size=(3, 4)),
    "layer.0/bias": np.float32([np.nan, np.inf, -0.0, 1e-45]),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "step": np.array(7),
    "none": np.zeros((0, 2), np.complex128),
    "flags": np.array([True, False]),
    "words": np.array(["a", "ß"]),
    "file": np.int8([-1]),
}


def forbidden(*args, **kwargs):
    raise AssertionError("written")


# ----------------------------------------------------------------------------------------------------------- what is kept
def test_bits_types_and_names_come_back(tmp_path):
    rng = np.random.default_rng(3)
    values = {"step": 2**80, "rate": 0.1 + 0.2, "rng": rng.bit_generator.state, "more": {"a": [1, None, "x", True]}}
    part = ctsa.Trajectory(np.arange(2.0), np.ones((2, 1, 3)), {"steps": 3})
    Checkpoint(tmp_path / "run", "training").save(ARRAYS, values, parts=[part])
    state = Checkpoint(tmp_path / "run", "training").load("weights", "step")
    assert list(state.arrays) == list(ARRAYS) and state.values == values
    for name, a in ARRAYS.items():
        b = state.arrays[name]
        assert (b.dtype, b.shape) == (a.dtype, a.shape) and b.tobytes("A") == a.tobytes("A"), name
    assert state.parts[0].stats == {"steps": 3} and np.array_equal(state.parts[0].xs, part.xs)
    again = np.random.default_rng()
    again.bit_generator.state = state.values["rng"]
    assert np.array_equal(again.normal(size=5), rng.normal(size=5))
    back = ctsa.load(tmp_path / "run.npz")
    assert isinstance(back, RunState) and "weights (3, 4)" in repr(back) and "float32 (4,)" in back.table()
    with np.load(tmp_path / "run.npz") as file:
        assert np.array_equal(file["arrays/weights"], ARRAYS["weights"])


def test_arrays_of_any_framework(torch_face, jax_face, tmp_path):
    for face in (torch_face, jax_face):
        kept = Checkpoint(tmp_path / face.name, "training")
        kept.save({"w": face.array([[1.0, 2.0]])}, {"rate": np.float64(0.5)})
        assert kept.load().arrays["w"].tolist() == [[1.0, 2.0]] and kept.load().values == {"rate": 0.5}


def test_what_cannot_be_kept(jax_face, tmp_path):
    import jax.numpy as jnp

    kept = Checkpoint(tmp_path / "run", "training")
    with kept:
        for bad in ([None, "a"], jnp.zeros(2, jnp.bfloat16)):
            with pytest.raises(TypeError, match="cannot keep the array 'w' of type .*: convert it"):
                kept.offer({"w": bad})
        with pytest.raises(TypeError, match="a result cannot keep a object"):
            kept.save({}, {"what": object()})
    assert not list(tmp_path.iterdir())


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Checkpoint(None, "training", every=0.0)
    with kept:
        kept.offer(ARRAYS)
        kept.save(ARRAYS)
    assert kept.load() is None and not kept.due and not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------------- when
def test_when_it_is_written(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path = tmp_path / "run.npz"
    kept, other = Checkpoint(path, "count", every=10.0), Checkpoint(path, "count")
    x = lambda: other.load().values["i"]  # noqa: E731
    with kept:
        for i, (later, there) in enumerate([(0, None), (9.9, None), (0.2, 2), (9, 2), (0.9, 2), (0.2, 5)]):
            now[0] += later
            kept.offer({}, {"i": i})
            assert (x() if path.exists() else None) == there, i
        kept.save({}, {"i": 6})
        assert x() == 6
        kept.offer({}, {"i": 7})
        assert x() == 6
    assert x() == 7  # on the way out
    before = path.stat().st_mtime_ns
    with kept:
        pass
    assert path.stat().st_mtime_ns == before  # nothing new


def test_writing_takes_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    now, save = [0.0], RunState.save
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(RunState, "save", lambda self, path: (now.__setitem__(0, now[0] + 2.0), save(self, path)))
    kept, written = Checkpoint(tmp_path / "run", "count", every=0.5), 0
    while now[0] < 200.0:
        now[0] += 0.1
        written += kept.due
        kept.offer({})
    assert written == 10


def test_an_error_leaves_what_was_offered_last(tmp_path):
    kept = Checkpoint(tmp_path / "run", "count", every=1e9)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), kept:
            kept.offer({}, {"i": error.__name__})
            raise error
        assert kept.load().values == {"i": error.__name__}


# ----------------------------------------------------------------------------------------------------- whole at any moment
@pytest.mark.parametrize("where", ["savez", "fsync", "replace"])
def test_an_interrupt_while_writing(tmp_path, monkeypatch, where):
    """Ctrl-C halfway: the old file stays, and the new one is written on the way out unless that is interrupted as well."""
    owner = np if where == "savez" else os
    plain, left = getattr(owner, where), [0]

    def interrupted(*args, **kwargs):
        left[0] -= 1
        if left[0] >= 0:
            if where == "savez":
                args[0].write(b"PK half a file")
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, where, interrupted)
    kept = Checkpoint(tmp_path / "run", "count", every=0.0)
    kept.save({}, {"i": 0})
    for times, there in ((1, 1), (2, 1)):
        left[0] = times
        with pytest.raises(KeyboardInterrupt), kept:
            kept.save({}, {"i": times})
        assert kept.load().values == {"i": there} and [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_disk_that_is_full(tmp_path):
    """A real limit of the system, in the middle of an array."""
    path = tmp_path / "run.npz"
    kept = Checkpoint(path, "count", every=0.0)
    kept.save({}, {"i": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError, match=r"checkpoint .*run.npz could not be written \(File too large\)") as caught, kept:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
        try:
            kept.save({"x": np.zeros(2**17)}, {"i": 1})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG and isinstance(caught.value.__cause__, OSError)
    assert kept.load().values == {"i": 0} and [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    with kept:
        kept.offer({}, {"i": 2})  # there is room again
    assert kept.load().values == {"i": 2}


def test_a_spectrum_on_a_full_disk(torch_face, tmp_path, monkeypatch):
    """It ends with a word that says so; what the file held goes on to the same bits."""
    field, path = torch_face.SelfAttention(), tmp_path / "run.npz"
    x0, options = ctsa.random_tokens(3, 3), dict(intervals=6, transient=2, count=2)
    whole = ctsa.lyapunov_spectrum(field, x0, **options)
    ctsa.lyapunov_spectrum(field, x0, **options | {"intervals": 2}, checkpoint=path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="could not be written .No space left on device.; a file that was there holds"):
            ctsa.lyapunov_spectrum(field, x0, **options, checkpoint=path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    assert np.array_equal(ctsa.lyapunov_spectrum(field, x0, **options, checkpoint=path).history, whole.history)


# ------------------------------------------------------------------------------------------------------- what is refused
class Opaque:
    """Nothing can look into it."""

    __slots__ = ()

    def __reduce_ex__(self, protocol):
        raise TypeError


def test_other_runs_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    who = Identity(settings={"rate": 0.1}, data=np.arange(3))
    Checkpoint(path, "training", who).save({"w": np.ones(2)})
    kept = path.read_bytes()
    refused = {
        "another settings": Checkpoint(path, "training", Identity(settings={"rate": 0.2}, data=np.arange(3))),
        "another data": Checkpoint(path, "training", Identity(settings={"rate": 0.1}, data=np.arange(4))),
        "another settings and another data": Checkpoint(path, "training", Identity(settings=1, data=2)),
        "holds a run of training, not of basins: choose another path": Checkpoint(path, "basins", who),
    }
    for words, other in refused.items():
        with pytest.raises(ValueError, match=words):
            other.load()
        for write in (other.save, other.offer):  # nobody has asked what lies there
            other.every, other._next, other._seen = 0.0, 0.0, False
            with pytest.raises(ValueError, match=words):
                write({})
    assert path.read_bytes() == kept
    assert Checkpoint(path, "training").load().arrays["w"].tolist() == [1.0, 1.0]  # who does not say which, is not asked
    with pytest.raises(ValueError, match="lacks moments, rows: it comes from another version"):
        Checkpoint(path, "training", who).load("w", "moments", "rows")


def test_what_cannot_be_told_apart_is_refused(tmp_path):
    path, dark = tmp_path / "run.npz", Identity(model=Opaque())
    with pytest.raises(ValueError, match="model .a .*Opaque. cannot be looked into; .* allow_unverified"):
        Checkpoint(path, "training", dark)
    Checkpoint(path, "training").save({})
    with pytest.raises(ValueError, match="does not say which run it comes from"):
        Checkpoint(path, "training", Identity(model=1)).load()
    assert Checkpoint(path, "training", dark, allow_unverified=True).load() is not None


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    kept = Checkpoint(path, "training")
    for content, words in ((b"half a file", "not a file saved by ctsa, or is damaged"), (b"PK", "damaged")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            kept.load()
    ctsa.Trajectory(np.zeros(1), np.ones((1, 1, 3)), {}).save(path)
    with pytest.raises(ValueError, match="holds a Trajectory: choose another path"):
        kept.load()
    with pytest.raises(FileNotFoundError, match="the folder .*nowhere does not exist"):
        Checkpoint(tmp_path / "nowhere" / "run", "training")
    with pytest.raises(TypeError, match="checkpoint must be a string or a pathlib.Path, got int"):
        Checkpoint(3, "training")


# --------------------------------------------------------------------------------------------------------------- training
def trained(steps, path, stop=None):
    """Fit a matrix by stochastic gradients with momentum; ``stop`` breaks off in the middle of that step."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(40, 3))
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(0.1), model.bias.zero_()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    kept, begun, seen = Checkpoint(path, "training", Identity(data=data, rate=0.1), every=0.0), 0, []
    state = kept.load("weight", "bias")
    if state is not None:
        model.load_state_dict({name: torch.as_tensor(state.arrays[name]) for name in ("weight", "bias")})
        for name, p in model.named_parameters():
            optimiser.state[p]["momentum_buffer"] = torch.as_tensor(state.arrays[f"momentum.{name}"])
        begun, seen, rng.bit_generator.state = (state.values[name] for name in ("step", "losses", "rng"))
    with kept:
        for step in range(begun, steps):
            batch = torch.as_tensor(data[rng.integers(40, size=5)])
            optimiser.zero_grad()
            loss = ((model(batch) - batch[:, :2]) ** 2).mean()
            loss.backward()
            optimiser.step()
            seen.append(loss.item())
            if step == stop:
                raise KeyboardInterrupt
            if kept.due:
                arrays = {name: p.detach().numpy() for name, p in model.named_parameters()}
                arrays |= {f"momentum.{n}": optimiser.state[p]["momentum_buffer"] for n, p in model.named_parameters()}
                kept.save(arrays, {"step": step + 1, "losses": seen, "rng": rng.bit_generator.state})
    return seen, model.weight.detach().numpy()


def test_training_goes_on_to_the_same_bits(tmp_path):
    losses, weight = trained(25, None)
    for stop in (0, 7, 20):
        with pytest.raises(KeyboardInterrupt):
            trained(25, tmp_path / "run", stop)
    again, found = trained(25, tmp_path / "run")
    assert again == losses and np.array_equal(found, weight) and losses[-1] < 0.5 * losses[0]


# ----------------------------------------------------------------------------------------------------------------- killed
KILLED = textwrap.dedent("""
    import sys, os, signal
    sys.path.insert(0, sys.argv[2])
    import torch
    torch.set_num_threads(1)
    import ctsa.torch
    from ctsa.results import checkpoints
    from test_checkpoints import RUNS

    inner = checkpoints.Checkpoint.__init__
    checkpoints.Checkpoint.__init__ = lambda self, *a, **k: inner(self, *a, **{**k, "every": 0.0})
    rename, written = os.replace, []

    def dying(old, new):
        written.append(new)
        if len(written) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(old, new)

    os.replace = dying
    RUNS[sys.argv[1]](ctsa.torch, sys.argv[3])
    print("finished")
""")


def spectrum_of(face, path):
    x0 = ctsa.random_tokens(3, 3, seed=1)
    return ctsa.lyapunov_spectrum(face.SelfAttention(), x0, intervals=1000, transient=2, count=2, checkpoint=path)


def basins_of(face, path):
    a = np.diag([3.0, 1.0])
    return ctsa.basins(face.SelfAttention(key=a, value=a, beta=4.0), 60, n=4, d=2, batch=3, checkpoint=path)


RUNS = {"lyapunov_spectrum": spectrum_of, "basins": basins_of}


def counted(state):
    return len(state.arrays["history"]) if state.run == "lyapunov_spectrum" else int(state.arrays["rounds"].sum())


def test_what_was_left_half_written_is_swept_away(tmp_path):
    names = ["run.npz.part", f"run.npz.{'0a' * 16}.part", f"run.npz.{'0b' * 16}.part", f"other.npz.{'0a' * 16}.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0) if "0b" not in name else None)  # that one may still be written
    Checkpoint(tmp_path / "run", "count").load()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([names[0], *names[2:]])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_killed_runs_go_on_to_the_same_bits(torch_face, name, tmp_path):
    """SIGKILL in the middle of the fourth writing; the file is that of the third."""
    path = tmp_path / "run.npz"
    command = [sys.executable, "-c", KILLED, name, str(Path(__file__).parent), str(path)]
    process = subprocess.run(command, stdout=subprocess.PIPE, timeout=300)
    assert not process.stdout and process.returncode == -signal.SIGKILL
    reached = counted(ctsa.load(path))
    found, whole = RUNS[name](torch_face, path), RUNS[name](torch_face, None)
    assert 0 < reached < counted(ctsa.load(path))
    for key in ("history", "x", "frame") if name == "lyapunov_spectrum" else ("ends", "kind_index", "growth", "times"):
        assert np.array_equal(getattr(found, key), getattr(whole, key), equal_nan=True), key
