"""What every system is given: a model with random weights, a photograph, and the answer it has.

The model is of ViT-B/32's size, or so small that it costs nothing: then what is left is the cost of serving.

All are made once and kept in a folder that git ignores.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.pictures import photograph

PHOTOGRAPH = "astronaut"
PICTURE_SIZE_PX = (1600, 1200)
JPEG_QUALITY = 78
"""Makes a file of 174 KiB."""
SCORE_TOLERANCE = 0.05
"""What bfloat16, JPEG draft decoding and these weights may move a score; another picture moves it by more."""
COSINE_TOLERANCE = 0.02
"""The same for embeddings: their least similarity is this much below 1."""


@dataclass(frozen=True)
class Workload:
    """Where model and picture are, and what the original algorithm answers in float32."""

    tiny: bool
    model: Path
    picture: Path
    scores: Mapping[str, Mapping[str, float]]
    """Category → label → score."""
    embedding: list[float]
    """Of the picture as CLIP's own processor takes it, without the step over 512x512."""

    def objection_to_analysis(self, answer: Mapping[str, Any]) -> str:
        """Say what is wrong with an answer's `analysis`; empty where nothing is."""
        for category, scores in self.scores.items():
            told = {entry["value"]: entry["score"] for entry in answer.get("analysis", {}).get(category, ())}
            best = max(scores, key=lambda label: scores[label])
            if abs(told.get(best, 0.0) - scores[best]) > SCORE_TOLERANCE:
                return f"{category} is {told}, and the original algorithm says {best!r}: {scores[best]:.3f}"
        return ""

    def objection_to_embedding(self, answer: Mapping[str, Any]) -> str:
        """Say what is wrong with an answer of infinity; empty where nothing is."""
        told = np.array(answer["data"][0]["embedding"])
        cosine = float(told @ np.array(self.embedding) / np.linalg.norm(told) / np.linalg.norm(self.embedding))
        return f"the embedding's cosine with the expected one is {cosine:.3f}" if cosine < 1 - COSINE_TOLERANCE else ""


def prepare(folder: Path, *, tiny: bool = False) -> Workload:
    """Make what is missing in `folder`: the first time half a minute and 600 MB."""
    folder = folder / "tiny" if tiny else folder
    folder.mkdir(parents=True, exist_ok=True)
    model, picture, expected = folder / "clip", folder / "picture.jpg", folder / "expected.json"
    if not expected.exists():
        # Here, because torch is not needed otherwise.
        from benchmarks.expectation import make_expectation
        from tests.support.tiny_clip import make_full_size_clip, make_tiny_clip

        buffer = io.BytesIO()
        photograph(PHOTOGRAPH).resize(PICTURE_SIZE_PX, Image.Resampling.BICUBIC).save(
            buffer, "JPEG", quality=JPEG_QUALITY
        )
        picture.write_bytes(buffer.getvalue())
        shutil.rmtree(model, ignore_errors=True)
        (make_tiny_clip if tiny else make_full_size_clip)(model)
        expected.write_text(json.dumps(make_expectation(model, picture)))
    return Workload(tiny, model, picture, **json.loads(expected.read_text()))
