import collections

import numpy as np
import pytest

from p10k_jax.data.classes import Classes, classes_of, read_classes, write_classes
from p10k_jax.data.splits import open_split
from tfds_builder.prepare import prepare


def test_counts_and_groups_are_those_of_the_records(tiny_data):
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    train = open_split(builder, "train")
    examples = [train.read(index) for index in range(len(train))]
    classes = classes_of(builder, train)
    counts = collections.Counter(example.label for example in examples)
    assert classes.train_images.tolist() == [counts[label] for label in range(6)]
    for example in examples:
        assert classes.groups[example.label] == example.group
    assert classes.names == tuple(builder.info.features["label"].names)
    assert classes.group_names[0] == builder.info.features["group"].names[classes.groups[0]]


@pytest.mark.parametrize("counts", [np.array([3, 0]), None])
def test_file_round_trip(tmp_path, counts):
    classes = Classes(('a "b", c', "<i>ü</i>\n"), np.array([1, 0], np.int32), ("", "g"), counts)
    write_classes(tmp_path, classes)
    read = read_classes(tmp_path)
    assert (read.names, read.group_names, read.groups.tolist()) == (classes.names, classes.group_names, [1, 0])
    assert (read.train_images is None) == (counts is None)
    assert counts is None or read.train_images.tolist() == [3, 0]


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"holds no classes\.csv; `python -m p10k_jax\.evaluate"):
        read_classes(tmp_path)
    wide = "label,name,group,group_name,train_images\n0,a,1099511627776,,2\n"
    field = f"label,name\n0,{'a' * 200_000}\n"
    cut = "label,group,train_images,name,group_name\n0,1,5\n"
    for text in (
        wide,
        field,
        cut,
        "label,name\n0,a\n",
        "label,name,group,group_name,train_images\n1,a,0,,2\n",
        "x\n\xff",
    ):
        (tmp_path / "classes.csv").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"classes\.csv is no table of classes"):
            read_classes(tmp_path)
