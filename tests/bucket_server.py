"""Cloud Storage on this machine, as an emulator behind a proxy that spoils what it is told to."""

import contextlib
import http.client
import http.server
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from gcp_storage_emulator.server import create_server

BUCKET = "a-bucket"
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

    def _of_emulator(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.emulator_port)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _OF_ONE_CONNECTION}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        told = {key: value for key, value in answer.getheaders() if key.lower() not in _OF_ONE_CONNECTION}
        with contextlib.closing(connection):
            sound = answer.status, told, self.server.faults.edit(self.path, answer.read())
        # Whoever asks for the last part of an upload again is told the same by Cloud Storage; the emulator has no such
        # upload any more.
        upload = re.search(r"upload_id=[^&]+", self.path)
        if upload is None or sound[0] not in (200, 404):
            return sound
        return self.server.uploaded.setdefault(unquote(upload[0]), sound)

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
    uploaded: dict[str, tuple[int, dict[str, str], bytes]]

    def handle_error(self, request, client_address) -> None:
        """Says nothing: clients that go away are part of the tests."""


@contextlib.contextmanager
def served() -> Iterator[tuple[str, Faults]]:
    """An empty bucket: its server's address, and what goes wrong there."""
    emulator = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    with emulator, _Server(("127.0.0.1", 0), _Proxy) as proxy:
        proxy.faults, proxy.emulator_port, proxy.uploaded = Faults(), emulator._api._httpd.server_port, {}
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}", proxy.faults
        finally:
            proxy.shutdown()
            thread.join()
