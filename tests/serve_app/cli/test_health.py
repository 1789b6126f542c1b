"""What a person is told of the service's health, at the start and when it changes."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from serve_app.cli.config import ServiceConfig
from serve_app.cli.health import HealthNews, ask_health, describe, has_started
from serve_app.cli.ray_env import Mode
from serve_app.cli.serve import banner
from serve_app.schemas import ComponentHealth, HealthAnswer
from tests.serve_app.cli.conftest import DOWNLOADING, NO_OLLAMA, NOT_YET, READY_CLIP, health_answer

OURS = health_answer().model_dump_json()


@pytest.mark.parametrize(
    ("status", "body", "ours"),
    [(200, OURS, True), (503, OURS, True), (200, "no such path", False), (200, "{}", False), (200, "[1]", False)],
)
def test_our_answer_counts_whatever_its_status_and_another_program_s_does_not(
    config: ServiceConfig, status: int, body: str, ours: bool
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    assert (ask_health(config, transport) is not None) is ours
    assert ask_health(config) is None, "where nobody listens"


@pytest.mark.parametrize(
    ("analyzer", "started"),
    [
        (READY_CLIP, True),
        (DOWNLOADING, True),
        (NOT_YET, False),
        (ComponentHealth(status="unavailable", active="none", reason="No weights.", facts={"waiting": 0}), True),
        (ComponentHealth(status="ready", active="clip"), True),
    ],
)
def test_it_has_started_once_every_part_has_been_heard(analyzer: ComponentHealth, started: bool) -> None:
    assert has_started(health_answer(analyzer)) is started
    assert not has_started(None)


def test_each_part_is_described_with_what_it_lacks() -> None:
    assert list(describe(health_answer(READY_CLIP, NO_OLLAMA))) == [
        "✓ analyzer: clip · openai/clip · cpu · bfloat16",
        "✗ writer:   template (stand-in)",
        "    Ollama does not answer.",
        "    → Start it: ollama serve",
    ]


def test_clip_that_refuses_a_change_is_no_stand_in() -> None:
    refusing = ComponentHealth(status="fallback", active="clip", reason="A change was refused.", remedy="Correct it.")
    assert list(describe(health_answer(refusing)))[:3] == [
        "✗ analyzer: clip",
        "    A change was refused.",
        "    → Correct it.",
    ]


def test_the_banner_names_the_address_the_docs_and_the_mode(config: ServiceConfig) -> None:
    shown = banner(config, Mode({}), health_answer(), 14.2)
    assert f"listens at {config.url}, after 14 s" in shown
    assert f"{config.url}/docs" in shown
    assert "→ Start it: ollama serve" in shown
    assert "  Mode:     fast\n" in shown
    assert f"curl -F image=@PICTURE {config.url}/api/images/analyze" in shown
    guarded = health_answer().model_copy(update={"key_required": True})
    told = banner(config, Mode({}), guarded, 14.2)
    assert f"curl -H 'Authorization: Bearer KEY' -F image=@PICTURE {config.url}/api/images/analyze" in told
    plain = banner(config, Mode({}, plain_because="there is no HAProxy"), health_answer(), 14.2)
    assert "  Mode:     plain: there is no HAProxy\n" in plain


EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("host", "key_required", "warned"),
    [(EVERYWHERE, False, True), (EVERYWHERE, True, False), ("127.0.0.1", False, False)],
)
def test_the_banner_warns_where_others_may_call_and_nobody_is_asked_for_a_key(
    config: ServiceConfig, host: str, key_required: bool, warned: bool
) -> None:
    health = health_answer().model_copy(update={"key_required": key_required})
    told = banner(dataclasses.replace(config, host=host), Mode({}), health, 14.2)
    assert ("nobody is asked for a key" in told) is warned


NO_WRITER = [
    "writer: ollama → template",
    "    Ollama does not answer.",
    "    → Start it: ollama serve",
]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (health_answer(), health_answer(), []),
        (health_answer(DOWNLOADING), health_answer(READY_CLIP), ["analyzer: pixels → clip"]),
        (health_answer(writer=ComponentHealth(status="ready", active="ollama")), health_answer(), NO_WRITER),
    ],
)
def test_a_part_that_takes_over_or_falls_back_is_news(before: HealthAnswer, now: HealthAnswer, told: list[str]) -> None:
    news = HealthNews()
    assert list(news.lines(before, 0)) == []
    assert list(news.lines(now, 5)) == told


def test_a_download_is_told_now_and_then() -> None:
    news = HealthNews(number_interval_s=15)
    told: dict[int, list[str]] = {}
    for now_s in range(0, 40, 5):
        part = DOWNLOADING.model_copy(update={"reason": f"Downloading: {10 + now_s} % so far."})
        told[now_s] = list(news.lines(health_answer(part), now_s))
    assert [now_s for now_s, lines in told.items() if lines] == [15, 30]
    assert told[15] == ["analyzer: pixels", "    Downloading: 25 % so far.", "    → CLIP takes over by itself."]


def test_silence_and_return_are_told_once_each() -> None:
    news = HealthNews()
    told = [list(news.lines(now, 1)) for now in (health_answer(), None, None, health_answer(), health_answer())]
    assert told == [[], ["The service does not answer."], [], ["The service answers again."], []]
