import json

import pytest

from configs import common, resnet, vit
from p10k_jax.config import as_plain, config_of_arguments, differences, override_durations, parse_arg, resume_config


def test_parse_arg():
    assert parse_arg(None, variant="S/16", deep=False) == {"variant": "S/16", "deep": False}
    assert parse_arg("variant=B/16,deep", variant="S/16", deep=False) == {"variant": "B/16", "deep": True}
    assert parse_arg("deep=false,rate=0.5,n=3", deep=True, rate=1.0, n=1) == {"deep": False, "rate": 0.5, "n": 3}


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("wide=3", r"Unknown config argument 'wide' in 'wide=3'. Known: n, deep"),
        ("n=x", "n is a int"),
        ("deep=x", "true"),
    ],
)
def test_parse_arg_refuses(arg, message):
    with pytest.raises(ValueError, match=message):
        parse_arg(arg, n=1, deep=False)


def test_a_duration_on_the_command_line_replaces_the_files():
    config = common.get_config()
    config.duration.steps = 7  # what the flag parser has already done
    config.eval.every.epochs = 1.0
    override_durations(config, {"duration.steps": 7, "eval.every.epochs": 1.0, "batch_size": 3})
    assert config.duration.to_dict() == {"steps": 7, "epochs": None, "examples": None, "percent": None}
    assert config.eval.every.to_dict() == {"steps": None, "epochs": 1.0, "examples": None, "percent": None}


def test_percent_of_the_run_keeps_its_length():
    config = common.get_config()
    config.duration.percent = 10.0
    override_durations(config, {"duration.percent": 10.0})
    assert config.duration.to_dict() == {"steps": None, "epochs": 100.0, "examples": None, "percent": 10.0}


def test_a_later_config_file_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"no_such\.py"):
        config_of_arguments(["--config=configs/vit.py", "--config=configs/no_such.py"])


def test_differences():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": None}) == [
        "a.c: 2 -> 3",
        "d: 'absent' -> None",
    ]


@pytest.mark.parametrize("get_config", [vit.get_config, resnet.get_config])
def test_configs_are_locked_and_survive_json(get_config):
    config = get_config()
    with pytest.raises(AttributeError, match="optimiser"):
        config.optimiser = "x"
    assert as_plain(config)["model"]["name"] in ("vit-S/16", "resnet-50")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record | {"given": 3}, "does not say what the run was given"),
        (lambda record: {"given": record["given"]}, "has no settings (data|augment)"),
        (lambda record: record | {"data": 3}, "has no settings (data|augment)"),
    ],
)
def test_a_record_of_nonsense_is_not_gone_on_with(change, message, tmp_path):
    config = vit.get_config()
    record = as_plain(config) | {"given": as_plain(config)}
    (tmp_path / "config.json").write_text(json.dumps(change(record)))
    with pytest.raises(ValueError, match=rf"{message}; give another --workdir|{message}.*config\.json"):
        resume_config(config, tmp_path)
