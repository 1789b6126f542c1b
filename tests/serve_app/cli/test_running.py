"""A running service is found by its port, by its own user, for as long as its command runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.errors import SettingsError
from serve_app.cli.running import RunningService, folder, listed, service_at


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def running(process: int, port: int) -> RunningService:
    return RunningService(process=process, ray_address=f"127.0.0.1:{port}", environment={"RAY_A": "b"})


def test_two_services_are_told_apart_and_gone_when_they_stop() -> None:
    one, two = running(os.getpid(), 1), running(os.getpid(), 2)
    with listed(8000, one), listed(8001, two):
        assert (service_at(8000), service_at(8001)) == (one, two)
        assert stat.S_IMODE(folder().stat().st_mode) == 0o700
    assert service_at(8000) is None


def test_one_whose_command_was_killed_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with listed(8000, running(ended.pid, 1)):
        assert service_at(8000) is None


def test_nobody_elses_word_is_taken() -> None:
    folder().chmod(0o777)
    with pytest.raises(SettingsError, match="not this user's alone"):
        service_at(8000)
