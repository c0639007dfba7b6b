import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source
from tensorflow_datasets.core import dataset_metadata, file_adapters
from tensorflow_datasets.core.utils import shard_utils

import tfds_builder
from tests.tfds_builder.raw_fixtures import encode, picture, small_raw, write, write_tree
from tfds_builder import base_builder, build, on_beam, prepare, processing, raw, summary


@pytest.fixture
def runner(monkeypatch):
    """The direct runner, in this process: it would first try to fetch a program, Prism, from the net."""
    pytest.importorskip("apache_beam", reason="pip install p10k_jax[beam]")
    from apache_beam.runners.portability import prism_runner

    def refuse(*_):
        raise RuntimeError("no Prism in tests")

    monkeypatch.setattr(prism_runner.PrismRunner, "run_pipeline", refuse)
    return "DirectRunner"


@pytest.fixture
def many_shards(monkeypatch):
    """Eleven shards of unequal lengths where there are pictures enough: their numbers do not sort as text."""
    monkeypatch.setattr(
        shard_utils.ShardConfig, "get_number_shards", lambda self, total_size, num_examples: min(11, num_examples)
    )


def odd_raw():
    """A catalogue with an odd picture of each split and, of train and test, some that nothing reads."""
    made = small_raw()
    made.train["1.jpg"] = encode(picture(1, 90, 120), "PNG")
    made.train["2.jpg"] = b"nothing"
    made.train["16.jpg"] = encode(picture(2)[..., 0])
    made.test["9001.jpg"] = encode(picture(3, 90, 120))[:-200]
    made.test["9003.jpg"] = b"\xff\xd8 nothing"
    return made


def stored(builder: tfds.core.DatasetBuilder) -> dict[str, list]:
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {split: list(builder.as_data_source(split, decoders=decoders)) for split in builder.info.splits}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["zips", "extracted"])
def test_the_same_data_as_on_one_machine(tmp_path, runner, many_shards, layout):
    folder = write(odd_raw(), tmp_path / "raw", layout)
    options = {"config": "64", "manual_dir": folder, "leave_out_unreadable": True, "progress": False}
    plain = prepare.prepare("sku_catalogue", data_dir=tmp_path / "plain", **options)
    beam = prepare.prepare("sku_catalogue", data_dir=tmp_path / "beam", beam_runner=runner, **options)
    assert len(beam.info.splits["train"].shard_lengths) == 11
    assert len(set(beam.info.splits["train"].shard_lengths)) > 1
    assert len(beam.info.metadata["left_out"]) == 2
    assert dict(beam.info.metadata) == dict(plain.info.metadata)
    assert stored(beam) == stored(plain)
    assert files(tmp_path / "beam") == files(tmp_path / "plain")


def test_a_drawn_catalogue(tmp_path, runner):
    config = "classes4-groups2-train40-test8-side64-seed0"
    options = {"config": config, "workers": 1, "progress": False}
    plain = prepare.prepare("drawn_catalogue", data_dir=tmp_path / "plain", **options)
    beam = prepare.prepare("drawn_catalogue", data_dir=tmp_path / "beam", beam_runner=runner, **options)
    assert dict(beam.info.metadata) == dict(plain.info.metadata)
    assert stored(beam) == stored(plain)


def test_from_the_command_line(tmp_path, runner, capsys, monkeypatch):
    write_tree(tmp_path / "raw", {"a": 6, "b": 6})
    monkeypatch.chdir(tmp_path)  # workers may be in another folder
    flags = ["sku_catalogue", "--manual_dir=raw", "--data_dir=out", f"--beam_runner={runner}"]
    assert build.main([*flags, "--beam_options=--direct_num_workers=2 --direct_running_mode=multi_threading"]) == 0
    out, errors = capsys.readouterr()
    assert re.search(r"train +8 pictures", out)
    assert "peak memory" not in out  # this process's, not that of the workers
    assert "error" not in errors


class ToyOnBeam(tfds.core.GeneratorBasedBuilder):
    """Stands for the datasets of TFDS's own that are built with Beam."""

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
        import apache_beam

        return apache_beam.Create(range(4)) | apache_beam.Map(toy_example)


def toy_example(index: int) -> tuple[int, dict]:
    return index, {"image": encode(picture(index), "PNG"), "label": index % 2}


def test_a_dataset_of_tfds_takes_the_runner_too(tmp_path, runner):
    builder = prepare.prepare("toy_on_beam", data_dir=tmp_path, beam_runner=runner)
    assert sorted(row["label"] for row in stored(builder)["train"]) == [0, 0, 1, 1]
    assert "tensorflow" not in sys.modules


def test_unreadable_pictures_stop_the_build_with_the_same_message(tmp_path, runner):
    folder = write(odd_raw(), tmp_path / "raw")
    said = []
    for beam_runner in (None, runner):
        builder = tfds_builder.BUILDERS["sku_catalogue"](data_dir=tmp_path / "out", progress=False)
        config = tfds.download.DownloadConfig(manual_dir=folder, beam_runner=beam_runner)
        with pytest.raises(summary.UnreadablePicturesError) as error:
            builder.download_and_prepare(download_config=config)
        said.append(str(error.value))
        assert not (tmp_path / "out").exists()
    assert said[0] == said[1]
    assert said[0].startswith("2 picture(s) cannot be read")


def test_a_disk_that_fills_up_at_a_worker_is_told(tmp_path, runner, monkeypatch):
    def write_examples(path, iterator):
        raise RuntimeError("write() failed: No space left on device; writing ...")

    monkeypatch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", write_examples)
    folder = write(small_raw(), tmp_path / "raw")
    with pytest.raises(base_builder.NoSpaceError, match="no space left while writing"):
        prepare.prepare(
            "sku_catalogue", manual_dir=folder, data_dir=tmp_path / "out", progress=False, beam_runner=runner
        )
    assert not (tmp_path / "out").exists()


def test_stopping_leaves_nothing(tmp_path, runner, capsys, monkeypatch):
    def stop(read, shorter_side):
        raise KeyboardInterrupt

    monkeypatch.setattr(processing, "process", stop)
    folder, out = write(small_raw(), tmp_path / "raw"), tmp_path / "out"
    flags = ["sku_catalogue", f"--manual_dir={folder}", f"--data_dir={out}", f"--beam_runner={runner}"]
    assert build.main(flags) == build.STOPPED
    assert "stopped; nothing is left of this build" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam_runner=DirektRunner"], r"error: Beam refuses --beam_runner=DirektRunner .*Valid values are"),
        (["--beam_runner=DirectRunner", "--beam_options=workers"], r"'workers' does not start with --"),
        (["--beam_runner=DirectRunner", "--beam_options=--direct_running_mode=fast"], r"invalid choice: 'fast'"),
        (["--beam_runner=DirectRunner", "--beam_options=--a='"], r"No closing quotation"),
    ],
)
def test_what_beam_refuses_is_told_before_anything_is_written(tmp_path, runner, capsys, flags, message):
    folder = write(small_raw(), tmp_path / "raw")
    status = build.main(["sku_catalogue", f"--manual_dir={folder}", f"--data_dir={tmp_path / 'out'}", *flags])
    assert status == build.BAD_INPUT
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


# ---- without Beam ----


def test_without_beam_the_error_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = write(small_raw(), tmp_path / "raw")
    flags = ["sku_catalogue", f"--manual_dir={folder}", f"--data_dir={tmp_path / 'out'}"]
    for given, message in (
        (["--beam_runner=DirectRunner"], r"error: .*not installed.*pip install p10k_jax\[beam\]"),
        (["--beam_options=--direct_num_workers=2"], r"error: .*without --beam_runner"),
    ):
        assert build.main([*flags, *given]) == build.BAD_INPUT
        assert re.search(message, capsys.readouterr().err)
    builder = tfds_builder.BUILDERS["sku_catalogue"](data_dir=tmp_path / "out", progress=False)
    with pytest.raises(on_beam.BeamError, match="not installed"):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=folder, beam_runner="DirectRunner")
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def task(tmp_path):
    """(task, its shard) of the catalogue's last two training pictures and an unreadable one."""
    catalogue = raw.open_catalogue(write(odd_raw(), tmp_path / "raw"))
    shard = tmp_path / "shard"
    parts = [("train", shard, catalogue.select("train", np.array([23, 1, 22])))]
    (made,) = on_beam.write_tasks(parts, tmp_path / "tasks", shorter_side=0, num_classes=4, num_groups=2, threads=2)
    return made, shard


def test_a_task_is_all_that_a_worker_needs_and_may_run_again(task):
    path, shard = task
    seen = []
    for _ in range(2):
        on_beam.write_shard(str(path))
        answer = summary.Tally.of_json(json.loads(path.with_suffix(".tally").read_text()))
        seen.append((shard.read_bytes(), answer))
        assert sorted(file.name for file in path.parent.iterdir()) == ["0.tally", "0.task"]
    assert seen[0] == seen[1]
    assert answer.counts == {"train": 2}
    assert [(split, name) for split, name, _ in answer.unreadable] == [("train", "2.jpg")]
    assert len(array_record_data_source.ArrayRecordDataSource([str(shard)])) == 2


def test_a_worker_that_does_not_see_the_folders_says_so(task, tmp_path):
    path, shard = task
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    with pytest.raises(on_beam.BeamError, match=rf"there is no {tmp_path}/raw/train\.zip: all workers must see manual"):
        on_beam.write_shard(str(path))
    (tmp_path / "tasks").rename(tmp_path / "gone")
    with pytest.raises(on_beam.BeamError, match=r"there is no .*0\.task: all workers must see data_dir"):
        on_beam.write_shard(str(path))
    assert not shard.exists()
