"""Where random starts go: against closed forms, the census, counts measured once, and across frameworks."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sampling import mainly, sample
from scipy.linalg import expm
from scipy.optimize import linprog
from scipy.stats import binom

import ctsa
import ctsa.torch
from ctsa.ensembles import _rounds, _run as _basin_run
from ctsa.ensembles.basin_counts import KINDS, STABILITY

V = np.diag([3.0, 2.0, 1.0])
W = np.diag([2.0, 1.0, -3.0])
STARTS = ctsa.random_tokens(10, 3, seed=1, batch=(200,))  # other than those of the counts below (seed 0)
COLUMNS = [f.name for f in dataclasses.fields(ctsa.Basins) if f.name not in ctsa.Basins._static]


def make(face, matrix, beta):
    """Scores and values of one matrix."""
    return face.SelfAttention(key=matrix, value=matrix, beta=beta)


def torch_numpy(x):
    return x.detach().numpy()


def same(a, b):
    """Equal to the last bit."""
    for name in COLUMNS:
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True), name


# ---------------------------------------------------------------------------------------------------------- statistics
# Of 10,000 starts with seed 0.
COUNTED = [
    (V, 0.25, {"consensus on v0": 10_000}),
    (V, 1.0, {"bipartite consensus on v0": 8682, "consensus on v0": 1318}),
    (V, 4.0, {"bipartite consensus on v0": 9903, "consensus on v0": 97}),
    (W, 1.0, {
        "bipartite consensus on v2": 9051, "bipartite consensus on v0": 553, "consensus on v0": 395, "clustering": 1,
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ("matrix", "beta", "counted"), sample(COUNTED, lambda matrix, beta, _: beta == 1.0), ids=["V .25", "V 1", "V 4", "W 1"]
)
def test_shares_of_random_starts(face, matrix, beta, counted):
    found = ctsa.basins(make(face, matrix, beta), STARTS)
    counts = found.counts()
    assert set(counts) <= set(counted)
    for label, many in counted.items():
        low, high = binom.interval(0.9999, 200, many / 10_000)
        assert low <= counts.get(label, 0) <= high, label
    assert (found.stability == "stable").all() and found.resolved.all()
    assert found.speed.max() < 1e-12 and found.times.max() <= 50


def test_frameworks_agree(torch_face, jax_face):
    a, b = (ctsa.basins(make(face, W, 2.0), STARTS) for face in (torch_face, jax_face))
    for name in ("kind_index", "eigenvector", "sizes", "stability_index", "times"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert {"clustering", "bipartite consensus"} <= set(a.kind)
    assert np.abs(a.ends - b.ends).max() < 1e-9 and np.abs(a.growth - b.growth).max() < 1e-9


def test_growth_is_that_of_theory(torch_face):
    found = ctsa.basins(make(torch_face, V, 1.0), STARTS)
    sizes, k = found.sizes, found.eigenvector
    for row, growth in zip(sizes, found.growth, strict=True):
        if row[1]:
            known = ctsa.theory.bipartite_spectrum(V, V, 1.0, 0, int(row[0]), int(row[1]))
        else:
            known = ctsa.theory.consensus_spectrum(V, 0, 10)
        assert growth == pytest.approx(known.real.max(), abs=1e-9)
    assert (k == 0).all() and (sizes.sum(1) == 10).all() and np.array_equal(found.cluster_counts, (sizes > 0).sum(1))


# --------------------------------------------------------------------------------------------------------- exact limits
def test_single_tokens_go_to_the_principal_eigenvector(torch_face):
    """Oja's flow keeps the sign of the first component."""
    x0 = ctsa.random_tokens(1, 3, seed=2, batch=(300,))
    found = ctsa.basins(torch_face.Oja(V), x0)
    assert found.counts() == {"consensus on v0": 300}
    assert np.abs(found.ends[:, 0] - np.sign(x0[:, 0, :1]) * [1.0, 0.0, 0.0]).max() < 1e-9
    assert found.growth == pytest.approx(-1.0, abs=1e-9)  # lambda_2 - lambda_1


def test_a_hemisphere_meets_in_one_point(torch_face):
    """Q = K = V = I: tokens of an open hemisphere go to consensus inside their cone, whatever beta is."""
    x = ctsa.random_tokens(6, 3, seed=3, batch=(60,))
    bounds = [(-1, 1)] * 3 + [(None, None)]
    best = [linprog([0, 0, 0, -1.0], np.c_[-s, np.ones(6)], np.zeros(6), bounds=bounds) for s in x]
    inside = np.array([p.x[3] > 1e-3 for p in best])
    # Wendel: each lies in a hemisphere with a probability that is known.
    low, high = binom.interval(0.999, 60, ctsa.theory.hemisphere_probability(6, 3))
    assert low <= inside.sum() <= high
    found = ctsa.basins(torch_face.SelfAttention(beta=2.0), x[inside])
    assert set(found.labels()) == {"consensus on v0"} and (found.stability == "stable").all()
    w = np.array([p.x[:3] for p, ok in zip(best, inside, strict=True) if ok])
    assert (np.einsum("snd,sd->sn", found.ends, w) > 0).all()


@pytest.mark.parametrize(("matrix", "beta", "k"), sample([(V, 0.5, 0), (V, 0.5, 1), (W, 0.5, 2), (W, 1.0, 0)], 2))
def test_every_sign_vector_against_the_census(torch_face, matrix, beta, k):
    """All 1024 states on an eigenvector rest at once; their Jacobians count the stable ones as the formulas do."""
    signs = np.array(list(product([1.0, -1.0], repeat=10)))
    found = ctsa.basins(make(torch_face, matrix, beta), signs[:, :, None] * np.eye(3)[k], duration=0.01)
    census = ctsa.theory.census(matrix, matrix, beta, 10)
    for kind in ("consensus", "bipartite consensus"):
        assert found.counts().get(f"{kind} on v{k}", 0) == census[kind, k]
    assert (found.eigenvector == k).all() and set(found.stability) <= {"stable", "unstable"}
    assert found.counts("kind") == {"bipartite consensus": 1022, "consensus": 2}


def test_labels_are_those_of_classify(torch_face):
    """Also of polygonal states, and of clusters of several sizes."""
    angles = np.arange(10) * 2 * np.pi / 5
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    field = make(torch_face, W, 4.0)
    found = [ctsa.basins(field, STARTS[:60]), ctsa.basins(torch_face.Oja(np.eye(3)), ring[None], duration=0.01)]
    assert {"bipartite consensus", "clustering"} <= set(found[0].kind) and set(found[1].kind) == {"polygonal"}
    for system, b in zip((field, torch_face.Oja(np.eye(3))), found, strict=True):
        for i, x in enumerate(b.ends):
            about = ctsa.classification(system, x)
            assert (about.kind, about.eigenvector) == (b.kind[i], b.eigenvector[i])
            assert sorted(about.multiplicities, reverse=True) == [s for s in b.sizes[i] if s]
            assert about.overlap == pytest.approx(b.overlap[i], abs=1e-12)


@settings(max_examples=5)
@given(st.integers(0, 2**31), st.permutations(range(10)), st.sampled_from([1.0, -1.0]))
def test_symmetries_map_limits_to_limits(seed, order, sign):
    """Permuted or reflected starts go to the permuted or reflected limits."""
    field = ctsa.torch.SelfAttention(key=W, value=W, beta=1.0)
    x = ctsa.random_tokens(10, 3, seed, batch=(4,))
    a, b = ctsa.basins(field, x), ctsa.basins(field, sign * x[:, order])
    assert np.array_equal(a.labels("sizes"), b.labels("sizes"))
    assert np.abs(sign * a.ends[:, order] - b.ends).max() < 1e-6


def test_batches_do_not_matter(torch_face):
    field = make(torch_face, W, 2.0)
    a, b = ctsa.basins(field, STARTS[:30]), ctsa.basins(field, STARTS[:30], batch=7)
    assert np.array_equal(a.labels("sizes"), b.labels("sizes")) and np.abs(a.ends - b.ends).max() < 1e-6
    rk4 = ctsa.basins(field, STARTS[:30], solver="rk4", step=0.05, duration=50.0)
    assert np.array_equal(a.labels("sizes"), rk4.labels("sizes"))


# ------------------------------------------------------------------------------------------------------ never guessed
def test_too_little_time_is_unresolved(face):
    found = ctsa.basins(make(face, V, 1.0), STARTS, duration=1.0, atol=1e-8)
    assert found.counts() == {"unresolved": 200} and not found.resolved.any()
    assert (found.stability == "unknown").all() and np.isnan(found.growth).all() and (found.eigenvector == -1).all()
    share, low, high = found.share("unresolved")
    assert (share, high) == (1.0, 1.0) and low == pytest.approx(0.025 ** (1 / 200))
    exact = ctsa.integrate(make(ctsa.torch, V, 1.0), STARTS, [0.0, 1.0], atol=1e-10)
    assert np.abs(found.ends - torch_numpy(exact.xs[-1])).max() < 1e-6  # they are where the flow is


def test_plateaus_are_not_limits(torch_face):
    """Clusters of Q = K = V = I creep at speeds like exp(-beta); only consensus attracts."""
    field = torch_face.SelfAttention(beta=16.0)
    found = ctsa.basins(field, STARTS[:40])
    assert set(found.labels()) <= {"consensus on v0", "unresolved"}
    slow = found.speed[~found.resolved] < 1e-4
    assert slow.sum() > 5  # speed alone would have named these
    naive = ctsa.basins(field, STARTS[:40], rest=1e-4, verify=False)
    assert "clustering" in naive.counts("kind") and set(naive.stability) == {"unknown"}


def test_saddles_are_left_or_marked(torch_face):
    field, rng = make(torch_face, V, 0.25), np.random.default_rng(0)
    saddle = np.tile([0.0, 1.0, 0.0], (8, 10, 1))
    there = ctsa.basins(field, saddle[:1], duration=0.01)
    assert there.counts() == {"consensus on v1 (unstable)": 1} and there.counts("kind") == {"consensus": 1}
    assert there.growth[0] == pytest.approx(1.0)  # lambda_1 - lambda_2
    near = ctsa.Sphere().retract(saddle + 1e-8 * rng.normal(size=saddle.shape))
    assert ctsa.basins(field, near).counts() == {"consensus on v0": 8}
    fooled = ctsa.basins(field, near, verify=False)
    assert fooled.counts() == {"consensus on v1": 8}


def test_degenerate_eigenvalues_and_marginal_states(torch_face):
    """Consensus on an eigenspace of two dimensions is a family, and stable as one; at a threshold stability is open."""
    field = torch_face.SelfAttention(key=np.diag([3.0, 2.0, 1.0]), value=np.diag([3.0, 3.0, 1.0]), beta=0.1)
    found = ctsa.basins(field, STARTS[:20])
    assert found.counts() == {"consensus on v0": 20} and (found.stability == "stable").all()
    balanced = np.repeat([1.0, -1.0], 5)[:, None] * np.eye(3)[0]
    threshold = ctsa.theory.balanced_threshold(V, V)
    at = ctsa.basins(make(torch_face, V, threshold), balanced[None], duration=0.01)
    assert at.counts() == {"bipartite consensus on v0 (marginal)": 1}


# ------------------------------------------------------------------------------------------------------------- turning
TURN = np.array([[1.0, -2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.5]])  # leading pair 1 +- 2i
UNEVEN = np.array([[1.0, -3.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]])  # turns with a speed that varies


@pytest.mark.parametrize("matrix", [TURN, UNEVEN], ids=["even", "uneven"])
def test_rotating_consensus(face, matrix):
    found = ctsa.basins(make(face, matrix, 0.3), STARTS, duration=40.0)
    assert found.counts() == {"rotating consensus on v0": 200}
    assert np.abs(found.ends[..., 2]).max() < 1.2e-2  # in the plane of the pair
    assert (found.cluster_counts == 1).all() and (found.stability == "unknown").all()


def test_rotating_consensus_returns_after_the_period(torch_face):
    field = torch_face.SelfAttention(value=UNEVEN, beta=1.0, weights="unnormalised")
    found = ctsa.basins(field, STARTS[:20], duration=40.0)
    assert found.counts() == {"rotating consensus on v0": 20}
    field = torch_face.SelfAttention(value=UNEVEN, beta=1.0)
    x = ctsa.basins(field, STARTS[:20]).ends
    x = np.repeat(x[:, :1] * [1.0, 1.0, 0.0], 10, axis=1)  # on the cycle itself
    x = ctsa.Sphere().retract(x)
    period = ctsa.theory.consensus_period(UNEVEN)
    path = ctsa.integrate(field, x, [0.0, period / 4, period], atol=1e-10)
    xs = torch_numpy(path.xs)
    assert np.abs(xs[2] - x).max() < 1e-6 and np.abs(xs[1] - x).max() > 0.5


def test_rotating_clusters_keep_their_shape(torch_face):
    """On the circle with V = A = a rotation and a dilation, groups turn together at angles that stay."""
    m = TURN[:2, :2]
    field, x0 = make(torch_face, m, 4.0), ctsa.random_tokens(10, 2, seed=0, batch=(60,))
    found = ctsa.basins(field, x0)
    assert set(found.kind) <= {"rotating consensus", "rotating clustering", "rotating bipartite consensus"}
    assert {"rotating consensus", "rotating clustering"} <= set(found.kind)
    later = torch_numpy(ctsa.integrate(field, found.ends, [0.0, 3.0], atol=1e-10).xs[-1])
    assert np.abs(ctsa.gram(later) - ctsa.gram(found.ends)).max() < 1e-5
    assert np.sqrt(((later - found.ends) ** 2).sum(-1)).max(-1).min() > 0.1


def test_turning_is_seen_in_a_bare_callable():
    """Q = K = V = I on an axis that turns: every consensus turns with it."""
    omega = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)

    def field(t, x):
        y = torch.softmax(x @ x.mT, -1) @ x
        return y - (x * y).sum(-1, keepdim=True) * x + x @ omega.mT

    found = ctsa.basins(field, torch.tensor(STARTS[:20]))
    assert found.counts() == {"rotating consensus": 20}
    speed = np.sqrt((found.ends[:, 0, :2] ** 2).sum(-1))  # of a point that turns about the third axis
    assert np.abs(found.speed - speed).max() < 1e-3  # they agree to that much when their inner products have settled
    turned = expm(2.0 * omega.numpy())
    later = ctsa.integrate(field, torch.tensor(found.ends), [0.0, 2.0], atol=1e-10).xs[-1].numpy()
    assert np.abs(later - found.ends @ turned.T).max() < 1e-3


def test_slow_transit_does_not_turn(torch_face):
    """Consensus that is long on its way between two nearly equal eigenvalues is neither at rest nor turning."""
    field = torch_face.SelfAttention(value=np.diag([1.0, 0.99, 0.2]))
    found = ctsa.basins(field, STARTS[:30], duration=30.0)
    assert found.counts() == {"unresolved": 30}
    assert (found.cluster_counts == 1).all() and found.speed.max() < 1e-2
    assert ctsa.basins(field, STARTS[:3], duration=2000.0).counts() == {"consensus on v0": 3}


# ------------------------------------------------------------------------------------------------- runs and checkpoints
@mainly("torch")
def test_resume_after_an_interrupt(face, tmp_path, monkeypatch):
    size = 200 if face.name == "jax" else 25  # 200 is compiled already
    field, starts = make(face, V, 1.0), ctsa.random_tokens(10, 3, seed=4, batch=(4 * size,))
    options = dict(batch=size, checkpoint=tmp_path / "run")
    whole = ctsa.basins(field, starts, batch=size)
    done, advance = [], _basin_run.Run._round

    def counted(self, rows, *rest):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(len(rows))
        advance(self, rows, *rest)

    monkeypatch.setattr(_basin_run.Run, "_round", counted)
    with pytest.raises(KeyboardInterrupt):
        ctsa.basins(field, starts, **options)
    rounds, first = ctsa.load(tmp_path / "run.npz").arrays["rounds"], len(done)
    assert set(rounds) == {2, 3}  # in the middle of a round
    done.clear()
    monkeypatch.setattr(_basin_run.Run, "_round", lambda self, *a: (done.append(1), advance(self, *a)))
    same(ctsa.basins(field, starts, **options), whole)
    again = len(done)
    ctsa.basins(field, starts, batch=size)
    assert first + again == len(done) - again  # nothing was done twice
    done.clear()
    same(ctsa.basins(field, starts, **options), whole)
    assert not done  # a run that has ended is only read


def test_an_interrupt_inside_a_batch_leaves_it_undone(torch_face, tmp_path, monkeypatch):
    field, options = make(torch_face, V, 1.0), dict(batch=50, checkpoint=tmp_path / "run.npz")
    whole = ctsa.basins(field, STARTS[:100], batch=50)
    solve, calls = _basin_run.solve, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(*args, **kwargs)

    monkeypatch.setattr(_basin_run, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ctsa.basins(field, STARTS[:100], **options)
    same(ctsa.basins(field, STARTS[:100], **options), whole)


def test_a_checkpoint_of_another_run_is_refused(torch_face, tmp_path):
    path = tmp_path / "run.npz"
    ctsa.basins(make(torch_face, V, 1.0), STARTS[:10], checkpoint=path)
    for changed in (dict(field=make(torch_face, V, 2.0)), dict(starts=STARTS[:11]), dict(duration=50.0), dict(rest=1e-7)):
        options = dict(field=make(torch_face, V, 1.0), starts=STARTS[:10], checkpoint=path) | changed
        with pytest.raises(ValueError, match="belongs to another run"):
            ctsa.basins(**options)
    ctsa.random_tokens(3, 3)
    ctsa.integrate(torch_face.Oja(V), STARTS[0], [0.0, 1.0]).save(path)
    with pytest.raises(ValueError, match="holds a Trajectory: choose another path"):
        ctsa.basins(make(torch_face, V, 1.0), STARTS[:10], checkpoint=path)


def test_a_solver_that_gives_up_keeps_what_is_known(torch_face):
    field = make(torch_face, V, 1.0)
    with pytest.raises(ctsa.BasinsError, match="max_steps=4") as caught:
        ctsa.basins(field, STARTS[:20], max_steps=4)
    assert caught.value.basins.counts() == {"unresolved": 20}


def test_progress(torch_face, capsys, monkeypatch):
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    ctsa.basins(make(torch_face, V, 1.0), STARTS[:20], progress=False)
    assert capsys.readouterr().err == ""
    bars = []

    class Bar:
        def __init__(self, total):
            self.n, self.total, self.text = 0.0, total, ""
            bars.append(self)

        def update(self, by):
            self.n += by

        def set_postfix_str(self, text):
            self.text = text

        def close(self):
            self.closed = True

    monkeypatch.setattr(_rounds, "progress_bar", Bar)
    ctsa.basins(make(torch_face, V, 1.0), STARTS[:20], batch=5, progress=True)
    assert bars[0].n == bars[0].total == 20 and bars[0].closed and "20 have arrived" in bars[0].text


# -------------------------------------------------------------------------------------------------------------- results
def result(kinds, directions=0, sizes=(3, 2), stability="stable", confidence=0.95):
    """A made-up result with limits of the given kinds."""
    s = len(kinds)
    return ctsa.Basins(
        ends=np.zeros((s, 5, 2)), kind_index=np.array([KINDS.index(k) for k in kinds]),
        eigenvector=np.broadcast_to(directions, s), overlap=np.ones(s),
        sizes=np.tile([*sizes, *[0] * (5 - len(sizes))], (s, 1)),
        stability_index=np.full(s, STABILITY.index(stability)), growth=-np.ones(s), speed=np.zeros(s), times=np.ones(s),
        duration=1.0, confidence=confidence,
    )  # fmt: skip


def test_intervals_are_exact():
    made = result(["consensus"] * 3 + ["unresolved"] * 5 + ["bipartite consensus"] * 12)
    assert made.counts("kind") == {"bipartite consensus": 12, "consensus": 3, "unresolved": 5}
    for label, many in made.counts("kind").items():
        share, low, high = made.share(label)
        assert share == many / 20
        assert binom.sf(many - 1, 20, low) == pytest.approx(0.025) and binom.cdf(many, 20, high) == pytest.approx(0.025)
    assert made.share("polygonal") == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    wide, narrow = (result(["consensus"] * 4 + ["polygonal"] * 4, confidence=c).share("consensus") for c in (0.99, 0.5))
    assert wide[1] < narrow[1] < 0.5 < narrow[2] < wide[2]


def test_labels_and_table():
    made = result(["bipartite consensus"] * 2 + ["clustering"] * 3, [0, 1, -1, -1, -1])
    assert made.counts() == {"clustering": 3, "bipartite consensus on v0": 1, "bipartite consensus on v1": 1}
    assert made.counts("sizes")["bipartite consensus on v1, 3+2"] == 1
    assert made.share("bipartite consensus")[0] == 0.4 and made.share("clustering, 3+2")[0] == 0.6
    lines = made.table().splitlines()
    assert lines[0].split() == ["limit", "starts", "share", "95", "%", "interval"]
    assert lines[1].split() == ["clustering", "3", "60.00%", "14.66%", "-", "94.73%"]
    assert "bipartite consensus on v1, 3+2 (unstable)" in result(
        ["bipartite consensus"], 1, stability="unstable"
    ).labels("sizes")
    assert repr(made).startswith("Basins(5 starts, clustering: 3, ")
    assert result(["unresolved"]).counts("sizes") == {"unresolved, 3+2": 1}
    with pytest.raises(ValueError, match="by must be one of"):
        made.counts("colour")
    with pytest.raises(ValueError, match="label must begin with one of"):
        made.share("consent")


def test_results_are_kept(torch_face, tmp_path):
    found = ctsa.basins(make(torch_face, V, 1.0), STARTS[:10])
    kept = ctsa.load(found.save(tmp_path / "found"))
    same(kept, found)
    assert (kept.duration, kept.confidence, len(kept)) == (100.0, 0.95, 10)
    data = pytest.importorskip("xarray") and found.to_xarray()
    assert dict(data.sizes) == {"start": 10, "token": 10, "component": 3, "group": 10}


def test_starts_are_those_of_random_tokens(torch_face):
    field = make(torch_face, V, 1.0)
    same(ctsa.basins(field, 8, n=10, d=3, seed=5), ctsa.basins(field, ctsa.random_tokens(10, 3, 5, batch=(8,))))


# ------------------------------------------------------------------------------------------------------ other settings
def test_single_precision(torch_face):
    field = torch_face.SelfAttention(key=V.astype(np.float32), value=V.astype(np.float32), beta=np.float32(1.0))
    x = torch.tensor(STARTS[:20], dtype=torch.float32)
    found = ctsa.basins(field, x, normalize=True, atol=1e-5, rest=1e-5)
    exact = ctsa.basins(make(torch_face, V, 1.0), STARTS[:20])
    assert np.array_equal(found.labels("sizes"), exact.labels("sizes"))
    with pytest.raises(ValueError, match="below what float32 can hold"):
        ctsa.basins(field, x, normalize=True, atol=1e-8)


def test_flat_space():
    """x' = x - x^3: the sign decides."""
    x0 = torch.linspace(-2.0, 2.0, 21, dtype=torch.float64)[:, None, None] + 0.05
    found = ctsa.basins(lambda t, x: x - x**3, x0, geometry=ctsa.Euclidean())
    assert found.counts("kind") == {"consensus": 21} and found.counts() == {"consensus #1": 11, "consensus #0": 10}
    assert found.attractor.tolist() == [0] * 10 + [1] * 11 and np.abs(found.ends - np.sign(x0.numpy())).max() < 1e-8
    assert found.growth == pytest.approx(-2.0)


def test_oscillators(torch_face):
    """Kuramoto's pairs of channels under attraction meet; they have no eigenvector to align with."""
    field = torch_face.SelfAttention(beta=0.5, geometry=ctsa.Sphere(channels=2))
    found = ctsa.basins(field, 10, n=4, d=4)
    assert set(found.kind) == {"consensus"} and (found.eigenvector == -1).all()


# ------------------------------------------------------------------------------------------------------------ bad input
BAD = [
    (dict(field=3), TypeError, "field must be callable"),
    (dict(field=lambda t, x: 0 * x, starts=torch.ones(4, 3, 1), n=3, d=1), ValueError, "d=1: tokens of the sphere"),
    (dict(starts=0), ValueError, "starts must be an integer of at least 1, got 0"),
    (dict(starts=2.5), TypeError, "starts must be an integer, got 2.5"),
    (dict(n=None), ValueError, r"n must be given with a number of starts: basins\(field, 5, n="),
    (dict(d=4), ValueError, "starts has n=10 tokens of dimension d=4, but the field's key"),
    (dict(starts=STARTS[0]), ValueError, r"states \(S, n, d\), got shape \(10, 3\)"),
    (dict(starts=2 * STARTS), ValueError, "starts must have unit tokens"),
    (dict(starts=np.nan * STARTS), ValueError, "starts must be finite"),
    (dict(starts=STARTS, n=9, d=None), ValueError, "n=9 contradicts starts of shape"),
    (dict(duration=0.0), ValueError, "duration must be a finite number above 0"),
    (dict(rest=-1.0), ValueError, "rest must be"),
    (dict(gap=0), ValueError, "gap must be"),
    (dict(confidence=1.0), ValueError, "confidence must be below 1"),
    (dict(confidence=95), ValueError, "confidence must be below 1"),
    (dict(batch=0), ValueError, "batch must be an integer of at least 1"),
    (dict(solver="rk4"), ValueError, "solver='rk4' has a fixed step: pass step="),
    (dict(solver="euler2"), ValueError, "solver must be one of"),
    (dict(atol=1e-20), ValueError, "below what float64 can hold"),
    (dict(seed=-1), ValueError, "seed must be an integer of at least 0"),
    (dict(geometry=ctsa.Euclidean()), ValueError, "contradicts the field's own"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "error", "message"), BAD, ids=lambda p: next(iter(p)) if isinstance(p, dict) else ""
)
def test_bad_input(torch_face, changed, error, message):
    with pytest.raises(error, match=message):
        ctsa.basins(**(dict(field=make(torch_face, V, 1.0), starts=5, n=10, d=3) | changed))


def test_bad_input_with_a_bare_callable():
    def field(t, x):
        return 0 * x

    with pytest.raises(TypeError, match="pass the starts themselves as a torch.Tensor or a jax.Array"):
        ctsa.basins(field, 5, n=2, d=2)
    with pytest.raises(ValueError, match="in flat space: there are no uniform ones"):
        ctsa.basins(field, 5, n=2, d=2, geometry=ctsa.Euclidean())


def test_sizes_that_a_field_knows_need_not_be_given(torch_face):
    field = make(torch_face, V, 1.0)
    given, known = (ctsa.basins(field, 3, n=4, **d, duration=2.0) for d in (dict(d=3), {}))
    assert given.table() == known.table()
