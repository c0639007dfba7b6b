"""The shared TFDS builder: a checked raw catalogue in, ArrayRecord splits train, validation and test out.

A `ShardBasedBuilder`, because TFDS's generator-based one gathers every split in a shuffling buffer of up to 1 GB, then
on disk a second time, and needs TensorFlow's file layer for that. Here each shard is written once, straight from the
raw files: memory holds one shard (64 to 128 MB, up to 1 GiB above 64 GB of data) and the pictures in flight.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import shard_utils
from tqdm import tqdm

from tfds_builder import config as config_lib
from tfds_builder import disk, holdout, locking, processing, raw, summary

FILE_FORMAT = "array_record"
# Beside the records of every split: their labels, int32[N], in stored order. Class frequencies then cost no pass over
# gigabytes of pictures.
LABELS_FILE = "labels.{split}.npy"
# Measured on real product photos, JPEG quality 95 with full colour: 0.59 bytes a pixel; rounded up for the space check.
_BYTES_PER_PIXEL = 0.75
_ASPECT = 1.35
_RECORD_BYTES = 256


class NoSpaceError(OSError):
    """The disk does not hold what the build would write."""


class EmptySplitError(ValueError):
    """A split would hold no pictures."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One build: the catalogue, and for each split its raw split and rows there, in the order they are written."""

    catalogue: raw.RawCatalogue
    rows: dict[str, tuple[str, np.ndarray]]
    left_out: dict[str, list[int]]
    tally: summary.Tally
    bar: tqdm
    pool: ThreadPoolExecutor
    workers: int


@dataclasses.dataclass(frozen=True)
class _NoDownloads:
    """What TFDS asks of a download manager at the end of a build."""

    downloaded_size: int = 0


class CatalogueBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base of products10k, sku_catalogue and drawn_catalogue.

    Features: `image` (bytes, untouched or reduced as the config says), `label` and `group` (class labels whose names
    come from the catalogue), `name` (file name) and `usage` ('public', 'private' or '').
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "Initial release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    BUILDER_CONFIGS = [  # noqa: RUF012
        config_lib.raw_config(config_lib.raw_name(config_lib.Preparation(size))) for size in config_lib.LISTED_SIZES
    ]
    HOMEPAGE: str | None = None

    def __init__(
        self,
        *,
        leave_out_unreadable: bool = False,
        workers: int | None = None,
        progress: bool = True,
        file_format: str | None = None,
        **kwargs,
    ):
        """As every TFDS builder (data_dir, config, version), and how to build.

        Args:
          leave_out_unreadable: leave pictures that no decoder reads out and record them, instead of failing.
          workers: threads; all available cores by default. The result does not depend on it.
          progress: show a progress bar.
          file_format: only 'array_record' is written.
          **kwargs: data_dir, config, version.
        """
        _assert_file_format(file_format)
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; it must be at least 1")
        self._leave_out_unreadable = leave_out_unreadable
        self._workers = workers or processing.available_cores()
        self._progress = progress
        self._job: Job | None = None
        super().__init__(file_format=FILE_FORMAT, **kwargs)

    @classmethod
    def config_from_name(cls, name: str) -> config_lib.CatalogueConfig:
        """The config of any name in the grammar of config.py."""
        return config_lib.raw_config(name)

    def _create_builder_config(self, builder_config, version):
        if isinstance(builder_config, str) and builder_config not in self.builder_configs:
            name, _, _ = builder_config.partition(":")
            return self.builder_configs.get(name) or self.config_from_name(name)
        return super()._create_builder_config(builder_config, version)

    def _info(self) -> tfds.core.DatasetInfo:
        preparation = self.builder_config.preparation
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    # Bytes go in as they are; the format only speaks of arrays, which are never given.
                    "image": tfds.features.Image(
                        shape=(None, None, 3), encoding_format="jpeg" if preparation.shorter_side else None
                    ),
                    "label": tfds.features.ClassLabel(),
                    "group": tfds.features.ClassLabel(),
                    "name": tfds.features.Text(),
                    "usage": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
        )

    @contextlib.contextmanager
    def open_raw(self, manual_dir: Path) -> Iterator[raw.RawCatalogue]:
        """Gives the raw catalogue for the time of the build; writes nothing for manual datasets."""
        preparation = self.builder_config.preparation
        yield raw.open_catalogue(manual_dir, test_percent=preparation.test_percent, seed=preparation.seed)

    def download_and_prepare(self, *, download_dir=None, download_config=None, file_format=None, **kwargs) -> None:
        """Prepares the dataset, or does nothing where it is prepared.

        Everything that can be checked without decoding is checked before a picture is read. A build that fails leaves
        nothing behind. One process builds at a time; others wait and find the data.

        Raises:
          raw.RawLayoutError, summary.UnreadablePicturesError, EmptySplitError, NoSpaceError
        """
        _assert_file_format(file_format)
        download_config = download_config or tfds.download.DownloadConfig()
        download_config = dataclasses.replace(download_config, try_download_gcs=False)
        run = functools.partial(
            super().download_and_prepare, download_dir=download_dir, download_config=download_config, **kwargs
        )
        if self._looks_prepared() and not download_config.download_mode.overwrite_dataset:
            return
        downloads = Path(download_dir or self.data_dir_root / "downloads")
        manual_dir = Path(download_config.manual_dir or downloads / "manual").expanduser()
        with contextlib.ExitStack() as stack:
            stack.enter_context(locking.building(Path(self.data_dir)))
            if self._looks_prepared() and not download_config.download_mode.overwrite_dataset:
                self.info.read_from_directory(self.data_dir)  # another process built it while this one waited
                return
            catalogue = stack.enter_context(self.open_raw(manual_dir))
            rows = split_rows(catalogue, self.builder_config.preparation)
            assert_space(Path(self.data_dir_root), estimate_bytes(catalogue, self.builder_config.preparation))
            self._job = stack.enter_context(self._start(catalogue, rows))
            try:
                run()
            except RuntimeError as error:
                if "No space left" in str(error):  # ArrayRecord's writer
                    raise NoSpaceError(
                        f"no space left while writing {self.data_dir}; nothing is kept. Free some."
                    ) from error
                raise
            finally:
                self._job = None

    def as_dataset(
        self, split=None, *, decoders=None, batch_size=None, shuffle_files=False, as_supervised=False, **kwargs
    ):
        """What `tfds.load` gives: the random-access data source of `as_data_source`, since there is no TensorFlow here.

        Raises NotImplementedError for batch_size, shuffle_files and as_supervised, which only tf.data has.
        """
        if batch_size or shuffle_files or as_supervised or any(kwargs.values()):
            raise NotImplementedError(
                f"{self.name} is read as a data source (ArrayRecord), which knows neither batch_size, shuffle_files, "
                "as_supervised nor read_config; batch and shuffle with Grain, or with p10k_jax.data."
            )
        return self.as_data_source(split, decoders=decoders)

    @contextlib.contextmanager
    def _start(self, catalogue: raw.RawCatalogue, rows: dict[str, tuple[str, np.ndarray]]) -> Iterator[Job]:
        total = sum(len(chosen) for _, chosen in rows.values())
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="pictures") as pool,
            self._bar(f"{self.name}/{self.builder_config.name}", total) as bar,
        ):
            yield Job(catalogue, rows, {split: [] for split in rows}, summary.Tally(), bar, pool, self._workers)

    def _looks_prepared(self) -> bool:
        # As is_prepared(), which warns on stderr about every folder that is not there yet.
        return (Path(self.data_dir) / "dataset_info.json").exists()

    def _bar(self, description: str, total: int) -> tqdm:
        interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
        return tqdm(total=total, unit=" img", desc=description, disable=not self._progress, mininterval=interval)

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        job, preparation = self._job, self.builder_config.preparation
        self.info.features["label"].names = list(job.catalogue.class_names)
        self.info.features["group"].names = list(job.catalogue.group_names)
        shards = {}
        for split, (raw_split, rows) in job.rows.items():
            size = int(_stored_bytes(job.catalogue.table(raw_split).size[rows], preparation).sum())
            number = shard_utils.ShardConfig().get_number_shards(size, len(rows))
            shards[split] = [
                functools.partial(self._generate, split, raw_split, part) for part in np.array_split(rows, number)
            ]
        return shards

    def _generate(self, split: str, raw_split: str, rows: np.ndarray) -> Iterator[tuple[int, dict]]:
        """Yields (row, example) of one shard."""
        job = self._job
        table, side = job.catalogue.table(raw_split), self.builder_config.preparation.shorter_side

        def work(row: int) -> processing.Processed:
            return processing.process(lambda: job.catalogue.read_row(raw_split, row), side)

        for row, result in processing.ordered_map(work, rows.tolist(), job.pool, job.workers):
            columns = {
                "name": table.name[row],
                "label": int(table.label[row]),
                "group": int(table.group[row]),
                "usage": table.usage[row],
            }
            job.tally.add(split, result=result, **columns)
            job.bar.update()
            if result.data is None:
                job.left_out[split].append(row)
            else:
                yield row, {"image": result.data, **columns}

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        job = self._job
        job.bar.close()
        if not self._leave_out_unreadable:
            job.tally.assert_readable()
        if empty := [split for split in job.rows if not job.tally.counts[split]]:
            raise EmptySplitError(f"no picture of split {empty[0]!r} can be read; look at the raw files")
        self._write_labels(job)
        self.info.metadata.update(self._metadata(job))

    def _write_labels(self, job: Job) -> None:
        for split, (raw_split, rows) in job.rows.items():
            kept = rows[~np.isin(rows, job.left_out[split])]
            labels = job.catalogue.table(raw_split).label[kept].astype(np.int32)
            np.save(Path(self.data_dir) / LABELS_FILE.format(split=split), labels)

    def _metadata(self, job: Job) -> dict[str, object]:
        preparation, catalogue = self.builder_config.preparation, job.catalogue
        usage = collections.Counter(value for value in catalogue.test.usage if value)
        return {
            **job.tally.metadata(),
            "num_classes": catalogue.num_classes,
            "num_groups": catalogue.num_groups,
            "test_usage": dict(sorted(usage.items())),
            "preparation": dataclasses.asdict(preparation),
            "source_fingerprint": catalogue.source_fingerprint,
        }

    def _make_download_manager(self, download_dir, download_config) -> _NoDownloads:
        # TFDS's own one makes folders downloads/extracted in data_dir; here nothing is downloaded or extracted.
        return _NoDownloads()

    # TFDS prints these two at every build; the progress bar and the summary say it better.
    def _log_download_bytes(self) -> None:
        pass

    def _log_download_done(self) -> None:
        pass


def split_rows(catalogue: raw.RawCatalogue, preparation: config_lib.Preparation) -> dict[str, tuple[str, np.ndarray]]:
    """Split -> (raw split, int64 rows in it), in the order they are stored.

    Rows of a split are ordered by sha256(f'order/{name}'), so that any slice of the split is a fair sample.
    """
    train = catalogue.train
    take, least = preparation.holdout_take, preparation.holdout_least
    held_out = np.zeros(len(train), bool)
    if take:
        held_out = holdout.draw_holdout(
            train.name,
            train.label,
            lambda count: take if count >= least else 0,
            seed=preparation.seed,
            purpose="validation",
        )
        if not held_out.any():
            raise EmptySplitError(
                f"{catalogue.manual_dir}: no class has {least} training pictures, so holdout{take}of{least} leaves "
                "validation empty. Use a config with a smaller N, or with holdout0 for no validation split."
            )
    rows = {"train": ("train", _ordered(train.name, np.flatnonzero(~held_out)))}
    if take:
        rows["validation"] = ("train", _ordered(train.name, np.flatnonzero(held_out)))
    rows["test"] = ("test", _ordered(catalogue.test.name, np.arange(len(catalogue.test))))
    return rows


def _ordered(names: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    keys = [hashlib.sha256(f"order/{names[row]}".encode()).digest() for row in rows]
    return rows[sorted(range(len(rows)), key=keys.__getitem__)]


def estimate_bytes(catalogue: raw.RawCatalogue, preparation: config_lib.Preparation) -> int:
    """Bytes that the prepared dataset will take on disk, rounded up."""
    sizes = np.concatenate([catalogue.train.size, catalogue.test.size])
    # ArrayRecord fills up blocks of 64 KiB, two at least for each of the splits.
    return int(1.02 * _stored_bytes(sizes, preparation).sum()) + 3 * (128 << 10)


def _stored_bytes(raw_sizes: np.ndarray, preparation: config_lib.Preparation) -> np.ndarray:
    if not preparation.shorter_side:
        return raw_sizes + _RECORD_BYTES
    largest = preparation.shorter_side**2 * _ASPECT * _BYTES_PER_PIXEL
    # A small or strongly packed picture grows by at most about half when it is encoded anew.
    return np.minimum(largest, 1.5 * raw_sizes) + _RECORD_BYTES


def assert_space(folder: Path, needed: int) -> None:
    """Raises NoSpaceError where the disk of `folder` (which need not exist yet) has less than `needed` bytes free."""
    free = disk.free_bytes(folder)
    if free < needed:
        raise NoSpaceError(
            f"no space left: the prepared dataset takes about {needed / 1e9:.2f} GB, but {folder} has "
            f"{free / 1e9:.2f} GB free. Free some, choose another data_dir, or a config with smaller pictures."
        )


def _assert_file_format(file_format: str | os.PathLike | None) -> None:
    value = getattr(file_format, "value", file_format)
    if value not in (None, FILE_FORMAT):
        raise ValueError(f"file_format is {value!r}; these datasets are written as {FILE_FORMAT!r} only")
