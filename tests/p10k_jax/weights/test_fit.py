"""Weights of a file into a model: what is taken, resampled, made anew, refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.models import create
from p10k_jax.weights.files import read_weights
from p10k_jax.weights.fit import count_classes, fit_tensors, overlay, resize_positions, same_part
from p10k_jax.weights.state_dict import to_timm, tree_paths
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
    ours = resize_positions(recipe.fixed_positions(old, prefix), new * new + prefix, prefix_tokens=prefix)
    np.testing.assert_allclose(ours, POSITIONS[f"{old},{new},{prefix}"], atol=2e-6)


def test_positions_of_no_square_are_refused():
    with pytest.raises(ValueError, match=r"pos_embed: 12 positions less 1 prefix tokens make no square grid"):
        resize_positions(np.zeros((1, 12, 4)), 10, prefix_tokens=1)


@pytest.mark.parametrize(("options", "rows"), [({"class_token": False, "pool": "map"}, 17), ({}, 16), ({}, 50 + 3)])
def test_positions_of_other_prefix_tokens_are_told_beside_what_else_is_wrong(options, rows):
    model, tree = template(**options)
    tensors = tensors_of(tree) | {"pos_embed": np.zeros((1, rows, 24)), "extra": np.zeros(3)}
    with pytest.raises(ValueError, match="left over extra") as error:
        fit_tensors(tensors, tree, prefix_tokens=model.prefix_tokens)
    hint = {17: "17 would be 16 and 1 prefix tokens", 16: "16 would be 16 and 0", 53: "53 would be 49 and 4"}[rows]
    assert f"{rows} positions less {model.prefix_tokens} prefix tokens make no square grid. {hint}" in str(error.value)


@pytest.mark.parametrize("name", ["vit-Ti/8", "resnet-18"])
def test_a_file_that_fits_fills_every_leaf(name, tmp_path):
    _, tree = template(name)
    tensors = tensors_of(tree)
    file = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors | {"bn1.num_batches_tracked": np.zeros((), np.int64)}, file)
    fit = fit_tensors(read_weights(str(file)).tensors, tree)
    assert jax.tree.structure(fit.weights) == jax.tree.structure({k: v for k, v in tree.items() if v})
    assert (fit.new, fit.left_over, fit.resized) == ((), (), ())
    back = {name: value for part in fit.weights.values() for name, value in to_timm(part).items()}
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor)


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
    tensors["extra_token"] = np.zeros((1, 24))
    del tensors["blocks.1.norm2.bias"]
    tensors["blocks.0.attn.qkv.weight"] = np.zeros((30, 24))
    with pytest.raises(ValueError, match="is it the right architecture") as error:
        fit_tensors(tensors, tree)
    message = str(error.value)
    assert "missing blocks.1.norm2.bias: the model's blocks.1.norm2.bias (24,); model.weights_new allows" in message
    assert "left over extra_token (1, 24); model.weights_left_over allows" in message
    assert "blocks.0.attn.qkv.weight has shape (24, 30) in our layout, the model's blocks.0.attn.qkv.kernel" in message
    tensors["blocks.0.attn.qkv.weight"] = np.zeros((72, 24))
    with pytest.raises(ValueError, match=r"model\.weights_new: '\(' is no regular expression"):
        fit_tensors(tensors, tree, new=["("])
    fit = fit_tensors(tensors, tree, new=[r"norm2\.bias$"], left_over=["extra_token"])
    assert (fit.new, fit.left_over) == (("blocks.1.norm2.bias",), ("extra_token",))


def test_another_architecture_is_refused_in_few_lines():
    _, tree = template("resnet-18")
    with pytest.raises(ValueError, match=r"(?s)missing bn1\.running_mean.*and \d+ more") as error:
        fit_tensors(tensors_of(template()[1]), {"params": tree["params"], "batch_stats": tree["batch_stats"]})
    assert len(str(error.value).splitlines()) < 25


def test_two_networks_are_compared():
    _, tree = template()
    shapes = {"patch_embed.proj.weight": (1024, 3, 16, 16), "cls_token": (1, 1, 1024)}
    shapes |= {f"blocks.{i}.norm1.weight": (1024,) for i in range(24)}
    message = (
        "The weights do not fit the model: the file holds 24 blocks of width 1024 with patches of 16, a class token; "
        "the model has 2 blocks of width 24 with patches of 8, a class token.\n"
    )
    with pytest.raises(ValueError, match=message):
        fit_tensors({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, tree)


def test_what_timm_passes_over_is_left_over_and_told():
    _, tree = template()
    extras = ("mask_token", "lm_head.bias", "rope.periods", "blocks.0.attn.rope.freqs_cos", "attn_pool.q.bias")
    tensors = tensors_of(tree) | {name: np.zeros(3, np.float32) for name in extras}
    fit = fit_tensors(tensors, tree)
    assert fit.left_over == extras
    assert f"left over: {', '.join(extras)}" in str(fit)
    with pytest.raises(ValueError, match=r"left over rope\.freqs \(3,\)"):  # learned, in timm's mixed RoPE
        fit_tensors(tensors | {"rope.freqs": np.zeros(3, np.float32)}, tree)
    _, pooled = template(class_token=False, pool="map")
    with pytest.raises(ValueError, match=r"left over attn_pool\.pos_embed"):
        fit_tensors(tensors_of(pooled) | {"attn_pool.pos_embed": np.zeros(3, np.float32)}, pooled)


def test_a_norm_after_pooling_starts_as_the_one_before_it():
    _, tree = template()
    _, averaging = template(pool="avg")
    tensors = tensors_of(tree)
    fit = fit_tensors(tensors, averaging)
    np.testing.assert_array_equal(fit.weights["params"]["fc_norm"]["scale"], tensors["norm.weight"])
    np.testing.assert_array_equal(fit.weights["params"]["fc_norm"]["bias"], tensors["norm.bias"])
    assert fit.renamed == ("norm.weight -> fc_norm.weight", "norm.bias -> fc_norm.bias")
    assert "renamed: norm.weight -> fc_norm.weight" in str(fit)
    assert "norm.weight" in tensors  # the caller's own
    with pytest.raises(ValueError, match=r"left over norm\.weight"):
        fit_tensors(tensors | {"fc_norm.weight": np.zeros(24), "fc_norm.bias": np.zeros(24)}, averaging)


def with_parts(tree, **parts):
    """The template with other modules: shapes by path."""
    params = dict(tree["params"])
    for path, leaves in parts.items():
        params[path] = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, np.float32), leaves, is_leaf=lambda node: isinstance(node, tuple)
        )
    return {"params": params, "batch_stats": tree["batch_stats"]}


NECK = {"embedding": {"kernel": (24, 24), "bias": (24,)}}


def test_a_neck_that_is_new_makes_the_classifier_on_it_new():
    _, tree = template()
    tensors = tensors_of(tree)
    wanted = with_parts(tree, neck=NECK, group_head={"kernel": (24, 3), "bias": (3,)})
    fit = fit_tensors(tensors, wanted)
    parts = {path.split(".")[0] for path in fit.new}
    assert parts == {"head", "neck", "group_head"}
    assert "the classifier among them" not in str(fit)
    # All of a run of our own comes back, and its trunk serves a model without a neck.
    own = tensors_of(wanted)
    fit = fit_tensors(own, wanted)
    assert (fit.new, fit.left_over) == ((), ())
    fit = fit_tensors(own, tree)
    assert set(fit.new) == {"head.kernel", "head.bias"}
    assert {name.split(".")[0] for name in fit.left_over} == {"neck", "group_head"}


def test_a_group_head_alone_is_new_beside_a_classifier_that_is_kept():
    _, tree = template()
    fit = fit_tensors(tensors_of(tree), with_parts(tree, group_head={"kernel": (24, 3), "bias": (3,)}))
    assert set(fit.new) == {"group_head.kernel", "group_head.bias"}


def test_a_classifier_with_other_parts_is_no_classifier_here():
    _, tree = template()
    fit = fit_tensors(tensors_of(tree), with_parts(tree, head={"kernel": (24, 5)}))  # a cosine head has no bias
    assert fit.new == ("head.kernel",)
    assert fit.left_over == ("head.bias",)


@pytest.mark.parametrize("rank", [2, 4])
def test_a_pointwise_convolution_is_a_dense_classifier(rank):
    _, tree = template()
    tensors = {name: value for name, value in tensors_of(tree).items() if not name.startswith("head.")}
    weight = np.arange(5 * 24, dtype=np.float32).reshape(5, 24, 1, 1)
    for tensor in (weight, weight[:, :, 0, 0]):
        kernel = (24, 5) if rank == 2 else (1, 1, 24, 5)
        wanted = with_parts(tree, head={"fc": {"kernel": kernel, "bias": (5,)}})
        fit = fit_tensors(tensors | {"head.fc.weight": tensor, "head.fc.bias": np.zeros(5)}, wanted)
        assert fit.new == ()
        found = fit.weights["params"]["head"]["fc"]["kernel"]
        assert found.shape == kernel
        np.testing.assert_array_equal(found.reshape(24, 5), weight[:, :, 0, 0].T)
        assert "the classifier among them" in str(fit)


def test_a_layer_before_the_classifier_makes_it_new():
    _, tree = template()
    tensors = tensors_of(tree) | {"pre_logits.fc.weight": np.zeros((24, 24)), "head_dist.bias": np.zeros(5)}
    fit = fit_tensors(tensors, tree)
    assert set(fit.new) == {"head.kernel", "head.bias"}
    assert fit.left_over == ("pre_logits.fc.weight", "head_dist.bias")
    assert count_classes(tensors) == 0


def test_classes_of_a_file():
    assert count_classes({"head.weight": np.zeros((7, 3))}) == 7
    assert count_classes({"fc.weight": np.zeros((6, 3))}) == 6
    assert count_classes({"head.fc.weight": np.zeros((5, 3, 1, 1))}) == 5
    assert count_classes({"blocks.0.mlp.fc1.weight": np.zeros((5, 3))}) == 0


def test_long_lists_are_cut_in_what_is_told():
    _, tree = template()
    tensors = tensors_of(tree) | {f"attn_pool.{i}": np.zeros(1) for i in range(20)}
    fit = fit_tensors(tensors, tree)._replace(source="a file", sha256="ab")
    lines = str(fit).splitlines()
    assert lines[-3].startswith("left over: attn_pool.0, ")
    assert lines[-3].endswith(", attn_pool.11, and 8 more")
    assert lines[-2:] == ["source: a file", "sha256: ab"]


def test_parts_of_trees():
    tree = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlay(tree, {"a": {"c": 5}}) == {"a": {"b": 1, "c": 5}, "d": 3}
    assert same_part(tree, {"a": {"c": 5}}) == {"a": {"c": 2}}
    assert tree == {"a": {"b": 1, "c": 2}, "d": 3}
