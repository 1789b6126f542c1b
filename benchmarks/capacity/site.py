"""Callers of simulated replicas, and what comes of their requests. Times are in ms unless named otherwise."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from benchmarks.capacity.cores import Steps
from benchmarks.capacity.replicas import Clip, Ingress, less_busy


@dataclass
class Answers:
    """What came of the requests in the window."""

    window_ms: float
    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return 1000 * len(self.latencies_ms) / self.window_ms


@dataclass
class Site:
    """The replicas that there are, in an environment of their own."""

    environment: simpy.Environment
    ingresses: list[Ingress]
    clips: list[Clip]
    chance: random.Random

    def crowd(self, callers: int, *, retry_after_s: float, warm_up_s: float, window_s: float) -> Answers:
        """Have so many callers send one picture after the other; refused ones wait."""
        answers = Answers(window_s * 1000)
        for _ in range(callers):
            self.environment.process(self._caller(answers, warm_up_s * 1000, retry_after_s * 1000))
        self.environment.run((warm_up_s + window_s) * 1000)
        return answers

    def stream(self, per_s: float, *, warm_up_s: float, window_s: float) -> Answers:
        """Have requests come by chance, so many a second on average."""
        answers = Answers(window_s * 1000)
        self.environment.process(self._arrivals(per_s, answers, warm_up_s * 1000))
        self.environment.run((warm_up_s + window_s) * 1000)
        return answers

    def _caller(self, answers: Answers, from_ms: float, retry_after_ms: float) -> Steps:
        while True:
            refused = yield from self._request(answers, from_ms)
            if refused:
                yield self.environment.timeout(retry_after_ms)

    def _arrivals(self, per_s: float, answers: Answers, from_ms: float) -> Steps:
        while True:
            yield self.environment.timeout(self.chance.expovariate(per_s / 1000))
            self.environment.process(self._request(answers, from_ms))

    def _request(self, answers: Answers, from_ms: float) -> Generator[simpy.Event, Any, bool]:
        begun_ms = self.environment.now
        done = yield from less_busy(self.ingresses, self.chance).answer()
        if self.environment.now >= from_ms:
            if done:
                answers.latencies_ms.append(self.environment.now - begun_ms)
            else:
                answers.refused += 1
        return not done
