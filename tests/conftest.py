"""Eight CPU devices for every test; set before JAX is imported, and inherited by child processes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# The programs are large and run once or twice: optimising their machine code takes longer than it saves.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import shutil
import tempfile

import pytest

# Tests compile the same small programs again and again: what one has compiled serves the session's other workers and
# child processes, which inherit this.
if "P10K_JAX_TESTS_COMPILED" not in os.environ:
    os.environ["P10K_JAX_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="p10k_jax-")
_COMPILED = os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["P10K_JAX_TESTS_COMPILED"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


def pytest_sessionfinish(session):
    """Removes what was compiled, when the last worker has ended."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(_COMPILED, ignore_errors=True)


@pytest.fixture(scope="session")
def bucket_server():
    """A server of Cloud Storage, one for all tests of a process, for clients keep its address; and its faults."""
    from tests.bucket_server import served

    with served() as (address, faults):
        yield address, faults


@pytest.fixture
def faults(bucket_server, monkeypatch, tmp_path):
    """What goes wrong in the bucket, which is empty and sound at first; the cache is this test's own."""
    import gc

    from p10k_jax.buckets import Bucket, Patience
    from tests.bucket_server import BUCKET

    address, faults = bucket_server
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    faults.__init__()
    for name in (everything := Bucket(f"gs://{BUCKET}/runs", patience=Patience(pause=0.02))).files():
        everything.remove(name)
    yield faults
    faults.__init__()
    gc.collect()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Folder with the smallest drawn catalogue, prepared."""
    from tfds_builder.prepare import prepare

    folder = tmp_path_factory.mktemp("tiny_data")
    prepare("drawn_catalogue", config="tiny", data_dir=folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def finished(tiny_data, tmp_path_factory):
    """Workdir and final state of an undisturbed run."""
    import jax

    from p10k_jax.reporting.progress import Console
    from p10k_jax.train import plan, train
    from tests.runs import tiny_config

    workdir = tmp_path_factory.mktemp("finished") / "workdir"
    state = train(plan(tiny_config(tiny_data, **{"log.trackers": ("tensorboard",)}), workdir), Console())
    return workdir, jax.device_get(state)
