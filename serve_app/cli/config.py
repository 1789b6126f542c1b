"""A Serve config as the command needs it: checked settings, and whether the service may listen where it says."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployments.clip.labels import LabelSet, load_labels
from deployments.clip.settings import parse_user_config as parse_clip
from deployments.clip.vocabulary.phrases import load_vocabulary
from deployments.data_files import parse_yaml
from deployments.errors import SettingsError
from deployments.ollama.targets import load_targets, with_default
from deployments.ollama.targets import parse_user_config as parse_ollama
from serve_app.middleware.auth import keys_of
from serve_app.settings import Settings, load_settings

BUILDER = "serve_app.app:build"
CONFIGURABLE = {"ClipDeployment": parse_clip, "OllamaDeployment": parse_ollama}
"""The deployments that take a `user_config`, and what checks it."""
DEPLOYMENTS = ("ClipDeployment", "OllamaDeployment", "Ingress")
SERVE_HOST = "0.0.0.0"  # noqa: S104
"""Where Serve listens when the config does not say."""
SERVE_PORT = 8000
"""Its port in the same case."""
DEFAULT_NAME = "default"
"""An application's name in the same case."""
LAST_PORT = 65535

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Hosts that mean every interface → the address at which this machine reaches them."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What one config file says of the image analyzer."""

    path: Path
    content: Mapping[str, Any]
    """As Serve takes it."""
    settings: Settings
    labels: LabelSet
    host: str
    port: int
    route_prefix: str
    applications: tuple[str, ...]
    """The names of those that are the image analyzer."""

    @property
    def url(self) -> str:
        """The service's address as seen from this machine, without a slash at the end."""
        host = ANY_ADDRESS.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.route_prefix.rstrip('/')}"

    @property
    def open_to_others(self) -> bool:
        """Whether it listens on every interface."""
        return self.host in ANY_ADDRESS


def read_config(path: Path, environment: Mapping[str, str]) -> ServiceConfig:
    """Read a Serve config and check what it says to the image analyzer: labels, targets, keys and user_config too.

    Raises:
        SettingsError: one sentence that says what is wrong and where.
    """
    content = _mapping(_read_yaml(path), f"The config {path}")
    applications = content.get("applications")
    ours = [
        application
        for application in (applications if isinstance(applications, list) else [])
        if isinstance(application, dict) and application.get("import_path") == BUILDER
    ]
    if not ours:
        raise SettingsError(f"The config {path} has no application whose import_path is {BUILDER}.")
    checked = [load_settings(_mapping(application.get("args"), "args"), environment) for application in ours]
    labels = [load_labels(settings.clip.labels_file) for settings in checked]
    for settings in checked:
        load_vocabulary(settings.clip.vocabulary)
        with_default(load_targets(settings.ollama.targets_file), settings.ollama.target)
        keys_of(settings.access, environment)
    for deployment in (entry for application in ours for entry in application.get("deployments") or []):
        _check_deployment(path, _mapping(deployment, "deployments"))
    http = _mapping(content.get("http_options"), "http_options")
    port = http.get("port", SERVE_PORT)
    if not isinstance(port, int) or not 1 <= port <= LAST_PORT:
        raise SettingsError(f"http_options.port in {path} is {port!r}: set it to a number from 1 to {LAST_PORT}.")
    return ServiceConfig(
        path=path,
        content=content,
        settings=checked[0],
        labels=labels[0],
        host=str(http.get("host", SERVE_HOST)),
        port=port,
        route_prefix=str(ours[0].get("route_prefix", "/")),
        applications=tuple(str(application.get("name", DEFAULT_NAME)) for application in ours),
    )


def _check_deployment(path: Path, deployment: dict[str, Any]) -> None:
    name = deployment.get("name")
    if name not in DEPLOYMENTS:
        raise SettingsError(f"{path} names a deployment {name!r}: there are {', '.join(DEPLOYMENTS)}.")
    user_config = _mapping(deployment.get("user_config"), "user_config")
    if parse := CONFIGURABLE.get(name):
        try:
            parse(user_config)
        except SettingsError as error:
            raise SettingsError(f"{path}: {name}: {error}") from error
    elif user_config:
        raise SettingsError(f"{path}: {name} takes no user_config: what it can be told stands under args.")


def _read_yaml(path: Path) -> Any:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"There is no config file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The config {path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"The config {path} is not YAML: {' '.join(str(error).split())}.") from error


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(f"{name} must be names and values, not {value!r:.60}.")
    return value


def require_free_port(config: ServiceConfig) -> None:
    """Check that the service may listen where its config says.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """
    change = f"or set http_options.port in {config.path} to another"
    try:
        with socket.create_server((config.host, config.port), family=_family(config.host)):
            pass
    except OSError as error:
        reason = f"The service cannot listen on {config.host}, port {config.port} ({reason_of(error)})"
        raise SettingsError(f"{reason}: stop what uses that port, {change}.") from error


def first_free_port(host: str, candidates: Iterable[int]) -> int | None:
    """Choose the first port that a program can listen on, Ray's own among them.

    Those do not set SO_REUSEADDR, so a port whose last connections have not died away yet is taken for them.
    """
    for port in candidates:
        with socket.socket(_family(host)) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    return None


def reason_of(error: OSError) -> str:
    """Give the system's words alone; asyncio and socket add the address, which is named already."""
    return str(error.strerror or error).split(" (while", 1)[0]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
