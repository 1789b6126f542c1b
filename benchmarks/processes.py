"""The processes of a system, read from /proc and told by role: their CPU time and their memory.

A process belongs to a system if its session has the system's first process in it, a descendant of that, or a process
that was started with the system's mark in its environment.
"""

from __future__ import annotations

import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
IDLE_FIELDS = (3, 4)
"""Of the first line of /proc/stat: idle, and waiting for a disk."""
KIB_PER_MIB = 1024
ZOMBIE = "Z"

ROLES = (
    ("ingress", r"ServeReplica:.*Ingress"),
    ("CLIP replica", r"ServeReplica:.*(Clip|Model)"),
    ("Ollama replica", r"ServeReplica:.*Ollama"),
    ("HAProxy", r"^haproxy"),
    ("HAProxy manager", r"HAProxyMan"),
    ("Serve's proxy", r"ProxyActor"),
    ("controller", r"ServeContr"),
    ("gcs", r"^gcs_server"),
    ("raylet", r"^raylet"),
    ("dashboard agent", r"DashboardA|dashboard/agent\.py"),
    ("runtime-env agent", r"RuntimeEnv|runtime_env/agent"),
    ("log monitor", r"log_monitor|LogMonitor"),
    ("autoscaler monitor", r"autoscaler/|_private/monitor|ray::Monitor"),
    ("dashboard", r"dashboard"),
    ("resource tracker", r"resource_tracker"),
    ("model worker", r"model-worker"),
    ("serve run", r"ray\.serve\.scripts"),
    ("other of Ray", r"ray::|'ray'|site-packages/ray/"),
    ("command", r"image-analyzer|serve_app\.cli"),
)
"""Role → what marks it in a process' name or command line; the first that fits. What fits none is the `server`."""
SERVER = "server"


class Reading(NamedTuple):
    """A process at one moment: its role, its parent, its CPU time in s, and that of the children it has collected."""

    role: str
    parent: int
    cpu_s: float
    collected_s: float = 0.0


Readings = Mapping[int, Reading]
"""By process id."""


def role(description: str) -> str:
    """Name the role of a process.

    Args:
        description: its name and its command line.
    """
    return next((name for name, mark in ROLES if re.search(mark, description)), SERVER)


def session_members(sessions: set[int]) -> list[int]:
    """List the living processes of these sessions; the dead that nobody has collected yet do not count."""
    members = []
    for pid in _all_pids():
        with suppress(OSError):
            if os.getsid(pid) in sessions and _stat(pid)[1][0] != ZOMBIE:
                members.append(pid)
    return members


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


def sessions_started_with(variable: str) -> set[int]:
    """Give the sessions of the living processes that were started with `NAME=value` in their environment."""
    sessions = set()
    for pid in _all_pids():
        with suppress(OSError):
            if variable.encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                sessions.add(os.getsid(pid))
    return sessions


def read_processes(sessions: set[int]) -> Readings:
    """Read every process of these sessions."""
    readings = {}
    for pid in session_members(sessions):
        with suppress(OSError):
            name, (_, parent, *fields) = _stat(pid)
            command = (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ")
            user, system, users, systems = map(int, fields[9:13])
            own_s, collected_s = (user + system) / TICKS_PER_S, (users + systems) / TICKS_PER_S
            readings[pid] = Reading(role(f"{name} {command}"), int(parent), own_s, collected_s)
    return readings


def spent_by_role(readings: Sequence[Readings]) -> dict[str, float]:
    """Give the CPU time in s between the first and the last reading, by role.

    A process that came in between counts whole, and one that went as far as it was seen. What came and went unseen
    counts for the parent that collected it; Ray's raylet collects nobody.
    """
    first: dict[int, Reading] = {}
    last: dict[int, Reading] = {}
    for number, reading in enumerate(readings):
        last |= reading
        first |= {
            pid: one if number == 0 else one._replace(cpu_s=0.0) for pid, one in reading.items() if pid not in first
        }
    spent: defaultdict[str, float] = defaultdict(float)
    gone_s: defaultdict[int, float] = defaultdict(float)
    for pid, one in last.items():
        spent[one.role] += one.cpu_s - first[pid].cpu_s
        if pid not in readings[-1]:
            gone_s[one.parent] += one.cpu_s
    for pid, one in last.items():
        spent[one.role] += max(0.0, one.collected_s - first[pid].collected_s - gone_s[pid])
    return dict(spent)


def pss_mib(pid: int) -> float:
    """Give a process' proportional share of memory: what it shares with others counts in part. 0 once it has ended."""
    with suppress(OSError):
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) / KIB_PER_MIB
    return 0.0


def machine_busy_s() -> float:
    """Give the CPU time in s that all cores have spent working since the machine started."""
    times = [int(ticks) for ticks in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks for field, ticks in enumerate(times) if field not in IDLE_FIELDS) / TICKS_PER_S


def end(sessions: set[int]) -> None:
    """End every process of these sessions at once."""
    for pid in session_members(sessions):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _all_pids() -> Iterable[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> tuple[str, list[str]]:
    """Give name and further fields of /proc/PID/stat; the name, in brackets, may hold anything."""
    name, _, fields = (PROC / str(pid) / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
    return name, fields.split()
