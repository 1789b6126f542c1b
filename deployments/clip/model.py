"""CLIP or SigLIP: pictures and label texts to unit vectors, and their similarity to logits. Torch is imported for a GPU
alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deployments.batching import Batching
from deployments.clip.backends.base import Engine, TowerFacts, require_numbers
from deployments.clip.checkpoint_process import CheckpointProcess
from deployments.clip.classifier import Features, Logits, Tagger
from deployments.clip.host_memory import trim_heap, unload_mapped
from deployments.clip.labels import LabelSet
from deployments.clip.resizing import to_square
from deployments.clip.settings import ClipSettings, Device, DeviceName
from deployments.clip.vocabulary.embedder import CheckpointEmbedder
from deployments.clip.weights import licence_of
from deployments.errors import OutOfMemory, SettingsError
from deployments.types import AnalyzerName, Pixels

if TYPE_CHECKING:
    from deployments.clip.checkpoint import VisionTower

ON_DISK = Path("/var/tmp")  # noqa: S108
"""Where temporary files are on a disk: /tmp may be memory, of which this is to save some."""

EmbedTexts = Callable[[list[str]], NDArray[np.float32]]
"""Texts to float32, (embedding, texts), scaled by the model's temperature; raises OSError of a broken checkpoint."""


class ClipEncoder:
    """A loaded model of the CLIP or SigLIP family; implements `VisionModel`.

    Only the vision tower runs per request, so only it is kept, by an engine and in a low precision. The text tower is
    read from the folder for each label set.

    Args:
        folder: in hub format; its files stay as they are while this is in use.
        name: what the weights are called, for people.
        engine: runs the vision tower.
        tower: what is to be known of the tower.
        embed_texts: runs the text tower.
        cores: how many may embed a vocabulary, behind all else.
    """

    analyzer: AnalyzerName = "clip"
    tagger: Tagger | None = None

    def __init__(
        self, folder: Path, *, name: str, engine: Engine, tower: TowerFacts, embed_texts: EmbedTexts, cores: int = 1
    ) -> None:
        self._folder = folder
        self._files = _stamps(folder)
        self._name = name
        self._engine = engine
        self._tower = tower
        self.input_size_px = tower.input_size_px
        self.resample = tower.resample
        self._licence = licence_of(folder)
        self._embed_texts = embed_texts
        self._cores = cores

    @property
    def batching(self) -> Batching:
        """The engine's."""
        return self._engine.batching

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Model name, its weights' number and licence where its card names one, and the engine's facts."""
        licence = {"licence": self._licence} if self._licence else {}
        return {"model": self._name, "parameters": self._tower.parameters, **licence, **self._engine.facts}

    def prepare(self, labels: LabelSet) -> NDArray[np.float32]:
        """Encode every label text, scaled by the model's temperature: float32, (embedding, labels).

        Raises:
            SettingsError: the folder no longer holds the files that the vision tower came from.
        """
        try:
            return labels.of_labels(self._embed_texts(labels.texts()))
        finally:
            # Looked at afterwards, so that no exchange meanwhile escapes.
            if not self._files.items() <= _stamps(self._folder).items():
                raise SettingsError(
                    f"CLIP's files in {self._folder} changed or vanished since they were loaded, so that new labels "
                    "cannot be encoded: put them back, or restart the service."
                )
            trim_heap()

    def text_embedder(self) -> CheckpointEmbedder:
        """Give who embeds a vocabulary's texts, in a process of its own."""
        return CheckpointEmbedder(self._folder, self._files, _stamps, self._cores)

    def features(self, pictures: list[Pixels]) -> Features:
        """Embed pictures: float32, (pictures, embedding), each of length 1.

        Raises:
            OutOfMemory: the device has no room for this many pictures.
        """
        return self._engine.encode(
            np.stack([to_square(picture, self.input_size_px, self.resample) for picture in pictures])
        )

    def logits(self, features: Features, prepared: Any) -> Logits:
        """Give `logits_per_image`: float32, (pictures, labels), as transformers' model defines it."""
        logits: Logits = features @ prepared
        logits += self._tower.logit_bias
        return logits


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
    if settings.engine == "openvino" and device != "cpu":
        raise SettingsError("clip.engine 'openvino' runs on CPUs: set DEVICE=cpu too, or leave clip.engine 'auto'.")
    if device == "cuda" or settings.engine == "torch":
        return _in_torch(folder, settings, device, cores)
    return _in_openvino(folder, settings, cores)


def encoder_in_torch(
    folder: Path, *, name: str, make_engine: Callable[[VisionTower], Engine], cores: int = 1
) -> ClipEncoder:
    """Load a model in this process, which has torch anyway; `make_engine` gets its vision tower.

    Raises:
        OSError: a file is missing or broken.
    """
    from deployments.clip.checkpoint import embed_texts, read_tower

    tower = read_tower(folder)
    return ClipEncoder(
        folder,
        name=name,
        engine=make_engine(tower),
        tower=tower.facts,
        embed_texts=partial(embed_texts, folder),
        cores=cores,
    )


def _in_torch(folder: Path, settings: ClipSettings, device: DeviceName, cores: int) -> ClipEncoder:
    import torch

    from deployments.clip.backends.cuda_graph import CudaEngine
    from deployments.clip.backends.torch import TorchEngine
    from deployments.clip.checkpoint import choose_precision

    dtype: torch.dtype = getattr(torch, choose_precision(settings.precision, device))
    kind = CudaEngine if device == "cuda" and settings.engine != "torch" else TorchEngine

    def make_warm_engine(tower: VisionTower) -> Engine:
        engine = kind(tower, torch.device(device), dtype, cores)
        warm_up(engine, tower.facts.input_size_px)
        return engine

    return encoder_in_torch(folder, name=settings.model, make_engine=make_warm_engine, cores=cores)


def _in_openvino(folder: Path, settings: ClipSettings, cores: int) -> ClipEncoder:
    from deployments.clip.backends.openvino import OpenVinoEngine

    checkpoint = CheckpointProcess(folder, cores)
    try:
        on_disk = ON_DISK if os.access(ON_DISK, os.W_OK) else None
        with TemporaryDirectory(prefix="ia-", dir=on_disk) as place:
            file = Path(place) / "tower.xml"
            tower, precision = checkpoint.convert(file, settings.precision)
            engine = OpenVinoEngine(file, precision, cores)
            warm_up(engine, tower.input_size_px)
            unload_mapped(file.with_suffix(".bin"))
    except BaseException:
        checkpoint.close()
        raise
    trim_heap()
    return ClipEncoder(
        folder, name=settings.model, engine=engine, tower=tower, embed_texts=checkpoint.embed_texts, cores=cores
    )


def warm_up(engine: Engine, input_size_px: int) -> None:
    """Run batches of each power of two up to the engine's size, in all streams, before a caller waits for kernels.

    Raises:
        OutOfMemory: the device has no room for a single picture; for larger batches there need be none.
        OSError: the weights are no numbers.
    """
    # By itself first: OpenVINO's binding sets things up in its first call, and two at once waited for each other for
    # ever (seen in 2026.4: one held the interpreter, the other the lock of what is set up).
    require_numbers(engine.encode(np.zeros((1, input_size_px, input_size_px, 3), np.uint8)), "vision")
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


def choose_device(setting: Device, *, gpu_assigned: bool) -> DeviceName:
    """Resolve the device setting on this machine.

    Args:
        setting: `auto` takes CUDA where there is one and it is ours to take.
        gpu_assigned: whether Ray gave this replica a share of a GPU. It hides none from a replica without a share
            (Ray 2.60), so what torch sees is not enough.

    Raises:
        SettingsError: `cuda` is asked for and torch sees no CUDA device.
    """
    if setting == "cpu" or (setting == "auto" and not gpu_assigned):
        return "cpu"
    import torch

    has_cuda = torch.cuda.is_available()
    if setting == "cuda" and not has_cuda:
        raise SettingsError(
            "clip.device is 'cuda' but torch sees no CUDA GPU: install the NVIDIA driver and a CUDA build of torch, "
            "or set DEVICE=cpu."
        )
    return "cuda" if has_cuda else "cpu"
