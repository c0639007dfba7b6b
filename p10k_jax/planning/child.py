"""Compiles in a process of its own, for the TPU compiler can die, and keeps memory: its death is an answer too."""

import ast
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from p10k_jax.planning.compiling import Request, compiled
from p10k_jax.planning.sizes import Sizes
from p10k_jax.planning.topologies import parse_topology

# `python -m` of this module, the file of the answer behind it; the request comes on standard input.
COMMAND = (sys.executable, "-m", "p10k_jax.planning.child")
_KEPT_LINES = 8


class CompilerError(Exception):
    """The compiler gave no answer; the message says what happened and what to try."""


def check_compiler() -> None:
    """Raises ValueError where there is no TPU compiler."""
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("no TPU compiler is installed; it needs no TPU: pip install -e .[tpu]")


def compile_in_child(request: Request, *, time_limit: float, command: Sequence[str] = COMMAND) -> dict[str, Any]:
    """`compiling.compiled` of the request, in a child process.

    Args:
        request: What.
        time_limit: Seconds.
        command: The child's; the name of the file for its answer is added.

    Raises:
        ValueError: what the child refuses.
        CompilerError: it died, took too long, or failed.
    """
    topology = parse_topology(request.topology)
    with tempfile.TemporaryDirectory(prefix="p10k_jax-plan-") as folder:
        answer, log = Path(folder) / "answer.json", Path(folder) / "log"
        with log.open("w") as output:
            child = subprocess.Popen(
                [*command, str(answer)],
                env=os.environ | topology.environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                # A literal, not JSON: tuples remain tuples.
                child.communicate(repr(request._asdict() | {"sizes": request.sizes._asdict()}), timeout=time_limit)
            except subprocess.TimeoutExpired as error:
                raise CompilerError(
                    f"{topology.name}: not compiled within {time_limit:,.0f} seconds; give a longer --time_limit, "
                    "or a smaller slice."
                ) from error
            except BrokenPipeError:
                child.wait()
            finally:
                if child.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if child.returncode or not answer.exists():
            raise CompilerError(_death(topology.name, child.returncode, log.read_text(errors="replace")))
        told = json.loads(answer.read_text())
    if "refused" in told:
        raise ValueError(told["refused"])
    if "failed" in told:
        raise CompilerError(f"{topology.name}: the compiler fails: {told['failed']}\n{_ways_out()}")
    return told


def _death(name: str, code: int, log: str) -> str:
    if code < 0:
        how = f"{signal.Signals(-code).name} (signal {-code})"
        hint = (
            "this machine ran out of memory"
            if code == -signal.SIGKILL
            else "a fault of the compiler, not of the config"
        )
        return f"{name}: the compiler died of {how}: {hint}. {_ways_out()}"
    tail = "\n".join(deque(log.strip().splitlines(), maxlen=_KEPT_LINES))
    return f"{name}: the compiling process ended with exit code {code}:\n{tail}"


def _ways_out() -> str:
    versions = []
    for package in ("jax", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return (
        f"Installed: {', '.join(versions)}. Try others of them (pip install -U jax[tpu]; a newer Python allows a newer "
        "jax), a smaller slice of the same generation, or v5e, which older compilers handle best."
    )


def main() -> None:
    """Reads a request, compiles, and writes the answer into the file that the only argument names."""
    request = ast.literal_eval(sys.stdin.read())
    request["sizes"] = Sizes(**request["sizes"])
    try:
        answer = compiled(Request(**request))
    except ValueError as error:
        answer = {"refused": str(error)}
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        answer = {"failed": str(error)[:2000]}
    Path(sys.argv[1]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
