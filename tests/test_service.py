"""The three deployments on a real Ray Serve, with a tiny CLIP in hub format and a fake Ollama over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.ollama.settings import OllamaSettings
from serve_app.analysis_cache import VERSION_HOLDS_S
from serve_app.cli.ray_env import SWITCH
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, HEALTH, STREAM
from tests.support.local_hub import LocalHub
from tests.support.pictures import photograph_path
from tests.support.ports import free_port
from tests.support.service import HOST, Service, application

pytestmark = pytest.mark.serve

MAIN, HUB, STRICT = "", "/hub", "/strict"
"""Route prefixes of three applications: everything there; weights still on the hub; parts required and missing."""

PHOTOGRAPH = photograph_path("china").read_bytes()
TOKENS = ["A ", "temple ", "by ", "the ", "lake."]
PATIENCE_S = 30


@pytest.fixture(scope="module", params=["fast", "plain"])
def mode(request: pytest.FixtureRequest) -> str:
    """Serve's mode: `image-analyzer serve` takes the fast one, a bare `serve run` the plain one."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def ollama(mode: str) -> Iterator[FakeOllama]:
    with FakeOllama(tokens=TOKENS) as server:
        yield server


@pytest.fixture(scope="module")
def hub(mode: str, tiny_clip: Path) -> Iterator[LocalHub]:
    """A model hub that is down until a test starts it."""
    hub = LocalHub({"openai/tiny": tiny_clip}, port=free_port())
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def service(
    mode: str, tiny_clip: Path, ollama: FakeOllama, hub: LocalHub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    eager = {"download_retry_first_s": 0.2, "download_retry_max_s": 0.2}
    applications = [
        application("main", "/", {"clip": {"model": str(tiny_clip)}, "ollama": {"hosts": [ollama.url]}}, {}),
        application("hub", HUB, {"clip": {"model": "openai/tiny", **eager}, "ollama": {"hosts": [ollama.url]}}, {}),
        application(
            "strict",
            STRICT,
            {
                "clip": {"model": "nobody/nothing"},
                "ollama": {"hosts": [f"http://127.0.0.1:{free_port()}"]},
                "require_clip": True,
                "require_ollama": True,
                "limits": {"upload_timeout_s": 1},
            },
            {},
        ),
    ]
    switch = "1" if mode == "fast" else "0"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("hf")), SWITCH: switch}
    with Service(applications, environment) as service:
        assert f"Mode:     {mode}" in service.log()
        yield service


@pytest.fixture(autouse=True)
def _ollama_is_up_and_quick(ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS)


def analyze(service: Service, prefix: str = MAIN, image: bytes = PHOTOGRAPH, **form: str) -> httpx.Response:
    return httpx.post(f"{service.url}{prefix}{ANALYZE}", files={"image": image}, data=form, timeout=PATIENCE_S)


def health(service: Service, prefix: str = MAIN) -> httpx.Response:
    return httpx.get(f"{service.url}{prefix}{HEALTH}", timeout=PATIENCE_S)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def unlike_any_other(image: bytes) -> bytes:
    """Add what decoders pass over, so that it is not answered from memory."""
    return image + secrets.token_bytes(8)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if condition():
            return True
    return False


def test_a_photograph_is_analysed_by_clip_and_described_by_ollama(service: Service, ollama: FakeOllama) -> None:
    response = analyze(service, user_prompt="at dusk", deep_thinking="true")
    assert response.status_code == 200
    body = response.json()
    assert (body["analyzer"], body["promptSource"], body["warnings"]) == ("clip", "ollama", [])
    assert body["generatedPrompt"] == "A temple by the lake."
    assert {category: len(labels) for category, labels in body["analysis"].items()} == {
        "style": 3,
        "mood": 3,
        "composition": 3,
        "color_palette": 3,
        "subjects": 3,
    }
    assert body["palette"][0]["hex"].startswith("#")
    sent = ollama.chats[-1].body
    assert sent["model"] == "mistral:latest"
    assert sent["options"] == {"temperature": 0.7, "num_predict": 300, "top_p": 0.9}
    assert "at dusk" in json.dumps(sent["messages"])


def test_the_stream_brings_each_token_as_it_is_written(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, hold_at=1)
    with httpx.stream("POST", f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = events(response)
        first = [next(stream) for _ in range(4)]
        assert [event["status"] for event in first] == ["analyzing", "analyzed", "generating", "delta"]
        assert first[1]["analyzer"] == "clip"
        assert first[3]["text"] == TOKENS[0].strip() or first[3]["text"] == TOKENS[0]
        ollama.release()
        rest = list(stream)
    assert {event["status"] for event in rest[:-1]} == {"delta"}
    assert "".join(event["text"] for event in [first[3], *rest[:-1]]) == "".join(TOKENS)
    assert rest[-1]["status"] == "complete"
    assert rest[-1]["generatedPrompt"] == "A temple by the lake."


def test_errors_keep_the_contract_s_shape_through_serve_s_proxy(service: Service) -> None:
    for image, status, code in [
        (b"hello", 400, "unreadable_image"),
        (b"P6 1 1 255 abc", 415, "format_not_accepted"),
        (b"x" * 21_000_000, 413, "upload_too_large"),
    ]:
        response = analyze(service, image=image)
        assert response.status_code == status
        assert response.json().keys() == {"success", "error", "code"}
        assert response.json()["code"] == code


def test_health_is_ok_and_names_device_and_precision(service: Service) -> None:
    response = health(service)
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["analyzer_initialized"]) == ("ok", True)
    assert body["components"]["analyzer"]["facts"].keys() >= {"model", "device", "precision"}
    assert body["components"]["writer"]["active"] == "ollama"


def test_labels_change_under_load_and_no_request_fails(service: Service) -> None:
    changed = load_labels(DEFAULT_LABELS_FILE).model_dump()
    changed["style"] = {"labels": ["fresco", "mosaic"]}
    stop = threading.Event()

    def send_until_stopped() -> list[tuple[int, str]]:
        outcomes = []
        while not stop.is_set():
            response = analyze(service, image=unlike_any_other(PHOTOGRAPH))
            best = response.json()["analysis"]["style"][0]["value"] if response.status_code == 200 else response.text
            outcomes.append((response.status_code, best))
        return outcomes

    with ThreadPoolExecutor(4) as callers:
        running = [callers.submit(send_until_stopped) for _ in range(4)]
        try:
            service.deploy({"labels": changed, "max_batch_size": 4}, application_name="main")
            new_labels = {"fresco", "mosaic"}
            assert eventually(lambda: analyze(service).json()["analysis"]["style"][0]["value"] in new_labels)
        finally:
            stop.set()
        outcomes = [outcome for future in running for outcome in future.result()]
    assert {status for status, _ in outcomes} == {200}, [outcome for outcome in outcomes if outcome[0] != 200]
    assert len(outcomes) > 20
    service.deploy({}, application_name="main")
    assert eventually(lambda: analyze(service).json()["analysis"]["style"][0]["value"] not in new_labels)


def test_nonsense_for_labels_is_refused_and_the_old_ones_stay(service: Service) -> None:
    service.deploy({"labels": {"style": {"labels": ["x"]}}}, application_name="main", checked=False)
    assert eventually(lambda: "refused_change" in health(service).json()["components"]["analyzer"]["facts"])
    assert analyze(service).status_code == 200
    assert "labels.mood" in health(service).json()["components"]["analyzer"]["facts"]["refused_change"]
    service.deploy({}, application_name="main")
    assert eventually(lambda: "refused_change" not in health(service).json()["components"]["analyzer"]["facts"])


def test_ollama_stops_and_the_composer_writes_and_ollama_comes_back(service: Service, ollama: FakeOllama) -> None:
    ollama.stop()
    try:
        body = analyze(service).json()
        assert (body["promptSource"], body["analyzer"]) == ("template", "clip")
        assert len(body["generatedPrompt"]) > 40
        assert "ollama serve" in body["warnings"][0]
        report = health(service).json()
        assert report["status"] == "degraded"
        assert "ollama serve" in report["components"]["writer"]["remedy"]
    finally:
        ollama.start()
    assert analyze(service).json()["promptSource"] == "ollama"
    assert health(service).json()["status"] == "ok"


def test_ollama_dying_midway_voids_the_text_and_the_composer_finishes(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS[:2], ending="cut")
    with httpx.stream("POST", f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S) as response:
        received = list(events(response))
    statuses = [event["status"] for event in received]
    assert statuses[-1] == "complete"
    assert statuses.count("generating") == 2
    assert received[-1]["promptSource"] == "template"


@pytest.mark.parametrize("headers", [{}, {"x-request-disconnect-disabled": "?1"}], ids=["", "asking not to"])
@pytest.mark.parametrize("route", [STREAM, ANALYZE])
def test_a_caller_that_leaves_stops_the_generation(
    service: Service, ollama: FakeOllama, route: str, headers: dict[str, str]
) -> None:
    ollama.answer = Answer(tokens=TOKENS, ending="stall")
    chats_before = len(ollama.chats)

    def writing(server: FakeOllama) -> bool:
        return len(server.chats) > chats_before and len(server.chats[-1].sent_at_s) > 0

    async def leave_while_it_writes() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            request = client.post(f"{service.url}{route}", files={"image": PHOTOGRAPH}, headers=headers)
            posting = asyncio.create_task(request)
            assert await asyncio.to_thread(ollama.wait_until, writing, PATIENCE_S)
            posting.cancel()
            await asyncio.wait({posting})

    asyncio.run(leave_while_it_writes())
    assert ollama.wait_until(lambda server: server.chats[-1].closed_by_client)
    ollama.answer = Answer(tokens=TOKENS)
    assert analyze(service).json()["promptSource"] == "ollama", "its place in the line must be free again"


def test_a_sender_that_stops_midway_is_told_so(service: Service) -> None:
    head = (
        f"POST {STRICT}{ANALYZE} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    with socket.create_connection((HOST, service.port), PATIENCE_S) as connection:
        connection.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"upload_too_slow" in answer


def test_a_caller_cannot_set_the_service_s_timeout(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, interval_s=0.1)
    response = httpx.post(
        f"{service.url}{ANALYZE}",
        files={"image": PHOTOGRAPH},
        headers={"x-request-timeout-seconds": "0.2"},
        timeout=PATIENCE_S,
    )
    assert response.status_code == 200, "Serve's own limit, of 240 s, holds"
    assert response.json()["promptSource"] == "ollama"


def test_pictures_arriving_together_are_all_answered(service: Service) -> None:
    names = ["china", "flower", "coffee", "rocket", "chelsea", "astronaut", "page", "retina"]
    uploads = [photograph_path(name).read_bytes() for name in names]
    alone = [analyze(service, image=upload).json()["analysis"] for upload in uploads]
    with ThreadPoolExecutor(8) as callers:
        others = map(unlike_any_other, uploads)
        together = list(callers.map(lambda upload: analyze(service, image=upload).json()["analysis"], others))
    for expected, found in zip(alone, together, strict=True):
        for category, labels in expected.items():
            assert [label["score"] for label in found[category]] == pytest.approx(
                [label["score"] for label in labels], abs=2e-2
            )


def test_of_a_crowd_those_refused_are_told_by_us_when_to_come_back(service: Service, ollama: FakeOllama) -> None:
    callers, writing_or_in_line = 128, OllamaSettings().max_parallel + OllamaSettings().max_waiting
    ollama.answer = Answer(tokens=TOKENS, hold_at=0)

    async def crowd() -> tuple[list[httpx.Response], list[httpx.Response]]:
        limits = httpx.Limits(max_connections=callers)
        async with httpx.AsyncClient(timeout=PATIENCE_S, limits=limits) as client:
            posting = {
                asyncio.create_task(client.post(f"{service.url}{ANALYZE}", files={"image": PHOTOGRAPH}))
                for _ in range(callers)
            }
            refused: list[httpx.Response] = []
            while len(refused) < callers - writing_or_in_line:
                done, posting = await asyncio.wait(posting, return_when=asyncio.FIRST_COMPLETED)
                refused += [task.result() for task in done]
            ollama.release()
            return refused, await asyncio.gather(*posting)

    refused, answered = asyncio.run(crowd())
    assert {(response.status_code, response.json()["code"]) for response in refused} == {(429, "queue_full")}
    assert all(int(response.headers["retry-after"]) > 0 for response in refused)
    assert [response.status_code for response in answered] == [200] * writing_or_in_line


def test_parts_that_are_required_and_missing_are_503_with_the_reason(service: Service) -> None:
    response = analyze(service, STRICT)
    assert (response.status_code, response.json()["code"]) == (503, "clip_unavailable")
    assert "nobody/nothing" in response.json()["error"]
    assert int(response.headers["retry-after"]) > 0
    report = health(service, STRICT)
    assert (report.status_code, report.json()["status"]) == (503, "error")
    assert report.json()["analyzer_initialized"] is False
    assert "ollama serve" in report.json()["components"]["writer"]["remedy"]


def test_clip_takes_over_without_a_restart_once_the_hub_is_back(service: Service, hub: LocalHub) -> None:
    body = analyze(service, HUB).json()
    assert body["analyzer"] == "pixels"
    assert hub.url in body["warnings"][0]
    report = health(service, HUB).json()
    assert (report["status"], report["components"]["analyzer"]["active"]) == ("degraded", "pixels")

    paused, go_on = hub.hold("model.safetensors", after_bytes=200_000)
    hub.start()
    assert paused.wait(PATIENCE_S)
    assert eventually(lambda: "being downloaded: " in health(service, HUB).json()["components"]["analyzer"]["reason"])
    assert analyze(service, HUB).json()["analyzer"] == "pixels"
    go_on.set()
    assert eventually(lambda: health(service, HUB).json()["status"] == "ok")
    body = analyze(service, HUB).json()
    assert (body["analyzer"], body["warnings"]) == ("clip", [])
    assert eventually(lambda: "The weights of 'openai/tiny' are in" in service.log())
    assert re.search(r"The weights of 'openai/tiny': \d+ %", service.log())


def test_the_same_bytes_again_are_answered_from_memory(service: Service) -> None:
    image = unlike_any_other(PHOTOGRAPH)
    first, second = (analyze(service, image=image, analysis_only="true").json() for _ in range(2))
    assert (first["cached"], second["cached"]) == (False, True)
    assert (second["analysis"], second["palette"]) == (first["analysis"], first["palette"])
    assert second["timings"].keys() == {"total"}
    assert (second["generatedPrompt"], second["promptSource"]) == ("", "none")
    with httpx.stream("POST", f"{service.url}{STREAM}", files={"image": image}, timeout=PATIENCE_S) as response:
        analyzed = [event for event in events(response) if event["status"] == "analyzed"]
    assert [(event["cached"], event["analysis"]) for event in analyzed] == [(True, first["analysis"])]


def test_no_old_label_is_remembered_a_second_after_new_ones_were_seen(service: Service) -> None:
    labels = load_labels(DEFAULT_LABELS_FILE).model_dump()
    changed = {**labels, "style": {"labels": ["fresco", "mosaic"]}}
    stop = threading.Event()

    def send_until_stopped(image: bytes) -> list[tuple[float, float, bool, bool]]:
        """Give, for each answer, when it was asked for and came, whether its labels are new, and whether remembered."""
        answers = []
        while not stop.is_set():
            sent_s = time.monotonic()
            body = analyze(service, image=image, analysis_only="true").json()
            new = body["analysis"]["style"][0]["value"] in {"fresco", "mosaic"}
            answers.append((sent_s, time.monotonic(), new, body["cached"]))
        return answers

    with ThreadPoolExecutor(4) as callers:
        running = [callers.submit(send_until_stopped, PHOTOGRAPH + bytes([i % 2])) for i in range(4)]
        try:
            service.deploy({"labels": changed}, application_name="main")
            assert eventually(lambda: analyze(service).json()["analysis"]["style"][0]["value"] in {"fresco", "mosaic"})
            assert eventually(lambda: analyze(service).json()["cached"])
        finally:
            stop.set()
        answers = [answer for future in running for answer in future.result()]
    old_until_s = min(came_s for _, came_s, new, _ in answers if new) + VERSION_HOLDS_S
    assert [answer for answer in answers if answer[0] > old_until_s and not answer[2]] == []
    assert {(new, cached) for _, _, new, cached in answers} >= {(False, True), (True, True)}
    service.deploy({}, application_name="main")
    assert eventually(lambda: analyze(service).json()["analysis"]["style"][0]["value"] not in {"fresco", "mosaic"})
