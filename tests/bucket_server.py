"""Cloud Storage on this machine, as an emulator behind a proxy that spoils what it is told to."""

import contextlib
import http.client
import http.server
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from gcp_storage_emulator.server import create_server

BUCKET = "a-bucket"
Answer = tuple[int, dict[str, str], bytes]  # status, headers, body
logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it takes a question after a file for an error
# What a client would rather not pass on, and what the proxy sets itself.
_OF_ONE_CONNECTION = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass
class Faults:
    """What goes wrong, at once for what comes next.

    Attributes:
        errors: Share of requests that are answered with 500.
        cuts: Share of requests whose connection ends: before they are read, before the answer, or in its middle.
        delay: Seconds before each answer.
        refuse: (method, path with query) to a status instead of an answer, or 0.
        edit: (path with query, body of a sound answer) to the body that is sent.
        chance: What chooses.
        counts: How often it was done, by kind.
    """

    errors: float = 0.0
    cuts: float = 0.0
    delay: float = 0.0
    refuse: Callable[[str, str], int] = lambda method, path: 0
    edit: Callable[[str, bytes], bytes] = lambda path, body: body
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    counts: dict[str, int] = field(default_factory=lambda: {"answers": 0, "errors": 0, "cuts": 0, "refused": 0})


def _passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {key: value for key, value in headers if key.lower() not in _OF_ONE_CONNECTION}


class _Proxy(http.server.BaseHTTPRequestHandler):
    server: "_Server"

    def _pass_on(self) -> None:
        faults = self.server.faults
        cut = faults.chance.choice(("request", "answer", "middle")) if faults.chance.random() < faults.cuts else ""
        if cut:
            faults.counts["cuts"] += 1
        if cut == "request":
            self.close_connection = True
            return
        body = self._body()
        time.sleep(faults.delay)
        if status := faults.refuse(self.command, self.path):
            faults.counts["refused"] += 1
            self._answer(status, {"Content-Type": "application/json"}, b'{"error": {"message": "refused"}}')
        elif faults.chance.random() < faults.errors:
            faults.counts["errors"] += 1
            self._answer(500, {"Content-Type": "application/json"}, b'{"error": {"message": "spoilt"}}')
        else:
            faults.counts["answers"] += 1
            self._answer(*self._of_emulator(body), cut=cut)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _of_emulator(self, body: bytes) -> Answer:
        """The emulator's answer, and what Cloud Storage has and it has not: generations that are asked for and told
        with what is read, an answer to the last part of an upload that comes again, and moves."""
        with self.server.turn:
            if move := re.fullmatch(r"(.*/b/([^/]+)/o/[^/]+)/moveTo/(o/[^/?]+)(\?.*)?", self.path):
                answer = self._forward("POST", f"{move[1]}/copyTo/b/{move[2]}/{move[3]}", body, dict(self.headers))
                if answer[0] == 200:
                    self._forward("DELETE", move[1], b"", {})
                return answer
            upload = re.search(r"upload_id=[^&]+", self.path)
            if upload and unquote(upload[0]) in self.server.uploaded:
                return self.server.uploaded[unquote(upload[0])]
            condition = re.search(r"ifGeneration(Not)?Match=(\d+)", self.path)
            reads = "alt=media" in self.path
            generation = self._generation() if condition or reads else 0
            if condition and (generation == int(condition[2])) == bool(condition[1]):
                return 304 if condition[1] else 412, {}, b""
            status, headers, answer = self._forward(self.command, self.path, body, dict(self.headers))
            if status == 200 and upload:
                self.server.uploaded[unquote(upload[0])] = status, headers, answer
            if reads and status < 300:
                headers["x-goog-generation"] = str(generation)
            return status, headers, self.server.faults.edit(self.path, answer)

    def _generation(self) -> int:
        """Of the file that is asked for; 0 where there is none."""
        bucket, name = re.search(r"/b/([^/?]+)/o(?:/([^?]+))?", self.path).groups()
        name = name or re.search(r"[?&]name=([^&]+)", self.path)[1]
        status, _, answer = self._forward("GET", f"/storage/v1/b/{bucket}/o/{name}", b"", {})
        return int(json.loads(answer)["generation"]) if status == 200 else 0

    def _forward(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.emulator_port)) as connection:
            connection.request(method, path, body, _passed_on(headers.items()))
            answer = connection.getresponse()
            return answer.status, _passed_on(answer.getheaders()), answer.read()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: str = "") -> None:
        if cut == "answer":
            return
        with contextlib.suppress(OSError):  # the client has gone
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_) -> None:
        """Says nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    faults: Faults
    emulator_port: int
    uploaded: dict[str, Answer]
    turn: threading.Lock

    def handle_error(self, request, client_address) -> None:
        """Says nothing: clients that go away are part of the tests."""


@contextlib.contextmanager
def served() -> Iterator[tuple[str, Faults]]:
    """An empty bucket: its server's address, and what goes wrong there."""
    emulator = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    with emulator, _Server(("127.0.0.1", 0), _Proxy) as proxy:
        proxy.faults, proxy.emulator_port = Faults(), emulator._api._httpd.server_port
        proxy.uploaded, proxy.turn = {}, threading.Lock()
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", proxy.faults
        finally:
            proxy.shutdown()
            thread.join()
