"""Several things asked for at a time; what comes of each is taken in the order of the things."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Asked = TypeVar("Asked")
Came = TypeVar("Came")


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def in_order(things: Sequence[Asked], ask: Callable[[Asked], Iterator[Came]], at_once: int) -> Iterator[Iterator[Came]]:
    """Give what `ask` gives for each thing, as it comes for the first that is not at its end.

    The threads are daemons: whoever leaves early (Ctrl-C, a reader that went away) waits for none of them.

    Args:
        things: asked for in this order.
        ask: called in a thread; what it raises is raised where its results are taken.
        at_once: how many are asked for at a time.
    """
    came: list[SimpleQueue[Came | _End]] = [SimpleQueue() for _ in things]
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(things)):
        waiting.put(index)
    left = threading.Event()

    def work() -> None:
        while not left.is_set():
            try:
                index = waiting.get_nowait()
            except Empty:
                return
            end = _End()
            try:
                for result in ask(things[index]):
                    came[index].put(result)
            except BaseException as error:
                end = _End(error)
            came[index].put(end)

    for _ in range(min(at_once, len(things))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for results in came:
            yield _until_end(results)
    finally:
        left.set()


def _until_end(results: SimpleQueue[Came | _End]) -> Iterator[Came]:
    while not isinstance(result := results.get(), _End):
        yield result
    if result.error is not None:
        raise result.error
