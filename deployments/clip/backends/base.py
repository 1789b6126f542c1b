"""The vision tower as one module, raw pixels in and unit vectors out, and the protocol of what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPModel

from deployments.batching import Batching


class Preprocessing(NamedTuple):
    """CLIP's own picture normalisation: input edge in pixels, then per-channel mean and deviation of 0..1 values."""

    input_size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class VisionTower(torch.nn.Module):
    """Normalisation, vision model, projection and unit length, for an engine to run as a whole.

    Args:
        model: in float32 on the CPU, in evaluation mode; its vision part is taken, not copied.
        preprocessing: the model's own.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, model: CLIPModel, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.vision = model.vision_model
        self.projection = model.visual_projection
        # 0..255 → normalised in one multiply and one add per channel.
        mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
        std = torch.tensor(preprocessing.std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Encode uint8 (pictures, height, width, 3) as float32 (pictures, embedding), in the vision model's dtype."""
        values = (pictures.permute(0, 3, 1, 2) * self.scale + self.shift).to(self.vision.dtype)
        return torch.nn.functional.normalize(self.projection(self.vision(values).pooler_output.float()), dim=-1)


Pictures = NDArray[np.uint8]
"""uint8, (pictures, edge, edge, 3), RGB, all of the model's input size."""

Vectors = NDArray[np.float32]
"""float32, (pictures, embedding), each of unit length."""


class Engine(Protocol):
    """A vision tower, compiled for a device."""

    @property
    def batching(self) -> Batching:
        """How many calls of `encode` may run at once, each in a thread of its own, and the size to stop growing at."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """What a person wants to know of it: engine, device, precision."""
        ...

    def encode(self, pictures: Pictures) -> Vectors:
        """Encode pictures; blocking.

        Raises:
            OutOfMemory: the device has no room for this many.
        """
        ...
