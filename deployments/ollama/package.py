"""The `ollama` package, kept from what it makes of the environment.

When it is imported it makes a client of OLLAMA_HOST, and ends the process where that names several servers; and every
client of it sends OLLAMA_API_KEY along, whichever server it is for (ollama 0.6.3).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def _unset(name: str) -> Iterator[None]:
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


with _unset("OLLAMA_HOST"):
    import ollama

__all__ = ["ResponseError", "make_client", "ollama"]

ResponseError = ollama.ResponseError


def make_client(host: str, headers: Mapping[str, str], **of_httpx: Any) -> ollama.AsyncClient:
    """Make a client of one server, which gets these headers, and no key but what is among them.

    No redirect is followed: most make a GET of a POST, and the headers are meant for this server alone.
    """
    with _unset("OLLAMA_API_KEY"):
        return ollama.AsyncClient(host=host, headers=headers, follow_redirects=False, **of_httpx)
