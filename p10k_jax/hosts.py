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
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from p10k_jax.config import clear_errors
from p10k_jax.stopping import TRY_AGAIN

# A process that is not heard of for so many seconds is lost. Where no collective fails before, JAX ends the others,
# with signal 6, and tells why.
_SILENCE = 60

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
    devices. A process that fails in it leaves at once and does not wait for the others.

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
            _leave(end.code)
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


def _leave(code: int | str | None) -> None:
    """Ends the process now; an orderly end would wait for the others, of which one may wait for this."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.process_allgather(np.int32(0))
