import pytest

from tfds_builder import config
from tfds_builder.drawn_catalogue import plan

RAW_NAMES = {
    "original": config.Preparation(),
    "256": config.Preparation(256),
    "384-holdout2of20-seed1": config.Preparation(384, 2, 20, None, 1),
    "original-holdout0": config.Preparation(0, 0, 0),
    "224-test35-seed3": config.Preparation(224, 1, 5, 35, 3),
}


@pytest.mark.parametrize("name", RAW_NAMES)
def test_raw_names_round_trip(name):
    made = config.raw_config(name)
    assert (made.name, made.preparation) == (name, RAW_NAMES[name])
    assert config.raw_name(made.preparation) == name


DRAWN_NAMES = {
    "demo": (plan.PRESETS["demo"], config.Preparation()),
    "demo-256": (plan.PRESETS["demo"], config.Preparation(256)),
    "tiny-holdout0": (plan.PRESETS["tiny"], config.Preparation(0, 0, 0)),
    "classes40-groups8-train1200-test240-side96-seed5": (
        plan.CatalogueParameters(40, 8, 1200, 240, 96, 5),
        config.Preparation(),
    ),
    "classes40-groups8-train1200-test240-side96-seed5-64-holdout2of9-holdoutseed7": (
        plan.CatalogueParameters(40, 8, 1200, 240, 96, 5),
        config.Preparation(64, 2, 9, None, 7),
    ),
}


@pytest.mark.parametrize("name", DRAWN_NAMES)
def test_drawn_names_round_trip(name):
    made = config.drawn_config(name)
    assert (made.name, made.drawn, made.preparation) == (name, *DRAWN_NAMES[name])
    assert config.drawn_name(made.drawn, made.preparation) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orginal", r"unknown config 'orginal'; known: original, 256, 384, 512, and any name of the form SIZE"),
        ("256-holdout2of20-seed1-x", "unknown config"),
        ("", "unknown config ''"),
        ("16", r"config '16': shorter side 16 is outside 32\.\.4096 pixels"),
        ("256-holdout5of5", "config '256-holdout5of5': .* K must be below N"),
        ("256-test95", r"test95 is outside 1\.\.90 percent"),
        ("256-holdout1of5", "is written '256'"),
        ("original-test20", "is written 'original'"),
        ("0256", "is written '256'"),
        ("256-seed0", "is written '256'"),
    ],
)
def test_bad_raw_names(name, message):
    with pytest.raises(config.UnknownConfigError, match=message):
        config.raw_config(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dmo", r"unknown config 'dmo'; known: .*demo.*DRAWN"),
        ("demo-original", "is written 'demo'"),
        ("classes4-groups8-train1200-test240-side96-seed0", "num_groups=8 is out of range"),
        ("classes30-groups8", "unknown config"),
    ],
)
def test_bad_drawn_names(name, message):
    with pytest.raises(config.UnknownConfigError, match=message):
        config.drawn_config(name)


def test_parameters_of_a_preset_are_written_as_the_preset():
    p = plan.PRESETS["tiny"]
    counts = f"classes{p.num_classes}-groups{p.num_groups}-train{p.num_train}-test{p.num_test}"
    name = f"{counts}-side{p.image_side}-seed{p.seed}"
    with pytest.raises(config.UnknownConfigError, match="is written 'tiny'"):
        config.drawn_config(name)
