"""Events as `text/event-stream`: one `data:` line of JSON each, and a comment whenever it has been quiet for long.

FastAPI's own event streams are not used: their keep-alive task raises when a client leaves while an event is on its
way (BrokenResourceError, FastAPI 0.165), and the prompt would go on being written until the garbage collector comes by.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

HEARTBEAT = b": still working\n\n"


class EventStream(StreamingResponse):
    """A response of Server-Sent Events that no proxy buffers; closes `events` as soon as the client is gone.

    An event is sent by the task that waited for it: a task of its own for each, to wait with a time limit, would
    double what a piece of a prompt costs here, and let those of many streams that come together wait for one another.

    Args:
        events: what to send; absent fields are left out.
        heartbeat_s: silence after which a comment is sent, in seconds.
        ended: called when all is over, whether or not the events were begun.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[BaseModel, None], heartbeat_s: float, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._ended = ended
        super().__init__((), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

    async def stream_response(self, send: Send) -> None:
        """Send the events, then close them however this ended."""
        clock = asyncio.get_running_loop().time
        quiet_since_s = math.inf

        async def send_and_note(message: Message) -> None:
            nonlocal quiet_since_s
            quiet_since_s = math.inf
            await send(message)
            quiet_since_s = clock()

        async def fill_silence() -> None:
            while True:
                left_s = quiet_since_s + self._heartbeat_s - clock()
                if left_s > 0:
                    await asyncio.sleep(min(left_s, self._heartbeat_s))
                else:
                    await send_and_note({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})

        heart = asyncio.create_task(fill_silence())
        try:
            async with aclosing(self._events) as events:
                await send_and_note(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                event = await anext(events, None)
                while event is not None:
                    try:
                        line = b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"
                    except Exception as error:  # Of what no JSON can hold, the events have to tell by another.
                        event = await events.athrow(error)
                        continue
                    await send_and_note({"type": "http.response.body", "body": line, "more_body": True})
                    event = await anext(events, None)
                await send_and_note({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
