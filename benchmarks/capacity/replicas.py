"""The replicas of the three deployments, simulated at the settings that this repository ships."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import simpy

from benchmarks.capacity.batches import Batches
from benchmarks.capacity.cores import Cores, Loop, Steps
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.engines import Engine
from deployments.batching import Batching
from deployments.clip.settings import ClipSettings
from serve_app.settings import MIB, ImageSettings, LimitSettings

PICTURE_BYTES = 224 * 224 * 3
PIECES = 10
"""In which the work of a streamed prompt is done."""


class Clip:
    """A CLIP replica."""

    def __init__(self, environment: simpy.Environment, cores: Cores, costs: Costs, engine: Engine) -> None:
        self.active = 0
        self._environment = environment
        self._costs = costs
        self._loop = Loop(environment, cores)
        self.engine = engine
        self.batches = Batches(environment, self._forward, engine.batching, ClipSettings().max_waiting)

    def classify(self, pictures: int) -> Generator[simpy.Event, Any, list[bool]]:
        """Answer one call: for each picture whether it was read."""
        self.active += 1
        yield from self._loop.work(self._costs.clip_call_ms + pictures * self._costs.clip_ms)
        read = [self.batches.submit() for _ in range(pictures)]
        yield self._environment.all_of(read)
        self.active -= 1
        return [bool(event.value) for event in read]

    def _forward(self, size: int) -> Generator[simpy.Event, Any, Sequence[bool]]:
        yield from self.engine.forward(size)
        return [True] * size


@dataclass(frozen=True)
class Prompts:
    """What the Ollama servers write: each answer so long, at so many tokens a second while all places are taken."""

    tokens: int
    tokens_per_s: float
    first_token_ms: float = 0.0


class Writer:
    """An OllamaDeployment replica, with so many places at the servers and a line before them."""

    def __init__(
        self,
        environment: simpy.Environment,
        cores: Cores,
        costs: Costs,
        prompts: Prompts,
        places: int,
        max_waiting: int,
    ) -> None:
        self.active = 0
        self.prompts = prompts
        self._environment = environment
        self._piece_ms = costs.token_ms["Ollama replica"] * prompts.tokens / PIECES
        self._loop = Loop(environment, cores)
        self._places = simpy.Resource(environment, places)
        self._max_waiting = max_waiting

    def write(self, pass_on: Callable[[], Steps]) -> Generator[simpy.Event, Any, bool]:
        """Write a prompt, handing on each piece; tell whether there was room for it."""
        if len(self._places.queue) >= self._max_waiting:
            return False
        self.active += 1
        with self._places.request() as place:
            yield place
            yield self._environment.timeout(self.prompts.first_token_ms)
            whole_ms = 1000 * self.prompts.tokens / self.prompts.tokens_per_s
            for _ in range(PIECES):
                yield self._environment.timeout(whole_ms / PIECES)
                self._environment.process(self._loop.work(self._piece_ms))
                self._environment.process(pass_on())
        self.active -= 1
        return True


class Ingress:
    """An ingress replica."""

    def __init__(
        self,
        environment: simpy.Environment,
        cores: Cores,
        costs: Costs,
        limits: LimitSettings,
        clips: Sequence[Clip],
        writers: Sequence[Writer],
        chance: random.Random,
    ) -> None:
        self.active = 0
        self._environment = environment
        self._cores = cores
        self._costs = costs
        self._max_requests = limits.max_requests
        self._clips, self._writers, self._chance = clips, writers, chance
        self._loop = Loop(environment, cores)
        self._decoders = simpy.Resource(environment, ImageSettings().decode_threads)
        pictures = int(limits.read_call_mib * MIB) // PICTURE_BYTES
        self.calls = Batches(environment, self._call, Batching(limits.read_calls, pictures), float("inf"))

    def answer(self) -> Generator[simpy.Event, Any, bool]:
        """Answer a request; tell whether it was not refused."""
        yield from self._cores.work(self._costs.client_ms + self._costs.proxy_ms, urgent=True)
        if self.active >= self._max_requests:
            return False
        self.active += 1
        yield from self._loop.work(self._costs.ingress_ms / 2)
        with self._decoders.request() as thread:
            yield thread
            yield from self._cores.work(self._costs.decode_ms, urgent=False)
        done = yield self.calls.submit()
        if done and self._writers:
            writer = less_busy(self._writers, self._chance)
            piece_ms = self._costs.token_ms["ingress"] * writer.prompts.tokens / PIECES
            done = yield from writer.write(lambda: self._loop.work(piece_ms))
        yield from self._loop.work(self._costs.ingress_ms / 2)
        self.active -= 1
        return bool(done)

    def _call(self, pictures: int) -> Generator[simpy.Event, Any, Sequence[bool]]:
        yield from self._loop.work(self._costs.ingress_call_ms)
        return (yield from less_busy(self._clips, self._chance).classify(pictures))


class Busy(Protocol):
    """Who can be chosen by what is under way at it."""

    active: int


Replica = TypeVar("Replica", bound=Busy)


def less_busy(replicas: Sequence[Replica], chance: random.Random) -> Replica:
    """Give the less busy of two by chance: Serve's power of two choices."""
    return min(chance.sample(replicas, min(2, len(replicas))), key=lambda replica: replica.active)
