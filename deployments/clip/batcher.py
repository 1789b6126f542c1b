"""Greedy dynamic batching: when the model comes free, take everything that waits, up to the batch size.

No timer: a lone item starts at once, and under load the batch fills while the previous one runs, so its size follows
the backlog. Serve's own `@serve.batch` closes a batch on a timer and then queues it behind the running one, and so
runs batches of 5 where 20 were waiting (measured on Ray 2.60). Same semantics as Triton's default batcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from deployments.errors import QueueFull, ShuttingDown

logger = logging.getLogger("image_analyzer.batcher")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    """An item and who waits for it; compared by identity, because two arrays have no truth value."""

    item: Item
    future: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Runs `run_batch` on what waits, one batch at a time, in `executor`.

    Args:
        run_batch: list in, list of the same length and order out; blocking. If it raises, the batch is halved and
            each half run again, until the failure belongs to single items: a poisoned picture fails alone, and a
            batch too large for the device's memory is served in smaller ones.
        executor: where it runs; one worker, so that the model sees one call at a time.
        max_batch_size: may be set anew at any time; holds from the next batch on.
        max_waiting: items that may wait besides those running.
        retry_after_s: what a refused caller is told to wait.
    """

    def __init__(
        self,
        run_batch: Callable[[list[Item]], Sequence[Result]],
        *,
        executor: Executor,
        max_batch_size: int,
        max_waiting: int,
        retry_after_s: int,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._run_batch = run_batch
        self._executor = executor
        self._max_waiting = max_waiting
        self._retry_after_s = retry_after_s
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many items wait for a batch to take them."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        """Give the item's result once a batch with it has run.

        Cancelling the caller withdraws an item that has not started.

        Raises:
            QueueFull: `max_waiting` items wait already.
            ShuttingDown: the batcher was closed before the item started.
            Exception: whatever `run_batch` raised for this item alone.
        """
        if self._closed:
            raise _shutting_down()
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(
                f"{self._max_waiting} pictures are waiting already; try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        entry = _Waiting[Item, Result](item, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run_until_idle())
        try:
            return await entry.future
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            raise

    async def close(self) -> None:
        """Refuse what waits with `ShuttingDown`, let the running batch end, and take nothing more."""
        self._closed = True
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(_shutting_down())
        if self._runner is not None:
            await self._runner

    async def _run_until_idle(self) -> None:
        try:
            while self._waiting:
                size = min(self.max_batch_size, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(size)]
                await self._run(batch)
        finally:
            self._runner = None

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        batch = [entry for entry in batch if not entry.future.done()]
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._run_batch, [entry.item for entry in batch])
            answers = list(zip(batch, results, strict=True))
        except Exception as error:
            if len(batch) == 1:
                if not batch[0].future.done():
                    batch[0].future.set_exception(error)
                return
            # As text: a log record that holds the error would hold the batch too.
            logger.warning("A batch of %d failed (%s); running it as two halves.", len(batch), str(error))
        else:
            for entry, result in answers:
                if not entry.future.done():
                    entry.future.set_result(result)
            return
        # Out here, and one step of the loop later, the error is gone, and with it the failed batch's tensors, which its
        # traceback held on the device.
        await asyncio.sleep(0)
        half = len(batch) // 2
        await self._run(batch[:half])
        await self._run(batch[half:])


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("This replica is shutting down; send the request again.", retry_after_s=1)
