"""CLIP: pictures and label texts to unit vectors, and their similarity to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.batching import Batching
from deployments.clip.backends.base import Engine, Preprocessing, VisionTower
from deployments.clip.backends.cuda_graph import CudaEngine
from deployments.clip.backends.openvino import OpenVinoEngine
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.classifier import Logits
from deployments.clip.labels import LabelSet
from deployments.clip.settings import ClipSettings, Device, Precision
from deployments.errors import OutOfMemory, SettingsError
from deployments.types import AnalyzerName, Pixels


class ClipEncoder:
    """A loaded model of the CLIP family; implements `VisionModel`.

    Only the vision tower runs per request, so only it is given to an engine, in a low precision. The text tower stays
    in torch on the CPU in float32: it runs once per label set, its rounding would be in every answer, and it would take
    125 MB of GPU.

    Args:
        model: in float32 on the CPU, in evaluation mode; its vision part is the engine's afterwards.
        tokenizer: the model's own.
        preprocessing: the model's own.
        name: what the weights are called, for people.
        make_engine: gets the vision tower.
    """

    analyzer: AnalyzerName = "clip"

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        preprocessing: Preprocessing,
        *,
        name: str,
        make_engine: Callable[[VisionTower], Engine],
    ) -> None:
        self._engine = make_engine(VisionTower(model, preprocessing))
        self._text = model.text_model
        self._projection = model.text_projection
        self._temperature = model.logit_scale.exp()
        self._tokenizer = tokenizer
        self._name = name
        self.input_size_px = preprocessing.input_size_px

    @classmethod
    def load(cls, folder: Path, *, name: str, make_engine: Callable[[VisionTower], Engine]) -> Self:
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
        return cls(model, tokenizer, preprocessing, name=name, make_engine=make_engine)

    @property
    def batching(self) -> Batching:
        """The engine's."""
        return self._engine.batching

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Model name, and the engine's facts."""
        return {"model": self._name, **self._engine.facts}

    @torch.inference_mode()
    def prepare(self, labels: LabelSet) -> NDArray[np.float32]:
        """Encode every label text, scaled by CLIP's temperature: float32, (embedding, labels)."""
        tokens = self._tokenizer(labels.texts(), padding=True, truncation=True, return_tensors="pt")
        embeddings = torch.nn.functional.normalize(self._projection(self._text(**tokens).pooler_output), dim=-1)
        matrix: NDArray[np.float32] = (embeddings * self._temperature).T.contiguous().numpy()
        return matrix

    def logits(self, pictures: list[Pixels], prepared: Any) -> Logits:
        """Give `logits_per_image`: float32, (pictures, labels), as transformers' `CLIPModel` defines it.

        Raises:
            OutOfMemory: the device has no room for this many pictures.
        """
        logits: Logits = self._engine.encode(np.stack([self._fit(picture) for picture in pictures])) @ prepared
        return logits

    def _fit(self, picture: Pixels) -> Pixels:
        edge = self.input_size_px
        if picture.shape[:2] == (edge, edge):
            return picture
        resized = Image.fromarray(picture).resize((edge, edge), Image.Resampling.BICUBIC)
        return np.asarray(resized)


def load_encoder(folder: Path, *, settings: ClipSettings, gpu_assigned: bool, cores: int) -> ClipEncoder:
    """Load a model on the device, in the engine and in the precision that the settings ask for; blocking, seconds.

    Raises:
        SettingsError: CUDA is asked for and not there, or for an engine that cannot use it.
        OutOfMemory: the weights do not fit the device.
        OSError: a file is missing or broken.
    """
    device = choose_device(settings.device, gpu_assigned=gpu_assigned)
    dtype = choose_precision(settings.precision, device)
    if settings.engine == "openvino" and device.type != "cpu":
        raise SettingsError("clip.engine 'openvino' runs on CPUs: set DEVICE=cpu too, or leave clip.engine 'auto'.")

    def make_engine(tower: VisionTower) -> Engine:
        if settings.engine == "torch":
            return TorchEngine(tower, device, dtype, cores)
        if device.type == "cuda":
            return CudaEngine(tower, device, dtype, cores)
        return OpenVinoEngine(tower, dtype, cores)

    def make_warm_engine(tower: VisionTower) -> Engine:
        engine = make_engine(tower)
        warm_up(engine, tower.preprocessing.input_size_px)
        return engine

    return ClipEncoder.load(folder, name=settings.model, make_engine=make_warm_engine)


def warm_up(engine: Engine, input_size_px: int) -> None:
    """Run batches of each power of two up to the engine's size, in all streams, before a caller waits for kernels.

    Raises:
        OutOfMemory: the device has no room for a single picture; for larger batches there need be none.
    """
    size = 1
    with ThreadPoolExecutor(engine.batching.streams) as threads:
        while size <= engine.batching.batch_size:
            batch = np.zeros((size, input_size_px, input_size_px, 3), np.uint8)
            try:
                list(threads.map(engine.encode, [batch] * engine.batching.streams))
            except OutOfMemory:
                if size == 1:
                    raise
                return
            size *= 2


# Instruction sets that multiply bfloat16 natively; without one torch emulates it, slower than float32.
_NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


def choose_device(setting: Device, *, gpu_assigned: bool) -> torch.device:
    """Resolve the device setting on this machine.

    Args:
        setting: `auto` takes CUDA where there is one and it is ours to take.
        gpu_assigned: whether Ray gave this replica a share of a GPU. It hides none from a replica without a share
            (Ray 2.60), so what torch sees is not enough.

    Raises:
        SettingsError: `cuda` is asked for and torch sees no CUDA device.
    """
    has_cuda = torch.cuda.is_available()
    if setting == "cuda" and not has_cuda:
        raise SettingsError(
            "clip.device is 'cuda' but torch sees no CUDA GPU: install the NVIDIA driver and a CUDA build of torch, "
            "or set DEVICE=cpu."
        )
    takes_cuda = setting == "cuda" or (setting == "auto" and has_cuda and gpu_assigned)
    return torch.device("cuda" if takes_cuda else "cpu")


def choose_precision(
    setting: Precision, device: torch.device, capabilities: Mapping[str, object] | None = None
) -> torch.dtype:
    """Resolve the precision setting for a device: the fastest format that this processor computes natively.

    Measured on 2 cores with AMX: ViT-B/32 in bfloat16 runs about three times as fast as in float32.

    Args:
        setting: `auto`, or the format's own name.
        device: where the model runs.
        capabilities: the processor's instruction sets by torch's names; asked of torch when None.
    """
    if setting != "auto":
        dtype: torch.dtype = getattr(torch, setting)
        return dtype
    if device.type == "cuda":
        return torch.float16
    if capabilities is None:
        capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(capabilities.get(name) for name in _NATIVE_BFLOAT16) else torch.float32
