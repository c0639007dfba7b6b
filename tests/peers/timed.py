"""Measures one pipeline of `tests.peers.loaders` in this process, and prints the figures as JSON.

python -m tests.peers.timed 'timm, originals' --scratch=SCRATCH --threads=2 --batch_size=64 --seconds=20
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.peers.loaders import BY_NAME, Settings
from tests.peers.ratios import Timing


def timed(
    batches: Iterator[int], seconds: float, *, clock: Callable[[], float], processor_time: Callable[[], float]
) -> Timing:
    """Times whole batches for at least so many seconds, after half as many to warm up."""
    start = clock()
    while clock() - start < seconds / 2:
        next(batches)
    start, used, images = clock(), processor_time(), 0
    while clock() - start < seconds:
        images += next(batches)
    return Timing(images, clock() - start, processor_time() - used)


def tree_processor_time() -> float:
    """Seconds of processor time of this process and those that it started and that still run."""
    import psutil  # not needed to test the rest

    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Reads the flags, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.timed", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=BY_NAME)
    parser.add_argument("--scratch", type=Path, required=True)
    for flag, kind in (("threads", int), ("batch_size", int), ("seconds", float)):
        parser.add_argument(f"--{flag}", type=kind, required=True)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    batches = BY_NAME[given.name].batches(Settings(given.scratch, given.threads, given.batch_size))
    timing = timed(batches, given.seconds, clock=time.monotonic, processor_time=tree_processor_time)
    print(json.dumps(timing._asdict()), flush=True)
    os._exit(0)  # no pipeline is taken down in order: some wait for what they read ahead


if __name__ == "__main__":
    main()
