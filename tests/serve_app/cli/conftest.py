"""A config on a free port, and the health answers that a service could give."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serve_app.cli.config import ServiceConfig, read_config
from serve_app.schemas import ComponentHealth, HealthAnswer
from tests.support.ports import free_port


def write_config(folder: Path, *, port: int, args: str = "{}", prefix: str = "/") -> Path:
    path = folder / "serve_config.yaml"
    path.write_text(
        f"http_options: {{host: 127.0.0.1, port: {port}}}\n"
        "applications:\n"
        f"  - {{name: a, route_prefix: {prefix}, import_path: 'serve_app.app:build', args: {args}}}\n"
    )
    return path


@pytest.fixture
def config(tmp_path: Path) -> ServiceConfig:
    return read_config(write_config(tmp_path, port=free_port()), {})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


READY_CLIP = ComponentHealth(
    status="ready",
    active="clip",
    facts={"model": "openai/clip", "device": "cpu", "precision": "bfloat16", "waiting": 3},
)
DOWNLOADING = ComponentHealth(
    status="fallback",
    active="pixels",
    reason="The weights are being downloaded: 10 % so far.",
    remedy="CLIP takes over by itself.",
    facts={"waiting": 0},
)
NOT_YET = ComponentHealth(status="unavailable", active="none", reason="It did not answer within 3 s.")
NO_OLLAMA = ComponentHealth(
    status="fallback",
    active="template",
    reason="Ollama does not answer.",
    remedy="Start it: ollama serve",
    facts={"model": "mistral:latest"},
)


def health_answer(analyzer: ComponentHealth = READY_CLIP, writer: ComponentHealth = NO_OLLAMA) -> HealthAnswer:
    return HealthAnswer(
        status="degraded",
        analyzer_initialized=analyzer.status != "unavailable",
        key_required=False,
        components={"analyzer": analyzer, "writer": writer},
    )


@contextmanager
def answering(config: ServiceConfig, body: bytes) -> Iterator[None]:
    """Answer every GET at the config's address with this."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((config.host, config.port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
