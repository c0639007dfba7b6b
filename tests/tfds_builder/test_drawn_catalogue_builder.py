from pathlib import Path

import pytest
import tensorflow_datasets as tfds

import tfds_builder
from tfds_builder import config, prepare, raw
from tfds_builder.drawn_catalogue import plan, write


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return prepare.prepare("drawn_catalogue", config="tiny", data_dir=out, progress=False, workers=1)


def test_it_holds_what_is_drawn(prepared, tmp_path):
    write.write_raw_catalogue(plan.PRESETS["tiny"], tmp_path / "raw", workers=1)
    catalogue = raw.open_catalogue(tmp_path / "raw")
    assert prepared.info.metadata["source_fingerprint"] == catalogue.source_fingerprint
    assert prepared.info.features["label"].names == list(catalogue.class_names)
    rows = [
        row
        for split in ("train", "validation")
        for row in prepared.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    ]
    assert len(rows) == 60
    for row in rows:
        assert row["image"] == catalogue.read("train", row["name"].decode())


def test_nothing_else_is_left(prepared):
    names = {path.name for path in Path(prepared.data_dir_root).rglob("*") if path.is_dir()}
    assert names == {"drawn_catalogue", ".config", "tiny", "1.0.0"}


def test_any_parameters_by_name(tmp_path):
    name = "classes4-groups2-train24-test8-side40-seed3-32-holdout1of2-holdoutseed1"
    builder = prepare.prepare("drawn_catalogue", config=name, data_dir=tmp_path, progress=False, workers=1)
    assert builder.info.splits.total_num_examples == 32
    assert builder.info.metadata["num_classes"] == 4
    picture = tfds.features.Image().decode_example_np(next(iter(_images(builder))))
    assert min(picture.shape[:2]) <= 32


def _images(builder):
    for row in builder.as_data_source("test", decoders={"image": tfds.decode.SkipDecoding()}):
        yield row["image"]


def test_a_drawing_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(parameters, folder, **options):
        (folder / "half").mkdir(parents=True)
        raise RuntimeError("out of ink")

    monkeypatch.setattr(write, "write_raw_catalogue", fail)
    with pytest.raises(RuntimeError, match="out of ink"):
        prepare.prepare("drawn_catalogue", config="tiny", data_dir=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_unknown_names_and_needless_flags(tmp_path):
    with pytest.raises(config.UnknownConfigError, match=r"unknown config 'huge'; known: .*demo.*full"):
        tfds_builder.BUILDERS["drawn_catalogue"](config="huge", data_dir=tmp_path)
    with pytest.raises(prepare.PreparationError, match="takes no manual_dir"):
        prepare.prepare("drawn_catalogue", config="tiny", manual_dir=tmp_path, data_dir=tmp_path / "out")
