"""Fuzzes one target until the time is up or something is found, in a process of its own, for libFuzzer ends it.

python -m tests.fuzz.child TARGET LIBFUZZER_ARGUMENTS
"""

import os
import sys
import traceback

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

    def run(data: bytes) -> None:
        try:
            check(target, data)
        except Finding:
            traceback.print_exc()  # with what it came from; Atheris prints the last alone
            raise

    atheris.Setup([sys.argv[0], f"-max_len={target.most_bytes}", *arguments], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
