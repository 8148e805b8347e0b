"""Reports are whole, safe and the same every time; what a browser makes of them is in test_reports_browser.py."""

import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import ctsa
from ctsa.reports import maps, page, pieces, sections, sweep_data, theme, write_report
from ctsa.results.base import Result

pytest.importorskip("plotly", reason="reports need plotly")

EVIL = "</script><script>alert(1)</script> @ink & \"'"
X = ctsa.random_tokens(6, 3, seed=0)


def trajectory(d=3, n=6, steps=5, **stats):
    xs = np.stack([ctsa.random_tokens(n, d, seed=0)] * steps)
    return ctsa.Trajectory(np.arange(float(steps)), xs, stats)


def sweep(sizes=(5, 4), seed=0, **names):
    """A Dataset with numbers, their errors, verdicts, one failure, and links."""
    rng, dims = np.random.default_rng(seed), tuple(names) or ("beta", "gamma", "delta")[: len(sizes)]
    values, text = rng.normal(size=sizes), np.full(sizes, "equilibrium", object)
    text[values > 0] = "chaotic"
    errors, links = np.full(sizes, "", object), np.full(sizes, "", object)
    first = (0,) * len(sizes)
    values[first], text[first], errors[first] = np.nan, "", f"ValueError: {EVIL}"
    for i in np.ndindex(*sizes):
        links[i] = f"points/{'-'.join(map(str, i))}/report.html"
    made = {"largest": values, "largest_stderr": abs(values) / 10, "verdict": text, "error": errors, "report": links}
    return xr.Dataset(
        {name: (dims, array) for name, array in made.items()}, {d: np.linspace(0.5, 2, k) for d, k in zip(dims, sizes)}
    )


def written(tmp_path, results, **options):
    return write_report(results, tmp_path / "report.html", **{"title": "A title", **options}).read_text(
        encoding="utf-8"
    )


def drawn(text):
    """What the script of a page draws."""
    return json.loads(re.search(r'<script type="application/json" id="drawn">(.*?)</script>', text, re.S)[1])


def body(text):
    """A page without its scripts and styles."""
    return re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)


# ------------------------------------------------------------------------------------------------------------- the page
def test_page_is_whole(tmp_path):
    about = {"versions": {"numpy": "2"}, "seed": 3, "git": None}
    given = dict(config="beta = 4.0\n", repeat="ctsa run a.toml", links={"arrays": "run.npz"}, summary=["So it is."])
    text = written(tmp_path, {"run": trajectory()}, about=about, **given)
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert len(text.encode()) < 2_500_000
    assert re.findall(r"<h(\d)", body(text)) == ["1", "2", "2", "2", "3", "3", "3", "3"]
    for said in ("So it is.", "beta = 4.0", "ctsa run a.toml", 'href="run.npz"', "<dt>seed</dt><dd>3</dd>"):
        assert said in text
    assert "6 tokens in 3 dimensions, on the sphere, t = 0 to 4." in text
    ids = re.findall(r'\sid="([^"]+)"', body(text))
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:for|aria-labelledby)="([^"]+)"', body(text)):
        assert target in ids
    assert 'type="range"' in text and 'class="skip" href="#main"' in text and 'lang="en"' in text


def test_page_asks_for_nothing(tmp_path):
    text = written(tmp_path, {"run": trajectory(), "sweep": sweep()})
    sources = re.findall(r'(?:src|href|srcset|poster|action)\s*=\s*"([^"]*)"', body(text))
    assert not [s for s in sources if re.match(r"(https?:)?//", s)]
    assert "@import" not in text and not re.search(r"url\((?!data:)", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy and "http" not in policy and "connect-src" not in policy


def test_everything_of_users_is_escaped(tmp_path):
    data = sweep().rename(largest=EVIL, verdict="<b>kind</b>").rename(beta="<i>beta</i>")
    data[EVIL].attrs = {"long_name": EVIL, "units": "<u>"}
    text = written(tmp_path, {EVIL: trajectory(), "s": data}, title=EVIL, summary=[EVIL], config=EVIL, repeat=EVIL,
                   about={EVIL: [EVIL]}, links={EVIL: "a.npz\"><script>alert(2)</script>"})  # fmt: skip
    plain = re.sub(r'<script type="(application/json|text/plain)".*?</script>', "", text, flags=re.S)
    assert (
        plain.count("<script") == 1 and "alert(1)</script>" not in plain and "<u>" not in plain and "<b>" not in plain
    )
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    found = json.dumps(drawn(text)["charts"])
    assert "<script" not in found and "<b>" not in found and "@ink &amp;" not in found


def test_colours_are_not_taken_from_text():
    assert pieces.label("@ink") == "&#64;ink" and pieces.label("<b>") == "&lt;b&gt;"


def test_same_page_every_time(tmp_path):
    found = {
        "run": trajectory(),
        "sweep": sweep(),
        "norms": ctsa.JacobianNorms(1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0, True),
    }
    assert written(tmp_path, found, about={"a": 1}) == written(tmp_path, found, about={"a": 1})


def test_page_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    old = written(tmp_path, {"run": trajectory()})
    monkeypatch.setattr(page, "_page", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path, {"run": trajectory(n=7)})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_large_results_are_thinned(tmp_path, monkeypatch):
    long = trajectory(n=200, steps=1000)
    text = written(tmp_path, {"run": long})
    assert len(text.encode()) < page.LARGEST
    for said in ("121 of 1000 states are shown.", "Paths are drawn for 64 of 200", "The Gram matrix shows 48 of 200"):
        assert said in text
    monkeypatch.setattr(page, "LARGEST", len(text.encode()) - 1)
    assert "60 of 1000 states are shown." in written(tmp_path, {"run": long})


def test_nothing_is_loaded_before_it_is_needed():
    code = "import sys, ctsa.reports; print({'torch', 'jax', 'plotly', 'xarray', 'dask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_plotly(tmp_path, monkeypatch):
    page._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"ctsa\[runs\]"):
        written(tmp_path, {"run": trajectory()})
    monkeypatch.undo()
    page._plotly.cache_clear()


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize("change, error, match", [
    (dict(results={}), ValueError, "results must hold at least one"),
    (dict(results=[1]), TypeError, "results must be a dict"),
    (dict(results={"a": np.zeros(3)}), TypeError, r"results\['a'\] must be a result"),
    (dict(results={1: None}), TypeError, "names that are text"),
    (dict(title=None), TypeError, "title"),
    (dict(about=3), TypeError, "about"),
    (dict(about={"a": object()}), ValueError, "about must hold what JSON"),
    (dict(config=3), TypeError, "config"),
    (dict(repeat=["a"]), TypeError, "repeat"),
    (dict(summary="one"), TypeError, "summary must be a list"),
    (dict(links={"a": "javascript:alert(1)"}), ValueError, r"links\['a'\] must be a relative path"),
    (dict(links={"a": " java\nscript:alert(1)"}), ValueError, "links"),
    (dict(links={"a": 3}), TypeError, "links"),
    (dict(path=3), TypeError, "path"),
])  # fmt: skip
def test_bad_input(tmp_path, change, error, match):
    good = dict(results={"run": trajectory()}, path=tmp_path / "report.html", title="A title")
    given = {**good, **change}
    with pytest.raises(error, match=match):
        write_report(given.pop("results"), given.pop("path"), **given)
    assert not list(tmp_path.iterdir())


def test_bad_paths(tmp_path):
    with pytest.raises(IsADirectoryError, match="report.html"):
        write_report({"run": trajectory()}, tmp_path, title="")
    with pytest.raises(FileNotFoundError, match="make .* first"):
        write_report({"run": trajectory()}, tmp_path / "none" / "report.html", title="")
    data = sweep()
    data["report"][0, 0] = "javascript:alert(1)"
    with pytest.raises(ValueError, match=r"results\['s'\].report"):
        written(tmp_path, {"s": data})


# --------------------------------------------------------------------------------------------------------------- tokens
def test_player_holds_the_states(tmp_path):
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(7, 5, 3))
    xs /= np.linalg.norm(xs, axis=-1, keepdims=True)
    found = drawn(written(tmp_path, {"run": ctsa.Trajectory(np.arange(7) / 2, xs, {})}))["players"]["f1"]

    def unpacked(pack):
        whole = np.frombuffer(base64.b64decode(pack["b64"]), "<i2").reshape(len(pack["scale"]), -1)
        return (whole * np.array(pack["scale"])[:, None]).reshape(pack["shape"])

    assert np.abs(unpacked(found["frames"]["tokens"]) - xs).max() < 2e-5
    grams = np.stack([(x @ x.T)[np.triu_indices(5)] for x in xs])
    assert np.abs(unpacked(found["frames"]["gram"]) - grams).max() < 2e-5
    assert found["labels"][1] == "t = 0.5" and found["at"] == [0, 0.5, 1, 1.5, 2, 2.5, 3] and found["start"] == 6


@pytest.mark.parametrize("ts", [1e6 + 1e-3 * np.arange(5), 1e6 - np.arange(5.0), -np.arange(5.0)])
def test_times_that_are_close_are_told_apart(tmp_path, ts):
    found = drawn(written(tmp_path, {"run": ctsa.Trajectory(ts, trajectory().xs, {})}))["players"]["f1"]
    assert np.abs(np.array(found["at"]) - ts).max() < 1e-6 and len(set(found["labels"])) == 5
    assert [float(t[4:].replace("\N{MINUS SIGN}", "-")) for t in found["labels"]] == pytest.approx(
        ts.tolist(), abs=1e-6
    )


def test_a_run_that_blows_up_is_shown_up_to_there(tmp_path):
    xs = np.array(trajectory().xs)
    xs[4] *= 1e200
    found = drawn(written(tmp_path, {"run": ctsa.Trajectory(np.arange(5.0), xs, {})}))["players"]["f1"]
    assert found["labels"][-1] == "t = 3"


def test_captions_say_what_is_not_shown():
    from ctsa.reports import spectra

    assert "first 12 of 20 sets" in spectra.eigenvalues([(str(i), np.ones(2)) for i in range(20)], True).caption
    assert "first 2000" in spectra.eigenvalues([("", np.ones(2001))], True).caption
    assert "shown" not in spectra.eigenvalues([("", np.ones(20))], True).caption


@pytest.mark.parametrize("d, kind", [(1, "scatter"), (2, "scatter"), (3, "scatter3d"), (16, "scatter")])
def test_dimensions(tmp_path, d, kind):
    found = drawn(written(tmp_path, {"run": trajectory(d)}))
    view, player = found["charts"]["f1-tokens"], found["players"]["f1"]
    assert view["data"][player["moving"]]["type"] == kind
    assert player["frames"]["tokens"]["shape"] == [5, 6, 2 if kind == "scatter" else 3]


def test_principal_plane_is_the_best():
    from ctsa.reports.tokens import principal

    rng = np.random.default_rng(1)
    xs = rng.normal(size=(4, 5, 6)) * [3.0, 2.0, 0.1, 0.1, 0.1, 0.1]
    places, share = principal(xs)
    assert (places**2).sum() / (xs**2).sum() == pytest.approx(share.sum())
    assert share.sum() == pytest.approx((np.linalg.svd(xs.reshape(-1, 6))[1][:2] ** 2).sum() / (xs**2).sum())


def test_states_that_are_not_finite(tmp_path):
    run = trajectory()
    xs = run.xs.copy()
    xs[3:] = np.nan
    text = written(tmp_path, {"run": ctsa.Trajectory(run.ts, xs, {})})
    assert "Only the first 3 of 5 states are finite." in text and "NaN" not in json.dumps(drawn(text))
    assert "no state is finite" in written(tmp_path, {"run": ctsa.Trajectory(run.ts, np.full_like(xs, np.inf), {})})


def test_six_globes_at_most(tmp_path):
    charts = drawn(written(tmp_path, {f"run {i}": trajectory(steps=2) for i in range(8)}))["charts"]
    assert sum("scene" in c["layout"] for c in charts.values()) == 6


def test_frameworks_give_the_same_page(tmp_path, torch_face, jax_face):
    pages = [
        written(tmp_path, {"run": ctsa.Trajectory(f.array([0.0, 1.0]), f.array(np.stack([X, -X])), {})})
        for f in (torch_face, jax_face)
    ]
    assert pages[0] == pages[1] == written(tmp_path, {"run": ctsa.Trajectory(np.arange(2.0), np.stack([X, -X]), {})})


# -------------------------------------------------------------------------------------------------------------- spectra
def test_spectrum_marks_and_counts_neutral_exponents(tmp_path):
    rng = np.random.default_rng(0)
    history = np.array([0.9, 0.0, -1.5]) + rng.normal(size=(400, 3)) * [0.3, 0.001, 0.3]
    spec = ctsa.LyapunovSpectrum(
        history, np.zeros((2, 3)), np.zeros((3, 2, 3)), 0.5, 10, np.array(1.0), np.array(0), 4, True
    )
    text = written(tmp_path, {"spectrum": spec})
    first = drawn(text)["charts"]["f1"]["data"]
    plain, neutral = (t for t in first if t.get("mode") == "markers")
    assert plain["x"] == [1, 3] and neutral["x"] == [2] and neutral["marker"]["color"] == "@paper"
    assert neutral["name"] == "1 neutral, 1 expected"
    assert np.allclose(plain["error_y"]["array"], spec.stderr[[0, 2]], rtol=1e-3)
    assert "1 neutral exponent, 1 expected." in text and "Verdict: undecided" in text
    assert f"The largest exponent is {spec.exponents[0]:.3f} ± {spec.stderr[0]:.3f} per unit of time" in text


def test_eigenvalues_have_the_boundary_of_stability():
    from ctsa.reports.spectra import eigenvalues

    z = np.array([0.5 + 1j, 0.5 - 1j, -2.0])
    flow, layer = eigenvalues([("", z)], True), eigenvalues([("", z)], False)
    assert flow.layout["shapes"][0]["x0"] == flow.layout["shapes"][0]["x1"] == 0
    assert layer.layout["shapes"][0]["type"] == "circle" and layer.layout["yaxis"]["scaleanchor"] == "x"
    assert eigenvalues([("", np.full(3, np.nan))], True) is None


@pytest.mark.parametrize("value, error, text", [
    (-0.5213, 0.0123, "−0.521 ± 0.012"), (12.34, 3.0, "12.3 ± 3.0"), (0.5, 0.0, "0.5"), (0.5, np.nan, "0.5"),
    (-1.0, 1e-9, "−1 ± 1.0e-09"),
])  # fmt: skip
def test_numbers_with_errors(value, error, text):
    assert pieces.with_error(value, error) == text


# --------------------------------------------------------------------------------------------------------------- sweeps
def test_sweep_as_maps(tmp_path):
    data = sweep()
    text = written(tmp_path, {"sweep": data})
    numbers, names = (c["data"] for c in drawn(text)["charts"].values())
    z = np.array(numbers[0]["z"], float)
    assert np.allclose(z, data.largest.values, rtol=1e-4, equal_nan=True)
    assert numbers[0]["x"] == data.gamma.values.round(6).tolist()
    assert numbers[0]["customdata"][2][1] == "points/2-1/report.html"
    assert "failed: ValueError" in numbers[1]["text"][0] and numbers[1]["x"] == [0.5]
    assert {v for row in names[0]["z"] for v in row} == {0, 1, None}
    assert "20 points over beta (5: 0.5 to 2), gamma (4: 0.5 to 2). 1 of 20 points failed." in text
    assert text.count('<a href="points/') == 20


def test_sweep_as_lines():
    data = sweep((9, 2))
    chart = maps.chart(data, "largest")
    assert [t["name"] for t in chart.data] == ["gamma = 0.5", "gamma = 2"]
    assert np.allclose(chart.data[1]["error_y"]["array"], data.largest_stderr[:, 1], rtol=1e-3)
    one = maps.chart(data.isel(gamma=0, drop=True), "verdict")
    assert one.data[0]["y"][0] is None and set(one.data[0]["y"][1:]) <= {"chaotic", "equilibrium"}


def test_sweep_over_many_axes_has_lists(tmp_path):
    chart = maps.chart(sweep((5, 4, 3)), "largest")
    assert chart.choices == [("delta", ["0.5", "1.25", "2"])] and len(chart.variants) == 3
    text = written(tmp_path, {"s": sweep((5, 4, 3))})
    assert text.count("<select") == 2 and "The table shows" not in text
    many = maps.chart(sweep((5, 4, 70)), "largest")
    assert not many.choices and "Of delta the first value is shown." in many.caption


def test_sweep_of_names_and_of_one_point(tmp_path):
    data = xr.Dataset({"loss": ("solver", [1.0, 2.0, 3.0]), "clusters": ((), 4)}, {"solver": ["heun", "bosh3", "<b>"]})
    text = written(tmp_path, {"s": data})
    chart = drawn(text)["charts"]["f1"]
    assert chart["data"][0]["x"] == ["heun", "bosh3", "&lt;b&gt;"] and chart["layout"]["xaxis"]["type"] == "category"
    assert "no point" not in text and written(tmp_path, {"s": data.isel(solver=0)})


def test_large_sweeps_are_thinned(tmp_path):
    text = written(tmp_path, {"s": sweep((150, 130))})
    assert len(text.encode()) < page.LARGEST
    assert "At most 100 values of a parameter are shown." in text and "The table shows 400 of 19500 points." in text
    chart = drawn(text)["charts"]["f1"]
    assert np.shape(chart["data"][0]["z"]) == (100, 100) and chart["data"][0]["y"][-1] == 2


def test_sweep_that_failed_everywhere(tmp_path):
    data = sweep((3, 4))
    data["largest"][:], data["verdict"][:], data["error"][:] = np.nan, "", "RuntimeError: no"
    text = written(tmp_path, {"s": data, "lines": data.isel(gamma=[0]), "lazy": data.chunk()})
    assert text.count("12 of 12 points failed. 12 failed with: RuntimeError: no.") == 4


def test_logarithmic_axes():
    data = sweep((5, 4)).assign_coords(beta=[0.5, 1, 2, 4, 8])
    assert sweep_data.axis_of(data, "beta").log and not sweep_data.axis_of(data, "gamma").log


# ---------------------------------------------------------------------------------------------------------------- theme
def test_palette_is_seen_on_both_papers():
    for name, table in theme.themes().items():
        paper = table["paper"]
        assert all(theme.contrast(table[str(i)], paper) >= 3 for i in range(12)), name
        assert theme.contrast(table["ink"], paper) >= 10 and theme.contrast(table["muted"], table["card"]) >= 4.5
        assert theme.contrast(table["accent"], paper) >= 4.5
    assert theme.contrast("#ffffff", "#000000") == pytest.approx(21)


def test_every_sentence_belongs_to_a_kind():
    import ctsa.studies.experiments
    import ctsa.training  # noqa: F401
    from ctsa.reports.words import SAYS

    names = {*SAYS, *sections._DRAWS} - {"Equilibria"}  # a list, not a Result
    assert names <= set(Result.kinds)
