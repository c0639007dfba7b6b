import pytest

from configs import vit
from configs.products10k import vit_l16_siglip_384
from p10k_jax.planning.sizes import dataset_sizes


def config(**settings):
    made = vit.get_config("variant=Ti/16")
    for key, value in settings.items():
        group, name = key.split("__")
        made[group][name] = value
    return made


def test_products10k_is_known_without_data(tmp_path):
    sizes = dataset_sizes(config(data__data_dir=str(tmp_path)))
    assert (sizes.train, sizes.evaluation, sizes.num_classes) == (141_931 - 7_907, 7_907, 9_691)
    whole = dataset_sizes(config(data__data_dir=str(tmp_path), data__config="256-holdout0", eval__split="test"))
    assert (whole.train, whole.evaluation) == (141_931, 55_376)
    assert list(tmp_path.iterdir()) == []


def test_groups_where_the_loss_wants_them(tmp_path):
    grouped = vit_l16_siglip_384.get_config()
    grouped.data.data_dir = str(tmp_path)
    assert dataset_sizes(grouped).num_groups == 361  # the highest id is 360
    assert dataset_sizes(config(data__data_dir=str(tmp_path))).num_groups == 0


def test_prepared_data_is_read(tiny_data):
    sizes = dataset_sizes(config(data__name="drawn_catalogue", data__config="tiny", data__data_dir=str(tiny_data)))
    assert sizes.source == "drawn_catalogue/tiny, prepared"
    assert sizes.num_classes > 1
    assert sizes.train > sizes.evaluation > 0


def test_what_is_given_wins(tmp_path):
    mine = config(data__name="sku_catalogue", data__data_dir=str(tmp_path), model__num_classes=1_000_000)
    assert dataset_sizes(mine, examples=5_000)[:4] == (5_000, 0, 1_000_000, 0)
    mine.loss.group_weight = 0.2
    assert dataset_sizes(mine, examples=5_000, groups=40).num_groups == 40


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("sku_catalogue", {}, "data.name=sku_catalogue is not prepared.*--examples=N"),
        ("no_such_data", {}, "data.name=no_such_data is not prepared.*--examples=N"),
        ("sku_catalogue", {"examples": 10}, "--config.model.num_classes=C"),
    ],
)
def test_sizes_that_nobody_knows(tmp_path, name, given, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataset_sizes(config(data__name=name, data__data_dir=str(tmp_path)), **given)


def test_groups_that_nobody_knows(tmp_path):
    mine = config(
        data__name="sku_catalogue", data__data_dir=str(tmp_path), model__num_classes=3, loss__group_weight=0.1
    )
    with pytest.raises(ValueError, match=r"--groups=N"):
        dataset_sizes(mine, examples=10)
