"""Ray and Serve as the command has them: a Ray of its own in this process, or a cluster that it joins.

Built for Ray 2.60, of whose insides it uses two: `Node`, with which `ray start` and `ray.init` make a head, because
neither leaves out the autoscaler, the log monitor and the dashboard's server, which take some 170 MiB; and the client
through which `serve run` deploys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.serve._private import api
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema, ServeStatus

from serve_app.cli.ray_env import OBJECT_STORE_BYTES

OWN_ADDRESS = "127.0.0.1"
"""Where a Ray of our own listens: nobody else is to join it."""

EXPECTED_END = "Raylet received SIGTERM"
"""What Ray's two agents look for in the raylet's log once it is gone; without it they try for a minute to tell the GCS,
which went with it (ray/_private/process_watcher.py)."""

NAMESPACE = "serve"
"""In which Serve keeps its actors, and so whoever asks for them."""


class Head:
    """A Ray of this process's own: it ends with it, however that ends.

    Args:
        dashboard: start Ray's dashboard too.
        follow_logs: start what brings the replicas' lines to this process.

    Raises:
        Exception: whatever keeps Ray from starting.
    """

    def __init__(self, *, dashboard: bool, follow_logs: bool) -> None:
        # That /dev/shm is small makes Ray warn at length; a container's is, and little is put there.
        logging.getLogger("ray._private.services").setLevel(logging.ERROR)
        parameters = RayParams(
            node_ip_address=OWN_ADDRESS,
            include_dashboard=dashboard,
            include_log_monitor=follow_logs,  # type: ignore[arg-type]
            no_monitor=True,
            object_store_memory=OBJECT_STORE_BYTES,
        )
        self._node = _OwnNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True)
        with (self.log_folder / "raylet.out").open("a") as log:
            log.write(f"{EXPECTED_END}: not yet, but should this command be killed, nobody is left to be told.\n")

    @property
    def address(self) -> str:
        """Where drivers find it."""
        return str(self._node.gcs_address)

    @property
    def log_folder(self) -> Path:
        """Where it and every replica write what happens to them."""
        return Path(self._node.get_logs_dir_path())  # type: ignore[no-untyped-call]

    @property
    def dashboard_url(self) -> str:
        """Where its dashboard listens; empty without one."""
        return f"http://{self._node.webui_url}" if self._node.webui_url else ""

    def lost(self) -> str:
        """Name a process of it that has ended; empty while all are there."""
        dead = self._node.dead_processes()  # type: ignore[no-untyped-call]
        return next((str(kind) for kind, _ in dead), "")

    def end(self) -> None:
        """End its processes; the replicas follow."""
        self._node.kill_all_processes(check_alive=False, allow_graceful=False)


class _OwnNode(Node):
    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        # Ray starts it without the dashboard too, to report usage, which is switched off.
        if include_dashboard:
            super().start_api_server(include_dashboard=True, raise_on_failure=raise_on_failure)


class Instance:
    """Serve on a Ray, as the one who deploys sees it.

    Args:
        address: the Ray's.
        follow_logs: print the replicas' lines.

    Raises:
        ConnectionError: no Ray answers there.
    """

    def __init__(self, address: str, *, follow_logs: bool = False) -> None:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=follow_logs, logging_level=logging.ERROR)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._client: Any = None

    def start(self, schema: ServeDeploySchema) -> None:
        """Start Serve, unless it runs: controller and proxies; returns when these are there."""
        self._client = api.serve_start(
            http_options=schema.http_options.model_dump(),
            grpc_options=schema.grpc_options.model_dump(),
            proxy_location=schema.proxy_location,
            controller_options=schema.controller_options,
        )

    def deploy(self, schema: ServeDeploySchema) -> None:
        """Have the controller make the cluster what the config says; returns when it has taken the order.

        Raises:
            Exception: the controller refuses the config.
        """
        self._client.deploy_apps(schema)

    def deployed(self) -> list[ServeApplicationSchema]:
        """Give the applications as they were ordered last."""
        details = self._client.get_serve_details()["applications"].values()
        orders = (application["deployed_app_config"] for application in details)
        return [ServeApplicationSchema.model_validate(order) for order in orders if order]

    def status(self) -> ServeStatus:
        """Tell how applications and deployments stand."""
        return serve.status()

    def metrics_url(self) -> str:
        """Where Prometheus may ask this machine's node; empty where none of the cluster's is on it."""
        here = ray.get_runtime_context().get_node_id()
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        found = (node for node in nodes if node["NodeID"] == here)
        return next((f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in found), "")

    def drain(self, applications: Sequence[str], limit_s: float) -> None:
        """Have every ingress replica take nothing more; returns when all have finished what they have.

        Raises:
            TimeoutError: that took longer than the limit.
        """

        async def drained() -> None:
            # Within a loop, because in fast mode a handle has none of its own.
            handles = [serve.get_app_handle(name) for name in applications]
            asked = [handle.broadcast("drain") for handle in handles]
            await asyncio.gather(*(replicas.results_async(timeout_s=limit_s) for replicas in asked))

        # Of a handle whose loop has ended Serve complains, and nobody here calls it again.
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
        asyncio.run(drained())

    def shut_down(self) -> None:
        """End Serve; the Ray stays."""
        serve.shutdown()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """Disconnect."""
        with suppress(Exception):
            ray.shutdown()


def schema_of(content: dict[str, Any]) -> ServeDeploySchema:
    """Give a config's content as Serve takes it.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return ServeDeploySchema.model_validate(content)


def last_line(message: str) -> str:
    """Give what a traceback, or whatever else Serve tells at length, ends with."""
    return message.strip().splitlines()[-1].strip()


def failures(status: ServeStatus, applications: Sequence[str]) -> Iterator[str]:
    """Say what keeps applications from being deployed: the last lines of what Serve knows of it."""
    for name in applications:
        found = status.applications.get(name)
        if found is None or found.status not in ("DEPLOY_FAILED", "UNHEALTHY"):
            continue
        told = [found.message, *(part.message for part in found.deployments.values())]
        for message in filter(None, told):
            yield last_line(message)


def still_starting(status: ServeStatus, applications: Sequence[str]) -> list[str]:
    """Name the deployments that are not there yet."""
    waiting = []
    for name in applications:
        found = status.applications.get(name)
        if found is None or not found.deployments:
            return [name]
        waiting += [deployment for deployment, part in found.deployments.items() if part.status != "HEALTHY"]
    return waiting
