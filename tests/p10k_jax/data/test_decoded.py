"""Splits decoded once: the same pixels, built whole or not at all, by one builder."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from p10k_jax.data import decoded as module
from p10k_jax.data.decode import GREY, RUNGS, decode_canvas
from p10k_jax.data.decoded import (
    DamagedError,
    can_write,
    decoded_bytes,
    decoded_folder,
    ensure_decoded,
    find_decoded,
    open_decoded,
)
from p10k_jax.data.splits import Split
from tests.fakes import memory_split

SPLIT = memory_split(70, image_3=b"no picture at all")
KEY = {"fingerprint": "0123", "canvas_size": 24}


def folders(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "decoded").iterdir())


class CountingSplit(Split):
    """Counts how often a record is read."""

    reads = 0

    def read(self, index):
        type(self).reads += 1
        return super().read(index)


def counting(split: Split) -> CountingSplit:
    CountingSplit.reads = 0
    return CountingSplit(*(getattr(split, name) for name in Split.__dataclass_fields__))


def test_canvases_are_those_of_the_pictures(tmp_path):
    told = []
    decoded = ensure_decoded(tmp_path, SPLIT, **KEY, progress=lambda done, total: told.append((done, total)))
    assert told == [(32, 70), (64, 70), (70, 70)]
    canvas = np.empty((24, 24, 3), np.uint8)
    for index in range(70):
        example = SPLIT.read(index)
        aspect, rung = decode_canvas(example.image, canvas)
        np.testing.assert_array_equal(decoded.images[index], canvas)
        assert (decoded.aspect[index], decoded.rung[index]) == (np.float32(aspect), rung)
        assert (decoded.label[index], decoded.group[index]) == (example.label, example.group)
        assert (decoded.name[index], decoded.usage[index]) == (example.name, example.usage)
    assert (decoded.images[3] == GREY).all()
    assert decoded.rung[3] == RUNGS.index("unreadable")
    assert not decoded.images.flags.writeable
    assert decoded.images.nbytes == decoded_bytes(70, 24)
    # Opened again it is read, not decoded.
    again = ensure_decoded(tmp_path, counting(SPLIT), **KEY)
    assert CountingSplit.reads == 0
    np.testing.assert_array_equal(again.images, decoded.images)


def test_products10k_at_256_pixels():
    assert [round(decoded_bytes(n, 256) / 1e9, 1) for n in (141_931, 55_376)] == [27.9, 10.9]


def test_other_pixels_are_another_folder(tmp_path, monkeypatch):
    slices = [memory_split(70), memory_split(35), memory_split(70)]
    slices[2] = Split("memory", "train[:50%]+test", *(getattr(SPLIT, n) for n in list(Split.__dataclass_fields__)[2:]))
    found = [decoded_folder(tmp_path, split, **KEY) for split in slices]
    found += [decoded_folder(tmp_path, SPLIT, **KEY | other) for other in ({"fingerprint": "4"}, {"canvas_size": 25})]
    monkeypatch.setattr(module, "FORMAT", 99)
    found.append(decoded_folder(tmp_path, SPLIT, **KEY))
    monkeypatch.undo()
    monkeypatch.setattr(module, "_decoder_versions", lambda: {"simplejpeg": "0.1"})
    found.append(decoded_folder(tmp_path, SPLIT, **KEY))
    assert len(set(found)) == len(found) == 7
    assert found[2].name.startswith("train_50_test-24-")


KILLED = """
import os, signal, sys
from pathlib import Path
from p10k_jax.data.decoded import ensure_decoded
from tests.fakes import memory_split

def kill(done, total):
    os.kill(os.getpid(), signal.SIGKILL)

ensure_decoded(Path(sys.argv[1]), memory_split(70), fingerprint="0123", canvas_size=int(sys.argv[2]), progress=kill)
"""


def test_a_killed_build_leaves_nothing_that_counts_and_the_next_one_clears_it(tmp_path):
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "20"], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = folders(tmp_path)
    assert left.startswith("incomplete.")
    decoded = ensure_decoded(tmp_path, SPLIT, **KEY)  # of another size: the leftover would never be its own
    assert folders(tmp_path) == [decoded.folder.name]


def test_two_builders_at_once_decode_once(tmp_path):
    split = counting(SPLIT)
    with ThreadPoolExecutor(2) as pool:  # each opens the lock's file anew, as two processes do
        first, second = pool.map(lambda _: ensure_decoded(tmp_path, split, **KEY), range(2))
    assert CountingSplit.reads == 70
    np.testing.assert_array_equal(first.images, second.images)
    assert folders(tmp_path) == [first.folder.name]


def test_without_locks_the_one_who_is_late_takes_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("tfds_builder.locking._lock", lambda descriptor: False)
    made = []

    def another_host(done, total):
        if not made:
            made.append(ensure_decoded(tmp_path / "elsewhere", SPLIT, **KEY))
            shutil.copytree(made[0].folder, tmp_path / "decoded" / made[0].folder.name)

    decoded = ensure_decoded(tmp_path, SPLIT, **KEY, progress=another_host)
    np.testing.assert_array_equal(decoded.images, made[0].images)
    assert folders(tmp_path) == [decoded.folder.name]


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def reshape(path):
    np.save(path, np.load(path).reshape(70, 12, 48, 3))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", cut),
        ("images.npy", Path.unlink),
        ("images.npy", reshape),
        ("columns.parquet", cut),
        ("about.json", cut),
        ("about.json", Path.unlink),
    ],
)
def test_a_damaged_folder_is_noticed_and_made_anew(tmp_path, name, damage):
    whole = ensure_decoded(tmp_path, SPLIT, **KEY)
    expected = whole.images.copy()
    damage(whole.folder / name)
    with pytest.raises(DamagedError, match="is damaged"):
        open_decoded(whole.folder)
    assert find_decoded(whole.folder) is None
    np.testing.assert_array_equal(ensure_decoded(tmp_path, SPLIT, **KEY).images, expected)
    assert folders(tmp_path) == [whole.folder.name]


def test_columns_of_the_right_size_that_are_none(tmp_path):
    folder = ensure_decoded(tmp_path, SPLIT, **KEY).folder
    size = (folder / "columns.parquet").stat().st_size
    (folder / "columns.parquet").write_bytes(bytes(size))
    with pytest.raises(DamagedError, match="is damaged"):
        open_decoded(folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_decoded(folder / "other")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about | {"bytes": []},
        lambda about: about | {"canvas_size": "24"},
        lambda about: {key: value for key, value in about.items() if key != "examples"},
        lambda about: [about],
    ],
)
def test_a_folder_that_says_nonsense_of_itself_is_damaged(change, tmp_path):
    folder = ensure_decoded(tmp_path, SPLIT, **KEY).folder
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(change(about)))
    with pytest.raises(DamagedError, match="is damaged"):
        open_decoded(folder)


def test_a_broken_header_is_damage(tmp_path):
    folder = ensure_decoded(tmp_path, SPLIT, **KEY).folder
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(data.replace(b", }  ", b", } (", 1))  # NumPy's parser: a tokenize.TokenError
    with pytest.raises(DamagedError, match="has no header of NumPy's format"):
        open_decoded(folder)


def test_columns_without_numbers_are_damage(tmp_path):
    folder = ensure_decoded(tmp_path, SPLIT, **KEY).folder
    about = json.loads((folder / "about.json").read_text())
    columns = pq.read_table(folder / "columns.parquet")
    for label in (pa.array(["one"] * 70), pa.array([None] * 70, pa.int32())):
        pq.write_table(columns.set_column(1, "label", label), folder / "columns.parquet")
        about["bytes"]["columns.parquet"] = (folder / "columns.parquet").stat().st_size
        (folder / "about.json").write_text(json.dumps(about))
        with pytest.raises(DamagedError, match="not the table that it should be"):
            open_decoded(folder)


def test_images_are_never_unpickled(tmp_path):
    folder = ensure_decoded(tmp_path, SPLIT, **KEY).folder
    np.save(folder / "images.npy", np.array([{"a": 1}], object), allow_pickle=True)
    about = json.loads((folder / "about.json").read_text())
    about["bytes"]["images.npy"] = (folder / "images.npy").stat().st_size
    (folder / "about.json").write_text(json.dumps(about))
    with pytest.raises(DamagedError, match=r"is damaged: .*[Pp]ython objects"):
        open_decoded(folder)


def test_no_space(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    message = r"no space left: the decoded pictures take 0\.00 GB, but .*/decoded has .*data\.residency='stream'"
    with pytest.raises(ValueError, match=message):
        ensure_decoded(tmp_path, SPLIT, **KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_runs_full(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_write_images", full)
    with pytest.raises(ValueError, match=r"no space left while writing .*decoded/train-24-.*data\.residency='stream'"):
        ensure_decoded(tmp_path, SPLIT, **KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    assert can_write(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def read_only(path, mode=0o777, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "mkdir", read_only)
    assert not can_write(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be written \(Read-only file system\).*data\.residency='stream'"):
        ensure_decoded(tmp_path, SPLIT, **KEY)
