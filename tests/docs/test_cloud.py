"""docs/cloud_tpu.md and the files beside it name what is there; `test_cloud_runs.py` runs the scripts."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.test_docs import commands, problems

ROOT = Path(__file__).parents[2]
CLOUD = ROOT / "docs" / "cloud"
PAGE = ROOT / "docs" / "cloud_tpu.md"
SCRIPTS = sorted(CLOUD.glob("*.sh"))
SKY = sorted(CLOUD.glob("*.sky.yaml"))
OTHERS = [CLOUD / "Dockerfile"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()


@pytest.mark.parametrize(
    "script", [*SCRIPTS, *(ROOT / "tests/docs/fake_cloud").iterdir(), ROOT / ".ci/run"], ids=lambda path: path.name
)
def test_shellcheck_finds_nothing(script):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_started(script):
    assert os.access(script, os.X_OK)
    assert script.name in PAGE.read_text()


@pytest.mark.parametrize("file", [*SCRIPTS, *SKY, *OTHERS], ids=lambda path: path.name)
def test_commands_of_scripts_name_programs_flags_and_settings(file):
    text = f"```bash\n{file.read_text()}\n```"
    assert problems(text) == []


def test_there_are_commands_to_check():
    """The page and both YAML files train; a check that finds no command would find nothing wrong."""
    for file in (PAGE, *SKY):
        text = file.read_text() if file == PAGE else f"```bash\n{file.read_text()}\n```"
        assert "p10k_jax.train" in {module for module, _ in commands(text)}, file


def extras_named(text: str) -> set[str]:
    """What `.[a,b]` and `install.sh a,b` name, but for arguments of install.sh and the Dockerfile."""
    found = re.findall(r"\.\[([\w,${}]+)\]|install\.sh ([a-z]+(?:,[a-z]+)*)(?=['\"\s])", text)
    return {extra for pair in found for extra in "".join(pair).split(",")} - {"${EXTRA}", "$1"}


def test_extras_of_installs_exist():
    named = set().union(*(extras_named(file.read_text()) for file in [*SCRIPTS, *SKY, *OTHERS, PAGE]))
    assert {"tpu", "cuda", "gcs"} <= named <= EXTRAS


def test_the_image_is_made_of_what_the_repository_has():
    lines = re.sub(r"^#.*\n", "", OTHERS[0].read_text(), flags=re.MULTILINE)
    (version,) = re.findall(r"^FROM python:3\.(\d+)-slim$", lines, flags=re.MULTILINE)
    low, high = map(
        int, re.findall(r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    )
    assert low <= int(version) < high
    assert f"--python 3.{version}" in (CLOUD / "install.sh").read_text()
    (constraints,) = re.findall(r"--constraint (\S+)", lines)
    assert (ROOT / constraints).is_file()
    assert re.search(r"^COPY \. \.$", lines, flags=re.MULTILINE)
    (default,) = re.findall(r"^ARG EXTRA=(\w+)$", lines, flags=re.MULTILINE)
    assert default in EXTRAS


@pytest.mark.parametrize("file", SKY, ids=lambda path: path.name)
def test_sky_tasks_go_on_where_a_run_can(file):
    task = yaml.safe_load(file.read_text())
    assert task["resources"]["use_spot"]
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert set(re.findall(r"\$(\w+)", task["run"])) - {"FIRST"} <= task["envs"].keys() | {
        *("SKYPILOT_NODE_IPS", "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")
    }
