"""What stands between Serve and the caller: headers are checked, and Serve's own failures get the contract's shape.

Both happen outside of the application, so this runs around Serve: Ray calls `middlewares` where
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it, at the proxy in plain mode, at the ingress replica in fast mode.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import AnalyzerError, ComponentUnavailable, DeadlinePassed, QueueFull
from deployments.telemetry import leave_out_access_lines
from serve_app.middleware.errors import error_response

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


SERVES_OWN_ROUTES = "/-/"
"""Health for load balancers, and the list of routes; their answers are Serve's."""

RETRY_AFTER_S = 2
"""What a caller is told whom Serve refuses: a replica frees a place or is started anew within seconds."""


class ContractFailures:
    """ASGI middleware: what Serve itself answers in plain text or not at all comes out as JSON with a code.

    In plain mode Serve sends nothing when the ingress replica is lost; its web server would make a bare 500 of that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back."""
        if scope["type"] != "http" or scope["path"].startswith(SERVES_OWN_ROUTES):
            await self._app(scope, receive, send)
            return
        started = replaced = False

        async def send_in_shape(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started = True
                failure = _serves_failure(message)
                replaced = failure is not None
                if failure is not None:
                    await error_response(failure)(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, send_in_shape)
        if not started:
            await error_response(_interrupted())(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Give what Serve is to put around itself; called once in the process that does."""
    leave_out_access_lines()
    return [Middleware(ContractFailures), Middleware(CheckedHeaders)]


def _serves_failure(start: Message) -> AnalyzerError | None:
    """Name what Serve 2.60 means by a failure in plain text; the application's own are JSON."""
    if Headers(raw=start["headers"]).get("content-type", "").startswith("application/json"):
        return None
    status = start["status"]
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return DeadlinePassed("The answer took longer than http_options.request_timeout_s: try again.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return QueueFull(f"As many requests wait as may; try again in {RETRY_AFTER_S} s.", retry_after_s=RETRY_AFTER_S)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _interrupted()
    return None


def _interrupted() -> ComponentUnavailable:
    return ComponentUnavailable(
        "The part that takes requests was interrupted: send the request again.", retry_after_s=RETRY_AFTER_S
    )


def _allowed(name: bytes, value: bytes) -> bool:
    name = name.lower()
    if name == REQUEST_ID:
        return _LOGGABLE_ID.fullmatch(value) is not None
    return name not in CLIENT_SWITCHES
