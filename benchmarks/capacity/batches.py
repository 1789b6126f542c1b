"""`deployments.batching`, simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import simpy

from benchmarks.capacity.cores import Steps
from deployments.batching import Batching


class Batches:
    """A free runner takes all that waits."""

    def __init__(
        self,
        environment: simpy.Environment,
        run: Callable[[int], Generator[simpy.Event, Any, Sequence[bool]]],
        batching: Batching,
        max_waiting: float,
    ) -> None:
        self.sizes: list[int] = []
        self._environment = environment
        self._run = run
        self._batching = batching
        self._max_waiting = max_waiting
        self._waiting: deque[simpy.Event] = deque()
        self._running = 0

    def submit(self) -> simpy.Event:
        """Give what happens, with whether it was done or refused, when the item's batch has run."""
        done = self._environment.event()
        if len(self._waiting) >= self._max_waiting:
            done.succeed(False)
        else:
            self._waiting.append(done)
            # Once whatever else arrives at this moment waits too.
            self._environment.timeout(0).callbacks.append(lambda _: self._start())
        return done

    def _start(self) -> None:
        streams, batch_size, min_beside = self._batching
        while self._waiting and self._running < streams:
            if self._running and len(self._waiting) < min_beside:
                return
            batch = [self._waiting.popleft() for _ in range(min(batch_size, len(self._waiting)))]
            self._running += 1
            self._environment.process(self._whole(batch))

    def _whole(self, batch: list[simpy.Event]) -> Steps:
        self.sizes.append(len(batch))
        results = yield from self._run(len(batch))
        self._running -= 1
        for done, result in zip(batch, results, strict=True):
            done.succeed(result)
        self._start()
