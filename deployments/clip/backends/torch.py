"""CLIP's vision tower in eager torch, on any device: the reference, and what the GPU's engine is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from deployments.batching import Batching
from deployments.clip.backends.base import Pictures, Vectors
from deployments.clip.checkpoint import VisionTower
from deployments.errors import OutOfMemory

OUT_OF_MEMORY_RETRY_AFTER_S = 10
"""What a caller is told: Ollama's model leaves the card between two answers at the soonest."""

DEVICE_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How a full card shows where torch's own allocator is not the one that asks: CUDA's context, cuBLAS' workspace."""

Result = TypeVar("Result")


class TorchEngine:
    """One call at a time, on all that the device has.

    Args:
        tower: in float32 on the CPU; moved, not copied.
        device: where to run.
        dtype: what the vision model computes in; normalisation and projection stay in float32.
        cores: threads where the device is the CPU.

    Raises:
        OutOfMemory: the weights do not fit the device.
    """

    batching = Batching(streams=1, batch_size=16)

    def __init__(self, tower: VisionTower, device: torch.device, dtype: torch.dtype, cores: int) -> None:
        self._device = device
        self._dtype = dtype
        self._cores = cores
        tower.vision.to(dtype)
        self._tower = telling_of_memory(lambda: tower.to(device))

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Device, precision, engine; on a GPU its name and the memory that torch has taken."""
        facts: dict[str, str | int | float] = {
            "device": str(self._device),
            "precision": str(self._dtype).removeprefix("torch."),
            "engine": "torch",
        }
        if self._device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(self._device)
            facts["gpu_memory_mb"] = round(torch.cuda.memory_allocated(self._device) / 1e6)
        return facts

    @torch.inference_mode()
    def encode(self, pictures: Pictures) -> Vectors:
        """Encode pictures.

        Raises:
            OutOfMemory: CUDA has no room for this many.
        """
        # Torch's thread count holds only in the thread that sets it.
        torch.set_num_threads(self._cores)
        return telling_of_memory(lambda: self._tower(self._moved(torch.from_numpy(pictures))).cpu().numpy())

    def _moved(self, pictures: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cuda":
            return pictures
        # The GPU fetches from pinned memory by itself.
        return pictures.pin_memory().to(self._device, non_blocking=True)


def telling_of_memory(work: Callable[[], Result]) -> Result:
    """Run `work`; where it finds the device full, raise `OutOfMemory`.

    Raised when the first error is gone: its traceback would keep the tensors of `work` on the device.
    """
    try:
        return work()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(mark in str(error) for mark in DEVICE_FULL):
            raise
    raise _out_of_memory()


def _out_of_memory() -> OutOfMemory:
    torch.cuda.empty_cache()
    return OutOfMemory(
        "CUDA is out of memory: stop what else uses the GPU (nvidia-smi lists it), let Ollama leave it sooner "
        "(ollama.keep_alive: 0), or run CLIP on the CPU (DEVICE=cpu).",
        retry_after_s=OUT_OF_MEMORY_RETRY_AFTER_S,
    )
