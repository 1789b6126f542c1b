"""What the frontend's tests need beside Python, and what happens where it is missing."""

from __future__ import annotations

import fcntl
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
NPM_LIMIT_S = 300

CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def installed_frontend() -> Path:
    """Give the folder of the frontend with its packages installed; skips the test where there is no Node."""
    node = shutil.which("node")
    version = subprocess.check_output([node, "--version"], text=True).strip() if node else "none"
    if node is None or tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST_NODE:
        _missing(f"Node {'.'.join(map(str, OLDEST_NODE))} or newer is needed, and there is {version}")
    # npm writes this file last, and with what it installed.
    wanted, done = FRONTEND / "package-lock.json", FRONTEND / "node_modules" / ".package-lock.json"
    # CI runs two suites at once that need it, and two npm at once break each other's packages.
    with wanted.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not done.exists() or done.stat().st_mtime < wanted.stat().st_mtime:
            run_npm(FRONTEND, "ci", "--no-fund", "--no-audit")
    return FRONTEND


def run_npm(frontend: Path, *arguments: str) -> None:
    """Run npm in the frontend's folder; an AssertionError carries all that it printed."""
    npm = shutil.which("npm")
    assert npm is not None, "there is Node, but no npm beside it"
    done = subprocess.run(
        [npm, *arguments],
        cwd=frontend,
        capture_output=True,
        text=True,
        timeout=NPM_LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
