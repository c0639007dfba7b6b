"""Folders in a bucket, against an emulator of Cloud Storage that fails as networks do."""

import threading
import time

import numpy as np
import pytest

from p10k_jax import buckets
from p10k_jax.buckets import Bucket, BucketError, Copy, Patience, cache_folder, is_bucket, opened, split_url, url_of
from tests.bucket_server import BUCKET

URL = f"gs://{BUCKET}/runs/w1"
# Google's library leaves the sockets of downloads that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
QUICK = Patience(answer=2.0, file=20.0, pause=0.02, save=20.0, end=20.0)


def copy_at(folder, *, url=URL, patience=QUICK):
    said = []
    copy = Copy(Bucket(url, patience=patience), folder, say=said.append)
    copy.said = said
    return copy


def filled(folder, *, seed=0):
    """A workdir's kinds of files: short, long, empty, in folders; and one half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}\n")
    (folder / "empty").write_bytes(b"")
    (folder / "eval" / "test").mkdir(parents=True)
    (folder / "eval" / "test" / "predictions.parquet").write_bytes(np.random.default_rng(seed).bytes(9_000_000))
    (folder / "metrics.jsonl").write_text('{"step": 1}\n' * 1000)
    (folder / "report.html.incomplete").write_text("half")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "left").write_text("alone")
    return folder


def contents(folder):
    """What is to be in the bucket too."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.endswith(".incomplete") and not name.startswith("checkpoints/")
    }


@pytest.mark.parametrize(
    "spoilt",
    [{}, {"errors": 0.3}, {"cuts": 0.3}, {"delay": 0.2}, {"errors": 0.25, "cuts": 0.25, "delay": 0.02}],
    ids=["sound", "errors", "cuts", "slow", "all"],
)
def test_files_arrive_intact_however_the_bucket_fails(faults, tmp_path, spoilt):
    vars(faults).update(spoilt)
    here = filled(tmp_path / "here")
    copy = copy_at(here)
    assert copy.push()
    assert copy.close()
    assert copy.said == []
    there = tmp_path / "there"
    copy_at(there)
    assert contents(there) == contents(here)
    assert set(Bucket(URL).files()) == set(contents(here))
    assert not list(there.rglob("*.incomplete"))
    assert (faults.counts["errors"] + faults.counts["cuts"] > 0) == (not {"errors", "cuts"}.isdisjoint(spoilt))


def test_only_what_changed_is_sent_and_what_went_goes(faults, tmp_path):
    here = filled(tmp_path / "here")
    copy = copy_at(here)
    assert copy.push()
    answers = faults.counts["answers"]
    assert copy.push()
    assert faults.counts["answers"] == answers
    with (here / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2}\n')
    (here / "empty").unlink()
    assert copy.push()
    assert faults.counts["answers"] == answers + 2
    there = tmp_path / "there"
    copy_at(there)
    assert contents(there) == contents(here)


def test_what_a_kill_kept_from_the_bucket_is_sent_by_the_next_start(faults, tmp_path):
    here = filled(tmp_path / "here")
    assert copy_at(here).push()
    (here / "metrics.jsonl").write_text("newer\n")
    (here / "report.html").write_text("new\n")
    copy = copy_at(here)  # as after a kill
    assert (here / "metrics.jsonl").read_text() == "newer\n"
    assert copy.close()
    copy_at(tmp_path / "there")
    assert contents(tmp_path / "there") == contents(here)


def test_what_another_machine_wrote_is_taken(faults, tmp_path):
    one, other = filled(tmp_path / "one"), tmp_path / "other"
    assert copy_at(one).push()
    there = copy_at(other)
    (other / "metrics.jsonl").write_text("of the other\n")
    (other / "empty").unlink()
    assert there.close()
    (one / "metrics.jsonl").write_text("not sent before the machine was lost\n")
    copy_at(one)
    assert contents(one) == contents(other)


def test_a_bucket_that_hangs_is_not_waited_for_for_ever(faults, tmp_path):
    here = filled(tmp_path / "here")
    copy = copy_at(here, patience=Patience(answer=0.3, file=1.0, pause=0.02, save=0.5, end=2.0))
    faults.delay = 1.0
    started = time.monotonic()
    assert not copy.push()
    assert time.monotonic() - started < 1.0
    assert not copy.close()
    assert time.monotonic() - started < 5.0
    assert "NOT ALL FILES ARE IN THE BUCKET" in copy.said[-1]
    assert str(here) in copy.said[-1]
    faults.delay = 0.0
    wait_for_threads()
    assert copy_at(here).close()
    copy_at(tmp_path / "there")
    assert contents(tmp_path / "there") == contents(here)


def wait_for_threads():
    """Until no push goes on in the background, as when its process has ended."""
    deadline = time.monotonic() + 20
    while any(thread.name == "push to the bucket" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_push_after_one_that_still_goes_on_takes_what_is_newer(faults, tmp_path):
    here = filled(tmp_path / "here")
    copy = copy_at(here)
    faults.delay = 0.3
    assert not copy.push(0.0)
    (here / "metrics.jsonl").write_text("newer\n")
    assert copy.push()
    Bucket(URL).read("metrics.jsonl", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "newer\n"


def test_a_bucket_that_fails_for_a_while_gets_all_in_the_end(faults, tmp_path):
    here = filled(tmp_path / "here")
    copy = copy_at(here)
    faults.refuse = lambda method, path: 403 if method in ("POST", "PUT") else 0
    assert not copy.push()
    assert "a file did not reach the bucket" in copy.said[0]
    assert "no permission" in copy.said[0]
    faults.refuse = lambda method, path: 0
    assert copy.close()
    copy_at(tmp_path / "there")
    assert contents(tmp_path / "there") == contents(here)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (("POST", 403), r"gs://a-bucket/runs/w1: no permission .*docs/buckets\.md"),
        (("DELETE", 403), r"gs://a-bucket/runs/w1: no permission"),
        (("GET", 403), r"gs://a-bucket/runs/w1: no permission"),
        (("GET", 500), r"gs://a-bucket/runs/w1: no good answer in the time given"),
    ],
)
def test_no_permission_is_told(faults, tmp_path, refused, message):
    method, status = refused
    faults.refuse = lambda asked, path: status if asked == method else 0
    bucket = Bucket(URL, patience=QUICK._replace(file=0.5))
    with pytest.raises(BucketError, match=message):
        bucket.check_writable() if method != "GET" else Copy(bucket, tmp_path / "here")


def test_a_missing_bucket_is_told(faults, tmp_path):
    for use in (lambda bucket: Copy(bucket, tmp_path / "here"), Bucket.check_writable):
        with pytest.raises(BucketError, match="gs://no-bucket/w: there is no such bucket"):
            use(Bucket("gs://no-bucket/w", patience=QUICK))


def test_without_the_extra_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(buckets, "_NEEDED", ("google.cloud.storage", "no_such.package"))
    with pytest.raises(ValueError, match=r"needs no_such\.package: pip install -e \.\[gcs\]"):
        Bucket(URL)


def test_writability_is_tried_and_leaves_nothing(faults):
    Bucket(URL, patience=QUICK).check_writable()
    assert Bucket(URL).files() == {}


@pytest.mark.parametrize("name", ["../out", "a/../../out", "a//b", r"a\\\\b", "/etc/passwd"])
def test_names_cannot_lead_outside(faults, tmp_path, name):
    (tmp_path / "file").write_bytes(b"evil")
    Bucket(URL, patience=QUICK).write(tmp_path / "file", "innocent")
    faults.edit = lambda path, body: body.replace(b"innocent", name.encode())
    with pytest.raises(BucketError, match="which is no name of a file"):
        copy_at(tmp_path / "a" / "here")
    assert contents(tmp_path).keys() == {"file", "a/here.bucket"}


def test_a_file_spoilt_on_its_way_is_refused(faults, tmp_path):
    bucket = Bucket(URL, patience=QUICK)
    (tmp_path / "file").write_bytes(b"sound")
    bucket.write(tmp_path / "file", "file")
    faults.edit = lambda path, body: body.replace(b"sound", b"spoit")
    with pytest.raises(BucketError, match="no good answer"):
        bucket.read("file", tmp_path / "other")
    assert contents(tmp_path) == {"file": b"sound"}


@pytest.mark.parametrize(
    "url", ["gs://", "gs://bucket", "gs://bucket/", "gs://bucket/a//b", "gs://bucket/../b", "s3://b/a"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match=r"is no folder in a bucket; give gs://BUCKET/PATH"):
        split_url(url)


def test_copies_of_folders_within_each_other_lie_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    outer, inner, same = (cache_folder(url, kind="runs") for url in ("gs://b/a", "gs://b/a/c", "gs://b/a/"))
    assert outer not in inner.parents
    assert outer == same != inner
    assert is_bucket("gs://b/a")
    assert not is_bucket("b/gs:/a")


def test_a_workdir_is_a_folder_or_one_in_a_bucket(faults, tmp_path):
    with opened(str(tmp_path / "w"), setting="workdir", writes=True) as plain:
        assert plain.folder == tmp_path / "w"
        assert plain.push()
    with pytest.raises(ValueError, match=r"workdir=s3://b/w is no known address"):
        opened("s3://b/w", setting="workdir", writes=True)
    with opened(URL, setting="workdir", writes=True) as copy:
        (copy.folder / "config.json").write_text("{}")
    assert set(Bucket(URL).files()) == {"config.json"}
    assert url_of(copy.folder) == URL
    assert url_of(tmp_path) is None
    reader = opened(str(copy.folder), setting="workdir", writes=False)  # the copy's path stands for the bucket
    (reader.folder / "config.json").unlink()
    assert reader.close()
    assert set(Bucket(URL).files()) == {"config.json"}


def test_checkpoints_without_a_run_are_refused(faults, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    Bucket(URL).write(tmp_path / "file", "checkpoints/3/commit_success.txt")
    with pytest.raises(BucketError, match=r"holds checkpoints/ but no config\.json"):
        opened(URL, setting="workdir", writes=True)


def test_what_does_not_arrive_ends_the_program_with_1(faults, capsys):
    copy = opened(URL, setting="workdir", writes=True)
    (copy.folder / "config.json").write_text("{}")
    faults.refuse = lambda method, path: 403 if method == "POST" else 0
    with pytest.raises(SystemExit, match="1"), copy:
        pass
    assert "NOT ALL FILES ARE IN THE BUCKET" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), copy:  # what went wrong before counts more
        raise ZeroDivisionError
