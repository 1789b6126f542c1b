"""The engines side by side on this machine: `python -m benchmarks.engines FOLDER [--device cuda] [--compile]`.

FOLDER holds a model of the CLIP family; a full-size one with random weights comes from
`python -m tests.support.tiny_clip FOLDER --full-size`. No HTTP, no Ray: pictures per second with all streams busy, by
batch size, and the milliseconds of a lone picture; medians of alternating rounds. The bare forward has its pixels on
the device already and leaves the vectors there.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from deployments.clip.backends.base import Engine, Pictures, Vectors
from deployments.clip.backends.cuda_graph import CudaEngine
from deployments.clip.backends.openvino import OpenVinoEngine
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.checkpoint import VisionTower, converted
from deployments.clip.model import encoder_in_torch
from deployments.clip.settings import PrecisionName

BATCH_SIZES = {"cpu": (1, 4, 8, 16, 32), "cuda": (1, 8, 16, 32, 64, 128)}
ROUND_S = 1.5
LONE_PICTURES = 20
EDGE_PX = 224


class Compiled(TorchEngine):
    """The torch engine's tower through torch.compile, for comparison: it needs a C++ compiler on a CPU."""

    def __init__(self, tower: VisionTower, device: torch.device, dtype: torch.dtype, cores: int) -> None:
        super().__init__(tower, device, dtype, cores)
        self._tower = torch.compile(self._tower)  # type: ignore[assignment]


class Bare(TorchEngine):
    """The forward alone, on pixels that are on the device: what the torch engine is held against on a GPU."""

    _kept = torch.empty(0)

    @torch.inference_mode()
    def encode(self, pictures: Pictures) -> Vectors:
        """Run the tower and wait for it; the vectors stay where they are."""
        if self._kept.shape != pictures.shape:
            self._kept = torch.from_numpy(pictures).to(self._device)
        self._tower(self._kept)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return np.empty(0, np.float32)


def engines(device: torch.device, cores: int, compiled: bool) -> dict[str, Callable[[VisionTower], Engine]]:
    """Name what is compared."""
    made: dict[str, Callable[[VisionTower], Engine]] = {}
    for dtype in (torch.float32, torch.float16 if device.type == "cuda" else torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        on_torch: dict[str, Any] = {"device": device, "dtype": dtype, "cores": cores}
        made[f"bare forward {name}"] = functools.partial(Bare, **on_torch)
        made[f"torch {name}"] = functools.partial(TorchEngine, **on_torch)
        if device.type == "cuda":
            made[f"CUDA graphs {name}"] = functools.partial(CudaEngine, **on_torch)
        if compiled:
            made[f"torch.compile {name}"] = functools.partial(Compiled, **on_torch)
        if device.type == "cpu":
            made[f"OpenVINO {name}"] = functools.partial(_openvino, precision=cast(PrecisionName, name), cores=cores)
    return made


def _openvino(tower: VisionTower, precision: PrecisionName, cores: int) -> Engine:
    return OpenVinoEngine(converted(tower), precision, cores)


def rate(engine: Engine, threads: ThreadPoolExecutor, batch: Pictures) -> float:
    """Give the pictures per second with every stream busy."""
    deadline_s = (started_s := time.perf_counter()) + ROUND_S

    def run(_: int) -> int:
        done = 0
        while time.perf_counter() < deadline_s:
            engine.encode(batch)
            done += len(batch)
        return done

    done = sum(threads.map(run, range(engine.batching.streams)))
    return done / (time.perf_counter() - started_s)


def lone_ms(engine: Engine, picture: Pictures) -> float:
    """Give the median time of a lone picture, after one that does not count."""
    taken_ms = []
    for _ in range(1 + LONE_PICTURES):
        started_s = time.perf_counter()
        engine.encode(picture)
        taken_ms.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(taken_ms[1:])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: minutes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device, cores = torch.device(arguments.device), len(os.sched_getaffinity(0))
    made: dict[str, Engine] = {}

    def keep(name: str, make: Callable[[VisionTower], Engine]) -> Callable[[VisionTower], Engine]:
        def making(tower: VisionTower) -> Engine:
            made[name] = make(tower)
            return made[name]

        return making

    for name, make in engines(device, cores, arguments.compile).items():
        encoder_in_torch(arguments.folder, name=name, make_engine=keep(name, make))
    batches = {
        size: np.random.default_rng(size).integers(0, 256, (size, EDGE_PX, EDGE_PX, 3), np.uint8)
        for size in BATCH_SIZES[device.type]
    }
    rates: dict[tuple[str, int], list[float]] = {}
    lone: dict[str, list[float]] = {}
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(arguments.rounds):
            for name, engine in made.items():
                for size, batch in batches.items():
                    engine.encode(batch)
                    rates.setdefault((name, size), []).append(rate(engine, threads, batch))
                lone.setdefault(name, []).append(lone_ms(engine, batches[1]))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cores} cores"
    print(f"{where}, torch {torch.__version__}; pictures/s by batch size, ms of a lone picture")
    print(f"{'':26}" + "".join(f"{size:>9}" for size in batches) + f"{'lone ms':>10}")
    for name in made:
        row = "".join(f"{statistics.median(rates[name, size]):9.1f}" for size in batches)
        print(f"{name:26}{row}{statistics.median(lone[name]):10.1f}")
    if device.type == "cuda":
        print(f"memory taken by torch, all engines together: {torch.cuda.memory_reserved() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
