"""The whole service on a real Ray Serve: a cluster of its own, and `serve run CONFIG` as a user types it.

It runs in fast mode where that can be had, as with `image-analyzer serve`; `RAY_SERVE_ENABLE_HA_PROXY: "0"` in its
environment makes it plain mode, in which a bare `serve run` starts.
"""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.processes import end, sessions_below
from serve_app.cli.processes import session_members
from serve_app.cli.ray_env import SWITCH, chosen_mode
from serve_app.cli.serve import with_flags
from tests.support.ports import free_port

RAY, SERVE = (Path(sys.executable).with_name(name) for name in ("ray", "serve"))
HOST = "127.0.0.1"
START_LIMIT_S = 120
POLL_S = 0.1
OBJECT_STORE_BYTES = 100_000_000


def application(
    name: str,
    route_prefix: str,
    args: Mapping[str, Any],
    user_config: Mapping[str, Any],
    builder: str = "serve_app.app:build",
) -> dict[str, Any]:
    """Give one entry of a Serve config's `applications`."""
    return {
        "name": name,
        "route_prefix": route_prefix,
        "import_path": builder,
        "args": dict(args),
        "deployments": [{"name": "ClipDeployment", "user_config": dict(user_config)}],
    }


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""  # It has ended meanwhile.


class Service:
    """A Serve instance in a cluster of its own; `with Service([application(...)], environment) as service`.

    `for_all` is what the Serve config says beside its applications.
    """

    def __init__(
        self,
        applications: list[dict[str, Any]],
        environment: Mapping[str, str],
        *,
        pretended_cpus: int = 2,
        pretended_gpus: int = 0,
        for_all: Mapping[str, Any] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._metrics_port = free_port()
        self._applications = applications
        self._for_all = for_all or {}
        self._resources = (f"--num-cpus={pretended_cpus}", f"--num-gpus={pretended_gpus}")
        # Short, because Ray puts sockets into it and their paths may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ia-", dir="/tmp"))
        environment = with_flags(
            {
                **os.environ,
                "HOME": str(self._folder),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                **environment,
            }
        )
        self._for_as_long_as_it_runs = ExitStack()
        self.mode = self._for_as_long_as_it_runs.enter_context(chosen_mode(HOST, self.port, environment))
        self._another_terminals = {name: value for name, value in environment.items() if name != SWITCH}

    def __enter__(self) -> Service:
        self._log = (self._folder / "serve.log").open("wb")
        self._address = f"{HOST}:{free_port()}"
        resources = (*self._resources, f"--object-store-memory={OBJECT_STORE_BYTES}")
        self._cluster = self._start(
            [
                *(RAY, "start", "--head", "--block", "--include-dashboard=false", *resources),
                *(f"--port={self._address.split(':')[1]}", f"--node-ip-address={HOST}", f"--temp-dir={self._folder}"),
                f"--metrics-export-port={self._metrics_port}",
            ],
            self.mode.environment,
        )
        self._serving = self._start([SERVE, "run", "--address", self._address, self._config()], self.mode.environment)
        try:
            for entry in self._applications:
                self.wait_until_answering(entry["route_prefix"])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def deploy(self, change: Mapping[str, Any], *, application_name: str) -> None:
        """Give an application's ClipDeployment a new `user_config` while it serves; returns once Serve has taken it."""
        self._applications = copy.deepcopy(self._applications)
        (entry,) = (entry for entry in self._applications if entry["name"] == application_name)
        entry["deployments"][0]["user_config"] = dict(change)
        redeploying = self._start(
            [SERVE, "run", "--non-blocking", "--address", self._address, self._config()], self._another_terminals
        )
        assert redeploying.wait(START_LIMIT_S) == 0, self.log()

    def wait_until_answering(self, route_prefix: str = "/") -> None:
        """Wait for the health route to answer at all."""
        health = f"{self.url}{route_prefix.rstrip('/')}/api/images/health"
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s:
            with suppress(httpx.HTTPError):
                if httpx.get(health, timeout=5).headers["content-type"] == "application/json":
                    return
            with suppress(subprocess.TimeoutExpired):
                self._serving.wait(POLL_S)
                break
        raise AssertionError(f"{health} did not answer:\n{self.log()}")

    def metrics(self) -> str:
        """Give what Prometheus would be given now."""
        return httpx.get(f"http://{HOST}:{self._metrics_port}/metrics", timeout=10).text

    @property
    def sessions(self) -> set[int]:
        """The sessions that its processes are in."""
        return sessions_below(self._cluster.pid) | sessions_below(self._serving.pid)

    def replicas(self, deployment: str, application_name: str = "main") -> list[int]:
        """Give the process ids of a deployment's replicas."""
        title = f"ray::ServeReplica:{application_name}:{deployment}"
        members = [pid for session in self.sessions for pid in session_members(session)]
        return [pid for pid in members if _command(pid).startswith(title)]

    def log(self) -> str:
        """Everything that `serve run` printed so far."""
        return (self._folder / "serve.log").read_text(errors="replace")

    def log_files(self) -> Iterator[Path]:
        """Give every file that it and Ray write what happens to."""
        yield self._folder / "serve.log"
        yield from (path for path in self._folder.glob("session_2*/logs/**/*") if path.is_file())

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

    def _start(self, command: list[str | Path], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def _stop(self) -> None:
        # All at once: how Serve and Ray end in order takes seconds each time, and tests/test_command.py sees to that.
        end(self.sessions)
        for process in (self._serving, self._cluster):
            process.wait()
        self._log.close()
        self._for_as_long_as_it_runs.close()
        shutil.rmtree(self._folder, ignore_errors=True)
