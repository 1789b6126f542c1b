"""What the peers share: Pillow, CLIP in torch, labels encoded once."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.clip.checkpoint import choose_precision
from deployments.clip.classifier import score
from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE

INPUT_PX = 224
TOP_LABELS = 3

Pixels = NDArray[np.uint8]
Answer = dict[str, dict[str, list[dict[str, str | float]]]]


def model_folder() -> Path:
    """Give the folder that the benchmark names."""
    return Path(os.environ["BENCHMARK_MODEL"])


def decode(upload: bytes) -> Pixels:
    """Decode a picture and shrink it, as tutorials do: uint8, (224, 224, 3)."""
    with Image.open(io.BytesIO(upload)) as image:
        return np.asarray(image.convert("RGB").resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC))


class LabelScores:
    """The labels of the default file, and an answer from a row of logits."""

    def __init__(self) -> None:
        self.labels = load_labels(DEFAULT_LABELS_FILE)

    def answer(self, logits: NDArray[np.float32]) -> Answer:
        """Give the best labels of each category."""
        analysis = score(logits, self.labels, top=TOP_LABELS)
        return {
            "analysis": {
                name: [{"value": label.value, "score": label.score} for label in best]
                for name, best in analysis.items()
            }
        }


class TorchClip:
    """CLIP in the precision that this processor is fast at (bfloat16 where it has it), labels encoded at the start."""

    def __init__(self, folder: Path) -> None:
        model = CLIPModel.from_pretrained(folder)
        processor = CLIPImageProcessorPil.from_pretrained(folder)
        self._scores = LabelScores()
        tokens = CLIPTokenizer.from_pretrained(folder)(self._scores.labels.texts(), padding=True, return_tensors="pt")
        with torch.inference_mode():
            embeddings = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
            self._embeddings = embeddings.T * model.logit_scale.exp()
        self._dtype: torch.dtype = getattr(torch, choose_precision("auto", "cpu"))
        self._vision = model.vision_model.to(self._dtype)
        self._projection = model.visual_projection.to(self._dtype)
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(3, 1, 1)

    @torch.inference_mode()
    def analyse(self, pictures: list[Pixels]) -> list[Answer]:
        """Analyse pictures in one forward pass."""
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        values = ((batch - self._mean) / self._std).to(self._dtype)
        features = self._projection(self._vision(values).pooler_output).float()
        logits = torch.nn.functional.normalize(features, dim=-1) @ self._embeddings
        return [self._scores.answer(row) for row in logits.numpy()]
