"""Who may call: every POST shows a key where keys are asked for, comes from no foreign page, and not too often."""

from __future__ import annotations

import math

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import AnalyzerError, KeyRequired, OriginNotAllowed, RateLimited
from serve_app.api_keys import ApiKeys
from serve_app.middleware.errors import error_response
from serve_app.rate_limit import RateLimit
from serve_app.settings import AccessSettings


class Gatekeeper:
    """ASGI middleware: what is not allowed is refused before its body is read.

    Only POST does any work here; the page, the API's description and the health route are open to everyone.

    Args:
        app: what the requests are for.
        keys: of those who may call.
        settings: how often each may.
        cors_origins: pages elsewhere that may call.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, settings: AccessSettings, cors_origins: tuple[str, ...]) -> None:
        self._app = app
        self._keys = keys
        self._origins = frozenset(cors_origins)
        per_minute = settings.requests_per_minute
        self._rate = RateLimit(per_minute, settings.burst) if per_minute else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or refuse it."""
        if scope["type"] == "http" and scope["method"] == "POST":
            try:
                self._check(Headers(scope=scope), (scope.get("client") or ("unknown",))[0])
            except AnalyzerError as refusal:
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, address: str) -> None:
        # CORS keeps a foreign page from reading the answer, but not from having the work done. Browsers name such
        # pages themselves where the service is on this machine or behind TLS.
        foreign = headers.get("sec-fetch-site") == "cross-site"
        if foreign and not self._origins & {"*", headers.get("origin", "")}:
            raise OriginNotAllowed("Pages of other sites may not call: name the page's origin in cors_origins.")
        caller = f"address {address}"
        if self._keys.required:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            holder = self._keys.holder(token.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                raise KeyRequired("This needs an API key: send it as the header 'Authorization: Bearer KEY'.")
            caller = f"key {holder}"
        if self._rate is not None and (wait_s := self._rate.wait_s(caller)):
            after_s = math.ceil(wait_s)
            raise RateLimited(f"You call more often than you may; try again in {after_s} s.", retry_after_s=after_s)
