"""The recipe that a config describes."""

import hashlib

import numpy as np
from ml_collections import ConfigDict

from p10k_jax import recipe
from p10k_jax.models import create
from p10k_jax.weights.preprocessing import Preprocessing
from tests.goldens import weight_recipe


def test_a_run_knows_whose_weights_it_starts_from(tmp_path):
    archive = tmp_path / "x.npz"
    np.savez(archive, **weight_recipe.ARCHIVES["siglip"])
    model = create(
        "vit-S/4",
        num_classes=3,
        image_size=24,
        width=weight_recipe.WIDTH,
        depth=weight_recipe.DEPTH,
        heads=weight_recipe.HEADS,
        mlp_ratio=weight_recipe.HIDDEN / weight_recipe.WIDTH,
        class_token=False,
        pool="map",
    )
    config = ConfigDict(
        {"model": {"weights": str(archive), "weights_new": (), "weights_left_over": (), "weights_without": ()}}
    )
    fit = recipe.start_weights(config, model)
    assert set(fit.new) == {"head.kernel", "head.bias"}
    assert fit.resized == ("pos_embed 16 -> 36",)
    assert fit.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert fit.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3, 16)
    assert f"source: {archive}; big_vision's layout under params/img/; left out on purpose: params/txt" in str(fit)
    config.model.weights = ""
    assert recipe.start_weights(config, model) is None
