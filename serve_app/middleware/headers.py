"""Requests are read kindly; every answer tells a browser to load, guess and pass on nothing, unless its route does."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ON_EVERY_ANSWER = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
}

ON_DATA = {
    **ON_EVERY_ANSWER,
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    # What a picture shows is its sender's own affair: no cache on the way keeps it.
    b"cache-control": b"no-store",
}
"""For JSON; a page needs scripts and styles and says itself which."""


class ForgivingRoutes:
    """ASGI middleware: HEAD goes where GET does, the server keeping the body back, and a slash at the end is left out.

    A redirect to the path without it would name http:// behind a proxy that speaks TLS, and lose the upload.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
            path, root = scope["path"], scope.get("root_path", "")
            if path.endswith("/") and path[:-1] != root:
                scope = {**scope, "path": path.rstrip("/")}
            elif path == root:
                # The page asks for its files by names that are relative to its own.
                await RedirectResponse(f"{path.rpartition('/')[2]}/")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class ResponseHeaders:
    """ASGI middleware: adds the headers that an answer does not have yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said: list[tuple[bytes, bytes]] = message["headers"]
                names = {name for name, _ in said}
                ours = ON_DATA if (b"content-type", b"application/json") in said else ON_EVERY_ANSWER
                message["headers"] = [*said, *(header for header in ours.items() if header[0] not in names)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
