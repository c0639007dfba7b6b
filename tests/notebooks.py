"""Runs notebooks as a reader would, top to bottom, each in an empty folder of its own.

    python -m tests.notebooks [NOTEBOOK.ipynb ...] [--output=FOLDER]

Without names it runs those in `colab/`, and nothing in them is overridden. A line each with its seconds; a cell that
raises ends the notebook and is shown with its traceback, and so is one that warns or logs where a reader would see it.
The exit code is 1 if any failed. Needs `pip install p10k_jax[notebooks]`.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat
import traitlets.config

FOLDER = Path(__file__).parent.parent / "colab"
_SECONDS = 900  # for a notebook; far more than any takes
# Python's warnings, and lines of absl and XLA such as `W1124 18:10:22.123456 ...`.
_NOISE = re.compile(r"\w*Warning\b.*|^[IWEF]\d{4} .*|^[IWEF]0000 .*", re.MULTILINE)


def run(path: Path, folder: Path) -> tuple[nbformat.NotebookNode, str]:
    """Executes a notebook in `folder` with the kernel of this Python.

    Returns:
        It with its outputs, and why it failed: the cell and its traceback, or what was warned of; '' if it did not.
    """
    notebook = nbformat.read(path, as_version=4)
    # Over TCP the kernel warns that anybody on the machine could listen.
    sockets = {"transport": "ipc", "ip": str(folder.with_name(f"{folder.name}-kernel"))}
    client = nbclient.NotebookClient(
        notebook,
        timeout=_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        config=traitlets.config.Config({"KernelManager": sockets}),
    )
    try:
        client.execute()
    except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
        return notebook, str(error)
    return notebook, "\n".join(noise(notebook))


def noise(notebook: nbformat.NotebookNode) -> list[str]:
    """Warnings and log lines among the outputs, each with its cell."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            lines = _NOISE.findall(output.get("text", "")) if output.output_type == "stream" else []
            found += [f"cell {number} shows {line!r}" for line in lines]
    return found


def main() -> int:
    """Runs them and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description="Runs notebooks.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: those in colab/")
    parser.add_argument("--output", type=Path, help="folder for the notebooks with their outputs")
    given = parser.parse_args()
    failed = 0
    for path in given.notebooks or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook, complaint = run(path, Path(folder))
        failed += bool(complaint)
        print(f"{path.name}: {'FAILED' if complaint else 'ran'}, {time.monotonic() - started:.0f} s", flush=True)
        if complaint:
            print(complaint, flush=True)
        if given.output:
            given.output.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, given.output / path.name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
