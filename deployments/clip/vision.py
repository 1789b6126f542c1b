"""What a vision model must do to be asked about pictures: implement this class and the rest follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.batching import Batching
from deployments.clip.labels import LabelSet
from deployments.types import AnalyzerName

Pixels = NDArray[np.uint8]
"""One picture: uint8, (height, width, 3), RGB."""

Logits = NDArray[np.float32]
"""float32, (pictures, labels): one number per label, in `LabelSet.texts()` order; softmaxed per category."""


class VisionModel(Protocol):
    """Gives each picture one logit per label.

    `logits` is called from up to `batching.streams` threads at once; `prepare` may run in another meanwhile, so that
    new labels stall no picture.
    """

    @property
    def analyzer(self) -> AnalyzerName:
        """The name that answers carry."""
        ...

    @property
    def input_size_px(self) -> int:
        """The edge of the square picture this model wants; others are resized to it."""
        ...

    @property
    def batching(self) -> Batching:
        """How many calls of `logits` may run at once, and the pictures per call above which the rate gains little."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """What a person wants to know of it: device, precision, model name."""
        ...

    def prepare(self, labels: LabelSet) -> Any:
        """Do everything that depends on the labels alone, once per label set; handed back to `logits`.

        Raises:
            OutOfMemory: the device has no room for it.
        """
        ...

    def logits(self, pictures: list[Pixels], prepared: Any) -> Logits:
        """Compare pictures with the prepared labels.

        Raises:
            OutOfMemory: the device has no room for a batch of this size.
        """
        ...
