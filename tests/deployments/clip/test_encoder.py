"""Our scores against transformers' own `CLIPModel`, on real photographs and the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from deployments.clip.encoder import ClipEncoder, Preprocessing, load_encoder
from deployments.clip.labels import LabelSet, load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.vision import Pixels
from deployments.errors import OutOfMemory, SettingsError
from tests.support.pictures import photograph, photograph_path, pixels
from tests.support.reference import PHOTOGRAPHS, OriginalAlgorithm, camera_jpeg, largest_difference, our_scores

DRAFT_SHIFT = 2e-2
"""What JPEG draft scaling may move a score by; docs/api.md tells it."""


@pytest.fixture(scope="module")
def labels() -> LabelSet:
    return load_labels(DEFAULT_LABELS_FILE)


def encoder(folder: Path, dtype: torch.dtype = torch.float32) -> ClipEncoder:
    return ClipEncoder.load(folder, name="tiny", device=torch.device("cpu"), dtype=dtype)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
def test_scores_equal_the_original_algorithm_s(
    name: str, dtype: torch.dtype, tolerance: float, tiny_clip: Path, labels: LabelSet
) -> None:
    original = OriginalAlgorithm(tiny_clip, labels).scores(photograph(name))
    ours = our_scores(encoder(tiny_clip, dtype), photograph_path(name).read_bytes(), labels, draft=False)
    assert largest_difference(original, ours) <= tolerance
    assert max(values.max() - values.min() for values in original.values()) > 5 * tolerance, "flat scores prove nothing"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_draft_scaling_shifts_scores_by_less_than_the_docs_tell(name: str, tiny_clip: Path, labels: LabelSet) -> None:
    upload, model = camera_jpeg(photograph(name)), encoder(tiny_clip)
    exact = our_scores(model, upload, labels, draft=False)
    drafted = our_scores(model, upload, labels, draft=True)
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
