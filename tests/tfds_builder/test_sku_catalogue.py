import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import file_adapters

import tfds_builder
from tests.tfds_builder.raw_fixtures import encode, picture, small_raw, write, write_tree
from tfds_builder import base_builder, processing, raw, summary

Builder = tfds_builder.BUILDERS["sku_catalogue"]


def build(manual_dir: Path, data_dir: Path, config: str = "original", **options) -> tfds.core.DatasetBuilder:
    builder = Builder(data_dir=data_dir, config=config, progress=False, **options)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return builder


def examples(builder: tfds.core.DatasetBuilder, split: str) -> list[dict]:
    decoders = {"image": tfds.decode.SkipDecoding()}
    rows = builder.as_data_source(split, decoders=decoders)
    return [{**row, "name": row["name"].decode(), "usage": row["usage"].decode()} for row in rows]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(raw, its folder, the built data_dir, the builder)."""
    folder, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("out")
    made = small_raw()
    write(made, folder)
    return made, folder, out, build(folder, out)


def test_splits_and_features(made):
    source, _, _, builder = made
    train, validation, test = (examples(builder, split) for split in ("train", "validation", "test"))
    assert {row["name"] for row in train} | {row["name"] for row in validation} == set(source.train)
    assert not {row["name"] for row in train} & {row["name"] for row in validation}
    assert {row["name"] for row in test} == set(source.test)
    assert sorted(row["label"] for row in validation) == [0, 1, 2, 3]  # one of each class with 5 or more
    for row in train + validation + test:
        assert row["image"] == source.train.get(row["name"], source.test.get(row["name"]))  # bytes untouched
        assert row["group"] == row["label"] // 2
    assert sorted(row["usage"] for row in test) == ["private"] * 4 + ["public"] * 4
    assert {row["usage"] for row in train} == {""}


def test_rows_are_stored_in_a_fair_order(made):
    *_, builder = made
    names = [row["name"] for row in examples(builder, "train")]
    assert names == sorted(names, key=lambda name: hashlib.sha256(f"order/{name}".encode()).digest())


def test_array_record_by_default_and_nothing_else(made, tmp_path):
    *_, builder = made
    assert builder.info.file_format.value == "array_record"
    assert len(list(Path(builder.data_dir).glob("*.array_record-*-of-*"))) == 3
    with pytest.raises(ValueError, match="'tfrecord'; these datasets are written as 'array_record' only"):
        Builder(data_dir=tmp_path, file_format="tfrecord")
    other = Builder(data_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="'tfrecord'; these"):
        other.download_and_prepare(file_format="tfrecord")
    assert not list(tmp_path.iterdir())


def test_metadata(made):
    source, folder, _, builder = made
    metadata = builder.info.metadata
    assert metadata["counts"] == {"train": 20, "validation": 4, "test": 8}
    assert metadata["test_usage"] == {"private": 4, "public": 4}
    assert (metadata["num_classes"], metadata["num_groups"]) == (4, 2)
    assert metadata["source_fingerprint"] == raw.open_catalogue(folder).source_fingerprint
    assert metadata["decoded_by"] == {"simplejpeg": 32}
    assert metadata["left_out"] == []
    assert metadata["stored_bytes"] == sum(map(len, [*source.train.values(), *source.test.values()]))
    assert metadata["preparation"]["holdout_least"] == 5


def test_content_fingerprint_can_be_computed_from_the_data(made):
    *_, builder = made
    for split in ("train", "validation", "test"):
        total = 0
        for row in examples(builder, split)[::-1]:  # any order
            head = f"{row['name']}\0{row['label']}\0{row['group']}\0{row['usage']}\0".encode()
            digest = hashlib.sha256(head + hashlib.sha256(row["image"]).digest()).digest()
            total += int.from_bytes(digest, "big")
        assert builder.info.metadata["content_fingerprint"][split] == f"{total % 2**256:064x}"


def test_any_number_of_workers_writes_the_same_files(made, tmp_path):
    _, folder, _, builder = made
    again = build(folder, tmp_path, workers=1)
    assert files(Path(again.data_dir)) == files(Path(builder.data_dir))


def test_a_second_call_does_nothing(made):
    _, folder, out, builder = made
    before = {path: path.stat().st_mtime_ns for path in Path(builder.data_dir).iterdir()}
    assert build(folder, out).info.metadata["counts"]["train"] == 20
    assert before == {path: path.stat().st_mtime_ns for path in Path(builder.data_dir).iterdir()}


FRESH = """
import sys
import tensorflow_datasets as tfds
{imports}
builder = {builder}
print(builder.info.features["label"].names)
print(builder.info.features["group"].names)
print(builder.info.splits["train"].num_examples, builder.info.metadata["counts"])
source = builder.as_data_source("test", decoders={{"image": tfds.decode.SkipDecoding()}})
print(len(source), sorted(source[0]))
print("tensorflow" in sys.modules, "jax" in sys.modules, "torch" in sys.modules)
"""


@pytest.mark.parametrize("way", ["name", "folder", "files"])
def test_read_back_in_a_fresh_process(tmp_path, way):
    """Class names with odd characters, a config that is not listed, no TensorFlow."""
    made = small_raw()
    made.classes_csv = (
        'class,class_name,group,group_name\n0,Öl/1,0,Food\n1,"Tea, ""green""",0,Food\n2,日本茶,1,D\n3,%d,1,D\n'
    )
    builder = build(write(made, tmp_path / "raw"), tmp_path / "out", "32-holdout2of6-seed3")
    code = {
        "name": f"tfds.builder('sku_catalogue', data_dir={str(tmp_path / 'out')!r}, config='32-holdout2of6-seed3')",
        "folder": f"tfds.builder_from_directory({str(builder.data_dir)!r})",
        "files": f"tfds.builder('sku_catalogue/32-holdout2of6-seed3', data_dir={str(tmp_path / 'out')!r})",
    }[way]
    imports = "" if way == "folder" else "import tfds_builder"
    environment = {**os.environ, "PYTHONPATH": str(Path(tfds_builder.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", FRESH.format(imports=imports, builder=code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(["Öl/1", 'Tea, "green"', "日本茶", "%d"])
    assert lines[1] == str(["Food", "D"])
    assert lines[2] == "16 {'train': 16, 'validation': 8, 'test': 8}"
    assert lines[3] == "8 ['group', 'image', 'label', 'name', 'usage']"
    assert lines[4] == "False False False"


def test_data_source_by_name(made):
    _, _, out, _ = made
    assert len(tfds.data_source("sku_catalogue/original", data_dir=out, split="validation")) == 4


def test_tfds_load(made, tmp_path):
    source, folder, _, _ = made
    kwargs = {"download_config": tfds.download.DownloadConfig(manual_dir=folder)}
    loaded = tfds.load("sku_catalogue/original", data_dir=tmp_path, split="test", download_and_prepare_kwargs=kwargs)
    assert {row["name"].decode() for row in loaded} == set(source.test)
    assert loaded[0]["image"].shape == (30, 40, 3)
    with pytest.raises(NotImplementedError, match="neither batch_size"):
        tfds.load("sku_catalogue/original", data_dir=tmp_path, split="test", batch_size=4)


def test_reduced_config(tmp_path):
    source = small_raw()
    source.train["1.jpg"] = encode(picture(0, 100, 150))
    builder = build(write(source, tmp_path / "raw"), tmp_path / "out", "64")
    stored = {row["name"]: row["image"] for row in examples(builder, "train") + examples(builder, "validation")}
    assert tfds.features.Image().decode_example_np(stored["1.jpg"]).shape == (64, 96, 3)
    assert stored["2.jpg"] == source.train["2.jpg"]  # 30 x 40 is smaller already
    assert builder.info.features["image"].encoding_format == "jpeg"


def test_no_validation_only_if_asked(made, tmp_path):
    _, folder, _, _ = made
    builder = build(folder, tmp_path, "original-holdout0")
    assert set(builder.info.splits) == {"train", "test"}
    assert builder.info.splits["train"].num_examples == 24
    with pytest.raises(
        base_builder.EmptySplitError, match=r"no class has 9 training pictures, so holdout1of9 .*holdout0"
    ):
        build(folder, tmp_path / "new", "original-holdout1of9")
    assert not (tmp_path / "new").exists()


def test_folder_tree_with_its_own_test_part(tmp_path):
    write_tree(tmp_path / "raw", {"b": 10, "a": 10})
    builder = build(tmp_path / "raw", tmp_path / "out", "original-test30-seed2")
    assert builder.info.features["label"].names == ["a", "b"]
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 12,
        "validation": 2,
        "test": 6,
    }


def broken(made: object, folder: Path) -> Path:
    source = small_raw()
    source.train["4.jpg"] = b"not a picture"
    source.train["9.jpg"] = source.train["9.jpg"][:100]
    source.test["9001.jpg"] = b""
    source.train["10.jpg"] = encode(picture(1), "PNG")
    return write(source, folder)


def test_unreadable_pictures_stop_the_build_with_all_names(tmp_path):
    with pytest.raises(summary.UnreadablePicturesError) as error:
        build(broken(None, tmp_path / "raw"), tmp_path / "out")
    message = str(error.value)
    assert message.startswith("3 picture(s) cannot be read, and nothing was prepared")
    assert all(re.search(rf": {name}: ", message) for name in (r"4\.jpg", r"9\.jpg", r"9001\.jpg"))
    assert "--leave_out_unreadable" in message
    assert not (tmp_path / "out").exists()


def test_unreadable_pictures_are_left_out_and_recorded(tmp_path):
    builder = build(broken(None, tmp_path / "raw"), tmp_path / "out", leave_out_unreadable=True)
    metadata = json.loads((Path(builder.data_dir) / "metadata.json").read_text())
    assert sorted(entry["name"] for entry in metadata["left_out"]) == ["4.jpg", "9.jpg", "9001.jpg"]
    assert all(entry["reason"] for entry in metadata["left_out"])
    assert metadata["odd_pictures"]["unreadable"]["count"] == 3
    assert metadata["odd_pictures"]["not_jpeg"] == {"meaning": "format is not JPEG", "count": 1, "first": ["10.jpg"]}
    assert sum(metadata["counts"].values()) == 29
    assert builder.info.splits.total_num_examples == 29
    names = [row["name"] for split in builder.info.splits for row in examples(builder, split)]
    assert len(names) == 29
    assert not {"4.jpg", "9.jpg", "9001.jpg"} & set(names)
    for split in builder.info.splits:
        labels = np.load(Path(builder.data_dir) / base_builder.LABELS_FILE.format(split=split))
        assert labels.tolist() == [row["label"] for row in examples(builder, split)]


def test_a_split_of_which_nothing_is_readable_is_an_error(tmp_path):
    source = small_raw()
    source.test = dict.fromkeys(source.test, b"")
    with pytest.raises(base_builder.EmptySplitError, match="no picture of split 'test' can be read"):
        build(write(source, tmp_path / "raw"), tmp_path / "out", leave_out_unreadable=True)
    assert not (tmp_path / "out").exists()


def test_no_space_left_is_told_before_anything_is_written(made, tmp_path, monkeypatch):
    _, folder, _, _ = made
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 5000, 5000))
    with pytest.raises(
        base_builder.NoSpaceError, match=r"no space left: .* takes about 0.00 GB, but .* choose another data"
    ):
        build(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_while_writing_is_told(made, tmp_path, monkeypatch):
    _, folder, _, _ = made

    def write_examples(path, iterator):
        next(iter(iterator))
        Path(path).write_bytes(b"half")
        raise RuntimeError("write() failed: No space left on device; writing ...")

    monkeypatch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", write_examples)
    with pytest.raises(base_builder.NoSpaceError, match=r"no space left while writing .*out"):
        build(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_space_estimate_covers_what_is_written(made, tmp_path):
    _, folder, _, builder = made
    estimate = base_builder.estimate_bytes(raw.open_catalogue(folder), builder.builder_config.preparation)
    written = sum(len(data) for name, data in files(Path(builder.data_dir)).items() if "-of-" in name)
    assert written < estimate < 2 * written
    reduced = base_builder.estimate_bytes(
        raw.open_catalogue(folder), Builder(data_dir=tmp_path, config="256").builder_config.preparation
    )
    assert reduced > estimate


def test_an_interrupted_build_leaves_nothing(made, tmp_path, monkeypatch):
    _, folder, _, _ = made

    def stop(read, shorter_side):
        raise KeyboardInterrupt

    monkeypatch.setattr(processing, "process", stop)
    with pytest.raises(KeyboardInterrupt):
        build(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


SLOW_BUILD = """
import time
import tensorflow_datasets as tfds
import tfds_builder
from tfds_builder import processing
process = processing.process
def slow(read, shorter_side):
    time.sleep(0.5)
    return process(read, shorter_side)
processing.process = slow
builder = tfds_builder.BUILDERS["sku_catalogue"](data_dir={out!r}, progress=False, workers=1)
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir={raw!r}))
"""


def test_a_killed_build_never_looks_prepared_and_is_cleared(made, tmp_path):
    _, folder, _, _ = made
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(tfds_builder.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BUILD.format(out=str(out), raw=str(folder))], env=environment
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("**/*array_record*")):
            assert process.poll() is None, "the build ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    version = out / "sku_catalogue" / "original"
    assert [path.name.split(".")[0] for path in version.iterdir()] == ["incomplete"]
    assert not Builder(data_dir=out).is_prepared()
    builder = build(folder, out)
    assert [path.name for path in version.iterdir()] == ["1.0.0"]
    assert builder.info.splits.total_num_examples == 32


def test_two_builds_at_once_do_one_work(made, tmp_path):
    _, folder, _, builder = made
    code = SLOW_BUILD.replace("time.sleep(0.5)", "time.sleep(0.02)").format(out=str(tmp_path), raw=str(folder))
    environment = {**os.environ, "PYTHONPATH": str(Path(tfds_builder.__file__).parents[1])}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = Builder(data_dir=tmp_path)
    assert found.info.metadata["content_fingerprint"] == builder.info.metadata["content_fingerprint"]


def test_hold_out_is_balanced_and_seeded(tmp_path):
    folder = write(small_raw(), tmp_path / "raw")
    catalogue = raw.open_catalogue(folder)
    draws = set()
    for seed in range(4):
        preparation = Builder.config_from_name(f"original-holdout2of5-seed{seed}" if seed else "original-holdout2of5")
        rows = base_builder.split_rows(catalogue, preparation.preparation)
        split, validation = rows["validation"]
        assert split == "train"
        assert np.bincount(catalogue.train.label[validation]).tolist() == [2, 2, 2, 2]
        draws.add(frozenset(validation.tolist()))
    assert len(draws) > 1
