"""Weights of a file into a model: what is taken, resampled, made anew, refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.models import create
from p10k_jax.models.pretrained import fit_tensors, overlay, read_tensors, same_part
from p10k_jax.models.state_dict import to_timm, tree_paths
from p10k_jax.models.vit import resample_positions
from tests.goldens import recipe

POSITIONS = json.loads((Path(recipe.__file__).parent / "positions.json").read_text())
SMALL = {"width": 24, "depth": 2, "heads": 3}


def template(name="vit-Ti/8", num_classes=5, image_size=32, **options):
    model = create(
        name, num_classes=num_classes, image_size=image_size, **({} if "resnet" in name else SMALL), **options
    )
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    return model, {"params": params, "batch_stats": batch_stats}


def tensors_of(tree):
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), tree)
    return recipe.fixed_weights({name: v.shape for part in zeros.values() for name, v in to_timm(part).items()})


@pytest.mark.parametrize(("old", "new", "prefix"), recipe.GRIDS)
def test_positions_are_resampled_as_timm_does(old, new, prefix):
    ours = resample_positions(jnp.asarray(recipe.fixed_positions(old, prefix)), prefix, new, new)
    np.testing.assert_allclose(ours, POSITIONS[f"{old},{new},{prefix}"], atol=2e-6)


def test_positions_of_no_square_are_refused():
    with pytest.raises(ValueError, match=r"pos_embed: 12 positions less 1 prefix tokens make no square grid"):
        resample_positions(jnp.zeros((1, 12, 4)), 1, 3, 3)


@pytest.mark.parametrize("name", ["vit-Ti/8", "resnet-18"])
def test_a_file_that_fits_fills_every_leaf(name, tmp_path):
    _, tree = template(name)
    tensors = tensors_of(tree)
    file = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors | {"bn1.num_batches_tracked": np.zeros((), np.int64)}, file)
    fit = fit_tensors(read_tensors(file), tree)
    assert jax.tree.structure(fit.weights) == jax.tree.structure({k: v for k, v in tree.items() if v})
    assert (fit.new, fit.left_over, fit.resized) == ((), (), ())
    back = {name: value for part in fit.weights.values() for name, value in to_timm(part).items()}
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor)


def test_half_precision_is_read_as_it_is_meant(tmp_path):
    file = tmp_path / "half.safetensors"
    values = np.array([1.5, -0.0078125], np.float32)
    safetensors.numpy.save_file({"a": values.astype(ml_dtypes.bfloat16), "b": values.astype(np.float16)}, file)
    for tensor in read_tensors(file).values():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, values)


@pytest.mark.parametrize("given", [None, 9])
def test_another_number_of_classes_makes_the_head_alone_anew(given):
    model, tree = template(num_classes=5)
    tensors = tensors_of(tree)
    tensors["head.weight"] = np.ones((given or 5, 24))  # of 9 classes; the bias of 5 is then not kept either
    if given is None:
        del tensors["head.weight"], tensors["head.bias"]
    fit = fit_tensors(tensors, tree, prefix_tokens=model.prefix_tokens)
    assert fit.new == ("head.bias", "head.kernel")
    assert "newly made: head.bias, head.kernel" in str(fit)
    assert "head" not in fit.weights["params"]
    assert len(tree_paths(fit.weights)) == len(tree_paths(tree)) - 2


@pytest.mark.parametrize(
    ("options", "prefix"), [({}, 1), ({"registers": 2}, 3), ({"registers": 2, "embed_prefix": False}, 0)]
)
def test_another_resolution_resamples_the_patches_positions(options, prefix):
    model, tree = template(image_size=32, **options)
    _, larger = template(image_size=56, **options)
    assert model.prefix_tokens == prefix
    tensors = tensors_of(larger)
    fit = fit_tensors(tensors, tree, prefix_tokens=model.prefix_tokens)
    positions = fit.weights["params"]["pos_embed"]
    assert positions.shape == (1, 16 + prefix, 24)
    np.testing.assert_array_equal(positions[:, :prefix], tensors["pos_embed"][:, :prefix])
    assert fit.resized == (f"pos_embed {49 + prefix} -> {16 + prefix}",)


def test_what_does_not_fit_is_listed_with_the_way_out():
    _, tree = template()
    tensors = tensors_of(tree)
    tensors["mask_token"] = np.zeros((1, 24))
    del tensors["blocks.1.norm2.bias"]
    tensors["blocks.0.attn.qkv.weight"] = np.zeros((30, 24))
    with pytest.raises(ValueError, match="is it the right architecture") as error:
        fit_tensors(tensors, tree)
    message = str(error.value)
    assert "missing blocks.1.norm2.bias: the model's blocks.1.norm2.bias (24,); model.weights_new allows" in message
    assert "left over mask_token (1, 24); model.weights_left_over allows" in message
    assert "blocks.0.attn.qkv.weight has shape (24, 30) in our layout, the model's blocks.0.attn.qkv.kernel" in message
    tensors["blocks.0.attn.qkv.weight"] = np.zeros((72, 24))
    with pytest.raises(ValueError, match=r"model\.weights_new: '\(' is no regular expression"):
        fit_tensors(tensors, tree, new=["("])
    fit = fit_tensors(tensors, tree, new=[r"norm2\.bias$"], left_over=["mask_token"])
    assert (fit.new, fit.left_over) == (("blocks.1.norm2.bias",), ("mask_token",))


def test_another_architecture_is_refused_in_few_lines():
    _, tree = template("resnet-18")
    with pytest.raises(ValueError, match=r"(?s)missing bn1\.running_mean.*and \d+ more") as error:
        fit_tensors(tensors_of(template()[1]), {"params": tree["params"], "batch_stats": tree["batch_stats"]})
    assert len(str(error.value).splitlines()) < 25


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"none\.safetensors: there is no such file"):
        read_tensors(tmp_path / "none.safetensors")
    pickled = tmp_path / "weights.pth"
    pickled.write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match=r"weights\.pth is no \.safetensors file; a pickle.*could run any code"):
        read_tensors(pickled)
    whole = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file({"a": np.ones((64, 64), np.float32)}, whole)
    for length in (0, 4, 60, 5_000):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors is damaged or cut short"):
            read_tensors(cut)


def test_parts_of_trees():
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlay(tree, {"a": {"c": 5}}) == {"a": {"b": 1, "c": 5}, "d": 3}
    assert same_part(tree, {"a": {"c": 5}}) == {"a": {"c": 2}}
    assert tree == {"a": {"b": 1, "c": 2}, "d": 3}
