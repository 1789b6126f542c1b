"""By which name the service is called: a stranger who points a name of their own at this machine is refused."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Set
from contextlib import suppress

from starlette.datastructures import Headers

from deployments.errors import OriginNotAllowed

MAX_NAME_CHARS = 253
"""Of a host: DNS has none longer."""

NOBODYS_DOMAINS = ("localhost", "local", "internal", "test", "lan", "home.arpa")
"""In these no stranger can register a name."""


def check_host(headers: Headers, address: str, hosts: Set[str], origins: Set[str]) -> None:
    """Let a request in by the name that it calls the service.

    Where no hosts are given, refused is what only a page after DNS rebinding sends: from this machine, over http
    (nobody has a certificate for the stranger's name and this server), with that name and a port as origin and host.

    Args:
        headers: the request's.
        address: where it comes from.
        hosts: the names that are let in, in small letters; `*` for any.
        origins: of pages that may call in any case.

    Raises:
        OriginNotAllowed: the name is not among `hosts`, or a stranger's.
    """
    origin = headers.get("origin", "").lower()
    if "*" in hosts or not (hosts or (origin.startswith("http://") and origin not in origins)):
        return
    host = headers.get("host", "").lower()
    name, _, port = host.rpartition(":") if host[-1:].isdigit() and ":" in host else (host, "", "")
    if name in hosts or _is_nobodys(name):
        return
    if hosts or (port and origin == f"http://{host}" and _is_loopback(address)):
        raise OriginNotAllowed(f"This service is not called {name[:MAX_NAME_CHARS]!r}: see access.allowed_hosts.")


def _is_nobodys(name: str) -> bool:
    """Tell whether no stranger can own the name: an address, or a name of this machine or its network alone."""
    name = name.rstrip(".")
    if "." not in name or name.endswith(tuple(f".{domain}" for domain in NOBODYS_DOMAINS)):
        return True
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name == socket.gethostname().lower()


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False
