"""Files and folders of weights: what is read, and what is refused with the way out."""

import hashlib
import json
import re

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.weights.files import read_preprocessing, read_weights
from p10k_jax.weights.preprocessing import Preprocessing
from tests.goldens import weight_recipe

CONFIG = {"architecture": "x", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.2] * 3, "input_size": [3, 256, 256]}}


@pytest.fixture
def folder(tmp_path):
    """As timm writes it."""
    safetensors.numpy.save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_folder_has_weights_and_preprocessing(folder):
    file = read_weights(str(folder))
    np.testing.assert_array_equal(file.tensors["a"], [[0, 1, 2], [3, 4, 5]])
    assert file.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert file.preprocessing == Preprocessing((0.5,) * 3, (0.2,) * 3, 256)
    assert file.description == f"{folder}/model.safetensors; timm's names"
    assert read_preprocessing(str(folder)) == file.preprocessing
    (folder / "config.json").unlink()
    assert read_weights(str(folder)).preprocessing is None


def test_a_file_alone_knows_no_preprocessing(folder):
    assert read_weights(str(folder / "model.safetensors")).preprocessing is None


def test_an_archive_is_read_by_its_ending(tmp_path):
    np.savez(tmp_path / "x.npz", **weight_recipe.ARCHIVES["siglip"])
    file = read_weights(str(tmp_path / "x.npz"))
    assert "blocks.1.attn.qkv.weight" in file.tensors
    assert (
        file.preprocessing == read_preprocessing(str(tmp_path / "x.npz")) == Preprocessing((0.5,) * 3, (0.5,) * 3, 16)
    )
    assert file.description.startswith(f"{tmp_path}/x.npz; big_vision's layout")
    assert file.sha256 == hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest()


def test_half_precision_is_read_as_it_is_meant(tmp_path):
    values = np.array([1.5, -0.0078125], np.float32)
    halves = {"a": values.astype(ml_dtypes.bfloat16), "b": values.astype(np.float16)}
    safetensors.numpy.save_file(halves, tmp_path / "half.safetensors")
    tensors = read_weights(str(tmp_path / "half.safetensors")).tensors
    assert tensors.keys() == halves.keys()
    for tensor in tensors.values():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, values)


def test_the_home_folder_may_be_short(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert read_weights("~/model.safetensors").tensors.keys() == {"a"}


@pytest.mark.parametrize("suffix", ["pth", "bin", "pt", "ckpt", "h5", "msgpack"])
def test_other_kinds_of_files_are_refused_unopened(suffix, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(b"\x80\x04")
    message = r"is no \.safetensors or \.npz file; a pickle.*could run any code.*safetensors\.torch\.save_file"
    with pytest.raises(ValueError, match=message):
        read_weights(str(path))


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"model\.weights=.*none\.safetensors: there is no such file"):
        read_weights(str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=r"=https://x/y\.npz is an address; fetch the file"):
        read_weights("https://x/y.npz")
    with pytest.raises(ValueError, match=r"the folder has no model\.safetensors; it holds nothing"):
        read_weights(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"has no model\.safetensors; it holds pytorch_model\.bin"):
        read_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json is no JSON"),
        ("[" * 100_000, r"config\.json is no JSON"),
        ("[]", r"config\.json is not timm's config\.json"),
        (json.dumps(CONFIG | {"pretrained_cfg": CONFIG["pretrained_cfg"] | {"std": [0, 1, 1]}}), "config.json: mean="),
    ],
)
def test_a_broken_config_is_told(text, message, folder):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_weights(str(folder))


def test_damaged_files(tmp_path):
    whole = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file({"a": np.ones((64, 64), np.float32)}, whole)
    cut = tmp_path / "cut.safetensors"
    for length in (0, 4, 60, 5_000):
        cut.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors is damaged or cut short"):
            read_weights(str(cut))
    cut.write_bytes(whole.read_bytes().replace(b'"F32"', b'"F8_"'))
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged or cut short"):
        read_weights(str(cut))


def test_quantised_weights_are_refused(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(4, np.complex64)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=re.escape("a is C64; floats of 16, 32 or 64 bits are read")):
        read_weights(str(tmp_path / "x.safetensors"))
