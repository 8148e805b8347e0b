"""What sweeps say to bad input."""

import subprocess
import sys

import pytest

pytest.importorskip("distributed")

import ctsa
from ctsa.sweeps import read


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"function": 3}, TypeError, "function must be called"),
        ({"grid": [1]}, TypeError, "grid must map names"),
        ({"grid": {}}, ValueError, "grid has no parameters"),
        ({"grid": {"x": 1.0}}, TypeError, "put a single value into a list"),
        ({"grid": {"x": "abc"}}, TypeError, "grid['x'] must be a sequence"),
        ({"grid": {"x": []}}, ValueError, "got none"),
        ({"grid": {"x": [1, "a"]}}, TypeError, "all of one kind"),
        ({"grid": {"x": [1.0, None]}}, TypeError, "all of one kind"),
        ({"grid": {"x": [1.0, 1.0]}}, ValueError, "holds a value twice"),
        ({"grid": {"x": [1.0, float("nan")]}}, ValueError, "must be finite"),
        ({"grid": {"x": [[1.0], [2.0]]}}, TypeError, "all of one kind"),
        ({"grid": {"error": [1.0]}}, ValueError, "rename it"),
        ({"grid": {"x": {}}}, TypeError, "labels of a dict"),
        ({"out": 3.5}, TypeError, "out must be"),
        ({"workers": 1.5}, TypeError, "workers must be an integer"),
        ({"workers": -1}, ValueError, "workers must be"),
        ({"scheduler": "host"}, ValueError, "scheduler must be 'sync' or an address"),
        ({"scheduler": 3}, TypeError, "scheduler must be None"),
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, ValueError, "workers is for processes of this machine"),
        ({"batch": 0}, ValueError, "batch must be"),
        ({"batched": "no"}, TypeError, "batched must be True or False"),
        ({"retry": 2}, TypeError, "retry must be True or False"),
        ({"refine": "y"}, ValueError, "refine: 'y' is no parameter"),
        ({"refine": 3}, TypeError, "refine must be the name"),
        ({"grid": {"x": ["a", "b"]}, "refine": "x"}, ValueError, "no numbers between whose values"),
        ({"refine": "x", "rounds": 0}, ValueError, "rounds must be"),
        ({"refine": "x"}, ValueError, "by must name a variable of the sweep, one of value"),
        ({"by": 3}, TypeError, "by must be"),
        ({"progress": "yes"}, TypeError, "progress must be"),
    ],
)
def test_bad_input(given, error, said):
    call = {"function": lambda x: 1.0, "grid": {"x": [1.0, 2.0]}, "workers": 0} | given
    if "scheduler" in given and "workers" not in given:
        del call["workers"]
    with pytest.raises(error) as caught:
        ctsa.sweep(call.pop("function"), call.pop("grid"), **call)
    assert said in str(caught.value)


def test_what_cannot_be_sent_is_said():
    import threading

    lock = threading.Lock()
    with pytest.raises(TypeError, match="function cannot be sent"):
        ctsa.sweep(lambda x: lock and x, {"x": [1.0]}, workers=1)


def test_no_scheduler_and_no_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match="no sweep"):
        read(tmp_path)
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
        with pytest.raises(ConnectionError, match="no scheduler of Dask answers"):
            ctsa.sweep(lambda x: x, {"x": [1.0]}, scheduler="tcp://127.0.0.1:1")


def test_importing_ctsa_does_not_import_dask():
    code = "import sys, ctsa; assert not {'dask', 'xarray', 'zarr', 'ctsa.sweeps'} & set(sys.modules); ctsa.sweep"
    subprocess.run([sys.executable, "-c", code], check=True)
