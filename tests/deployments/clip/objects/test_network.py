"""The network computes what its authors' own code does, and a file that is not its weights is refused."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from deployments.clip.objects.network import build_network, default_weights, read_weights
from tests.support.pictures import picture, pixels

WEIGHTS = default_weights()


def test_the_weights_are_as_torch_reads_them() -> None:
    ours, theirs = read_weights(WEIGHTS), torch.load(WEIGHTS)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight.numpy(), err_msg=name)


def test_the_shares_are_those_of_the_authors_network() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    batch = np.stack([*(pixels(picture(name)) for name in ("coffee", "chelsea", "rocket")), noise])
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(WEIGHTS))
    with torch.inference_mode():
        values = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - 127) / 128
        theirs = network(values).softmax(dim=1).numpy()
    compiled = openvino.Core().compile_model(
        build_network(read_weights(WEIGHTS)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled(batch)[0], theirs, atol=1e-5)


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _without_a_weight() -> bytes:
    return _saved({name: weight for name, weight in torch.load(WEIGHTS).items() if name != "_conv_head.weight"})


def _of_another_shape() -> bytes:
    return _saved({**torch.load(WEIGHTS), "_fc.weight": torch.zeros(1000, 7)})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(lambda: b"", "holds no weights", id="empty"),
        pytest.param(lambda: b"PK\x03\x04" + bytes(100), "holds no weights", id="another format"),
        pytest.param(lambda: WEIGHTS.read_bytes()[:-1000], "holds no weights", id="cut short"),
        pytest.param(lambda: pickle.dumps(print) * 4, "builtins.print has no place", id="code"),
        pytest.param(_without_a_weight, "_conv_head.weight", id="a weight missing"),
        pytest.param(_of_another_shape, "not EfficientNet-Lite0's weights", id="a weight of another shape"),
    ],
)
def test_what_is_not_the_weights_is_refused_with_a_sentence(
    tmp_path: Path, content: Callable[[], bytes], complaint: str
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content())
    with pytest.raises(OSError, match=complaint):
        build_network(read_weights(file))
