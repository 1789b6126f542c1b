"""Ollama, the hub, the disk and the model failing in every way that we know of, on a real Ray Serve."""

from __future__ import annotations

import asyncio
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.faults.conftest import FULL_DISK, PHOTOGRAPH, TOKENS
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.frail_clip import POISON, TOO_MUCH
from tests.support.in_process import ANALYZE, HEALTH, STREAM
from tests.support.pictures import PHOTOGRAPHS, photograph_path
from tests.support.service import Service

pytestmark = pytest.mark.serve

PATIENCE_S = 30
LEFT_LIMIT_S = 0.5
"""Longest until Ollama is told that a caller has left."""


def analyze(service: Service, prefix: str = "", image: bytes = PHOTOGRAPH, **form: str) -> httpx.Response:
    return httpx.post(f"{service.url}{prefix}{ANALYZE}", files={"image": image}, data=form, timeout=PATIENCE_S)


def last_event(service: Service) -> dict[str, Any]:
    response = httpx.post(f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S)
    last: dict[str, Any] = json.loads(response.text.strip().rpartition("data: ")[2])
    return last


def health(service: Service, prefix: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{service.url}{prefix}{HEALTH}", timeout=PATIENCE_S).json()
    return answer


def plain(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


SOME_WORDS = " ".join(f"word{number}" for number in range(2000))

FAULTS = {
    "hangs before the first token": Answer(ending="stall"),
    "hangs midway": Answer(TOKENS[:2], ending="stall"),
    "dies midway": Answer(TOKENS[:2], ending="cut"),
    "ends without done": Answer(TOKENS[:2], ending="quiet"),
    "sends a broken line": Answer(TOKENS[:2], ending="broken_line"),
    "sends an error line": Answer(TOKENS[:2], ending="error"),
    "answers nothing": Answer(),
    "answers blanks": Answer([" ", "\n"]),
    "answers nothing but garbage": Answer([b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"]),
    "fails at once": Answer(status=500),
    "is busy": Answer(status=503, error="server busy"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_ollama_does_the_caller_gets_a_prompt_and_the_reason(
    service: Service, ollama: FakeOllama, fault: str
) -> None:
    ollama.answer = FAULTS[fault]
    response = analyze(service)
    body = response.json()
    assert (response.status_code, body["promptSource"]) == (200, "template")
    assert body["generatedPrompt"]
    assert "Ollama" in body["warnings"][0]
    last = last_event(service)
    assert (last["status"], last["promptSource"]) == ("complete", "template")
    ollama.answer = Answer(TOKENS)
    assert analyze(service).json()["promptSource"] == "ollama", "its place in the line must be free again"


def test_garbage_between_words_costs_only_itself(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(["A ", b"\xff\xfe", "temple."])
    assert analyze(service).json()["generatedPrompt"] == "A temple."


def test_an_endless_answer_is_cut_by_length_or_by_time(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer([f"{SOME_WORDS} "], ending="endless")
    body = analyze(service).json()
    assert len(body["generatedPrompt"]) <= 8000
    assert "cut" in body["warnings"][0]
    ollama.answer = Answer(SOME_WORDS.split(), interval_s=0.3, ending="endless")
    began_s = time.monotonic()
    assert analyze(service).json()["promptSource"] == "template"
    assert time.monotonic() - began_s < 2 * 3


def test_ollama_refusing_is_told_with_the_command_that_helps(service: Service, ollama: FakeOllama) -> None:
    ollama.stop()
    try:
        body = analyze(service).json()
        assert body["promptSource"] == "template"
        assert "ollama serve" in body["warnings"][0]
    finally:
        ollama.start()
    assert analyze(service).json()["promptSource"] == "ollama"


def test_a_model_deleted_while_it_serves_is_told_with_the_command_that_helps(
    service: Service, ollama: FakeOllama
) -> None:
    ollama.models = []
    body = analyze(service).json()
    assert body["promptSource"] == "template"
    assert "ollama pull mistral:latest" in body["warnings"][0]
    assert "ollama pull" in health(service)["components"]["writer"]["remedy"]


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
def test_callers_that_leave_free_ollama_within_half_a_second_and_leave_nothing_behind(
    service: Service, ollama: FakeOllama, route: str
) -> None:
    ollama.answer = Answer(TOKENS, ending="stall")
    files_before = open_files(service)

    async def leave() -> float:
        chats = len(ollama.chats)
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            posting = {
                asyncio.create_task(client.post(f"{service.url}{route}", files={"image": PHOTOGRAPH})) for _ in range(5)
            }
            await ollama.wait_for_chats(chats + 1)
            for task in posting:
                task.cancel()
            await asyncio.wait(posting)
        left_s = time.monotonic()
        assert await asyncio.to_thread(
            ollama.wait_until, lambda server: all(chat.closed_by_client for chat in server.chats[chats:]), PATIENCE_S
        )
        return time.monotonic() - left_s

    assert max(asyncio.run(leave()) for _ in range(5)) < LEFT_LIMIT_S
    facts = health(service)["components"]["writer"]["facts"]
    assert (facts["writing"], facts["waiting"]) == (0, 0)
    assert open_files(service) <= files_before + 2
    ollama.answer = Answer(TOKENS)
    assert analyze(service).json()["promptSource"] == "ollama"


def open_files(service: Service) -> int:
    replicas = (pid for name in ("Ingress", "OllamaDeployment", "ClipDeployment") for pid in service.replicas(name))
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in replicas)


def test_a_poisoned_picture_fails_alone_and_what_does_not_fit_says_so(service: Service) -> None:
    photographs = [photograph_path(name).read_bytes() for name in list(PHOTOGRAPHS)[:10]]
    uploads = [plain(POISON), *photographs[:5], plain(TOO_MUCH), *photographs[5:]]
    with ThreadPoolExecutor(len(uploads)) as callers:
        answers = list(callers.map(lambda image: analyze(service, image=image, analysis_only="true"), uploads))
    codes = [(answer.status_code, answer.json().get("code", answer.json().get("analyzer"))) for answer in answers]
    assert codes[0] == (500, "internal_error")
    assert codes[6] == (503, "out_of_memory")
    assert {*codes[1:6], *codes[7:]} == {(200, "clip")}


def test_a_full_disk_is_told_and_the_stand_in_answers_meanwhile(service: Service, small_disk: Path | None) -> None:
    if small_disk is None:
        pytest.skip("only root may mount a small disk")
    body = analyze(service, FULL_DISK, analysis_only="true").json()
    assert body["analyzer"] == "objects"
    assert "no room" in body["warnings"][0]
    component = health(service, FULL_DISK)["components"]["analyzer"]
    assert (component["status"], component["active"]) == ("fallback", "objects")
    assert "Free some space" in component["remedy"]
