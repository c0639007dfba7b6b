"""The one door for programs: a dataset's name in, a prepared builder out; built first if need be."""

import difflib
import os
from pathlib import Path

import tensorflow_datasets as tfds

import tfds_builder
from tfds_builder import base_builder, on_beam, tensorflow_free
from tfds_builder import config as config_lib


class PreparationError(ValueError):
    """The dataset cannot be prepared as asked; the message names what was asked and the way out."""


def prepare(
    name: str,
    *,
    config: str = "",
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    leave_out_unreadable: bool = False,
    progress: bool = True,
    workers: int | None = None,
    beam_runner: str = "",
    beam_options: str = "",
    check_source: bool = True,
) -> tfds.core.DatasetBuilder:
    """Returns a builder whose splits are on disk as ArrayRecord, and builds them first where they are not.

    Args:
      name: products10k, sku_catalogue, drawn_catalogue, or any dataset that TFDS knows and can write as ArrayRecord.
        'name/config' is accepted too.
      config: builder config, '' for the default; for our datasets any name of config.py's grammar.
      data_dir: where prepared datasets lie; TFDS's default (~/tensorflow_datasets) if None.
      manual_dir: raw files, for datasets that are not downloaded or drawn. Where the dataset is prepared already and
        this folder exists, it must be the one it was prepared from.
      leave_out_unreadable: leave pictures that no decoder reads out and record them, instead of failing.
      progress: show a progress bar.
      workers: threads; all available cores by default, and on Beam one for each shard that is being written.
      beam_runner: name of a runner of Apache Beam, to build there instead of in this process.
      beam_options: the runner's options, as on a command line: '--direct_num_workers=2 --direct_running_mode=…'.
      check_source: False trusts prepared data without a look at manual_dir.

    Raises:
      PreparationError: unknown name; prepared from other raw files or in another file format; manual_dir missing.
      on_beam.BeamError: no Beam, no such runner, or options that it refuses.
      config.UnknownConfigError, raw.RawLayoutError, summary.UnreadablePicturesError, base_builder.EmptySplitError,
      base_builder.NoSpaceError: see there.
    """
    name, _, config_in_name = name.partition("/")
    config = config or config_in_name
    if name not in tfds_builder.BUILDERS:
        return _prepare_other(name, config, data_dir, manual_dir, beam_runner, beam_options)
    try:
        builder = tfds_builder.BUILDERS[name](
            config=config or None,
            data_dir=_expanded(data_dir),
            leave_out_unreadable=leave_out_unreadable,
            progress=progress,
            workers=workers,
        )
    except ValueError as error:
        raise _explained(error, name, data_dir) from error
    if manual_dir is not None and not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise PreparationError(f"{name} is drawn, not read: it takes no manual_dir (got {manual_dir}); leave it out")
    if is_prepared(builder):
        if check_source and manual_dir is not None and Path(manual_dir).expanduser().exists():
            _assert_same_source(builder, Path(manual_dir).expanduser())
        return builder
    if manual_dir is None and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise PreparationError(
            f"{name}/{builder.builder_config.name} is not prepared in {builder.data_dir_root}, and no manual_dir with "
            f"its raw files is given.\n\n{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    download_config = on_beam.download_config(beam_runner, beam_options, manual_dir=_expanded(manual_dir))
    builder.download_and_prepare(download_config=download_config)
    return builder


def builder_of(name: str, *, config: str = "", data_dir: str | os.PathLike | None = None) -> tfds.core.DatasetBuilder:
    """The builder of a dataset, which need not be prepared; builds nothing.

    Raises:
      PreparationError: unknown name, or a folder that holds it in another file format.
      config.UnknownConfigError: see there.
    """
    name, _, config_in_name = name.partition("/")
    config = config or config_in_name
    try:
        if name in tfds_builder.BUILDERS:
            return tfds_builder.BUILDERS[name](config=config or None, data_dir=_expanded(data_dir))
        return _other(name, config, data_dir)
    except ValueError as error:
        raise _explained(error, name, data_dir) from error


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether the builder's data lies on disk, complete (builds are atomic)."""
    return (Path(builder.data_dir) / "dataset_info.json").exists()


def _assert_same_source(builder: base_builder.CatalogueBuilder, manual_dir: Path) -> None:
    with builder.open_raw(manual_dir) as catalogue:
        given = catalogue.source_fingerprint
    prepared = builder.info.metadata["source_fingerprint"]
    if given != prepared:
        raise PreparationError(
            f"{builder.data_dir} was prepared from other raw files (fingerprint {prepared}) than those in {manual_dir} "
            f"(fingerprint {given}). Give another data_dir for the new files (of a training: --config.data.data_dir), "
            "or delete the prepared folder."
        )


def _prepare_other(
    name: str,
    config: str,
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    beam_runner: str,
    beam_options: str,
) -> tfds.core.DatasetBuilder:
    """Prepares a dataset of TFDS's own."""
    try:
        builder = _other(name, config, data_dir)
    except ValueError as error:
        raise _explained(error, name, data_dir) from error
    if not is_prepared(builder):
        download_config = on_beam.download_config(
            beam_runner, beam_options, manual_dir=_expanded(manual_dir), try_download_gcs=False
        )
        try:
            with tensorflow_free.building():
                builder.download_and_prepare(download_config=download_config, file_format=base_builder.FILE_FORMAT)
        except AssertionError as error:  # how TFDS says that manual_dir is missing or empty
            raise PreparationError(f"{name} cannot be prepared: {error}") from error
        except ModuleNotFoundError as error:
            raise PreparationError(
                f"{name} needs the package {error.name!r} to be built, not to be read. Install it for the build, or "
                f"build elsewhere with `tfds build {name} --file_format=array_record` and copy the folder here."
            ) from error
    return builder


def _other(name: str, config: str, data_dir: str | os.PathLike | None) -> tfds.core.DatasetBuilder:
    kwargs = {"config": config} if config else {}
    try:
        return tfds.builder(name, data_dir=_expanded(data_dir), file_format=base_builder.FILE_FORMAT, **kwargs)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = sorted(tfds_builder.BUILDERS)
        everything = {*known, *tfds.list_builders(with_community_datasets=False)}
        close = difflib.get_close_matches(name, sorted(everything), n=5)
        hint = f" Close names: {', '.join(close)}." if close else ""
        raise PreparationError(
            f"unknown dataset {name!r}. Ours: {', '.join(known)}; beside them every dataset of TFDS.{hint}"
        ) from error


def _explained(error: ValueError, name: str, data_dir: str | os.PathLike | None) -> ValueError:
    """Our own errors as they are; TFDS's complaint about another file format, made plain; its other ones, named."""
    if isinstance(error, config_lib.UnknownConfigError | PreparationError):
        return error
    if "File format is already set" not in str(error):
        return PreparationError(f"{name} cannot be prepared: {error}")
    return PreparationError(
        f"{name} is prepared in {data_dir or 'the default data_dir'} in another file format ({error}), but only "
        f"{base_builder.FILE_FORMAT} can be read at random. Give another data_dir, or delete the prepared folder."
    )


def _expanded(path: str | os.PathLike | None) -> str | None:
    return None if path is None else str(Path(path).expanduser())
