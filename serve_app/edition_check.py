"""Which version answers now, asked often: those who ask together share a question, one is on its way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

from deployments.types import ModelVersion


class EditionCheck:
    """Gives everybody an answer to a question that was asked after they came, as databases commit in groups.

    Args:
        ask: asks the deployment; must end by itself, for those who come meanwhile wait for it.
    """

    def __init__(self, ask: Callable[[], Awaitable[ModelVersion]]) -> None:
        self._ask = ask
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[ModelVersion] | None = None

    async def current(self) -> ModelVersion:
        """Tell the version that answers now; raises what the question raised."""
        if self._next is None:
            # Of no request's context: Serve cancels the calls that were made in it when its caller leaves.
            self._next = asyncio.create_task(self._ask_in_turn(), context=Context())
        return await asyncio.shield(self._next)

    async def _ask_in_turn(self) -> ModelVersion:
        async with self._one_at_a_time:
            # Whoever comes from here on may have come after the answer was made.
            self._next = None
            return await self._ask()
