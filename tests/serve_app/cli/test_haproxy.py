"""What stands in for HAProxy's binary, with a stand-in for HAProxy behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli import haproxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray runs HAProxy on Linux only")

RAYS_CONFIG = """global
    stats socket /tmp/admin.sock mode 666 level admin
defaults
    mode http
frontend prometheus
    bind :9101
    http-request use-service prometheus-exporter if { path /metrics }
frontend http_frontend
    bind 127.0.0.1:8000
    use_backend http-app if is_http-app
# A comment at the margin belongs to where it stands.
backend http-app
    server one 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""

NARROWED = """global
    stats socket /tmp/admin.sock mode 666 level admin
defaults
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
    use_backend http-app if is_http-app
# A comment at the margin belongs to where it stands.
backend http-app
    server one 127.0.0.1:30000 check
"""


def stand_in(folder: Path, body: str) -> list[str]:
    """Give the command that Ray would run, with a shell script for HAProxy and a config as Ray writes it."""
    binary, config = folder / "stand-in", folder / "haproxy.cfg"
    binary.write_text(f"#!/bin/sh\n{body}\n")
    binary.chmod(0o700)
    config.write_text(RAYS_CONFIG)
    return [sys.executable, "-I", "-S", haproxy.__file__, str(binary), "-db", "-f", str(config), "-sf", "1"]


def test_only_the_services_own_address_is_left_in_the_config(tmp_path: Path) -> None:
    command = stand_in(tmp_path, 'cat "$3"')

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == NARROWED


def test_haproxy_gets_rays_arguments_and_keeps_the_process(tmp_path: Path) -> None:
    with subprocess.Popen(stand_in(tmp_path, 'echo $$ "$@"'), stdout=subprocess.PIPE, text=True) as started:
        told = started.communicate()[0]

    assert told.split() == [str(started.pid), "-db", "-f", f"{tmp_path}/haproxy.cfg", "-sf", "1"]


def test_it_ends_when_its_parent_is_killed_hard(tmp_path: Path) -> None:
    parent = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    command = [sys.executable, "-I", "-c", parent, *stand_in(tmp_path, "echo here; exec cat")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "here\n"
        started.kill()
        started.wait()

        assert started.communicate("still here")[0] == ""


def test_a_config_that_cannot_be_narrowed_starts_nothing(tmp_path: Path) -> None:
    command = stand_in(tmp_path, "echo here")
    os.unlink(tmp_path / "haproxy.cfg")

    assert "here" not in subprocess.run(command, capture_output=True, text=True).stdout
