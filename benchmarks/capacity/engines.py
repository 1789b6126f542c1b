"""What computes a batch, simulated: the cores of a machine, or a share of a GPU."""

from __future__ import annotations

from typing import Protocol

import simpy

from benchmarks.capacity.cores import Cores, Steps
from benchmarks.capacity.costs import Costs, between
from deployments.batching import Batching
from deployments.clip.backends.torch import TorchEngine


class Engine(Protocol):
    """What computes a batch."""

    batching: Batching
    cpu_ms: float
    """Of all cores, so far."""

    def forward(self, size: int) -> Steps:
        """Take the time of a batch of this size."""
        ...


class CpuEngine:
    """`deployments.clip.backends.openvino`: all cores for a batch that begins alone, one for a batch beside another."""

    def __init__(self, environment: simpy.Environment, cores: Cores, costs: Costs, batching: Batching) -> None:
        self.batching = batching
        self._environment = environment
        self._cores = cores
        self._costs = costs
        self._running = 0
        self.cpu_ms = 0.0

    def forward(self, size: int) -> Steps:
        """Work on all cores, or on one."""
        self._running += 1
        if self._running == 1:
            ms, shares = between(self._costs.alone_ms, size), self._cores.count
        else:
            ms, shares = between(self._costs.beside_ms, size), 1
        self.cpu_ms += ms * shares
        begin = self._environment.process
        yield self._environment.all_of([begin(self._cores.work(ms, urgent=False)) for _ in range(shares)])
        self._running -= 1


class GpuEngine:
    """A share of a GPU, on which the batches of all who share it run one after the other."""

    batching = TorchEngine.batching
    cpu_ms = 0.0

    def __init__(
        self, environment: simpy.Environment, gpu: simpy.Resource, batch_ms: float, pictures_per_s: float
    ) -> None:
        self._environment = environment
        self._gpu = gpu
        self._batch_ms = batch_ms
        self._picture_ms = 1000 / pictures_per_s

    def forward(self, size: int) -> Steps:
        """Take the whole GPU for one batch."""
        with self._gpu.request() as turn:
            yield turn
            yield self._environment.timeout(max(self._batch_ms, size * self._picture_ms))
