"""Decodes uploads so that none holds a place for longer than its deadline, whatever its format does."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from deployments.errors import AnalyzerError, ComponentUnavailable, DeadlinePassed, QueueFull, UnreadablePicture
from deployments.types import BICUBIC
from serve_app.pictures.decode_process import READY, Question
from serve_app.pictures.decoding_cost import decoding_cost_s
from serve_app.pictures.images import Picture, read_picture
from serve_app.settings import ImageSettings, Settings

Result = TypeVar("Result")

COMMAND = (sys.executable, "-P", "-W", "ignore", "-m", "serve_app.pictures.decode_process")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""numpy reserves address space for each thread that it may use."""

GRACE_S = 1
"""By which a place may be held beyond the deadline before the replica counts as stuck: ending takes a moment."""


class Decoder:
    """Threads for what is quick, processes that can be ended for what may not be.

    Threads alone would be held for as long as a format's tricks last, hours for 20 MB;
    processes alone would cost every photograph the way there and back.

    Args:
        settings: the whole service's.
        read: what decodes in a thread.
        command: starts a process that decodes; the deadline in s and the memory limit in MiB are appended.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[bytes, ImageSettings, int, int, int], Picture] = read_picture,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._image = settings.image
        self._retry_after_s = settings.limits.retry_after_s
        self._deadline_s = settings.limits.analysis_timeout_s
        self._read = read
        self._command = (*command, str(self._deadline_s), str(self._image.decode_process_mib))
        self._threads = _Places(self._image.decode_threads, "decode")
        self._processes = _Places(self._image.decode_processes, "ask-decoder")
        self._free_processes = asyncio.Semaphore(self._image.decode_processes)
        self._costly = 0
        self._idle: dict[_Child, asyncio.TimerHandle] = {}
        self._why_not_started = ""
        self._not_started_s = 0.0
        weakref.finalize(self, _end_all, self._idle)

    async def decode(self, upload: bytes, input_size_px: int, jpeg_px: int = 0, resample: int = BICUBIC) -> Picture:
        """Decode an upload; a process that works on it for nobody any more is ended.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: see `read_picture`; too many scans, too much memory.
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`.
            QueueFull: `image.max_costly` costly pictures are there already.
            ComponentUnavailable: no process could be started.
        """
        question = (upload, self._image, input_size_px, jpeg_px, resample)
        return await self._threads.run(lambda: self._read_if_quick(question)) or await self._read_costly(question)

    @property
    def stuck_because(self) -> str:
        """Why this replica cannot decode; empty while it can."""
        if max(self._threads.all_held_s(), self._processes.all_held_s()) > self._deadline_s + GRACE_S:
            return f"Every place for decoding has been held for more than {self._deadline_s:g} s: restart this replica."
        # Not for ever: a replica that is sent nothing cannot find out that it is well again.
        recently = time.monotonic() - self._not_started_s < self._deadline_s
        return self._why_not_started if recently else ""

    def _read_if_quick(self, question: Question) -> Picture | None:
        upload, image, *_ = question
        return None if decoding_cost_s(upload, image) > image.quick_decode_s else self._read(*question)

    async def _read_costly(self, question: Question) -> Picture:
        if self._costly >= self._image.max_costly:
            raise QueueFull(
                f"As many large pictures wait as may wait: try again in {self._retry_after_s} s.",
                retry_after_s=self._retry_after_s,
            )
        self._costly += 1
        try:
            async with self._free_processes:
                answer = await self._ask_child(question)
        finally:
            self._costly -= 1
        if isinstance(answer, AnalyzerError):
            raise answer
        return answer

    async def _ask_child(self, question: Question) -> Picture | AnalyzerError:
        loop = asyncio.get_running_loop()
        child = self._idle_child() or _Child(self._command, self._deadline_s)
        kept = False
        try:
            answer = await self._processes.run(lambda: child.ask(question))
            kept = child.is_alive
            return answer
        except ComponentUnavailable as error:
            self._not_started_s, self._why_not_started = time.monotonic(), str(error)
            raise
        finally:
            if kept:
                idle_s = self._image.decode_process_idle_s
                self._idle[child] = loop.call_later(idle_s, _end_idle, self._idle, self._processes, child)
            else:
                child.kill()
                self._processes.begin(child.end)

    def _idle_child(self) -> _Child | None:
        while self._idle:
            child, ending = self._idle.popitem()
            ending.cancel()
            if child.is_alive:
                return child
            self._processes.begin(child.end)
        return None


def _end_idle(idle: dict[_Child, asyncio.TimerHandle], processes: _Places, child: _Child) -> None:
    """In no method, so that a timer does not keep a decoder that nobody has any more."""
    del idle[child]
    processes.begin(child.end)


def _end_all(idle: dict[_Child, asyncio.TimerHandle]) -> None:
    for child, ending in idle.items():
        ending.cancel()
        child.end()


class _Places:
    """Threads, and since when each is held."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._since_s: dict[object, float] = {}

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do the work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._watched, work)

    def begin(self, work: Callable[[], object]) -> None:
        """Do the work in a thread, and do not wait for it."""
        self._executor.submit(self._watched, work)

    def all_held_s(self) -> float:
        """Seconds for which there has been no free place."""
        since_s = list(self._since_s.values())
        return time.monotonic() - max(since_s) if len(since_s) == self._count else 0.0

    def _watched(self, work: Callable[[], Result]) -> Result:
        this = object()
        self._since_s[this] = time.monotonic()
        try:
            return work()
        finally:
            del self._since_s[this]


class _Child:
    """A process that decodes, started when it is first asked; `ask` and `end` block."""

    def __init__(self, command: Sequence[str], deadline_s: float) -> None:
        self._command = command
        self._deadline_s = deadline_s
        self._asking, self._starting = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked without being started."""
        return self._process is not None and self._process.poll() is None

    def ask(self, question: Question) -> Picture | AnalyzerError:
        """Give what `read_picture` returned or raised, or what the end of the process means.

        Raises:
            ComponentUnavailable: it cannot be started.
        """
        with self._asking:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for mypy
            try:
                pickle.dump(question, process.stdin, pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()
                answer: Picture | AnalyzerError = pickle.load(process.stdout)  # noqa: S301 - our child's
            except (OSError, EOFError, pickle.UnpicklingError):
                ended_by = -process.wait()
                if ended_by == signal.SIGALRM:
                    return DeadlinePassed(
                        f"The picture takes longer than {self._deadline_s:g} s to decode: save it anew, or send it at "
                        "a smaller size."
                    )
                return UnreadablePicture("The picture makes its decoder fail: save it anew and send it again.")
            return answer

    def kill(self) -> None:
        """Give up what it does; does not wait."""
        with self._starting:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """End it, leaving nothing behind."""
        self.kill()
        with self._asking:
            if self._process is not None:
                self._process.wait()
                for pipe in (self._process.stdin, self._process.stdout):
                    with suppress(BrokenPipeError):
                        pipe.close()  # type: ignore[union-attr]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        path = os.pathsep.join(filter(None, sys.path))
        try:
            with self._starting:
                if self._killed:
                    raise ChildProcessError("It was given up.")
                self._process = subprocess.Popen(  # noqa: S603 - our own
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": path, **ONE_THREAD},
                )
            if self._process.stdout.read(len(READY)) != READY:  # type: ignore[union-attr]
                raise ChildProcessError(f"It ended with status {self._process.wait()}.")
        except OSError as error:
            raise ComponentUnavailable(
                f"A process to decode the picture in could not be started: {error} Look at the log and the memory."
            ) from error
        return self._process
