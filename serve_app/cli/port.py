"""Whether the service may listen where its config says."""

from __future__ import annotations

import socket

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


def reason_of(error: OSError) -> str:
    """Give the system's words alone; asyncio and socket add the address, which is named already."""
    return str(error.strerror or error).split(" (while", 1)[0]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
