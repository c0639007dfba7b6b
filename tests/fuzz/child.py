"""Fuzzes one target until the time is up or something is found, in a process of its own, for libFuzzer ends it.

python -m tests.fuzz.child TARGET LIBFUZZER_ARGUMENTS
"""

import hashlib
import os
import sys
import traceback
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import atheris

from tests.fuzz.targets import MODULES

# What is measured for new paths: our code, and the parts of the standard library that take containers apart.
_INSTRUMENTED = [
    "p10k_jax",
    "tfds_builder",
    "tests.fuzz.raw_targets",
    "zipfile",
    "json",
    "csv",
    "html",
    "ml_collections",
]


def main() -> None:
    """Reads the name, imports the target with instrumented code and hands over to libFuzzer."""
    name, *arguments = sys.argv[1:]
    if name not in MODULES:
        sys.exit(f"unknown target {name!r}; known: {', '.join(MODULES)}")
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz.targets import load

        target = load(name)
    from tests.fuzz.check import Finding, check

    executions = 0

    def run(data: bytes) -> None:
        nonlocal executions
        executions += 1
        try:
            check(target, data)
        except Finding:  # libFuzzer would leave by way of exit handlers, and JAX's may wait for ever
            traceback.print_exc()
            name = hashlib.sha256(data).hexdigest()[:16]
            Path(f"{prefix}finding-{name}").write_bytes(data)
            print(f"stat::number_of_executed_units: {executions}", flush=True)
            os._exit(1)

    prefix = next(argument for argument in arguments if argument.startswith("-artifact_prefix=")).partition("=")[2]
    atheris.Setup([sys.argv[0], f"-max_len={target.most_bytes}", *arguments], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
