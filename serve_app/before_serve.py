"""What happens to a request's headers before Serve reads them: no client may switch Serve's guards off, or fill its log.

Serve reads them before the application sees the request, so this runs outside of it: Ray calls `middlewares` where
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it, at the proxy in plain mode, at the ingress replica in fast mode.
"""

from __future__ import annotations

import re

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

CLIENT_SWITCHES = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
"""By these a client could switch off Serve's timeout and its watch for who has left; as in
`ray/serve/_private/constants.py` of Ray 2.60."""

REQUEST_ID = b"x-request-id"
"""Serve writes it into every log line of the request and sends it back; without one it makes one."""

MAX_REQUEST_ID_CHARS = 128
"""Room for a UUID, a trace id, or a name of the caller's; Serve itself would take whatever fits into the headers."""

_LOGGABLE_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,%d}" % MAX_REQUEST_ID_CHARS)


class CheckedHeaders:
    """ASGI middleware: passes requests on without Serve's switches, and without an id that no log should hold."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            scope = {**scope, "headers": [header for header in scope["headers"] if _allowed(*header)]}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Give what Serve is to put around itself."""
    return [Middleware(CheckedHeaders)]


def _allowed(name: bytes, value: bytes) -> bool:
    name = name.lower()
    if name == REQUEST_ID:
        return _LOGGABLE_ID.fullmatch(value) is not None
    return name not in CLIENT_SWITCHES
