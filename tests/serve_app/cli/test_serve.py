"""The `serve` command: what it refuses to start, and what it makes of signals; tests/test_command.py starts it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig, require_free_port
from serve_app.cli.console import Console
from serve_app.cli.serve import serve
from tests.serve_app.cli.conftest import answering, health_answer, write_config
from tests.support.ports import free_port


def refused(config_file: Path, log_file: Path | None = None) -> int:
    return serve(config_file, start_timeout_s=1, stop_timeout_s=1, log_file=log_file)


def test_a_wrong_setting_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(write_config(tmp_path, port=1, args="{clip: {device: gpu}}")) == 2
    told = capsys.readouterr()
    assert told.err.startswith("image-analyzer: Setting 'clip.device' is 'gpu'")
    assert told.out == ""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"hello", "port {port}"),
        (b"hello", "set http_options.port in {path} to another"),
        (health_answer().model_dump_json().encode(), "The service already runs at {url}"),
    ],
)
def test_a_taken_port_is_told_with_the_way_to_change_it(
    body: bytes, sentence: str, config: ServiceConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(config, body):
        assert refused(config.path) == 2
    assert sentence.format(port=config.port, path=config.path, url=config.url) in capsys.readouterr().err


def test_a_log_file_is_put_aside_when_it_is_full_and_nothing_of_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.cli.console.MAX_LOG_BYTES", 100)
    with Console(tmp_path / "log"):
        for number in range(15):
            sys.stdout.write(f"line {number}\n")
    told = "".join((tmp_path / name).read_text() for name in ("log.1", "log"))
    assert told.split("\n")[:-1] == [f"line {number}" for number in range(15)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is Linux's")
def test_a_full_disk_costs_the_log_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(Path("/dev/full")) as console:
        sys.stdout.write("a line\n")
        sys.stderr.write("another\n")
        console.say("goes on")
    assert capsys.readouterr().out == "goes on\n"


def test_what_is_waited_for_is_said_once_where_no_line_can_vanish(capsys: pytest.CaptureFixture[str]) -> None:
    with Console() as console:
        for what in ("starting Ray", "waiting for Clip, Ollama", "waiting for Clip, Ollama", "waiting for Clip"):
            console.waits_for(what)
    assert capsys.readouterr().out == "  starting Ray …\n  waiting for Clip, Ollama …\n  waiting for Clip …\n"


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(write_config(tmp_path, port=free_port()), log_file=tmp_path / "no" / "log") == 2
    assert "The log file cannot be written" in capsys.readouterr().err


def test_a_port_is_free_again_after_the_check(config: ServiceConfig) -> None:
    require_free_port(config)
    require_free_port(config)
    with socket.create_server((config.host, config.port)), pytest.raises(SettingsError):
        require_free_port(config)


@pytest.mark.parametrize("verbose", [False, True])
def test_the_services_lines_go_to_the_log_file_and_ours_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    log = tmp_path / "log"
    log.write_text("of yesterday\n")
    with Console(log, verbose=verbose) as console:
        console.say("Starting …")
        sys.stdout.write("(ServeReplica) a line\n")
        sys.stderr.write("(ServeReplica) a warning\n")
    assert log.read_text() == "of yesterday\n(ServeReplica) a line\n(ServeReplica) a warning\n"
    assert capsys.readouterr().out.startswith("Starting …\n")
    sys.stdout.write("as before\n")
    assert capsys.readouterr().out == "as before\n"
