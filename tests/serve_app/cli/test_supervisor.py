"""A run of the service from start to end, with a stand-in process for `serve run`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.cli.config import ServiceConfig
from serve_app.cli.health import ask_health, health_client
from serve_app.cli.processes import session_members
from serve_app.cli.service_log import ServiceLog
from serve_app.cli.supervisor import Patience, StopRequests, Supervisor
from serve_app.schemas import HealthAnswer
from tests.serve_app.cli.conftest import DOWNLOADING, NOT_YET, health_answer

STAND_IN = Path(__file__).with_name("stand_in_service.py")
PATIENCE = Patience(
    start_s=20, stop_s=20, leftovers_s=20, start_poll_s=0.02, health_poll_s=0.02, log_poll_s=0.02, exit_poll_s=0.02
)
DEADLINE_S = 20


class Printed:
    """The lines printed so far, and a way to wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def until(self, part: str) -> None:
        while not any(part in line for line in self.lines):
            self._more.clear()
            await self._more.wait()


class Run:
    """A supervisor at work on the stand-in."""

    def __init__(self, config: ServiceConfig) -> None:
        self.printed = Printed()
        self.stop = StopRequests()
        self._folder = config.path.parent

    def answer(self, health: HealthAnswer) -> None:
        fresh = self._folder / "health.new"
        fresh.write_text(health.model_dump_json())
        fresh.replace(self._folder / "health.json")


@asynccontextmanager
async def supervised(
    config: ServiceConfig, mode: str, patience: Patience = PATIENCE, verbose: bool = False
) -> AsyncIterator[tuple[Run, asyncio.Task[int]]]:
    run = Run(config)
    log = ServiceLog(config.path.with_name("log"))
    async with asyncio.timeout(DEADLINE_S), health_client(config) as client:
        supervisor = Supervisor(
            # Isolated, without site-packages: starts in a fraction of the time.
            [sys.executable, "-I", "-S", str(STAND_IN), mode, str(config.path)],
            environment=os.environ,
            log=log,
            ask=lambda: ask_health(client, config.url),
            announce=lambda health, _: f"ready: {health.components['analyzer'].active}",
            say=run.printed.say,
            stop=run.stop,
            patience=patience,
            verbose=verbose,
        )
        task = asyncio.create_task(supervisor.run())
        try:
            yield run, task
        finally:
            run.stop.request()
            run.stop.request()
            await asyncio.gather(task, return_exceptions=True)
            log.close()


async def test_says_when_it_is_ready_and_stops_when_asked(config: ServiceConfig) -> None:
    async with supervised(config, "obedient") as (run, task):
        run.answer(health_answer())
        await run.printed.until("ready: clip")
        run.stop.request()

        assert await task == 0
    assert run.printed.lines == ["ready: clip", "Stopping … (Ctrl-C again ends it at once)", "Stopped."]


async def test_a_part_that_has_not_been_heard_is_waited_for(config: ServiceConfig) -> None:
    async with supervised(config, "obedient", replace(PATIENCE, start_s=0.5)) as (run, task):
        run.answer(health_answer(NOT_YET))

        assert await task == 1
    assert "    It did not answer within 3 s." in run.printed.lines
    assert "✗ The service did not start within 0.5 s." in run.printed.lines


async def test_a_change_is_told_while_it_runs(config: ServiceConfig) -> None:
    async with supervised(config, "obedient") as (run, _):
        run.answer(health_answer(DOWNLOADING))
        await run.printed.until("ready: pixels")
        run.answer(health_answer())

        await run.printed.until("analyzer: pixels → clip")


async def test_what_does_not_stop_in_time_is_killed(config: ServiceConfig) -> None:
    async with supervised(config, "deaf", replace(PATIENCE, stop_s=0.1, leftovers_s=0.1)) as (run, task):
        run.answer(health_answer())
        await run.printed.until("ready")
        run.stop.request()

        assert await task == 0
    assert run.printed.lines[-1] == "Stopped."


async def test_a_second_request_ends_it_at_once(config: ServiceConfig) -> None:
    async with supervised(config, "deaf", replace(PATIENCE, stop_s=DEADLINE_S * 2)) as (run, task):
        run.answer(health_answer())
        await run.printed.until("ready")
        run.stop.request()
        await run.printed.until("Stopping")
        assert not task.done()
        run.stop.request()

        assert await task == 0


async def test_a_worker_that_outlives_the_service_is_ended_too(config: ServiceConfig) -> None:
    async with supervised(config, "littering", replace(PATIENCE, leftovers_s=0.1)) as (run, task):
        run.answer(health_answer())
        await run.printed.until("ready")
        worker = int(config.path.with_name("worker.pid").read_text())
        session = os.getsid(worker)
        assert worker in session_members(session)
        run.stop.request()

        assert await task == 0
    assert session_members(session) == []


async def test_a_stop_during_the_start_is_heard(config: ServiceConfig) -> None:
    async with supervised(config, "obedient") as (run, task):
        run.stop.request()

        assert await task == 0
    assert run.printed.lines[-1] == "Stopped."


async def test_an_end_of_its_own_is_a_failure_told_with_its_error(config: ServiceConfig) -> None:
    async with supervised(config, "early") as (run, task):
        assert await task == 1
    assert run.printed.lines[:2] == [
        "✗ The service ended by itself (exit status 1).",
        "    ValueError: no such model",
    ]
    assert str(config.path.with_name("log")) in run.printed.lines[2]


async def test_an_application_that_serve_cannot_start_ends_the_run(config: ServiceConfig) -> None:
    async with supervised(config, "deploy-failed") as (run, task):
        assert await task == 1
    assert "✗ Serve cannot start the application." in run.printed.lines
    assert "    AttributeError: no attribute 'find'" in run.printed.lines
    assert run.printed.lines[-1] == "Stopped."


async def test_a_warning_is_shown_once_ready_unless_health_tells_the_same(config: ServiceConfig) -> None:
    async with supervised(config, "warning") as (run, _):
        run.answer(health_answer(DOWNLOADING))
        await run.printed.until("a slow picture")
    assert run.printed.lines.index("ready: pixels") == 0
    assert not any(line.endswith(DOWNLOADING.reason) for line in run.printed.lines)


@pytest.mark.parametrize(("verbose", "shown"), [(True, True), (False, False)])
async def test_the_services_own_lines_are_shown_when_asked_for(
    config: ServiceConfig, verbose: bool, shown: bool
) -> None:
    async with supervised(config, "deploy-failed", verbose=verbose) as (run, task):
        await task
    assert any("(ServeController pid=7) ERROR" in line for line in run.printed.lines) is shown
