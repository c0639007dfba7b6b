"""Prepared data in a bucket: copied once, whole, by one of several processes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p10k_jax import setup
from p10k_jax.bucket_data import fetched
from p10k_jax.buckets import Bucket, BucketError, Patience, cache_folder
from p10k_jax.data.splits import data_fingerprint, open_split
from tests.bucket_server import BUCKET
from tests.runs import tiny_config
from tfds_builder.prepare import builder_of

URL = f"gs://{BUCKET}/runs/data"
QUICK = Patience(answer=2.0, file=20.0, pause=0.02)
# Google's library leaves the sockets of downloads that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def stored(faults, tiny_data):
    """The names of a prepared dataset that was copied into the bucket, and canvases beside it that stay there."""
    bucket = Bucket(URL, patience=QUICK)
    names = [path.relative_to(tiny_data).as_posix() for path in tiny_data.rglob("*") if path.is_file()]
    for name in names:
        bucket.write(tiny_data / name, name)
    return names


def dataset(root: Path) -> Path:
    return Path(builder_of("drawn_catalogue", config="tiny", data_dir=root).data_dir)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_copied_once_and_whole_however_the_bucket_fails(faults, stored, tiny_data):
    vars(faults).update(errors=0.2, cuts=0.2)
    root = fetched(URL, "drawn_catalogue", config="tiny", patience=QUICK)
    assert files(dataset(root)) == files(dataset(tiny_data))
    assert not [path for path in dataset(root).iterdir() if path.is_dir()]
    assert faults.counts["errors"] + faults.counts["cuts"] > 0
    vars(faults).update(errors=0.0, cuts=0.0, counts=dict.fromkeys(faults.counts, 0))
    assert fetched(URL, "drawn_catalogue/tiny") == root
    assert faults.counts["answers"] == 2  # whether there is such a bucket, and what it holds


def test_several_processes_copy_once(faults, stored, tiny_data):
    faults.counts["answers"] = 0
    with ThreadPoolExecutor(4) as pool:
        roots = list(pool.map(lambda _: fetched(URL, "drawn_catalogue", config="tiny"), range(4)))
    assert len(set(roots)) == 1
    assert files(dataset(roots[0])) == files(dataset(tiny_data))
    assert faults.counts["answers"] == len(files(dataset(tiny_data))) + 2 * 4


def test_the_data_of_a_run_may_lie_in_a_bucket(faults, stored, tiny_data):
    builder = setup.open_data(tiny_config(URL))
    assert cache_folder(URL, kind="data") in Path(builder.data_dir).parents
    assert len(open_split(builder, "train")) == 56
    there = builder_of("drawn_catalogue", config="tiny", data_dir=tiny_data)
    assert data_fingerprint(builder) == data_fingerprint(there)


def test_a_copy_that_was_cut_short_is_none(faults, stored, tiny_data):
    faults.refuse = lambda method, path: 403 if "alt=media" in path and "dataset_info.json" in path else 0
    with pytest.raises(BucketError, match="no permission"):
        fetched(URL, "drawn_catalogue", config="tiny", patience=QUICK)
    folder = dataset(cache_folder(URL, kind="data"))
    assert not folder.exists()
    assert not folder.parent.exists() or list(folder.parent.iterdir()) == []
    faults.refuse = lambda method, path: 0
    assert files(dataset(fetched(URL, "drawn_catalogue", config="tiny"))).keys() == files(dataset(tiny_data)).keys()
    next(folder.glob("*.array_record*")).write_bytes(b"torn")
    with pytest.raises(BucketError, match=r"array_record.* is not what gs://a-bucket/runs/data/.* is .*remove"):
        fetched(URL, "drawn_catalogue", config="tiny")
    shutil.rmtree(folder)
    fetched(URL, "drawn_catalogue", config="tiny")


def test_what_is_not_there_is_told_before_anything_is_written(faults, monkeypatch):
    with pytest.raises(BucketError, match=r"holds no prepared drawn_catalogue/tiny/.*gcloud storage rsync DATA gs://"):
        fetched(URL, "drawn_catalogue", config="tiny")
    with pytest.raises(ValueError, match="unknown dataset 'no_such'"):
        fetched(URL, "no_such")
    monkeypatch.setattr("p10k_jax.bucket_data.free_bytes", lambda folder: 0)
    with pytest.raises(BucketError, match="there is no such bucket"):
        fetched("gs://no-bucket/data", "drawn_catalogue")
    assert not cache_folder(URL, kind="data").exists()


def test_no_space_is_told(stored, monkeypatch):
    monkeypatch.setattr("p10k_jax.bucket_data.free_bytes", lambda folder: 0)
    with pytest.raises(BucketError, match=r"no space left: .*XDG_CACHE_HOME"):
        fetched(URL, "drawn_catalogue", config="tiny")
