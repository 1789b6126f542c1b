"""Simulated cores, and the event loops that share them with threads. Times are in ms."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

TURN_MS = 2.0
"""How long a core works on one thing before the next has its turn: of the order of a scheduler's slice."""

Steps = Generator[simpy.Event, Any, None]


class Cores:
    """Cores that several processes share; event loops, which sleep often, go before threads that compute."""

    def __init__(self, environment: simpy.Environment, count: int) -> None:
        self.count = count
        self._environment = environment
        self._places = simpy.PriorityResource(environment, count)

    def work(self, ms: float, *, urgent: bool) -> Steps:
        """Take so much of one core."""
        while ms > 0:
            with self._places.request(priority=0 if urgent else 1) as turn:
                yield turn
                yield self._environment.timeout(min(ms, TURN_MS))
            ms -= TURN_MS


class Loop:
    """A process' event loop: one thing at a time."""

    def __init__(self, environment: simpy.Environment, cores: Cores) -> None:
        self._one = simpy.Resource(environment, 1)
        self._cores = cores

    def work(self, ms: float) -> Steps:
        """Do a piece of work when what came before is done."""
        with self._one.request() as turn:
            yield turn
            yield from self._cores.work(ms, urgent=True)
