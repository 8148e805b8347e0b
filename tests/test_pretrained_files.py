"""Kinds of weight files: shards, pickles, bfloat16; and that opening one never runs code."""

import json
import pickle

import numpy as np
import pytest
from test_pretrained import TEXT, tiny_config, tiny_tensors, write_model

from ctsa import pretrained

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from safetensors.numpy import save_file  # noqa: E402
from safetensors.torch import save_file as save_torch_file  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "tiny")


@pytest.fixture
def wanted(folder):
    return pretrained.load(folder).states(TEXT)


@pytest.fixture
def bare(folder, wanted):
    """The same folder without its weights."""
    (folder / "model.safetensors").unlink()
    return folder


def as_torch(tensors):
    return {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}


def halves():
    names = sorted(tiny_tensors())
    return [{name: tiny_tensors()[name] for name in part} for part in (names[::2], names[1::2])]


def write_index(folder, name, files):
    table = {tensor: file for file, part in files.items() for tensor in part}
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))


def test_shards(bare, wanted):
    files = {f"model-0000{i}-of-00002.safetensors": part for i, part in enumerate(halves(), 1)}
    for name, part in files.items():
        save_file(part, bare / name)
    write_index(bare, "model.safetensors.index.json", files)
    np.testing.assert_array_equal(pretrained.load(bare).states(TEXT), wanted)
    (bare / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(pretrained.WeightsNotFound, match=r"model-00002-of-00002\.safetensors not found, named by model"):
        pretrained.load(bare)


def test_pickle_of_tensors(bare, wanted):
    tensors = as_torch({f"bert.{name}": tensor for name, tensor in tiny_tensors().items()})
    torch.save(tensors, bare / "pytorch_model.bin")
    np.testing.assert_array_equal(pretrained.load(bare).states(TEXT), wanted)
    torch.save(tensors, bare / "pytorch_model.bin", _use_new_zipfile_serialization=False)  # as before 2020
    np.testing.assert_array_equal(pretrained.load(bare).states(TEXT), wanted)


def test_pickles_in_shards(bare, wanted):
    files = {f"pytorch_model-0000{i}-of-00002.bin": part for i, part in enumerate(halves(), 1)}
    for name, part in files.items():
        torch.save(as_torch(part), bare / name)
    write_index(bare, "pytorch_model.bin.index.json", files)
    np.testing.assert_array_equal(pretrained.load(bare).states(TEXT), wanted)


def test_safetensors_come_first(folder, wanted):
    """A pickle beside them is not even opened."""
    (folder / "pytorch_model.bin").write_bytes(b"nothing that opens")
    np.testing.assert_array_equal(pretrained.load(folder).states(TEXT), wanted)


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_bfloat16(bare, wanted, kind):
    """Widened to float32 without loss."""
    half = {name: tensor.bfloat16() for name, tensor in as_torch(tiny_tensors()).items()}
    save_file({name: tensor.float().numpy() for name, tensor in half.items()}, bare / "model.safetensors")
    rounded = pretrained.load(bare).states(TEXT)
    (bare / "model.safetensors").unlink()
    if kind == "pickle":
        torch.save(half, bare / "pytorch_model.bin")
    else:
        save_torch_file(half, bare / "model.safetensors")
    np.testing.assert_array_equal(pretrained.load(bare).states(TEXT), rounded)
    assert 1e-3 < np.abs(rounded - wanted).max() < 0.3


class _Trap:
    """What a pickle of it does when it is opened by pickle.load."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused(bare, tmp_path, legacy):
    trap = tmp_path / "ran"
    tensors = as_torch(tiny_tensors()) | {"trap": _Trap(trap)}
    torch.save(tensors, bare / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: refused: .*could run code.*weights_only=True"):
        pretrained.load(bare)
    assert not trap.exists()
    torch.load(bare / "pytorch_model.bin", weights_only=False)["trap"].close()  # the trap is live
    assert trap.exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2], 2), pickle.dumps({"a": np.zeros(3)}, 2)])
def test_a_pickle_that_is_no_checkpoint_is_refused(bare, content):
    (bare / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: (refused|must be a dict of tensors)"):
        pretrained.load(bare)


def test_pickles_of_other_things(bare):
    torch.save([torch.zeros(2)], bare / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must be a dict of tensors, got list"):
        pretrained.load(bare)
    torch.save(as_torch(tiny_tensors()) | {"embeddings.LayerNorm.bias": 3}, bare / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"embeddings\.LayerNorm\.bias must be a tensor, got int"):
        pretrained.load(bare)


@pytest.mark.parametrize("table", [None, {}, [], {"a": 3}])
def test_index_without_files(bare, table):
    (bare / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(ValueError, match="weight_map must be an object from tensors to files"):
        pretrained.load(bare)


@pytest.mark.parametrize("name", ["../tiny.safetensors", "/tmp/x.safetensors", "deep/x.safetensors"])
def test_index_that_leaves_the_folder(bare, name):
    write_index(bare, "model.safetensors.index.json", {name: tiny_tensors()})
    with pytest.raises(ValueError, match=r"index\.json: it must name files beside it"):
        pretrained.load(bare)


def test_integers_are_no_weights(bare):
    tensors = tiny_tensors()
    tensors["embeddings.LayerNorm.bias"] = np.zeros(12, np.int64)
    save_file(tensors, bare / "model.safetensors")
    with pytest.raises(ValueError, match=r"LayerNorm\.bias must be floating, got int64"):
        pretrained.load(bare)


def test_weights_keep_their_type(tmp_path):
    """A model in half precision takes half the memory; what is computed is float64."""
    half = {name: tensor.astype(np.float16) for name, tensor in tiny_tensors().items()}
    model = pretrained.load(write_model(tmp_path / "half", config=tiny_config(), tensors=half))
    assert model._network.blocks[0].up.weight.dtype == np.float16
    assert model.states(TEXT).dtype == model.heads(0).query.dtype == model.heads(0).value_bias.dtype == np.float64
