"""CLIP's vision tower on CPU cores, compiled by OpenVINO.

Chosen by measurement (`python -m benchmarks.engines`): faster than torch's eager mode in float32 and in bfloat16, with
a wheel for every platform. ONNX Runtime computes no bfloat16 on CPUs; torch.compile needs a C++ compiler on the user's
machine and compiles at every start.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import openvino

from deployments.batching import Batching
from deployments.clip.backends.base import Pictures, Vectors
from deployments.clip.settings import PrecisionName

MAX_STREAMS = 4
"""With more cores a stream takes several: beyond this many, crowds that fill all streams are rare."""

MIN_BESIDE = 5
"""Pictures from which a batch beside a running one is worth it. Fewer cost much more each
(`python -m benchmarks.engines`), so that cores are better left idle until more wait; 3 and 8 serve 16 callers slower.
"""

BATCH_SIZE = 16
"""ViT-B/32 in bfloat16: batches of 32 are no faster, of 8 a tenth slower (`python -m benchmarks.engines`)."""

PRECISION_HINTS: dict[PrecisionName, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoEngine:
    """All cores for a batch that runs alone; cores of its own for each of several.

    Several streams of few threads beat one after the other of many; a lone batch would so take several times as long.
    So the tower is compiled twice, each with its weights in a layout of its own; the streams of one share theirs.

    Args:
        tower: a `VisionTower` that was converted, in float32, or the `.xml` file of one. Its weights are hardly read
            after the first batches, and then from where they are.
        precision: what to compute in; OpenVINO takes float32 where the processor does not know it.
        cores: how many to use.
        most_streams: batches that may run at once.
    """

    def __init__(
        self, tower: openvino.Model | Path, precision: PrecisionName, cores: int, most_streams: int = MAX_STREAMS
    ) -> None:
        streams = min(cores, most_streams)
        self.batching = Batching(streams, BATCH_SIZE, MIN_BESIDE)
        model = openvino.Core().read_model(tower) if isinstance(tower, Path) else tower
        self._beside = _Compiled(model, precision, streams=streams, threads=cores)
        self._alone = _Compiled(model, precision, streams=1, threads=cores) if streams > 1 else self._beside
        self._lock = threading.Lock()
        self._running = 0

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Engine, device, streams, and the precision that OpenVINO took."""
        return {
            "device": "cpu",
            "precision": self._alone.precision,
            "engine": "openvino",
            "streams": self.batching.streams,
        }

    def encode(self, pictures: Pictures) -> Vectors:
        """Encode pictures, on all cores where nothing else runs."""
        with self._lock:
            compiled = self._beside if self._running else self._alone
            self._running += 1
        try:
            return compiled.encode(pictures)
        finally:
            with self._lock:
                self._running -= 1


class _Compiled:
    """A compiled model, and as many requests as ever ran at once."""

    def __init__(self, model: openvino.Model, precision: PrecisionName, *, streams: int, threads: int) -> None:
        self._model = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": threads,
                # Pinned threads keep to their cores though decoding has taken them.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._idle: list[openvino.InferRequest] = []

    @property
    def precision(self) -> str:
        taken = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return next((precision for precision, name in PRECISION_HINTS.items() if name == taken), taken)

    def encode(self, pictures: Pictures) -> Vectors:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        vectors: Vectors = request.infer({0: pictures}, share_inputs=True)[0]
        self._idle.append(request)
        return vectors
