"""Runs the service as a child process: tells when it is ready, what changes, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from serve_app.cli.health import HealthNews, has_started, shortfall
from serve_app.cli.processes import kill_session, session_members
from serve_app.cli.service_log import ServiceLog, error_in, tells_deploy_failed, tells_trouble
from serve_app.schemas import HealthAnswer

TAIL_LINES = 15
"""What is shown of the log after a failure in which no error was recognised."""
SHOWN_ERRORS = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step may take and how often is looked, in seconds.

    Measured on two cores: a start takes 15-20 s, a stop 8 s, and Ray's dashboard is gone 2 s after that.
    """

    start_s: float = 180
    stop_s: float = 30
    leftovers_s: float = 10
    start_poll_s: float = 0.5
    health_poll_s: float = 5
    log_poll_s: float = 0.5
    exit_poll_s: float = 0.1


class StopRequests:
    """Ctrl-C and its like: the first asks for a stop, the next for an end at once."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def request(self) -> None:
        """Count one more request; wakes whoever waits for it."""
        self.count += 1
        arrived, self._next = self._next, asyncio.Event()
        arrived.set()

    async def next(self) -> None:
        """Wait for a request that comes after this call."""
        await self._next.wait()


class _Over(Exception):
    """A stop was asked for (`failure` is empty), or the service cannot go on."""

    def __init__(self, failure: str = "") -> None:
        super().__init__(failure)
        self.failure = failure


class Supervisor:
    """One run of the service.

    Args:
        command: starts it in the foreground; SIGINT must stop it.
        environment: the child's, whole.
        log: receives what it writes.
        ask: its health now, None when it does not answer.
        announce: the lines for a person, once it is ready.
        say: prints a line.
        stop: the requests to stop.
        patience: limits.
        verbose: print the service's own lines too.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: ServiceLog,
        ask: Callable[[], Coroutine[Any, Any, HealthAnswer | None]],
        announce: Callable[[HealthAnswer, float], str],
        say: Callable[[str], None],
        stop: StopRequests,
        patience: Patience,
        verbose: bool = False,
    ) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._ask = ask
        self._announce = announce
        self._say = say
        self._stop = stop
        self._patience = patience
        self._verbose = verbose
        self._starting = True
        self._deploy_failed = False
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._errors: deque[str] = deque(maxlen=SHOWN_ERRORS)
        self._troubles: deque[str] = deque(maxlen=TAIL_LINES)
        self._told_reasons: set[str] = set()

    async def run(self) -> int:
        """Run until a stop is asked for (exit status 0) or the service fails (1)."""
        child = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=DEVNULL,
            stdout=self._log.sink,
            stderr=STDOUT,
            # Ctrl-C reaches the child through us alone, and its session names everything it starts.
            start_new_session=True,
        )
        over = asyncio.create_task(self._until_over(child))
        following = asyncio.create_task(self._follow_log())
        failure = ""
        try:
            health = await self._until_started(over)
            await self._until_stopped(over, health)
        except _Over as end:
            failure = end.failure
        finally:
            if failure:
                self._tell_failure(failure)
            await self._end(child)
            for task in (over, following):
                task.cancel()
            await asyncio.gather(over, following, return_exceptions=True)
        return 1 if failure else 0

    async def _until_started(self, over: asyncio.Task[str]) -> HealthAnswer:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        health: HealthAnswer | None = None
        while loop.time() - started_s < self._patience.start_s:
            if self._deploy_failed:
                raise _Over("Serve cannot start the application.")
            health = await _unless_over(over, self._ask())
            if health is not None and has_started(health):
                self._starting = False
                self._note_reasons(health)
                self._say(self._announce(health, loop.time() - started_s))
                return health
            await _unless_over(over, asyncio.sleep(self._patience.start_poll_s))
        for part in health.components.values() if health is not None else ():
            for line in shortfall(part):
                self._say(line)
        raise _Over(f"The service did not start within {self._patience.start_s:g} s.")

    async def _until_stopped(self, over: asyncio.Task[str], health: HealthAnswer) -> None:
        loop = asyncio.get_running_loop()
        news = HealthNews()
        answer: HealthAnswer | None = health
        while True:
            self._note_reasons(answer)
            for line in news.lines(answer, loop.time()):
                self._say(line)
            await _unless_over(over, asyncio.sleep(self._patience.health_poll_s))
            answer = await _unless_over(over, self._ask())

    def _note_reasons(self, health: HealthAnswer | None) -> None:
        if health is not None:
            self._told_reasons = {part.reason for part in health.components.values() if part.reason}

    async def _until_over(self, child: Process) -> str:
        """Wait for the request to stop, or for the child's end; what failed, if anything did."""
        if self._stop.count:
            return ""
        stop, ended = asyncio.create_task(self._stop.next()), asyncio.create_task(child.wait())
        try:
            await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            ended.cancel()
        return "" if self._stop.count else f"The service ended by itself (exit status {child.returncode})."

    async def _follow_log(self) -> None:
        while True:
            self._read_log()
            await asyncio.sleep(self._patience.log_poll_s)

    def _read_log(self) -> None:
        for line in self._log.new_lines():
            self._tail.append(line)
            error = error_in(line)
            if error is not None and error not in self._errors:
                self._errors.append(error)
            self._deploy_failed |= self._starting and tells_deploy_failed(line)
            if self._verbose:
                self._say(line)
            elif tells_trouble(line) and not self._stop.count:
                self._troubles.append(line)
        if not self._starting:
            for line in self._troubles:
                # What health tells, in one line and once, need not come again with every retry.
                if not any(reason in line for reason in self._told_reasons):
                    self._say(line)
            self._troubles.clear()

    def _tell_failure(self, failure: str) -> None:
        self._read_log()
        self._say(f"✗ {failure}")
        for line in self._errors or self._tail:
            self._say(f"    {line}")
        self._say(f"    → its whole log: {self._log.path}")

    async def _end(self, child: Process) -> None:
        impatient = asyncio.create_task(self._stop.next())
        try:
            if child.returncode is None:
                self._say("Stopping … (Ctrl-C again ends it at once)")
                with suppress(ProcessLookupError):
                    child.send_signal(signal.SIGINT)
                await _within(self._patience.stop_s, child.wait(), impatient)
            await _within(self._patience.leftovers_s, self._until_alone(child.pid), impatient)
        finally:
            impatient.cancel()
            kill_session(child.pid)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.leftovers_s):
                    await child.wait()
                    await self._until_alone(child.pid)
            self._say("Stopped.")

    async def _until_alone(self, session_id: int) -> None:
        while session_members(session_id):  # noqa: ASYNC110 - nothing tells when a grandchild ends
            await asyncio.sleep(self._patience.exit_poll_s)


async def _unless_over(over: asyncio.Task[str], work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
    if over.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise _Over(over.result())
    return task.result()


async def _within(limit_s: float, work: Coroutine[Any, Any, object], impatient: Awaitable[None]) -> None:
    """Wait for `work`, but no longer than the limit, and not once `impatient` is done."""
    task = asyncio.create_task(work)
    waited: set[asyncio.Future[Any]] = {task, asyncio.ensure_future(impatient)}
    await asyncio.wait(waited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
