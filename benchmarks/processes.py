"""The CPU time that a system's processes take, read from /proc and told by role.

A process belongs to a system if it is in its session or in the session of one of its descendants:
`image-analyzer serve` starts Ray in a session of its own, and what Ray starts stays in that one.
"""

from __future__ import annotations

import os
import re
import signal
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
USER_FIELD, SYSTEM_FIELD = 11, 12
"""Of /proc/PID/stat, counted from the field after the name in brackets."""
IDLE_FIELDS = (3, 4)
"""Of the first line of /proc/stat: idle, and waiting for a disk."""

ROLES = (
    ("ingress", r"ServeReplica:.*Ingress"),
    ("CLIP replica", r"ServeReplica:.*(Clip|Model)"),
    ("Ollama replica", r"ServeReplica:.*Ollama"),
    ("proxy", r"haproxy|HAProxyMan|ProxyActor"),
    ("model worker", r"model-worker"),
    ("Ray", r"raylet|gcs_server|ray::|ray-dashboard|'ray'|site-packages/ray/|ray\.serve"),
    ("command", r"image-analyzer"),
)
"""Role → what marks it in a process' name or command line; the first that fits. What fits none is the `server`."""
SERVER = "server"

RoleSeconds = tuple[str, float]
"""A process' role, and its CPU time so far in s."""


def role(description: str) -> str:
    """Name the role of a process.

    Args:
        description: its name and its command line.
    """
    return next((name for name, mark in ROLES if re.search(mark, description)), SERVER)


def sessions_below(pid: int) -> set[int]:
    """Give the sessions of a process and of all its living descendants."""
    sessions: set[int] = set()
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        with suppress(OSError):
            sessions.add(os.getsid(member))
            for children in (PROC / str(member) / "task").glob("*/children"):
                waiting += map(int, children.read_text().split())
    return sessions


def cpu_seconds(sessions: set[int]) -> dict[int, RoleSeconds]:
    """Give role and CPU time so far, in s, of every process of these sessions."""
    processes = {}
    for pid in (pid for session in sessions for pid in session_members(session)):
        with suppress(OSError):
            folder = PROC / str(pid)
            name, _, fields = (folder / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            times = fields.split()
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
            ticks = int(times[USER_FIELD]) + int(times[SYSTEM_FIELD])
            processes[pid] = (role(f"{name} {command}"), ticks / TICKS_PER_S)
    return processes


def spent_by_role(before: Mapping[int, RoleSeconds], after: Mapping[int, RoleSeconds]) -> dict[str, float]:
    """Give the CPU time in s between two readings, by role; a process that came in between counts whole."""
    spent: defaultdict[str, float] = defaultdict(float)
    for pid, (name, cpu_s) in after.items():
        spent[name] += cpu_s - before.get(pid, ("", 0.0))[1]
    return dict(spent)


def sessions_started_with(variable: str) -> set[int]:
    """Give the sessions of the living processes that were started with `NAME=value` in their environment."""
    sessions = set()
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                sessions.add(os.getsid(int(folder.name)))
    return sessions


def machine_busy_s() -> float:
    """Give the CPU time in s that all cores have spent working since the machine started."""
    times = [int(ticks) for ticks in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks for field, ticks in enumerate(times) if field not in IDLE_FIELDS) / TICKS_PER_S


def session_members(session: int) -> list[int]:
    """List the ids of a session's living processes; the dead that nobody has collected yet do not count."""
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir(PROC))) if _living_in(session, pid)]


def _living_in(session: int, pid: int) -> bool:
    with suppress(OSError, IndexError):
        # The name, in brackets, may hold anything; the state follows it.
        state = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return state != "Z" and os.getsid(pid) == session
    return False


def end(sessions: set[int]) -> None:
    """End every process of these sessions at once."""
    for pid in (pid for session in sessions for pid in session_members(session)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
