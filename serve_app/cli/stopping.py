"""How the command ends: signals as exceptions of what waits, and no process left behind."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

END_POLL_S = 0.05

_PR_SET_CHILD_SUBREAPER = 36


class StopAsked(Exception):
    """Ctrl-C, `kill`, or a closed terminal."""


class EndAtOnce(BaseException):
    """The same a second time."""


class StopSignals:
    """Turns Ctrl-C, `kill` and a closed terminal into exceptions of what waits.

    A shell without job control starts `… &` with SIGINT ignored; being handled here, it works all the same. A hang-up
    that was ignored on purpose (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self._count = 0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._wanted.append(signal.SIGHUP)

    def take(self) -> None:
        """Have the signals come here; again after Ray was imported and after it was joined, for it takes them."""
        for number in self._wanted:
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> None:
        """Wait; raises `StopAsked` at the first signal. The second raises `EndAtOnce`, wherever it meets us."""
        select.select([self._reading], [], [], seconds)
        if self._count:
            raise StopAsked

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        with suppress(BlockingIOError):
            os.write(self._writing, b"!")
        if self._count == 2:
            raise EndAtOnce


def adopt_orphans() -> None:
    """Have the kernel make whatever Ray's processes leave behind our child, so that `end_children` finds it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill this process's children, and theirs as they become ours, until there are none."""
    with suppress(ChildProcessError):
        while True:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(END_POLL_S)


def _children() -> list[int]:
    with suppress(OSError):
        listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return [int(child) for child in listing.split()]
    return []
