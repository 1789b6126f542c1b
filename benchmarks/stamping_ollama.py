"""A fake Ollama server in a process of its own whose every token is the time at which it is sent.

By orders it holds answers back until so many are asked for, then begins them: at one moment, or spread evenly.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import httpx

from tests.support.fake_ollama import Answer, FakeOllama

ARRIVAL_LIMIT_S = 60
"""Longest wait for requests to come; an analysis each goes before."""
DONE = "done"

LONG_BEGINNING = "The beginning is longer than what is held back of it: "
"""So that what is measured is the way, and not that."""
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class _Hold:
    """Answer nothing that comes from now on."""


@dataclass(frozen=True)
class _Await:
    """Answer when so many more are asked for than at the last `_Hold`."""

    callers: int


@dataclass(frozen=True)
class _Release:
    """Begin what is held."""

    spread_s: float


class StampingOllama:
    """The server at `url`, seen from the process that gives the orders."""

    def __init__(self, url: str, orders: Connection) -> None:
        self.url = url
        self._orders = orders

    def hold(self) -> None:
        """Hold back every answer that is asked for from now on."""
        self._order(_Hold())

    def wait_for(self, callers: int) -> None:
        """Return when so many have asked since `hold`, or after `ARRIVAL_LIMIT_S`: who was refused never asks."""
        self._order(_Await(callers))

    def release(self, spread_s: float) -> None:
        """Let the held answers begin, one after another and evenly over `spread_s`."""
        self._order(_Release(spread_s))

    def request(self) -> httpx.Request:
        """Make a request as the service makes it."""
        return httpx.Request("POST", f"{self.url}/api/chat", json={"model": "mistral", "messages": [{"content": "?"}]})

    def _order(self, order: _Hold | _Await | _Release) -> None:
        self._orders.send(order)
        self._orders.recv()


@contextmanager
def stamping_ollama(tokens: int, tokens_per_s: float, parallel: int) -> Iterator[StampingOllama]:
    """Start the server; it answers at once until it is told to hold.

    Args:
        tokens: of each answer.
        tokens_per_s: of each answer, the first token after a pause too.
        parallel: answers at a time.
    """
    ours, theirs = SPAWN.Pipe()
    answer = Answer([LONG_BEGINNING, *[" "] * (tokens - 1)], interval_s=1 / tokens_per_s, hold_at=0, stamped=True)
    process = SPAWN.Process(target=_obey, args=(theirs, answer, parallel))
    process.start()
    try:
        yield StampingOllama(ours.recv(), ours)
    finally:
        ours.send(None)
        process.join()


def _has_chats(wanted: int, server: FakeOllama) -> bool:
    return len(server.chats) >= wanted


def _obey(orders: Connection, answer: Answer, parallel: int) -> None:
    with FakeOllama(answer, parallel=parallel) as server:
        server.release()
        orders.send(server.url)
        answered = 0
        while order := orders.recv():
            match order:
                case _Hold():
                    server.hold()
                    answered = len(server.chats)
                case _Await(callers):
                    wanted = answered + callers
                    server.wait_until(partial(_has_chats, wanted), ARRIVAL_LIMIT_S)
                case _Release(spread_s):
                    server.release(spread_s)
            orders.send(DONE)
