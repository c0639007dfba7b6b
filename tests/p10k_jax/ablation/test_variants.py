"""Variants: what they set, what they are called, what is refused before anything starts."""

import re
import textwrap

import pytest
from ml_collections import ConfigDict

from configs import common, finetune
from p10k_jax.ablation.runs import make_runs, of_shard, parse_shard
from p10k_jax.ablation.variants import apply, arguments_of, build, check_names, grid, named, pick, read_variants
from p10k_jax.config import as_plain, config_of_arguments, differences


def changed(overrides):
    config = finetune.get_config()
    before = as_plain(config)
    apply(config, overrides)
    assert config.is_locked
    return differences(before, as_plain(config))


def test_apply_sets_like_the_command_line():
    assert changed({"head.name": "cosine", "optimizer.learning_rate": 1}) == [
        "head.name: 'linear' -> 'cosine'",
        "optimizer.learning_rate: 0.0003 -> 1.0",
    ]
    assert changed({"duration.steps": 4}) == ["duration.epochs: 10.0 -> None", "duration.steps: None -> 4"]
    assert changed({"duration": {"steps": 4}}) == changed({"duration.steps": 4})
    assert changed({"duration.percent": 5.0}) == ["duration.percent: None -> 5.0"]
    assert changed({"data.image_size": 224}) == ["data.image_size: None -> 224"]
    assert changed({"augment.randaugment": {"num_ops": 2}}) == ["augment.randaugment.num_ops: 0 -> 2"]


def test_a_config_dict_takes_the_place_of_a_group():
    config = finetune.get_config()
    apply(config, {"model.options": common.resnet_options(pool="gem")})
    assert config.model.options.to_dict() == {
        "pool": "gem",
        "drop_path": None,
        "frozen_norms": None,
        "ghost_batch": None,
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"head.nmae": "cosine"}, r"variant 'x': head.nmae: there is no such setting. Did you mean 'head.name'"),
        ({"haed.name": "cosine"}, r"variant 'x': haed.name: there is no such setting. Did you mean 'head'"),
        ({"head.name.first": "cosine"}, r"variant 'x': head.name.first: there is no such setting"),
        ({"head": {"nmae": "cosine"}}, r"variant 'x': head.nmae: there is no such setting"),
        ({"batch_size": 1.5}, r"variant 'x': batch_size=1.5 is of type float; batch_size takes int"),
        ({"data.image_size": "big"}, r"variant 'x': data.image_size='big' is of type str; data.image_size takes int"),
        ({"head": 3}, r"variant 'x': head=3 is of type int; head takes ConfigDict"),
    ],
)
def test_what_does_not_fit_names_variant_and_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        pick(finetune.get_config(), {"base": {}, "x": overrides}, "x")


def test_pick_leaves_the_base_alone():
    base = finetune.get_config()
    before = as_plain(base)
    other = pick(base, {"base": {}, "x": {"data.image_size": 48, "seed": 3}}, "x")
    assert (other.data.image_size, other.seed, other.is_locked) == (48, 3, True)
    assert as_plain(base) == before
    with pytest.raises(ValueError, match=r"no variant 'y'. Known: base, x"):
        pick(base, {"base": {}, "x": {}}, "y")


def test_grids_and_names():
    points = grid(**{"optimizer.learning_rate": (1e-3, 1e-4), "eval.every.percent": (5.0, 10.0)})
    assert list(named(points)) == [
        "learning_rate=0.001+percent=5.0",
        "learning_rate=0.001+percent=10.0",
        "learning_rate=0.0001+percent=5.0",
        "learning_rate=0.0001+percent=10.0",
    ]
    clash = named([{"eval.every.percent": 5.0, "log.every.percent": 1.0, "augment.crop_scale": (0.1, 1.0)}])
    assert list(clash) == ["eval.every.percent=5.0+log.every.percent=1.0+crop_scale=0.1-1.0"]
    with pytest.raises(ValueError, match="'seed=1' twice"):
        named([{"seed": 1}, {"seed": 1}])
    with pytest.raises(ValueError, match=r"Variant 'weights=/a/b': a name is a folder too"):
        named([{"model.weights": "/a/b"}])


FILE = """
from configs import finetune
from p10k_jax.ablation.variants import grid, named, pick
from p10k_jax.config import parse_arg

def variants(arg=None):
    return {VARIANTS}

def sweep():
    return grid(ema_decay=(0.9, 0.99))

def get_config(arg=None):
    values = parse_arg(arg, variant="", size=0)
    config = finetune.get_config()
    config.data.image_size = values["size"] or None
    return pick(config, variants() | named(sweep()), values["variant"])
"""


@pytest.fixture
def write(tmp_path):
    def _write(variants="{'base': {}, 'cosine': {'head.name': 'cosine'}, 'long': {'duration.epochs': 20.0}}"):
        path = tmp_path / "file.py"
        path.write_text(textwrap.dedent(FILE).replace("{VARIANTS}", variants))
        return str(path), read_variants(path, "size=8")

    return _write


def test_variants_and_sweep_become_configs_as_the_program_reads_them(write, tmp_path):
    file, variants = write()
    assert list(variants) == ["base", "cosine", "long", "ema_decay=0.9", "ema_decay=0.99"]
    overrides = ["--config.batch_size=8", "--config.duration.percent=10", "--config.augment.jitter=(0.1,0.1,0.1)"]
    configs = build(file, "size=8", variants, overrides)
    assert [config.ema_decay for config in configs.values()] == [0.0, 0.0, 0.0, 0.9, 0.99]
    for config in configs.values():
        assert (config.batch_size, config.data.image_size, config.duration.percent) == (8, 8, 10.0)
        assert config.augment.jitter == (0.1, 0.1, 0.1)
    runs = make_runs(tmp_path, configs, range(2), file=file, arg="size=8", overrides=overrides)
    assert [(run.variant, run.seed) for run in runs[4:7]] == [("ema_decay=0.99", 0), ("base", 1), ("cosine", 1)]
    for run in runs:
        assert as_plain(config_of_arguments(run.arguments)) == as_plain(run.config)
        assert run.config.seed == run.seed
    shards = [of_shard(runs, parse_shard(f"{number}/3")) for number in (1, 2, 3)]
    assert sorted(run.name for shard in shards for run in shard) == sorted(run.name for run in runs)
    assert {len(shard) for shard in shards} == {3, 4}


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/", "-1/2"])
def test_shards_that_are_none(shard):
    with pytest.raises(ValueError, match="give i/n with i from 1 to n"):
        parse_shard(shard)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.head.name=linear", r"sets what variant 'cosine' varies \(head.name\)"),
        ("--config.duration.steps=4", r"sets what variant 'long' varies \(duration.epochs\)"),
        ("--config.ema_decay=0.5", r"sets what variant 'ema_decay=0.9' varies \(ema_decay\)"),
        ("--config.batch_size=x", r"variant 'base': .*batch_size"),
        ("--config.batchsize=3", r"variant 'base': .*batchsize"),
    ],
)
def test_overrides_that_are_refused(write, override, message):
    file, variants = write()
    with pytest.raises(ValueError, match=message):
        build(file, None, variants, [override])


def test_what_a_variant_sets_to_the_base_s_own_value_is_varied_too(write):
    file, variants = write("{'base': {'seed': 0}, 'x': {'seed': 3}}")
    assert list(variants) == ["base", "x", "ema_decay=0.9", "ema_decay=0.99"]
    with pytest.raises(ValueError, match="sets what variant 'base' varies"):
        build(file, None, variants, ["--config.seed=1"])


def test_files_that_are_refused(write, tmp_path):
    file, variants = write("{'base': {}, 'x': {'head.nmae': 1}}")
    with pytest.raises(ValueError, match=r"variant 'x': head.nmae: there is no such setting"):
        build(file, None, variants, [])
    file, variants = write("{'base': {}, 'x': {'head.name': 'linear'}}")
    with pytest.raises(ValueError, match=r"variants 'base' and 'x' are the same config"):
        build(file, None, variants, [])
    with pytest.raises(ValueError, match="Variant 'a/b'"):
        write("{'a/b': {}}")
    with pytest.raises(ValueError, match=r"both have 'ema_decay=0.9'"):
        write("{'ema_decay=0.9': {}}")
    (tmp_path / "none.py").write_text("")
    with pytest.raises(ValueError, match=r"has no variants\(\) and no sweep\(\)"):
        read_variants(tmp_path / "none.py")
    with pytest.raises(ValueError, match="there is no such file"):
        read_variants(tmp_path / "nowhere.py")


def test_arguments_are_those_of_a_person():
    assert arguments_of("f.py", None, "x", ["--config.a=1"]) == ["--config=f.py:variant=x", "--config.a=1"]
    assert arguments_of("f.py", "m=hf_hub:timm/v", "x", []) == ["--config=f.py:m=hf_hub:timm/v,variant=x"]
    assert isinstance(config_of_arguments(["--config=configs/finetune.py:model=resnet50"]), ConfigDict)


@pytest.mark.parametrize("name", ["logs", "compiled", "ablation.html"])
def test_a_variant_takes_no_name_of_the_ablations_own(name):
    with pytest.raises(ValueError, match=f"Variant '{re.escape(name)}': the ablation has a file or folder"):
        check_names(["plain", name])
