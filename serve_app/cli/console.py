"""Where a person reads what the `serve` command says, and where the service's own lines go beside it."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, cast

from serve_app.cli.terminal import ProgressLine

MAX_LOG_BYTES = 20_000_000
"""A log file is put aside at this size, as FILE.1: some 50 000 requests. Ray keeps its own, in the session's folder."""


class Console:
    """What the command says comes to stdout; what Ray prints of the replicas' lines, to a log file, or there too.

    Args:
        log_file: appended to; None for none.
        verbose: let the service's lines come to stdout too.

    Raises:
        OSError: the log file cannot be written.
    """

    def __init__(self, log_file: Path | None = None, *, verbose: bool = False) -> None:
        self._out = sys.stdout
        self.progress = ProgressLine(self._out)
        self.follows_logs = verbose or log_file is not None
        """Whether anybody reads the service's lines."""
        self._verbose = verbose
        self._file = None if log_file is None else _LogFile(log_file, maxBytes=MAX_LOG_BYTES, backupCount=1)
        self._redirected = ExitStack()
        self._awaited = ""

    def __enter__(self) -> Self:
        if self._file is not None:
            lines = cast(TextIO, _Lines(self._file, self._out if self._verbose else None))
            self._redirected.enter_context(redirect_stdout(lines))
            self._redirected.enter_context(redirect_stderr(lines))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.clear()
        self._redirected.close()
        if self._file is not None:
            with suppress(OSError):  # The disk is full.
                self._file.close()

    def waits_for(self, what: str) -> None:
        """Say what is waited for: in a line that vanishes or, where none can, in one for each new thing."""
        self.progress.show(f"{what} …")
        if not self._out.isatty() and what != self._awaited:
            self.say(f"  {what} …")
        self._awaited = what

    def say(self, line: str) -> None:
        """Print a line, or several."""
        self.progress.clear()
        print(line, file=self._out, flush=True)


class _LogFile(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line where the disk is full: the complaint would come here again, and the service must go on."""


class _Lines:
    """A text stream into a rotating file, and on to another."""

    encoding = "utf-8"

    def __init__(self, file: RotatingFileHandler, beside: TextIO | None) -> None:
        self._file = file
        self._file.terminator = ""
        self._beside = beside

    def write(self, text: str) -> int:
        self._file.emit(logging.makeLogRecord({"msg": text}))
        if self._beside is not None:
            self._beside.write(text)
        return len(text)

    def flush(self) -> None:
        self._file.flush()
        if self._beside is not None:
            self._beside.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        # Ray's crash handler asks for one.
        return sys.__stdout__.fileno() if sys.__stdout__ is not None else -1
