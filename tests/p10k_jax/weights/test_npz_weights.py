"""Google's checkpoints against what timm's own loaders make of the same files, bit by bit."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from p10k_jax.weights.npz_weights import npz_preprocessing, read_npz_weights
from p10k_jax.weights.preprocessing import Preprocessing
from tests.goldens import weight_recipe

GOLDENS = json.loads((Path(weight_recipe.__file__).parent / "weights.json").read_text())["archives"]
LAYOUTS = {
    "vit": "the original ViT's layout",
    "vit-under-opt": "the original ViT's layout under opt/target/",
    "big_vision": "big_vision's layout under params/",
    "big_vision-stacked": "big_vision's layout under params/",
    "siglip": "big_vision's layout under params/img/",
    "siglip-stacked": "big_vision's layout under params/img/",
    "bit": "BiT's layout under resnet/",
}


def read(path, arrays):
    np.savez(path / "x.npz", **arrays)
    return read_npz_weights(path / "x.npz")


@pytest.mark.parametrize("name", weight_recipe.ARCHIVES)
def test_every_tensor_is_timms(name, tmp_path):
    tensors, description = read(tmp_path, weight_recipe.ARCHIVES[name])
    assert {key: weight_recipe.hashed(tensor) for key, tensor in tensors.items()} == GOLDENS[name]
    assert description.split(";")[0] == LAYOUTS[name]
    expected = None if name == "bit" else Preprocessing((0.5,) * 3, (0.5,) * 3, 16)
    assert npz_preprocessing(tmp_path / "x.npz") == expected


def test_half_precision_is_read_as_it_is_meant(tmp_path):
    arrays = {name: array.astype(ml_dtypes.bfloat16) for name, array in weight_recipe.ARCHIVES["siglip"].items()}
    rounded = read(tmp_path, arrays).tensors
    for name, tensor in read(tmp_path, weight_recipe.ARCHIVES["siglip"]).tensors.items():
        np.testing.assert_array_equal(rounded[name], tensor.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_other_towers_and_optimizers_stay_unread_and_are_told(tmp_path):
    arrays = weight_recipe.ARCHIVES["siglip"] | {"opt/0/mu/embedding/kernel": np.array(["no number"])}
    tensors, description = read(tmp_path, arrays)
    assert tensors.keys() == GOLDENS["siglip"].keys()
    assert description.endswith(
        "left out on purpose: params/txt (the text tower, 2 arrays), params/t (1 array), "
        "opt (the optimizer's state, 1 array)"
    )


def test_a_layer_before_the_head_goes_with_the_head(tmp_path):
    extra = {"pre_logits/kernel": np.zeros((24, 24), np.float32), "pre_logits/bias": np.zeros(24, np.float32)}
    tensors, description = read(tmp_path, weight_recipe.ARCHIVES["vit"] | extra)
    assert GOLDENS["vit"].keys() - tensors.keys() == {"head.weight", "head.bias"}
    assert not tensors.keys() - GOLDENS["vit"].keys()
    assert "left out on purpose: pre_logits" in description


def test_positions_that_are_not_in_the_file_are_told(tmp_path):
    arrays = {n: a for n, a in weight_recipe.ARCHIVES["big_vision"].items() if not n.endswith("pos_embedding")}
    tensors, description = read(tmp_path, arrays)
    assert GOLDENS["big_vision"].keys() - tensors.keys() == {"pos_embed"}
    assert "positions, which are fixed sines and cosines" in description
    assert npz_preprocessing(tmp_path / "x.npz") is None


def test_flattened_patches_and_a_grid_of_positions(tmp_path):
    """SigLIP 2 NaFlex: the patch is a dense layer over its rows, columns and channels."""
    plain = weight_recipe.ARCHIVES["siglip"]
    kernel, table = plain["params/img/embedding/kernel"], plain["params/img/pos_embedding"]
    arrays = plain | {
        "params/img/embedding/kernel": kernel.reshape(-1, kernel.shape[-1]),
        "params/img/pos_embedding": table.reshape(4, 4, -1),
    }
    tensors, _ = read(tmp_path, arrays)
    assert {key: weight_recipe.hashed(tensor) for key, tensor in tensors.items()} == GOLDENS["siglip"]
    assert npz_preprocessing(tmp_path / "x.npz").image_size == 16


def test_names_that_are_not_known_are_kept_for_the_fit_to_tell(tmp_path):
    extra = {"extra/scale": np.ones(3), "Transformer/encoderblock_1/Gate_0/scale": np.ones(3)}
    tensors, _ = read(tmp_path, weight_recipe.ARCHIVES["vit"] | extra)
    assert tensors.keys() - GOLDENS["vit"].keys() == {"extra/scale", "blocks.1.Gate_0.weight"}


def test_files_that_are_none_of_these(tmp_path):
    vit = weight_recipe.ARCHIVES["vit"]
    key = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"
    cases = [
        ({"a": np.ones(2), "b": np.ones(2)}, r"x\.npz is in no layout known here .*; it holds a, b\.\.\."),
        ({}, "it holds nothing"),
        (vit | {"conv_root/kernel": np.ones(2)}, "hybrid of ResNet and ViT"),
        ({n: a for n, a in vit.items() if n != key}, "query/kernel is there, but .*/key/kernel is missing"),
        (vit | {"embedding/kernel": np.ones((5, 3), np.float32)}, r"embedding/kernel \(5, 3\) is not shaped as"),
        (vit | {"pos_embedding": np.ones((1, 17, 24))}, "pos_embedding and pos_embedding are both pos_embed"),
        (
            weight_recipe.ARCHIVES["big_vision-stacked"]
            | {"params/Transformer/encoderblock/LayerNorm_0/scale": np.float32(1)},
            r"encoderblock/LayerNorm_0/scale \(\) is not shaped as blocks\.\*\.norm1\.weight",
        ),
    ]
    for arrays, message in cases:
        with pytest.raises(ValueError, match=message):
            read(tmp_path, arrays)
