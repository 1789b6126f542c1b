"""CLIP: pictures and label texts to unit vectors, and their similarity to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
from deployments.clip.host_memory import trim_heap, unload_mapped
from deployments.clip.labels import LabelSet
from deployments.clip.settings import ClipSettings, Device, Precision
from deployments.errors import OutOfMemory, SettingsError
from deployments.types import AnalyzerName, Pixels


class ClipEncoder:
    """A loaded model of the CLIP family; implements `VisionModel`.

    Only the vision tower runs per request, so only it is kept, by an engine and in a low precision. The text tower is
    read from the folder for each label set and runs in torch on the CPU in float32: its rounding would be in every
    answer.

    Args:
        folder: in hub format; its files stay as they are while this is in use.
        name: what the weights are called, for people.
        make_engine: gets the vision tower.

    Raises:
        OSError: a file is missing or broken.
    """

    analyzer: AnalyzerName = "clip"

    def __init__(self, folder: Path, *, name: str, make_engine: Callable[[VisionTower], Engine]) -> None:
        self._folder = folder
        self._files = _stamps(folder)
        self._name = name
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self.input_size_px: int = processor.crop_size["height"]
        preprocessing = Preprocessing(self.input_size_px, tuple(processor.image_mean), tuple(processor.image_std))
        self._engine = make_engine(VisionTower(_read(folder), preprocessing))
        trim_heap()

    @property
    def batching(self) -> Batching:
        """The engine's."""
        return self._engine.batching

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Model name, and the engine's facts."""
        return {"model": self._name, **self._engine.facts}

    def prepare(self, labels: LabelSet) -> NDArray[np.float32]:
        """Encode every label text, scaled by CLIP's temperature: float32, (embedding, labels).

        Raises:
            SettingsError: the folder no longer holds the files that the vision tower came from.
        """
        try:
            matrix = _encoded(self._folder, labels.texts())
        finally:
            # Looked at afterwards, so that no exchange meanwhile escapes.
            if not self._files.items() <= _stamps(self._folder).items():
                raise SettingsError(
                    f"CLIP's files in {self._folder} changed or vanished since they were loaded, so that new labels "
                    "cannot be encoded: put them back, or restart the service."
                )
            trim_heap()
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


def _read(folder: Path) -> CLIPModel:
    """Map a model's weights; what is never computed with takes next to no memory."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


@torch.inference_mode()
def _encoded(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    model = _read(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    embeddings = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    matrix: NDArray[np.float32] = (embeddings * model.logit_scale.exp()).T.contiguous().numpy()
    return matrix


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Give each file's size in bytes and the time in ns that it was last written."""
    files = {path: path.stat() for path in folder.glob("*") if path.is_file()}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in files.items()}


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
        unload_mapped(tower.parameters())
        return engine

    return ClipEncoder(folder, name=settings.model, make_engine=make_warm_engine)


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
