"""Where Prometheus asks: an address that stays, and what it is told there."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from deployments.errors import SettingsError
from serve_app.cli.metrics_door import DEFAULT, VARIABLE, Address, MetricsDoor, chosen_address
from tests.support.ports import free_port

TOLD = b"ray_image_analyzer_requests_total 1.0\n"


class Exporter(BaseHTTPRequestHandler):
    """Packs what it tells where that is accepted, as Ray's does."""

    def do_GET(self) -> None:
        packed = self.headers["Accept-Encoding"] == "gzip"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(gzip.compress(TOLD) if packed else TOLD)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


@pytest.fixture
def door() -> Iterator[MetricsDoor]:
    door = MetricsDoor(Address("127.0.0.1", free_port()))
    yield door
    door.close()


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_what_the_exporter_tells_is_handed_on(door: MetricsDoor, exporter: str, encoding: str) -> None:
    answer = httpx.get(door.lead_to(exporter), headers={"Accept-Encoding": encoding})
    assert (answer.status_code, answer.content) == (200, TOLD)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
    assert answer.headers.get("Content-Encoding", "identity") == encoding


def test_there_is_nothing_else(door: MetricsDoor, exporter: str) -> None:
    assert httpx.get(door.lead_to(exporter).replace("/metrics", "/")).status_code == 404


@pytest.mark.parametrize(("leads_to", "status"), [("", 503), (f"http://127.0.0.1:{free_port()}/metrics", 502)])
def test_no_exporter_is_an_error_for_the_scraper(door: MetricsDoor, leads_to: str, status: int) -> None:
    assert httpx.get(door.lead_to(leads_to)).status_code == status


def test_a_second_service_goes_on_to_the_next_port_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        door = MetricsDoor(Address("127.0.0.1", port))
        url, _, said = door.lead_to("").partition(" ")
        door.close()
    assert url != f"http://127.0.0.1:{port}/metrics"
    assert said == f"({port} is taken)"


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        MetricsDoor(Address("192.0.2.1", free_port()))


@pytest.mark.parametrize(
    ("named", "environment", "address"),
    [
        (None, {}, DEFAULT),
        (None, {VARIABLE: "10.0.0.1:9000"}, Address("10.0.0.1", 9000)),
        ("[::1]:9000", {VARIABLE: "10.0.0.1:9001"}, Address("::1", 9000)),
        (":9000", {}, Address("127.0.0.1", 9000)),
        ("9000", {}, Address("127.0.0.1", 9000)),
    ],
)
def test_the_command_line_wins_over_the_environment(
    named: str | None, environment: dict[str, str], address: Address
) -> None:
    assert chosen_address(named, environment) == address


@pytest.mark.parametrize("text", ["localhost", "a:b", "0", "1.2.3.4:70000", "x:²"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match=f"set --metrics or {VARIABLE}"):
        chosen_address(text, {})
