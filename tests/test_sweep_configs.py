"""Sweeps of configs: every point its own folder, and the same sweep from wherever its file is named."""

import numpy as np
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


def test_a_backend_that_is_an_axis_is_used(tmp_path):
    pytest.importorskip("jax")
    (tmp_path / "sweep.toml").write_text(
        FILE.replace('"field.beta" = [1.0, 1.0000001]', '"backend" = ["torch", "jax"]')
    )
    config = read_config(tmp_path / "sweep.toml")
    run = run_sweep(config, tmp_path / "out", backend="torch", workers=0, progress=False)
    for name, address in zip(["torch", "jax"], run.sweep["report"].values.tolist(), strict=True):
        assert ctsa.load((tmp_path / "out" / address).parent).about["backend"] == name
    assert run.sweep["norm"].values[0] == pytest.approx(run.sweep["norm"].values[1], abs=1e-12)


def test_a_file_on_an_axis_that_changes_is_another_sweep(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        np.save(tmp_path / f"{name}.npy", value * np.eye(2))
    axis = '"field.value" = ["a.npy", "b.npy"]'
    text = FILE.replace('"field.beta" = [1.0, 1.0000001]', axis).replace("keep = true", "")
    (tmp_path / "sweep.toml").write_text(text)
    options = {"backend": "torch", "workers": 0, "progress": False}
    first = run_sweep(read_config(tmp_path / "sweep.toml"), tmp_path / "out", **options).sweep["norm"].values
    assert first[1] == pytest.approx(2 * first[0])
    np.save(tmp_path / "b.npy", 3 * np.eye(2))
    with pytest.raises(ValueError, match=r"what is in b.npy"):
        run_sweep(read_config(tmp_path / "sweep.toml"), tmp_path / "out", resume=True, **options)
