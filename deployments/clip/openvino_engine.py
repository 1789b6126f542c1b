"""CLIP's vision tower on CPU cores, compiled by OpenVINO.

Chosen by measurement (`python -m benchmarks.engines`): faster than torch's eager mode in float32 and in bfloat16, with
a wheel for every platform. ONNX Runtime computes no bfloat16 on CPUs; torch.compile needs a C++ compiler on the user's
machine and half a minute at the start.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from deployments.clip.engine import Pictures, Vectors
from deployments.clip.tower import VisionTower

MIN_BESIDE = 8
"""Pictures from which a stream of one thread is worth it: smaller batches run one at a time, on all cores."""

BATCH_SIZE = 16
"""ViT-B/32 in bfloat16: batches of 32 are no faster, of 8 a tenth slower (`python -m benchmarks.engines`)."""

PRECISION_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


class OpenVinoEngine:
    """One stream of one thread per core for what comes in crowds, and all cores together for a few pictures.

    On batches of 8 and more, several streams of one thread beat one stream of several; fewer pictures would so take
    twice as long, and the smaller batches cost more each. So the tower is compiled twice; the second copy of ViT-B/32
    takes 190 MB in bfloat16.

    Args:
        tower: in float32 on the CPU; not needed afterwards.
        dtype: what to compute in; OpenVINO takes float32 where the processor does not know it.
        cores: how many to use.
    """

    min_beside = MIN_BESIDE
    batch_size = BATCH_SIZE

    def __init__(self, tower: VisionTower, dtype: torch.dtype, cores: int) -> None:
        self.streams = cores
        model = _converted(tower)
        self._crowd = _Compiled(model, dtype, streams=cores, threads=cores)
        self._few = _Compiled(model, dtype, streams=1, threads=cores) if cores > 1 else self._crowd
        self._lock = threading.Lock()
        self._running = 0

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """Engine, device, streams, and the precision that OpenVINO took."""
        return {"device": "cpu", "precision": self._crowd.precision, "engine": "openvino", "streams": self.streams}

    def encode(self, pictures: Pictures) -> Vectors:
        """Encode pictures, on all cores where they are few and nothing else runs."""
        with self._lock:
            self._running += 1
            alone = self._running == 1
        try:
            return (self._few if alone and len(pictures) < 2 * MIN_BESIDE else self._crowd).encode(pictures)
        finally:
            with self._lock:
                self._running -= 1


class _Compiled:
    """A compiled model, and a request for each thread that uses it."""

    def __init__(self, model: openvino.Model, dtype: torch.dtype, *, streams: int, threads: int) -> None:
        self._model = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": PRECISION_HINTS[dtype],
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": threads,
                # Pinned threads keep to their cores though decoding has taken them.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._requests = threading.local()

    @property
    def precision(self) -> str:
        taken = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return next(
            (str(dtype).removeprefix("torch.") for dtype, name in PRECISION_HINTS.items() if name == taken), taken
        )

    def encode(self, pictures: Pictures) -> Vectors:
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._model.create_infer_request()
        vectors: Vectors = request.infer({0: pictures}, share_inputs=True)[0]
        return vectors


def _converted(tower: VisionTower) -> openvino.Model:
    """Trace the tower into an OpenVINO model that takes batches of any size.

    By the frontend, because `openvino.convert_model` reports each conversion to the vendor.
    """
    edge = tower.preprocessing.input_size_px
    example = torch.from_numpy(np.zeros((2, edge, edge, 3), np.uint8))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(tower, example_input=(example,))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model: openvino.Model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, edge, edge, 3])
    return model
