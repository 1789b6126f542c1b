"""A model hub on 127.0.0.1: the part of the hub's protocol that a download uses, and faults on demand.

As on the real hub, weights are large files: their `resolve` address redirects to another host, with the digest
and size of the file in the redirect's headers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LARGE_FILE_SUFFIXES = (".safetensors", ".bin", ".h5", ".msgpack")

_INFO_PATH = re.compile(r"/api/models/(?P<model>.+?)(/revision/[^/]+)?")
_RESOLVE_PATH = re.compile(r"/(?P<model>.+)/resolve/[^/]+/(?P<name>.+)")
_CONTENT_PATH = re.compile(r"/large-files/(?P<model>.+)//(?P<name>.+)")


class _Fault(NamedTuple):
    """What happens once `after_bytes` of a file's body are sent: wait for `gate`, then break off if `cut`."""

    after_bytes: int
    cut: bool
    reached: threading.Event
    gate: threading.Event


class LocalHub:
    """Serves folders as models; `with LocalHub({"owner/name": folder}) as hub` gives a running hub."""

    def __init__(self, models: Mapping[str, Path], *, port: int = 0) -> None:
        self.models = dict(models)
        self.gated: set[str] = set()
        self.sent: list[tuple[str, int]] = []
        """What was asked of the content of files: name, and the first byte wanted."""
        self.claimed_sizes: dict[str, int] = {}
        """File name → a size in bytes to announce instead of the true one; its content is then shorter or longer."""
        self.status: HTTPStatus | None = None
        """When set, the answer to every request, with `error_message` in its header."""
        self.error_message = ""
        self.faults: dict[str, _Fault] = {}
        self._gates: list[threading.Event] = []
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
        for gate in self._gates:
            gate.set()
        self._server.server_close()
        self._server = None

    def hold(self, name: str, *, after_bytes: int, cut: bool = False) -> tuple[threading.Event, threading.Event]:
        """Pause the file's next answer after so many bytes: (set once it pauses, set it to go on, or to `cut` it)."""
        fault = self.faults[name] = _Fault(after_bytes, cut, threading.Event(), threading.Event())
        self._gates.append(fault.gate)
        return fault.reached, fault.gate

    def __enter__(self) -> LocalHub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
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

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `LocalHub.sent` keeps the record."""

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        match = _INFO_PATH.fullmatch(path) or _CONTENT_PATH.fullmatch(path) or _RESOLVE_PATH.fullmatch(path)
        places = match.groupdict() if match else {}
        model, name = places.get("model", ""), places.get("name", "")
        is_redirect = name.endswith(LARGE_FILE_SUFFIXES) and not path.startswith("/large-files/")
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
            self._send_content(folder / name)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _refuse(self, status: HTTPStatus, error_code: str) -> None:
        headers = {"X-Error-Code": error_code, "X-Error-Message": self.server.hub.error_message}
        self._send_head(status, {**headers, "Content-Length": "0"})

    def _send_head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send_listing(self, model: str, folder: Path) -> None:
        sizes = {file.name: file.stat().st_size for file in folder.iterdir()} | self.server.hub.claimed_sizes
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        body = json.dumps({"id": model, "sha": _commit(folder), "siblings": siblings}).encode()
        self._send_head(HTTPStatus.OK, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_redirect(self, model: str, folder: Path, name: str) -> None:
        headers = {
            "Location": f"http://localhost:{self.server.server_port}/large-files/{model}//{name}",
            "X-Repo-Commit": _commit(folder),
            "X-Linked-Size": str(self.server.hub.claimed_sizes.get(name, (folder / name).stat().st_size)),
            "X-Linked-Etag": f'"{_digest(folder / name)}"',
            "Content-Length": "0",
        }
        self._send_head(HTTPStatus.FOUND, headers)

    def _send_content(self, file: Path) -> None:
        content = file.read_bytes()
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - first),
            "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}",
            "ETag": f'"{_digest(file)}"',
            "X-Repo-Commit": _commit(file.parent),
        }
        self._send_head(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK, headers)
        if self.command == "GET":
            self.server.hub.sent.append((file.name, first))
            self._send_body(content[first:], self.server.hub.faults.pop(file.name, None))

    def _send_body(self, content: bytes, fault: _Fault | None) -> None:
        if fault is not None:
            self.wfile.write(content[: fault.after_bytes])
            fault.reached.set()
            fault.gate.wait()
            if fault.cut:
                self.close_connection = True
                return
            content = content[fault.after_bytes :]
        self.wfile.write(content)


def _digest(file: Path) -> str:
    return _sha256(file, file.stat().st_mtime_ns)


@functools.cache
def _sha256(file: Path, changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _commit(folder: Path) -> str:
    digests = [_digest(file) for file in sorted(folder.iterdir()) if file.is_file()]
    return hashlib.sha1("".join(digests).encode(), usedforsecurity=False).hexdigest()
