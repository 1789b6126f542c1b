"""CLIP in torch: pictures and label texts to unit vectors, and their similarity to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.clip.labels import LabelSet
from deployments.clip.precision import choose_device, choose_precision
from deployments.clip.settings import ClipSettings
from deployments.clip.vision import Logits, Pixels
from deployments.errors import OutOfMemory
from deployments.messages import AnalyzerName

OUT_OF_MEMORY_RETRY_AFTER_S = 10
"""What a caller is told: Ollama's model leaves the card between two answers at the soonest."""


DEVICE_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How a full card shows where torch's own allocator is not the one that asks: CUDA's context, cuBLAS' workspace."""

Result = TypeVar("Result")


class Preprocessing(NamedTuple):
    """CLIP's own picture normalisation: input edge in pixels, then per-channel mean and deviation of 0..1 values."""

    input_size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ClipEncoder:
    """A loaded model of the CLIP family; implements `VisionModel`.

    Only the vision tower runs per request, so only it takes the device and the precision. The text tower stays on the
    CPU in float32: it runs once per label set, its rounding would be in every answer, and it would take 125 MB of GPU.

    Args:
        model: in float32 on the CPU, in evaluation mode.
        tokenizer: the model's own.
        preprocessing: the model's own.
        name: what the weights are called, for people.
    """

    analyzer: AnalyzerName = "clip"

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        preprocessing: Preprocessing,
        *,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._model = model
        self._vision = model.vision_model.to(device, dtype)
        self._projection = model.visual_projection.to(device)
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing
        self._device = device
        self._dtype = dtype
        self._name = name
        # 0..255 → normalised in one multiply and one add per channel.
        mean = torch.tensor(preprocessing.mean, device=self._device).view(3, 1, 1)
        std = torch.tensor(preprocessing.std, device=self._device).view(3, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = -mean / std

    @classmethod
    def load(cls, folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """Load weights, tokenizer and preprocessing from a folder in hub format.

        Raises:
            OSError: a file is missing or broken.
        """
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        preprocessing = Preprocessing(
            input_size_px=processor.crop_size["height"],
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
        )
        return cls(model, tokenizer, preprocessing, name=name, device=device, dtype=dtype)

    @property
    def input_size_px(self) -> int:
        """The edge of the square picture the model was trained on."""
        return self._preprocessing.input_size_px

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Model name, device and precision."""
        facts: dict[str, str | int | float] = {
            "model": self._name,
            "device": str(self._device),
            "precision": str(self._dtype).removeprefix("torch."),
        }
        if self._device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(self._device)
            facts["gpu_memory_mb"] = round(torch.cuda.memory_allocated(self._device) / 1e6)
        return facts

    @torch.inference_mode()
    def prepare(self, labels: LabelSet) -> torch.Tensor:
        """Encode every label text, scaled by CLIP's temperature: float32, (embedding, labels)."""
        tokens = self._tokenizer(labels.texts(), padding=True, truncation=True, return_tensors="pt")
        embeddings = _unit(self._model.get_text_features(**tokens).pooler_output)
        matrix = (embeddings * self._model.logit_scale.exp()).T.contiguous()
        return _telling_of_memory(lambda: matrix.to(self._device))

    @torch.inference_mode()
    def logits(self, pictures: list[Pixels], prepared: Any) -> Logits:
        """Give `logits_per_image`: float32, (pictures, labels), as transformers' `CLIPModel` defines it.

        Raises:
            OutOfMemory: CUDA has no room for this many pictures.
        """
        return _telling_of_memory(lambda: (self._encode_pictures(pictures) @ prepared).cpu().numpy())

    def _encode_pictures(self, pictures: list[Pixels]) -> torch.Tensor:
        """Encode pictures as unit vectors: float32, (pictures, embedding)."""
        batch = torch.from_numpy(np.stack([self._fit(picture) for picture in pictures]))
        channels_first = batch.to(self._device).permute(0, 3, 1, 2)
        values = (channels_first * self._scale + self._shift).to(self._dtype)
        return _unit(self._projection(self._vision(values).pooler_output.float()))

    def _fit(self, picture: Pixels) -> Pixels:
        edge = self.input_size_px
        if picture.shape[:2] == (edge, edge):
            return picture
        resized = Image.fromarray(picture).resize((edge, edge), Image.Resampling.BICUBIC)
        return np.asarray(resized)


def load_encoder(folder: Path, *, settings: ClipSettings, gpu_assigned: bool) -> ClipEncoder:
    """Load a model on the device and in the precision that the settings ask for; blocking, seconds.

    Raises:
        SettingsError: CUDA is asked for and not there.
        OutOfMemory: the weights do not fit the device.
        OSError: a file is missing or broken.
    """
    device = choose_device(settings.device, gpu_assigned=gpu_assigned)
    dtype = choose_precision(settings.precision, device)
    return _telling_of_memory(lambda: ClipEncoder.load(folder, name=settings.model, device=device, dtype=dtype))


def _telling_of_memory(work: Callable[[], Result]) -> Result:
    """Run `work`; where it finds the device full, raise `OutOfMemory`.

    Raised when the first error is gone: its traceback would keep the tensors of `work` on the device.
    """
    try:
        return work()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(mark in str(error) for mark in DEVICE_FULL):
            raise
    raise _out_of_memory()


def _out_of_memory() -> OutOfMemory:
    torch.cuda.empty_cache()
    return OutOfMemory(
        "CUDA is out of memory: stop what else uses the GPU (nvidia-smi lists it), let Ollama leave it sooner "
        "(ollama.keep_alive: 0), or run CLIP on the CPU (DEVICE=cpu).",
        retry_after_s=OUT_OF_MEMORY_RETRY_AFTER_S,
    )


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
