"""Writing the drawn catalogue: the raw layout, equal bytes with any number of processes, all or nothing."""

import csv
import dataclasses
import hashlib
import io
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from PIL import Image

from tfds_builder.drawn_catalogue import plan as planning
from tfds_builder.drawn_catalogue import write

TINY = planning.PRESETS["tiny"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "raw"
    calls = []
    write.write_raw_catalogue(TINY, folder, workers=1, progress=lambda done, total: calls.append((done, total)))
    return folder, calls


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_tables_are_in_the_raw_layout(written):
    folder, _ = written
    assert {path.name for path in folder.iterdir()} == {
        *("train.csv", "test_kaggletest.csv", "classes.csv", "train.zip", "test.zip"),
    }
    assert (folder / "train.csv").read_bytes().startswith(b"name,class,group\n1.jpg,0,0\n")
    train, test, classes = (rows(folder / name) for name in ("train.csv", "test_kaggletest.csv", "classes.csv"))
    assert [row["name"] for row in train] == [f"{i + 1}.jpg" for i in range(60)]
    assert [int(row["class"]) for row in train] == sorted(int(row["class"]) for row in train)
    assert list(test[0]) == ["name", "class", "Usage"]
    assert {row["Usage"] for row in test} == {"Public", "Private"}
    assert {row["class"] for row in train} == {row["class"] for row in test} == {str(i) for i in range(6)}
    assert list(classes[0]) == ["class", "class_name", "group", "group_name"]
    group_of = {row["class"]: row["group"] for row in classes}
    assert all(group_of[row["class"]] == row["group"] for row in train)
    assert len({row["class_name"] for row in classes}) == 6


@pytest.mark.parametrize(("split", "table"), [("train", "train.csv"), ("test", "test_kaggletest.csv")])
def test_archives_hold_exactly_the_rows_stored_and_readable(written, split, table):
    folder, _ = written
    with zipfile.ZipFile(folder / f"{split}.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{split}/{row['name']}" for row in rows(folder / table)]
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            assert max(Image.open(io.BytesIO(archive.read(member))).size) == 48


def test_progress_counts_up_to_the_total(written):
    _, calls = written
    assert calls[-1] == (84, 84)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_bytes_do_not_depend_on_the_number_of_processes(written, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "IMAGES_PER_TASK", 10)  # several tasks for each process
    write.write_raw_catalogue(TINY, tmp_path / "raw", workers=2)
    assert digests(tmp_path / "raw") == digests(written[0])


def test_another_seed_draws_another_catalogue(written, tmp_path):
    write.write_raw_catalogue(dataclasses.replace(TINY, seed=1), tmp_path / "raw", workers=1)
    other, own = digests(tmp_path / "raw"), digests(written[0])
    assert all(other[name] != own[name] for name in own)


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path, written):
    (tmp_path / "raw").mkdir()
    write.write_raw_catalogue(TINY, tmp_path / "raw", workers=1)
    before = digests(tmp_path / "raw")
    with pytest.raises(FileExistsError, match=r"raw is not empty \(it holds classes.csv.*Name another folder"):
        write.write_raw_catalogue(TINY, tmp_path / "raw", workers=1)
    assert digests(tmp_path / "raw") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        write.write_raw_catalogue(TINY, tmp_path / "file", workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "raw"]


def test_bad_input_writes_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="workers=0"):
        write.write_raw_catalogue(TINY, tmp_path / "raw", workers=0)
    with pytest.raises(ValueError, match="num_groups=9"):
        write.write_raw_catalogue(dataclasses.replace(TINY, num_groups=9), tmp_path / "raw")
    monkeypatch.setattr(write.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000})())
    with pytest.raises(OSError, match=r"MB are needed.*make room"):
        write.write_raw_catalogue(TINY, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setattr(write, "IMAGES_PER_TASK", 10)

    def stop(done, total):
        assert list(tmp_path.glob("raw.incomplete-*/train.zip"))
        raise error("midway")

    with pytest.raises(error, match="midway"):
        write.write_raw_catalogue(TINY, tmp_path / "raw", workers=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path):
    command = [sys.executable, "-m", "tfds_builder.drawn_catalogue.write", "--preset=demo", "--workers=1"]
    with subprocess.Popen([*command, f"--output={tmp_path / 'raw'}"], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("raw.incomplete-*/train.zip")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "raw").exists()
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["raw.incomplete"]


def test_command_line(tmp_path, capsys):
    flags = ["--preset=tiny", "--num_train=24", "--image_side=40", "--workers=1", f"--output={tmp_path / 'raw'}"]
    assert write.main(flags) == 0
    assert "Drew 48 images of 6 classes in 2 groups" in capsys.readouterr().out
    assert len(rows(tmp_path / "raw" / "train.csv")) == 24
    assert write.main(flags) == 2
    assert "is not empty" in capsys.readouterr().err
    assert write.main(["--preset=tiny", "--num_train=3", f"--output={tmp_path / 'other'}"]) == 2
    assert "num_train=3" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_estimate_covers_what_was_written(written):
    size = sum(path.stat().st_size for path in written[0].iterdir())
    assert size < write.estimated_bytes(TINY)


def test_drawing_processes_do_not_import_jax():
    code = (
        "import sys, tfds_builder.drawn_catalogue.write; print([m for m in ('jax', 'tensorflow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
