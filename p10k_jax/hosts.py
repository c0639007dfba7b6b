"""Several processes that work on one run, a process a host or a GPU: how they find each other, and what becomes of the
others where one is missing.

All run the same command. Each reads its share of every batch, process 0 alone writes, and checkpoints are written
shard by shard: the workdir must be a folder that all see.
"""

import contextlib
import os
import re
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from jaxtyping import Int

from p10k_jax.config import clear_errors
from p10k_jax.stopping import BAD_INPUT, TRY_AGAIN, NotShared

# A process that is not heard of for so many seconds is lost. Where no collective fails before, JAX ends the others,
# with signal 6, and tells why.
_SILENCE = 60

# How long a process that ends before its end lets the others come to theirs: they lose it at once when it is gone.
_PARTING = 10

# NFS may remember for about so many seconds that a file is not there.
_UNSEEN = 60

_REFUSES = -1

_AGAIN = "Start the same command again in all of them: the run goes on from its last checkpoint."

# What JAX raises of this host's own doing; all else that it raises in a collective is of another's.
_OWN_FAULT = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION")


class Place(NamedTuple):
    """A process among others; `address` is `host:port` of process 0."""

    address: str
    index: int
    count: int


def parse_place(text: str) -> Place:
    """`HOST:PORT,INDEX/COUNT`. Raises ValueError for anything else."""
    found = re.fullmatch(r"([^\s,]+:\d{1,5}),(\d+)/(\d+)", text)
    if not found or not int(found[2]) < int(found[3]):
        raise ValueError(
            f"--multihost={text}: give auto, or HOST:PORT,INDEX/COUNT: where process 0 listens, and which of how many "
            "processes this is, from 0 on, as in 10.0.0.2:8476,0/4."
        )
    return Place(found[1], int(found[2]), int(found[3]))


def define_host_flags() -> None:
    """Defines `--multihost` and `--peer_seconds`."""
    flags.DEFINE_string(
        "multihost",
        "",
        "Several processes work on the run: auto finds them (Cloud TPU, GKE, Slurm, Open MPI), HOST:PORT,INDEX/COUNT "
        "names them.",
    )
    flags.DEFINE_integer("peer_seconds", 300, "How long a process waits for the others to start or to end.")


@contextlib.contextmanager
def joined(multihost: str, *, peer_seconds: int) -> Iterator[None]:
    """Within this the process is one of several, if `multihost` says so; comes before anything that asks JAX for
    devices. A process that fails in it does not wait for the others; one that leaves with an exit code gives them ten
    seconds, for mostly they leave too.

    Args:
        multihost: '' for one process, `auto`, or what `parse_place` reads.
        peer_seconds: How long it waits for the others to come, and in the end to leave.

    Exit codes: 2 for a text that is no place, or where JAX finds no cluster; 75 where another process does not come,
    or is lost; else that of the program.
    """
    if not multihost:
        yield
        return
    with clear_errors():
        _join(multihost, peer_seconds)
    try:
        yield
    except SystemExit as end:
        if end.code:
            _part(end.code, at_most=min(_PARTING, peer_seconds / 2))
        raise
    except jax.errors.JaxRuntimeError as error:
        traceback.print_exc()
        if not str(error).startswith(_OWN_FAULT):
            print(f"\nerror: lost another process of {jax.process_count()}. {_AGAIN}", file=sys.stderr)
            _leave(TRY_AGAIN)
        _leave(1)
    except BaseException:
        traceback.print_exc()
        _leave(1)


def _join(multihost: str, peer_seconds: int) -> None:
    if peer_seconds < 1:
        raise ValueError(f"--peer_seconds={peer_seconds}: give seconds, at least 1.")
    place = None if multihost == "auto" else parse_place(multihost)
    given = {}
    if place is not None:
        given = {"coordinator_address": place.address, "process_id": place.index, "num_processes": place.count}
        given["cluster_detection_method"] = "deactivate"
    times = {"shutdown_timeout_seconds": peer_seconds, "heartbeat_timeout_seconds": min(peer_seconds, _SILENCE)}
    which = f"process {place.index} of {place.count} at {place.address}" if place else "this process"
    # JAX's own time-out ends the process with signal 6 and a stack trace.
    watch = threading.Timer(peer_seconds, _nobody_came, (which, peer_seconds))
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(**given, **times, initialization_timeout=peer_seconds + 60)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"--multihost={multihost}: JAX finds no cluster here ({error}). Give HOST:PORT,INDEX/COUNT in each process."
        ) from error
    finally:
        watch.cancel()


def _nobody_came(which: str, seconds: int) -> None:
    print(
        f"\nerror: {which} waited {seconds} s (--peer_seconds) for the others, in vain. Look whether all were started, "
        "with the same address and count, and whether a firewall keeps them apart.",
        file=sys.stderr,
    )
    _leave(TRY_AGAIN)


def _part(code: int | str, *, at_most: float) -> None:
    """Ends the process when the others end too, or after `at_most` seconds, for one of them may wait for this."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    farewell = threading.Thread(target=jax.distributed.shutdown, name="farewell", daemon=True)
    farewell.start()
    farewell.join(at_most)
    _leave(code)


def _leave(code: int) -> None:
    """Ends the process now."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Refused(SystemExit):
    """Another process refused the run."""


def gather(number: int) -> Int[np.ndarray, " processes"]:
    """Every process's `number`, from 0 to 2^31 - 1; all must ask equally often."""
    if jax.process_count() == 1:
        return np.array([number])
    everyone = multihost_utils.process_allgather(np.int32(number))
    if _REFUSES in everyone and number != _REFUSES:
        who = np.flatnonzero(everyone == _REFUSES)[0]
        print(f"\nerror: process {who} refuses the run, and says why", file=sys.stderr)
        raise _Refused(BAD_INPUT)
    return everyone


@contextlib.contextmanager
def refused_by_all() -> Iterator[None]:
    """What one process refuses in it, with exit code 2, ends all with that code; is over when all have come to its
    end. Within it, processes exchange things by `gather` alone."""
    try:
        yield
        gather(0)
    except _Refused:
        raise
    except SystemExit:
        gather(_REFUSES)
        raise


def assert_same(what: str, text: str) -> None:
    """Raises ValueError in every process where their `text` is not the same."""
    sums = gather(zlib.crc32(text.encode()) >> 1)
    others = np.flatnonzero(sums != sums[0])
    if others.size:
        raise ValueError(f"processes {others.tolist()} have another {what} than process 0; start all with the same.")


def assert_shared(file: Path) -> None:
    """Raises NotShared in every process where one does not see `file`, which process 0 has written."""
    gather(0)
    deadline = time.monotonic() + _UNSEEN
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    blind = np.flatnonzero(gather(int(file.exists())) == 0)
    if blind.size:
        raise NotShared(
            f"workdir={file.parent}: processes {blind.tolist()} do not see what process 0 wrote there. Give a folder "
            "that all hosts share, or gs://BUCKET/PATH."
        )
