"""State dicts of torchvision and of DINOv2: the same network under timm's names."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.models import create
from p10k_jax.weights.files import read_weights
from p10k_jax.weights.fit import fit_tensors
from p10k_jax.weights.foreign_names import in_timm_names
from p10k_jax.weights.preprocessing import Preprocessing
from tests.goldens import recipe, weight_recipe

GOLDENS = json.loads((Path(weight_recipe.__file__).parent / "weights.json").read_text())
SHAPE = {"width": weight_recipe.WIDTH, "depth": weight_recipe.DEPTH, "heads": weight_recipe.HEADS}


@pytest.mark.parametrize("old_names", [False, True])
def test_torchvisions_vit_gives_torchvisions_logits(old_names, tmp_path):
    weights = recipe.fixed_weights(weight_recipe.torchvision_vit())
    if old_names:  # of torchvision 0.12
        rename = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
        for new, old in rename.items():
            weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    safetensors.numpy.save_file(weights, tmp_path / "x.safetensors")
    file = read_weights(str(tmp_path / "x.safetensors"))
    assert file.description.endswith("x.safetensors; torchvision's names")
    assert file.preprocessing == Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 16)

    options = SHAPE | {"mlp_ratio": weight_recipe.HIDDEN / weight_recipe.WIDTH}
    model = create("vit-B/4", num_classes=weight_recipe.CLASSES, image_size=16, **options)
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    fit = fit_tensors(file.tensors, {"params": params, "batch_stats": batch_stats}, prefix_tokens=model.prefix_tokens)
    assert (fit.new, fit.left_over, fit.resized) == ((), (), ())
    logits = jax.jit(model.apply)(fit.weights["params"], {}, recipe.fixed_images(16))[0].logits
    np.testing.assert_allclose(logits, GOLDENS["torchvision_logits"], atol=1e-5)


def test_dinov2s_own_files_become_timms():
    tensors, whose = in_timm_names(weight_recipe.dinov2(), "x")
    assert whose == "DINOv2's names"
    np.testing.assert_array_equal(tensors.pop("mask_token"), weight_recipe.dinov2()["mask_token"])  # told by the fit
    assert {name: weight_recipe.hashed(tensor) for name, tensor in tensors.items()} == GOLDENS["dinov2"]


def test_timms_names_stay():
    tensors = {"cls_token": np.zeros(1), "fc.weight": np.zeros(1)}
    assert in_timm_names(tensors, "x") == (tensors, "timm's names")


@pytest.mark.parametrize(
    ("name", "codebase"),
    [
        ("vit.embeddings.patch_embeddings.projection.weight", "transformers"),
        ("embeddings.patch_embeddings.projection.weight", "transformers"),
        ("vision_model.embeddings.patch_embedding.weight", "transformers"),
        ("resnet.encoder.stages.0.layers.0.shortcut.convolution.weight", "transformers"),
        ("embeddings.patch_embeddings.weight", "transformers"),
        ("encoder.layer.0.attention.attention.query.weight", "transformers"),
        ("visual.conv1.weight", "open_clip"),
        ("visual.trunk.pos_embed", "open_clip"),
    ],
)
def test_names_that_are_not_read_are_told_with_the_way_out(name, codebase):
    with pytest.raises(ValueError, match=f"x.safetensors has the names of {codebase}, which are not read.*hf_hub:timm"):
        in_timm_names({name: np.zeros(1)}, "x.safetensors")
