"""The kept corpus goes through every target without Atheris, and the harness finds what it is there to find."""

import json
import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.check import Finding, Target, check
from tests.fuzz.folders import pack, unpack
from tests.fuzz.targets import MODULES, load

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", MODULES)
def test_the_kept_corpus_finds_nothing(name):
    inputs = sorted((CORPUS / name).iterdir())
    outcomes = {path.name: check(load(name), path.read_bytes()) for path in inputs}
    assert "read" in outcomes.values()
    # Text has nothing that could be refused.
    assert (len(set(outcomes.values())) > 1) == (name not in ("page", "terminal")), outcomes


def test_the_corpus_is_small_and_belongs_to_targets():
    folders = sorted(path.name for path in CORPUS.iterdir())
    assert folders == sorted(MODULES)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 150_000


def test_files_survive_packing():
    files = {"a/b.csv": b"name\n1", "é.zip": b"PK\0\n==\n", "\udcff": b""}
    assert unpack(pack(files)) == files


def tried(run):
    return check(Target(run, (ValueError,)), b"input")


def test_an_input_is_read_or_refused():
    def refuses(data, folder):
        raise ValueError(f"{data!r} is none")

    assert tried(lambda data, folder: (folder / "x").write_bytes(data)) == "read"
    assert tried(refuses) == "ValueError"


def raise_(error):
    raise error


def through_a_link(data, folder):
    (folder / "link").symlink_to("/etc")
    (folder / "link" / "x").write_bytes(data)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda data, folder: {}["x"], "KeyError"),
        (lambda data, folder: raise_(ValueError()), "message of 0 characters"),
        (lambda data, folder: raise_(ValueError("x" * 10**6)), "message of 1,000,000 characters"),
        (lambda data, folder: b"\xff".decode(), "UnicodeDecodeError"),
        (lambda data, folder: (folder.parent / "x").write_bytes(data), "open reads or changes"),
        (lambda data, folder: (folder / "../x").mkdir(), r"os\.mkdir reads or changes"),
        (through_a_link, "open reads or changes '/etc/x'"),
        (lambda data, folder: (folder / ".." / "beside").read_bytes(), "open reads or changes"),
        (lambda data, folder: pickle.loads(pickle.dumps(json.JSONDecoder)), r"pickle\.find_class"),
        (lambda data, folder: os.system("true"), r"os\.system"),
        (lambda data, folder: socket.create_connection(("127.0.0.1", 1)), "socket"),
        (lambda data, folder: sum(range(3 * 10**8)), "s of CPU time"),
        (lambda data, folder: np.ones(200 << 20, np.uint8), "bytes of memory"),
    ],
)
def test_everything_else_is_found(run, message, monkeypatch):
    monkeypatch.setattr("tests.fuzz.check.CPU_SECONDS", 2.0)
    monkeypatch.setattr("tests.fuzz.check.MEMORY_BYTES", 100 << 20)
    with pytest.raises(Finding, match=message):
        tried(run)
