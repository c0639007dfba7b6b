"""Notebooks and their pairs; `python -m tests.notebooks` runs them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install p10k_jax[notebooks]")
jupytext = pytest.importorskip("jupytext", reason="pip install p10k_jax[notebooks]")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def code(path):
    return [source for kind, source in cells(nbformat.read(path, as_version=4)) if kind == "code"]


def test_there_are_five_each_with_its_pair():
    assert [path.name[0] for path in NOTEBOOKS] == list("12345")
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in (ROOT / "colab").glob("*.py")}


@every_notebook
def test_both_say_the_same(path):
    assert cells(nbformat.read(path, as_version=4)) == cells(jupytext.read(path.with_suffix(".py"))), (
        f"jupytext --sync colab/{path.name}"
    )


@every_notebook
def test_nothing_is_stored_that_a_run_made(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs"), cell.source
        assert cell.get("execution_count") is None, cell.source
        assert not cell.metadata, cell.source


@every_notebook
def test_the_badge_opens_this_very_file(path):
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/colab/{path.name}"
    assert f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})" in (
        nbformat.read(path, as_version=4).cells[0].source
    )


@every_notebook
def test_links_to_other_notebooks_lead_somewhere(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for part in cell.source.split("](")[1:]:
            target = part.partition(")")[0]
            assert "://" in target or (path.parent / target).exists(), target


@every_notebook
def test_the_first_cell_installs_and_prints_versions(path):
    first = code(path)[0]
    assert first == code(NOTEBOOKS[0])[0], "one cell for all"
    assert f'REPOSITORY = "{REPOSITORY}"' in first


def run_first_cell(tmp_path, *, importable, nvidia, backend):
    """The first cell in a process where pip and the devices are played; returns what it printed and installed."""
    program = tmp_path / "cell.py"
    program.write_text(
        f"""
import importlib.util, pathlib, shutil, subprocess, types
importlib.util.find_spec = lambda name: {importable} or None
shutil.which = lambda name: "/usr/bin/nvidia-smi" if {nvidia} else None
pathlib.Path.exists = lambda path: False
def run(words, **how):
    if "pip" in words:
        print("PIP", words[-1])
    return types.SimpleNamespace(stdout="1 x {backend}\\n")
subprocess.run = run
"""
        + code(NOTEBOOKS[0])[0]
    )
    return subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, env={}).stdout


def test_the_first_cell_installs_only_what_is_missing(tmp_path):
    versions = f"Python {sys.version.split()[0]} · p10k_jax 0"
    said = run_first_cell(tmp_path, importable=True, nvidia=False, backend="cpu")
    assert "PIP" not in said
    assert said.startswith(versions)
    assert "NOTE" not in said
    said = run_first_cell(tmp_path, importable=False, nvidia=True, backend="cuda")
    assert said.startswith(f"PIP p10k_jax[hub,cuda] @ git+{REPOSITORY}\n{versions}")
    assert "NOTE" not in said


def test_the_first_cell_warns_of_an_accelerator_that_jax_does_not_see(tmp_path):
    assert "NOTE: JAX does not see" in run_first_cell(tmp_path, importable=True, nvidia=True, backend="cpu")


@every_notebook
def test_one_cell_has_the_settings_and_imports_are_of_what_is_installed(path):
    forms = [source for source in code(path) if "# @param" in source]
    assert len(forms) == 1
    assert forms[0].startswith("# @title Settings\n")
    sources = [source for source in code(path) if not source.startswith("%%")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    known = {"p10k_jax", "tfds_builder", "configs", "jax", "numpy", "pyarrow", "PIL", "matplotlib", "IPython"}
    assert {module.split(".")[0] for module in modules} <= known | sys.stdlib_module_names


def write_notebook(folder, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "of_a_test.ipynb")
    return folder / "of_a_test.ipynb"


def run_notebook(path):
    command = [sys.executable, "-m", "tests.notebooks", path]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return ended.returncode, ended.stdout


def test_a_notebook_runs_in_an_empty_folder_with_this_python(tmp_path):
    checks = "import os, sys\nassert os.listdir() == [], os.listdir()", f"assert sys.executable == {sys.executable!r}"
    returncode, said = run_notebook(write_notebook(tmp_path, *checks))
    assert returncode == 0, said
    assert said.startswith("of_a_test.ipynb: ran, ")


def test_a_cell_that_raises_fails_and_is_shown(tmp_path):
    returncode, said = run_notebook(write_notebook(tmp_path, "x = 1", "raise ValueError('odd')", "print('unreached')"))
    assert returncode == 1
    assert said.startswith("of_a_test.ipynb: FAILED, ")
    assert "raise ValueError('odd')" in said
    assert "Traceback" in said
    assert "unreached" not in said


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import warnings\nwarnings.warn('old', FutureWarning)", "FutureWarning: old"),
        ("import sys\nprint('W1124 18:10:22.123456 140 file.py:7] odd', file=sys.stderr)", "W1124 18:10:22.123456"),
    ],
)
def test_a_cell_that_warns_fails_and_is_shown(tmp_path, source, line):
    returncode, said = run_notebook(write_notebook(tmp_path, "1 + 1", source))
    assert returncode == 1
    assert "cell 1 shows '" in said
    assert line in said
