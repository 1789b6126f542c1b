"""`image-analyzer status` and `deploy`: a running service, looked at and changed from another terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig, read_config
from serve_app.cli.health import ask_health, describe
from serve_app.cli.places import check_cluster
from serve_app.cli.ray_env import CLUSTER, joined_cluster, with_flags
from serve_app.cli.running import service_at
from serve_app.cli.terminal import ProgressLine

if TYPE_CHECKING:
    from ray.serve.schema import ServeStatus

    from serve_app.cli.cluster import Instance

POLL_S = 0.5

SETTLED_S = 2.5
"""How long all must be in place: the controller looks at orders now and then, and tells of the old one till then."""


def status(config_file: Path) -> int:
    """Say how the service that listens where the config says stands.

    Returns:
        0 if it takes pictures, 1 if not, 2 if the config is wrong or no service runs there.
    """
    try:
        config = read_config(config_file, os.environ)
        with _connected(config) as instance:
            for line in told(instance.status()):
                print(line)
    except SettingsError as error:
        print(f"image-analyzer: {error}", file=sys.stderr)
        return 2
    health = ask_health(config)
    if health is None:
        print(f"✗ Nothing answers at {config.url}.")
        return 1
    print(f"health: {health.status}")
    for line in describe(health):
        print(f"  {line}")
    return 1 if health.status == "error" else 0


def deploy(config_file: Path, *, timeout_s: float) -> int:
    """Bring a changed config to the service that listens where it says, and wait until it holds.

    Returns:
        0 when it holds, 1 when the service could not take it or not in time, 2 when the config is wrong.
    """
    try:
        config = read_config(config_file, os.environ)
        with _connected(config) as instance:
            return _deploy(instance, config, timeout_s)
    except SettingsError as error:
        print(f"image-analyzer: {error}", file=sys.stderr)
        return 2


def _deploy(instance: Instance, config: ServiceConfig, timeout_s: float) -> int:
    from serve_app.cli.cluster import failures, schema_of, still_starting

    schema = schema_of(dict(config.content))
    progress = ProgressLine(sys.stdout)
    instance.start(schema)
    before = instance.deployed()
    instance.deploy(schema)
    busy_s = time.monotonic()
    deadline_s = busy_s + timeout_s
    while time.monotonic() < deadline_s:
        found = instance.status()
        problems = list(failures(found, config.applications))
        waiting = still_starting(found, config.applications)
        if waiting:
            busy_s = time.monotonic()
        if problems or time.monotonic() > busy_s + SETTLED_S:
            progress.clear()
            for problem in problems:
                print(f"✗ {problem}")
            if problems and before:
                # What Serve left half done it would neither finish nor mend: not even a lost replica would be replaced.
                instance.deploy(schema.model_copy(update={"applications": before}))
            print("The service did not take it; what answered before goes on." if problems else f"{config.path} holds.")
            return 1 if problems else 0
        progress.show(f"waiting for {', '.join(waiting) or config.path.name} …")
        time.sleep(POLL_S)
    progress.clear()
    print(f"✗ Not all is in place after {timeout_s:g} s: image-analyzer status says how it goes on.")
    return 1


def told(found: ServeStatus) -> Iterator[str]:
    """Tell a person how applications and deployments stand, and what Serve says of those that are not well."""
    from serve_app.cli.cluster import last_line

    for name, application in found.applications.items():
        yield f"{name}: {application.status.value}"
        if application.message:
            yield f"    {last_line(application.message)}"
        for deployment, part in application.deployments.items():
            replicas = ", ".join(f"{count} {state}" for state, count in part.replica_states.items())
            yield f"  {deployment}: {part.status.value}{f' ({replicas})' if replicas else ''}"
            if part.message:
                yield f"    {last_line(part.message)}"


@contextmanager
def _connected(config: ServiceConfig) -> Iterator[Instance]:
    """Connect to the Ray of the service that listens where the config says; to RAY_ADDRESS, where that is set.

    Raises:
        SettingsError: there is none.
    """
    address = joined_cluster(os.environ)
    if address and not (found := check_cluster(address, os.environ)).ok:
        raise SettingsError(found.sentence)
    if not address:
        service = service_at(config.port)
        if service is None:
            raise SettingsError(
                f"No service of this user's runs at {config.url}: start it with image-analyzer serve, or name its "
                f"cluster in {CLUSTER}."
            )
        address = service.ray_address
        os.environ.update(service.environment)
    os.environ.update(with_flags(os.environ))
    from serve_app.cli.cluster import Instance

    try:
        instance = Instance(address)
    except ConnectionError as error:
        raise SettingsError(f"No Ray answers at {address}: {error}.") from error
    try:
        yield instance
    finally:
        instance.leave()
