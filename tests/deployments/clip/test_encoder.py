"""Our scores against transformers' own `CLIPModel`, on real photographs and the same weights."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.clip.encoder import ClipEncoder, Preprocessing, load_encoder
from deployments.clip.labels import LabelSet, load_labels
from deployments.clip.scorer import score
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.vision import Pixels
from deployments.errors import OutOfMemory, SettingsError
from serve_app.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import photograph, photograph_path, pixels

PHOTOGRAPHS = ["china", "flower", "coffee", "chelsea", "rocket", "astronaut", "hubble", "page"]

DRAFT_SHIFT = 2e-2
"""What JPEG draft scaling may move a score by; docs/api.md tells it."""


@pytest.fixture(scope="module")
def labels() -> LabelSet:
    return load_labels(DEFAULT_LABELS_FILE)


def encoder(folder: Path, dtype: torch.dtype = torch.float32) -> ClipEncoder:
    return ClipEncoder.load(folder, name="tiny", device=torch.device("cpu"), dtype=dtype)


def original_scores(folder: Path, image: Image.Image, labels: LabelSet) -> dict[str, np.ndarray]:
    """The original algorithm: 512x512, CLIP's processor, `logits_per_image`, a softmax per category."""
    model = CLIPModel.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    picture = processor(images=image.convert("RGB").resize((512, 512)), return_tensors="pt")
    scores = {}
    for name, category, _ in labels.categories():
        texts = tokenizer(category.texts(), padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**texts, **picture).logits_per_image
        scores[name] = logits.softmax(dim=1)[0].numpy()
    return scores


def our_scores(model: ClipEncoder, upload: bytes, labels: LabelSet, *, draft: bool) -> dict[str, np.ndarray]:
    """The service's own path, from the upload's bytes."""
    picture = read_picture(upload, ImageSettings(jpeg_draft=draft), model.input_size_px)
    row = model.logits([picture.pixels], model.prepare(labels))[0]
    analysis = score(row, labels, top=1000)
    scores = {}
    for name, category, _ in labels.categories():
        by_label: Mapping[str, float] = {label.value: label.score for label in analysis[name]}
        scores[name] = np.array([by_label[label] for label in category.labels])
    return scores


def largest_difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
def test_scores_equal_the_original_algorithm_s(
    name: str, dtype: torch.dtype, tolerance: float, tiny_clip: Path, labels: LabelSet
) -> None:
    original = original_scores(tiny_clip, photograph(name), labels)
    ours = our_scores(encoder(tiny_clip, dtype), photograph_path(name).read_bytes(), labels, draft=False)
    assert largest_difference(original, ours) <= tolerance
    assert max(values.max() - values.min() for values in original.values()) > 5 * tolerance, "flat scores prove nothing"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_draft_scaling_shifts_scores_by_less_than_the_docs_tell(name: str, tiny_clip: Path, labels: LabelSet) -> None:
    large = photograph(name).resize((3000, 2000), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=90)
    model = encoder(tiny_clip)
    exact = our_scores(model, buffer.getvalue(), labels, draft=False)
    drafted = our_scores(model, buffer.getvalue(), labels, draft=True)
    assert 0 < largest_difference(exact, drafted) <= DRAFT_SHIFT


def test_a_batch_scores_as_its_pictures_alone(tiny_clip: Path, labels: LabelSet) -> None:
    model = encoder(tiny_clip)
    prepared = model.prepare(labels)
    pictures = [pixels(photograph(name)) for name in PHOTOGRAPHS]
    alone = np.concatenate([model.logits([picture], prepared) for picture in pictures])
    np.testing.assert_allclose(model.logits(pictures, prepared), alone, atol=1e-3)


def test_a_picture_of_another_size_is_brought_to_the_model_s(tiny_clip: Path, labels: LabelSet) -> None:
    model = encoder(tiny_clip)
    prepared = model.prepare(labels)
    image = photograph("china")
    large = np.asarray(image.resize((512, 512), Image.Resampling.BICUBIC))
    small = np.asarray(Image.fromarray(large).resize((224, 224), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(model.logits([large], prepared), model.logits([small], prepared), atol=1e-4)


def test_a_label_template_changes_what_is_compared(tiny_clip: Path, labels: LabelSet) -> None:
    model = encoder(tiny_clip)
    worded = labels.model_copy(
        update={"subjects": labels.subjects.model_copy(update={"template": "a {label} photograph"})}
    )
    plain, templated = model.prepare(labels), model.prepare(worded)
    columns = {name: place for name, _, place in labels.categories()}
    assert torch.allclose(plain[:, columns["style"]], templated[:, columns["style"]], atol=1e-4)
    assert not torch.allclose(plain[:, columns["subjects"]], templated[:, columns["subjects"]], atol=1e-2)


def test_out_of_memory_is_told_as_such(tiny_clip: Path, labels: LabelSet) -> None:
    def hold_two(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        if len(arguments[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    clip = CLIPModel.from_pretrained(tiny_clip)
    clip.vision_model.register_forward_pre_hook(hold_two)
    model = ClipEncoder(
        clip,
        CLIPTokenizer.from_pretrained(tiny_clip),
        Preprocessing(224, (0.5,) * 3, (0.5,) * 3),
        name="tiny",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    prepared = model.prepare(labels)
    blank: Pixels = np.zeros((224, 224, 3), np.uint8)
    assert model.logits([blank] * 2, prepared).shape == (2, len(labels.texts()))
    with pytest.raises(OutOfMemory, match=r"CUDA is out of memory: .*DEVICE=cpu"):
        model.logits([blank] * 3, prepared)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_that_is_not_there_is_told_with_the_cure(tiny_clip: Path) -> None:
    with pytest.raises(SettingsError, match=r"torch sees no CUDA GPU.*DEVICE=cpu"):
        load_encoder(tiny_clip, settings=ClipSettings(device="cuda"), gpu_assigned=True)


def test_the_loaded_encoder_tells_what_it_runs_on(tiny_clip: Path) -> None:
    model = load_encoder(
        tiny_clip, settings=ClipSettings(model="a/b", device="cpu", precision="float32"), gpu_assigned=False
    )
    assert model.facts == {"model": "a/b", "device": "cpu", "precision": "float32"}
