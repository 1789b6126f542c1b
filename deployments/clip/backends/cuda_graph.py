"""CLIP's vision tower on a CUDA GPU, its passes recorded once and then replayed as a whole.

Launched one by one from Python, the kernels of a small batch take longer than they run. A CUDA graph launches them at
once (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs); `python -m benchmarks.engines FOLDER --device cuda`
compares, benchmarks/engines_h200.txt is what it printed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from deployments.clip.backends.base import Pictures, Vectors
from deployments.clip.backends.torch import TorchEngine, telling_of_memory
from deployments.clip.checkpoint import VisionTower

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

MAX_RECORDED = 32
"""Pictures in the largest recorded batch. Larger ones run about as long as they take to launch, and a recording keeps
the memory of its pass.
"""

logger = logging.getLogger("image_analyzer.clip")


class RecordedPasses:
    """A tower's passes on a CUDA device, by batch size: a batch is filled up to the next power of two."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        self._tower = tower
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()
        self._recordings: dict[int, _Recording] = {}

    def encode(self, pictures: Pictures) -> Vectors:
        """Replay the pass for a batch of this size; recorded at its first time."""
        size = 1 << (len(pictures) - 1).bit_length()
        if size not in self._recordings:
            self._recordings[size] = _Recording(self._tower, size, self._device, self._memory)
        return self._recordings[size].replay(pictures)


class _Recording:
    """The pass over a batch of one size, with the memory that it reads from and writes to."""

    def __init__(self, tower: VisionTower, size: int, device: torch.device, memory: _POOL_HANDLE) -> None:
        edge = tower.preprocessing.input_size_px
        self._sent = torch.zeros((size, edge, edge, 3), dtype=torch.uint8, pin_memory=True)
        self._pictures = self._sent.to(device)
        # What libraries set up at their first call must not be recorded.
        tower(self._pictures)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"):
            self._vectors = tower(self._pictures)

    def replay(self, pictures: Pictures) -> Vectors:
        count = len(pictures)
        self._sent.numpy()[:count] = pictures
        self._pictures[:count].copy_(self._sent[:count], non_blocking=True)
        self._graph.replay()
        vectors: Vectors = self._vectors[:count].cpu().numpy()
        return vectors


class CudaEngine(TorchEngine):
    """One call at a time, replayed; launched kernel by kernel, as by `TorchEngine`, where the GPU takes no recordings.

    Args:
        tower: in float32 on the CPU; moved, not copied.
        device: where to run.
        dtype: what the vision model computes in; normalisation and projection stay in float32.
        cores: threads for what is left to the CPU.
        passes: records the tower's passes on the device.

    Raises:
        OutOfMemory: the weights do not fit the device.
    """

    def __init__(
        self,
        tower: VisionTower,
        device: torch.device,
        dtype: torch.dtype,
        cores: int,
        passes: Callable[[VisionTower, torch.device], RecordedPasses] = RecordedPasses,
    ) -> None:
        super().__init__(tower, device, dtype, cores)
        self._passes: RecordedPasses | None = passes(self._tower, device)

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Those of `TorchEngine`, and how passes are launched."""
        return {**super().facts, "launch": "kernel by kernel" if self._passes is None else "recorded"}

    @torch.inference_mode()
    def encode(self, pictures: Pictures) -> Vectors:
        """Encode pictures.

        Raises:
            OutOfMemory: CUDA has no room for this many.
        """
        passes = self._passes
        if passes is not None and len(pictures) <= MAX_RECORDED:
            try:
                return telling_of_memory(lambda: passes.encode(pictures))
            except RuntimeError:
                self._passes = None
                logger.warning("This GPU takes no recorded passes: they are launched kernel by kernel.", exc_info=True)
        return super().encode(pictures)
