"""The bounds of an upload, without a server; tests/serve_app/test_api.py shows what callers are told."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from serve_app.middleware.limits import BodyLimit

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

    limit = BodyLimit(answers_slowly, max_bytes=100, timeout_s=TIMEOUT_S)
    await limit({"type": "http", "headers": []}, receive, send)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
