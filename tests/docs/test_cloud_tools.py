"""SkyPilot and XPK themselves read what docs/cloud and docs/cloud_tpu.md give them; they need an environment of their
own (requirements_cloud.txt, which .ci/run installs)."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cloud_tpu.md"
READ = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
print(json.dumps([resources.accelerators, resources.use_spot, resources.job_recovery, task.num_nodes, task.run]))
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sky") is None or importlib.util.find_spec("xpk") is None,
    reason="pip install -r tests/docs/requirements_cloud.txt, in an environment of its own",
)


def run(*command: str, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        command,
        env=os.environ | {"HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1", "CLOUDSDK_CONFIG": str(home)},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("name", "accelerators"), [("tpu.sky.yaml", {"tpu-v5litepod-8": 1}), ("gpu.sky.yaml", {"H100": 8})]
)
def test_skypilot_reads_its_tasks(name, accelerators, tmp_path):
    done = run(sys.executable, "-c", READ, str(ROOT / "docs/cloud" / name), home=tmp_path)
    assert done.returncode == 0, done.stderr
    found, spot, recovery, nodes, command = json.loads(done.stdout.splitlines()[-1])
    assert (found, spot, nodes) == (accelerators, True, 1)
    assert recovery["recover_on_exit_codes"] == [75]
    assert "exec .venv/bin/python -m p10k_jax.train" in command


def test_skypilot_refuses_what_it_does_not_know(tmp_path):
    text = (ROOT / "docs/cloud/tpu.sky.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text(text.replace("runtime_version:", "runtime:"))
    done = run(sys.executable, "-c", READ, "wrong.yaml", home=tmp_path)
    assert done.returncode != 0
    assert "runtime" in done.stderr


def xpk_commands() -> list[list[str]]:
    """The page's, with what its variables may stand for."""
    values = {"PROJECT": "p", "BUCKET": "b", "IMAGE": "image", "SERVICE_ACCOUNT": "runs@p.iam.gserviceaccount.com"}
    lines = re.findall(r"^xpk .*$", PAGE.read_text(), flags=re.MULTILINE)
    return [shlex.split(re.sub(r"\$(\w+)", lambda name: values[name[1]], line)) for line in lines]


def test_xpk_takes_its_commands(tmp_path):
    """A dry run does all but what goes out to the cloud."""
    xpk = str(Path(sys.executable).with_name("xpk"))
    commands = xpk_commands()
    assert [" ".join(command[1:3]) for command in commands] == [
        *("cluster create", "workload create", "workload list", "workload delete", "cluster delete")
    ]
    for _, *arguments in commands:
        done = run(xpk, *arguments, "--dry-run", "--skip-validation", home=tmp_path)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_xpk_submits_a_job_that_goes_on_after_75(tmp_path):
    xpk = str(Path(sys.executable).with_name("xpk"))
    (create,) = [command for command in xpk_commands() if command[1:3] == ["workload", "create"]]
    manifest = tmp_path / "job.yaml"
    done = run(xpk, *create[1:], "--dry-run", "--skip-validation", f"--output-manifest-file={manifest}", home=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = manifest.read_text()
    assert re.search(r"operator: NotIn\s+values: \[42,75,127,", text)
    assert re.search(r"parallelism: 4\b", text)  # v5litepod-16: four hosts of four chips
    assert "(exec python -m p10k_jax.train --config=configs/vit.py:variant=B/16" in text
    assert "terminationGracePeriodSeconds: 60" in text
