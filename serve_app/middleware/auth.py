"""Who may call: every POST shows a key where keys are asked for, comes from no foreign page, and not too often.

Keys come from a file, read anew when it changes, or the environment, and are kept as digests. How often one caller may
call is counted by the generic cell rate algorithm (ATM Forum TM 4.0), one time per caller: packages for this count by
the wall clock, which may jump; this one takes a monotonic clock, and 20 lines.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cachetools import TTLCache
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import AnalyzerError, KeyRequired, OriginNotAllowed, RateLimited, SettingsError
from serve_app.middleware.errors import error_response
from serve_app.middleware.hosts import check_host
from serve_app.settings import AccessSettings

KEYED = "/api/images/models"
"""What is read, and open only to a key: it tells what is on the servers."""


class AccessControl:
    """ASGI middleware: what is not allowed is refused before its body is read.

    Only POST does any work here, and of GET only `KEYED` asks for a key; the page, the API's description and what tells
    of the service's state are open to everyone. Whose key it was is left in `scope["state"]["caller"]`, empty where
    none is asked for.

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
        self._hosts = frozenset(map(str.lower, settings.allowed_hosts))
        per_minute = settings.requests_per_minute
        self._rate = RateLimit(per_minute, settings.burst) if per_minute else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or refuse it."""
        if scope["type"] == "http" and (scope["method"] == "POST" or scope["path"].endswith(KEYED)):
            try:
                headers = Headers(scope=scope)
                if scope["method"] == "POST":
                    caller = self._checked(headers, (scope.get("client") or ("unknown",))[0])
                else:
                    caller = self._holder(headers)
                scope.setdefault("state", {})["caller"] = caller
            except AnalyzerError as refusal:
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _checked(self, headers: Headers, address: str) -> str:
        # CORS keeps a foreign page from reading the answer, but not from having the work done. Browsers name such
        # pages themselves where the service is on this machine or behind TLS.
        foreign = headers.get("sec-fetch-site") == "cross-site"
        if foreign and not self._origins & {"*", headers.get("origin", "")}:
            raise OriginNotAllowed("Pages of other sites may not call: name the page's origin in cors_origins.")
        check_host(headers, address, self._hosts, self._origins)
        caller = self._holder(headers)
        if self._rate is not None and (wait_s := self._rate.wait_s(caller or f"address {address}")):
            after_s = math.ceil(wait_s)
            raise RateLimited(f"You call more often than you may; try again in {after_s} s.", retry_after_s=after_s)
        return caller

    def _holder(self, headers: Headers) -> str:
        caller = ""
        if self._keys.required:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            holder = self._keys.holder(token.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                raise KeyRequired("This needs an API key: send it as the header 'Authorization: Bearer KEY'.")
            caller = f"key {holder}"
        return caller


logger = logging.getLogger("image_analyzer.access")

KEYS_VARIABLE = "IMAGE_ANALYZER_API_KEYS"
"""Environment variable with the keys themselves, separated by commas: no setting, since Serve shows a config's args."""

MIN_KEY_CHARS = 16
"""Nobody tries 16 random characters; many a word that people choose is shorter."""

CHECK_INTERVAL_S = 1.0
"""How old the knowledge of the key file may be: the longest that a withdrawn key still opens."""

Digests = Mapping[str, bytes]
"""A key's name → its SHA-256."""


class ApiKeys:
    """Tells whose key a token is. Without a file and without the variable no key is asked for.

    Args:
        file: one key a line, `NAME KEY` or the key alone; `#` begins a comment. An empty one lets nobody in.
        environment: where `IMAGE_ANALYZER_API_KEYS` may hold further ones.
        clock: seconds, monotonic.

    Raises:
        SettingsError: the file cannot be read, or a key is too short or named twice.
    """

    def __init__(
        self, file: Path | None, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._clock = clock
        listed = environment.get(KEYS_VARIABLE, "")
        self._fixed = _digests(listed.replace(",", "\n"), f"The environment variable {KEYS_VARIABLE}")
        self.required = file is not None or bool(self._fixed)
        self._stamp: tuple[int, ...] = ()
        self._digests: Digests = self._fixed
        self._checked_s = clock()
        if file is not None:
            try:
                self._read(file)
            except OSError as error:
                raise SettingsError(f"The key file {file} cannot be read ({error.strerror}).") from error

    def holder(self, token: str) -> str | None:
        """Give the name of the key that the token is, or None; takes the same time for every wrong one."""
        self._keep_current()
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _keep_current(self) -> None:
        now_s = self._clock()
        if self._file is None or now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        try:
            self._read(self._file)
        except (OSError, SettingsError) as error:
            # Half-written or gone for a moment: whoever may call now goes on.
            logger.error("The API keys stay as they were: %s", error)

    def _read(self, file: Path) -> None:
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # A wrong file is complained of once, not every second.
        self._digests = {**self._fixed, **_digests(file.read_text(errors="replace"), f"The key file {file}")}
        logger.info("%d API keys may call.", len(self._digests))


def keys_of(access: AccessSettings, environment: Mapping[str, str]) -> ApiKeys:
    """Give the keys that the settings and the environment name.

    Raises:
        SettingsError: as `ApiKeys`; also where keys are demanded and there are none.
    """
    keys = ApiKeys(access.keys_file, environment)
    if access.require_key and not keys.required:
        raise SettingsError(f"access.require_key is set: name an access.keys_file, or set {KEYS_VARIABLE}.")
    return keys


def _digests(text: str, source: str) -> dict[str, bytes]:
    digests: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, key = words[0] if words[1:] else f"key {number}", words[-1]
        if len(words) > 2 or name in digests:
            raise SettingsError(f"{source}, line {number}: write a name of its own and a key, and nothing else.")
        if len(key) < MIN_KEY_CHARS or not key.isascii():
            raise SettingsError(
                f"{source}, line {number}: a key has at least {MIN_KEY_CHARS} characters of ASCII; make one with: "
                "openssl rand -hex 32"
            )
        digests[name] = hashlib.sha256(key.encode()).digest()
    return digests


SECONDS_PER_MINUTE = 60

MAX_CALLERS = 10_000
"""Callers remembered at a time, some 200 bytes each; beyond, the one that came first starts anew."""


class RateLimit:
    """So many calls a minute of each caller, of which `burst` may come at once.

    Args:
        per_minute: calls, on average.
        burst: calls that may come together after a pause.
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval_s = SECONDS_PER_MINUTE / per_minute
        self._tolerance_s = (burst - 1) * self._interval_s
        # Who has not called for as long as a whole burst takes is as good as unknown.
        self._due_s: TTLCache[str, float] = TTLCache(MAX_CALLERS, ttl=burst * self._interval_s, timer=clock)

    def wait_s(self, caller: str) -> float:
        """Count a call and give 0, or give the seconds after which the caller may try again."""
        now_s = self._clock()
        due_s = max(self._due_s.get(caller, now_s), now_s)
        early_s = due_s - self._tolerance_s - now_s
        if early_s > 0:
            return float(early_s)
        self._due_s[caller] = due_s + self._interval_s
        return 0.0
