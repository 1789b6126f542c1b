"""`tests.support.frail_clip:build`: the service with a CLIP that fails on certain pictures, and on batches of three."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve import Application

from deployments.clip.classifier import ClipModel, Features, Logits, Tagger
from deployments.clip.deployment import ClipDeployment
from deployments.clip.labels import LabelSet
from deployments.clip.model import load_encoder
from deployments.clip.settings import ClipSettings
from deployments.clip.vocabulary.store import TextEmbedder
from deployments.errors import OutOfMemory
from deployments.types import AnalyzerName, Pixels
from serve_app.app import compose
from serve_app.settings import load_settings

POISON, TOO_MUCH = (255, 0, 255), (0, 255, 255)
"""Colours: a picture of the first makes the model fail, one of the second takes more memory than there is."""

ROOM_FOR = 2
"""Pictures that fit into its memory."""


class FrailModel:
    """A vision model with these weaknesses, and another's strengths."""

    tagger: Tagger | None = None

    def __init__(self, model: ClipModel) -> None:
        self._model = model
        self.analyzer: AnalyzerName = model.analyzer
        self.input_size_px = model.input_size_px
        self.resample = model.resample
        self.batching = model.batching

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        return {**self._model.facts, "code": "frail"}

    def text_embedder(self) -> TextEmbedder:
        return self._model.text_embedder()

    def prepare(self, labels: LabelSet) -> Any:
        return self._model.prepare(labels)

    def features(self, pictures: list[Pixels]) -> Features:
        colours = [tuple(np.median(picture, axis=(0, 1)).astype(int)) for picture in pictures]
        if len(pictures) > ROOM_FOR or TOO_MUCH in colours:
            raise OutOfMemory("Pictures of this size do not fit the memory: send it smaller.")
        if POISON in colours:
            raise ValueError("a poisoned picture")
        return self._model.features(pictures)

    def logits(self, features: Features, prepared: Any) -> Logits:
        return self._model.logits(features, prepared)


def load_frail(folder: Path, *, settings: ClipSettings, gpu_assigned: bool, cores: int) -> FrailModel:
    return FrailModel(load_encoder(folder, settings=settings, gpu_assigned=gpu_assigned, cores=cores))


class FrailClipDeployment(ClipDeployment):
    load_model = staticmethod(load_frail)


def build(args: Mapping[str, Any]) -> Application:
    return compose(load_settings(args, os.environ), FrailClipDeployment)
