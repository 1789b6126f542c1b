"""`analyze`, against the real application over HTTP, and against services that misbehave."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from deployments.errors import OllamaUnavailable
from deployments.types import PromptComplete, PromptDelta, PromptOptions, PromptRestart
from serve_app.api import create_api
from serve_app.cli.analyze import TextView, analyze
from serve_app.cli.client import API_KEY_VARIABLE, ServiceClient
from serve_app.middleware.auth import ApiKeys
from serve_app.pipeline import Pipeline
from serve_app.settings import load_settings
from tests.support.parts import FakeReader, FakeWriter
from tests.support.pictures import photograph_path
from tests.support.ports import free_port

PICTURE = photograph_path("rocket")
AT_DUSK = PromptOptions("at dusk", deep_thinking=True, language="fr")
START_LIMIT_S = 10


class Service:
    """The application on a port, in a thread, with stand-ins for the two deployments."""

    def __init__(self) -> None:
        settings = load_settings({"image": {"max_upload_mib": 1}}, {})
        self.reader, self.writer = FakeReader(), FakeWriter()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._listening = threading.Event()
        api = create_api(Pipeline(self.reader, self.writer, settings), settings, ApiKeys(None, {}))
        self._server = _Server(uvicorn.Config(api, port=port, log_level="error", ws="none"), self._listening)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Service:
        self._thread.start()
        assert self._listening.wait(START_LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listening: threading.Event) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._listening.set()


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


def test_an_answer_is_printed_for_people(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.reader.warnings = ("Pixels stood in.",)
    assert analyze([PICTURE], service.url, AT_DUSK, as_json=False) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "rocket.jpg (read by clip)"
    assert shown[1] == "  style:         style 0 50%, style 1 40%, style 2 30%"
    assert shown[5].startswith("  subjects:      subjects 0 50%")
    assert shown[6].startswith("  palette:       #")
    assert shown[8] == "  A quiet harbour."
    assert "total" in shown[10]
    assert shown[10].endswith("; prompt by ollama")
    assert shown[11] == "  ! Pixels stood in."
    assert service.writer.requests[0].options == AT_DUSK


def test_a_picture_that_was_analysed_before_is_said_to_be(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze([PICTURE, PICTURE], service.url, PromptOptions(), as_json=False) == 0
    shown = capsys.readouterr().out
    assert "rocket.jpg (read by clip)\n" in shown
    assert "rocket.jpg (read by clip, cached)\n" in shown
    assert len(service.reader.pictures) == 1


def test_a_wish_for_the_analysis_alone_reaches_the_service(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze([PICTURE], service.url, PromptOptions(analysis_only=True), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["promptSource"] == "none"
    assert service.writer.requests == []


def test_json_is_the_plain_routes_answer_a_line_per_picture(
    service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert analyze([PICTURE, text, PICTURE], service.url, PromptOptions(), as_json=True) == 1
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"] == str(PICTURE)
    assert first["generatedPrompt"] == "A quiet harbour."
    assert {"analysis", "palette", "promptSource", "analyzer", "timings", "warnings"} <= first.keys()
    assert (second["file"], second["success"]) == (str(text), False)
    assert second["code"] in {"unreadable_image", "format_not_accepted"}
    assert third["success"]
    assert (first["cached"], third["cached"]) == (False, True)


def test_a_refused_picture_is_told_and_the_next_one_sent(
    service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(5_000_000))
    assert analyze([large, PICTURE], service.url, PromptOptions(), as_json=False) == 1
    shown = capsys.readouterr().out
    assert shown.startswith(f"✗ {large}: ")
    assert "MB" in shown.splitlines()[0] or "MiB" in shown.splitlines()[0]
    assert "A quiet harbour." in shown


def test_a_failure_midway_ends_the_picture(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.writer.events = [PromptDelta("A ")]
    service.writer.error = OllamaUnavailable("Ollama is down: start it.")
    assert analyze([PICTURE], service.url, PromptOptions(), as_json=False) == 1
    assert capsys.readouterr().out.endswith(f"  A \n\n✗ {PICTURE}: Ollama is down: start it.\n")


def test_a_writer_that_starts_over_is_seen_to(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.writer.events = [
        PromptDelta("Half a"),
        PromptRestart("Ollama broke off."),
        PromptDelta("Whole."),
        PromptComplete("Whole.", "template"),
    ]
    assert analyze([PICTURE], service.url, PromptOptions(), as_json=False) == 0
    assert "  Half a\n\n  ↻ Ollama broke off.\n\n  Whole.\n" in capsys.readouterr().out


def test_a_wish_that_the_service_refuses_is_told(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze([PICTURE], service.url, PromptOptions(language="xx"), as_json=True) == 1  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out)["code"] == "invalid_form"


def test_the_key_of_the_environment_is_sent(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(401, json={"success": False, "error": "No.", "code": "key_required"})

    monkeypatch.setenv(API_KEY_VARIABLE, "0123456789abcdef")
    assert analyze([PICTURE], service.url, PromptOptions(), as_json=True, transport=httpx.MockTransport(refuse)) == 1
    monkeypatch.delenv(API_KEY_VARIABLE)
    assert analyze([PICTURE], service.url, PromptOptions(), as_json=True, transport=httpx.MockTransport(refuse)) == 1
    assert [request.headers.get("authorization") for request in sent] == ["Bearer 0123456789abcdef", None]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_colours_and_progress(service: Service) -> None:
    out, progress = Terminal(), Terminal()
    with ServiceClient(service.url) as client:
        TextView(out, progress, {}).show(client, PICTURE, PromptOptions())
    assert "\x1b[48;2;" in out.getvalue()
    assert "rocket.jpg: sending …" in progress.getvalue()
    assert "rocket.jpg: writing the prompt …" in progress.getvalue()
    assert progress.getvalue().endswith("\r\x1b[K")


def failing(handler: Callable[[httpx.Request], httpx.Response], *, as_json: bool, url: str = "http://here") -> None:
    assert analyze([PICTURE], url, PromptOptions(), as_json=as_json, transport=httpx.MockTransport(handler)) == 1


def raises(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            httpx.ConnectError("refused"),
            "no_service",
            "No service answers at http://here: start it with `make run` or `image-analyzer serve`.",
        ),
        (httpx.ConnectTimeout("late"), "no_service", "No service answers at http://here"),
        (httpx.ReadTimeout("late"), "no_answer", "The service at http://here was silent for"),
        (httpx.RemoteProtocolError("cut"), "broken_off", "The service at http://here broke off"),
    ],
)
def test_a_service_that_fails_is_told(
    error: Exception, code: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(raises(error), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["code"] == code
    assert sentence in told["error"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, text="Path not found"),
        httpx.Response(502, json={"detail": "bad gateway"}),
        httpx.Response(500, json=["error"]),
    ],
)
def test_another_program_is_recognised(
    response: httpx.Response, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(lambda _: httpx.Response(response.status_code, content=response.content), as_json=as_json)
    assert "What answers at http://here is not the image analyzer" in capsys.readouterr().out


def test_a_stream_that_ends_too_soon_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    failing(lambda _: httpx.Response(200, text='data: {"status": "analyzing", "message": "…"}\n\n'), as_json=False)
    assert "broke off in the middle of its answer" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["here:8000", "ftp://here", "http://here:port"])
def test_a_wrong_address_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze([PICTURE], url, PromptOptions(), as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "invalid_url"


def test_a_missing_file_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    assert analyze([missing], "http://127.0.0.1:1", PromptOptions(), as_json=False) == 1
    assert capsys.readouterr().out == f"✗ {missing}: The file cannot be read: No such file or directory.\n"


def test_what_a_model_writes_does_not_steer_the_terminal(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.writer.events = [PromptDelta("A\x1b[2J\x07 cup"), PromptComplete("A cup", "ollama")]
    assert analyze([PICTURE], service.url, PromptOptions(), as_json=False) == 0
    assert "  A[2J cup\n" in capsys.readouterr().out
