"""How many of each part a load needs, and what that costs: `python -m benchmarks.plan`.

Closed formulas over costs.json, which `make bench` writes, and over figures of GPU and rent that this machine cannot
give. Prints the tables of docs/scaling.md, or with options of those figures a plan of your own.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints

from benchmarks.report import filled, table
from benchmarks.service import ROOT
from deployments.ollama.settings import OllamaSettings
from serve_app.settings import LimitSettings

COSTS, PAGE = Path(__file__).with_name("costs.json"), ROOT / "docs" / "scaling.md"
LOADS_PER_S = (10, 1_000)
TOKENS = OllamaSettings().num_predict_standard
"""Of a prompt, at most, in standard mode."""
REPLICAS_BUSY = 0.7
"""Share of its time that a replica may be busy: what is above makes lines long, and leaves no room for a lost one."""
SERVERS_BUSY = 0.8
"""The same for the Ollama servers' places, of which there are many."""
INGRESSES, CLIPS, REPLICAS = 3, 3, 2
"""The least there are, as in configs/cluster.yaml: one of each may be lost, each of three nodes has an ingress, and
three of CLIP are on two GPUs."""


@dataclass(frozen=True)
class Costs:
    """CPU-ms on a core of the machine that they were measured on.

    Args:
        machine: what that is, and when.
        decode_ms: decoding and shrinking a picture, which the ingress does.
        forward_ms: a picture's pass through ViT-B/32, all streams busy with full batches.
        picture_ms: by process, for each picture, without that pass.
        token_ms: by process, for each token of a streamed prompt.
    """

    machine: str
    decode_ms: float
    forward_ms: float
    picture_ms: Mapping[str, float]
    token_ms: Mapping[str, float]

    def write(self) -> None:
        """Keep them, and put the tables that follow from them into docs/scaling.md."""
        COSTS.write_text(json.dumps(asdict(self), indent=1) + "\n")
        PAGE.write_text(filled(PAGE.read_text(), tables(self)))


@dataclass(frozen=True)
class Rented:
    """What a GPU does, and an hour's rent in dollars; docs/scaling.md says where the figures come from.

    Args:
        pictures_per_s: through CLIP, at most.
        places: prompts that an Ollama server on it writes at a time.
        tokens_per_s: of each of them while all places are taken.
        first_token_ms: what reading a request takes.
        core_hour: a core's rent.
        gpu_hour: a GPU's.
    """

    pictures_per_s: float = 10_127
    places: int = 4
    tokens_per_s: float = 106
    first_token_ms: float = 64
    core_hour: float = 0.04
    gpu_hour: float = 0.5

    @property
    def answer_ms(self) -> float:
        """How long an Ollama server writes a prompt."""
        return self.first_token_ms + 1000 * TOKENS / self.tokens_per_s


OLLAMA, LARGE_BATCHES = Rented(), Rented(places=60, tokens_per_s=30)


@dataclass(frozen=True)
class Plan:
    """So many equal applications, and how many of each part all of them have together."""

    per_s: float
    applications: int
    ingresses: int
    clips: int
    clip_gpus: int
    writers: int
    servers: int

    @property
    def cores(self) -> int:
        """A core for each replica."""
        return self.ingresses + self.clips + self.writers

    @property
    def gpus(self) -> int:
        """Those that CLIP replicas share, and one for each Ollama server."""
        return self.clip_gpus + self.servers

    def dollars_per_million(self, rented: Rented) -> float:
        """Give what a million pictures cost."""
        return 1e6 * (self.cores * rented.core_hour + self.gpus * rented.gpu_hour) / 3600 / self.per_s


def full_per_s(costs: Costs, rented: Rented) -> dict[str, float]:
    """Give the pictures a second, each with a prompt, at which one of each part has no time left."""
    picture_ms, token_ms = costs.picture_ms, costs.token_ms
    clip_ms = picture_ms["CLIP replica"]
    busy_ms = {
        # Each node's HAProxy works beside its ingress.
        "ingress replica": sum(picture_ms[part] + TOKENS * token_ms[part] for part in ("ingress", "HAProxy")),
        "ingress replica's places": rented.answer_ms / LimitSettings().max_requests,
        "CLIP replica": clip_ms,
        "CLIP replica on a core, without a GPU": clip_ms + costs.forward_ms,
        "GPU under CLIP": 1000 / rented.pictures_per_s,
        "OllamaDeployment replica": TOKENS * token_ms["Ollama replica"],
        "Ollama server": rented.answer_ms / rented.places,
    }
    return {part: 1000 / ms for part, ms in busy_ms.items()}


def largest_application_per_s(costs: Costs, rented: Rented) -> float:
    """Give what one application carries: each OllamaDeployment replica needs a place at every server."""
    return rented.places * REPLICAS_BUSY * full_per_s(costs, rented)["OllamaDeployment replica"]


def planned(costs: Costs, rented: Rented, per_s: float) -> Plan:
    """Plan for so many pictures a second, each with a prompt of `TOKENS`."""
    applications = math.ceil(per_s / largest_application_per_s(costs, rented))
    share_per_s, full = per_s / applications, full_per_s(costs, rented)

    def enough(part: str, least: int) -> int:
        return max(least, math.ceil(share_per_s / full[part] / REPLICAS_BUSY))

    # As many as share out a server's places without a rest: a core costs less than an idle place.
    writers = rented.places // (rented.places // enough("OllamaDeployment replica", REPLICAS))
    shared_places = rented.places // writers * writers
    under_way = share_per_s * rented.answer_ms / 1000
    return Plan(
        per_s,
        applications,
        applications * max(enough(part, INGRESSES) for part in ("ingress replica", "ingress replica's places")),
        applications * enough("CLIP replica", CLIPS),
        applications * enough("GPU under CLIP", REPLICAS),
        applications * writers,
        applications * max(REPLICAS, math.ceil(under_way / shared_places / SERVERS_BUSY)),
    )


def tables(costs: Costs) -> dict[str, str]:
    """Give the tables of docs/scaling.md by their names there."""
    full = {**full_per_s(costs, OLLAMA), "application": largest_application_per_s(costs, OLLAMA)}
    head = ("part", "is full at pictures/s, each with a prompt")
    return {
        "machine": costs.machine,
        "costs": table(("step", "CPU-ms", "for each"), _cost_rows(costs)),
        "limits": table(head, [(f"one {part}", f"{per_s:,.1f}") for part, per_s in full.items()]),
        "plan": plan_table(costs, OLLAMA),
        "large_batches": plan_table(costs, LARGE_BATCHES),
    }


def plan_table(costs: Costs, rented: Rented) -> str:
    """Show how many of each every load needs, and what that costs."""
    head = ("pictures/s", "applications", "ingress", "CLIP", "GPUs under CLIP", "OllamaDeployment", "Ollama servers")
    rows = []
    for plan in (planned(costs, rented, per_s) for per_s in LOADS_PER_S):
        counts = (*asdict(plan).values(), plan.cores, plan.gpus, round(plan.dollars_per_million(rented)))
        rows.append([f"{count:,}" for count in counts])
    return table((*head, "cores", "GPUs", "dollars per million"), rows)


def _cost_rows(costs: Costs) -> Iterator[tuple[str, str, str]]:
    picture_ms = costs.picture_ms
    for step, ms in (
        ("HAProxy", picture_ms["HAProxy"]),
        ("ingress: decoding and shrinking", costs.decode_ms),
        ("ingress: all else", picture_ms["ingress"] - costs.decode_ms),
        ("CLIP replica besides the forward pass", picture_ms["CLIP replica"]),
        ("forward pass on a core, in full batches", costs.forward_ms),
    ):
        yield step, f"{ms:.1f}", "picture"
    for part in ("HAProxy", "ingress", "Ollama replica"):
        yield part, f"{costs.token_ms[part]:.2f}", "token of a streamed prompt"


def read() -> Costs:
    """Read what `make bench` measured last."""
    return Costs(**json.loads(COSTS.read_text()))


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = get_type_hints(Rented)
    for name, kind in kinds.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(OLLAMA, name))
    rented = Rented(**vars(parser.parse_args()))
    print(plan_table(read(), rented) if rented != OLLAMA else "\n\n".join(tables(read()).values()))


if __name__ == "__main__":
    main()
