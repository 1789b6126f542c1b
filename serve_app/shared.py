"""An answer that all who ask within a while share, so that many askers cost what one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Shared(Generic[Answer]):
    """Asks when somebody wants to know, and not again while that is under way or the answer is fresh.

    Args:
        ask: makes the answer.
        holds_s: how long after it was asked for an answer is given to others, in seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, ask: Callable[[], Coroutine[Any, Any, Answer]], holds_s: float, clock: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._holds_s = holds_s
        self._clock = clock
        self._asked_s = 0.0
        self._asking: asyncio.Task[Answer] | None = None

    async def get(self) -> Answer:
        """Give the answer."""
        now_s = self._clock()
        if self._asking is None or (self._asking.done() and now_s - self._asked_s >= self._holds_s):
            self._asked_s = now_s
            # Of no request's context: Serve cancels the calls that were made in it when its caller leaves.
            self._asking = asyncio.create_task(self._ask(), context=Context())
        return await asyncio.shield(self._asking)
