"""What is simulated: one machine on whose cores all replicas sit, or a cluster where each has a core of its own.

The parts are those of the code, from HAProxy to the line before Ollama. A Python process has one event loop; a request
goes to the less busy of two replicas, as Ray Serve routes it. Costs come from `benchmarks.capacity.measure`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import simpy

from benchmarks.capacity.cores import Cores, Steps
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.engines import CpuEngine, GpuEngine
from benchmarks.capacity.replicas import Clip, Ingress, Prompts, Writer
from benchmarks.capacity.site import Site
from deployments.batching import Batching
from deployments.clip.backends.openvino import BATCH_SIZE, MAX_STREAMS, MIN_BESIDE
from deployments.ollama.settings import OllamaSettings
from serve_app.settings import LimitSettings

SEED = 1
BACKGROUND_MS = 20.0
"""How often Ray's own processes want something."""


@dataclass(frozen=True)
class Cell:
    """An application on a cluster, with Ollama servers of its own.

    Args:
        ingresses: replicas, each with a core.
        clips: replicas, each with a core and an equal share of a GPU.
        clip_gpus: GPUs that the CLIP replicas share.
        writers: OllamaDeployment replicas, each with a core.
        servers: Ollama servers, each with a GPU.
    """

    ingresses: int
    clips: int
    clip_gpus: int
    writers: int
    servers: int

    @property
    def cores(self) -> int:
        """Cores of all replicas."""
        return self.ingresses + self.clips + self.writers

    @property
    def gpus(self) -> int:
        """GPUs of all replicas and servers."""
        return self.clip_gpus + self.servers


@dataclass(frozen=True)
class Gpu:
    """What a GPU does; the defaults of `benchmarks.capacity` say where its figures come from.

    Args:
        pictures_per_s: at most, in large batches.
        batch_ms: the least that a batch takes.
        places: prompts that an Ollama server on it writes at a time.
        tokens_per_s: of each of them while all places are taken.
        first_token_ms: what reading a request takes.
    """

    pictures_per_s: float
    batch_ms: float
    places: int
    tokens_per_s: float
    first_token_ms: float


def one_machine(costs: Costs, cores: int, prompts: Prompts | None = None, places: int = 1) -> Site:
    """Give a machine without a GPU at the settings of `make run`; without `prompts` only pictures are read."""
    environment, chance = simpy.Environment(), random.Random(SEED)  # noqa: S311
    shared = Cores(environment, cores)
    environment.process(_background(environment, shared, costs.background_cores))
    batching = Batching(min(cores, MAX_STREAMS), BATCH_SIZE, MIN_BESIDE)
    clip = Clip(environment, shared, costs, CpuEngine(environment, shared, costs, batching))
    max_waiting = OllamaSettings().max_waiting
    writers = [Writer(environment, shared, costs, prompts, places, max_waiting)] if prompts else []
    ingress = Ingress(environment, shared, costs, LimitSettings(), [clip], writers, chance)
    return Site(environment, [ingress], [clip], chance)


def on_cluster(costs: Costs, cell: Cell, gpu: Gpu, tokens: int, max_waiting: int) -> Site:
    """Give an application on a cluster whose requests all want a prompt of so many tokens."""
    environment, chance = simpy.Environment(), random.Random(SEED)  # noqa: S311
    prompts = Prompts(tokens, gpu.tokens_per_s, gpu.first_token_ms)
    gpus = [simpy.Resource(environment, 1) for _ in range(cell.clip_gpus)]
    clips = [
        Clip(
            environment,
            Cores(environment, 1),
            costs,
            GpuEngine(environment, gpus[number % cell.clip_gpus], gpu.batch_ms, gpu.pictures_per_s),
        )
        for number in range(cell.clips)
    ]
    places = cell.servers * max_parallel(gpu, cell.writers)
    writers = [
        Writer(environment, Cores(environment, 1), costs, prompts, places, max_waiting) for _ in range(cell.writers)
    ]
    ingresses = [
        Ingress(environment, Cores(environment, 1), costs, LimitSettings(), clips, writers, chance)
        for _ in range(cell.ingresses)
    ]
    return Site(environment, ingresses, clips, chance)


def max_parallel(gpu: Gpu, writers: int) -> int:
    """Give how many places each OllamaDeployment replica has at each server: a whole number, the same for all."""
    return gpu.places // writers


def _background(environment: simpy.Environment, cores: Cores, share: float) -> Steps:
    while True:
        yield from cores.work(BACKGROUND_MS * share, urgent=True)
        yield environment.timeout(BACKGROUND_MS)
