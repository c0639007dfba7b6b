"""Checkpoints of a workdir that is the copy of a folder in a bucket: Orbax writes and reads them there."""

import os

import fsspec
import numpy as np
import pytest

from p10k_jax.buckets import Bucket, Copy, Patience, cache_folder, limit_waiting
from p10k_jax.training.checkpoint import Best, Checkpoints, has_checkpoint, restore_latest
from p10k_jax.training.mesh import make_mesh
from tests.bucket_server import BUCKET
from tests.p10k_jax.training.test_checkpoint import abstract, save_all

URL = f"gs://{BUCKET}/runs/w1"
# Orbax's clients leave connections that broke, and their tasks, to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def folder(faults):
    """The folder of checkpoints of an empty workdir in the bucket."""
    return Copy(Bucket(URL, patience=Patience(pause=0.02)), cache_folder(URL, kind="runs")).folder / "checkpoints"


@pytest.mark.parametrize("spoilt", [{}, {"errors": 0.01, "cuts": 0.01, "delay": 0.005}], ids=["sound", "spoilt"])
def test_saved_and_restored_however_the_bucket_fails(folder, faults, spoilt):
    assert not has_checkpoint(folder)
    vars(faults).update(spoilt)
    save_all(folder, {1: 0.7, 2: None})
    assert has_checkpoint(folder)
    assert not folder.exists()
    checkpoints = Checkpoints(folder, metric="top1", read_only=True)
    assert checkpoints.steps() == [1, 2]
    assert checkpoints.best() == Best(0.7, 1)
    state = checkpoints.restore(1, abstract(make_mesh(data=2, fsdp=4)))
    np.testing.assert_array_equal(state["params"]["kernel"], np.full((256, 64), 1.0))
    assert checkpoints.restore_on_host(2, {"step": abstract(make_mesh())["step"]}) == {"step": 2}
    assert (faults.counts["errors"] + faults.counts["cuts"] > 0) == bool(spoilt)


def test_a_half_written_checkpoint_is_none_and_is_cleared(folder, faults):
    save_all(folder, {1: 0.6, 2: 0.5})
    bucket = Bucket(URL)
    bucket.remove("checkpoints/2/commit_success.txt")
    assert Checkpoints(folder, metric="top1", read_only=True).steps() == [1]
    bucket.remove("checkpoints/1/commit_success.txt")
    assert not has_checkpoint(folder)
    assert Checkpoints(folder, metric="top1", read_only=True).steps() == []
    save_all(folder, {1: 0.5})
    assert {name.split("/")[1] for name in bucket.files("checkpoints")} == {"1"}
    assert has_checkpoint(folder)


def test_a_damaged_checkpoint_is_set_aside_there(folder):
    save_all(folder, {1: 0.6, 2: 0.5})
    bucket, said = Bucket(URL), []
    bucket.remove("checkpoints/2/default/manifest.ocdbt")
    state, step = restore_latest(folder, abstract(make_mesh()), metric="top1", say=said.append)
    assert (step, int(state["step"])) == (1, 1)
    assert f"It now lies in {URL}/checkpoints/unreadable-2; the run goes on from step 1" in said[0]
    assert {name.split("/")[1] for name in bucket.files("checkpoints")} == {"1", "unreadable-2"}
    assert Checkpoints(folder, metric="top1", read_only=True).steps() == [1]


def test_clients_of_orbax_do_not_wait_for_ever(monkeypatch):
    monkeypatch.setenv("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", "7")
    monkeypatch.delenv("TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS", raising=False)
    monkeypatch.setattr(fsspec.config, "conf", {})
    limit_waiting(Patience(answer=3.0))
    assert os.environ["TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS"] == "3"
    assert fsspec.config.conf["gcs"]["requests_timeout"].sock_read == 3.0
    assert os.environ["TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS"] == "7"
