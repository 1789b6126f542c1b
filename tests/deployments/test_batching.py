"""What callers of the batcher can rely on. Batches run on a machine that the test holds by a gate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.batching import Batcher, Batching
from deployments.errors import QueueFull, ShuttingDown


class Machine:
    """Doubles numbers in batches; runs when let; a poisonous number fails alone, a broken machine every batch.

    `submit` gives it an item over its own batcher, which is made of the other arguments.
    """

    def __init__(
        self,
        *,
        size: int = 8,
        waiting: int = 1000,
        running: int = 1,
        beside: int = 1,
        stoppable: bool = False,
        poison: set[int] | None = None,
    ) -> None:
        self.batches: list[list[Any]] = []
        self.poison = poison or set()
        self.broken: BaseException | None = None
        self.results: Sequence[int] | None = None
        """Answers every batch, in place of what is right."""
        self.gate = asyncio.Event()
        self.running = 0
        self.most_running = 0
        self.stopped: list[list[int]] = []
        self.batcher = Batcher[Any, int](
            self._run,
            stoppable=stoppable,
            batching=Batching(running, size, beside),
            max_waiting=waiting,
            retry_after_s=3,
        )

    def submit(self, *items: Any) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.batcher.submit(item)) for item in items]

    async def hold_first(self) -> asyncio.Task[int]:
        """Start a first item and wait until it runs, so that what follows has to wait."""
        (first,) = self.submit(-1)
        await passes()
        assert self.batches == [[-1]]
        return first

    async def _run(self, batch: list[Any]) -> Sequence[int | Exception]:
        self.batches.append(batch)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped.append(batch)
            raise
        finally:
            self.running -= 1
        if self.broken is not None:
            raise self.broken
        if self.results is not None:
            return self.results
        poisonous = [isinstance(item, int) and item in self.poison for item in batch]
        return [ValueError("poison") if bad else 2 * item for bad, item in zip(poisonous, batch, strict=True)]


async def passes(rounds: int = 6) -> None:
    """Let every task that can run take its step."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def test_a_lone_item_runs_at_once_and_alone() -> None:
    machine = Machine()
    machine.gate.set()
    assert await machine.batcher.submit(21) == 42
    assert machine.batches == [[21]]


@given(count=st.integers(1, 60), size=st.integers(1, 20))
def test_what_waits_runs_in_the_fewest_batches_and_in_order(count: int, size: int) -> None:
    async def scenario() -> None:
        machine = Machine(size=size)
        first = await machine.hold_first()
        tasks = machine.submit(*range(count))
        await passes()
        machine.gate.set()
        assert await asyncio.gather(first, *tasks) == [-2, *(2 * item for item in range(count))]
        assert len(machine.batches) == 1 + math.ceil(count / size)
        assert [item for batch in machine.batches[1:] for item in batch] == list(range(count))

    asyncio.run(scenario())


@given(count=st.integers(1, 60), size=st.integers(1, 20), running=st.integers(1, 5))
def test_several_batches_run_at_once_but_never_more_than_may(count: int, size: int, running: int) -> None:
    async def scenario() -> None:
        machine = Machine(size=size, running=running)
        tasks = machine.submit(*range(count))
        await passes()
        assert machine.running == min(running, math.ceil(count / size))
        machine.gate.set()
        assert await asyncio.gather(*tasks) == [2 * item for item in range(count)]
        assert machine.most_running <= running
        assert all(len(batch) <= size for batch in machine.batches)

    asyncio.run(scenario())


async def test_a_few_wait_for_the_running_batch_and_a_crowd_does_not() -> None:
    machine = Machine(size=16, running=2, beside=4)
    first = await machine.hold_first()
    few = machine.submit(0, 1, 2)
    await passes()
    assert machine.batches == [[-1]]
    one_more = machine.submit(3)
    await passes()
    assert machine.batches == [[-1], [0, 1, 2, 3]]
    machine.gate.set()
    assert await asyncio.gather(first, *few, *one_more) == [-2, 0, 2, 4, 6]


@given(count=st.integers(1, 24), poison=st.sets(st.integers(0, 23)))
def test_an_item_s_own_failure_is_its_alone(count: int, poison: set[int]) -> None:
    async def scenario() -> None:
        machine = Machine(poison=poison, size=24)
        machine.gate.set()
        results = await asyncio.gather(*machine.submit(*range(count)), return_exceptions=True)
        for item, result in enumerate(results):
            assert isinstance(result, ValueError) if item in poison else result == 2 * item

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("broken", "results", "told"),
    [
        (ConnectionError("the replica is gone"), None, "the replica is gone"),
        (asyncio.CancelledError("by somebody else"), None, ""),
        (None, [], "zip"),
    ],
    ids=["raises", "is cancelled", "gives too few results"],
)
async def test_a_batch_that_fails_as_a_whole_fails_all_its_items_and_the_batcher_goes_on(
    broken: BaseException | None, results: Sequence[int] | None, told: str
) -> None:
    machine = Machine()
    machine.gate.set()
    machine.broken, machine.results = broken, results
    async with asyncio.timeout(1):
        failed = await asyncio.gather(*machine.submit(1, 2), return_exceptions=True)
    assert all(isinstance(result, BaseException) and told in str(result) for result in failed)
    machine.broken = machine.results = None
    assert await machine.batcher.submit(1) == 2


@given(cancelled=st.sets(st.integers(0, 11)))
def test_a_cancelled_item_that_has_not_started_is_not_computed(cancelled: set[int]) -> None:
    async def scenario() -> None:
        machine = Machine(size=4)
        first = await machine.hold_first()
        tasks = machine.submit(*range(12))
        await passes()
        for item in cancelled:
            tasks[item].cancel()
        await passes()
        assert machine.batcher.waiting == 12 - len(cancelled)
        machine.gate.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)
        assert {item for batch in machine.batches for item in batch} == {-1, *range(12)} - cancelled

    asyncio.run(scenario())


@pytest.mark.parametrize("stoppable", [True, False])
async def test_a_started_batch_is_stopped_where_it_can_be_once_nobody_waits_for_it(stoppable: bool) -> None:
    machine = Machine(stoppable=stoppable)
    tasks = machine.submit(0, 1, 2)
    await passes()
    tasks[1].cancel()
    await passes()
    assert machine.stopped == []
    for task in (tasks[0], tasks[2]):
        task.cancel()
    await passes()
    assert machine.stopped == ([[0, 1, 2]] if stoppable else [])
    following = machine.submit(5)
    await passes()
    assert machine.batches[1:] == ([[5]] if stoppable else []), "what goes on keeps its place"
    machine.gate.set()
    assert await following[0] == 10


@pytest.mark.parametrize("stoppable", [True, False])
async def test_cancelling_a_started_item_leaves_its_batch_mates_whole(stoppable: bool) -> None:
    machine = Machine(stoppable=stoppable)
    tasks = machine.submit(0, 1, 2)
    await passes()
    tasks[1].cancel()
    await passes()
    machine.gate.set()
    assert [await tasks[0], await tasks[2]] == [0, 4]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    machine = Machine(waiting=2)
    first = await machine.hold_first()
    waiting = machine.submit(0, 1)
    await passes()
    with pytest.raises(QueueFull) as refusal:
        await machine.batcher.submit(99)
    assert refusal.value.retry_after_s == 3
    machine.gate.set()
    assert await asyncio.gather(first, *waiting) == [-2, 0, 2]


async def test_what_is_urgent_is_not_refused_and_goes_before_all_that_waits() -> None:
    machine = Machine(size=1, waiting=2)
    await machine.hold_first()
    waiting = machine.submit(0, 1)
    await passes()
    urgent = asyncio.create_task(machine.batcher.submit(2, urgent=True))
    await passes()
    machine.gate.set()
    await asyncio.gather(*waiting, urgent)
    assert machine.batches == [[-1], [2], [0], [1]]


async def test_closing_fails_what_waits_and_finishes_what_runs() -> None:
    machine = Machine()
    first = await machine.hold_first()
    (late,) = machine.submit(5)
    await passes()
    closing = asyncio.create_task(machine.batcher.close())
    with pytest.raises(ShuttingDown):
        await late
    assert not closing.done()
    machine.gate.set()
    await closing
    assert await first == -2
    with pytest.raises(ShuttingDown):
        await machine.batcher.submit(1)
    assert machine.batches == [[-1]]


async def test_a_new_batch_size_holds_from_the_next_batch_on() -> None:
    machine = Machine(size=8)
    first = await machine.hold_first()
    tasks = machine.submit(*range(6))
    await passes()
    machine.batcher.batching = Batching(1, 2)
    machine.gate.set()
    await asyncio.gather(first, *tasks)
    assert [len(batch) for batch in machine.batches] == [1, 2, 2, 2]


async def test_arrays_may_be_withdrawn_though_they_cannot_be_compared() -> None:
    machine = Machine()
    first = await machine.hold_first()
    tasks = machine.submit(*(np.full((4, 4, 3), number, np.uint8) for number in range(3)))
    await passes()
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert machine.batcher.waiting == 2
    machine.gate.set()
    assert [int(np.max(await task)) for task in (first, tasks[0], tasks[2])] == [-2, 0, 4]
