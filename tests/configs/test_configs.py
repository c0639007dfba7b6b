"""Every config can be read, names a model that exists, and says what it cannot take."""

import importlib
import json

import jax
import pytest

from p10k_jax.config import as_plain
from p10k_jax.models import create
from p10k_jax.training.optimizer import make_optimizer

ARGUMENTS = {
    "demo": None,
    "finetune": "model=vit_base_patch16_siglip_224",
    "resnet": "depth=18",
    "vit": "variant=Ti/16",
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_config_describes_a_run(name):
    config = importlib.import_module(f"configs.{name}").get_config(ARGUMENTS[name])
    assert config.is_locked
    json.dumps(as_plain(config))
    options = {key: value for key, value in config.model.options.items() if value is not None}
    model = create(config.model.name, num_classes=7, image_size=64, **options)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    settings = {key: value for key, value in config.optimizer.items() if key not in ("name", "learning_rate")}
    make_optimizer(config.optimizer.name, lambda step: 1.0, params, **settings)  # every pattern matches something


@pytest.mark.parametrize("name", ARGUMENTS)
def test_unknown_argument_is_refused(name):
    with pytest.raises(ValueError, match=r"size=3"):
        importlib.import_module(f"configs.{name}").get_config("size=3")
