"""An answer that all who ask within a while share, so that many askers cost what one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Shared(Generic[Answer]):
    """Asks when somebody wants to know what is newer than what is known; one question is away at a time.

    Args:
        ask: makes the answer.
        clock: seconds, monotonic.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Answer]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_s = 0.0
        self._question: asyncio.Task[None] | None = None
        self.latest: Answer | None = None
        """The latest answer, however old."""

    async def get(self, since_s: float) -> Answer:
        """Give an answer to a question that was asked at `since_s` or later.

        Raises:
            Exception: whatever the question that was waited for came to.
        """
        while self.latest is None or self._asked_s < since_s:
            if self._question is None or self._question.done():
                # Of no request's context: Serve cancels the calls that were made in it when its caller leaves.
                self._question = asyncio.create_task(self._put(), context=Context())
            await asyncio.shield(self._question)
        return self.latest

    def learn(self, answer: Answer, asked_s: float) -> None:
        """Take an answer that came unasked, to what was asked of the same part at `asked_s`."""
        if self.latest is None or asked_s >= self._asked_s:
            self.latest, self._asked_s = answer, asked_s

    async def _put(self) -> None:
        asked_s = self._clock()
        self.learn(await self._ask(), asked_s)
