"""`image-analyzer serve` on the shipped config, as a newcomer runs it: no weights, no hub, no Ollama, an empty home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from serve_app.cli.processes import kill_session, session_members
from tests.support.listening import ports_open_to_others
from tests.support.ports import free_port

pytestmark = pytest.mark.serve

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("image-analyzer")
STOP_LIMIT_S = 60
PAGE_LIMIT_S = 5
POLL_S = 0.1

PAGES = {
    "/api/images/health": '"analyzer_initialized"',
    "/stats": "Statistics Report for HAProxy",
    "/metrics": "\nhaproxy_",
}
"""Path → what shows that it is the page that must stay on this machine."""


class Serving:
    """The command at work, its service ready."""

    def __init__(self, process: subprocess.Popen[str], url: str, told: str) -> None:
        self.process = process
        self.url = url
        self.told = told
        (self.session,) = _sessions_below(process.pid)


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    config = folder / "serve_config.yaml"
    config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}"))
    home = folder / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home), "HF_ENDPOINT": nobody, "OLLAMA_HOST": nobody}
    command: list[str | Path] = [COMMAND, "serve", config, "--log-file", folder / "log"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            banner = []
            for line in process.stdout:
                banner.append(line.strip())
                if "Ctrl-C" in line:
                    break
            told = "\n".join(banner)
            assert "Stop it:" in told, (folder / "log").read_text()
            yield Serving(process, f"http://127.0.0.1:{port}", told)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_LIMIT_S)


def test_it_starts_answers_a_photograph_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        assert f"listens at {service.url}, after" in service.told
        assert "analyzer: pixels" in service.told
        assert "writer:   template" in service.told
        assert "ollama serve" in service.told

        demo = subprocess.run(
            [COMMAND, "analyze", ROOT / "examples" / "coffee.jpg", "--url", service.url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for category in ("style", "mood", "composition", "color palette", "subjects"):
            (row,) = (line for line in demo.splitlines() if line.strip().startswith(f"{category}:"))
            assert row.count("%") == 3
        assert "palette:       #" in demo
        assert "prompt by template" in demo
        if sys.platform == "linux":
            assert "Mode:     fast" in service.told
            _assert_nothing_of_ours_is_open_to_others(service)

        service.process.send_signal(signal.SIGINT)
        farewell = service.process.communicate(timeout=STOP_LIMIT_S)[0]
    assert service.process.returncode == 0
    assert farewell.strip().endswith("Stopped.")
    assert not session_members(service.session)


def _assert_nothing_of_ours_is_open_to_others(service: Serving) -> None:
    """Ray's own ports are; neither our API is behind any of them, nor what HAProxy shows of itself."""
    ports = ports_open_to_others(session_members(service.session))
    assert ports, "Ray's own were expected"
    for port in ports:
        for path, mark in PAGES.items():
            with suppress(httpx.HTTPError):
                assert mark not in httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PAGE_LIMIT_S).text


def test_haproxy_does_not_keep_the_port_when_all_of_ray_is_killed_hard(tmp_path: Path) -> None:
    """As `ray stop --force` does it, which knows nothing of HAProxy."""
    with serving(tmp_path) as service:
        service.process.kill()
        for process in session_members(service.session):
            # One may end by itself once the others are gone.
            with suppress(FileNotFoundError, ProcessLookupError):
                if _name(process) != "haproxy":
                    os.kill(process, signal.SIGKILL)
        deadline_s = time.monotonic() + STOP_LIMIT_S
        while (left := session_members(service.session)) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        kill_session(service.session)
    assert left == []


def _name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()


def _sessions_below(pid: int) -> set[int]:
    """Give the sessions of the processes that this one has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {os.getsid(int(child)) for child in children}
