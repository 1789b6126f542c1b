"""The whole service on a real Ray Serve, with a tiny CLIP and a fake Ollama; the protocol in both of its modes."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from safetensors.torch import load_file, save_file

from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.ollama.settings import OllamaSettings
from serve_app.analysis_cache import VERSION_HOLDS_S
from tests.support.crowd import Crowd
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, HEALTH, LIVE, READY, STREAM
from tests.support.local_hub import LocalHub
from tests.support.pictures import photograph_path
from tests.support.service import HOST, HUB, MAIN, RATED, STRICT, Service
from tests.support.tiny_clip import make_tiny_clip

pytestmark = pytest.mark.serve

PHOTOGRAPH = photograph_path("china").read_bytes()
TOKENS = ["A temple with a red roof and a high white wall, ", "by ", "the ", "lake."]
"""The first is longer than what is held back of a beginning."""
VEHICLES = json.dumps({"vehicle": ["car", "bicycle", "tram"]})
PATIENCE_S = 30
LONG_PATIENCE_S = 120
"""For replicas that are replaced, where two suites share two cores."""
SERVES_OWN_PATIENCE_S = 22
"""A replica that is replaced has 20 s for what it has in hand where nobody says how long that may take."""
ANOTHER_ADDRESS = "127.0.0.2"
"""Of this machine too: whose uploads are not counted with those from 127.0.0.1."""


@pytest.fixture(autouse=True)
def _ollama_is_up_and_quick(ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS)


def analyze(service: Service, prefix: str = MAIN, image: bytes = PHOTOGRAPH, **form: str) -> httpx.Response:
    return httpx.post(f"{service.url}{prefix}{ANALYZE}", files={"image": image}, data=form, timeout=LONG_PATIENCE_S)


def health(service: Service, prefix: str = MAIN) -> httpx.Response:
    return httpx.get(f"{service.url}{prefix}{HEALTH}", timeout=PATIENCE_S)


def analyzer_facts(service: Service) -> dict[str, Any]:
    facts: dict[str, Any] = health(service).json()["components"]["analyzer"]["facts"]
    return facts


def unlike_any_other(image: bytes) -> bytes:
    """Add what decoders pass over, so that it is not answered from memory."""
    return image + secrets.token_bytes(8)


def eventually(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> bool:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
    return False


def test_a_photograph_is_analysed_by_clip_and_described_by_ollama(service: Service, ollama: FakeOllama) -> None:
    response = analyze(service, user_prompt="at dusk", deep_thinking="true")
    assert response.status_code == 200
    body = response.json()
    assert (body["analyzer"], body["promptSource"], body["warnings"]) == ("clip", "ollama", [])
    assert body["generatedPrompt"] == "".join(TOKENS)
    assert list(body["analysis"]) == ["style", "mood", "composition", "color_palette", "subjects"]
    assert {len(labels) for labels in body["analysis"].values()} == {3}
    assert body["palette"][0]["hex"].startswith("#")
    sent = ollama.chats[-1].body
    assert sent["model"] == "mistral:latest"
    assert sent["options"].items() >= {"temperature": 0.7, "num_predict": 300, "top_p": 0.9}.items()
    assert "at dusk" in json.dumps(sent["messages"])
    report = health(service).json()
    assert (report["status"], report["analyzer_initialized"]) == ("ok", True)
    assert report["components"]["analyzer"]["facts"].keys() >= {"model", "device", "precision"}
    assert report["components"]["writer"]["active"] == "ollama"


def test_the_stream_brings_each_token_as_it_is_written(either_service: Service, ollama: FakeOllama) -> None:
    def events() -> Iterator[dict[str, Any]]:
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    ollama.answer = Answer(tokens=TOKENS, hold_at=1)
    ollama.hold()
    picture = {"image": PHOTOGRAPH}
    with httpx.stream("POST", f"{either_service.url}{STREAM}", files=picture, timeout=PATIENCE_S) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = events()
        first = [next(stream) for _ in range(4)]
        assert [event["status"] for event in first] == ["analyzing", "analyzed", "generating", "delta"]
        assert first[1]["analyzer"] == "clip"
        assert first[3]["text"] == TOKENS[0].rstrip()
        ollama.release()
        rest = list(stream)
    assert {event["status"] for event in rest[:-1]} == {"delta"}
    assert "".join(event["text"] for event in [first[3], *rest[:-1]]) == "".join(TOKENS)
    assert (rest[-1]["status"], rest[-1]["generatedPrompt"]) == ("complete", "".join(TOKENS))


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"hello", 400, "unreadable_image"),
        (b"P6 1 1 255 abc", 415, "format_not_accepted"),
        (b"x" * 21_000_000, 413, "upload_too_large"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_errors_keep_the_contract_s_shape_through_the_proxy(
    either_service: Service, image: bytes, status: int, code: str
) -> None:
    response = analyze(either_service, image=image)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json().keys() == {"success", "error", "code"}


@pytest.mark.parametrize(
    ("prefix", "size_bytes", "status"), [(MAIN, 30_000_000, 413), (RATED, 8_000_000, 429)], ids=["413", "429"]
)
def test_a_refusal_reaches_who_sends_all_before_reading(
    either_service: Service, prefix: str, size_bytes: int, status: int
) -> None:
    # As urllib does, which has it closed: a connection is reset where more comes.
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Connection": "close"}
    for _ in range(3):  # Two calls a minute may come in below RATED, and are refused for what they are.
        connection = http.client.HTTPConnection(HOST, either_service.port, timeout=PATIENCE_S)
        with closing(connection):
            connection.request("POST", prefix + ANALYZE, bytes(size_bytes), headers)
            answer = connection.getresponse()
            assert json.load(answer)["success"] is False
    assert answer.status == status


@pytest.mark.parametrize("prefix", [MAIN, RATED], ids=["", "below a prefix"])
def test_slashes_and_head_pass_the_proxies(either_service: Service, prefix: str) -> None:
    base = either_service.url + prefix
    for path in (LIVE, READY, f"{READY}/", HEALTH, "/", "/docs", "/openapi.json"):
        got, headed = httpx.get(base + path, timeout=PATIENCE_S), httpx.head(base + path, timeout=PATIENCE_S)
        assert (got.status_code, headed.status_code, headed.content) == (200, 200, b""), path
    answer = httpx.post(f"{base}{ANALYZE}/", files={"image": b"no picture"}, headers={"x-forwarded-proto": "https"})
    assert answer.json()["code"] in {"unreadable_image", "rate_limited"}
    if prefix:
        location = httpx.get(base).headers["location"]
        assert location == f"{prefix[1:]}/", "wherever a proxy in front has the service"


def test_a_sender_that_stops_midway_is_told_so(either_service: Service) -> None:
    head = (
        f"POST {RATED}{ANALYZE} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    address = (HOST, either_service.port)
    with socket.create_connection(address, PATIENCE_S, source_address=(ANOTHER_ADDRESS, 0)) as connection:
        connection.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"upload_too_slow" in answer


@pytest.mark.parametrize("headers", [{}, {"x-request-disconnect-disabled": "?1"}], ids=["", "asking not to"])
@pytest.mark.parametrize("route", [STREAM, ANALYZE])
def test_a_caller_that_leaves_stops_the_generation(
    either_service: Service, ollama: FakeOllama, route: str, headers: dict[str, str]
) -> None:
    ollama.answer = Answer(tokens=TOKENS, ending="stall")
    chats_before = len(ollama.chats)

    def writing(server: FakeOllama) -> bool:
        return len(server.chats) > chats_before and len(server.chats[-1].sent_at_s) > 0

    async def leave_while_it_writes() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            request = client.post(f"{either_service.url}{route}", files={"image": PHOTOGRAPH}, headers=headers)
            posting = asyncio.create_task(request)
            assert await asyncio.to_thread(ollama.wait_until, writing, PATIENCE_S)
            posting.cancel()
            await asyncio.wait({posting})

    asyncio.run(leave_while_it_writes())
    assert ollama.wait_until(lambda server: server.chats[-1].closed_by_client)
    ollama.answer = Answer(tokens=TOKENS)
    assert analyze(either_service).json()["promptSource"] == "ollama", "its place in the line must be free again"


def test_a_caller_cannot_set_the_service_s_timeout(either_service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, interval_s=0.1)
    impatient = {"x-request-timeout-seconds": "0.2"}
    url = f"{either_service.url}{ANALYZE}"
    response = httpx.post(url, files={"image": PHOTOGRAPH}, headers=impatient, timeout=PATIENCE_S)
    assert (response.status_code, response.json()["promptSource"]) == (200, "ollama"), "Serve's limit, of 240 s, holds"


def test_of_a_crowd_those_who_find_the_line_full_get_a_composed_prompt(
    either_service: Service, ollama: FakeOllama
) -> None:
    callers, writing_or_in_line = 128, OllamaSettings().max_parallel + OllamaSettings().max_waiting
    ollama.answer = Answer(tokens=TOKENS, hold_at=0)
    ollama.hold()

    async def crowd() -> tuple[list[httpx.Response], list[httpx.Response]]:
        limits = httpx.Limits(max_connections=callers)
        async with httpx.AsyncClient(timeout=PATIENCE_S, limits=limits) as client:
            posting = {
                asyncio.create_task(client.post(f"{either_service.url}{ANALYZE}", files={"image": PHOTOGRAPH}))
                for _ in range(callers)
            }
            early: list[httpx.Response] = []
            while len(early) < callers - writing_or_in_line:
                done, posting = await asyncio.wait(posting, return_when=asyncio.FIRST_COMPLETED)
                early += [task.result() for task in done]
            ollama.release()
            return early, await asyncio.gather(*posting)

    early, waited = asyncio.run(crowd())
    assert {response.json()["promptSource"] for response in waited} == {"ollama"}
    composed = [response.json() for response in early if response.status_code == httpx.codes.OK]
    assert {body["promptSource"] for body in composed} == {"template"}
    assert all("already wait for a prompt" in body["warnings"][0] for body in composed)
    refused = [response for response in early if response.status_code != httpx.codes.OK]
    assert {(response.status_code, response.json()["code"]) for response in refused} <= {(429, "queue_full")}
    assert all(int(response.headers["retry-after"]) > 0 for response in refused)


def test_pictures_arriving_together_are_all_answered_as_if_alone(service: Service) -> None:
    names = ["china", "flower", "coffee", "rocket", "chelsea", "astronaut", "page", "retina"]

    def scores(upload: bytes) -> list[float]:
        analysis = analyze(service, image=unlike_any_other(upload), analysis_only="true").json()["analysis"]
        return [label["score"] for labels in analysis.values() for label in labels]

    uploads = [photograph_path(name).read_bytes() for name in names]
    alone = [scores(upload) for upload in uploads]
    with ThreadPoolExecutor(len(uploads)) as callers:
        for together, expected in zip(callers.map(scores, uploads), alone, strict=True):
            assert together == pytest.approx(expected, abs=2e-2)


def test_labels_of_ones_own_are_compared_for_that_picture_alone(either_service: Service) -> None:
    def seen(number: int) -> dict[str, Any]:
        form = {"labels": VEHICLES} if number % 2 else {}
        answer = analyze(either_service, image=unlike_any_other(PHOTOGRAPH), analysis_only="true", **form)
        analysis: dict[str, Any] = answer.json()["analysis"]
        return analysis

    with ThreadPoolExecutor(8) as callers:
        without, own, *_ = callers.map(seen, range(16))
    assert own.keys() - without.keys() == {"vehicle"}
    assert {label["value"] for label in own["vehicle"]} == {"car", "bicycle", "tram"}
    assert sum(label["score"] for label in own["vehicle"]) == pytest.approx(1, abs=1e-3)
    assert [label["value"] for label in own["style"]] == [label["value"] for label in without["style"]]


class Labelled(NamedTuple):
    """An answer: when it was asked for and came, its status, whether its labels are new, and whether remembered."""

    sent_s: float
    came_s: float
    status: int
    new: bool
    cached: bool


def labelled(service: Service, image: bytes = PHOTOGRAPH, **form: str) -> Labelled:
    sent_s = time.monotonic()
    response = analyze(service, image=image, analysis_only="true", **form)
    body = response.json()
    new = response.is_success and body["analysis"]["style"][0]["value"] in {"fresco", "mosaic"}
    if response.is_success:
        assert ("era" in body["analysis"]) == new, "a mixture of two label sets"
        assert ("vehicle" in body["analysis"]) == bool(form)
    return Labelled(sent_s, time.monotonic(), response.status_code, new, body.get("cached", False))


def test_tags_are_named_once_the_vocabulary_is_embedded_and_change_with_it(service: Service) -> None:
    def named(**form: str) -> set[str]:
        answer = analyze(service, image=unlike_any_other(PHOTOGRAPH), analysis_only="true", **form)
        return {tag["value"] for tag in answer.json()["tags"]}

    assert eventually(lambda: bool(named()), LONG_PATIENCE_S)
    assert len(named() & {"cup", "a cup"}) == 1
    assert named() >= {"saucer", "harbour", "dusk", "noon"}
    assert named(tag_groups="light") == {"dusk", "noon"}
    assert len(named(tags="2")) == 2
    assert named(tags="0") == set()
    assert analyzer_facts(service)["vocabulary"] == "6 phrases"
    assert analyze(service, tag_groups="lamps").json()["code"] == "invalid_form"

    service.deploy({"vocabulary": {"objects": ["jug"]}})
    assert eventually(lambda: named() == {"jug", "dusk", "noon"}, LONG_PATIENCE_S)
    service.deploy({"vocabulary": {"objects": ["jug", "Jug"]}}, checked=False)
    assert eventually(lambda: "named twice: jug" in analyzer_facts(service).get("refused_change", ""))
    assert named() == {"jug", "dusk", "noon"}
    service.deploy({})
    assert eventually(lambda: "saucer" in named())


def test_labels_change_under_load_no_request_fails_and_no_old_label_is_remembered(service: Service) -> None:
    """Half of the callers send pictures that nobody has seen, half the same two over and over; one with own labels."""
    labels = load_labels(DEFAULT_LABELS_FILE).model_dump()
    stop = threading.Event()

    def send_until_stopped(number: int) -> list[Labelled]:
        answers = []
        while not stop.is_set():
            image = PHOTOGRAPH + bytes([number]) if number < 2 else unlike_any_other(PHOTOGRAPH)
            answers.append(labelled(service, image, **({"labels": VEHICLES} if number == 3 else {})))
        return answers

    with ThreadPoolExecutor(4) as callers:
        running = [callers.submit(send_until_stopped, number) for number in range(4)]
        try:
            others = {"style": {"labels": ["fresco", "mosaic"]}, "era": {"labels": ["baroque", "modern"]}}
            changed = {"labels": labels | others, "max_batch_size": 4}
            service.deploy(changed)
            assert eventually(lambda: labelled(service).new)
            assert eventually(lambda: labelled(service).cached)
        finally:
            stop.set()
        answers = [answer for future in running for answer in future.result()]
    assert {answer.status for answer in answers} == {200}
    assert len(answers) > 20
    old_until_s = min(answer.came_s for answer in answers if answer.new) + VERSION_HOLDS_S
    assert [answer for answer in answers if answer.sent_s > old_until_s and not answer.new] == []
    assert {(answer.new, answer.cached) for answer in answers} >= {(False, True), (True, True)}

    service.deploy({"labels": labels | {"mood": {"labels": []}}}, checked=False)
    assert eventually(lambda: "labels.mood" in analyzer_facts(service).get("refused_change", ""))
    assert labelled(service).new, "nonsense is refused, and the labels stay"
    report = health(service).json()
    assert (report["status"], report["components"]["analyzer"]["active"]) == ("degraded", "clip")
    service.deploy({})
    assert eventually(lambda: "refused_change" not in analyzer_facts(service))
    assert eventually(lambda: not labelled(service).new)


def test_models_are_rolled_under_load_and_of_a_bad_one_nobody_notices(
    service: Service, ollama: FakeOllama, tiny_clip: Path, tmp_path: Path
) -> None:
    def model() -> str:
        report = health(service).json()
        assert report["status"] == "ok"
        return str(report["components"]["analyzer"]["facts"]["model"])

    bad = shutil.copytree(tiny_clip, tmp_path / "bad")
    weights = load_file(bad / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, bad / "model.safetensors", {"format": "pt"})
    good = make_tiny_clip(tmp_path / "good", seed=1)
    form = {"analysis_only": "true"}
    crowd = Crowd(f"{service.url}{ANALYZE}", PHOTOGRAPH, callers=4, pause_s=0.2, form=form)
    with ThreadPoolExecutor(2) as threads, crowd:
        assert crowd.wait_until(lambda outcomes: len(outcomes) > 4)
        assert service.roll(bad) == 1
        assert "visual_projection.weight missing" in service.log()
        assert model() == str(tiny_clip)

        ollama.answer = Answer(tokens=TOKENS, hold_at=0)
        ollama.hold()
        try:
            chats = len(ollama.chats)
            long = threads.submit(analyze, service)
            assert ollama.wait_until(lambda server: len(server.chats) > chats, PATIENCE_S)
            rolling = threads.submit(service.roll, good)
            assert eventually(lambda: model() == str(good), LONG_PATIENCE_S)
            time.sleep(SERVES_OWN_PATIENCE_S)
        finally:
            ollama.release()
        assert long.result().json()["promptSource"] == "ollama"
        assert rolling.result() == 0, service.log()
    assert crowd.told().keys() == {(200, "")}
    assert {outcome.body["analyzer"] for outcome in crowd.outcomes} == {"clip"}


def test_a_writer_that_is_required_and_missing_is_503_with_the_reason(service: Service) -> None:
    response = analyze(service, STRICT)
    assert (response.status_code, response.json()["code"]) == (503, "ollama_unavailable")
    report = health(service, STRICT)
    assert (report.status_code, report.json()["status"]) == (503, "error")
    assert report.json()["analyzer_initialized"] is True
    assert "ollama serve" in report.json()["components"]["writer"]["remedy"]


def test_clip_takes_over_without_a_restart_once_the_hub_is_back(service: Service, hub: LocalHub) -> None:
    body = analyze(service, HUB).json()
    assert body["analyzer"] == "objects"
    assert hub.url in body["warnings"][0]
    report = health(service, HUB).json()
    assert (report["status"], report["components"]["analyzer"]["active"]) == ("degraded", "objects")

    paused, go_on = hub.hold("model.safetensors", after_bytes=200_000)
    hub.start()
    assert paused.wait(PATIENCE_S)
    assert eventually(lambda: "being downloaded: " in health(service, HUB).json()["components"]["analyzer"]["reason"])
    assert analyze(service, HUB).json()["analyzer"] == "objects"
    go_on.set()
    assert eventually(lambda: health(service, HUB).json()["status"] == "ok")
    body = analyze(service, HUB).json()
    assert (body["analyzer"], body["warnings"]) == ("clip", [])
    assert eventually(lambda: "The weights of 'openai/tiny' are in" in service.log())
    assert re.search(r"The weights of 'openai/tiny': \d+ %", service.log())
