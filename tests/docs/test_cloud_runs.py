"""The scripts of docs/cloud against a cloud played by tests/docs/fake_cloud: what they do where a TPU is taken away,
a run fails, or a setting is missing. What they say to gcloud is held against the real one, where it is installed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FAKES = Path(__file__).parent / "fake_cloud"
PAGE = ROOT / "docs" / "cloud_tpu.md"
SETTINGS = {
    "NAME": "run1",
    "ZONE": "us-west4-a",
    "SERVICE_ACCOUNT": "p10k-jax@p.iam.gserviceaccount.com",
    "POLL": "0.05",
}

# All flags of gcloud that scripts and page may give: one spelling for one thing.
GCLOUD_FLAGS = {
    *(
        "accelerator-type",
        "command",
        "display-name",
        "filter",
        "force",
        "format",
        "location",
        "member",
        "node-id",
        "project",
    ),
    *(
        "public-access-prevention",
        "quiet",
        "recursive",
        "repository-format",
        "role",
        "runtime-version",
        "service-account",
    ),
    *("spot", "uniform-bucket-level-access", "worker", "zone"),
}


class Done(NamedTuple):
    """A script that has ended."""

    code: int
    said: str


class Cloud:
    """A clone with the scripts, and what the fakes keep in a folder."""

    def __init__(self, folder: Path, plan: str = "", granted: str = "WAITING_FOR_RESOURCES"):
        self.folder = folder / "cloud"
        self.folder.mkdir()
        (self.folder / "plan").write_text(plan)
        (self.folder / "granted").write_text(granted + "\n")
        self.clone = folder / "clone"
        shutil.copytree(ROOT / "docs" / "cloud", self.clone / "docs" / "cloud")
        for command in ("init -q", "add .", "-c user.name=t -c user.email=t@example.org commit -q -m scripts"):
            subprocess.run(["git", *command.split()], cwd=self.clone, check=True)

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        plain = {"PATH": f"{FAKES}:{os.environ['PATH']}", "HOME": str(self.folder), "CLOUD": str(self.folder)}
        return plain | settings

    def start(self, script: str, *arguments: str, settings: dict[str, str] = SETTINGS) -> subprocess.Popen:
        return subprocess.Popen(
            [self.clone / "docs" / "cloud" / script, *arguments],
            cwd=self.folder,
            env=self.environment(settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str, settings: dict[str, str] = SETTINGS) -> Done:
        process = self.start(script, *arguments, settings=settings)
        said, _ = process.communicate(timeout=60)
        return Done(process.returncode, said)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, of: str) -> list[str]:
        return [line for line in self.lines("calls") if of in line]


@pytest.fixture
def cloud(tmp_path):
    return lambda *arguments, **settings: Cloud(tmp_path, *arguments, **settings)


def test_a_tpu_that_is_taken_away_twice_is_requested_again_and_the_command_goes_on(cloud):
    there = cloud("preempted 75\n75 preempted\n0 0\n")
    done = there.run("tpu.sh", "run", "train", "--a=it's (1, $2)", settings=SETTINGS | {"SPOT": "1"})
    assert done.code == 0, done.said
    assert len(there.calls("queued-resources create")) == 3
    assert all("--spot" in line for line in there.calls("queued-resources create"))
    assert there.lines("starts_host0") == there.lines("starts_host1") == ["--a=it's (1, $2)"] * 3
    assert len(there.lines("installs")) == 6
    assert not (there.folder / "state").exists()  # deleted at the end


@pytest.mark.parametrize("second", ["0 75", "75 aborts", "0 aborts"])
def test_exit_code_75_on_a_tpu_that_is_there_starts_again_on_it(cloud, second):
    there = cloud(f"75 75\n{second}\n0 0\n")
    done = there.run("tpu.sh", "run", "train")
    assert done.code == 0, done.said
    assert len(there.calls("queued-resources create")) == 1
    assert len(there.lines("starts_host0")) == 3


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ("2 2", 2),
        ("3 3", 3),
        ("1 75", 1),
        ("75 1", 1),
        ("130 130", 130),
        ("137 75", 137),
        ("1 aborts", 1),
        ("aborts aborts", 134),
    ],
)
def test_other_exit_codes_end_it_and_the_tpu_is_deleted(cloud, ends, code):
    there = cloud(f"{ends}\n0 0\n")
    done = there.run("tpu.sh", "run", "train")
    assert done.code == code, done.said
    assert len(there.lines("starts_host0")) == len(there.lines("starts_host1")) == 1
    assert len(there.calls("queued-resources create")) == 1
    assert not (there.folder / "state").exists()


def test_keep_leaves_the_tpu_and_delete_deletes_it(cloud):
    there = cloud("2 2\n0 0\n")
    assert there.run("tpu.sh", "run", "train", settings=SETTINGS | {"KEEP": "1"}).code == 2
    assert there.lines("state") == ["ACTIVE"]
    assert there.run("tpu.sh", "run", "train", settings=SETTINGS | {"KEEP": "1"}).code == 0
    assert len(there.calls("queued-resources create")) == 1
    assert there.run("tpu.sh", "delete").code == 0
    assert there.run("tpu.sh", "delete").code == 0  # nothing there
    assert len(there.calls("queued-resources delete")) == 1


def wait_for(what, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def test_a_run_outlives_its_script_is_found_again_and_stops_when_told(cloud):
    there = cloud("waits waits\n")
    first = there.start("tpu.sh", "run", "train")
    wait_for(lambda: all((there.folder / host / "pid").exists() for host in ("host0", "host1")), first)
    first.terminate()
    first.communicate(timeout=60)
    looks = len(there.calls("ExecMainStatus"))
    second = there.start("tpu.sh", "run", "train")
    wait_for(lambda: len(there.calls("ExecMainStatus")) > looks + 2, second)
    assert there.run("tpu.sh", "stop").code == 0
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 130, said
    assert "a run is under way on run1" in said
    assert len(there.lines("starts_host0")) == 1
    assert not (there.folder / "state").exists()


def test_a_request_that_fails_ends_it(cloud):
    there = cloud("0 0\n", granted="FAILED")
    done = there.run("tpu.sh", "run", "train")
    assert done.code == 1
    assert "the request failed" in done.said


def test_an_installation_that_fails_ends_it(cloud, tmp_path):
    there = cloud("0 0\n")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "uv").write_text("#!/bin/sh\nexit 1\n")
    (broken / "uv").chmod(0o755)
    path = f"{broken}:{FAKES}:{os.environ['PATH']}"
    done = there.run("tpu.sh", "run", "train", settings=SETTINGS | {"PATH": path})
    assert done.code == 1
    assert "could not install and start on run1, which is there and costs" in done.said


@pytest.mark.parametrize(
    ("script", "arguments", "settings", "message"),
    [
        ("tpu.sh", ["run", "train"], {"NAME": ""}, "set NAME"),
        ("tpu.sh", ["run", "train"], {"ZONE": ""}, "set ZONE"),
        ("tpu.sh", ["run", "train"], {"SERVICE_ACCOUNT": ""}, "set SERVICE_ACCOUNT"),
        ("tpu.sh", ["run", "train"], {"TYPE": "v9-8"}, "TYPE=v9-8 is none of"),
        ("tpu.sh", ["run"], {}, "run what?"),
        ("tpu.sh", [], {}, "say run COMMAND..., log, stop or delete"),
        ("project.sh", [], {"PROJECT": "p", "REGION": "r"}, "set BUCKET"),
        ("install.sh", [], {}, "name the extras"),
        ("slurm.sh", [], {"SLURM_JOB_ID": "7"}, "run what?"),
        ("slurm.sh", ["train"], {}, "start it with sbatch"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_requested(cloud, script, arguments, settings, message):
    there = cloud()
    done = there.run(script, *arguments, settings=SETTINGS | settings)
    assert done.code == 2
    assert message in done.said
    assert there.calls(" create ") == there.calls("srun") == []


def test_the_machines_get_roles_on_one_bucket_alone(cloud):
    there = cloud()
    done = there.run("project.sh", settings={"PROJECT": "p", "REGION": "us-west4", "BUCKET": "b"})
    assert (done.code, done.said) == (0, "SERVICE_ACCOUNT=p10k-jax@p.iam.gserviceaccount.com\n")
    granted = there.calls("--role=")
    assert all("buckets add-iam-policy-binding gs://b" in line for line in granted)
    roles = [re.search(r"--role=(\S+)", line)[1] for line in granted]
    assert roles == ["roles/storage.objectUser", "roles/storage.legacyBucketReader"]
    assert all(role in PAGE.read_text() for role in roles)


def said_to_gcloud(there: Cloud) -> list[str]:
    """What the scripts say to gcloud, and the page, whose variables stand for anything."""
    (there.folder / "plan").write_text("0 0\n" * 4)
    for type_name in ("v4-8", "v5litepod-16", "v5p-8", "v6e-8"):
        assert there.run("tpu.sh", "run", "train", settings=SETTINGS | {"TYPE": type_name, "SPOT": "1"}).code == 0
    there.run("tpu.sh", "stop")
    there.run("tpu.sh", "log")
    there.run("project.sh", settings={"PROJECT": "p", "REGION": "us-west4", "BUCKET": "b"})
    found = set(there.lines("calls"))
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("gcloud "):
                found.add(
                    shlex.join(
                        shlex.split(re.sub(r"\$(\w+)", lambda name: SETTINGS.get(name[1], "x"), line), comments=True)
                    )
                )
    return sorted(found)


def test_gcloud_knows_what_is_said_to_it(cloud, tmp_path):
    found = said_to_gcloud(cloud())
    assert len(found) > 15
    words = [word for line in found for word in shlex.split(line) if word.startswith("--")]
    assert {word.removeprefix("--").partition("=")[0] for word in words} <= GCLOUD_FLAGS
    if shutil.which("gcloud") is None:
        pytest.skip("flags are those of the list; no gcloud on this machine to ask about the rest")
    asked = tmp_path / "commands.json"
    asked.write_text(json.dumps([{"command_string": line} for line in found]))
    said = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={asked}"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    verdicts = json.loads(said.stdout)
    assert len(verdicts) == len(found)
    assert [(one["command_string"], one["error_message"]) for one in verdicts if not one["success"]] == []


class TestSlurm:
    """slurm.sh in a job with two processes."""

    def run(self, there: Cloud, state: str = "RUNNING", **settings: str) -> Done:
        (there.folder / "state").write_text(state + "\n")
        return there.run(
            "slurm.sh", "train", "--a=1 2", settings={"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"} | settings
        )

    @pytest.mark.parametrize("ends", ["75 75", "0 75"])
    def test_75_is_queued_again(self, cloud, ends):
        there = cloud(ends)
        assert self.run(there).code == 75
        assert there.calls("srun") == ["srun --cpus-per-task=8 --kill-on-bad-exit=0 train --a=1 2"]
        assert there.calls("scontrol") == ["scontrol requeue 7"]

    @pytest.mark.parametrize(("ends", "code"), [("0 0", 0), ("2 2", 2), ("1 1", 1), ("137 75", 137)])
    def test_others_are_not(self, cloud, ends, code):
        there = cloud(ends)
        assert self.run(there).code == code
        assert there.calls("scontrol") == []

    def test_a_cancelled_job_is_not(self, cloud):
        there = cloud("75 75")
        assert self.run(there, state="COMPLETING").code == 75
        assert there.calls("scontrol") == []

    def test_nor_one_that_was_often_enough(self, cloud):
        there = cloud("75 75")
        done = self.run(there, SLURM_RESTART_COUNT="3", MOST_RESTARTS="3")
        assert done.code == 75
        assert "started again 3 times, no more" in done.said
        assert there.calls("scontrol") == []
