"""`image-analyzer serve` on the shipped config, as a newcomer runs it: no weights, no hub, no Ollama, an empty home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli.processes import session_members
from tests.support.ports import free_port

pytestmark = pytest.mark.serve

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("image-analyzer")
STOP_LIMIT_S = 60


def test_it_starts_answers_a_photograph_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    config = tmp_path / "serve_config.yaml"
    config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home), "HF_ENDPOINT": nobody, "OLLAMA_HOST": nobody}
    command: list[str | Path] = [COMMAND, "serve", config, "--log-file", tmp_path / "log"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as serving:
        assert serving.stdout is not None
        try:
            banner = []
            for line in serving.stdout:
                banner.append(line.strip())
                if "Ctrl-C" in line:
                    break
            told = "\n".join(banner)
            assert f"listens at http://127.0.0.1:{port}" in told, (tmp_path / "log").read_text()
            assert "analyzer: pixels" in told
            assert "writer:   template" in told
            assert "ollama serve" in told

            demo = subprocess.run(
                [COMMAND, "analyze", ROOT / "examples" / "coffee.jpg", "--url", f"http://127.0.0.1:{port}"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for category in ("style", "mood", "composition", "color palette", "subjects"):
                (row,) = (line for line in demo.splitlines() if line.strip().startswith(f"{category}:"))
                assert row.count("%") == 3
            assert "palette:       #" in demo
            assert "prompt by template" in demo
            sessions = _sessions_below(serving.pid)
        finally:
            serving.send_signal(signal.SIGINT)
            farewell = serving.communicate(timeout=STOP_LIMIT_S)[0]
    assert serving.returncode == 0
    assert farewell.strip().endswith("Stopped.")
    assert sessions
    assert not any(session_members(session) for session in sessions)


def _sessions_below(pid: int) -> set[int]:
    """Give the sessions of the processes that this one has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {os.getsid(int(child)) for child in children}
