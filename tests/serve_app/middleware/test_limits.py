"""The bounds of an upload and the gate; tests/serve_app/test_api.py shows what callers are told of the bounds."""

from __future__ import annotations

import asyncio

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
