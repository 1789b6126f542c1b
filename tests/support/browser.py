"""What the frontend's tests need beside Python, and what happens where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

FRONTEND = Path(__file__).parents[2] / "frontend"
SWITCH = "FRONTEND_TESTS"
"""`required` in the environment makes a failure of what is otherwise skipped: for CI, which installs everything."""

OLDEST_NODE = (20, 19)
INSTALL_LIMIT_S = 300

CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def installed_frontend() -> Path:
    """Give the folder of the frontend with its packages installed; skips the test where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    version = subprocess.check_output([node, "--version"], text=True).strip() if node else "none"
    if node is None or npm is None or tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        _missing(f"Node {'.'.join(map(str, OLDEST_NODE))} or newer is needed, and there is {version}")
    # npm writes this file last, and with what it installed.
    lock, done = FRONTEND / "package-lock.json", FRONTEND / "node_modules" / ".package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([npm, "ci", "--no-fund", "--no-audit"], cwd=FRONTEND, check=True, timeout=INSTALL_LIMIT_S)
    return FRONTEND


def chromium() -> str:
    """Give the path of the machine's Chromium; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    _missing("Chromium is needed: on Debian and Ubuntu, apt-get install chromium")


def _missing(reason: str) -> NoReturn:
    if os.environ.get(SWITCH) == "required":
        pytest.fail(reason)
    pytest.skip(reason)
