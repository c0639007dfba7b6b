"""The floors of docs/design.md: a room imports from its own floor or below."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("train", "evaluate", "predict", "export", "soup", "compare", "ablate", "plan", "bench")
SHARED = ("setup", "recipe", "pixels", "program", "finished", "classifier", "neighbour_evaluation")
# From below; rooms between braces stand on one floor.
FLOORS = (
    {"tfds_builder", "files", "parquet"},
    {"buckets", "bucket_data"},
    {"models"},
    {"weights"},
    {"data"},
    {"training", "evaluation"},
    {"config", "facts", "hardware", "hosts", "stopping", "compilation_cache"},
    {"ablation", "reporting"},
    {*SHARED, "planning", "benchmarking"},
    set(PROGRAMS),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted([*(ROOT / "p10k_jax").rglob("*.py"), *(ROOT / "tfds_builder").rglob("*.py")])


def room_of(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "p10k_jax" else package


def imported(path: Path) -> Iterator[str]:
    """The modules of this repository that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if re.match(r"(p10k_jax|tfds_builder)\.", name))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_looks_up(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if path.name in ("__init__.py", "__main__.py") and path.parent == ROOT / "p10k_jax":
        return
    program = path.name == "__main__.py"
    here = len(FLOORS) if program else FLOOR_OF[room_of(module)]
    above = [name for name in imported(path) if FLOOR_OF[room_of(name)] > here]
    assert above == []


def test_every_room_and_program_is_in_the_picture():
    picture = (ROOT / "docs" / "design.svg").read_text()
    rooms = {path.name for path in (ROOT / "p10k_jax").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert rooms < FLOOR_OF.keys()
    for name in (*rooms, "tfds_builder"):
        assert f">{name}/<" in picture, name
    for name in (*PROGRAMS, *SHARED):
        assert re.search(rf"\b{name}\b", picture), name
    files = {path.stem for path in (ROOT / "p10k_jax").glob("*.py")} - {"__init__"}
    assert files == {
        *PROGRAMS,
        *SHARED,
        "bucket_data",
        "buckets",
        "config",
        "facts",
        "files",
        "hardware",
        "hosts",
        "parquet",
        "stopping",
        "compilation_cache",
    }
