"""Measure what the simulation is given and what it must reproduce: `python -m benchmarks.capacity.measure`, 8 minutes.

Writes measured.json beside this file: the machine, the bare costs of decoding and of batches of each size, and of the
running service, at each level of load, rate, latency and CPU time by role. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.bench import FOLDER, Bench, Plan
from benchmarks.figures import Figures, percentile
from benchmarks.service import end_all
from benchmarks.stamping_ollama import stamping_ollama
from benchmarks.streaming import SERVED, measure_streaming
from benchmarks.systems import OURS, all_systems, our_command
from benchmarks.timing import median_ms
from benchmarks.workload import Workload, prepare
from deployments.clip.labels import load_labels
from deployments.clip.model import ClipEncoder, load_encoder
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from serve_app.images import read_picture
from serve_app.settings import ImageSettings

MEASURED = Path(__file__).with_name("measured.json")
CALLERS = (1, 2, 4, 8, 16, 32, 64, 128)
PROMPT_CALLERS = (1, 4, 8, 16)
PROMPT_TOKENS, TOKENS_PER_S, SERVER_PLACES = 50, 50, 4
"""What the fake Ollama server writes: answers of a second, four at a time."""
BATCH_SIZES = (1, 2, 4, 8, 16)
REPEATS = 15
PROMPTS = "prompts"
EDGE_PX = 224


def batch_costs(encoder: ClipEncoder, cores: int) -> dict[str, dict[int, float]]:
    """Give the wall time in ms of a batch by its size: alone on all cores, and with every core busy with one."""
    prepared = encoder.prepare(load_labels(DEFAULT_LABELS_FILE))
    random = np.random.default_rng(0)
    alone_ms, beside_ms = {}, {}
    for size in BATCH_SIZES:
        pictures = [random.integers(0, 256, (EDGE_PX, EDGE_PX, 3), np.uint8) for _ in range(size)]
        alone_ms[size] = median_ms(lambda pictures=pictures: encoder.logits(pictures, prepared), REPEATS)  # type: ignore[misc]
        together = Barrier(cores)

        def beside(_: int, pictures: list[Any] = pictures, together: Barrier = together) -> float:
            together.wait()
            return median_ms(lambda: encoder.logits(pictures, prepared), REPEATS)

        with ThreadPoolExecutor(cores) as threads:
            beside_ms[size] = statistics.median(threads.map(beside, range(cores)))
    return {"alone_ms": alone_ms, "beside_ms": beside_ms}


def bare_costs(workload: Workload) -> dict[str, Any]:
    """Give the costs without a service, in ms."""
    cores = len(os.sched_getaffinity(0))
    settings = ClipSettings(model=str(workload.model), device="cpu")
    encoder = load_encoder(workload.model, settings=settings, gpu_assigned=False, cores=cores)
    upload, decoding = workload.picture.read_bytes(), ImageSettings()
    return {
        "cores": cores,
        "decode_ms": median_ms(lambda: read_picture(upload, decoding, EDGE_PX), REPEATS, time.thread_time),
        **batch_costs(encoder, cores),
    }


def levels(figures: dict[tuple[str, int], Figures], name: str) -> dict[int, dict[str, Any]]:
    """Give rate, latencies and CPU times of a system at each level of load."""
    return {
        callers: {
            "rate": some.rate,
            "p50_ms": percentile(some.latencies_ms, 0.5),
            "p99_ms": percentile(some.latencies_ms, 0.99),
            "cpu_ms": some.cpu_ms,
            "client_cpu_ms": some.client_cpu_ms,
            "refused": len(some.refusals_ms),
            "failed": some.failures,
        }
        for (system, callers), some in sorted(figures.items())
        if system == name
    }


def main() -> None:
    """Measure and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    workload = prepare(FOLDER)
    measured: dict[str, Any] = {"machine": machine.describe(), **bare_costs(workload)}
    (ours,) = (system for system in all_systems(quick=False) if system.name == OURS)
    try:
        analyses = Bench(workload, Plan(), [replace(ours, callers=CALLERS)])
        analyses.run()
        with stamping_ollama(PROMPT_TOKENS, TOKENS_PER_S, SERVER_PLACES) as ollama:
            command = our_command(PROMPTS, {"hosts": [ollama.url], "max_parallel": SERVER_PLACES})
            prompted = replace(ours, name=PROMPTS, command=command, form={}, callers=PROMPT_CALLERS)
            written = Bench(workload, Plan(rounds=1, window_s=15), [prompted])
            written.run()
    finally:
        end_all()
    measured["analyses"] = levels(analyses.figures(), OURS)
    measured["prompts"] = levels(written.figures(), PROMPTS)
    streams = measure_streaming(rounds=2, paths=(SERVED,))
    measured["token_cpu_ms"] = {callers: passage.cpu_ms for (callers, _), passage in streams.items()}
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"Written to {MEASURED}.")


if __name__ == "__main__":
    main()
