"""Channel statistics and resolutions against timm's own, and out of its config files."""

import json
from pathlib import Path

import pytest

from p10k_jax.models.timm_names import TIMM_NAMES
from p10k_jax.weights.preprocessing import Preprocessing, preprocessing_of, preprocessing_of_config
from tests.goldens import recipe

NAMES = json.loads((Path(recipe.__file__).parent / "preprocessing.json").read_text())
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = {"pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [1, 0.2, 0.3], "input_size": [3, 256, 256]}}


@pytest.mark.parametrize("golden", NAMES)
def test_every_pretrained_name_of_timms_has_timms_preprocessing(golden):
    mean, std, size = map(json.loads, golden.split(" / "))
    wrong = {name: preprocessing_of(name) for name in NAMES[golden].split()}
    wrong = {name: found for name, found in wrong.items() if found != (tuple(mean), tuple(std), size)}
    assert not wrong


@pytest.mark.parametrize("name", ["vit-B/16", "resnet-50", "resnet50", "deit_small_patch16_224"])
def test_names_of_our_own_have_imagenets(name):
    assert preprocessing_of(name) == Preprocessing(*IMAGENET, 224)


def test_a_name_of_no_family_is_refused():
    with pytest.raises(ValueError, match=r"No preprocessing is known for 'convnext_base'; known: vit\*, deit\*"):
        preprocessing_of("convnext_base")


def test_config_files_of_two_ages():
    expected = Preprocessing((0.5, 0.4, 0.3), (1.0, 0.2, 0.3), 256)
    assert preprocessing_of_config(CONFIG, "x") == expected
    assert preprocessing_of_config(CONFIG["pretrained_cfg"] | {"architecture": "vit"}, "x") == expected
    assert preprocessing_of_config({"hidden_size": 768}, "x") is None
    assert str(expected) == "mean (0.5, 0.4, 0.3), std (1, 0.2, 0.3), 256 pixels"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean", [0.5, 0.5], r"mean=\[0.5, 0.5\].*three numbers each"),
        ("mean", [0.5, 0.5, float("nan")], "three numbers each"),
        ("mean", "0.5", "three numbers each"),
        ("std", [0.5, 0, 0.5], "std above 0"),
        ("std", [0.5, True, 0.5], "three numbers each"),
        ("input_size", [3, 0, 0], r"input_size=\[3, 0, 0\]; \[3, height, width\]"),
        ("input_size", 224, "height, width"),
        ("input_size", [3, 1024, 768], "three channels and square images"),
        ("input_size", [1, 32, 32], "three channels and square images"),
    ],
)
def test_values_that_are_none(key, value, message):
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        preprocessing_of_config({"pretrained_cfg": CONFIG["pretrained_cfg"] | {key: value}}, "config.json")


def test_every_model_has_a_preprocessing():
    for name in (*TIMM_NAMES, "bit-101x3", "vit-S/16", "resnet-50d", "seresnet-50"):
        assert preprocessing_of(name).image_size >= 160
    assert preprocessing_of("bit-50x1") == preprocessing_of("resnetv2_50x1_bit")
    assert preprocessing_of("eva_giant_patch14_560") == Preprocessing(*IMAGENET, 560)
