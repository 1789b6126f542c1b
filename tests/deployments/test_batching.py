"""What callers of the batcher can rely on. Batches run on a machine that the test holds by a gate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.batching import Batcher, Batching
from deployments.errors import QueueFull, ShuttingDown


class Machine:
    """Doubles numbers in batches; runs when let; a poisonous number fails alone, a broken machine every batch."""

    def __init__(self, poison: set[int] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.poison = poison or set()
        self.broken: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.most_running = 0
        self.stopped: list[list[int]] = []

    async def run(self, batch: list[int]) -> Sequence[int | Exception]:
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
        return [ValueError(f"poison {item}") if item in self.poison else 2 * item for item in batch]

    async def hold_first(self, submit: Callable[[int], asyncio.Task[int]]) -> asyncio.Task[int]:
        """Start a first item and wait until it runs, so that what follows has to wait."""
        self.gate.clear()
        first = submit(-1)
        await passes()
        assert self.batches == [[-1]]
        return first


def batching(
    machine: Machine,
    *,
    size: int = 8,
    waiting: int = 1000,
    running: int = 1,
    beside: int = 1,
    stoppable: bool = False,
) -> Batcher[int, int]:
    return Batcher[int, int](
        machine.run,
        stoppable=stoppable,
        batching=Batching(running, size, beside),
        max_waiting=waiting,
        retry_after_s=3,
    )


def submitting(batcher: Batcher[int, int]) -> Callable[[int], asyncio.Task[int]]:
    return lambda item: asyncio.create_task(batcher.submit(item))


async def passes(rounds: int = 6) -> None:
    """Let every task that can run take its step."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def test_a_lone_item_runs_at_once_and_alone() -> None:
    machine = Machine()
    batcher = batching(machine)
    assert await batcher.submit(21) == 42
    assert machine.batches == [[21]]


@given(count=st.integers(1, 60), size=st.integers(1, 20))
def test_what_waits_runs_in_the_fewest_batches_and_in_order(count: int, size: int) -> None:
    async def scenario() -> None:
        machine = Machine()
        batcher = batching(machine, size=size)
        first = await machine.hold_first(submitting(batcher))
        tasks = [submitting(batcher)(item) for item in range(count)]
        await passes()
        machine.gate.set()
        assert await asyncio.gather(first, *tasks) == [-2, *(2 * item for item in range(count))]
        assert len(machine.batches) == 1 + math.ceil(count / size)
        assert [item for batch in machine.batches[1:] for item in batch] == list(range(count))

    asyncio.run(scenario())


@given(count=st.integers(1, 60), size=st.integers(1, 20), running=st.integers(1, 5))
def test_several_batches_run_at_once_but_never_more_than_may(count: int, size: int, running: int) -> None:
    async def scenario() -> None:
        machine = Machine()
        machine.gate.clear()
        batcher = batching(machine, size=size, running=running)
        tasks = [submitting(batcher)(item) for item in range(count)]
        await passes()
        assert machine.running == min(running, math.ceil(count / size))
        machine.gate.set()
        assert await asyncio.gather(*tasks) == [2 * item for item in range(count)]
        assert machine.most_running <= running
        assert all(len(batch) <= size for batch in machine.batches)

    asyncio.run(scenario())


async def test_a_few_wait_for_the_running_batch_and_a_crowd_does_not() -> None:
    machine = Machine()
    batcher = batching(machine, size=16, running=2, beside=4)
    first = await machine.hold_first(submitting(batcher))
    few = [submitting(batcher)(item) for item in range(3)]
    await passes()
    assert machine.batches == [[-1]]
    one_more = submitting(batcher)(3)
    await passes()
    assert machine.batches == [[-1], [0, 1, 2, 3]]
    machine.gate.set()
    assert await asyncio.gather(first, *few, one_more) == [-2, 0, 2, 4, 6]


@given(count=st.integers(1, 24), poison=st.sets(st.integers(0, 23)))
def test_an_item_s_own_failure_is_its_alone(count: int, poison: set[int]) -> None:
    async def scenario() -> None:
        batcher = batching(Machine(poison), size=24)
        results = await asyncio.gather(*(batcher.submit(item) for item in range(count)), return_exceptions=True)
        for item, result in enumerate(results):
            if item in poison:
                assert isinstance(result, ValueError)
            else:
                assert result == 2 * item

    asyncio.run(scenario())


async def test_a_batch_that_fails_as_a_whole_fails_all_its_items_and_the_batcher_goes_on() -> None:
    machine = Machine()
    machine.broken = ConnectionError("the replica is gone")
    batcher = batching(machine)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [str(result) for result in results] == ["the replica is gone"] * 2
    machine.broken = None
    assert await batcher.submit(1) == 2


async def test_a_batch_that_somebody_else_cancels_leaves_nobody_waiting() -> None:
    async def run(batch: list[int]) -> list[int]:
        raise asyncio.CancelledError

    batcher = Batcher[int, int](run, stoppable=False, batching=Batching(1, 4), max_waiting=4, retry_after_s=1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(batcher.submit(1), timeout=1)


@given(cancelled=st.sets(st.integers(0, 11)))
def test_a_cancelled_item_that_has_not_started_is_not_computed(cancelled: set[int]) -> None:
    async def scenario() -> None:
        machine = Machine()
        batcher = batching(machine, size=4)
        first = await machine.hold_first(submitting(batcher))
        tasks = [submitting(batcher)(item) for item in range(12)]
        await passes()
        for item in cancelled:
            tasks[item].cancel()
        await passes()
        assert batcher.waiting == 12 - len(cancelled)
        machine.gate.set()
        await asyncio.gather(first, *tasks, return_exceptions=True)
        assert {item for batch in machine.batches for item in batch} == {-1, *range(12)} - cancelled

    asyncio.run(scenario())


@pytest.mark.parametrize("stoppable", [True, False])
async def test_cancelling_a_started_item_leaves_its_batch_mates_whole(stoppable: bool) -> None:
    machine = Machine()
    machine.gate.clear()
    batcher = batching(machine, stoppable=stoppable)
    tasks = [submitting(batcher)(item) for item in range(3)]
    await passes()
    tasks[1].cancel()
    await passes()
    machine.gate.set()
    assert [await tasks[0], await tasks[2]] == [0, 4]
    assert machine.stopped == []


@pytest.mark.parametrize("stoppable", [True, False])
async def test_a_batch_that_nobody_waits_for_is_stopped_where_it_can_be(stoppable: bool) -> None:
    machine = Machine()
    machine.gate.clear()
    batcher = batching(machine, stoppable=stoppable)
    tasks = [submitting(batcher)(item) for item in range(2)]
    await passes()
    for task in tasks:
        task.cancel()
    await passes()
    assert machine.stopped == ([[0, 1]] if stoppable else [])
    following = submitting(batcher)(5)
    await passes()
    assert machine.batches[1:] == ([[5]] if stoppable else []), "what goes on keeps its place"
    machine.gate.set()
    assert await following == 10


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    machine = Machine()
    batcher = batching(machine, waiting=2)
    first = await machine.hold_first(submitting(batcher))
    waiting = [submitting(batcher)(item) for item in range(2)]
    await passes()
    with pytest.raises(QueueFull) as refusal:
        await batcher.submit(99)
    assert refusal.value.retry_after_s == 3
    machine.gate.set()
    assert await asyncio.gather(first, *waiting) == [-2, 0, 2]


async def test_closing_fails_what_waits_and_finishes_what_runs() -> None:
    machine = Machine()
    batcher = batching(machine)
    first = await machine.hold_first(submitting(batcher))
    late = submitting(batcher)(5)
    await passes()
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(ShuttingDown):
        await late
    assert not closing.done()
    machine.gate.set()
    await closing
    assert await first == -2
    with pytest.raises(ShuttingDown):
        await batcher.submit(1)
    assert machine.batches == [[-1]]


async def test_a_new_batch_size_holds_from_the_next_batch_on() -> None:
    machine = Machine()
    batcher = batching(machine, size=8)
    first = await machine.hold_first(submitting(batcher))
    tasks = [submitting(batcher)(item) for item in range(6)]
    await passes()
    batcher.batching = Batching(1, 2)
    machine.gate.set()
    await asyncio.gather(first, *tasks)
    assert [len(batch) for batch in machine.batches] == [1, 2, 2, 2]


async def test_arrays_may_be_withdrawn_though_they_cannot_be_compared() -> None:
    gate = asyncio.Event()

    async def run(batch: list[NDArray[np.uint8]]) -> list[int]:
        await gate.wait()
        return [int(item.sum()) for item in batch]

    batcher = Batcher[NDArray[np.uint8], int](
        run, stoppable=False, batching=Batching(1, 8), max_waiting=8, retry_after_s=1
    )
    tasks = [asyncio.create_task(batcher.submit(np.full((4, 4, 3), n, np.uint8))) for n in range(4)]
    await passes()
    late = [asyncio.create_task(batcher.submit(np.full((4, 4, 3), n, np.uint8))) for n in range(3)]
    await passes()
    late[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await late[1]
    assert batcher.waiting == 2
    gate.set()
    assert [await task for task in [*tasks, late[0], late[2]]] == [0, 48, 96, 144, 0, 96]


async def test_a_machine_that_answers_with_too_few_results_fails_its_items_instead_of_hanging() -> None:
    async def run(batch: list[int]) -> list[int]:
        return []

    batcher = Batcher[int, int](run, stoppable=False, batching=Batching(1, 4), max_waiting=4, retry_after_s=1)
    with pytest.raises(ValueError, match="zip"):
        await batcher.submit(1)
