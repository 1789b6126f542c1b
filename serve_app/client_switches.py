"""Takes from requests the headers by which a client could switch off Serve's timeout and its watch for who has left.

Serve reads them before the application sees the request, so this runs outside of it: Ray calls `middlewares` where
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it, at the proxy in plain mode, at the ingress replica in fast mode.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

CLIENT_SWITCHES = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
"""As in `ray/serve/_private/constants.py` of Ray 2.60."""


class WithoutClientSwitches:
    """ASGI middleware: passes requests on without those headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if name.lower() not in CLIENT_SWITCHES]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Give what Serve is to put around itself."""
    return [Middleware(WithoutClientSwitches)]
