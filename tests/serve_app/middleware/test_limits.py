"""The bounds of an upload and the gate; tests/serve_app/test_api.py shows what callers are told of the bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from serve_app.middleware.limits import STOPPING_RETRY_AFTER_S, BodyLimit
from serve_app.settings import LimitSettings
from tests.support.in_process import HEALTH, Service

TIMEOUT_S = 0.05


async def test_the_time_for_the_upload_is_not_the_time_for_the_answer() -> None:
    received: list[Message] = []

    async def answers_slowly(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        received.append(await receive())

    async def receive() -> Message:
        if not received:
            return {"type": "http.request", "body": b"all of it", "more_body": False}
        await asyncio.sleep(3 * TIMEOUT_S)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing was to be sent")

    limit = BodyLimit(answers_slowly, 100, LimitSettings(upload_timeout_s=TIMEOUT_S))
    await limit({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


async def refused(
    status: int, *brings: bytes, limits: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> list[bytes]:
    """Answer a request with a status at once; give what of its body, which goes on for ever, is left unread."""
    left = [*brings]

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({}, status)(scope, receive, send)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    scope = {"type": "http", "method": "POST", "headers": Headers(headers or {}).raw}
    subject = BodyLimit(refuses, 100, LimitSettings.model_validate({"drain_timeout_s": 5, **(limits or {})}))
    async with asyncio.timeout(1):
        await subject(scope, receive, send)
    assert [message["type"] for message in sent[:2]] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == b"{}"
    assert not sent[-1].get("more_body", False)
    return left


PIECES = [b"x" * 10] * 4


@pytest.mark.parametrize("status", [401, 403, 413, 415, 422, 429, 500, 503])
async def test_of_a_refused_body_the_rest_is_thrown_away(status: int) -> None:
    assert await refused(status, *PIECES) == []


@pytest.mark.parametrize(
    ("limits", "headers", "unread"),
    [
        ({"drain_mib": 15 / 2**20}, {}, 2),
        ({"drain_mib": 15 / 2**20}, {"content-length": "40"}, 4),
        ({}, {"expect": "100-continue"}, 4),
    ],
    ids=["too much", "too much, as declared", "asked first"],
)
async def test_what_is_thrown_away_is_bounded_and_not_what_will_not_come(
    limits: dict[str, Any], headers: dict[str, str], unread: int
) -> None:
    assert len(await refused(413, *PIECES, limits=limits, headers=headers)) == unread


async def test_a_refused_body_that_does_not_come_is_not_waited_for() -> None:
    assert await refused(413, limits={"drain_timeout_s": TIMEOUT_S}) == []


async def test_who_came_too_slowly_or_was_answered_is_not_read_on() -> None:
    assert len(await refused(408, *PIECES)) == len(await refused(200, *PIECES)) == 4


async def test_a_closed_gate_lets_nothing_in_and_is_closed_once_the_last_has_its_answer() -> None:
    service = Service()
    service.reader.hang = True
    last = asyncio.create_task(service.events())
    await service.reader.busy_with(1)
    closing = asyncio.create_task(service.gate.close())
    await asyncio.sleep(0)
    refused = await service.post()
    assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    assert int(refused.headers["retry-after"]) == STOPPING_RETRY_AFTER_S
    assert not closing.done()

    service.reader.hang = False
    service.reader.go_on.set()
    assert (await last)[-1]["status"] == "complete"
    await closing
    async with service.client() as client:
        health = await client.get(HEALTH)
    assert (health.status_code, health.json()["status"], health.json()["stopping"]) == (503, "error", True)
    await asyncio.wait_for(service.gate.close(), TIMEOUT_S)
