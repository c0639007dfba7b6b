import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata, shuffle

import tfds_builder
from tests.tfds_builder.raw_fixtures import picture, small_raw, write
from tfds_builder import prepare, raw


class ToyArrays(tfds.core.GeneratorBasedBuilder):
    """A dataset of TFDS's own kind whose builder gives arrays, not files."""

    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def get_metadata(cls):
        return dataset_metadata.DatasetMetadata(description="toy", citation="", tags=[])

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(30, 40, 3)),
            "grey": tfds.features.Image(shape=(30, 40, 1)),
            "label": tfds.features.ClassLabel(num_classes=50),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(50):
            yield index, {"image": picture(index), "grey": picture(index)[..., :1], "label": index}


class ToyPictures(tfds.core.GeneratorBasedBuilder):
    """Stands for any dataset of TFDS's own."""

    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def get_metadata(cls):
        return dataset_metadata.DatasetMetadata(description="toy", citation="", tags=[])

    def _info(self):
        features = {"image": tfds.features.Image(shape=(30, 40, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        from tests.tfds_builder.raw_fixtures import encode

        for index in range(4):
            yield index, {"image": encode(picture(index), "PNG"), "label": index % 2}


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(small_raw(), tmp_path / "raw")


def sku(folder, out, **options):
    return prepare.prepare("sku_catalogue", manual_dir=folder, data_dir=out, progress=False, **options)


def test_builds_once_and_then_needs_no_raw_files(folder, tmp_path):
    first = sku(folder, tmp_path / "out")
    assert prepare.is_prepared(first)
    second = prepare.prepare("sku_catalogue", data_dir=tmp_path / "out")
    assert second.data_dir == first.data_dir
    assert second.info.features["label"].num_classes == 4
    third = sku(folder, tmp_path / "out")  # the same raw files: fine
    assert third.info.splits["test"].num_examples == 8


def test_config_in_the_name(folder, tmp_path):
    by_name = prepare.prepare(
        "sku_catalogue/64-seed1", manual_dir=folder, data_dir=tmp_path / "out", progress=False, workers=1
    )
    assert by_name.builder_config.name == "64-seed1"
    assert prepare.prepare("sku_catalogue", config="64-seed1", data_dir=tmp_path / "out").data_dir == by_name.data_dir


def test_other_raw_files_are_refused(folder, tmp_path):
    sku(folder, tmp_path / "out")
    other = small_raw()
    other.train["1.jpg"] += b"x"
    changed = write(other, tmp_path / "other")
    with pytest.raises(prepare.PreparationError) as error:
        sku(changed, tmp_path / "out")
    for path in (folder, changed):
        assert raw.open_catalogue(path).source_fingerprint in str(error.value)
    assert "another data_dir" in str(error.value)


def test_missing_manual_dir_gives_the_instructions(tmp_path):
    with pytest.raises(
        prepare.PreparationError, match=r"(?s)products10k/original is not prepared in .*github\.io.*train\.zip"
    ):
        prepare.prepare("products10k", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")  # TFDS's older builders warn while they are listed
def test_unknown_names_list_ours_and_close_ones(tmp_path):
    with pytest.raises(
        prepare.PreparationError, match=r"unknown dataset 'sku_catalog'\. Ours: drawn_.*Close names: sku_cat"
    ):
        prepare.prepare("sku_catalog", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_any_dataset_of_tfds_is_written_as_array_record(tmp_path):
    builder = prepare.prepare("toy_pictures", data_dir=tmp_path)
    assert builder.info.file_format.value == "array_record"
    images = [row["image"] for row in builder.as_data_source("train")]
    assert len(images) == 4
    assert any(np.array_equal(images[0], picture(index)) for index in range(4))
    assert prepare.prepare("toy_pictures", data_dir=tmp_path).data_dir == builder.data_dir


def test_arrays_and_large_splits_need_no_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 5000)  # spill to disk, as TFDS does above 1 GB
    builder = prepare.prepare("toy_arrays", data_dir=tmp_path)
    rows = list(builder.as_data_source("train"))
    assert sorted(row["label"] for row in rows) == list(range(50))
    for row in rows:
        np.testing.assert_array_equal(row["image"], picture(row["label"]))
        np.testing.assert_array_equal(row["grey"], picture(row["label"])[..., :1])
    assert not list(Path(builder.data_dir).glob("*.tmp"))
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["toy_pictures", "sku_catalogue"])
def test_data_in_another_file_format_is_refused(name, folder, tmp_path):
    manual = {"manual_dir": folder, "progress": False} if name == "sku_catalogue" else {}
    builder = prepare.prepare(name, data_dir=tmp_path / "out", **manual)
    path = Path(builder.data_dir) / "dataset_info.json"
    info = json.loads(path.read_text())
    info["fileFormat"] = "tfrecord"
    path.write_text(json.dumps(info))
    with pytest.raises(prepare.PreparationError, match=r"another file format .* another data_dir, or delete"):
        prepare.prepare(name, data_dir=tmp_path / "out")


def test_bad_workers(tmp_path):
    with pytest.raises(ValueError, match="workers is 0; it must be at least 1"):
        tfds_builder.BUILDERS["sku_catalogue"](workers=0, data_dir=tmp_path)
