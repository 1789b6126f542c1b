"""What callers of the batcher can rely on. Batches run in a real thread that the test holds by a gate."""

from __future__ import annotations

import asyncio
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.clip.batcher import Batcher
from deployments.errors import QueueFull, ShuttingDown


class Machine:
    """Doubles numbers in batches; runs when let, fails on poison and on batches larger than its memory."""

    def __init__(self, poison: set[int] = frozenset(), memory: int = 10**9) -> None:  # type: ignore[assignment]
        self.batches: list[list[int]] = []
        self.poison = poison
        self.memory = memory
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def run(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.started.set()
        self.gate.wait()
        if len(batch) > self.memory:
            raise MemoryError(f"{len(batch)} do not fit")
        if self.poison.intersection(batch):
            raise ValueError(f"poison among {len(batch)}")
        return [2 * item for item in batch]

    async def hold_first(self, submit: Callable[[int], asyncio.Task[int]]) -> asyncio.Task[int]:
        """Start a first item and wait until it runs, so that what follows has to wait."""
        self.gate.clear()
        first = submit(-1)
        await asyncio.to_thread(self.started.wait)
        return first


@asynccontextmanager
async def batching(machine: Machine, *, size: int = 8, waiting: int = 1000) -> AsyncIterator[Batcher[int, int]]:
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher[int, int](
            machine.run, executor=executor, max_batch_size=size, max_waiting=waiting, retry_after_s=3
        )
        yield batcher
        machine.gate.set()
        await batcher.close()


def submitting(batcher: Batcher[int, int]) -> Callable[[int], asyncio.Task[int]]:
    return lambda item: asyncio.create_task(batcher.submit(item))


async def passes(rounds: int = 3) -> None:
    """Let every task that can run take its step."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def test_a_lone_item_runs_at_once_and_alone() -> None:
    machine = Machine()
    async with batching(machine) as batcher:
        assert await batcher.submit(21) == 42
    assert machine.batches == [[21]]


@given(count=st.integers(1, 60), size=st.integers(1, 20))
def test_what_waits_runs_in_the_fewest_batches_and_in_order(count: int, size: int) -> None:
    async def scenario() -> None:
        machine = Machine()
        async with batching(machine, size=size) as batcher:
            first = await machine.hold_first(submitting(batcher))
            tasks = [submitting(batcher)(item) for item in range(count)]
            await passes()
            machine.gate.set()
            assert await asyncio.gather(first, *tasks) == [-2, *(2 * item for item in range(count))]
        assert len(machine.batches) == 1 + math.ceil(count / size)
        assert [item for batch in machine.batches[1:] for item in batch] == list(range(count))

    asyncio.run(scenario())


@given(count=st.integers(1, 24), poison=st.sets(st.integers(0, 23)), memory=st.integers(1, 24))
def test_a_failure_belongs_to_its_item_alone(count: int, poison: set[int], memory: int) -> None:
    async def scenario() -> None:
        machine = Machine(poison, memory)
        async with batching(machine, size=24) as batcher:
            first = await machine.hold_first(submitting(batcher))
            tasks = [submitting(batcher)(item) for item in range(count)]
            await passes()
            machine.gate.set()
            results = await asyncio.gather(first, *tasks, return_exceptions=True)
        for item, result in enumerate(results[1:]):
            if item in poison:
                assert isinstance(result, ValueError)
            else:
                assert result == 2 * item

    asyncio.run(scenario())


async def test_an_item_that_never_fits_fails_with_its_own_error_and_the_batcher_goes_on() -> None:
    machine = Machine(memory=0)
    async with batching(machine) as batcher:
        with pytest.raises(MemoryError):
            await batcher.submit(1)
        machine.memory = 1
        assert await batcher.submit(1) == 2


@given(cancelled=st.sets(st.integers(0, 11)))
def test_a_cancelled_item_that_has_not_started_is_not_computed(cancelled: set[int]) -> None:
    async def scenario() -> None:
        machine = Machine()
        async with batching(machine, size=4) as batcher:
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


async def test_cancelling_a_started_item_leaves_its_batch_mates_whole() -> None:
    machine = Machine()
    async with batching(machine) as batcher:
        machine.gate.clear()
        tasks = [submitting(batcher)(item) for item in range(3)]
        await asyncio.to_thread(machine.started.wait)
        tasks[1].cancel()
        await passes()
        machine.gate.set()
        assert [await tasks[0], await tasks[2]] == [0, 4]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    machine = Machine()
    async with batching(machine, waiting=2) as batcher:
        await machine.hold_first(submitting(batcher))
        for item in range(2):
            submitting(batcher)(item)
        await passes()
        with pytest.raises(QueueFull) as refusal:
            await batcher.submit(99)
        assert refusal.value.retry_after_s == 3


async def test_closing_fails_what_waits_and_finishes_what_runs() -> None:
    machine = Machine()
    async with batching(machine) as batcher:
        first = await machine.hold_first(submitting(batcher))
        late = submitting(batcher)(5)
        await passes()
        closing = asyncio.create_task(batcher.close())
        with pytest.raises(ShuttingDown):
            await late
        machine.gate.set()
        await closing
        assert await first == -2
        with pytest.raises(ShuttingDown):
            await batcher.submit(1)
    assert machine.batches == [[-1]]


async def test_a_new_batch_size_holds_from_the_next_batch_on() -> None:
    machine = Machine()
    async with batching(machine, size=8) as batcher:
        first = await machine.hold_first(submitting(batcher))
        tasks = [submitting(batcher)(item) for item in range(6)]
        await passes()
        batcher.max_batch_size = 2
        machine.gate.set()
        await asyncio.gather(first, *tasks)
    assert [len(batch) for batch in machine.batches] == [1, 2, 2, 2]


async def test_arrays_may_be_withdrawn_though_they_cannot_be_compared() -> None:
    gate, started = threading.Event(), threading.Event()

    def run(batch: list[NDArray[np.uint8]]) -> list[int]:
        started.set()
        gate.wait()
        return [int(item.sum()) for item in batch]

    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher[NDArray[np.uint8], int](
            run, executor=executor, max_batch_size=8, max_waiting=8, retry_after_s=1
        )
        tasks = [asyncio.create_task(batcher.submit(np.full((4, 4, 3), n, np.uint8))) for n in range(4)]
        await asyncio.to_thread(started.wait)
        late = [asyncio.create_task(batcher.submit(np.full((4, 4, 3), n, np.uint8))) for n in range(3)]
        await passes()
        late[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await late[1]
        assert batcher.waiting == 2
        gate.set()
        assert [await task for task in [*tasks, late[0], late[2]]] == [0, 48, 96, 144, 0, 96]


async def test_a_failed_batch_is_gone_before_its_halves_run() -> None:
    """What the failed batch held on the device must be free for the smaller one."""
    held: list[weakref.ref[Tensor]] = []
    alive_at_start: list[int] = []

    def run(batch: list[int]) -> list[int]:
        alive_at_start.append(sum(reference() is not None for reference in held))
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise MemoryError("does not fit")
        return batch

    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher[int, int](run, executor=executor, max_batch_size=8, max_waiting=8, retry_after_s=1)
        assert await asyncio.gather(*(batcher.submit(n) for n in range(4))) == [0, 1, 2, 3]
    assert len(alive_at_start) == 7
    assert set(alive_at_start) == {0}


class Tensor:
    """Stands for memory on the device."""


async def test_a_machine_that_answers_with_too_few_results_fails_its_items_instead_of_hanging() -> None:
    with ThreadPoolExecutor(1) as executor:
        batcher = Batcher[int, int](
            lambda batch: [], executor=executor, max_batch_size=4, max_waiting=4, retry_after_s=1
        )
        with pytest.raises(ValueError, match="zip"):
            await batcher.submit(1)
