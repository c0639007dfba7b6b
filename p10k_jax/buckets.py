"""Folders in buckets of Google Cloud Storage, as local copies that are kept equal to them.

`gs://BUCKET/PATH` is copied into a folder of the user's own when a program starts, and what has changed there is sent
back while the program runs. Beside the copy lies a record of what the bucket was last seen to hold: a file that a kill
kept from the bucket is sent by the next start, and one that another machine has replaced is taken from the bucket.
`checkpoints/` is left out: Orbax writes and reads it in the bucket itself.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from p10k_jax.files import whole_file, write_json
from tfds_builder.locking import locked

SCHEME = "gs://"
CHECKPOINTS = "checkpoints"
_NEEDED = ("google.cloud.storage", "gcsfs")  # the second is what Orbax reaches a bucket through
_RECORD, _PROBE = ".bucket", ".writable"


class BucketError(OSError):
    """A bucket cannot be used, or not now; the message says which, why, and what to do."""


class Patience(NamedTuple):
    """How long a bucket is waited for, in seconds.

    Attributes:
        answer: For the next piece of an answer.
        file: For one file with all tries. They come after pauses that grow from `pause`, as Cloud Storage asks for.
        pause: Before the second try.
        save: For files before a checkpoint is saved; after that the run goes on, and they follow in the background.
        end: For all that is left when the program ends.
    """

    answer: float = 60.0
    file: float = 300.0
    pause: float = 1.0
    save: float = 60.0
    end: float = 900.0


PATIENCE = Patience()


class Stored(NamedTuple):
    """A file in a bucket: its size in bytes, its generation (a new one at each write), its CRC32C as in Base64."""

    size: int
    generation: int
    crc32c: str


def is_bucket(path: str) -> bool:
    """Whether the path is the address of a folder in a bucket."""
    return path.startswith(SCHEME)


def split_url(url: str) -> tuple[str, str]:
    """`gs://BUCKET/PATH` as bucket and path. Raises ValueError for anything else."""
    bucket, _, path = url.removeprefix(SCHEME).strip("/").partition("/")
    if not is_bucket(url) or not bucket or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{url} is no folder in a bucket; give {SCHEME}BUCKET/PATH.")
    return bucket, path


def cache_folder(url: str, *, kind: str) -> Path:
    """Where the copy of `gs://BUCKET/PATH` lies on this machine: under `XDG_CACHE_HOME`, else `~/.cache`.

    A folder that is within another in the bucket is beside it here.
    """
    bucket, path = split_url(url)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    digest = hashlib.sha256(f"{bucket}/{path}".encode()).hexdigest()[:8]
    return home / "p10k_jax" / kind / bucket / f"{Path(path).name[-100:]}-{digest}"


class Bucket:
    """A folder in a bucket: lists, reads, writes and removes files, with tries and time-outs.

    Args:
        url: `gs://BUCKET/PATH`.
        patience: See there.

    Raises:
        ValueError: no such address, or the packages of the extra `gcs` are not installed.
        BucketError: no credentials; and from every method: no such bucket, no permission, no answer in time.
    """

    def __init__(self, url: str, *, patience: Patience = PATIENCE):
        name, self._path = split_url(url)
        self.url, self.patience = f"{SCHEME}{name}/{self._path}", patience
        if missing := [package for package in _NEEDED if not _installed(package)]:
            raise ValueError(f"{url} needs {', '.join(missing)}: pip install -e .[gcs] (in the clone of p10k_jax).")
        from google.cloud import storage
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=patience.pause, maximum=30.0).with_timeout(patience.file)
        self._how = {"timeout": patience.answer, "retry": retry}
        with self._explained():
            self._client = storage.Client()
            self._bucket = self._client.bucket(name)

    def files(self, under: str = "") -> dict[str, Stored]:
        """What lies in the folder, or in one within it, by name relative to the folder.

        A name that is no path within a folder here is an error.
        """
        prefix = f"{self._path}/" + (f"{under}/" if under else "")
        with self._explained():
            found = {
                blob.name.removeprefix(f"{self._path}/"): Stored(blob.size, blob.generation, blob.crc32c)
                for blob in self._client.list_blobs(self._bucket, prefix=prefix, **self._how)
                if not blob.name.endswith("/")  # what consoles make for empty folders
            }
        for name in found:
            if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
                raise BucketError(f"{self.url} holds {name!r}, which is no name of a file; remove it there.")
        return found

    def read(self, name: str, path: Path) -> None:
        """Copies a file to `path`, whole and with the right CRC32C, or not at all."""
        with self._explained(), whole_file(path) as temporary:
            self._blob(name).download_to_filename(temporary, checksum="crc32c", **self._how)

    def write(self, path: Path, name: str) -> int:
        """Copies `path`, as long as it is now, to a file; returns its generation."""
        blob = self._blob(name)
        with self._explained(), path.open("rb") as file:
            blob.upload_from_file(file, size=os.fstat(file.fileno()).st_size, checksum="crc32c", **self._how)
        return blob.generation

    def remove(self, name: str) -> None:
        """Removes a file, which need not be there."""
        from google.api_core.exceptions import NotFound

        with self._explained(), contextlib.suppress(NotFound):
            self._blob(name).delete(**self._how)

    def check_there(self) -> None:
        """Raises BucketError where there is no such bucket, or nobody who may see it."""
        with self._explained():
            self._bucket.reload(**self._how)

    def check_writable(self) -> None:
        """Writes an empty file and removes it. Raises BucketError where either is refused."""
        with self._explained():
            self._blob(_PROBE).upload_from_string(b"", **self._how)
        self.remove(_PROBE)

    def _blob(self, name: str):
        return self._bucket.blob(f"{self._path}/{name}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from requests import RequestException

        try:
            yield
        except GoogleAuthError as error:
            raise BucketError(f"{self.url}: no credentials ({error}); gcloud auth application-default login") from error
        except (GoogleAPICallError, InvalidResponse, DataCorruption, RetryError, RequestException) as error:
            code = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
            raise BucketError(f"{self.url}: {_reason(code, error)}") from error


def _installed(package: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # of a parent
        return importlib.util.find_spec(package) is not None
    return False


def _reason(code: int | None, error: Exception) -> str:
    if code == 404:
        return "there is no such bucket; make it, or look at the name."
    if code in (401, 403):
        return f"no permission ({error}); docs/buckets.md lists what is needed."
    return f"no good answer in the time given ({type(error).__name__}: {error})."


class Folder(NamedTuple):
    """A folder of this machine, used as a `Copy` is; nothing is pushed."""

    folder: Path

    def push(self, seconds: float | None = None) -> bool:
        """Nothing is left to do."""
        return True

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Copy:
    """A folder in a bucket and its copy in `folder`, which is pulled here and pushed as it changes.

    Files that end in `.incomplete` are not pushed, and `checkpoints/` is neither pulled nor pushed. As a context, all
    is pushed at its end; where not all has arrived then, and nothing else is wrong, the program ends with code 1.

    Args:
        bucket: The folder in the bucket.
        folder: The copy. Beside it `<folder>.bucket` records what was last seen.
        pushes: False where another process does.
        say: Told of what does not reach the bucket.

    Raises:
        BucketError: it could not be pulled.
    """

    def __init__(self, bucket: Bucket, folder: Path, *, pushes: bool = True, say: Callable[[str], None] | None = None):
        self.bucket, self.folder, self._pushes = bucket, folder, pushes
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._problem = ""
        self._pushing: threading.Thread | None = None
        with self._locked() as seen:
            self._pull(seen)

    def push(self, seconds: float | None = None) -> bool:
        """Sends what has changed, in the background; waits for it, but not for ever. Returns whether all has arrived.

        Never raises: what went wrong is said, and the next push tries again.

        Args:
            seconds: Default: the patience before a save.
        """
        if not self._pushes:
            return True
        deadline = time.monotonic() + (self.bucket.patience.save if seconds is None else seconds)
        if not self._wait(deadline):  # what it takes with it is older
            return False
        self._problem = "the push did not come to its end"
        self._pushing = threading.Thread(target=self._push_changed, name="push to the bucket", daemon=True)
        self._pushing.start()
        return self._wait(deadline) and not self._problem

    def _wait(self, deadline: float) -> bool:
        """Whether the push that goes on, if any, has ended by then."""
        if self._pushing is not None:
            self._pushing.join(max(0.0, deadline - time.monotonic()))
        return self._pushing is None or not self._pushing.is_alive()

    def close(self) -> bool:
        """Waits for the push that goes on, and pushes the rest. Returns whether all has arrived, and says if not."""
        if self.push(self.bucket.patience.end):
            return True
        hangs = f"{self.bucket.url} has not taken them in {self.bucket.patience.end:.0f} s."
        why = hangs if self._pushing.is_alive() else self._problem
        self._say(
            f"NOT ALL FILES ARE IN THE BUCKET. {why}\nThey lie in {self.folder}; the same command again sends them."
        )
        return False

    def __enter__(self) -> "Copy":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if not self.close() and kind is None:
            sys.exit(1)

    def _push_changed(self) -> None:
        try:
            with self._locked() as seen:
                self._push(seen)
            self._problem = ""
        except OSError as error:
            self._problem = str(error)
            self._say(f"a file did not reach the bucket, and is tried again later: {error}")

    def _pull(self, seen: dict[str, list[int]]) -> None:
        everything = self.bucket.files()
        files = {name: stored for name, stored in everything.items() if not _left_out(name)}
        if not files and not seen and any(name.startswith(f"{CHECKPOINTS}/") for name in everything):
            raise BucketError(f"{self.bucket.url} holds {CHECKPOINTS}/ but no config.json; give an empty folder.")
        for name, stored in files.items():
            path = self.folder / name
            # The bucket has what it had when last seen: what lies here is that, or newer.
            if path.exists() and name in seen and seen[name][-1] == stored.generation:
                continue
            self.bucket.read(name, path)
            seen[name] = [*_stamp(path), stored.generation]
        for name in [name for name in seen if name not in files]:
            path = self.folder / name
            if path.exists() and _stamp(path) == seen[name][:-1]:
                path.unlink()
            del seen[name]

    def _push(self, seen: dict[str, list[int]]) -> None:
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            name = path.relative_to(self.folder).as_posix()
            if _left_out(name):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed or replaced just now
                stamp = _stamp(path)
                if name not in seen or stamp != seen[name][:-1]:
                    seen[name] = [*stamp, self.bucket.write(path, name)]
                    self._record(seen)  # after a kill, this is not taken for another machine's
        for name in [name for name in seen if not (self.folder / name).exists()]:
            self.bucket.remove(name)
            del seen[name]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, list[int]]]:
        """What was last seen, by name: size and time of change here, generation there. Kept however the block ends.

        For one process of this machine at a time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            seen = _read_record(self.folder).get("seen", {})
            try:
                yield seen
            finally:
                self._record(seen)

    def _record(self, seen: dict[str, list[int]]) -> None:
        write_json(_record_of(self.folder), {"url": self.bucket.url, "seen": seen})


def opened(path: str, *, setting: str, writes: bool) -> Copy | Folder:
    """A workdir as given by a user: a folder, or one in a bucket, which is pulled.

    Args:
        path: The folder; that of a copy stands for what it is the copy of.
        setting: Its name, for messages.
        writes: Whether this process pushes what changes; then the bucket must let it.

    Raises:
        ValueError: another kind of address, or what `Bucket` raises.
        BucketError: there is no such bucket, or it cannot be used.
    """
    path = path if "://" in path else url_of(Path(path).expanduser()) or path
    if not is_bucket(path):
        return Folder(local_folder(path, setting=setting))
    bucket = Bucket(path)
    bucket.check_there()
    if writes:
        bucket.check_writable()
    return Copy(bucket, cache_folder(path, kind="workdirs"), pushes=writes)


def local_folder(path: str, *, setting: str) -> Path:
    """A path that is a folder of this machine where a bucket's could be. Raises ValueError for another address."""
    if "://" in path:
        raise ValueError(f"{setting}={path} is no known address; give a folder, or {SCHEME}BUCKET/PATH.")
    return Path(path).expanduser()


def url_of(folder: Path) -> str | None:
    """The folder in a bucket that this one is the copy of; None where it is a folder of its own."""
    return _read_record(folder).get("url")


def limit_waiting(patience: Patience = PATIENCE) -> None:
    """From now on the clients that Orbax has of its own wait no longer than `patience.answer` for the next piece of an
    answer, and believe no old listing. What the environment sets stays.

    Raises:
        ModuleNotFoundError: without the extra `gcs`.
    """
    # More kinds of buckets than the plain ones, for permissions and warnings that the plain ones do not take.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    seconds = str(max(1, round(patience.answer)))
    os.environ.setdefault("TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS", seconds)
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", seconds)
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.answer, sock_read=patience.answer)
    given = fsspec.config.conf.get("gcs", {})
    fsspec.config.conf["gcs"] = {"requests_timeout": timeout, "use_listings_cache": False} | given


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _left_out(name: str) -> bool:
    return name.endswith(".incomplete") or name.split("/")[0] in (CHECKPOINTS, _PROBE)


def _record_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _RECORD)


def _read_record(folder: Path) -> dict[str, Any]:
    """The record beside a copy; {} where there is none."""
    try:
        return json.loads(_record_of(folder).read_text())
    except FileNotFoundError:
        return {}
