"""Joins what comes faster than it is worth sending: a hop between processes costs by the piece, not by the byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from deployments.types import PromptDelta, PromptPiece, PromptWaiting

Take = Callable[[PromptPiece], None]
Result = TypeVar("Result")


class Coalescer(Generic[Result]):
    """Passes the first piece of text on at once, later ones joined; enter it to begin, leave it to stop the source.

    The source is read ahead in a task of its own, so a slow consumer gets longer pieces and not a longer delay,
    and the source ends when it has no more and not when the consumer has taken all. How far ahead is the
    source's to bound.

    Args:
        read: runs the source, giving each event to the function that it is called with; what it returns is the result.
        flush_interval_s: says how long after each piece the next may come.
    """

    result: Result

    def __init__(
        self, read: Callable[[Take], Coroutine[Any, Any, Result]], flush_interval_s: Callable[[], float]
    ) -> None:
        self._read = read
        self._flush_interval_s = flush_interval_s
        self._held: list[PromptPiece] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._flush_at_s = self._loop.time()
        self._reader = asyncio.create_task(self._read(self._take))
        self._reader.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def events(self) -> list[PromptPiece]:
        """Give what has come since last time; nothing where the source has ended, and `result` is there.

        Raises:
            Exception: whatever the source raised, after everything that it gave before.
        """
        while self._held or not self._reader.done():
            await self._news.wait()
            wait_s = self._flush_at_s - self._loop.time()
            if wait_s > 0 and not self._reader.done():
                await asyncio.wait({self._reader}, timeout=wait_s)
            self._news.clear()
            if self._held:
                events, self._held = self._held, []
                if any(isinstance(event, PromptDelta) for event in events):
                    self._flush_at_s = self._loop.time() + self._flush_interval_s()
                return events
        self.result = await self._reader
        return []

    def _take(self, event: PromptPiece) -> None:
        last = self._held[-1] if self._held else None
        if isinstance(last, PromptDelta) and isinstance(event, PromptDelta):
            self._held[-1] = PromptDelta(last.text + event.text)
        elif isinstance(last, PromptWaiting) and isinstance(event, PromptWaiting):
            self._held[-1] = event
        else:
            self._held.append(event)
        self._news.set()
