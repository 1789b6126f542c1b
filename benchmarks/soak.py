"""`python -m benchmarks.soak [--minutes N]`: mixed load for long; what became of it, and what the processes hold.

It starts the service as `image-analyzer serve` does, with a full-size CLIP of random weights and a fake Ollama, sends
what `benchmarks.soak_requests` lists, and fails where an outcome is not among the right ones, or where a process holds
more memory or files at the end than after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles

import httpx

from benchmarks.rounds import FOLDER, started
from benchmarks.service import Service, ending_all
from benchmarks.soak_requests import Kind, kinds
from benchmarks.systems import OUR_SYSTEM, our_command
from benchmarks.workload import prepare
from tests.support.fake_ollama import Answer, FakeOllama

CALLERS = 8
SEED = 2026
WORDS = [f"word{number} " for number in range(30)]
WORD_INTERVAL_S = 0.01
PARALLEL_PROMPTS = 4
CACHE_ENTRIES = 64
"""Few, so that the cache is full when the warm-up ends and does not look like a leak."""
WARM_UP_SHARE = 0.2
GROWTH_ALLOWED = 1.05
NOISE_MIB = 8
"""What a process may grow by besides: 5 % of a small one is less than an allocator takes at a time."""
NOISE_FILES = 8
MIB = 1024 * 1024
PAGE_BYTES = 4096
ANSWER_LIMIT_S = 60
PERCENTILES = 100


@dataclass(frozen=True)
class Held:
    """What a process holds: resident memory in MiB, and open files."""

    rss_mib: float
    files: int


@dataclass
class Tally:
    """What became of all requests so far."""

    outcomes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    stages_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unexplained: list[str] = field(default_factory=list)

    def add(self, kind: Kind, outcome: str, stages_ms: Mapping[str, float]) -> None:
        """Count one."""
        self.outcomes[kind.name][outcome] += 1
        for stage, spent_ms in stages_ms.items():
            self.stages_ms[stage].append(spent_ms)
        if outcome not in kind.right:
            self.unexplained.append(f"{kind.name}: {outcome}")


def held(service: Service) -> dict[tuple[str, int], Held]:
    """Tell what each of the service's processes holds, by role and process id."""
    holdings = {}
    for pid, one in service.processes().items():
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            holdings[one.role, pid] = Held(pages * PAGE_BYTES / MIB, files)
    return holdings


async def call(url: str, until_s: float, tally: Tally) -> None:
    """Send one request after another."""
    choice = random.Random(f"{SEED} {time.monotonic_ns()}")  # noqa: S311 - load, no secret
    offered = kinds(choice)
    weights = [kind.weight for kind in offered]
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_LIMIT_S, trust_env=False) as client:
        while time.monotonic() < until_s:
            (kind,) = choice.choices(offered, weights)
            try:
                done = await kind.send(client)
            except httpx.HTTPError as error:
                tally.add(kind, type(error).__name__, {})
            else:
                tally.add(kind, done.outcome, done.stages_ms)


async def load(url: str, seconds: float, tally: Tally) -> None:
    """Keep `CALLERS` requests on their way for so long."""
    until_s = time.monotonic() + seconds
    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(call(url, until_s, tally))


def soak(minutes: float) -> int:
    """Run it; gives 0 where everything was as it must be."""
    answer = Answer(WORDS, interval_s=WORD_INTERVAL_S)
    with ending_all(), FakeOllama(answer, parallel=PARALLEL_PROMPTS) as ollama:
        ollama_settings = {"hosts": [ollama.url], "max_parallel": PARALLEL_PROMPTS}
        command = our_command("soak", ollama=ollama_settings, cache={"max_entries": CACHE_ENTRIES})
        with started(replace(OUR_SYSTEM, name="soak", command=command), prepare(FOLDER)) as (at, _):
            return _measured(at.service, at.url, 60 * minutes)


def _measured(service: Service, url: str, seconds: float) -> int:
    tally, readings = Tally(), []
    asyncio.run(load(url, WARM_UP_SHARE * seconds, Tally()))
    for _ in range(2):
        readings.append(held(service))
        asyncio.run(load(url, (1 - WARM_UP_SHARE) / 2 * seconds, tally))
    readings.append(held(service))
    grown = report(tally, readings, seconds)
    return 1 if tally.unexplained or grown else 0


def report(tally: Tally, readings: list[dict[tuple[str, int], Held]], seconds: float) -> list[str]:
    """Print the tables; gives the processes that hold more than they may."""
    total = sum(sum(outcomes.values()) for outcomes in tally.outcomes.values())
    print(
        f"{total} requests by {CALLERS} callers in {(1 - WARM_UP_SHARE) * seconds / 60:.1f} minutes, after a warm-up\n"
    )
    print("| request | outcomes |\n| --- | --- |")
    for name, outcomes in tally.outcomes.items():
        print(f"| {name} | {', '.join(f'{count} x {outcome}' for outcome, count in outcomes.most_common())} |")
    print("\n| stage | n | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
    for stage, spent_ms in tally.stages_ms.items():
        if len(spent_ms) > 1:
            cuts = quantiles(spent_ms, n=PERCENTILES)
            print(f"| {stage} | {len(spent_ms)} | {cuts[49]:.1f} | {cuts[98]:.1f} |")
    print("\n| process | MiB at start, middle, end | files |\n| --- | --- | --- |")
    grown = []
    first, last = readings[0], readings[-1]
    for process in sorted(first.keys() & last.keys(), key=lambda process: -last[process].rss_mib):
        seen = [reading[process] for reading in readings if process in reading]
        memory = ", ".join(f"{each.rss_mib:.0f}" for each in seen)
        print(f"| {process[0]} | {memory} | {', '.join(str(each.files) for each in seen)} |")
        allowed_mib = max(first[process].rss_mib * GROWTH_ALLOWED, first[process].rss_mib + NOISE_MIB)
        if last[process].rss_mib > allowed_mib or last[process].files > first[process].files + NOISE_FILES:
            grown.append(process[0])
    print(f"\nunexplained outcomes: {len(tally.unexplained)} {Counter(tally.unexplained).most_common(5) or ''}")
    print(f"processes that grew: {', '.join(grown) or 'none'}")
    return grown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    sys.exit(soak(parser.parse_args().minutes))
