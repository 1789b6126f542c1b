"""The keys that callers show: from a file, read anew when it changes, or the environment; kept as digests."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from deployments.errors import SettingsError
from serve_app.settings import AccessSettings

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
