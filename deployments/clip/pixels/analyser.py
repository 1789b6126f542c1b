"""The pixel analyser: a vision model that only measures, for a machine without CLIP's weights.

Each label has a prototype, a few measures of `measures.py` with the value that they take for it. A picture's
logit for the label is the log-likelihood of its measures under Cauchy distributions around those values, averaged
over the measures so that labels with many are not worse off:

    logit = -SHARPNESS * mean(log(1 + ((measured - target) / tolerance)^2)) - doubt

The Cauchy form forgives one measure that is far off if the others fit. Colour and light answers are facts,
composition is fair, style and subjects are hints: pixels say "mostly green and finely textured", from which
"forest" is a guess.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from deployments.batching import Batching
from deployments.clip.classifier import Features, Logits, Tagger
from deployments.clip.labels import LabelSet
from deployments.clip.pixels.measures import MEASURE_NAMES, measure
from deployments.clip.resizing import to_square
from deployments.errors import SettingsError
from deployments.types import BICUBIC, CATEGORIES, AnalyzerName, Pixels

logger = logging.getLogger("image_analyzer.pixels")

INPUT_SIZE_PX = 224
"""The size that the prototypes are tuned at; the same as CLIP's, so either can take over from the other."""

SHARPNESS = 2.0
"""At 2 the best colour label of the test pictures takes 0.2 to 0.8 of its category (median 0.5), the best
subject 0.1 to 0.6 (median 0.24): sure where measuring is sure, undecided where it is not."""


DEFAULT_PROTOTYPES = Path(__file__).with_name("prototypes.yaml")
"""Per label, what a picture of it measures."""

Target = tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(gt=0)]]
"""Where a measure lies for a label, and the distance from there that counts as one step."""


class Prototype(BaseModel):
    """A label in measures. `doubt` is taken off its logit: how little pixels tell about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: Mapping[str, Target] = Field(min_length=1)
    doubt: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, content: object) -> object:
        """Take the YAML's flat mapping apart into targets and doubt."""
        if not isinstance(content, dict):
            return content
        targets = {name: target for name, target in content.items() if name != "doubt"}
        unknown = sorted(str(name) for name in targets.keys() - set(MEASURE_NAMES))
        if unknown:
            raise ValueError(f"no such measure: {', '.join(unknown)}")
        return {"targets": targets, "doubt": content.get("doubt", 0.0)}


Prototypes = Mapping[str, Mapping[str, Prototype]]
"""Category → label → prototype; the same label may stand in two categories."""

_PROTOTYPES: TypeAdapter[dict[str, dict[str, Prototype]]] = TypeAdapter(dict[str, dict[str, Prototype]])


def load_prototypes(path: Path = DEFAULT_PROTOTYPES) -> Prototypes:
    """Read a prototype file.

    Raises:
        SettingsError: the file cannot be read, or names a category or a measure that there is not.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        prototypes = _PROTOTYPES.validate_python(content)
    except OSError as error:
        raise SettingsError(f"Prototype file {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"Prototype file {path} is not valid YAML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {place}: {first['msg']}.") from error
    unknown = sorted(prototypes.keys() - set(CATEGORIES))
    if unknown:
        raise SettingsError(f"{path}: no such category: {', '.join(unknown)}.")
    return prototypes


@dataclass(frozen=True, slots=True)
class PreparedPrototypes:
    """The prototypes of one label set as arrays: float32, (labels, measures) and (labels,)."""

    targets: NDArray[np.float32]
    steps_per_unit: NDArray[np.float32]
    """1 / tolerance; 0 where the label does not name the measure."""
    weights: NDArray[np.float32]
    """SHARPNESS / number of measures named."""
    offsets: NDArray[np.float32]
    """Minus the doubt; -inf rules out a label without prototype."""


class PixelAnalyser:
    """A `VisionModel` of measured colour, light, edges and layout. Needs no weights, no network, no GPU."""

    analyzer: AnalyzerName = "pixels"
    tagger: Tagger | None = None
    input_size_px = INPUT_SIZE_PX
    resample = BICUBIC
    # One: its numpy holds the interpreter for most of the time.
    batching = Batching(streams=1, batch_size=16)

    def __init__(self, prototypes: Prototypes | None = None, no_objects: str = "") -> None:
        self._prototypes = load_prototypes() if prototypes is None else prototypes
        self._no_objects = no_objects

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """What a person wants to know of it."""
        facts: dict[str, str | int | float] = {"device": "cpu", "measures": len(MEASURE_NAMES)}
        return {**facts, "no_objects": self._no_objects} if self._no_objects else facts

    def unknown_labels(self, labels: LabelSet) -> list[str]:
        """List the labels without prototype of categories that have some, as "category: label"; they are never chosen.

        Where a whole category has no prototype its labels score alike instead; any other category than the contract's
        is empty, as there is nothing that it could be measured by.
        """
        return [
            f"{name}: {label}"
            for name, category, _ in labels.categories()
            for label in category.labels
            if name in CATEGORIES and label not in self._prototypes.get(name, {})
        ]

    def prepare(self, labels: LabelSet) -> PreparedPrototypes:
        """Lay out the prototypes of exactly these labels."""
        unknown = self.unknown_labels(labels)
        if unknown:
            logger.warning("The pixel analyser has no measure for these labels: %s.", "; ".join(unknown))
        count = labels.count
        targets = np.zeros((count, len(MEASURE_NAMES)), np.float32)
        steps_per_unit = np.zeros_like(targets)
        weights = np.zeros(count, np.float32)
        offsets = np.zeros(count, np.float32)
        for name, category, columns in labels.categories():
            known = self._prototypes.get(name, {})
            alike = name in CATEGORIES and known.keys().isdisjoint(category.labels)
            for row, label in enumerate(category.labels, start=columns.start):
                prototype = known.get(label)
                if prototype is None:
                    offsets[row] = 0 if alike else -np.inf
                    continue
                for measure_name, (target, tolerance) in prototype.targets.items():
                    column = MEASURE_NAMES.index(measure_name)
                    targets[row, column] = target
                    steps_per_unit[row, column] = 1 / tolerance
                weights[row] = SHARPNESS / len(prototype.targets)
                offsets[row] = -prototype.doubt
        return PreparedPrototypes(targets, steps_per_unit, weights, offsets)

    def features(self, pictures: list[Pixels]) -> Features:
        """Measure pictures: float32, (pictures, measures), in the order of `MEASURE_NAMES`."""
        # Box, so that a small picture keeps its hard steps.
        squares = [to_square(picture, INPUT_SIZE_PX, Image.Resampling.BOX) for picture in pictures]
        measured = np.array([astuple(measure(square)) for square in squares], np.float32)
        return measured.reshape(len(pictures), len(MEASURE_NAMES))

    def logits(self, features: Features, prepared: PreparedPrototypes) -> Logits:
        """Compare what was measured with the prototypes: float32, (pictures, labels)."""
        steps = (features[:, None] - prepared.targets) * prepared.steps_per_unit
        unlikelihood = np.log1p(steps * steps).sum(axis=2)
        logits: Logits = prepared.offsets - prepared.weights * unlikelihood
        return logits
