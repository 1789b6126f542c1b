"""Clients made by others' generators from the service's own document: they upload, stream and read errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.types import PromptOptions
from tests.support.browser import installed_frontend, run_npm
from tests.support.openapi_document import DOCUMENT
from tests.support.served import Service

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-16-chars-or-more"
PYTHON_LIMIT_S = 60

PYTHON_EXAMPLE, STREAM_EXAMPLE = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(api_keys=KEY) as service:
        yield service


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PYTHON_LIMIT_S,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the Python client; whatever the generator does not understand is a failure."""
    folder = tmp_path_factory.mktemp("client")
    config = folder / "config.json"
    config.write_text(json.dumps({"post_hooks": []}))
    target = folder / "image_analyzer_client"
    made = python(
        *("-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--output-path", str(target)),
        *("--meta", "none", "--fail-on-warning", "--config", str(config)),
        folder=folder,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


def test_a_python_client_uploads_streams_and_reads_errors(service: Service, generated: Path) -> None:
    def run(key: str, picture: str = "examples/coffee.jpg") -> subprocess.CompletedProcess[str]:
        example = f"{PYTHON_EXAMPLE}\n{STREAM_EXAMPLE}".replace("http://127.0.0.1:8000", service.url)
        return python("-c", example.replace("KEY", key).replace("examples/coffee.jpg", picture), folder=generated)

    done = run(KEY)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["A quiet harbour.", "A quiet harbour."]), done.stderr
    assert [asked.options for asked in service.writer.requests] == [PromptOptions("at dusk", language="ja")] * 2
    assert "key_required: This needs an API key" in run("another").stderr
    assert "unreadable_image: The upload is" in run(KEY, "README.md").stderr


def test_a_typescript_client_uploads_streams_and_reads_errors(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend = installed_frontend()
    monkeypatch.setenv("SERVICE_URL", service.url)
    monkeypatch.setenv("SERVICE_KEY", KEY)
    run_npm(frontend, "run", "test", "--", "tests/generatedClient.test.ts")
    assert [asked.options for asked in service.writer.requests] == [PromptOptions("at dusk", language="ja")] * 2
