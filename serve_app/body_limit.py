"""The bounds of an upload, in bytes and in time, enforced while its body arrives.

Starlette's own body limit answers in plain text when the size is declared; the contract promises JSON for every error.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import AnalyzerError, UploadTooLarge, UploadTooSlow
from serve_app.middleware.errors import error_response


class BodyLimit:
    """ASGI middleware: too large a body ends in 413, unread if its length is declared; too slow a one in 408.

    Args:
        app: what the requests are for.
        max_bytes: of a body.
        timeout_s: from the request's head to the end of its body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._too_slow = UploadTooSlow(
            f"The upload did not arrive within {timeout_s:g} s: send the picture smaller, or over a faster line."
        )
        self._too_large = UploadTooLarge(
            f"The upload is larger than {max_bytes / 2**20:g} MB: send the picture smaller or more compressed."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await error_response(self._too_large)(scope, receive, send)
            return
        arrived = 0
        deadline_s: float | None = asyncio.get_running_loop().time() + self._timeout_s

        async def receive_bounded() -> Message:
            nonlocal arrived, deadline_s
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise _through_the_form_parser(self._too_slow) from self._too_slow
            arrived += len(message.get("body", b""))
            if arrived > self._max_bytes:
                raise _through_the_form_parser(self._too_large) from self._too_large
            if not message.get("more_body", False):
                deadline_s = None  # What comes now is the word that the client has left, however late.
            return message

        await self._app(scope, receive_bounded, send)


def _through_the_form_parser(error: AnalyzerError) -> HTTPException:
    """Wrap an error for the way: the parser turns every exception but this one into a 400."""
    return HTTPException(error.http_status)
