"""Weights from the Hugging Face hub: the real client against a small server that speaks the hub's protocol, and against
the cache that it leaves."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from p10k_jax.weights.files import read_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5], "input_size": [3, 384, 384]},
}
WEIGHTS = safetensors.numpy.save({"norm.weight": np.arange(4, dtype=np.float16)})
FILES = {
    "timm/whole": {"model.safetensors": WEIGHTS, "config.json": json.dumps(CONFIG).encode()},
    "timm/bare": {"model.safetensors": WEIGHTS},
    "timm/pickle": {"pytorch_model.bin": b"\x80\x04", "config.json": json.dumps(CONFIG).encode()},
}
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

# In a process of its own, for the client reads its environment once.
SCRIPT = """
import json, sys
from p10k_jax.weights.files import read_preprocessing, read_weights
for source in sys.argv[1:]:
    try:
        file = read_weights(source)
        assert read_preprocessing(source) == file.preprocessing
        values = {name: tensor.tolist() for name, tensor in file.tensors.items()}
        print(json.dumps({"description": file.description, "sha256": file.sha256, "values": values,
                          "preprocessing": file.preprocessing}))
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """`/{owner}/{name}/resolve/{revision}/{file}` as the hub answers; `asked` keeps the paths."""

    asked: list[str]

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body: bool):
        self.asked.append(self.path)
        owner, name, _, revision, file = self.path.strip("/").split("/")
        repository = f"{owner}/{name}"
        if repository == "timm/gated":
            return self._refuse(403, "GatedRepo")
        if repository not in FILES:
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", "v2", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if file not in FILES[repository]:
            return self._refuse(404, "EntryNotFound")
        data = FILES[repository][file]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)
        return None

    def _refuse(self, status: int, code: str):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


def read_elsewhere(home: Path, *sources: str, **environment: str) -> list[dict]:
    """What a new process makes of the sources."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    variables |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"} | environment
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sources], env=variables, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """The client's cache after some sources were read from the server, what they gave, and what was asked for."""
    home = tmp_path_factory.mktemp("hub")
    handler = type("Handler", (Hub,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sources = (
        "hf_hub:timm/whole",
        "hf-hub:timm/whole@v2",
        "hf_hub:timm/bare",
        "hf_hub:timm/pickle",
        "hf_hub:timm/gated",
        "hf_hub:timm/none",
        "hf_hub:timm/whole@v3",
        "hf_hub:not a name",
    )
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        answers = read_elsewhere(home, *sources, HF_ENDPOINT=endpoint)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return home, dict(zip(sources, answers, strict=True)), handler.asked


def test_weights_and_config_of_one_commit(online):
    _, answers, asked = online
    for source in ("hf_hub:timm/whole", "hf-hub:timm/whole@v2"):
        answer = answers[source]
        assert answer["values"] == {"norm.weight": [0, 1, 2, 3]}
        assert answer["sha256"] == SHA256
        assert answer["preprocessing"] == [[0.5, 0.5, 0.5], [0.25, 0.5, 0.5], 384]
        assert answer["description"] == f"{source} at {COMMIT} (vit_tiny_patch16_224); timm's names"
    assert answers["hf_hub:timm/bare"]["preprocessing"] is None
    # Nothing but the two files is ever asked for, and the second of the first's commit.
    assert {path.rpartition("/")[2] for path in asked} == {"model.safetensors", "config.json"}
    assert all(f"/{COMMIT}/" in path for path in asked if path.endswith("config.json"))


def test_what_the_hub_does_not_give(online):
    _, answers, _ = online
    assert "has no model.safetensors; other files could be pickles" in answers["hf_hub:timm/pickle"]["error"]
    gated = answers["hf_hub:timm/gated"]["error"]
    assert "is gated: accept its terms at https://huggingface.co/timm/gated, then log in" in gated
    assert "no such repository, or it is private" in answers["hf_hub:timm/none"]["error"]
    assert "has no revision v3" in answers["hf_hub:timm/whole@v3"]["error"]
    assert "hf_hub:not a name" in answers["hf_hub:not a name"]["error"]


def test_offline_the_cache_serves(online):
    home, _, _ = online
    blob = (home / "hub" / "models--timm--whole" / "snapshots" / COMMIT / "model.safetensors").resolve()
    sources = ("hf_hub:timm/whole", "hf_hub:timm/other")
    whole, other = read_elsewhere(home, *sources, HF_HUB_OFFLINE="1")
    assert whole["sha256"] == SHA256
    assert whole["preprocessing"] == [[0.5, 0.5, 0.5], [0.25, 0.5, 0.5], 384]
    assert "is not in the cache of this machine" in other["error"]
    assert "hf download timm/other model.safetensors config.json" in other["error"]
    # One bit of a value turned over: the file is whole as a file, but not the hub's.
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    (damaged,) = read_elsewhere(home, "hf_hub:timm/whole", HF_HUB_OFFLINE="1")
    assert "is damaged or cut short (sha256 " in damaged["error"]
    assert SHA256 in damaged["error"]


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs the package huggingface_hub: pip install p10k_jax\[hub\]"):
        read_weights("hf_hub:timm/whole")
