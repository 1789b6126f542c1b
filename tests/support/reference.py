"""The original algorithm's scores, ours, and how far they are apart."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.clip.classifier import score
from deployments.clip.labels import LabelSet
from deployments.clip.model import ClipEncoder
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings

PHOTOGRAPHS = ("china", "flower", "coffee", "chelsea", "rocket", "astronaut", "hubble", "page")

Scores = dict[str, NDArray[np.float32]]
"""Category → the score of each of its labels, in label order."""


class OriginalAlgorithm:
    """512x512, CLIP's own processor, `logits_per_image` of transformers' `CLIPModel`, a softmax per category."""

    def __init__(self, folder: Path, labels: LabelSet) -> None:
        self._model = CLIPModel.from_pretrained(folder)
        self._processor = CLIPImageProcessorPil.from_pretrained(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._texts = {
            name: tokenizer(category.texts(), padding=True, return_tensors="pt")
            for name, category, _ in labels.categories()
        }

    def scores(self, image: Image.Image) -> Scores:
        picture = self._processor(images=image.convert("RGB").resize((512, 512)), return_tensors="pt")
        with torch.inference_mode():
            return {
                name: self._model(**texts, **picture).logits_per_image.softmax(dim=1)[0].numpy()
                for name, texts in self._texts.items()
            }


def our_scores(model: ClipEncoder, upload: bytes, labels: LabelSet, *, exact: bool) -> Scores:
    """The service's own path, from the upload's bytes."""
    picture = read_picture(upload, ImageSettings(exact=exact), model.input_size_px)
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
