"""Every config can be read, describes a run that can be lowered, and says what it cannot take."""

import functools
import importlib
import json

import jax
import pytest

from p10k_jax import recipe, setup
from p10k_jax.config import as_plain
from p10k_jax.training.duration import run_steps, to_steps
from p10k_jax.weights.preprocessing import preprocessing_of

ARGUMENTS = {
    "demo": None,
    "finetune": "model=vit_base_patch16_siglip_224",
    "resnet": "depth=18",
    "vit": "variant=Ti/16",
    "products10k.resnet50_224": None,
    "products10k.vit_s16_224": None,
    "products10k.vit_b14_dinov2_336": None,
    "products10k.vit_b16_siglip_384": None,
    "products10k.vit_l16_siglip_384": None,
}
# The official split, all but its pictures.
PRODUCTS10K = {"batch_size": 256, "num_examples": 134_024}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_config_describes_a_run(name):
    config = importlib.import_module(f"configs.{name}").get_config(ARGUMENTS[name])
    assert config.is_locked
    json.dumps(as_plain(config))
    with config.unlocked():
        told = preprocessing_of(config.model.name)
        config.data.image_size = config.data.image_size or told.image_size
        config.data.mean, config.data.std = told.mean, told.std
        config.model.num_classes, config.model.num_groups = 97, 12 if config.loss.group_weight else 0
        config.model.dtype = "bfloat16"
    assert setup.canvas_size(config) >= config.data.image_size
    total_steps = run_steps(config.duration, **PRODUCTS10K)
    in_steps = functools.partial(to_steps, total_steps=total_steps, **PRODUCTS10K)
    model = setup.make_model(config)
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    recipe.optimizer(config, params, total_steps, in_steps)  # every pattern matches something
    phases = recipe.phases(config, total_steps, in_steps)
    assert phases[-1].until == total_steps
    size = config.data.image_size
    canvas = jax.ShapeDtypeStruct((1, size + 8, size + 8, 3), "uint8")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    images = jax.eval_shape(phases[0].views, keys, canvas, jax.ShapeDtypeStruct((1,), "float32"))
    apply = functools.partial(model.apply, train=True)
    outputs, _ = jax.eval_shape(
        lambda p, s, x, k: apply(p, s, x, key=k), params, batch_stats, images, jax.eval_shape(lambda: jax.random.key(0))
    )
    assert outputs.logits.shape == (1, 97)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_unknown_argument_is_refused(name):
    with pytest.raises(ValueError, match=r"size=3"):
        importlib.import_module(f"configs.{name}").get_config("size=3")
