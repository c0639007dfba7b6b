"""Prepared data in a bucket of Google Cloud Storage, copied once to this machine."""

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from p10k_jax.buckets import PATIENCE, Bucket, BucketError, Patience, Stored, cache_folder
from tfds_builder.disk import free_bytes
from tfds_builder.locking import building
from tfds_builder.prepare import builder_of

_AT_ONCE = 8  # files; one connection does not fill a network
_COMPLETE = "dataset_info.json"


def fetched(url: str, name: str, *, config: str = "", progress: bool = True, patience: Patience = PATIENCE) -> Path:
    """The `data_dir` on this machine that stands for the one in a bucket, with the dataset in it.

    The folder of the dataset is copied if it is not here yet: by one process of the machine, the others wait; under
    another name, until every file has the CRC32C that the bucket tells.

    Args:
        url: `gs://BUCKET/PATH`, of a `data_dir`.
        name, config: Of the dataset, as `tfds_builder.prepare.prepare` takes them.
        progress: Whether to say what is copied.
        patience: With the bucket.

    Raises:
        ValueError: no such address, no extra `gcs`, or no such dataset.
        BucketError: the bucket cannot be used or does not hold the dataset, or what lies here is not what it holds.
    """
    root = cache_folder(url, kind="data")
    folder = Path(builder_of(name, config=config, data_dir=root).data_dir)
    under = folder.relative_to(root).as_posix()
    bucket = Bucket(url, patience=patience)
    bucket.check_there()
    # Canvases that a run has decoded lie in folders within, and belong to the machine that made them.
    stored = {path: file for path, file in bucket.files(under).items() if path.count("/") == under.count("/") + 1}
    if f"{under}/{_COMPLETE}" not in stored:
        raise BucketError(
            f"{bucket.url} holds no prepared {under}. Build it in a folder of a machine, DATA, and send it there: "
            f"gcloud storage rsync DATA {bucket.url} --recursive"
        )
    with building(folder):
        if not folder.exists():
            _copy(bucket, stored, folder, progress=progress)
    _check_same(bucket, stored, folder)
    return root


def _copy(bucket: Bucket, stored: Mapping[str, Stored], folder: Path, *, progress: bool) -> None:
    size, free = sum(file.size for file in stored.values()), free_bytes(folder)
    if free < size:
        raise BucketError(
            f"no space left: {bucket.url} holds {size / 1e9:.2f} GB, but {folder.parent} has {free / 1e9:.2f} GB free. "
            "Free some, or set XDG_CACHE_HOME to a folder elsewhere."
        )
    if progress:
        print(f"copying {size / 1e9:.3f} GB from {bucket.url} to {folder} ...", file=sys.stderr, flush=True)
    # A name that the next to build here clears away.
    half = folder.with_name(f"incomplete.{os.getpid()}_{folder.name}")
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool, _cancelled_at_once(pool):
            list(pool.map(lambda path: bucket.read(path, half / Path(path).name), stored))
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


@contextlib.contextmanager
def _cancelled_at_once(pool: ThreadPoolExecutor):
    """What has not begun when one has failed does not begin."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _check_same(bucket: Bucket, stored: Mapping[str, Stored], folder: Path) -> None:
    for path, file in stored.items():
        here = folder / Path(path).name
        if not here.is_file() or here.stat().st_size != file.size:
            raise BucketError(
                f"{here} is not what {bucket.url}/{path} is ({file.size:,} bytes). If the bucket is right, remove "
                f"{folder}, and the next start copies it anew."
            )
