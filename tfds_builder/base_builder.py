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
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import split_builder
from tensorflow_datasets.core.utils import shard_utils
from tqdm import tqdm

from tfds_builder import config as config_lib
from tfds_builder import disk, holdout, locking, on_beam, processing, raw, shards, summary

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
          workers: threads; all available cores by default, and on Beam one for each shard that is being written. The
            result does not depend on it.
          progress: show a progress bar.
          file_format: only 'array_record' is written.
          **kwargs: data_dir, config, version.
        """
        _assert_file_format(file_format)
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; it must be at least 1")
        self._leave_out_unreadable = leave_out_unreadable
        self._workers = workers or processing.available_cores()
        self._beam_threads = workers or 1
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
        return self.dataset_info_from_configs(
            features=shards.features(self.builder_config.preparation.shorter_side),
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
        """Prepares the dataset, or does nothing where it is prepared; on Beam with a download_config that has a runner.

        Everything that can be checked without decoding is checked before a picture is read. A build that fails leaves
        nothing behind. One process builds at a time; others wait and find the data.

        Raises:
          raw.RawLayoutError, summary.UnreadablePicturesError, EmptySplitError, NoSpaceError, on_beam.BeamError
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
        manual_dir = Path(download_config.manual_dir or downloads / "manual").expanduser().absolute()
        on_one_machine = not on_beam.is_asked(download_config)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locking.building(Path(self.data_dir)))
            if self._looks_prepared() and not download_config.download_mode.overwrite_dataset:
                self.info.read_from_directory(self.data_dir)  # another process built it while this one waited
                return
            catalogue = stack.enter_context(self.open_raw(manual_dir))
            rows = split_rows(catalogue, self.builder_config.preparation)
            assert_space(Path(self.data_dir_root), estimate_bytes(catalogue, self.builder_config.preparation))
            self._job = stack.enter_context(self._start(catalogue, rows, has_bar=on_one_machine))
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
    def _start(
        self, catalogue: raw.RawCatalogue, rows: dict[str, tuple[str, np.ndarray]], has_bar: bool
    ) -> Iterator[Job]:
        total = sum(len(chosen) for _, chosen in rows.values())
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="pictures") as pool,
            self._bar(f"{self.name}/{self.builder_config.name}", total, has_bar) as bar,
        ):
            yield Job(catalogue, rows, summary.Tally(), bar, pool, self._workers)

    def _looks_prepared(self) -> bool:
        # As is_prepared(), which warns on stderr about every folder that is not there yet.
        return (Path(self.data_dir) / "dataset_info.json").exists()

    def _bar(self, description: str, total: int, shown: bool = True) -> tqdm:
        interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
        return tqdm(
            total=total, unit=" img", desc=description, disable=not (self._progress and shown), mininterval=interval
        )

    def _shard_rows(self) -> dict[str, list[np.ndarray]]:
        """Split -> rows of each of its shards."""
        job, found = self._job, {}
        for split, (raw_split, rows) in job.rows.items():
            sizes = job.catalogue.table(raw_split).size[rows]
            total = int(_stored_bytes(sizes, self.builder_config.preparation).sum())
            found[split] = np.array_split(rows, shard_utils.ShardConfig().get_number_shards(total, len(rows)))
        return found

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        return {
            split: [functools.partial(self._generate, split, rows) for rows in parts]
            for split, parts in self._shard_rows().items()
        }

    def _generate(self, split: str, rows: np.ndarray) -> Iterator[tuple[int, dict]]:
        """Yields (row in the shard, example) of one shard."""
        job = self._job
        raw_split, _ = job.rows[split]
        return shards.examples(
            job.catalogue.select(raw_split, rows),
            split,
            self.builder_config.preparation.shorter_side,
            tally=job.tally,
            pool=job.pool,
            workers=job.workers,
            advance=job.bar.update,
        )

    def _write_on_beam(self, download_config: tfds.download.DownloadConfig) -> None:
        """What ShardBasedBuilder's _download_and_prepare does, with all shards as tasks of one pipeline."""
        job, found = self._job, self._shard_rows()
        files = {split: self._shard_files(split, len(parts)) for split, parts in found.items()}
        folder = Path(self.data_dir).absolute() / "beam"
        tasks = on_beam.write_tasks(
            (
                (split, path, job.catalogue.select(job.rows[split][0], rows))
                for split, parts in found.items()
                for path, rows in zip(files[split], parts, strict=True)
            ),
            folder,
            shorter_side=self.builder_config.preparation.shorter_side,
            num_classes=len(job.catalogue.class_names),
            num_groups=len(job.catalogue.group_names),
            threads=self._beam_threads,
        )
        tallies = on_beam.run(tasks, self._split_builder(download_config))
        shutil.rmtree(folder)
        for tally in tallies:
            job.tally.merge(tally)
        answers = iter(tallies)
        splits = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[next(answers).counts[split] for _ in paths],
                num_bytes=sum(path.stat().st_size for path in paths),
                filename_template=self._get_filename_template(split),
            )
            for split, paths in files.items()
        ]
        self.info.set_splits(tfds.core.SplitDict(splits))

    def _split_builder(self, download_config: tfds.download.DownloadConfig) -> split_builder.SplitBuilder:
        return split_builder.SplitBuilder(
            split_dict=self.info.splits,
            features=self.info.features,
            dataset_size=self.info.dataset_size,
            max_examples_per_split=None,
            beam_options=download_config.beam_options,
            beam_runner=download_config.beam_runner,
            example_writer=self._example_writer(),
        )

    def _shard_files(self, split: str, number: int) -> list[Path]:
        template = self._get_filename_template(split)
        return [
            Path(template.sharded_filepath(shard_index=shard, num_shards=number)).absolute() for shard in range(number)
        ]

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        job = self._job
        self.info.features["label"].names = list(job.catalogue.class_names)
        self.info.features["group"].names = list(job.catalogue.group_names)
        if on_beam.is_asked(download_config):
            self._write_on_beam(download_config)
        else:
            super()._download_and_prepare(dl_manager, download_config)
        job.bar.close()
        if not self._leave_out_unreadable:
            job.tally.assert_readable()
        if empty := [split for split in job.rows if not job.tally.counts[split]]:
            raise EmptySplitError(f"no picture of split {empty[0]!r} can be read; look at the raw files")
        self._write_labels(job)
        self.info.metadata.update(self._metadata(job))

    def _write_labels(self, job: Job) -> None:
        left_out = {(split, name) for split, name, _ in job.tally.unreadable}
        for split, (raw_split, rows) in job.rows.items():
            table = job.catalogue.table(raw_split)
            kept = [row for row in rows.tolist() if (split, table.name[row]) not in left_out]
            np.save(Path(self.data_dir) / LABELS_FILE.format(split=split), table.label[kept].astype(np.int32))

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
