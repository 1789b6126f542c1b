"""Whether the service may listen where its config says, and where else it may."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from deployments.errors import SettingsError
from serve_app.cli.config import ServiceConfig


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
