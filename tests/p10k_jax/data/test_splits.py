"""Any image-classification dataset of TFDS, not ours alone."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from p10k_jax.data import splits
from p10k_jax.data.splits import open_split, share_records, split_groups, split_labels
from p10k_jax.reporting.progress import Console
from p10k_jax.train import plan, train
from tests.runs import tiny_config
from tfds_builder import pictures
from tfds_builder.prepare import prepare

PIXELS = np.random.RandomState(0).randint(0, 256, (40, 20, 30, 3)).astype(np.uint8)


class ToyFlowers(tfds.core.GeneratorBasedBuilder):
    """Like many of TFDS's own: PNG pixels, features in their own words, no names, no validation split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "species": tfds.features.ClassLabel(names=["rose", "tulip"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(40)), "test": self._generate_examples(range(8))}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield number, {"photo": PIXELS[number], "species": number % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    prepare("toy_flowers", data_dir=folder, progress=False)
    return folder


def test_a_dataset_in_its_own_words(data_dir):
    builder = prepare("toy_flowers", data_dir=data_dir)
    test = open_split(builder, "test")
    assert (len(test), test.num_classes) == (8, 2)
    examples = [test.read(index) for index in range(8)]
    assert [example.name for example in examples] == [f"test/{index}" for index in range(8)]
    assert {example.group for example in examples} == {0}
    assert {example.usage for example in examples} == {""}
    for example in examples:
        image, _ = pictures.decode(example.image)
        [number] = [n for n in range(40) if np.array_equal(PIXELS[n], image)]
        assert example.label == number % 2


def test_without_a_validation_split_the_end_of_train_serves(data_dir):
    builder = prepare("toy_flowers", data_dir=data_dir)
    train_split, validation = open_split(builder, "train"), open_split(builder, "validation")
    assert (len(train_split), len(validation)) == (38, 2)
    images = [split.read(i).image for split in (train_split, validation) for i in range(len(split))]
    assert len(set(images)) == 40


def test_it_trains_by_its_name(data_dir, tmp_path):
    overrides = {"data.name": "toy_flowers", "data.config": "", "duration.steps": 2}
    run = plan(tiny_config(data_dir, **overrides), tmp_path / "workdir")
    assert run.config.model.num_classes == 2
    assert int(train(run, Console())["step"]) == 2
    assert jax.device_count() == 8


def test_unknown_split(data_dir):
    with pytest.raises(ValueError, match=r"toy_flowers has no split 'tset'. Did you mean 'test'\? Known: train, test"):
        open_split(prepare("toy_flowers", data_dir=data_dir), "tset")


def labels_by_reading(split):
    return [split.read(index).label for index in range(len(split))]


def test_labels_of_a_dataset_in_its_own_words(data_dir):
    builder = prepare("toy_flowers", data_dir=data_dir)
    train = open_split(builder, "train")
    assert split_labels(builder, train).tolist() == labels_by_reading(train)


@pytest.mark.parametrize("name", ["train", "test", "train[10:25]+validation", "test[50%:]"])
def test_labels_stored_beside_the_records_are_theirs(tiny_data, name):
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    split = open_split(builder, name)
    labels = split_labels(builder, dataclasses.replace(split, records=Unreadable(len(split))))
    assert labels.tolist() == labels_by_reading(split)


class Unreadable(list):
    """Records of which only the number is known."""

    def __init__(self, number):
        super().__init__([None] * number)


def test_groups_of_a_dataset_without_any_are_all_one(data_dir):
    builder = prepare("toy_flowers", data_dir=data_dir)
    train = open_split(builder, "train")
    assert split_groups(builder, dataclasses.replace(train, records=Unreadable(38))).tolist() == [0] * 38


class Counting:
    """Records that count how often they are read."""

    def __init__(self, records):
        self.records, self.read = records, []

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        self.read.append(index)
        return self.records[index]


@pytest.mark.parametrize("name", ["train", "test", "train[10:25]+validation"])
@pytest.mark.parametrize("ours", [True, False])
def test_groups_of_all_records(tiny_data, name, ours, monkeypatch):
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    split = open_split(builder, name)
    expected = [split.read(index).group for index in range(len(split))]
    assert len(set(expected)) > 1
    records = Counting(split.records)
    monkeypatch.setattr(splits, "_is_ours", lambda builder: ours)
    groups = split_groups(builder, dataclasses.replace(split, records=records))
    assert groups.tolist() == expected
    assert groups.dtype == np.int32
    labels = split_labels(builder, split)
    assert len(records.read) == (len(np.unique(labels)) if ours else len(split))


def test_labels_of_other_data_are_refused(tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "copy")
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tmp_path / "copy")
    [file] = (tmp_path / "copy").rglob("labels.train.npy")
    np.save(file, np.load(file)[:-1])
    with pytest.raises(ValueError, match=r"is damaged: \d+ labels for \d+ records; build it anew"):
        split_labels(builder, open_split(builder, "train"))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("train", "validation", False),
        ("train", "train", True),
        ("train[:50%]", "train[50%:]", False),
        ("train[:50%]", "train[40%:]", True),
        ("test+train[:1]", "validation+train[1:]", False),
        ("test+train[:2]", "validation+train[1:]", True),
    ],
)
def test_whether_splits_share_records(tiny_data, first, second, shared):
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data, progress=False)
    one, other = open_split(builder, first), open_split(builder, second)
    assert share_records(builder, one, other) == share_records(builder, other, one) == shared
