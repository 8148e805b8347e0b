"""Layers against their flow: orders, the artefact table, multipliers, end states, spectra, pictures, bad input."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from sampling import sample

import ctsa
from ctsa.comparison.artefacts import find_artefacts, turning_frequencies
from ctsa.layers.schemes import SCHEMES, amplification, make_layer, oscillation_exponents, scheme_of, stable_step
from ctsa.plot import comparison as plot_compare

N, D = 5, 4
X = ctsa.random_tokens(N, D, seed=1)
VALUE = np.random.default_rng(2).normal(size=(D, D))
POLE = np.ones((3, 1)) * [[1.0, 0.0, 0.0]]
MU = np.array([3.0, 2.0, 0.5])
FLAT = ctsa.Euclidean()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def generic(face):
    return face.SelfAttention(value=VALUE, beta=1.5) + face.Rotation(VALUE - VALUE.T) + face.Injection(0.3 * X[:, ::-1])


def consensus_field(face):
    return face.SelfAttention(value=np.diag(MU), beta=2.0)


# --------------------------------------------------------------------------------------------------------------- orders
STEPS = [0.04, 0.02, 0.01]


@pytest.mark.parametrize(
    ("name", "scheme"),
    sample(
        [("generic", s) for s in SCHEMES] + [(n, s) for n in ("clustering", "rotating") for s in ("euler", "heun", "rk4")],
        lambda name, scheme: name == "generic",
    ),
)
def test_orders(torch_face, scheme, name):
    field = {
        "generic": generic(torch_face),
        "clustering": torch_face.SelfAttention(beta=2.0),
        "rotating": torch_face.SelfAttention(beta=1.0) + torch_face.Rotation(frequencies=[2.0, 1.0]),
    }[name]
    comp = ctsa.compare(field, X, 0.6, STEPS, layer=scheme)
    assert comp.scheme == scheme and comp.depths.tolist() == [15, 30, 60]
    assert comp.order == pytest.approx(SCHEMES[scheme], abs=0.1)
    assert np.abs(comp.local_orders - SCHEMES[scheme]).max() < 0.15 and not comp.left_out
    assert comp.end_order == pytest.approx(SCHEMES[scheme], abs=0.35)
    assert comp.reference_error < 1e-11


def test_order_against_the_exact_flow(torch_face):
    """The errors are distances from the truth: Oja's flow is known."""
    one = ctsa.random_tokens(1, D, seed=3)
    comp = ctsa.compare(torch_face.Oja(VALUE), one, 1.0, [0.1, 0.05])
    for i in range(2):
        path = comp.layer(i)
        exact = ctsa.theory.oja_flow(VALUE, one, path.ts)
        assert np.abs(ctsa.Sphere().distance(path.xs, exact).max(-1) - comp.errors[i][: len(path.ts)]).max() < 1e-11
        assert np.allclose(np.diff(path.ts), comp.step_sizes[i])
    assert np.isnan(comp.errors[0][len(comp.layer(0).ts) :]).all()


def test_states_are_compared_at_equal_times(torch_face):
    """Steps that do not divide the time are rounded to whole layers; the flow is evaluated where they stand."""
    field = generic(torch_face)
    comp = ctsa.compare(field, X, 1.0, [0.3, 0.07])
    assert comp.depths.tolist() == [3, 14]
    assert comp.times[0][:4] == pytest.approx([0, 0.3, 0.6, 0.9]) and comp.times[1][-1] == pytest.approx(0.98)
    flow = ctsa.integrate(field, X, [0.0, 0.9], "dopri8", atol=1e-12).xs[-1].detach().numpy()
    layer = ctsa.iterate(ctsa.EulerLayer(field, 0.3), X, depth=3).xs[-1].detach().numpy()
    assert comp.end_errors[0] == pytest.approx(ctsa.Sphere().distance(flow, layer).max(), rel=1e-9)
    assert np.isnan(comp.end_order) and comp.end_errors.tolist() == [comp.errors[0, 3], comp.errors[1, 14]]


def test_what_the_order_leaves_out(torch_face):
    comp = ctsa.compare(torch_face.Rotation(frequencies=[0.5, 0.25]), X[:2], 4.0, [4.0, 0.25, 0.125])
    assert comp.left_out == {"4": "error of order one"} and np.isnan(comp.local_orders[0])
    assert comp.order == pytest.approx(1, abs=0.1)
    assert "step 4 is left out: error of order one" in comp.table()
    slow = ctsa.compare(torch_face.Rotation(frequencies=[0.05, 0.02]), X[:2], 4.0, [0.5, 0.25, 0.02], layer="rk4")
    assert slow.left_out == {"0.02": "error no larger than the reference's"}
    assert slow.order == pytest.approx(4, abs=0.1) and np.isnan(slow.local_orders[1])


def test_long_runs_keep_few_states(torch_face):
    comp = ctsa.compare(torch_face.Oja(VALUE), X, 1.0, [0.25, 0.002])
    assert comp.depths.tolist() == [4, 500] and comp.times.shape == (2, 257) and comp.times[1][-1] == pytest.approx(1.0)
    layer = ctsa.iterate(ctsa.EulerLayer(torch_face.Oja(VALUE), 0.002), X, depth=500, every=500).xs[-1]
    assert np.abs(comp.layer(1).xs[-1] - layer.detach().numpy()).max() < 1e-13


def test_parting(torch_face):
    comp = ctsa.compare(torch_face.Rotation(frequencies=[1.0, 1.0]), X, 4.0, [0.5, 0.05], parted=0.2)
    lag = 0.5 - np.arctan(0.5)  # every layer falls behind by as much
    assert comp.errors[0][:9] == pytest.approx(lag * np.arange(9), abs=1e-11)
    assert comp.parting[0] == pytest.approx(0.5 * np.ceil(0.2 / lag)) and comp.parting[1] == np.inf


# ----------------------------------------------------------------------------------------- rotations: the artefact table
@pytest.mark.parametrize(("scheme", "flat"), [("euler", False), ("euler", True), ("midpoint", False), ("rk4", True)])
def test_oscillation(torch_face, scheme, flat):
    """The flow has exponents 0. Plain Euler grows at ln(1 + h^2 w^2) / 2 a step; normalised, slow planes contract."""
    w, h = np.array([2.0, 1.0]), 0.3 if scheme == "euler" else 1.0
    field = torch_face.Rotation(frequencies=w, geometry=FLAT if flat else None)
    run = dict(intervals=8, transient=80, interval=1.0)  # the frame needs time to fall into the planes
    comp = ctsa.compare(field, X[:1], 3.0, [h], layer=scheme, spectra=True, **run)
    assert np.abs(comp.flow_exponents).max() < 1e-8
    expected = oscillation_exponents(w, h, scheme, normalised=not flat)
    if scheme == "euler":
        grows = 0.5 * np.log(1 + h**2 * w**2)
        table = np.repeat(grows, 2) if flat else np.array([0, *np.repeat(grows[1] - grows[0], 2)])
        assert np.abs(expected - table).max() < 1e-15
    assert np.abs(comp.exponents[0] * h - expected).max() < 1e-8
    found = {a.kind: a for a in comp.artefacts}
    kind = "spurious growth" if expected[np.argmax(np.abs(expected))] > 0 else "spurious contraction"
    worst = expected[np.argmax(np.abs(expected))] / h
    assert found[kind].predicted == pytest.approx(worst, rel=1e-12)
    assert found[kind].measured == pytest.approx(worst, abs=1e-7)
    if scheme == "euler":
        lag = np.arctan(2 * h) / (2 * h)
        assert found["slow rotation"].predicted == pytest.approx(lag, rel=1e-12)


def test_rotations_in_fields(torch_face):
    f = torch_face
    omega = np.random.default_rng(0).normal(size=(N, 3, 3))
    omega -= omega.swapaxes(-1, -2)
    exact = np.sort(np.abs(np.linalg.eigvals(omega).imag), -1)[:, ::-1][:, [0, 2]]
    w, pure = turning_frequencies(f.Rotation(omega), 3)
    assert pure and np.abs(w - exact).max() < 1e-12  # a pair, and an axis that does not turn
    both = 2.0 * (f.Rotation(frequencies=[1.0, -3.0]) + f.Rotation(frequencies=[0.5, 0.5])) + f.Oja(np.eye(4))
    w, pure = turning_frequencies(both, 4)
    assert not pure and w == pytest.approx(np.array([[5.0, 3.0]]))
    w, pure = turning_frequencies(f.Rotation(frequencies=[1.0, 2.0], geometry=ctsa.Sphere(channels=2)), 4, 2)
    assert pure and w == pytest.approx(np.array([[1.0], [2.0]]))
    assert turning_frequencies(f.Oja(np.eye(4)), 4)[0].size == turning_frequencies(lambda t, x: x, 4)[0].size == 0
    assert oscillation_exponents([2.0, 1.0, 0.0], 0.5) == pytest.approx(
        [0] + [np.log(1.25 / 2) / 2] * 2 + [-np.log(2) / 2]
    )


# ------------------------------------------------------------------------------------------------------ end of the flow
def multipliers_at_consensus(scheme, h, n=3):
    """The table: per layer, at consensus on the leading eigenvector."""
    others, within = MU[1:] - MU[0], np.full((n - 1) * len(MU[1:]), -MU[0])
    z = np.concatenate([others, within])
    s = h / (1 + h * MU[0]) if scheme == "post-norm" else h
    return np.sort(amplification(scheme, s * z).real)


@pytest.mark.parametrize("scheme", ["euler", "post-norm", "exp", "rk4"])
def test_multipliers_at_consensus(torch_face, scheme):
    comp = ctsa.compare(consensus_field(torch_face), POLE, 0.4, [0.2, 0.1], layer=scheme)
    assert comp.flow_kind == "consensus" and comp.flow_clusters == 1
    exact = ctsa.theory.consensus_spectrum(np.diag(MU), 0, 3)
    assert np.abs(np.sort(comp.eigenvalues.real) - np.sort(exact.real)).max() < 1e-9
    for i, h in enumerate(comp.step_sizes):
        table = multipliers_at_consensus(scheme, h)
        assert np.abs(np.sort(comp.measured[i].real) - table).max() < 1e-9
        assert np.abs(np.sort(comp.predicted[i].real) - table).max() < 1e-9
        if scheme == "post-norm":  # (1 + h mu) / (1 + h mu_1), and 1 / (1 + h mu_1)
            shared = (1 + h * MU[1:]) / (1 + h * MU[0])
            assert np.abs(np.sort(np.r_[shared, [1 / (1 + h * MU[0])] * 4]) - table).max() < 1e-12
            assert comp.end_steps[i] == pytest.approx(h / (1 + h * MU[0]))


def test_post_norm_off_consensus(torch_face):
    """Tokens with steps of their own: predicted multipliers are those of I + diag(s) J, oscillators included."""
    pairs = ctsa.Sphere(channels=2)
    field = torch_face.SelfAttention(value=np.diag([2.0, 1.0, 1.5, 0.3]), beta=1.0, geometry=pairs)
    field = field + torch_face.Injection(np.random.default_rng(5).normal(size=(4, 4)), geometry=pairs)
    x = ctsa.random_tokens(4, 4, seed=0, channels=2)
    comp = ctsa.compare(field, x, 60.0, [0.5], layer="post-norm")
    assert comp.speed < 1e-6 and comp.end_steps[0, 1] / comp.end_steps[0, 0] > 1.1
    assert np.abs(comp.predicted - comp.measured).max() < 1e-8
    assert {a.kind for a in comp.artefacts} == {"slow clock"} and comp.same_end.all()


def test_period_two(torch_face):
    """h |lambda| > 2: what decays in the flow alternates in the layer; measured multipliers are those predicted."""
    start = ctsa.Sphere().retract(POLE + 0.05 * np.random.default_rng(1).normal(size=POLE.shape))
    comp = ctsa.compare(consensus_field(torch_face), start, 42.0, [0.7, 0.6])
    assert comp.flow_kind == "consensus" and comp.layer_kinds.tolist() == ["none", "consensus"]
    assert stable_step("euler", comp.eigenvalues) == pytest.approx(2 / 3, rel=1e-9)
    (found,) = [a for a in comp.artefacts if a.kind in ("period two", "unstable")]
    assert found.kind == "period two" and found.step == 0.7
    assert found.predicted == pytest.approx(0.7 * 3 - 1, rel=1e-9) == pytest.approx(found.measured, rel=1e-9)
    assert comp.change[0] > 0.1 and comp.back[0] < 1e-2 * comp.change[0]  # to and fro
    assert comp.change[1] < 1e-6
    assert "stable below step 0.6667" in str(found) and "period two" in comp.table()


def test_unstable_spiral(torch_face):
    """Complex eigenvalues: |1 + h lambda| > 1 long before h |lambda| > 2."""
    value = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, -3.0], [0.0, 3.0, 0.5]])
    comp = ctsa.compare(torch_face.Oja(value), POLE, 1.0, [0.25, 0.02])
    lam = -0.5 + 3j
    assert stable_step("euler", comp.eigenvalues) == pytest.approx(2 * 0.5 / abs(lam) ** 2, rel=1e-9)
    (found,) = comp.artefacts
    assert (found.kind, found.step) == ("unstable", 0.25)
    assert found.predicted == pytest.approx(abs(1 + 0.25 * lam), rel=1e-9) == pytest.approx(found.measured, rel=1e-9)


def test_stable_steps():
    assert stable_step("heun", [-4.0]) == pytest.approx(0.5, rel=1e-12)
    assert stable_step("rk4", [-1.0, 0.0]) == pytest.approx(2.785293563405282, rel=1e-12)
    assert abs(amplification("rk4", stable_step("rk4", [-1 + 2j]) * (-1 + 2j))) == pytest.approx(1, abs=1e-9)
    assert stable_step("euler", [0.0, 1j, 2.0]) == np.inf


def test_jumps_are_counted(torch_face):
    comp = ctsa.compare(torch_face.Oja(-np.diag([1.0, 0.9])), POLE[:, :2], 4.0, [2.0], layer="post-norm")
    assert comp.jumps[0] == 3 * 3  # at the three states of the run, each of three tokens
    assert "jump" in {a.kind for a in comp.artefacts}


def test_other_end(torch_face):
    """V = -diag(1, 2): the flow ends in e_1; post-norm with h = 2 multiplies by -1 and -3 and ends in e_2."""
    field = torch_face.Oja(-np.diag([1.0, 2.0]))
    comp = ctsa.compare(field, [[0.8, 0.6]], 40.0, [2.0, 0.25], layer="post-norm")
    assert comp.flow_kind == "consensus" and comp.layer_kinds.tolist() == ["consensus", "consensus"]
    assert comp.cluster_angles == pytest.approx([np.pi / 2, 0], abs=1e-5) and comp.same_end.tolist() == [False, True]
    kinds = {a.kind for a in comp.artefacts if a.step == 2}
    assert "other end" in kinds and "jump" in kinds
    assert not {"other end", "jump"} & {a.kind for a in comp.artefacts if a.step == 0.25}


def test_matching_of_clusters(torch_face):
    """Clusters are matched whatever their labels: rotate all and compare."""
    from ctsa.comparison._runs import _matched

    a = np.repeat(np.eye(3), 2, 0)
    turn = 0.01
    b = a[::-1] @ np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert _matched(ctsa.Sphere(), a, labels, b, labels) == pytest.approx(turn, rel=1e-9)
    assert np.isnan(_matched(ctsa.Sphere(), a, labels, b, np.array([0, 0, 1, 1, 1, 1])))


# ----------------------------------------------------------------------------------------------------- layers as systems
def test_a_layer_beside_its_own_flow(torch_face):
    layer = torch_face.ItrSA(torch_face.SelfAttention(value=np.diag(MU), beta=1.0), step=0.1, gamma=0.5)
    x = ctsa.random_tokens(4, 3, seed=0)
    comp = ctsa.compare(layer, x, 2.0)
    assert comp.step_sizes.tolist() == [0.2] and comp.depths.tolist() == [10] and comp.scheme == "post-norm"
    path = ctsa.iterate(layer, x, depth=10).xs.detach().numpy()
    assert np.abs(comp.layer(0).xs - path).max() < 1e-14
    flow = ctsa.integrate(layer.field, x, [0.0, 2.0], "dopri8", atol=1e-12).xs.detach().numpy()[-1]
    assert np.abs(comp.flow.xs[-1] - flow).max() < 1e-11
    other = ctsa.compare(layer, x, 0.2, [0.02, 0.01, 0.005])  # its kind, with other steps
    assert other.scheme == "post-norm" and other.order == pytest.approx(1, abs=0.1)
    itself = ctsa.compare(layer, x, 2.0, [0.2])
    assert np.abs(itself.errors - comp.errors).max() < 1e-13


def test_akorn_beside_its_own_flow(torch_face):
    pairs = ctsa.Sphere(channels=2)
    coupling = torch_face.SelfAttention(beta=1.0, geometry=pairs)
    layer = torch_face.AKOrN(coupling, torch_face.Rotation(frequencies=[1.0, 2.0], geometry=pairs), step=0.5)
    x = ctsa.random_tokens(4, 4, seed=0, channels=2)
    comp = ctsa.compare(layer, x, 3.0)
    assert comp.depths.tolist() == [6] and comp.geometry == pairs and comp.frequencies.tolist() == [[1.0], [2.0]]
    assert "slow rotation" in {a.kind for a in comp.artefacts}
    comp.plot()[2].figure.canvas.draw()


def test_layers_of_your_own(torch_face):
    """A function makes them: here of a step that is too long by 2 %, which no step size cures."""
    comp = ctsa.compare(
        generic(torch_face), X, 0.5, [0.01, 0.005], layer=lambda f, h: lambda x: make_layer("euler", f, 1.02 * h)(x)
    )
    assert comp.scheme == "layer" and comp.order < 0.4


def test_time_dependent_fields_take_a_sequence(torch_face):
    field = torch_face.SpeedRegulated(torch_face.SelfAttention(beta=1.0), "ln-scaling")
    comp = ctsa.compare(field, X, 1.0, [0.1, 0.05, 0.025], layer=lambda f, h: f.layers(h, round(1 / h)))
    assert comp.order == pytest.approx(1, abs=0.1) and np.isnan(comp.change).all()
    with pytest.raises(ValueError, match="field depends on time"):
        ctsa.compare(field, X, 1.0, [0.1])


def test_flat_space(torch_face):
    """x' = -x: Euler's errors are known, (1 - h)^k against e^(-kh); beyond h = 2 it blows up."""
    comp = ctsa.compare(lambda t, x: -x, torch_face.array([[2.0]]), 6.0, [3.0, 0.5], geometry=FLAT)
    assert comp.geometry == FLAT and comp.errors[0][:3] == pytest.approx(
        2 * np.abs((-2.0) ** np.arange(3) - np.exp(-3.0 * np.arange(3)))
    )
    assert comp.errors[1] == pytest.approx(2 * np.abs(0.5 ** np.arange(13) - np.exp(-0.5 * np.arange(13))), abs=1e-10)


# -------------------------------------------------------------------------------------------------- both frameworks, JAX
def test_both_frameworks(torch_face, jax_face):
    a, b = (ctsa.compare(generic(face), X, 0.6, STEPS, solver="dopri5") for face in (torch_face, jax_face))
    assert np.abs(a.errors - b.errors)[np.isfinite(a.errors)].max() < 1e-11
    assert np.abs(a.layer_xs - b.layer_xs)[np.isfinite(a.layer_xs)].max() < 1e-13


def test_jax_does_not_compile_for_every_step(jax_face):
    from jax import monitoring

    ctsa.compare(generic(jax_face), X, 0.6, STEPS, solver="dopri5")
    count = []
    monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: count.append(name) if "backend_compile" in name else None
    )
    ctsa.compare(
        generic(jax_face), X, 0.6, [0.06, 0.02, 0.01], solver="dopri5"
    )  # other steps and depths, the same output times
    assert not count


def test_float32(torch_face):
    field = torch_face.Oja(np.asarray(VALUE, dtype=np.float32))
    comp = ctsa.compare(field, X.astype(np.float32), 1.0, [0.1, 0.05, 0.025], normalize=True)
    assert comp.order == pytest.approx(1, abs=0.1) and comp.reference_error > 1e-6


# ------------------------------------------------------------------------------------------- results, pictures, bad input
@pytest.fixture(scope="module")
def comp():
    import ctsa.torch

    field = ctsa.torch.SelfAttention(value=np.diag([3.0, 1.0, 0.5]))
    return ctsa.compare(
        field,
        ctsa.random_tokens(5, 3, seed=3),
        14.0,
        [0.8, 0.4, 0.1],
        spectra=True,
        intervals=10,
        transient=10,
        count=3,
    )


def test_save_and_load(comp, tmp_path):
    again = ctsa.load(comp.save(tmp_path / "comparison"))
    assert again.table() == comp.table() and again.artefacts == comp.artefacts == find_artefacts(comp)
    assert repr(again) == repr(comp) and repr(comp).startswith("Comparison(euler, 3 step sizes, order=1.")
    assert dict(comp.to_xarray().sizes)["step_size"] == 3


def test_table(comp):
    text = comp.table()
    assert (
        "bipartite consensus, clusters: 2" in text
        and "exponents per unit time" in text
        and "measured order: 1." in text
    )
    assert text.splitlines()[2].split()[:2] == ["0.8", "18"]


def test_pictures(comp):
    axes = comp.plot()
    axes[0].figure.canvas.draw()
    assert len(axes) == 6 and all(isinstance(ax, Axes) for ax in axes)
    for i in range(3):
        line = axes[0].lines[i]
        kept = np.isfinite(comp.times[i]) & (comp.errors[i] > 0)
        assert np.array_equal(
            line.get_xydata()[np.isfinite(line.get_ydata())], np.stack([comp.times[i], comp.errors[i]], -1)[kept]
        )
    assert axes[1].lines[0].get_ydata().tolist() == comp.worst_errors.tolist()
    assert axes[2].lines[0].get_ydata() == pytest.approx(ctsa.order_parameter(comp.flow_xs))
    assert axes[5].lines[0].get_ydata().tolist() == comp.flow_exponents.tolist()
    plain = dataclasses.replace(comp, flow_exponents=np.zeros(0))
    last = plain.plot()[5]
    assert not last.axison and last.texts[0].get_text().startswith("artefacts:")
    with pytest.raises(ValueError, match="spectra=True"):
        plot_compare.exponents(plain)


def test_spectra_agree_as_steps_shrink(comp):
    """Exponents per unit time tend to the flow's at first order."""
    gaps = np.abs(comp.exponents - comp.flow_exponents).max(-1)
    assert gaps[2] < gaps[1] and comp.exponents.shape == (3, 3) and gaps[2] < 0.25


def test_names_of_schemes(torch_face):
    field = torch_face.Oja(np.eye(2))
    for scheme in SCHEMES:
        assert scheme_of(make_layer(scheme, field, 0.1)) == scheme
    assert scheme_of(ctsa.WrappedLayer(lambda x: x)) is None and scheme_of(torch_face.AKOrN(field)) == "euler"
    assert scheme_of(torch_face.AKOrN(field, project=False)) == "post-norm"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(duration=0.0), ValueError, "duration must be a finite number above 0"),
        (dict(duration=-1.0), ValueError, "duration must be"),
        (dict(step_sizes=[0.1, -0.1]), ValueError, "step_sizes must be positive, got -0.1"),
        (dict(step_sizes=None), TypeError, "step_sizes must be given for a field"),
        (dict(step_sizes=[]), ValueError, "step_sizes must not be empty"),
        (dict(layer="leapfrog"), ValueError, "layer must be one of 'euler'"),
        (dict(layer=3), TypeError, "layer must be a name or a function"),
        (dict(layer=lambda f, h: lambda x: x[:-1]), ValueError, "layer must return a state like x0"),
        (dict(x0=ctsa.random_tokens(N, D, batch=(2,))), ValueError, "x0 must be one state"),
        (dict(x0=2 * X), ValueError, "unit tokens"),
        (dict(parted=0), ValueError, "parted must be"),
        (dict(spectra=True, interval=0), ValueError, "interval must be"),
    ],
)
def test_bad_input(torch_face, change, error, message):
    given = dict(x0=X, duration=0.2, step_sizes=[0.1]) | change
    with pytest.raises(error, match=message):
        ctsa.compare(torch_face.Oja(VALUE), given.pop("x0"), given.pop("duration"), **given)


def test_layers_without_a_flow(torch_face):
    with pytest.warns(UserWarning, match="no flow"):
        vector = torch_face.ItrSA(torch_face.Oja(np.eye(2)), gamma=[1.0, 2.0])
    x = ctsa.random_tokens(3, 2)
    with pytest.raises(ValueError, match="ItrSA has no flow .* gamma is a vector"):
        ctsa.compare(vector, x, 1.0)
    with pytest.raises(ValueError, match="WrappedLayer has no flow"):
        ctsa.compare(ctsa.WrappedLayer(lambda z: z), torch_face.array(x), 1.0)
    with pytest.raises(ValueError, match="does not say which flow"):
        ctsa.compare(lambda z: z, torch_face.array(x), 1.0)
    with pytest.raises(TypeError, match="not a sequence"):
        ctsa.compare([ctsa.EulerLayer(torch_face.Oja(np.eye(2)), 0.1)], x, 1.0)


# --------------------------------------------------------------------------------------------- steps that are far too long
def cubic(t, x):
    return -(x**3)


@pytest.mark.filterwarnings("error")
def test_overflow_is_named_and_drawn(torch_face):
    comp = ctsa.compare(cubic, torch_face.array([[1.0, 2.0]]), 20.0, [2.0, 0.1], geometry=FLAT, atol=1e-9)
    assert comp.layer_kinds[0] == "overflow" and comp.layer_kinds[1] != "overflow"
    (found,) = (a for a in comp.artefacts if a.kind == "overflow")
    y, count = np.array([1.0, 2.0]), 0
    while np.isfinite(y).all():
        with np.errstate(over="ignore", invalid="ignore"):
            y, count = y - 2.0 * y**3, count + 1
    assert found.step == 2.0 and found.measured == 2.0 * count
    assert "overflown" in comp.table() and f"layer {count}" in str(found)
    axes = comp.plot()
    assert axes[2].get_ylim()[1] < 100 and axes[0].get_ylim()[1] < 1e3  # the layer that left does not set the scale


def test_orders_in_flat_space_do_not_depend_on_the_unit(torch_face):
    # x' = -x at three scales: "order one" is by how far the flow moves.
    found = []
    for scale in (1e-3, 1.0, 1e3):
        x = torch_face.array(scale * X)
        comp = ctsa.compare(lambda t, x: -x, x, 2.0, [1.0, 0.1, 0.05], geometry=FLAT, atol=1e-10 * scale)
        assert comp.left_out == {"1": "error of order one"}
        found.append(comp.order)
    assert np.ptp(found) < 1e-3 and abs(found[0] - 1) < 0.1


def test_time_dependence_with_the_period_of_the_run_is_found(torch_face):
    field = torch_face.SelfAttention() + (lambda t, x: (2 * np.pi * t).sin() * x.flip(-1))
    for time in (1.0, 2.0, 3.0, 4.0):
        with pytest.raises(ValueError, match="depends on time"):
            ctsa.compare(field, X, time, [0.1])


@pytest.mark.filterwarnings("error")
def test_pictures_of_few_and_of_many(torch_face):
    rest = ctsa.compare(consensus_field(torch_face), POLE, 1.0, [0.2, 0.1])  # no error at all
    axes = rest.plot()
    assert [t.get_text() for t in axes[1].texts] == ["no errors to show"]
    many = ctsa.compare(generic(torch_face), X, 0.5, np.geomspace(0.1, 0.02, 9), layer="heun", atol=1e-9)
    axes = many.plot()
    assert len(axes[3].get_legend().get_texts()) == 7 and len(axes[1].get_xticks()) == 5
    assert axes[0].get_ylim()[0] > 0.1 * many.reference_error
    single = ctsa.compare(generic(torch_face), X, 0.1, [0.1]).plot()
    assert single[0].lines[0].get_marker() == "."  # one point is no line
