"""Basins of layers: bistable maps with known boundaries, cycles, escape, noise floors, checkpoints."""

import numpy as np
import pytest
from sampling import mainly

import ctsa
from ctsa.ensembles import _layers

FLAT = ctsa.Euclidean()


def bistable(x):
    """Fixed points -1 and 1; the one between them, 0.3, is the boundary: the map increases in (-2, 2)."""
    return x - 0.1 * (x + 1) * (x - 0.3) * (x - 1)


def logistic(r):
    return lambda x: r * x * (1 - x)


def column(face, values, dtype="float64"):
    return face.array(np.asarray(values, dtype=float).reshape(-1, 1, 1), dtype)


@mainly("torch")
def test_two_basins_with_a_known_boundary(face, close):
    starts = np.linspace(-1.5, 1.5, 61) + 0.01
    found = ctsa.basins(bistable, column(face, starts), geometry=FLAT)
    assert found.counts() == {"fixed point #0": int((starts < 0.3).sum()), "fixed point #1": int((starts > 0.3).sum())}
    assert (found.attractor == (starts > 0.3)).all() and set(found.stability) == {"stable"}
    close(found.ends.ravel(), np.where(starts > 0.3, 1.0, -1.0), 1e-13)
    close(found.growth, np.log(1 - 0.1 * np.where(starts > 0.3, 1.4, 2.6)), 1e-9)
    assert found.share("fixed point #0")[0] == (starts < 0.3).mean() and (found.period == 1).all()


def test_a_start_on_the_boundary_is_unstable(torch_face):
    found = ctsa.basins(bistable, column(torch_face, [0.3, 0.5]), duration=200, geometry=FLAT)
    assert found.labels().tolist() == ["fixed point #0 (unstable)", "fixed point #1"]


@pytest.mark.parametrize(("r", "period"), [(2.9, 1), (3.2, 2), (3.5, 4), (3.83, 3)])
def test_cycles(torch_face, r, period):
    found = ctsa.basins(logistic(r), column(torch_face, np.linspace(0.06, 0.94, 11)), geometry=FLAT)
    name = "fixed point" if period == 1 else f"cycle of period {period}"
    assert found.counts() == {name: 11}
    assert np.ptp(found.ends) < 1e-12  # wherever a start enters a cycle, one of its states is named
    assert np.ptp(found.growth) < 1e-9 and (found.growth < 0).all()


def test_chaos_and_escape(torch_face):
    found = ctsa.basins(logistic(3.9), column(torch_face, [0.2, 0.3, 1.5, -0.5]), duration=300, geometry=FLAT)
    assert found.kind.tolist() == ["unresolved", "unresolved", "escaped", "escaped"]
    without = ctsa.basins(logistic(2.9), column(torch_face, [0.2, 1.5]), verify=False, geometry=FLAT)
    assert without.kind.tolist() == ["fixed point", "escaped"] and set(without.stability) == {"unknown"}


def test_a_slow_passage_is_no_limit(torch_face):
    """The ghost of a fold: steps of 1e-4 for hundreds of loops, then away."""
    found = ctsa.basins(lambda x: x + x * x + 1e-4, column(torch_face, [-0.5, -0.1]), duration=200, geometry=FLAT)
    assert set(found.kind) == {"unresolved"}


@mainly("torch")
def test_steps_of_attention(face):
    """Of consensus and bipartite consensus one of each class stands for all, as for the flow."""
    v = np.diag([3.0, 2.0, 1.0])
    field = face.SelfAttention(key=v, value=v, beta=2.0)
    layer, flow = (
        ctsa.basins(system, 20, n=4, d=3, seed=1, duration=time)
        for system, time in ((ctsa.EulerLayer(field, 0.2), 1000), (field, 200.0))
    )
    assert layer.resolved.all() and (layer.stability_index == 0).all()
    same = (layer.sizes == flow.sizes).all(1)
    assert same.mean() > 0.8  # a few starts near a boundary may change sides with the step
    assert len(layer.counts()) == len({tuple(s) for s in layer.sizes.tolist()})


def test_single_precision(face):
    starts = np.linspace(-1.5, 1.5, 20)
    found = ctsa.basins(bistable, column(face, starts, "float32"), geometry=FLAT)
    assert (found.attractor == (starts > 0.3)).all()


def test_frameworks_agree(torch_face, jax_face, close):
    runs = [ctsa.basins(logistic(3.5), column(f, np.linspace(0.1, 0.9, 5)), geometry=FLAT) for f in (torch_face, jax_face)]
    assert runs[0].labels().tolist() == runs[1].labels().tolist()
    close(runs[0].ends, runs[1].ends, 1e-12)


def test_a_checkpoint_continues(torch_face, tmp_path, monkeypatch):
    starts, path = column(torch_face, np.linspace(0.05, 0.95, 12)), tmp_path / "run.npz"
    setting = dict(batch=4, duration=300, geometry=FLAT)
    whole = ctsa.basins(logistic(3.9), starts, **setting)
    advance, done = _layers.LayerRun._round, []

    def interrupted(self, *args):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        return advance(self, *args)

    monkeypatch.setattr(_layers.LayerRun, "_round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ctsa.basins(logistic(3.9), starts, checkpoint=path, **setting)
    monkeypatch.setattr(_layers.LayerRun, "_round", lambda self, *a: (done.append(1), advance(self, *a)))
    again = ctsa.basins(logistic(3.9), starts, checkpoint=path, **setting)
    assert len(done) < 3 * 6 + 1  # four rounds of batches of four were not done again
    assert np.array_equal(again.ends, whole.ends) and again.labels().tolist() == whole.labels().tolist()
    with pytest.raises(ValueError, match="another run"):
        ctsa.basins(logistic(3.8), starts, checkpoint=path, **setting)


def test_kept_and_drawn(torch_face, tmp_path):
    found = ctsa.basins(logistic(3.2), column(torch_face, [0.2, 0.4, 1.5]), geometry=FLAT)
    back = ctsa.load(found.save(tmp_path / "found.npz"))
    assert back.table() == found.table() and "cycle of period 2" in found.table()
    found.plot()
    ctsa.plot.equilibria.basin_shares({3.2: found})


def test_bad_input(torch_face):
    x = column(torch_face, [0.2])
    for wrong, text in (
        (dict(step=0.1), "step is for flows"), (dict(t=0.0), "t is for flows"), (dict(solver="rk4"), "solver is for flows"),
        (dict(duration=1.5), "duration is a number of loops"), (dict(period=0), "period must be"),
        (dict(rest=-1.0), "rest must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            ctsa.basins(logistic(3.2), x, geometry=FLAT, **wrong)
    with pytest.raises(ValueError, match=r"n must be given with a number of starts: basins\(layer, 5"):
        ctsa.basins(ctsa.EulerLayer(torch_face.SelfAttention(), 0.1), 5)
