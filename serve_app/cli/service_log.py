"""The started service's output: a file that cannot grow without end, and the lines that came since last time."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 20_000_000
"""The log is emptied at this size: about 50 000 requests; Ray keeps its own, rotated, in the session's folder."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"(?:\([^)]*\) )?((?:[\w.]+\.)?\w*(?:Error|Exception|Unavailable): (?!Traceback).*)")
_OUR_ERROR = re.compile(r"^deployments\.errors\.\w+: ")
_DEPLOY_FAILED = re.compile(r"Deploying app '.*' failed|Failed to update the deployments|Received unexpected error")
_REPLICA_TROUBLE = re.compile(r"\(ServeReplica:\S+ pid=\d+\) (?:WARNING|ERROR) ")


class ServiceLog:
    """Where the service writes.

    Args:
        path: the file, made anew; None makes one in the folder for temporary files.
        max_bytes: size at which it is emptied.
    """

    def __init__(self, path: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        if path is None:
            with tempfile.NamedTemporaryFile(prefix="image-analyzer-", suffix=".log", delete=False) as file:
                path = Path(file.name)
        self.path = path
        # Appending, so that the service's next line lands at the new end after the file was emptied.
        self.sink: BinaryIO = path.open("ab")
        self.sink.truncate(0)
        self._max_bytes = max_bytes
        self._read_bytes = 0
        self._unfinished = b""

    def new_lines(self) -> list[str]:
        """Take the whole lines that came since the last call, without colours."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            content = file.read()
        self._read_bytes += len(content)
        *lines, self._unfinished = (self._unfinished + content).split(b"\n")
        if self._read_bytes > self._max_bytes:
            self.sink.truncate(0)
            self._read_bytes = 0
        return [_ESCAPES.sub("", line.decode(errors="replace")).rstrip() for line in lines]

    def close(self) -> None:
        """Close this side; the file stays."""
        self.sink.close()


def error_in(line: str) -> str | None:
    """Give the error that a line of a traceback ends with, without Ray's prefix; None for any other line."""
    match = _ERROR.match(line)
    return _OUR_ERROR.sub("", match.group(1)) if match else None


def tells_deploy_failed(line: str) -> bool:
    """Whether Serve says here that the application cannot start; it stays up, doing nothing."""
    return _DEPLOY_FAILED.search(line) is not None


def tells_trouble(line: str) -> bool:
    """Whether a part of the service warns of something here."""
    return _REPLICA_TROUBLE.match(line) is not None
