"""Bounds on what one replica takes in: requests at a time, and of each body its bytes and its time to arrive.

Serve's and Starlette's own limits refuse in plain text; the contract promises JSON for every error. Serve's stand well
above these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import AnalyzerError, QueueFull, ShuttingDown, UploadTooLarge, UploadTooSlow
from serve_app.middleware.errors import error_response
from serve_app.settings import MIB, LimitSettings

STOPPING_RETRY_AFTER_S = 20
"""What a caller is told whom a service refuses that is being stopped: a start takes about as long."""


class Gate:
    """Counts the requests that are worked on: refuses those over a limit, and every new one once it is closed.

    Args:
        max_requests: at a time.
        retry_after_s: what a refused caller is told to wait.
    """

    def __init__(self, max_requests: int, retry_after_s: int) -> None:
        self.closed = False
        self._max_requests = max_requests
        self._retry_after_s = retry_after_s
        self._present = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request for as long as the block runs.

        Raises:
            ShuttingDown: the service is being stopped.
            QueueFull: as many are worked on as may be.
        """
        self.check_open()
        if self._present >= self._max_requests:
            raise QueueFull(
                f"{self._max_requests} requests are being worked on, and no more may; "
                f"try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        self._present += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._present -= 1
            if not self._present:
                self._empty.set()

    def check_open(self) -> None:
        """Raise `ShuttingDown` where the service is being stopped."""
        if self.closed:
            raise ShuttingDown(
                f"The service is being stopped and takes nothing new; try again in {STOPPING_RETRY_AFTER_S} s.",
                retry_after_s=STOPPING_RETRY_AFTER_S,
            )

    async def close(self) -> None:
        """Admit nobody any more; returns when all who were admitted have their answer."""
        self.closed = True
        await self._empty.wait()


class ConcurrencyLimit:
    """ASGI middleware: POST requests that the gate does not admit are answered before their body is read."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        with ExitStack() as place:
            try:
                place.enter_context(self._gate.admitted())
            except AnalyzerError as refusal:
                await error_response(refusal)(scope, receive, send)
                return
            await self._app(scope, receive, send)


class BodyLimit:
    """ASGI middleware: too large a body ends in 413, unread if its length is declared; too slow a one in 408.

    Of a body that nobody wanted, the rest is read and thrown away once the answer is sent: who sends it all before
    reading would find the connection reset, and no answer.

    Args:
        app: what the requests are for.
        max_bytes: of a body.
        limits: of its time, and of what is thrown away.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, limits: LimitSettings) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s = limits.upload_timeout_s
        self._drain_bytes = int(limits.drain_mib * MIB)
        self._drain_timeout_s = limits.drain_timeout_s
        self._draining = asyncio.Semaphore(limits.max_requests)
        self._too_slow = (
            f"The upload did not arrive within {timeout_s:g} s: send the picture smaller, or over a faster line."
        )
        self._too_large = (
            f"The upload is larger than {max_bytes / 2**20:g} MB: send the picture smaller or more compressed."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        declared = int(length) if length.isdigit() else 0
        arrived = 0
        deadline_s: float | None = asyncio.get_running_loop().time() + self._timeout_s
        unwanted = unfinished = False

        async def receive_bounded() -> Message:
            nonlocal arrived, deadline_s
            if declared > self._max_bytes:
                raise UploadTooLarge(self._too_large)
            try:
                async with asyncio.timeout_at(deadline_s):
                    message = await receive()
            except TimeoutError:
                raise UploadTooSlow(self._too_slow) from None
            arrived += len(message.get("body", b""))
            if arrived > self._max_bytes:
                raise UploadTooLarge(self._too_large)
            if not message.get("more_body", False):
                deadline_s = None  # What comes now is the word that the client has left, however late.
            return message

        async def send_unfinished(message: Message) -> None:
            nonlocal unwanted, unfinished
            if message["type"] == "http.response.start":
                unwanted = (
                    message["status"] >= HTTPStatus.BAD_REQUEST
                    and message["status"] != HTTPStatus.REQUEST_TIMEOUT  # It comes too slowly for this, too.
                    and deadline_s is not None
                    and declared <= self._drain_bytes
                    and "expect" not in headers  # Whoever asks first sends nothing now.
                )
            elif unwanted and not message.get("more_body", False):
                unfinished = True
                message["more_body"] = True
            await send(message)

        await self._app(scope, receive_bounded, send_unfinished)
        if unfinished:
            await self._drain(receive)
            await send({"type": "http.response.body", "body": b""})

    async def _drain(self, receive: Receive) -> None:
        """Throw away what a body still brings, within bounds; of too many at a time, nothing."""
        if self._draining.locked():
            return
        async with self._draining:
            left_bytes = self._drain_bytes
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_timeout_s):
                    more = True
                    while more and left_bytes > 0:
                        message = await receive()
                        left_bytes -= len(message.get("body", b""))
                        more = message.get("more_body", False)
