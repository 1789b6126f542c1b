"""michaelfeil/infinity as its command starts it: embeddings only, its default settings, in an environment of its own.

It needs versions of numpy and transformers that ours cannot have.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.service import Unavailable

REQUIREMENTS = (
    "infinity-emb[torch,vision,server]==0.0.78",
    "torch==2.13.0",
    "transformers==4.47.1",
    # Reads pictures, and is not in infinity's own list.
    "aiohttp==3.14.5",
)
UNWANTED = "torchvision"
"""In its list and not used for CLIP. Its build wants the CUDA build of torch, and breaks the import beside another."""
INSTALL_LIMIT_S = 900
MODEL_NAME = "clip"


def install(folder: Path) -> Path:
    """Set the environment up, once; give its command.

    Raises:
        Unavailable: it cannot be installed.
    """
    command, stamp, wanted = folder / "bin" / "infinity_emb", folder / "installed", "\n".join(REQUIREMENTS)
    if stamp.exists() and stamp.read_text() == wanted:
        return command
    print("infinity: installing it into an environment of its own, once …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    for step in (
        (sys.executable, "-m", "venv", folder),
        (*pip, "install", *REQUIREMENTS),
        (*pip, "uninstall", "--yes", UNWANTED),
    ):
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"did not install within {INSTALL_LIMIT_S} s") from error
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise Unavailable(f"did not install: {reason[-1]}")
    stamp.write_text(wanted)
    return command
