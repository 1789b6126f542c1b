"""Addresses of Ollama servers, in every form that Ollama itself takes in OLLAMA_HOST (its package `envconfig`)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import httpx

DEFAULT_PORT = 11434
SCHEME_PORTS = {"http": 80, "https": 443}
"""What no port means behind a scheme that is written out; without one it is Ollama's own."""

EVERY_INTERFACE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a server listens that is told so → where this machine reaches it."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

AROUND = "\"' \t\r\n"
"""What shells and env files leave around a value; Ollama takes it off too."""


def split_list(text: str) -> list[str]:
    """Split addresses at their commas; what is empty between or behind them is none."""
    return [address for part in text.strip(AROUND).split(",") if (address := part.strip(AROUND))]


def normalized(address: str) -> str:
    """Give an address as scheme, host, port and, where there is one, path: `http://[::1]:11434`.

    Raises:
        ValueError: it is none; the sentence quotes it.
    """
    given = address.strip(AROUND)
    scheme, written, place = given.partition("://")
    if not written:
        scheme, place = "http", given
    scheme = scheme.lower()
    location, _, path = place.partition("/")
    try:
        parts = urlsplit(f"{scheme}://{_bracketed(location)}/{path}")
        port = parts.port or (SCHEME_PORTS[scheme] if written else DEFAULT_PORT)
        host = parts.hostname or ""
        found = f"{scheme}://{_bracketed(EVERY_INTERFACE.get(host, host))}:{port}{parts.path.rstrip('/')}"
        httpx.URL(found)  # which will not be asked to go where it cannot
        usable = bool(location) and not (parts.query or parts.fragment or any(map(str.isspace, given)))
    except (ValueError, KeyError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise ValueError(
            f'"{address}" is not an address such as http://localhost:{DEFAULT_PORT} or http://[::1]:{DEFAULT_PORT}'
        )
    if parts.username is not None:
        raise ValueError("name and password in an address are not sent: put them into ollama.headers")
    return found


def is_default(address: str) -> bool:
    """Tell whether a normalized address is where Ollama's own command looks unless told."""
    parts = urlsplit(address)
    return (parts.scheme, parts.port, parts.path) == ("http", DEFAULT_PORT, "") and parts.hostname in LOOPBACK


def without_path(address: str) -> str:
    """Give a normalized address up to its port."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def at_own_port(address: str) -> str:
    """Give a normalized address with Ollama's own port in place of its scheme's; empty where it has another."""
    parts = urlsplit(address)
    at_schemes_port = parts.port == SCHEME_PORTS[parts.scheme]
    return f"{parts.scheme}://{_bracketed(parts.hostname or '')}:{DEFAULT_PORT}" if at_schemes_port else ""


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address) else host
    except ValueError:
        return host
