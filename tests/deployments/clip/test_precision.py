"""Which device and number format are chosen, for machines that are not here as well."""

from __future__ import annotations

import pytest
import torch

from deployments.clip.model import choose_device, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "capabilities", "chosen"),
    [
        (CUDA, {}, torch.float16),
        (CPU, {"avx512_bf16": True}, torch.bfloat16),
        (CPU, {"amx_bf16": True}, torch.bfloat16),
        (CPU, {"avx2": True, "avx512_bf16": False}, torch.float32),
    ],
)
def test_auto_takes_the_fastest_format_that_is_native(
    device: torch.device, capabilities: dict[str, object], chosen: torch.dtype
) -> None:
    assert choose_precision("auto", device, capabilities) == chosen


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert choose_precision("float32", CUDA) == torch.float32
    assert choose_precision("bfloat16", CPU, {}) == torch.bfloat16


def test_the_cpu_is_taken_where_ray_gave_no_gpu_or_the_setting_says_so() -> None:
    assert choose_device("auto", gpu_assigned=False) == CPU
    assert choose_device("cpu", gpu_assigned=True) == CPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_taken_where_ray_gave_one() -> None:
    assert choose_device("auto", gpu_assigned=True) == CUDA
