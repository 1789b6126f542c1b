"""Replicas that are killed under load: who is told what, how many are lost, and that all comes back by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import httpx
import pytest

from tests.faults.conftest import PHOTOGRAPH, TOKENS
from tests.support.crowd import PATIENCE_S, Crowd
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, STREAM
from tests.support.service import Service

pytestmark = [pytest.mark.serve, pytest.mark.usefixtures("ollama")]

CALLERS = 8


def kill_one(service: Service, deployment: str) -> float:
    """Kill a replica as the kernel does when memory is short; gives the time of it."""
    os.kill(service.replicas(deployment)[0], signal.SIGKILL)
    return time.monotonic()


def test_a_stream_whose_writer_is_killed_starts_over(service: Service, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=["A sentence that is never whole, however long ", "one"], ending="stall")
    events: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{service.url}{STREAM}", files={"image": PHOTOGRAPH}, timeout=PATIENCE_S) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                if events[-1]["status"] == "delta" and len(events) == 4:
                    ollama.answer = Answer(TOKENS)
                    kill_one(service, "OllamaDeployment")
    stages = [event["status"] for event in events if event["status"] != "delta"]
    assert stages == ["analyzing", "analyzed", "generating", "generating", "complete"]
    assert "interrupted" in [event for event in events if event["status"] == "generating"][1]["message"]
    assert (events[-1]["generatedPrompt"], events[-1]["promptSource"]) == ("".join(TOKENS), "ollama")
    assert ollama.wait_until(lambda server: server.chats[-2].closed_by_client)


@pytest.mark.parametrize(
    ("running", "deployment", "form"),
    [
        ("service", "ClipDeployment", {"analysis_only": "true"}),
        ("service", "OllamaDeployment", {}),
        ("service", "Ingress", {}),
        ("plain_service", "Ingress", {}),  # another proxy stands before it; what lies behind is the same
    ],
)
def test_a_killed_replica_takes_no_more_with_it_than_was_on_its_way_and_comes_back(
    request: pytest.FixtureRequest, shared_ollama: FakeOllama, running: str, deployment: str, form: dict[str, str]
) -> None:
    shared_ollama.answer = Answer(TOKENS)
    service: Service = request.getfixturevalue(running)
    with Crowd(f"{service.url}{ANALYZE}", PHOTOGRAPH, callers=CALLERS, form=form) as crowd:
        assert crowd.wait_until(lambda outcomes: len(outcomes) > 2 * CALLERS)
        killed_s = kill_one(service, deployment)
        # Every caller, at the mean, has had an answer to what it sent afterwards.
        back = crowd.wait_until(lambda outcomes: sum(o.answered and o.began_s > killed_s for o in outcomes) >= CALLERS)
    assert back, crowd.told()
    lost = [outcome for outcome in crowd.failures if outcome.began_s < killed_s]
    assert {(outcome.status, outcome.code) for outcome in crowd.failures} <= {(503, "component_unavailable")}
    assert all(outcome.retry_after for outcome in crowd.failures)
    assert len(lost) <= CALLERS
    assert service.replicas(deployment)
