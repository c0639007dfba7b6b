"""Which pictures a page shows, and that they are those of the rows that they stand for."""

import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from p10k_jax.data.splits import open_split, split_labels
from p10k_jax.evaluation.predictions import SCHEMA
from p10k_jax.reporting.gallery import MISTAKES, OF_A_PAIR, choose, read_gallery, thumbnail, write_gallery
from tfds_builder.prepare import prepare


def table(names, labels, predicted, scores):
    rows = len(names)
    ranked, ranked_scores = [[label] for label in predicted], [[score] for score in scores]
    columns = [names, labels, [0] * rows, [""] * rows, ranked, ranked_scores]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def test_the_surest_mistake_of_each_pair():
    #         right   1->0  1->0  0->1  2->0
    found = choose(
        table(list("abcde"), [0, 1, 1, 0, 2], [0, 0, 0, 1, 0], [0.99, 0.7, 0.8, 0.9, 0.3]),
        [{"label": 1, "predicted": 0}, {"label": 2, "predicted": 0}],
    )
    assert found.mistakes == [3, 2, 4]
    assert found.pairs == [[2, 1], [4]]
    assert found.classes == [0, 1, 2]


def test_so_many_and_no_more():
    random = np.random.RandomState(0)
    labels, predicted = random.randint(0, 9, (2, 5000))
    scores = random.rand(5000)
    found = choose(table([str(i) for i in range(5000)], labels, predicted, scores), [{"label": 0, "predicted": 1}])
    assert len(found.mistakes) == MISTAKES
    assert [len(rows) for rows in found.pairs] == [OF_A_PAIR]
    assert len({(labels[row], predicted[row]) for row in found.mistakes}) == MISTAKES
    shown = scores[found.mistakes]
    assert (np.diff(shown) <= 0).all()
    assert shown[0] == scores[labels != predicted].max()


def test_nothing_wrong_is_an_empty_gallery(tmp_path):
    right = table(["a"], [0], [0], [1.0])
    chosen = choose(right, [])
    assert chosen == ([], [], [])
    write_gallery(tmp_path, chosen, right, split=None, index=np.zeros(1), train=None, train_labels=np.zeros(1))
    assert read_gallery(tmp_path) == read_gallery(tmp_path / "none") == ({}, {}, {})


@pytest.fixture(scope="module")
def splits(tiny_data):
    builder = prepare("drawn_catalogue", config="tiny", data_dir=tiny_data)
    train = open_split(builder, "train")
    return open_split(builder, "test"), train, split_labels(builder, train)


def pixels(address):
    data = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


def close(address, record):
    """Whether the picture is that of the record, up to what JPEG loses."""
    shown, whole = pixels(address), Image.open(io.BytesIO(record.image)).convert("RGB")
    whole = np.asarray(whole.resize(shown.shape[1::-1], Image.Resampling.LANCZOS)).astype(float)
    return np.abs(shown - whole).mean() < 8


def test_pictures_are_those_of_the_rows(splits, tmp_path):
    test, train, train_labels = splits
    order = np.random.RandomState(0).permutation(len(test))
    examples = [test.read(int(record)) for record in order]
    labels = [example.label for example in examples]
    predicted = [(label + 1 + number % 2) % 6 for number, label in enumerate(labels)]
    scores = np.linspace(0.2, 0.9, len(test))
    names = [example.name for example in examples]
    rows = table(names, labels, predicted, scores)
    confusions = [{"label": labels[0], "predicted": predicted[0]}]
    chosen = choose(rows, confusions)
    write_gallery(tmp_path, chosen, rows, split=test, index=order, train=train, train_labels=train_labels)
    gallery = read_gallery(tmp_path)
    assert list(gallery.surest) == [names[row] for row in chosen.mistakes]
    assert set(gallery.others) == {names[row] for pair in chosen.pairs for row in pair} - set(gallery.surest)
    by_name = dict(zip(names, examples, strict=True))
    shown = list((gallery.surest | gallery.others).items())
    assert all(close(address, by_name[name]) for name, address in shown)
    assert not all(close(address, examples[0]) for _, address in shown), "the pictures must be able to differ"
    assert set(gallery.examples) == set(labels) | set(predicted)
    for label, addresses in gallery.examples.items():
        records = np.flatnonzero(train_labels == label)
        first = [train.read(int(record)) for record in records[:4]]
        assert len(addresses) == len(first)
        assert all(close(address, record) for address, record in zip(addresses, first, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.parquet"]


@pytest.mark.parametrize(("size", "expected"), [((600, 300), (144, 72)), ((40, 80), (40, 80)), ((3000, 2), (144, 1))])
def test_thumbnails_keep_the_shape(size, expected):
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, "PNG")
    image = Image.open(io.BytesIO(thumbnail(buffer.getvalue())))
    assert image.size == expected
    assert np.abs(np.asarray(image).reshape(-1, 3).mean(axis=0) - (200, 30, 30)).max() < 4


def test_an_unreadable_picture_is_grey():
    image = np.asarray(Image.open(io.BytesIO(thumbnail(b"no picture"))))
    assert set(np.unique(image)) == {128}
