"""What is given back to the system, and that nothing is lost by it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from deployments.clip.host_memory import trim_heap, unload_mapped

COUNT = 4_000_000
BYTES = 4 * COUNT


def resident_bytes(path: Path) -> int:
    """Give how much of a mapped file the process holds."""
    _, found, after = Path("/proc/self/smaps").read_text().partition(f"{path}\n")
    assert found, "the file is not mapped"
    return 1024 * int(after.partition("Rss:")[2].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_weights_leave_memory_and_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    own = torch.arange(COUNT, dtype=torch.float32)
    path.write_bytes(own.numpy().tobytes())
    mapped = torch.from_file(str(path), shared=False, size=COUNT, dtype=torch.float32)
    assert torch.equal(mapped, own)
    assert resident_bytes(path) == pytest.approx(BYTES, rel=0.01)
    unload_mapped(path)
    trim_heap()
    assert resident_bytes(path) < BYTES / 100
    assert torch.equal(mapped, own)
    assert own[-1] > 0
