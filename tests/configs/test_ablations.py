"""Every variant of every ablation is the config of a run that can start."""

import functools
from pathlib import Path

import jax
import pytest

from p10k_jax import recipe, setup
from p10k_jax.ablation.variants import build, read_variants
from p10k_jax.train import plan
from p10k_jax.training.duration import run_steps, to_steps
from tests.runs import SETTINGS

ABLATIONS = Path("configs/ablations")
SMALL = {"batch_size": 8, "model.options.depth": 1, "model.options.width": 48, "model.options.heads": 3}
VARIANTS = {"heads": 6, "resolution": 6, "augmentation": 13, "sampling": 7, "optimizer": 9, "pretraining": 1}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_passes_the_plan_of_a_run(name, tiny_data, tmp_path):
    settings = {key: value for key, value in SETTINGS.items() if key.startswith("data.") and key != "data.image_size"}
    settings |= SMALL | {"data.data_dir": tiny_data} | ({} if name == "resolution" else {"data.image_size": 28})
    file = ABLATIONS / f"{name}.py"
    variants = read_variants(file)
    assert len(variants) == VARIANTS[name]
    for variant, config in build(
        str(file), None, variants, [f"--config.{key}={value}" for key, value in settings.items()]
    ).items():
        assert plan(config, tmp_path / variant).total_steps == 70  # 10 epochs of 56 images


def test_architectures_are_known_and_their_patterns_match():
    file = ABLATIONS / "architecture.py"
    sizes = {"batch_size": 32, "num_examples": 134_024}
    configs = build(str(file), None, read_variants(file), [])
    assert {"resnet" in name for name in configs} == {True, False}
    for config in configs.values():
        assert config.optimizer.layer_decay == 1.0
        with config.unlocked():
            config.model.num_classes, config.model.num_groups, config.model.dtype = 97, 0, "bfloat16"
        model = setup.make_model(config)
        params, _ = jax.eval_shape(model.init, jax.random.key(0))
        total_steps = run_steps(config.duration, **sizes)
        in_steps = functools.partial(to_steps, total_steps=total_steps, **sizes)
        recipe.optimizer(config, params, total_steps, in_steps)  # every pattern matches something


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("hub", "hf_hub:timm/resnet50.a1_in1k"), ("/f", "/f/resnet50.a1_in1k.safetensors")],
)
def test_architectures_with_weights(weights, expected):
    file, arg = ABLATIONS / "architecture.py", f"weights={weights}"
    config = build(str(file), arg, read_variants(file, arg), [])["resnet50.a1_in1k"]
    assert (config.model.weights, config.optimizer.layer_decay) == (expected, 0.75)


def test_sources_of_weights():
    file, arg = ABLATIONS / "pretraining.py", "sources=dino=hf_hub:timm/x.y+mine=/w=1"
    configs = build(str(file), arg, read_variants(file, arg), [])
    assert {name: config.model.weights for name, config in configs.items()} == {
        "chance": "",
        "dino": "hf_hub:timm/x.y",
        "mine": "/w=1",
    }
    assert [config.optimizer.layer_decay for config in configs.values()] == [1.0, 0.75, 0.75]
    with pytest.raises(ValueError, match="'dino' is no NAME=SOURCE"):
        read_variants(file, "sources=dino")
