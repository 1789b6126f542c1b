"""Greedy dynamic batching: when a runner comes free, take everything that waits, up to the batch size.

No timer: a lone item starts at once, and under load a batch fills while the previous one runs, so its size follows
the backlog. Serve's own `@serve.batch` closes a batch on a timer and then queues it behind the running one, and so
runs batches of 5 where 20 were waiting (measured on Ray 2.60). Same semantics as Triton's default batcher.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from deployments.errors import QueueFull, ShuttingDown

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batching(NamedTuple):
    """How many batches may run at a time, and of how many items.

    `min_beside` must wait for a batch to be started beside a running one: fewer are better off, and cost less, in the
    larger batch that comes when it ends.
    """

    streams: int
    batch_size: int
    min_beside: int = 1


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    """An item and who waits for it; compared by identity, because two arrays have no truth value."""

    item: Item
    future: asyncio.Future[Result]
    since_s: float


class Batcher(Generic[Item, Result]):
    """Runs `run` on what waits.

    Args:
        run: list in, and per item, in order, its result or the exception that is its alone. What it raises, every item
            of the batch gets.
        stoppable: cancel `run` when nobody waits for its batch any more. Work in a thread is not: it would go on, and
            another batch beside it.
        batching: may be set anew and holds from the next batch.
        max_waiting: items that may wait besides those running.
        retry_after_s: what a refused caller is told to wait.
        started: told, as a batch starts, how many seconds each item of it has waited.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        stoppable: bool,
        batching: Batching,
        max_waiting: int,
        retry_after_s: int,
        started: Callable[[Sequence[float]], None] | None = None,
    ) -> None:
        self.batching = batching
        self._run_batch = run
        self._stoppable = stoppable
        self._max_waiting = max_waiting
        self._retry_after_s = retry_after_s
        self._started = started
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many items wait for a batch to take them."""
        return len(self._waiting)

    async def submit(self, item: Item, *, urgent: bool = False) -> Result:
        """Give the item's result once a batch with it has run.

        Cancelling the caller withdraws an item that has not started.

        Args:
            item: to be run.
            urgent: before all that wait, however many they are.

        Raises:
            QueueFull: `max_waiting` items wait already.
            ShuttingDown: the batcher was closed before the item started.
            Exception: whatever `run` gave for this item.
        """
        if self._closed:
            raise _shutting_down()
        if len(self._waiting) >= self._max_waiting and not urgent:
            raise QueueFull(
                f"{self._max_waiting} requests are waiting already; try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        loop = asyncio.get_running_loop()
        entry = _Waiting[Item, Result](item, loop.create_future(), loop.time())
        (self._waiting.appendleft if urgent else self._waiting.append)(entry)
        # Once whatever else arrives in this turn of the loop waits too, so that it travels together.
        loop.call_soon(self._start)
        try:
            return await entry.future
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            raise

    async def close(self) -> None:
        """Refuse what waits with `ShuttingDown`, let the running batches end, and take nothing more."""
        self._closed = True
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(_shutting_down())
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self.batching.streams:
            if self._running and len(self._waiting) < self.batching.min_beside:
                return
            size = min(self.batching.batch_size, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            if self._started is not None:
                now_s = asyncio.get_running_loop().time()
                self._started([now_s - entry.since_s for entry in batch])
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)
            if self._stoppable:
                for entry in batch:
                    entry.future.add_done_callback(functools.partial(_stop_if_abandoned, task, batch))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._run_batch([entry.item for entry in batch])
            answers = list(zip(batch, results, strict=True))
        except Exception as error:
            answers = [(entry, error) for entry in batch]
        except BaseException:
            for entry in batch:
                entry.future.cancel()
            raise
        for entry, result in answers:
            if entry.future.done():
                continue
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)


def _stop_if_abandoned(
    task: asyncio.Task[None], batch: Sequence[_Waiting[Item, Result]], _: asyncio.Future[Result]
) -> None:
    if all(entry.future.cancelled() for entry in batch):
        task.cancel()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("This replica is shutting down; send the request again.", retry_after_s=1)
