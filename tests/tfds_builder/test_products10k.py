import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata

import tfds_builder
from tests.tfds_builder.raw_fixtures import small_raw, write
from tfds_builder import prepare, raw
from tfds_builder.drawn_catalogue import plan
from tfds_builder.products10k import facts


@pytest.fixture(scope="module")
def official() -> dict:
    """The tables of a catalogue with the official counts, as arguments of facts.differences."""
    planned = plan.plan(plan.PRESETS["full"])
    counts = [c.num_train for c in planned.classes]
    labels = np.repeat(np.arange(len(counts)), counts)
    return {
        "train_name": [f"{i}.jpg" for i in range(1, len(labels) + 1)],
        "train_label": labels,
        "train_group": np.array([c.group for c in planned.classes])[labels],
        "test_name": list(planned.test_names),
        "test_label": np.repeat(np.arange(len(counts)), [c.num_test for c in planned.classes]),
    }


def test_official_counts_have_no_differences(official):
    assert facts.differences(**official) == []


def change(official: dict, key: str, row: int, value) -> dict:
    changed = official[key].copy()
    changed[row] = value
    return {**official, key: changed}


@pytest.mark.parametrize(
    ("key", "row", "value", "expected"),
    [
        ("train_name", 0, "0.jpg", "first training row"),
        ("train_name", 7, "8.png", "names that do not end in .jpg: expected 0, found 1"),
        ("train_group", -1, 348, "last training row"),
        ("train_group", 5000, 359, "unused group ids: expected (359,), found ()"),
        ("train_label", 0, 9691, "highest class id: expected 9690, found 9691"),
        ("test_label", 0, 9000, "test pictures a class: largest"),
    ],
)
def test_one_changed_row_is_a_difference(official, key, row, value, expected):
    assert any(expected in line for line in facts.differences(**change(official, key, row, value)))


def test_a_missing_row_is_a_difference(official):
    shorter = {key: column[:-1] if key.startswith("test") else column for key, column in official.items()}
    assert "test pictures: expected 55376, found 55375" in facts.differences(**shorter)


def test_the_builder_asserts_the_facts(tmp_path):
    with pytest.raises(
        raw.RawLayoutError, match=r"(?s)not the official Products-10K.*expected 141931, found 24.*sku_cat"
    ):
        prepare.prepare(
            "products10k", manual_dir=write(small_raw(), tmp_path / "raw"), data_dir=tmp_path / "out", progress=False
        )
    assert not (tmp_path / "out").exists()


def test_the_builder_builds_where_the_facts_hold(tmp_path, monkeypatch):
    folder = write(small_raw(), tmp_path / "raw")
    c = raw.open_catalogue(folder)
    held = facts.measure(c.train.name, c.train.label, c.train.group, c.test.name, c.test.label)
    monkeypatch.setattr(facts, "OFFICIAL", held)
    builder = prepare.prepare("products10k", manual_dir=folder, data_dir=tmp_path / "out", progress=False)
    assert builder.info.full_name == "products10k/original/1.0.0"
    assert builder.info.splits.total_num_examples == 32


@pytest.mark.parametrize("name", ["products10k", "sku_catalogue", "drawn_catalogue"])
def test_builders_follow_the_conventions(name, tmp_path):
    cls = tfds_builder.BUILDERS[name]
    assert tfds.builder_cls(name) is cls
    metadata = cls.get_metadata()
    assert metadata.description
    assert "@" in metadata.citation
    assert set(metadata.tags) <= set(dataset_metadata.valid_tags())
    assert metadata.tags
    info = cls(data_dir=tmp_path).info
    assert sorted(info.features) == ["group", "image", "label", "name", "usage"]
    assert info.supervised_keys == ("image", "label")
    assert not list(tmp_path.iterdir())


def test_instructions_name_source_terms_and_files():
    text = tfds_builder.BUILDERS["products10k"].MANUAL_DOWNLOAD_INSTRUCTIONS
    for needed in ("products-10k.github.io", "Kaggle", "non-commercial", "not be redistributed", "test_kaggletest.csv"):
        assert needed in text
