"""What travels over a stream, and what happens when its reader goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from serve_app.schemas import DeltaEvent
from serve_app.sse import HEARTBEAT, EventStream


async def sent_by(stream: EventStream) -> list[bytes]:
    chunks: list[bytes] = []

    async def send(message: Any) -> None:
        if message.get("body"):
            chunks.append(message["body"])

    await stream.stream_response(send)
    return chunks


async def test_an_event_is_one_line_of_json_in_utf8() -> None:
    async def events() -> AsyncGenerator[DeltaEvent, None]:
        yield DeltaEvent(text="naïve\n絵")

    (chunk,) = await sent_by(EventStream(events(), heartbeat_s=60))
    assert chunk.decode() == 'data: {"status":"delta","text":"naïve\\n絵"}\n\n'


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


async def test_a_reader_that_stops_while_an_event_is_on_its_way_closes_the_source_at_once() -> None:
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[DeltaEvent, None]:
        try:
            while True:
                yield DeltaEvent(text="x")
        finally:
            closed.set()

    sending = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body"):
            sending.set()
            await asyncio.Event().wait()

    response = asyncio.create_task(EventStream(events(), heartbeat_s=60).stream_response(send))
    await sending.wait()
    response.cancel()
    await asyncio.wait({response})
    assert closed.is_set()


async def test_a_source_that_waits_is_interrupted() -> None:
    waiting, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[DeltaEvent, None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield DeltaEvent(text="never")
        finally:
            closed.set()

    async with aclosing(events()) as source:
        response = asyncio.create_task(sent_by(EventStream(source, heartbeat_s=60)))
        await waiting.wait()
        response.cancel()
        await asyncio.wait({response})
        assert closed.is_set()
