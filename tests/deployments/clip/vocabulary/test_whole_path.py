"""From a photograph to its tags with a checkpoint, against transformers' own text features and plain numpy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import CLIPModel, CLIPTokenizer

from deployments.clip.classifier import ImageClassifier
from deployments.clip.labels import load_labels
from deployments.clip.model import ClipEncoder, load_encoder
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.vocabulary.naming import references
from deployments.clip.vocabulary.phrases import Vocabulary
from deployments.clip.weights import ModelLoader
from deployments.types import Classification, Reading, Wanted
from tests.support.fake_embedder import unit
from tests.support.parts import FakeWeights
from tests.support.pictures import photograph, pixels
from tests.support.plain_ranking import plain_deviations
from tests.support.tiny_clip import make_tiny_clip

TEMPLATES = ("a photo of {phrase}", "{phrase}")
PHRASES = ("espresso", "saucer", "cat", "a rocket on its pad", "moon", "wooden table", "dusk", "oil painting")
WANTED = Wanted(tags=100)


@torch.inference_mode()
def by_transformers(folder: Path, phrases: tuple[str, ...]) -> NDArray[np.float32]:
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    rows = []
    for phrase in phrases:
        texts = [template.replace("{phrase}", phrase) for template in TEMPLATES]
        features = model.get_text_features(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
        rows.append(unit(unit(features.numpy()).mean(axis=0)))
    return np.stack(rows)


async def first_tags(folder: Path, cache: Path, picture: Reading) -> tuple[Classification, ClipEncoder]:
    settings = ClipSettings(
        model=str(folder), vocabulary_cache=cache, tag_templates=TEMPLATES, tag_threshold=0, tag_alike=1
    )
    encoder = load_encoder(folder, settings=settings, gpu_assigned=False, cores=1)
    weights = FakeWeights(folder)
    clip = ModelLoader(settings, lambda _: encoder, find=weights.find, fetch=weights.fetch)
    vocabulary = Vocabulary.of({"things": PHRASES})
    subject = ImageClassifier(settings, load_labels(DEFAULT_LABELS_FILE), vocabulary, clip=clip, fallback=None)
    await subject.start()
    async with asyncio.timeout(120):
        while not (seen := await subject.read(picture)).tags:
            pass
    await subject.close()
    return seen, encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_clip(tmp_path / "clip")


async def test_tags_are_those_of_transformers_embeddings(folder: Path, tmp_path: Path) -> None:
    picture = Reading(pixels(photograph("coffee")), WANTED)
    seen, encoder = await first_tags(folder, tmp_path / "cache", picture)
    compared = by_transformers(folder, references().groups["references"].phrases)
    (features,) = encoder.features([picture.pixels])
    deviations = plain_deviations(features, compared, by_transformers(folder, PHRASES))
    assert [tag.value for tag in seen.tags] == [PHRASES[place] for place in np.argsort(-deviations)]

    again = encoder.text_embedder()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(OSError, match="changed or vanished since they were loaded"):
        again.embed(["cup"])
    again.close()
