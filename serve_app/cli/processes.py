"""The processes of a session: everything that the service started, whatever started it in between.

Ray gives each worker a process group of its own, so a signal to the child's group misses them; the session of the
child stays theirs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def session_members(session_id: int) -> list[int]:
    """List the ids of a session's living processes; the dead that nobody has collected yet do not count."""
    return [pid for pid in _living() if _session_of(pid) == session_id]


def kill_session(session_id: int) -> None:
    """End every process of a session at once."""
    for pid in session_members(session_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _living() -> Iterator[int]:
    if (_PROC / "self").exists():
        for entry in _PROC.iterdir():
            if entry.name.isdecimal() and not _is_zombie(entry):
                yield int(entry.name)
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True)  # noqa: S607
        for pid, state in (line.split() for line in listing.stdout.splitlines()):
            if not state.startswith("Z"):
                yield int(pid)


def _is_zombie(entry: Path) -> bool:
    try:
        # The name, in brackets, may hold anything; the state follows it.
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
