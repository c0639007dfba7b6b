"""Coverage-guided fuzzing of all that reads a stranger's bytes, by Atheris.

    pip install -c constraints.txt -e .[test,fuzz]
    python -m tests.fuzz --seconds=120 [--targets=raw_archive,npz] [--keep=FOLDER]

Every target has a process of its own, which ends with its share of the seconds or with its first finding. The last
line is JSON: for each target `executions`, `seconds` and `findings`, and the `total`. The exit code is 0 only where
nothing was found. An input that found something is named; `python -m tests.fuzz --input=FILE --targets=TARGET` tries it
again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.check import check
from tests.fuzz.targets import MODULES, load

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
_RSS_MEGABYTES = 3072
_HANGING_SECONDS = 30  # by the clock, which runs on while a busy machine does something else; `check` goes by the CPU's
_STARTING_SECONDS = 300  # imports, on a busy machine


def fuzz(name: str, seconds: int, folder: Path, keep: Path | None) -> dict[str, Any]:
    """Fuzzes one target; inputs that found something are left in `folder`, new paths in `keep`."""
    grown = (keep or folder / "corpus") / name
    grown.mkdir(parents=True, exist_ok=True)
    found = folder / name
    found.mkdir()
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(grown), str(CORPUS / name)]
    command += [f"-max_total_time={seconds}", f"-timeout={_HANGING_SECONDS}", f"-rss_limit_mb={_RSS_MEGABYTES}"]
    command += [f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0"]
    started = time.monotonic()
    with (folder / f"{name}.log").open("w+", errors="replace") as log:
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds + _STARTING_SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            code = "no end"
        log.seek(0)
        said = re.sub(r"^INFO: Instrumenting .*\n", "", log.read(), flags=re.MULTILINE)
    executions = re.findall(r"number_of_executed_units: (\d+)", said)
    findings = [str(path) for path in sorted(found.iterdir())]
    if (code != 0 or not executions) and not findings:
        findings = [f"exit code {code}"]
    for finding in findings:
        start = max(said.find("Traceback"), 0)
        print(f"{name}: {finding}\n{said[start : start + 4000]}\n…\n{said[-1500:]}", file=sys.stderr)
    return {
        "executions": int(executions[-1]) if executions else 0,
        "seconds": round(time.monotonic() - started),
        "findings": findings,
    }


def main() -> int:
    """Reads the flags, fuzzes target after target, prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="Over all targets; imports come on top.")
    parser.add_argument("--targets", default=",".join(MODULES), help="Names, separated by commas.")
    parser.add_argument(
        "--keep", type=Path, help="Folder for inputs that reach new code, which the next call goes on from."
    )
    parser.add_argument("--input", type=Path, help="Try this file alone.")
    given = parser.parse_args()
    names = given.targets.split(",")
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"unknown target {unknown[0]!r}; known: {', '.join(MODULES)}")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if given.input:
        print(json.dumps({name: check(load(name), given.input.read_bytes()) for name in names}))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="p10k_jax-fuzz-"))
    each = max(1, given.seconds // len(names))
    told = {name: fuzz(name, each, folder, given.keep) for name in names}
    total = {
        "executions": sum(one["executions"] for one in told.values()),
        "seconds": sum(one["seconds"] for one in told.values()),
        "findings": sum(len(one["findings"]) for one in told.values()),
    }
    print(json.dumps({"targets": told, "total": total}))
    return 0 if total["findings"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
