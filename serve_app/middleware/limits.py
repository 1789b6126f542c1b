"""A bound on the requests that one replica works on: beyond it they are refused at once, in the contract's shape.

Serve's own limits refuse too, but in plain text and outside the application; they stand well above this one.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import QueueFull
from serve_app.middleware.errors import error_response


class Admission:
    """ASGI middleware: POST requests over `max_requests` at a time get 429 before their body is read."""

    def __init__(self, app: ASGIApp, max_requests: int, retry_after_s: int) -> None:
        self._app = app
        self._max_requests = max_requests
        self._retry_after_s = retry_after_s
        self._present = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._present >= self._max_requests:
            refusal = QueueFull(
                f"{self._max_requests} requests are being worked on, and no more may; "
                f"try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
            await error_response(refusal)(scope, receive, send)
            return
        self._present += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._present -= 1
