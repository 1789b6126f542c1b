"""What runs CLIP's vision tower: implement `Engine` to bring it to another runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.batching import Batching

Pictures = NDArray[np.uint8]
"""uint8, (pictures, edge, edge, 3), RGB, all of the model's input size."""

Vectors = NDArray[np.float32]
"""float32, (pictures, embedding), each of unit length."""


class TowerFacts(NamedTuple):
    """What is to be known of a vision tower besides how to run it.

    The edge in px of the squares that it is given, the filter that makes them (Pillow's number), what is added to each
    logit (0 but in the SigLIP family), and the weights of the whole model, its text tower's too.
    """

    input_size_px: int
    resample: int
    logit_bias: float
    parameters: int


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


def require_numbers(vectors: Vectors, tower: str) -> None:
    """Refuse what a tower makes of good input if it is not numbers: one such weight spoils every vector.

    Raises:
        OSError: it is not.
    """
    if not np.isfinite(vectors).all():
        raise OSError(f"the weights of its {tower} model hold NaN or infinity, or overflow in the precision chosen")
