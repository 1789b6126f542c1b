"""Whose failure it is when a batch fails."""

from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from deployments.clip.classifier import run_halving


@given(count=st.integers(1, 24), poison=st.sets(st.integers(0, 23)), memory=st.integers(1, 24))
def test_a_failure_belongs_to_its_item_alone(count: int, poison: set[int], memory: int) -> None:
    def run(batch: list[int]) -> list[int]:
        if len(batch) > memory:
            raise MemoryError(f"{len(batch)} do not fit")
        if poison.intersection(batch):
            raise ValueError(f"poison among {len(batch)}")
        return [2 * item for item in batch]

    for item, result in enumerate(run_halving(run, list(range(count)))):
        if item in poison:
            assert isinstance(result, ValueError)
        else:
            assert result == 2 * item


def test_an_item_that_never_fits_fails_with_its_own_error() -> None:
    def run(batch: list[int]) -> list[int]:
        raise MemoryError(f"{len(batch)} do not fit")

    assert [str(error) for error in run_halving(run, [1, 2, 3])] == ["1 do not fit"] * 3


def test_a_whole_batch_runs_once() -> None:
    batches: list[list[int]] = []

    def run(batch: list[int]) -> list[int]:
        batches.append(batch)
        return batch

    assert run_halving(run, [1, 2, 3]) == [1, 2, 3]
    assert batches == [[1, 2, 3]]


def test_too_few_results_are_a_failure_and_not_another_s_answer() -> None:
    results = run_halving(lambda batch: batch[1:], [1, 2])
    assert [str(error) for error in results] == ["0 results for 1 items"] * 2


class Tensor:
    """Stands for memory on the device."""


def test_a_failed_batch_is_gone_before_its_halves_run() -> None:
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

    assert run_halving(run, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert len(alive_at_start) == 7
    assert set(alive_at_start) == {0}
