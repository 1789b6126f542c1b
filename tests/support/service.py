"""The whole service on a real Ray Serve, started by the command as a user types it.

It runs in fast mode where that can be had; `RAY_SERVE_ENABLE_HA_PROXY: "0"` in its environment makes it plain mode.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.processes import end, session_members, sessions_below
from serve_app.cli.ray_env import with_flags
from serve_app.cli.running import service_at
from tests.support.ports import free_port

COMMAND, SERVE = (Path(sys.executable).with_name(name) for name in ("image-analyzer", "serve"))
HOST = "127.0.0.1"
START_LIMIT_S = 240
"""In CI two suites share two cores."""
POLL_S = 0.1

MAIN, HUB, STRICT, GUARDED, RATED = "", "/hub", "/strict", "/guarded", "/rated"
"""Route prefixes of the applications that tests share: everything there; weights still on the hub; both parts required
and Ollama missing; keys asked for; a rate per address."""


def application(
    name: str,
    route_prefix: str,
    args: Mapping[str, Any],
    user_config: Mapping[str, Any] | None = None,
    builder: str = "serve_app.app:build",
) -> dict[str, Any]:
    """Give one entry of a Serve config's `applications`.

    With one ingress, so that all callers meet the same memory; and without a vocabulary where none is named, so that
    none is embedded beside what is tried.
    """
    return {
        "name": name,
        "route_prefix": route_prefix,
        "import_path": builder,
        "args": {**args, "clip": {"vocabulary": [], **args.get("clip", {})}},
        "deployments": [
            {"name": "ClipDeployment", "user_config": dict(user_config or {})},
            {"name": "Ingress", "num_replicas": 1},
        ],
    }


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""  # It has ended meanwhile.


class Service:
    """A Serve instance with a Ray of its own; `with Service([application(...)], environment) as service`.

    `for_all` is what the Serve config says beside its applications, `folder` where the command is started.
    """

    def __init__(
        self,
        applications: list[dict[str, Any]],
        environment: Mapping[str, str],
        *,
        pretended_cpus: int = 2,
        pretended_gpus: int = 0,
        for_all: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._started_in = folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._applications = applications
        self._for_all = for_all or {}
        # Short, because Ray puts sockets into it and their paths may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ia-", dir="/tmp"))
        self._environment = {
            **os.environ,
            "HOME": str(self._folder),
            "RAY_TMPDIR": str(self._folder),
            "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": pretended_cpus, "GPU": pretended_gpus}),
            **environment,
        }

    def __enter__(self) -> Service:
        self._log = (self._folder / "serve.log").open("wb")
        self._serving = self._start([COMMAND, "serve", "--verbose", self._config()])
        try:
            self._wait_until_started()
            for entry in self._applications:
                self._wait_until_answering(entry["route_prefix"])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def deploy(self, change: Mapping[str, Any], *, checked: bool = True) -> None:
        """Give the first application's ClipDeployment a new `user_config` while it serves; returns once it holds.

        Unchecked, it goes by Serve's own command, and returns when Serve has taken the order.
        """
        self._applications = copy.deepcopy(self._applications)
        self._applications[0]["deployments"][0]["user_config"] = dict(change)
        if checked:
            deploying = self._start([COMMAND, "deploy", self._config()])
        else:
            running = service_at(self.port)
            assert running is not None
            self._environment |= with_flags(running.environment)
            deploying = self._start([SERVE, "run", "--non-blocking", "--address", running.ray_address, self._config()])
        assert deploying.wait(START_LIMIT_S) == 0, self.log()

    def roll(self, model: Path) -> int:
        """Give the first application another CLIP model while it serves; the exit status of `image-analyzer deploy`."""
        self._applications = copy.deepcopy(self._applications)
        self._applications[0]["args"]["clip"]["model"] = str(model)
        return self._start([COMMAND, "deploy", self._config()]).wait(START_LIMIT_S)

    def _wait_until_answering(self, route_prefix: str) -> None:
        health = f"{self.url}{route_prefix.rstrip('/')}/api/images/health"
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s:
            with suppress(httpx.HTTPError):
                if httpx.get(health, timeout=5).headers["content-type"] == "application/json":
                    return
            time.sleep(POLL_S)
        raise AssertionError(f"{health} did not answer:\n{self.log()}")

    def metrics(self) -> str:
        """Give what Prometheus would be given now."""
        return httpx.get(self.metrics_url, timeout=10).text

    @property
    def metrics_url(self) -> str:
        """Where Prometheus is to ask."""
        found = re.search(r"Metrics: +(\S+)", self.log())
        assert found is not None
        return found[1]

    @property
    def sessions(self) -> set[int]:
        """The sessions that its processes are in."""
        return sessions_below(self._serving.pid)

    def replicas(self, deployment: str = ".*", application_name: str = "main") -> list[int]:
        """Give the process ids of the replicas of deployments and applications with such a name."""
        title = f"ray::ServeReplica:{application_name}:{deployment}"
        return [pid for pid in session_members(self.sessions) if re.match(title, _command(pid))]

    def log(self) -> str:
        """Everything that the command printed so far."""
        return (self._folder / "serve.log").read_text(errors="replace")

    def log_files(self) -> Iterator[Path]:
        """Give every file that it and Ray write what happens to."""
        yield self._folder / "serve.log"
        yield from (path for path in self._folder.glob("**/session_2*/logs/**/*") if path.is_file())

    def _wait_until_started(self) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while "Stop it:" not in self.log():
            assert self._serving.poll() is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(POLL_S)

    def _config(self) -> Path:
        config = self._folder / "serve_config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "proxy_location": "HeadOnly",
                    "http_options": {"host": HOST, "port": self.port},
                    "applications": self._applications,
                    **self._for_all,
                }
            )
        )
        return config

    def _start(self, command: list[str | Path]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self._started_in,
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _stop(self) -> None:
        # All at once: how it ends in order takes seconds each time, and tests/test_command.py sees to that.
        end(self.sessions)
        self._serving.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
