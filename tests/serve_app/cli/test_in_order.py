"""Several at a time, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from serve_app.cli.in_order import in_order

PATIENCE_S = 30


def test_results_come_as_they_are_made_and_in_the_order_of_the_things() -> None:
    second_is_done = threading.Event()

    def ask(name: str) -> Iterator[str]:
        yield f"{name}1"
        if name == "a":
            assert second_is_done.wait(PATIENCE_S)
        yield f"{name}2"
        second_is_done.set()

    assert [[*results] for results in in_order("ab", ask, 2)] == [["a1", "a2"], ["b1", "b2"]]


def test_a_failure_is_raised_where_its_results_are_taken_and_the_next_go_on() -> None:
    def ask(number: int) -> Iterator[int]:
        yield number
        if number == 0:
            raise ValueError("no")

    first, second = in_order([0, 1], ask, 1)
    assert next(first) == 0
    with pytest.raises(ValueError, match="no"):
        next(first)
    assert [*second] == [1]


def test_what_is_left_early_asks_for_no_more() -> None:
    asked: list[int] = []
    go_on = threading.Event()

    def ask(number: int) -> Iterator[int]:
        asked.append(number)
        yield number
        go_on.wait(PATIENCE_S)

    before = threading.enumerate()
    results = in_order(range(100), ask, 1)
    assert next(next(results)) == 0
    results.close()  # type: ignore[attr-defined] # a generator
    go_on.set()
    for thread in {*threading.enumerate()} - {*before}:
        thread.join(PATIENCE_S)
    assert asked == [0]
