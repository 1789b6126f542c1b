"""`analyze`, against the real application over HTTP, and against services that misbehave."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
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
from serve_app.cli.analyze_options import API_KEY_VARIABLE
from serve_app.cli.client import ServiceClient
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


class Beside(io.StringIO):
    """Another stream's neighbour, whose lines are read between its lines, as a terminal shows them."""

    def __init__(self, other: io.StringIO) -> None:
        super().__init__()
        self._other = other

    def write(self, text: str) -> int:
        return self._other.write(text)


@pytest.fixture
def analyse() -> Analyse:
    def run(*pictures: Path, url: str, options: PromptOptions | None = None, **more: Any) -> tuple[int, str]:
        out = Terminal()
        given = {"as_json": False, "out": out, "err": Beside(out), "environment": {"NO_COLOR": "1"}, **more}
        return analyze(pictures or [PICTURE], url, options or PromptOptions(), **given), out.getvalue()

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
    more = ["--tags", "3", "--tag-groups", "food, objects", "--labels", labels, "--without", "spoon, dark wood"]
    assert main(["analyze", str(PICTURE), "--url", service.url, *more]) == 0
    asked = service.writer.requests[0].options
    assert asked.labels == (("vehicle", ("car", "b\u00fcs")),)
    assert (asked.tags, asked.tag_groups) == (3, ("food", "objects"))
    assert asked.without == ("spoon", "dark wood")
    assert "A quiet harbour." in capsys.readouterr().out


@pytest.mark.parametrize("labels", ["/no/such/file", "{", '["car"]', '{"vehicle": 3}'])
def test_labels_that_are_none_are_refused_before_anything_is_sent(
    labels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", str(PICTURE), "--labels", labels])
    assert "argument --labels: " in capsys.readouterr().err


def test_a_picture_that_was_analysed_before_is_said_to_be(service: Service, analyse: Analyse) -> None:
    status, told = analyse(PICTURE, PICTURE, url=service.url, jobs=1)
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
    status, told = analyse(PICTURE, text, PICTURE, url=service.url, as_json=True, jobs=1)
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
    assert f"✗ {large}: The upload is larger than 1 MB" in told
    assert "A quiet harbour." in told


def test_a_pipe_gets_the_prompts_alone_and_in_the_order_of_the_pictures(service: Service, tmp_path: Path) -> None:
    """Half prompts that were begun anew, labels, times, warnings and failures are read on stderr."""
    service.writer.events = [
        PromptDelta("Half a"),
        PromptRestart("Ollama broke off."),
        PromptComplete("A cup.\n\nOn a table.\x1b[2J", "template", warnings=("Cut.",)),
    ]
    for name in ("b.jpg", "a.png", "c.txt"):
        shutil.copy(PICTURE, tmp_path / name)
    (tmp_path / "broken.gif").touch()
    out, err = io.StringIO(), io.StringIO()
    status = analyze([tmp_path], service.url, PromptOptions(), as_json=False, out=out, err=err, jobs=1, environment={})
    assert (status, out.getvalue()) == (1, 2 * "A cup. On a table.[2J\n")
    places = [line for line in err.getvalue().splitlines() if "/3 " in line]
    assert places == ["1/3 a.png (read by clip)", "2/3 b.jpg (read by clip, cached)"]
    assert "  ! Cut." in err.getvalue()
    assert f"✗ {tmp_path}/broken.gif: " in err.getvalue()
    assert "A cup" not in err.getvalue()


def test_the_analysis_alone_is_what_a_pipe_gets_where_nothing_else_is_asked_for(service: Service) -> None:
    out, err = io.StringIO(), io.StringIO()
    wish = PromptOptions(analysis_only=True)
    assert analyze([PICTURE], service.url, wish, as_json=False, out=out, err=err, environment={}) == 0
    assert out.getvalue().startswith("rocket.jpg (read by clip)\n  style: ")
    assert ("prompt by" in out.getvalue(), err.getvalue()) == (False, "")


@pytest.mark.parametrize("as_json", [True, False])
def test_progress_counts_the_pictures(as_json: bool, service: Service) -> None:
    out, err = io.StringIO(), Terminal()
    pictures = [PICTURE] * 3
    assert analyze(pictures, service.url, PromptOptions(), as_json=as_json, out=out, err=err, environment={}) == 0
    for place in ("1/3", "2/3", "3/3"):
        assert f"\r\x1b[K{place} rocket.jpg: " in err.getvalue()
    assert err.getvalue().endswith("\r\x1b[K" if as_json else "\n")
    assert len(out.getvalue().splitlines()) == 3


def busy(times: int, sent: list[httpx.Request], **headers: str) -> httpx.MockTransport:
    """Answer 429 so often, then well."""

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if len(sent) <= times:
            refusal = {"success": False, "error": "Too often.", "code": "rate_limited"}
            return httpx.Response(429, headers=headers, json=refusal)
        return httpx.Response(200, json=COMPLETE)

    return httpx.MockTransport(handler)


def test_a_busy_service_is_asked_again_when_it_says_and_with_the_whole_picture(analyse: Analyse) -> None:
    sent: list[httpx.Request] = []
    waited: list[float] = []
    transport = busy(2, sent, **{"retry-after": "7"})
    status, told = analyse(url=HERE, as_json=True, transport=transport, wait=waited.append)
    assert (status, json.loads(told)["generatedPrompt"]) == (0, "A cup.")
    assert waited == pytest.approx([7, 7])
    assert all(PICTURE.read_bytes() in request.content for request in sent)


@pytest.mark.parametrize("headers", [{"retry-after": "61"}, {"retry-after": "0"}, {}])
def test_a_service_that_stays_busy_is_left_after_five_minutes(headers: dict[str, str], analyse: Analyse) -> None:
    waited: list[float] = []
    status, told = analyse(url=HERE, as_json=True, transport=busy(1000, [], **headers), wait=waited.append)
    assert (status, json.loads(told)["code"]) == (1, "rate_limited")
    assert 200 < sum(waited) <= 300


@pytest.mark.parametrize("jobs", [1, 3])
def test_so_many_pictures_are_on_their_way_at_a_time(jobs: int, analyse: Analyse) -> None:
    met = threading.Barrier(jobs)

    def handler(_: httpx.Request) -> httpx.Response:
        met.wait(timeout=30)
        return httpx.Response(200, json=COMPLETE)

    status, told = analyse(
        *[PICTURE] * 3 * jobs, url=HERE, as_json=True, jobs=jobs, transport=httpx.MockTransport(handler)
    )
    assert (status, len(told.splitlines())) == (0, 3 * jobs)


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
        TextView(Terminal(), progress, {}).show(PICTURE, client.events(PICTURE, PromptOptions()))
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


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"user_prompt": "x" * 2001}, "--prompt has 2001 characters: send at most 2000."),
        ({"without": ("x" * 2001,)}, "--without has 2001 characters: send at most 2000."),
        ({"target": "sdlx"}, "--target is wrong: send one of prose, sdxl."),
        ({"tags": 101}, "--tags is wrong: Input should be less than or equal to 100."),
        ({"labels": (("UPPER", ("a", "b")),)}, "--labels is wrong: "),
    ],
)
def test_a_wish_that_the_service_refuses_is_told_in_the_commands_words_and_is_wrong_usage(
    wish: dict[str, Any], told: str, service: Service, analyse: Analyse
) -> None:
    status, said = analyse(url=service.url, options=PromptOptions(**wish), as_json=True)
    assert (status, json.loads(said)["code"]) == (2, "invalid_form")
    assert json.loads(said)["error"].startswith(told)
    assert analyse(PICTURE, PICTURE, url=service.url, options=PromptOptions(**wish), jobs=1)[1].count("✗") == 1


def test_a_warning_speaks_of_the_commands_options(service: Service, analyse: Analyse) -> None:
    service.reader.warnings = ("It is too uncertain to be named: say it in user_prompt.",)
    assert "  ! It is too uncertain to be named: say it in --prompt.\n" in analyse(url=service.url)[1]


def test_a_terminal_sees_colours_and_progress(service: Service) -> None:
    out, progress = Terminal(), Terminal()
    with ServiceClient(service.url) as client:
        TextView(out, progress, {}).show(PICTURE, client.events(PICTURE, PromptOptions()))
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


@pytest.mark.parametrize(
    ("key", "header", "told"),
    [
        ("0123456789abcdef", "Bearer 0123456789abcdef", "does not know the key that IMAGE_ANALYZER_API_KEY holds"),
        ("", None, "asks for a key: export IMAGE_ANALYZER_API_KEY=KEY."),
    ],
)
def test_the_key_of_the_environment_is_sent_and_a_refusal_names_it(
    key: str, header: str | None, told: str, analyse: Analyse
) -> None:
    sent: list[httpx.Request] = []
    refusal = httpx.Response(401, json={"success": False, "error": "Send a header.", "code": "key_required"})
    status, said = analyse(url=HERE, transport=answering(refusal, sent), environment={API_KEY_VARIABLE: key})
    assert (status, told in said) == (1, True)
    assert [request.headers.get("authorization") for request in sent] == [header]


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
    assert (status, json.loads(told)["code"]) == (2, "invalid_url")
    assert json.loads(told)["error"].endswith("write it as http://HOST:PORT.")
    assert analyse(PICTURE, PICTURE, url=url)[1].count("✗") == 1


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


def test_a_key_that_is_none_is_told(analyse: Analyse) -> None:
    status, told = analyse(url=HERE, as_json=True, environment={API_KEY_VARIABLE: "clé\n0123456789abcdef"})
    assert (status, json.loads(told)["code"]) == (2, "invalid_key")


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
    assert done.returncode == 0
    if options:
        assert done.stderr == b""
        assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["-", "fifo"]
    else:
        assert done.stdout == b"A quiet harbour.\nA quiet harbour.\n"
        told = done.stderr.decode().splitlines()
        assert [line for line in told if "/2" in line] == ["1/2 - (read by clip)", "2/2 fifo (read by clip)"]
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
        assert done.returncode == 1
        if options:
            assert done.stderr == b""
            there, absent = map(json.loads, done.stdout.decode().splitlines())
            assert (there["success"], there["userInput"], Path(there["file"]).name) == (True, "\xe0 l'aube", shown)
            assert absent["file"] == f"absent-{shown}"
        else:
            assert done.stdout == b"A quiet harbour.\n"
            assert b"absent-caf" in done.stderr


def test_a_missing_file_is_told(analyse: Analyse, tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    told = f"✗ {missing}: The file cannot be read: No such file or directory.\n"
    assert analyse(missing, url="http://127.0.0.1:1") == (1, told)


def test_what_reads_but_the_first_line_ends_it_quietly(service: Service) -> None:
    more_than_a_pipe_holds = [str(PICTURE)] * 100
    command = [sys.executable, "-m", "serve_app.cli.main", "analyze", *more_than_a_pipe_holds, "--url", service.url]
    piped = "set -o pipefail; " + " ".join(command) + " --json 2>&1 | head -1"
    done = subprocess.run(["/bin/bash", "-c", piped], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["success"] is True


def test_ctrl_c_ends_it_with_130_and_without_a_traceback(service: Service) -> None:
    service.writer.hang = True
    command = [sys.executable, "-m", "serve_app.cli.main", "analyze", str(PICTURE), str(PICTURE), "--url", service.url]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Of a suite that was started with `&` the signal would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        assert "read by clip" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
