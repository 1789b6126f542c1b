"""How many of each a load needs, and what each of them can carry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.layouts import Cell, Gpu, max_parallel
from serve_app.settings import LimitSettings

REPLICAS_BUSY = 0.7
"""Share of its time that a replica may be busy: what is above makes lines long, and leaves no room for a lost one."""
SERVERS_BUSY = 0.8
"""The same for the Ollama servers' places, of which there are many."""
INGRESSES, REPLICAS = 3, 2
"""The least there are, as in configs/cluster.yaml: one of each may be lost, and each of three nodes has an ingress."""


@dataclass(frozen=True)
class Hour:
    """What an hour of renting costs, in dollars."""

    core: float
    gpu: float


@dataclass(frozen=True)
class Plan:
    """So many equal cells, and the pictures a second that each is given."""

    cells: int
    cell: Cell
    cell_per_s: float

    def dollars_per_million(self, hour: Hour) -> float:
        """Give what a million pictures cost."""
        per_hour = self.cell.cores * hour.core + self.cell.gpus * hour.gpu
        return 1e6 * per_hour / 3600 / self.cell_per_s


def busy_ms(costs: Costs, gpu: Gpu, tokens: int) -> Mapping[str, float]:
    """Give for how many ms a picture with its prompt occupies one of each part.

    A picture counts as a call of its own: among several CLIP replicas few share one. Batches are full.
    """
    token_ms = costs.token_ms
    largest, largest_ms = max(costs.beside_ms.items())
    return {
        "ingress replica": costs.ingress_ms
        + costs.ingress_call_ms
        + costs.decode_ms
        + costs.proxy_ms
        + tokens * (token_ms["ingress"] + token_ms["proxy"]),
        "ingress replica's places": answer_ms(gpu, tokens) / LimitSettings().max_requests,
        "CLIP replica": costs.clip_ms + costs.clip_call_ms,
        "CLIP replica on a core, without a GPU": costs.clip_ms + costs.clip_call_ms + largest_ms / largest,
        "GPU under CLIP": 1000 / gpu.pictures_per_s,
        "OllamaDeployment replica": tokens * token_ms["Ollama replica"],
        "Ollama server": answer_ms(gpu, tokens) / gpu.places,
    }


def answer_ms(gpu: Gpu, tokens: int) -> float:
    """Give how long an Ollama server writes a prompt."""
    return gpu.first_token_ms + 1000 * tokens / gpu.tokens_per_s


def full_per_s(costs: Costs, gpu: Gpu, tokens: int) -> Mapping[str, float]:
    """Give the pictures a second at which one of each part has no time left."""
    return {part: 1000 / ms for part, ms in busy_ms(costs, gpu, tokens).items()}


def largest_cell_per_s(costs: Costs, gpu: Gpu, tokens: int) -> float:
    """Give what one application carries: each OllamaDeployment replica needs a place at every server."""
    return gpu.places * REPLICAS_BUSY * full_per_s(costs, gpu, tokens)["OllamaDeployment replica"]


def planned(costs: Costs, gpu: Gpu, tokens: int, per_s: float) -> Plan:
    """Plan for a load of pictures a second, each with a prompt of so many tokens."""
    cells = math.ceil(per_s / largest_cell_per_s(costs, gpu, tokens))
    share_per_s, full = per_s / cells, full_per_s(costs, gpu, tokens)

    def enough(part: str, least: int) -> int:
        return max(least, math.ceil(share_per_s / full[part] / REPLICAS_BUSY))

    # As many as share out a server's places without a rest: a core costs less than an idle place.
    writers = gpu.places // max_parallel(gpu, enough("OllamaDeployment replica", REPLICAS))
    under_way = share_per_s * answer_ms(gpu, tokens) / 1000
    places_of_a_server = writers * max_parallel(gpu, writers)
    return Plan(
        cells,
        Cell(
            ingresses=max(enough("ingress replica", INGRESSES), enough("ingress replica's places", INGRESSES)),
            clips=enough("CLIP replica", REPLICAS),
            clip_gpus=enough("GPU under CLIP", REPLICAS),
            writers=writers,
            servers=max(REPLICAS, math.ceil(under_way / places_of_a_server / SERVERS_BUSY)),
        ),
        share_per_s,
    )
