"""Events as `text/event-stream`: one `data:` line of JSON each, and a comment whenever it has been quiet for long.

FastAPI's own event streams are not used: their keep-alive task raises when a client leaves while an event is on its
way (BrokenResourceError, FastAPI 0.165), and the prompt would go on being written until the garbage collector comes by.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Send

HEARTBEAT = b": still working\n\n"


class EventStream(StreamingResponse):
    """A response of Server-Sent Events that no proxy buffers; closes `events` as soon as the client is gone.

    Args:
        events: what to send; absent fields are left out.
        heartbeat_s: silence after which a comment is sent, in seconds.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[BaseModel, None], heartbeat_s: float) -> None:
        self._chunks = _encode(events, heartbeat_s)
        super().__init__(self._chunks, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        """Send the events, then close them however this ended."""
        async with aclosing(self._chunks):
            await super().stream_response(send)


async def _encode(events: AsyncGenerator[BaseModel, None], heartbeat_s: float) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        upcoming = _next(events)
        try:
            while True:
                arrived, _ = await asyncio.wait({upcoming}, timeout=heartbeat_s)
                if not arrived:
                    yield HEARTBEAT
                    continue
                try:
                    event = upcoming.result()
                except StopAsyncIteration:
                    return
                upcoming = _next(events)
                yield b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"
        finally:
            upcoming.cancel()
            await asyncio.wait({upcoming})


def _next(events: AsyncIterator[BaseModel]) -> asyncio.Task[Any]:
    async def step() -> BaseModel:
        return await anext(events)

    return asyncio.create_task(step())
