"""Builds on Apache Beam: each shard is a task for whichever worker takes it.

TFDS's download config brings the runner, TFDS's SplitBuilder opens the pipeline, TFDS's ShardWriter writes. What its
ShardBasedBuilder does with a runner is passed over: in TFDS 4.9.10 the pipeline of a split runs those of the splits
before it again, and more than ten shards get each other's lengths.

Workers know the raw files and the prepared folder by the same paths as the process that builds. A task is a file
there, and so is the tally that answers it: the pipeline holds their names and nothing else.
"""

import contextlib
import importlib.util
import io
import json
import logging
import platform
import shlex
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, file_adapters, writer
from tensorflow_datasets.core import split_builder as split_builder_lib

from tfds_builder import raw, shards, summary


class BeamError(ValueError):
    """Beam cannot be used as asked; the message names what was asked and the way out."""


def is_asked(download_config: tfds.download.DownloadConfig) -> bool:
    """Whether the build runs on Beam. Raises BeamError where it should and Beam is not installed."""
    asked = download_config.beam_runner is not None or download_config.beam_options is not None
    if asked:
        _assert_installed()
    return asked


def download_config(runner: str, options: str = "", **kwargs) -> tfds.download.DownloadConfig:
    """TFDS's download config with a runner's name and its options as on a command line; kwargs are its other fields.

    Raises BeamError: no Beam, no such runner, or options that Beam or the runner refuses.
    """
    if not runner and options:
        raise BeamError(f"--beam_options={options!r} is given without --beam_runner; give both, or none")
    if not runner:
        return tfds.download.DownloadConfig(**kwargs)
    _assert_installed()
    import apache_beam

    logging.basicConfig()  # as Beam does, but not onto the stream of the next lines
    said = io.StringIO()
    try:
        words = shlex.split(options)
        if words and not words[0].startswith("--"):
            raise ValueError(f"{words[0]!r} does not start with --")
        with contextlib.redirect_stderr(said):
            parsed = apache_beam.options.pipeline_options.PipelineOptions(words)
            parsed.get_all_options()
            pipeline = apache_beam.Pipeline(runner, options=parsed)
    except (ValueError, ImportError, AttributeError, SystemExit) as error:  # Beam's parser exits
        reason = said.getvalue().strip().rpartition("error: ")[2] if isinstance(error, SystemExit) else error
        raise BeamError(f"Beam refuses --beam_runner={runner} --beam_options={options!r}: {reason}") from error
    return tfds.download.DownloadConfig(beam_runner=pipeline.runner, beam_options=parsed, **kwargs)


def _assert_installed() -> None:
    if importlib.util.find_spec("apache_beam") is None:
        raise BeamError(
            "Apache Beam is asked for, but apache_beam is not installed. It is the extra 'beam', for an environment of "
            "its own: pip install p10k_jax[beam]. Or build on one machine, without --beam_runner."
        )


def write_tasks(
    parts: Iterable[tuple[str, Path, raw.RawPictures]],
    folder: Path,
    *,
    shorter_side: int,
    num_classes: int,
    num_groups: int,
    threads: int,
) -> list[Path]:
    """Writes a file for each shard, with all that a worker needs, and returns them in order.

    Args:
      parts: (split, path of the shard, its pictures), taken one at a time.
      folder: for the files, on the disk of the shards; made here.
      shorter_side: as in processing.process.
      num_classes: number of class names.
      num_groups: number of group names.
      threads: of each task.
    """
    folder.mkdir()
    tasks = []
    for number, (split, path, pictures) in enumerate(parts):
        told = {
            "split": split,
            "path": str(path),
            "shorter_side": shorter_side,
            "num_classes": num_classes,
            "num_groups": num_groups,
            "threads": threads,
            "pictures": pictures.to_json(),
        }
        tasks.append(folder / f"{number}.task")
        tasks[-1].write_text(json.dumps(told))
    return tasks


def run(tasks: Sequence[Path], split_builder: split_builder_lib.SplitBuilder) -> list[summary.Tally]:
    """Writes the shards of all tasks, and returns the tally of each.

    Args:
      tasks: files of write_tasks.
      split_builder: TFDS's, with a runner or options of Beam.
    """
    import apache_beam

    try:
        with split_builder.maybe_beam_pipeline():
            _ = (
                split_builder.beam_pipeline
                | "Shards" >> apache_beam.Create([str(task) for task in tasks])
                | "Write" >> apache_beam.Map(write_shard)
            )
    except RuntimeError as error:
        if str(error).startswith("KeyboardInterrupt"):  # what the direct runner makes of it
            raise KeyboardInterrupt from error
        raise
    return [summary.Tally.of_json(json.loads(_answer(task).read_text())) for task in tasks]


def write_shard(task: str) -> None:
    """Writes the shard of a task's file and then its tally: what a worker does.

    Beam may run a task again, or twice at once: each run writes files of its own, and renames them at the end.

    Raises BeamError where this worker does not see the prepared folder or the raw files.
    """
    if not Path(task).exists():
        raise BeamError(f"{_here()} there is no {task}: all workers must see data_dir by the path that the build has")
    told = json.loads(Path(task).read_text())
    pictures = raw.pictures_of_json(told["pictures"])
    for source in pictures.sources:
        if not Path(source.place).exists():  # else each of its pictures would count as unreadable
            raise BeamError(
                f"{_here()} there is no {source.place}: all workers must see manual_dir by the path that the build has"
            )
    features = shards.features(told["shorter_side"], told["num_classes"], told["num_groups"])
    shard_writer = writer.ShardWriter(
        features=features,
        serializer=example_serializer.ExampleSerializer(features.get_serialized_info()),
        example_writer=writer.ExampleWriter(file_adapters.FileFormat.ARRAY_RECORD),
    )
    mine, tally = Path(f"{task}.{uuid.uuid4().hex}"), summary.Tally()
    with ThreadPoolExecutor(told["threads"]) as pool:
        examples = shards.examples(
            pictures, told["split"], told["shorter_side"], tally=tally, pool=pool, workers=told["threads"]
        )
        shard_writer.write(examples, mine)
    mine.replace(told["path"])
    mine.write_text(json.dumps(tally.to_json()))
    mine.replace(_answer(task))


def _answer(task: str | Path) -> Path:
    return Path(task).with_suffix(".tally")


def _here() -> str:
    return f"on worker {platform.node()}"
