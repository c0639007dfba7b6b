"""Builds a dataset from the command line.

python -m tfds_builder.build NAME --manual_dir=RAW --data_dir=OUT [--config=…] [--leave_out_unreadable]
    [--workers=N] [--beam_runner=RUNNER [--beam_options="--OPTION=VALUE …"]] [--card=FILE.md]
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tfds_builder import BUILDERS, base_builder, card, on_beam, prepare, raw, summary
from tfds_builder import config as config_lib
from tfds_builder.terminal import printable

BAD_INPUT, STOPPED = 2, 130  # exit statuses
_INPUT_ERRORS = (
    raw.RawLayoutError,
    config_lib.UnknownConfigError,
    summary.UnreadablePicturesError,
    base_builder.EmptySplitError,
    on_beam.BeamError,
    prepare.PreparationError,
    OSError,  # no space left, no permission
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line as a namespace; argparse exits with status 2 on an unknown flag."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builder.build",
        description="Prepares a product catalogue as ArrayRecord splits train, validation and test.",
        epilog=f"Configs: {config_lib.__doc__.strip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", help=f"{', '.join(BUILDERS)}, or a dataset of TFDS")
    add("--manual_dir", metavar="RAW", help="folder (or single archive) with the raw files")
    add("--data_dir", metavar="OUT", help="where prepared datasets lie (default: TFDS's, ~/tensorflow_datasets)")
    add("--config", default="", help="original (default), 256, 384, 512, …; see below")
    add("--leave_out_unreadable", action="store_true", help="leave pictures that no decoder reads out and record them")
    add("--workers", type=_positive, metavar="N", help="threads (default: all available cores; on Beam 1 a shard)")
    add("--beam_runner", default="", metavar="RUNNER", help="build on Apache Beam: DirectRunner, FlinkRunner, …")
    add("--beam_options", default="", metavar="OPTIONS", help="the runner's, in one string: '--OPTION=VALUE --OPTION'")
    add("--card", type=Path, metavar="FILE.md", help="write a dataset card there, also of what is prepared already")
    add("--no_progress", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds, and prints the summary; returns the exit status: 0, or 2 for bad input with one message on stderr."""
    flags = parse(arguments)
    start = time.monotonic()
    try:
        if flags.card is not None and flags.card.is_dir():
            raise IsADirectoryError(f"--card={flags.card} is a folder; give a file")
        builder = prepare.prepare(
            flags.name,
            config=flags.config,
            data_dir=flags.data_dir,
            manual_dir=flags.manual_dir,
            leave_out_unreadable=flags.leave_out_unreadable,
            progress=not flags.no_progress,
            workers=flags.workers,
            beam_runner=flags.beam_runner,
            beam_options=flags.beam_options,
        )
        if flags.card is not None:
            card.write_card(flags.card, builder)
    except _INPUT_ERRORS as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("stopped; nothing is left of this build", file=sys.stderr)
        return STOPPED
    # The workers of Beam are other processes: their memory is not known here.
    words = _closing_words(builder, time.monotonic() - start, None if flags.beam_runner else peak_memory())
    print(printable(words))
    return 0


def _closing_words(builder, seconds: float, peak_bytes: int | None) -> str:
    metadata = builder.info.metadata
    if not metadata or "content_fingerprint" not in metadata:  # a dataset of TFDS's own
        splits = "\n".join(f"  {name:<12}{split.num_examples:>9,}" for name, split in builder.info.splits.items())
        return f"{builder.info.full_name}\n\n{splits}\n\n  prepared in {builder.data_dir}"
    return summary.render(
        metadata, title=builder.info.full_name, path=builder.data_dir, seconds=seconds, peak_bytes=peak_bytes
    )


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
