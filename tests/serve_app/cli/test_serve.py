"""The `serve` command: what it refuses to start, with what it starts, and real signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig
from serve_app.cli.port import require_free_port
from serve_app.cli.processes import kill_session, session_members
from serve_app.cli.serve import serve, with_flags
from tests.serve_app.cli.conftest import health_answer, write_config
from tests.serve_app.cli.test_supervisor import DEADLINE_S, STAND_IN
from tests.support.ports import free_port

MUST_NOT_START = ("/no/such/command",)


def refused(config_file: Path, log_file: Path | None = None) -> int:
    return serve(config_file, start_timeout_s=1, stop_timeout_s=1, log_file=log_file, command=MUST_NOT_START)


def test_a_wrong_setting_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(write_config(tmp_path, port=1, args="{clip: {device: gpu}}")) == 2

    told = capsys.readouterr()
    assert told.err.startswith("image-analyzer: Setting 'clip.device' is 'gpu'")
    assert told.out == ""


def test_a_taken_port_is_told_with_the_way_to_change_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(write_config(tmp_path, port=port)) == 2

    told = capsys.readouterr().err
    assert f"port {port}" in told
    assert f"set http_options.port in {tmp_path}/serve_config.yaml to another" in told


def test_a_second_start_says_that_the_service_already_runs(
    config: ServiceConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.path.parent / "health.json").write_text(health_answer().model_dump_json())
    with subprocess.Popen([sys.executable, "-I", "-S", STAND_IN, "obedient", config.path]) as running:
        try:
            while running.poll() is None:
                with suppress(ConnectionError), socket.create_connection((config.host, config.port)):
                    break
            assert refused(config.path) == 2
        finally:
            running.terminate()
    assert f"The service already runs at {config.url}" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(write_config(tmp_path, port=free_port()), log_file=tmp_path / "no" / "log") == 2

    assert "The log file cannot be written" in capsys.readouterr().err


def test_a_port_is_free_again_after_the_check(config: ServiceConfig) -> None:
    require_free_port(config)
    require_free_port(config)

    with socket.create_server((config.host, config.port)), pytest.raises(SettingsError):
        require_free_port(config)


def test_the_flags_give_way_to_the_users_environment() -> None:
    assert with_flags({})["OMP_WAIT_POLICY"] == "passive"
    assert with_flags({})["RAY_USAGE_STATS_ENABLED"] == "0"
    assert with_flags({"OMP_WAIT_POLICY": "active", "HOME": "/h"})["OMP_WAIT_POLICY"] == "active"
    assert with_flags({"HOME": "/h"})["HOME"] == "/h"


SCRIPT = """
import sys
from pathlib import Path
from serve_app.cli.serve import serve
config, stand_in = Path(sys.argv[1]), sys.argv[2]
command = (sys.executable, "-I", "-S", stand_in, "littering")
sys.exit(serve(config, start_timeout_s=20, stop_timeout_s=20, log_file=config.with_name("log"), command=command))
"""


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_even_when_started_in_the_background(tmp_path: Path, stopping: signal.Signals) -> None:
    config = write_config(tmp_path, port=free_port())
    (tmp_path / "health.json").write_text(health_answer().model_dump_json())
    # As a shell without job control starts `… &`: with SIGINT ignored.
    in_background = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", SCRIPT]
    with subprocess.Popen([*in_background, str(config), str(STAND_IN)], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        watchdog = threading.Timer(DEADLINE_S, command.kill)
        watchdog.start()
        for line in command.stdout:
            if "Stop it" in line:
                session = os.getsid(int((tmp_path / "worker.pid").read_text()))
                command.send_signal(stopping)
            if "Stopping" in line:
                # The service leaves a worker, which is waited for; one more signal ends it at once.
                command.send_signal(stopping)
        watchdog.cancel()
    leftovers = session_members(session)
    kill_session(session)
    assert command.returncode == 0
    assert leftovers == []
