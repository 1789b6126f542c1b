"""What travels over a stream, and what happens when its reader goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from serve_app.schemas import DeltaEvent
from serve_app.sse import HEARTBEAT, EventStream


async def test_an_event_is_one_line_of_json_in_utf8() -> None:
    sent: list[bytes] = []

    async def events() -> AsyncGenerator[DeltaEvent, None]:
        yield DeltaEvent(text="naïve\n絵")

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await EventStream(events(), heartbeat_s=60).stream_response(send)
    assert b"".join(sent).decode() == 'data: {"status":"delta","text":"naïve\\n絵"}\n\n'


async def test_silence_is_filled_with_comments_and_loses_no_event() -> None:
    quiet = asyncio.Event()

    async def events() -> AsyncGenerator[DeltaEvent, None]:
        yield DeltaEvent(text="before")
        await quiet.wait()
        yield DeltaEvent(text="after")

    async def send(message: Any) -> None:
        chunks.append(message.get("body", b""))
        if chunks.count(HEARTBEAT) == 3:
            quiet.set()

    chunks: list[bytes] = []
    await EventStream(events(), heartbeat_s=0.01).stream_response(send)
    kinds = ["beat" if chunk == HEARTBEAT else chunk for chunk in chunks if chunk]
    assert kinds.count("beat") >= 3
    assert b"before" in kinds[0]
    assert b"after" in kinds[-1]


async def test_no_comment_comes_into_an_event_on_its_way_or_after_the_end() -> None:
    async def events() -> AsyncGenerator[DeltaEvent, None]:
        yield DeltaEvent(text="slowly read")

    async def send(message: Any) -> None:
        begun.append(message.get("body"))
        await asyncio.sleep(5 * heartbeat_s)

    heartbeat_s = 0.01
    begun: list[bytes | None] = []
    await EventStream(events(), heartbeat_s).stream_response(send)
    await asyncio.sleep(5 * heartbeat_s)
    assert begun == [None, b'data: {"status":"delta","text":"slowly read"}\n\n', b""]


@pytest.mark.parametrize("where", ["sending", "waiting"])
async def test_a_reader_that_leaves_closes_the_source_at_once(where: str) -> None:
    """While an event is on its way to it, or while there is none."""
    reached, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[DeltaEvent, None]:
        try:
            if where == "waiting":
                reached.set()
                await asyncio.Event().wait()
            while True:
                yield DeltaEvent(text="x")
        finally:
            closed.set()

    async def send(message: Any) -> None:
        if message.get("body"):
            reached.set()
            await asyncio.Event().wait()

    async with aclosing(events()) as source:
        response = asyncio.create_task(EventStream(source, heartbeat_s=60).stream_response(send))
        await reached.wait()
        response.cancel()
        await asyncio.wait({response})
        assert closed.is_set()
