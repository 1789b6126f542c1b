"""The right answer for a picture: the part of the workload that needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from tests.support.reference import OriginalAlgorithm


def make_expectation(model: Path, picture: Path) -> dict[str, Any]:
    """Give the scores of the original algorithm, and the picture's embedding."""
    labels = load_labels(DEFAULT_LABELS_FILE)
    with Image.open(picture) as image:
        scores = OriginalAlgorithm(model, labels).scores(image)
        pixels = CLIPImageProcessorPil.from_pretrained(model)(images=image, return_tensors="pt")
    with torch.inference_mode():
        embedding = CLIPModel.from_pretrained(model).get_image_features(**pixels).pooler_output[0]
    return {
        "scores": {
            name: dict(zip(category.labels, scores[name].tolist(), strict=True))
            for name, category, _ in labels.categories()
        },
        "embedding": embedding.tolist(),
    }
