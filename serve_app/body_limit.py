"""The upload cap, enforced while the body arrives.

Starlette's own body limit answers in plain text when the size is declared; the contract promises JSON for every error.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import UploadTooLarge
from serve_app.error_responses import error_response


class BodyLimit:
    """ASGI middleware: a body over `max_bytes` ends in 413, before it is read if its length is declared."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._error = UploadTooLarge(
            f"The upload is larger than {max_bytes / 2**20:g} MB: send the picture smaller or more compressed."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await error_response(self._error)(scope, receive, send)
            return
        arrived = 0

        async def receive_counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self._max_bytes:
                # The form parser lets HTTPException through and turns every other exception into a 400.
                raise HTTPException(self._error.http_status) from self._error
            return message

        await self._app(scope, receive_counted, send)
