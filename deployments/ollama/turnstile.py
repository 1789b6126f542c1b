"""A door with a short line in front of it: Ollama would let any number wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.errors import QueueFull


class Turnstile:
    """Lets `max_inside` in at a time, first come first served, and turns away who finds `max_waiting` in line."""

    def __init__(self, *, max_inside: int, max_waiting: int, retry_after_s: int) -> None:
        self._max_inside = max_inside
        self._max_waiting = max_waiting
        self._retry_after_s = retry_after_s
        self._present = 0
        self._door = asyncio.Semaphore(max_inside)

    @property
    def inside(self) -> int:
        """How many have their turn."""
        return min(self._present, self._max_inside)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return self._present - self.inside

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait in line, then hold a place until the block ends. Cancelled while waiting, the place is free again.

        Raises:
            QueueFull: at once, when the line is full.
        """
        if self._present >= self._max_inside + self._max_waiting:
            raise QueueFull(
                f"{self._max_waiting} requests already wait for a prompt, and no more may; "
                f"try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        self._present += 1
        try:
            async with self._door:
                yield
        finally:
            self._present -= 1
