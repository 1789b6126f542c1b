"""The original algorithm's scores, ours, and how far they are apart."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, CLIPTokenizer, PreTrainedTokenizerFast

from deployments.clip.classifier import score
from deployments.clip.labels import LabelSet
from deployments.clip.model import ClipEncoder
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings

PHOTOGRAPHS = ("china", "flower", "coffee", "chelsea", "rocket", "astronaut", "hubble", "page")

Scores = dict[str, NDArray[np.float32]]
"""Category → the score of each of its labels, in label order."""


class OriginalAlgorithm:
    """512x512, the model's own processor, `logits_per_image` of transformers' model, a softmax per category."""

    def __init__(self, folder: Path, labels: LabelSet) -> None:
        self._model: Any = AutoModel.from_pretrained(folder)
        load: Any = AutoImageProcessor.from_pretrained
        self._processor = load(folder, backend="pil")
        tokens = _siglip_tokens if self._model.config.model_type == "siglip" else _clip_tokens
        self._texts = {name: tokens(folder, category.texts()) for name, category, _ in labels.categories()}

    def scores(self, image: Image.Image) -> Scores:
        return {name: logits.softmax(dim=0).numpy() for name, logits in self.logits(image).items()}

    def logits(self, image: Image.Image) -> dict[str, torch.Tensor]:
        picture = self._processor(images=image.convert("RGB").resize((512, 512)), return_tensors="pt")
        with torch.inference_mode():
            return {name: self._model(**texts, **picture).logits_per_image[0] for name, texts in self._texts.items()}


def _clip_tokens(folder: Path, texts: list[str]) -> Any:
    return CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")


def _siglip_tokens(folder: Path, texts: list[str]) -> Any:
    """As transformers' own pipeline does (pipelines/zero_shot_image_classification.py), of lower-case texts."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    lower = [text.lower() for text in texts]
    return tokenizer(lower, padding="max_length", max_length=64, truncation=True, return_tensors="pt")


def our_scores(model: ClipEncoder, upload: bytes, labels: LabelSet, *, exact: bool) -> Scores:
    """The service's own path, from the upload's bytes."""
    picture = read_picture(upload, ImageSettings(exact=exact), model.input_size_px, resample=model.resample)
    row = model.logits(model.features([picture.pixels]), model.prepare(labels))[0]
    analysis = score(row, labels, top=1000)
    scores = {}
    for name, category, _ in labels.categories():
        by_label: Mapping[str, float] = {label.value: label.score for label in analysis[name]}
        scores[name] = np.array([by_label[label] for label in category.labels])
    return scores


def largest_difference(first: Scores, second: Scores) -> float:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def without_profile(image: Image.Image) -> bytes:
    """Save a picture's pixels alone: the original algorithm does not look at colour profiles."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def camera_jpeg(image: Image.Image) -> bytes:
    """Save a picture as large as a camera's."""
    buffer = io.BytesIO()
    image.resize((3000, 2000), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
