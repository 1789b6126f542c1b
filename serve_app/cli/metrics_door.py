"""Where Prometheus finds this machine's service: at an address that stays, before Ray's exporter, which has neither.

Ray 2.60 exports at a port that it chooses anew at each start, and where it keeps to the loopback address, so does that.
"""

from __future__ import annotations

import errno
import http.client
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from deployments.errors import SettingsError
from serve_app.cli.config import LAST_PORT

PATH = "/metrics"

VARIABLE = "IMAGE_ANALYZER_METRICS"
"""Names the address where the command line does not."""

SEARCHED_PORTS = 100
"""How many are tried before the system chooses: every service of a machine has a door."""

PATIENCE_S = 10
"""As long as Prometheus waits for a scrape."""

HANDED_ON = ("Accept", "Accept-Encoding")
HANDED_BACK = ("Content-Type", "Content-Encoding")


class Address(NamedTuple):
    """A host of this machine, and the port from which on a free one is looked for."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


DEFAULT = Address("127.0.0.1", 9464)
"""This machine alone: the metrics ask nobody who they are."""


def chosen_address(named: str | None, environment: Mapping[str, str]) -> Address:
    """Read `HOST:PORT`, `:PORT` or `PORT`: what is named, else what the environment names, else the default.

    Raises:
        SettingsError: it is none of these.
    """
    text = named or environment.get(VARIABLE) or str(DEFAULT)
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= LAST_PORT):
        raise SettingsError(f"{text!r} is no address for metrics: set --metrics or {VARIABLE} to one like {DEFAULT}.")
    return Address(host.strip("[]") or DEFAULT.host, int(port))


class MetricsDoor:
    """Listens at the first free port from an address's on, from the start; `close` ends it.

    Raises:
        OSError: this machine has no such host, or this user may not listen at this port.
    """

    def __init__(self, address: Address) -> None:
        self._wanted = address
        self._server = _first_free(address)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def lead_to(self, exporter: str) -> str:
        """Hand on what the exporter at this URL tells; gives where, for a person to read."""
        self._server.exporter = exporter
        at = Address(self._wanted.host, self._server.server_address[1])
        return f"http://{at}{PATH}" + (f" ({self._wanted.port} is taken)" if at != self._wanted else "")

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    exporter = ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a scraper that left."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _first_free(address: Address) -> _Server:
    kind = _Server6 if ":" in address.host else _Server
    for port in range(address.port, min(address.port + SEARCHED_PORTS, LAST_PORT)):
        try:
            return kind((address.host, port), _Page)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return kind((address.host, 0), _Page)


class _Page(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with what the exporter tells."""
        if self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"Metrics are at {PATH}.\n".encode(), {})
        elif not self.server.exporter:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"The service starts.\n", {})
        else:
            try:
                self._answer(*self._asked(urlsplit(self.server.exporter)))
            except (OSError, http.client.HTTPException) as error:
                self._answer(HTTPStatus.BAD_GATEWAY, f"Ray's exporter does not answer: {error}.\n".encode(), {})

    def _asked(self, exporter: Any) -> tuple[HTTPStatus, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(exporter.hostname, exporter.port, timeout=PATIENCE_S)
        try:
            headers = {name: self.headers[name] for name in HANDED_ON if self.headers[name]}
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            back = {name: value for name in HANDED_BACK if (value := answer.headers[name])}
            return HTTPStatus(answer.status), answer.read(), back
        finally:
            connection.close()

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "text/plain", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Leave no line of a scrape."""
