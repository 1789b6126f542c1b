"""What a person is told of the service's health, at the start and when it changes."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from serve_app.cli.config import ServiceConfig
from serve_app.cli.health import HealthNews, ask_health, describe, has_started
from serve_app.cli.ray_env import Mode
from serve_app.cli.serve import banner
from serve_app.schemas import ComponentHealth
from tests.serve_app.cli.conftest import DOWNLOADING, NO_OLLAMA, NOT_YET, READY_CLIP, health_answer


def asked(config: ServiceConfig, status: int, body: str) -> bool:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    return ask_health(config, transport) is not None


@pytest.mark.parametrize("status", [200, 503])
def test_our_answer_counts_whatever_its_status(config: ServiceConfig, status: int) -> None:
    assert asked(config, status, health_answer().model_dump_json())


@pytest.mark.parametrize("body", ["no such path", "{}", "[1]"])
def test_another_programs_answer_does_not(config: ServiceConfig, body: str) -> None:
    assert not asked(config, 200, body)


def test_no_answer_is_none(config: ServiceConfig) -> None:
    assert ask_health(config) is None


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


def test_the_banner_names_the_address_and_the_docs(config: ServiceConfig) -> None:
    shown = banner(config, Mode({}), health_answer(), 14.2)
    assert f"listens at {config.url}, after 14 s" in shown
    assert f"{config.url}/docs" in shown
    assert "→ Start it: ollama serve" in shown


def test_the_banner_warns_where_others_may_call_and_nobody_is_asked_for_a_key(config: ServiceConfig) -> None:
    reachable = dataclasses.replace(config, host="0.0.0.0")  # noqa: S104
    guarded = health_answer().model_copy(update={"key_required": True})
    assert "nobody is asked for a key" in banner(reachable, Mode({}), health_answer(), 14.2)
    assert "nobody is asked for a key" not in banner(reachable, Mode({}), guarded, 14.2)
    assert "nobody is asked for a key" not in banner(config, Mode({}), health_answer(), 14.2)


def test_the_banner_tells_the_mode_and_why_it_is_the_plain_one(config: ServiceConfig) -> None:
    fast = banner(config, Mode({}), health_answer(), 14.2)
    plain = banner(config, Mode({}, plain_because="there is no HAProxy"), health_answer(), 14.2)
    assert "  Mode:     fast\n" in fast
    assert "  Mode:     plain: there is no HAProxy\n" in plain


class TestNews:
    def test_the_first_answer_and_the_same_again_are_no_news(self) -> None:
        news = HealthNews()
        assert list(news.lines(health_answer(), 0)) == []
        assert list(news.lines(health_answer(), 5)) == []

    def test_a_part_that_takes_over_is_told(self) -> None:
        news = HealthNews()
        list(news.lines(health_answer(DOWNLOADING), 0))
        assert list(news.lines(health_answer(READY_CLIP), 5)) == ["analyzer: pixels → clip"]

    def test_a_part_that_falls_back_is_told_with_its_remedy(self) -> None:
        news = HealthNews()
        list(news.lines(health_answer(writer=ComponentHealth(status="ready", active="ollama")), 0))
        assert list(news.lines(health_answer(writer=NO_OLLAMA), 5)) == [
            "writer: ollama → template",
            "    Ollama does not answer.",
            "    → Start it: ollama serve",
        ]

    def test_a_download_is_told_now_and_then(self) -> None:
        news = HealthNews(number_interval_s=15)
        told: dict[int, list[str]] = {}
        for now_s in range(0, 40, 5):
            part = DOWNLOADING.model_copy(update={"reason": f"Downloading: {10 + now_s} % so far."})
            told[now_s] = list(news.lines(health_answer(part), now_s))
        assert [now_s for now_s, lines in told.items() if lines] == [15, 30]
        assert told[15] == ["analyzer: pixels", "    Downloading: 25 % so far.", "    → CLIP takes over by itself."]

    def test_silence_and_return_are_told_once_each(self) -> None:
        news = HealthNews()
        list(news.lines(health_answer(), 0))
        told = [list(news.lines(answer, 1)) for answer in (None, None, health_answer(), health_answer())]
        assert told == [["The service does not answer."], [], ["The service answers again."], []]
