"""Workdirs of strangers: a record that describes no model is an error that names it."""

import json

import pytest

from p10k_jax.classifier import view_settings
from p10k_jax.finished import open_run


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model", {"dtype": "float7"}, "describes no model .KeyError: 'float7'"),
        ("model", {"options": {"width": "wide"}}, "describes no model .TypeError"),
        ("head", {"weight": 1}, "describes no model .TypeError: .*weight"),
        ("model", {"num_classes": -1}, "num_classes=-1: give a number of classes"),
    ],
)
def test_a_record_of_no_model_is_named(finished, part, change, message, tmp_path):
    config = json.loads((finished[0] / "config.json").read_text())
    config[part] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").symlink_to(finished[0] / "checkpoints")
    with pytest.raises(ValueError, match=message):
        open_run(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("mean", None), ("std", ["a", "b", "c"]), ("name", []), ("config", 3)])
def test_a_record_without_a_way_of_pictures_is_named(finished, key, value):
    config = open_run(finished[0]).config
    with config.unlocked(), config.ignore_type():
        config.data[key] = value
    with pytest.raises(ValueError, match=r"does not say how its pictures are seen|could not convert"):
        view_settings(config)
