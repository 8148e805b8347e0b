"""Sweeps of configs: every point its own folder, and the same sweep from wherever its file is named."""

import pytest

pytest.importorskip("zarr")
pytest.importorskip("torch")
pytest.importorskip("pydantic")

import ctsa
from ctsa.runs import read_config, run_sweep
from ctsa.runs.sweeping import name_of

FILE = """
tokens = {n = 3, d = 2}
output = {report = false}
[sweep]
run = "jacobian"
keep = true
axes = {"field.beta" = [1.0, 1.0000001]}
"""


def test_points_have_folders_of_their_own():
    assert name_of({"field.beta": 2.0, "seed": 3}) == "field.beta=2,seed=3"
    points = [{"b": 1.0}, {"b": 1.0000001}, {"b": 1.0000002}, {"b": "x/y"}, {"b": "x y"}, {"b": "x-y"}]
    points += [{"b": "a" * 300}, {"b": "a" * 301}]
    names = [name_of(point) for point in points]
    assert len(set(names)) == len(names) and max(map(len, names)) < 200 and not any("/" in name for name in names)


def test_values_close_to_each_other_and_a_file_named_in_another_way(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "sweep.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    options = {"backend": "torch", "workers": 0, "progress": False}
    run = run_sweep(read_config("sweep.toml"), "out", **options)
    assert (run.sweep["error"].values == "").all()
    for beta, address in zip([1.0, 1.0000001], run.sweep["report"].values.tolist(), strict=True):
        folder = (tmp_path / "out" / address).parent
        assert ctsa.load(folder).about["table"]["field"]["beta"] == beta

    monkeypatch.chdir(tmp_path / "inner")
    again = run_sweep(read_config("../sweep.toml"), "../out", resume=True, **options)
    assert again.sweep["norm"].values.tolist() == run.sweep["norm"].values.tolist()
