"""What stands in for HAProxy's binary, with a stand-in for HAProxy behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.errors import ComponentUnavailable
from serve_app.cli import haproxy
from serve_app.schemas import ErrorAnswer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray runs HAProxy on Linux only")

RAYS_CONFIG = """global
    stats socket /tmp/admin.sock mode 666 level admin
defaults
    mode http
    errorfile 502 /tmp/500.http
frontend prometheus
    bind :9101
    http-request use-service prometheus-exporter if { path /metrics }
frontend http_frontend
    bind 127.0.0.1:8000
    use_backend http-app if is_http-app
# A comment at the margin belongs to where it stands.
backend http-app
    http-reuse always
    server one 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""

ADAPTED = """global
    stats socket /tmp/admin.sock mode 666 level admin
defaults
    timeout http-request 30s
    mode http
    errorfile 502 {folder}/interrupted.http
frontend http_frontend
{callers}\
    bind 127.0.0.1:8000
    use_backend http-app if is_http-app
# A comment at the margin belongs to where it stands.
backend http-app
    http-reuse never
    server one 127.0.0.1:30000 check
"""


NO_PROXY_BEFORE_US = """\
    http-request set-header X-Forwarded-For %[src]
    http-request del-header X-Forwarded-Proto
"""

TWO_PROXIES_BEFORE_US = """\
    acl from_trusted_proxy src 10.0.0.5 10.1.0.0/16
    http-request set-header X-Forwarded-For %[src] unless from_trusted_proxy
    http-request del-header X-Forwarded-Proto unless from_trusted_proxy
"""


def stand_in(folder: Path, body: str, trusted_proxies: str = "") -> list[str]:
    """Give the command that Ray would run, with a shell script for HAProxy and a config as Ray writes it."""
    binary, config = folder / "stand-in", folder / "haproxy.cfg"
    binary.write_text(f"#!/bin/sh\n{body}\n")
    binary.chmod(0o700)
    config.write_text(RAYS_CONFIG)
    rays = [str(binary), "-db", "-f", str(config), "-sf", "1"]
    return [sys.executable, "-I", "-S", haproxy.__file__, trusted_proxies, *rays]


@pytest.mark.parametrize(
    ("trusted_proxies", "callers"), [("", NO_PROXY_BEFORE_US), ("10.0.0.5,10.1.0.0/16", TWO_PROXIES_BEFORE_US)]
)
def test_the_config_opens_the_services_own_address_alone_and_names_who_calls(
    tmp_path: Path, trusted_proxies: str, callers: str
) -> None:
    command = stand_in(tmp_path, 'cat "$3"', trusted_proxies)
    config = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert config == ADAPTED.format(folder=tmp_path, callers=callers)


def test_where_no_ingress_answers_haproxy_does_in_the_contract_s_shape(tmp_path: Path) -> None:
    subprocess.run(stand_in(tmp_path, "true"), check=True)
    head, body = (tmp_path / "interrupted.http").read_bytes().decode().split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}" in head.split("\r\n")
    assert ErrorAnswer.model_validate_json(body).code == ComponentUnavailable.code


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


def test_a_config_that_cannot_be_adapted_starts_nothing(tmp_path: Path) -> None:
    command = stand_in(tmp_path, "echo here")
    os.unlink(tmp_path / "haproxy.cfg")
    assert "here" not in subprocess.run(command, capture_output=True, text=True).stdout
