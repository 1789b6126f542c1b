"""A model hub on 127.0.0.1: the part of the hub's protocol that a download uses, and faults on demand.

As on the real hub, weights are large files: their `resolve` address redirects to another host, with the digest
and size of the file in the redirect's headers. Start one by hand with

    python -m tests.support.local_hub --port 8900 openai/clip-vit-base-patch32=/tmp/tiny-clip
    HF_ENDPOINT=http://127.0.0.1:8900 …
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_FILE_SUFFIXES = (".safetensors", ".bin", ".h5", ".msgpack")
BLOCK_BYTES = 1 << 16

_INFO_PATH = re.compile(r"/api/models/(?P<model>.+?)(/revision/[^/]+)?")
_RESOLVE_PATH = re.compile(r"/(?P<model>.+)/resolve/[^/]+/(?P<name>.+)")
_CONTENT_PATH = re.compile(r"/large-files/(?P<model>.+)//(?P<name>.+)")
_RANGE = re.compile(r"bytes=(?P<first>\d+)-")


@dataclass
class Request:
    """A request as the hub saw it; `name` is the file's, empty for a listing or a redirect.

    `sent_bytes` is counted after the client has them: it is final once the hub has stopped.
    """

    method: str
    path: str
    name: str
    range: str | None
    sent_bytes: int = 0


@dataclass
class _Fault:
    """What happens once `after_bytes` of a file's body are sent: wait for `gate`, then break off if `cut`."""

    after_bytes: int
    gate: threading.Event
    reached: threading.Event = field(default_factory=threading.Event)
    cut: bool = False


class LocalHub:
    """Serves folders as models; `with LocalHub({"owner/name": folder}) as hub` gives a running hub."""

    def __init__(self, models: Mapping[str, Path], *, port: int = 0, gated: frozenset[str] = frozenset()) -> None:
        self.models = dict(models)
        self.gated = gated
        self.requests: list[Request] = []
        self.claimed_sizes: dict[str, int] = {}
        """File name → a size in bytes to announce instead of the true one."""
        self.damaged: set[str] = set()
        """Names of files whose first byte is sent wrong, once each."""
        self.honours_ranges = True
        self.status: HTTPStatus | None = None
        """When set, the answer to every request, with `error_message` in its header."""
        self.error_message = ""
        self._faults: dict[str, list[_Fault]] = {}
        self._faults_begun: list[_Fault] = []
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to give as `endpoint` or `HF_ENDPOINT`; stays the same over `stop` and `start`."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; on the same port as before where it ran before."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and break every connection off, the waiting and the kept-alive ones too."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.break_connections()
        for fault in self._faults_begun:
            fault.gate.set()
        self._server.server_close()
        self._server = None

    def cut(self, name: str, *, after_bytes: int) -> None:
        """Break the connection off after so many bytes of the file's next answer."""
        gate = threading.Event()
        gate.set()
        self._faults.setdefault(name, []).append(_Fault(after_bytes, gate, cut=True))

    def hold(self, name: str, *, after_bytes: int) -> tuple[threading.Event, threading.Event]:
        """Pause the file's next answer after so many bytes: (set once it pauses, set it to go on)."""
        fault = _Fault(after_bytes, threading.Event())
        self._faults.setdefault(name, []).append(fault)
        return fault.reached, fault.gate

    def requests_for(self, name: str) -> list[Request]:
        """Requests for the content of a file, in the order they came."""
        return [request for request in self.requests if request.name == name]

    def begin_fault(self, name: str) -> _Fault | None:
        """Take the fault that awaits this file's next answer."""
        faults = self._faults.get(name)
        if not faults:
            return None
        self._faults_begun.append(faults[0])
        return faults.pop(0)

    def __enter__(self) -> LocalHub:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], hub: LocalHub) -> None:
        self.hub = hub
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that hang up are part of the tests."""

    def break_connections(self) -> None:
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; without this the second waits 40 ms for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `LocalHub.requests` keeps the record."""

    def _answer(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        match = _INFO_PATH.fullmatch(path) or _CONTENT_PATH.fullmatch(path) or _RESOLVE_PATH.fullmatch(path)
        places = match.groupdict() if match else {}
        model, name = places.get("model", ""), places.get("name", "")
        is_redirect = name.endswith(LARGE_FILE_SUFFIXES) and not path.startswith("/large-files/")
        request = Request(self.command, path, "" if is_redirect else name, self.headers.get("Range"))
        hub.requests.append(request)
        folder = hub.models.get(model)
        if hub.status is not None:
            self._refuse(hub.status, "")
        elif folder is None:
            self._refuse(HTTPStatus.NOT_FOUND, "RepoNotFound")
        elif model in hub.gated:
            self._refuse(HTTPStatus.FORBIDDEN, "GatedRepo")
        elif not name:
            self._send_listing(model, folder)
        elif not (folder / name).is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")
        elif is_redirect:
            self._send_redirect(model, folder, name)
        else:
            self._send_content(folder, request)

    def _refuse(self, status: HTTPStatus, error_code: str) -> None:
        self._send_head(
            status,
            {"X-Error-Code": error_code, "X-Error-Message": self.server.hub.error_message, "Content-Length": "0"},
        )

    def _send_head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send_listing(self, model: str, folder: Path) -> None:
        siblings = []
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            size = self.server.hub.claimed_sizes.get(file.name, file.stat().st_size)
            sibling: dict[str, Any] = {"rfilename": file.name, "size": size}
            if file.name.endswith(LARGE_FILE_SUFFIXES):
                sibling["lfs"] = {"size": size, "sha256": _digest(file), "pointerSize": 134}
            else:
                sibling["blobId"] = _digest(file)
            siblings.append(sibling)
        body = json.dumps({"id": model, "sha": _commit(folder), "siblings": siblings}).encode()
        self._send_head(HTTPStatus.OK, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_redirect(self, model: str, folder: Path, name: str) -> None:
        self._send_head(
            HTTPStatus.FOUND,
            {
                "Location": f"http://localhost:{self.server.server_port}/large-files/{model}//{name}",
                "X-Repo-Commit": _commit(folder),
                "X-Linked-Size": str((folder / name).stat().st_size),
                "X-Linked-Etag": f'"{_digest(folder / name)}"',
                "Content-Length": "0",
            },
        )

    def _send_content(self, folder: Path, request: Request) -> None:
        hub = self.server.hub
        content = bytearray((folder / request.name).read_bytes())
        whole_bytes = len(content)
        if request.name in hub.damaged and request.method == "GET":
            hub.damaged.remove(request.name)
            content[0] ^= 0xFF
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{_digest(folder / request.name)}"',
            "X-Repo-Commit": _commit(folder),
        }
        status = HTTPStatus.OK
        asked = _RANGE.fullmatch(request.range or "")
        if asked and hub.honours_ranges:
            first = int(asked["first"])
            if first >= whole_bytes:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "")
                return
            status = HTTPStatus.PARTIAL_CONTENT
            content = content[first:]
            headers["Content-Range"] = f"bytes {first}-{whole_bytes - 1}/{whole_bytes}"
        self._send_head(status, {**headers, "Content-Length": str(len(content))})
        if request.method == "GET":
            self._send_body(content, request)

    def _send_body(self, content: bytearray, request: Request) -> None:
        fault = self.server.hub.begin_fault(request.name)
        if fault is not None:
            self._send_blocks(content[: fault.after_bytes], request)
            fault.reached.set()
            fault.gate.wait()
            if fault.cut:
                self.close_connection = True
                return
        self._send_blocks(content[request.sent_bytes :], request)

    def _send_blocks(self, content: bytearray, request: Request) -> None:
        for start in range(0, len(content), BLOCK_BYTES):
            block = content[start : start + BLOCK_BYTES]
            self.wfile.write(block)
            request.sent_bytes += len(block)


def _digest(file: Path) -> str:
    """Give what the hub calls the file's ETag: SHA-256 of a large file, the git object's SHA-1 of a small one."""
    if file.name.endswith(LARGE_FILE_SUFFIXES):
        return _sha256(file, file.stat().st_mtime_ns)
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@functools.cache
def _sha256(file: Path, changed_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _commit(folder: Path) -> str:
    digests = [_digest(file) for file in sorted(folder.iterdir()) if file.is_file()]
    return hashlib.sha1("".join(digests).encode(), usedforsecurity=False).hexdigest()


def main() -> None:
    """Serve the named folders until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("models", nargs="+", metavar="owner/name=FOLDER")
    arguments = parser.parse_args()
    models = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in arguments.models)}
    with LocalHub(models, port=arguments.port) as hub, contextlib.suppress(KeyboardInterrupt):
        print(f"HF_ENDPOINT={hub.url}", flush=True)  # noqa: T201 - what a person starts it for
        threading.Event().wait()


if __name__ == "__main__":
    main()
