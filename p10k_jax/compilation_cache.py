"""Compiled programs kept between runs, so that a second start does not wait for the compiler.

JAX's persistent compilation cache, in a folder of the user's own: what lies there is run as machine code, so it must
not come from strangers, as a run's workdir may. `JAX_COMPILATION_CACHE_DIR` names another folder (also a bucket), and
`JAX_ENABLE_COMPILATION_CACHE=false` has none.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def cache_folder() -> Path:
    """The user's own: under `XDG_CACHE_HOME`, else `~/.cache`; on a CPU one for each kind of it, since a program that
    was compiled for another may hold instructions that this one has not."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "p10k_jax" / "compiled" / (_cpu_kind() if jax.default_backend() == "cpu" else jax.default_backend())


def _cpu_kind() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
        return f"cpu-{hashlib.sha256(chr(10).join(sorted(set(told))).encode()).hexdigest()[:16]}"
    return "cpu"


def keep_compiled() -> None:
    """From now on this process's programs are kept, and taken from where they were kept, unless the user has said
    otherwise; a folder that cannot be written, or that others can, costs the time of compiling and nothing else."""
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return
    try:
        folder = cache_folder()
        folder.parents[1].parent.mkdir(parents=True, exist_ok=True)
        for part in (*reversed(folder.parents[:2]), folder):
            part.mkdir(mode=0o700, exist_ok=True)
            if not _own(part):
                return
    except (OSError, RuntimeError):  # no home
        return
    _use(str(folder))


def _own(folder: Path) -> bool:
    """Whether this user, and nobody else, can write there."""
    found = folder.stat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return mine and not found.st_mode & 0o022 and os.access(folder, os.W_OK)


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Programs are kept in `folder` alone, within this."""
    earlier = jax.config.jax_compilation_cache_dir
    _use(str(folder))
    try:
        yield
    finally:
        _use(earlier)


def _use(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # it looks at the folder once
