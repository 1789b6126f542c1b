"""`analyze`, against the real application over HTTP, and against services that misbehave."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.errors import OllamaUnavailable
from deployments.ollama.model_names import is_same
from deployments.types import LabelScore, PromptComplete, PromptDelta, PromptOptions, PromptRestart, Tag
from serve_app.cli.analyze import TextView, analyze
from serve_app.cli.client import API_KEY_VARIABLE, ServiceClient
from serve_app.cli.main import main
from tests.serve_app.cli.conftest import Terminal
from tests.support.parts import ANALYSIS
from tests.support.pictures import photograph_path
from tests.support.served import Service

PICTURE = photograph_path("rocket")
AT_DUSK = PromptOptions("at dusk", deep_thinking=True, language="fr")
HERE = "http://here"

Analyse = Callable[..., tuple[int, str]]
"""Pictures, and what `analyze` takes besides → its exit status and what it printed."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(image={"max_upload_mib": 1}) as service:
        yield service


@pytest.fixture
def analyse(capsys: pytest.CaptureFixture[str]) -> Analyse:
    def run(*pictures: Path, url: str, options: PromptOptions | None = None, **more: Any) -> tuple[int, str]:
        status = analyze(pictures or [PICTURE], url, options or PromptOptions(), **{"as_json": False, **more})
        return status, capsys.readouterr().out

    return run


def test_an_answer_is_printed_for_people(service: Service, analyse: Analyse) -> None:
    service.reader.warnings = ("Pixels stood in.",)
    status, told = analyse(url=service.url, options=AT_DUSK)
    shown = told.splitlines()
    assert (status, shown[0]) == (0, "rocket.jpg (read by clip)")
    assert shown[1] == "  style:         style 0 50%, style 1 40%, style 2 30%"
    assert shown[5].startswith("  subjects:      subjects 0 50%")
    assert shown[6].startswith("  palette:       #")
    assert shown[8] == "  A quiet harbour."
    assert "total" in shown[10]
    assert shown[10].endswith("; prompt by ollama")
    assert shown[11] == "  ! Pixels stood in."
    assert service.writer.requests[0].options == AT_DUSK


@pytest.mark.parametrize(("negative", "lines"), [(True, ["  negative: blurry, text"]), (False, [])])
def test_a_target_reaches_the_service_and_its_negative_prompt_is_printed_on_demand(
    service: Service, analyse: Analyse, negative: bool, lines: list[str]
) -> None:
    service.writer.events = [PromptComplete("a fox", "template", target="sdxl", negative="blurry, text")]
    options = PromptOptions(target="sdxl", length="short", weights=True)
    status, told = analyse(url=service.url, options=options, negative=negative)
    assert (status, service.writer.requests[0].options) == (0, options)
    assert [line for line in told.splitlines() if "negative" in line] == lines


def test_tags_and_further_categories_are_asked_for_and_printed(service: Service, analyse: Analyse) -> None:
    service.reader.tags = (Tag("espresso", "food", 0.91), Tag("saucer", "objects", 0.6))
    time = {"time_of_day_or_of_the_night": (LabelScore("golden hour", 0.7),), "vehicle": ()}
    service.reader.scores = {**ANALYSIS, **time}
    options = PromptOptions(
        tags=2, tag_groups=("food", "objects"), labels=(("vehicle", ("a car", "a caf\u00e9 racer")),)
    )
    status, told = analyse(url=service.url, options=options)
    assert (status, service.writer.requests[0].options) == (0, options)
    assert told.splitlines()[6:9] == [
        "  time of day or of the night: golden hour 70%",
        "  vehicle:       -",
        "  tags:          espresso 91%, saucer 60%",
    ]


@pytest.mark.parametrize("as_file", [False, True], ids=["typed", "a file"])
def test_own_labels_are_typed_or_in_a_file(
    as_file: bool, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = '{"vehicle": ["car", "b\u00fcs"]}'
    file = tmp_path / "labels.json"
    file.write_text(said, encoding="utf-8")
    labels = str(file) if as_file else said
    more = ["--tags", "3", "--tag-groups", "food, objects", "--labels", labels]
    assert main(["analyze", str(PICTURE), "--url", service.url, *more]) == 0
    asked = service.writer.requests[0].options
    assert asked.labels == (("vehicle", ("car", "b\u00fcs")),)
    assert (asked.tags, asked.tag_groups) == (3, ("food", "objects"))
    assert "A quiet harbour." in capsys.readouterr().out


@pytest.mark.parametrize("labels", ["/no/such/file", "{", '["car"]', '{"vehicle": 3}'])
def test_labels_that_are_none_are_refused_before_anything_is_sent(
    labels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", str(PICTURE), "--labels", labels])
    assert "argument --labels: " in capsys.readouterr().err


def test_a_picture_that_was_analysed_before_is_said_to_be(service: Service, analyse: Analyse) -> None:
    status, told = analyse(PICTURE, PICTURE, url=service.url)
    assert (status, len(service.reader.pictures)) == (0, 1)
    assert [line for line in told.splitlines() if line.startswith("rocket")] == [
        "rocket.jpg (read by clip)",
        "rocket.jpg (read by clip, cached)",
    ]


def test_a_wish_for_the_analysis_alone_reaches_the_service(service: Service, analyse: Analyse) -> None:
    status, told = analyse(url=service.url, options=PromptOptions(analysis_only=True), as_json=True)
    assert (status, json.loads(told)["promptSource"], service.writer.requests) == (0, "none", [])


def test_json_is_the_plain_routes_answer_a_line_per_picture(service: Service, analyse: Analyse, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    status, told = analyse(PICTURE, text, PICTURE, url=service.url, as_json=True)
    first, second, third = map(json.loads, told.splitlines())
    assert (status, first["file"], first["generatedPrompt"]) == (1, str(PICTURE), "A quiet harbour.")
    assert {"analysis", "palette", "promptSource", "analyzer", "timings", "warnings"} <= first.keys()
    assert (second["file"], second["success"]) == (str(text), False)
    assert second["code"] in {"unreadable_image", "format_not_accepted"}
    assert (third["success"], first["cached"], third["cached"]) == (True, False, True)


def test_a_refused_picture_is_told_and_the_next_one_sent(service: Service, analyse: Analyse, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(5_000_000))
    status, told = analyse(large, PICTURE, url=service.url)
    assert status == 1
    assert told.startswith(f"✗ {large}: The upload is larger than 1 MB")
    assert "A quiet harbour." in told


@pytest.mark.parametrize(
    ("events", "error", "status", "told"),
    [
        (
            [PromptDelta("A ")],
            OllamaUnavailable("Ollama is down: start it."),
            1,
            f"  A \n\n✗ {PICTURE}: Ollama is down: start it.\n",
        ),
        (
            [
                PromptDelta("Half a"),
                PromptRestart("Ollama broke off."),
                PromptDelta("Whole."),
                PromptComplete("Whole.", "template"),
            ],
            None,
            0,
            "  Half a\n\n  ↻ Ollama broke off.\n\n  Whole.\n",
        ),
        ([PromptDelta("A\x1b[2J\x07 cup"), PromptComplete("A cup", "ollama")], None, 0, "  A[2J cup\n"),
    ],
    ids=["fails midway", "starts over", "would steer the terminal"],
)
def test_a_writer_is_shown_as_it_writes(
    service: Service, analyse: Analyse, events: list[Any], error: Exception | None, status: int, told: str
) -> None:
    service.writer.events, service.writer.error = events, error
    ended, shown = analyse(url=service.url)
    assert (ended, told in shown) == (status, True), shown


def streamed(*events: dict[str, Any]) -> httpx.Response:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


COMPLETE = {
    "status": "complete",
    "generatedPrompt": "A cup.",
    "userInput": "",
    "promptSource": "ollama",
    "model": "qwen3:4b",
    "truncated": True,
    "timings": {"total": 9},
    "warnings": ["It was cut."],
}


def test_who_wrote_and_what_was_cut_is_told(analyse: Analyse) -> None:
    status, told = analyse(url=HERE, transport=answering(streamed(COMPLETE)))
    assert (status, told.splitlines()[-3:]) == (0, ["  total 9 ms; prompt by qwen3:4b", "  ! It was cut.", ""])
    whole = httpx.Response(200, json=COMPLETE)
    assert COMPLETE.items() <= json.loads(analyse(url=HERE, as_json=True, transport=answering(whole))[1]).items()


def test_that_the_model_saw_the_picture_is_told(analyse: Analyse) -> None:
    _, told = analyse(url=HERE, transport=answering(streamed({**COMPLETE, "vision": True})))
    assert "prompt by qwen3:4b, which saw the picture" in told


def test_a_terminal_sees_the_place_in_line_and_that_the_model_thinks() -> None:
    progress = Terminal()
    generating = {"status": "generating", "message": ""}
    told = streamed(
        {**generating, "before": 2},
        {**generating, "before": 1},
        generating,
        {**generating, "vision": True},
        {"status": "thinking"},
        COMPLETE,
    )
    with ServiceClient(HERE, transport=answering(told)) as client:
        TextView(Terminal(), progress, {}).show(client, PICTURE, PromptOptions())
    steps = [step.strip() for step in progress.getvalue().split("\r\x1b[K") if step]
    assert steps == [
        f"rocket.jpg: {doing} …"
        for doing in (
            "sending",
            "waiting in line, 2 before you",
            "waiting in line, 1 before you",
            "writing the prompt",
            "looking at the picture and writing",
            "the model is thinking",
        )
    ]


def test_a_model_and_a_seed_reach_the_service(service: Service) -> None:
    done = run(str(PICTURE), "--url", service.url, "--model", "mistral", "--seed", "0", "--vision", "off")
    assert done.returncode == 0
    options = service.writer.requests[0].options
    assert (is_same(options.model, "mistral:latest"), options.seed, options.vision) == (True, 0, "off")


def test_what_is_not_asked_for_is_not_sent_to_a_service_that_may_not_know_it(analyse: Analyse) -> None:
    sent: list[httpx.Request] = []
    analyse(url=HERE, transport=answering(httpx.Response(404), sent))
    names = re.findall(rb'form-data; name="(\w+)"', sent[0].content)
    assert set(names) == {b"deep_thinking", b"language", b"analysis_only", b"image"}


def test_a_wish_that_the_service_refuses_is_told(service: Service, analyse: Analyse) -> None:
    status, told = analyse(url=service.url, options=PromptOptions(language="xx"), as_json=True)  # type: ignore[arg-type]
    assert (status, json.loads(told)["code"]) == (1, "invalid_form")


def test_a_terminal_sees_colours_and_progress(service: Service) -> None:
    out, progress = Terminal(), Terminal()
    with ServiceClient(service.url) as client:
        TextView(out, progress, {}).show(client, PICTURE, PromptOptions())
    assert "\x1b[48;2;" in out.getvalue()
    assert "rocket.jpg: sending …" in progress.getvalue()
    assert "rocket.jpg: writing the prompt …" in progress.getvalue()
    assert progress.getvalue().endswith("\r\x1b[K")


def answering(answer: httpx.Response | Exception, sent: list[httpx.Request] | None = None) -> httpx.MockTransport:
    def handler(request: httpx.Request) -> httpx.Response:
        if sent is not None:
            sent.append(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return httpx.MockTransport(handler)


def test_the_key_of_the_environment_is_sent(analyse: Analyse, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []
    refusal = httpx.Response(401, json={"success": False, "error": "No.", "code": "key_required"})
    for key in ("0123456789abcdef", ""):
        monkeypatch.setenv(API_KEY_VARIABLE, key)
        assert analyse(url=HERE, transport=answering(refusal, sent))[0] == 1
    assert [request.headers.get("authorization") for request in sent] == ["Bearer 0123456789abcdef", None]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            httpx.ConnectError("refused"),
            "no_service",
            f"No service answers at {HERE}: start it with `make run` or `image-analyzer serve`.",
        ),
        (httpx.ConnectTimeout("late"), "no_service", f"No service answers at {HERE}"),
        (httpx.ReadTimeout("late"), "no_answer", f"The service at {HERE} was silent for"),
        (httpx.RemoteProtocolError("cut"), "broken_off", f"The service at {HERE} broke off"),
    ],
)
def test_a_service_that_fails_is_told(error: Exception, code: str, sentence: str, analyse: Analyse) -> None:
    status, told = analyse(url=HERE, as_json=True, transport=answering(error))
    assert (status, json.loads(told)["code"]) == (1, code)
    assert sentence in json.loads(told)["error"]


NOT_OURS = "What answers at http://here is not the image analyzer"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, html="<p>Welcome</p>"),
        httpx.Response(404, text="Path not found"),
        httpx.Response(502, json={"detail": "bad gateway"}),
        httpx.Response(500, json=["error"]),
    ],
)
def test_another_program_is_recognised(response: httpx.Response, as_json: bool, analyse: Analyse) -> None:
    status, told = analyse(url=HERE, as_json=as_json, transport=answering(response))
    assert (status, NOT_OURS in told) == (1, True)


def test_a_stream_that_ends_too_soon_is_no_answer(analyse: Analyse) -> None:
    cut = httpx.Response(200, headers={"content-type": "text/event-stream"}, text='data: {"status": "analyzing"}\n\n')
    status, told = analyse(url=HERE, transport=answering(cut))
    assert (status, "broke off in the middle of its answer" in told) == (1, True)


@pytest.mark.parametrize(
    "url", ["ftp://here", "http://here:port", "http://", "here:99999", "http://[::1", "", ":8000", "/here"]
)
def test_a_wrong_address_is_told(url: str, analyse: Analyse) -> None:
    status, told = analyse(url=url, as_json=True, transport=answering(httpx.Response(200)))
    assert (status, json.loads(told)["code"]) == (1, "invalid_url")


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost:8000"),
        ("::1", "http://[::1]:8000"),
        ("[::1]:81", "http://[::1]:81"),
        ("http://[fe80::1]:81/", "http://[fe80::1]:81"),
        ("here/prefix/", "http://here:8000/prefix"),
        (" https://here/prefix ", "https://here/prefix"),
        ("http://here/prefix/api/images/analyze-stream", "http://here/prefix"),
        ("http://here/?a=b#c", "http://here"),
        ("192.168.1.5:8000/api/images", "http://192.168.1.5:8000"),
    ],
)
def test_an_address_is_taken_as_it_is_typed(typed: str, asked: str, analyse: Analyse) -> None:
    sent: list[httpx.Request] = []
    analyse(url=typed, as_json=True, transport=answering(httpx.Response(404), sent))
    assert [str(request.url) for request in sent] == [f"{asked}/api/images/analyze"]


def test_a_redirect_is_told_with_where_it_leads(analyse: Analyse) -> None:
    moved = httpx.MockTransport(lambda _: httpx.Response(301, headers={"location": "https://there/"}))
    status, told = analyse(url=HERE, as_json=True, transport=moved)
    assert (status, json.loads(told)["error"]) == (1, f"{HERE} sends on to https://there/: give that address as --url.")


def test_a_key_that_is_none_is_told(analyse: Analyse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "clé\n0123456789abcdef")
    status, told = analyse(url=HERE, as_json=True)
    assert (status, json.loads(told)["code"]) == (1, "invalid_key")


def run(*arguments: str | bytes, locale: str = "C.UTF-8", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command under a locale, which is not widened to UTF-8 as Python would have it."""
    strict = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "serve_app.cli.main", "analyze", *arguments]
    return subprocess.run(command, env={**os.environ, **strict}, capture_output=True, timeout=60, **more)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_what_is_piped_in_is_a_picture_too(service: Service, options: tuple[str, ...], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writing = threading.Thread(target=fifo.write_bytes, args=(PICTURE.read_bytes(),))
    writing.start()
    done = run(
        "-", fifo.name, "--url", service.url, *options, input=photograph_path("china").read_bytes(), cwd=tmp_path
    )
    writing.join()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"A quiet harbour.") == 2
    assert len(service.reader.pictures) == 2


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("caf\xe9.jpg".encode(), "caf\xe9.jpg"), (b"caf\xe9.jpg", "caf\ufffd.jpg")],
    ids=["accent", "bytes"],
)
def test_any_file_name_and_wish_is_taken_under_any_locale(
    service: Service, locale: str, name: bytes, shown: str, tmp_path: Path
) -> None:
    file = os.path.join(os.fsencode(tmp_path), name)
    shutil.copy(PICTURE, os.fsdecode(file))
    for options in ((), ("--json",)):
        done = run(
            file, b"absent-" + name, "--prompt", "\xe0 l'aube".encode(), "--url", service.url, *options, locale=locale
        )
        assert (done.returncode, done.stderr) == (1, b"")
        if options:
            there, absent = map(json.loads, done.stdout.decode().splitlines())
            assert (there["success"], there["userInput"], Path(there["file"]).name) == (True, "\xe0 l'aube", shown)
            assert absent["file"] == f"absent-{shown}"
        else:
            assert b"A quiet harbour." in done.stdout
            assert b"absent-caf" in done.stdout


def test_a_missing_file_is_told(analyse: Analyse, tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    told = f"✗ {missing}: The file cannot be read: No such file or directory.\n"
    assert analyse(missing, url="http://127.0.0.1:1") == (1, told)
