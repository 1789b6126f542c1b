"""What every answer tells a browser, unless its route says otherwise: load nothing, guess nothing, pass nothing on."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ON_EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

ON_DATA = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # What a picture shows is its sender's own affair: no cache on the way keeps it.
    "Cache-Control": "no-store",
}
"""For JSON; a page needs scripts and styles and says itself which."""


class ResponseHeaders:
    """ASGI middleware: adds the headers that an answer does not have yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_data = headers.get("content-type") == "application/json"
                for name, value in {**ON_EVERY_ANSWER, **(ON_DATA if is_data else {})}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
