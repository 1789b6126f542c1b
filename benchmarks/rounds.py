"""Systems measured in rounds, each with the CPU time of its processes.

Every round starts, measures and ends one system after the other, and the next round takes them in the opposite order.
Starting each anew costs 5 to 25 s, and buys that nothing else runs meanwhile: idle Ray clusters and LitServe's
polling workers take a noticeable share of two cores, and a Ray cluster that is stopped with SIGSTOP declares itself
dead when it goes on. It also makes each round see a fresh process, and the order cancels a machine that gets slower.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, cast

from benchmarks.figures import Figures, Window
from benchmarks.outcome import Outcome
from benchmarks.processes import Readings, end, machine_busy_s, read_processes, spent_by_role
from benchmarks.service import ROOT, SETTLE_S, Service, Unavailable, environment
from benchmarks.systems import LIMIT, OURS, OURS_PLAIN, System
from benchmarks.targets import CACHED, COMPARED_CALLERS, FRONT_PAGE, FRONT_PAGE_LIMIT, Key
from benchmarks.upload import VariedPicture, body_maker, content_type
from benchmarks.workload import Workload
from tests.support.ports import free_port

FOLDER = ROOT / ".bench"
MEASURING_LOG = FOLDER / "measuring.log"
THINK_S = 0.1
"""Pause before each picture of the front page and of its limit: long enough for all threads to go to sleep."""
STREAM_PATH = "/api/images/analyze-stream"


@dataclass(frozen=True)
class Effort:
    """How often and how long: times in s."""

    rounds: int = 3
    window_s: float = 5
    warm_up_s: float = 1
    warm_up_limit_s: float = 45
    first_warm_up_s: float = 3
    lone_pictures: int = 30

    def method(self) -> str:
        """Say it in sentences."""
        rounds = f"{self.rounds} rounds, the order reversed in every other" if self.rounds > 1 else "One round"
        return (
            "One 1600x1200 JPEG of 174 KiB in each request, its bytes different every time; analysis without a prompt. "
            f"{rounds}; windows of {self.window_s:g} s, opened when "
            "every caller has had an answer. Rates are medians over the rounds, latencies and CPU times of all rounds "
            "together. A caller sends its next picture as soon as it has its answer, a refused one when Retry-After "
            "says; callers run on the same cores."
        )


QUICK = Effort(rounds=1, window_s=3, warm_up_s=0.5, first_warm_up_s=2, lone_pictures=20)


@dataclass(frozen=True)
class Address:
    """A started system, and where it listens."""

    system: System
    service: Service
    url: str


@contextmanager
def started(system: System, workload: Workload) -> Iterator[tuple[Address, float]]:
    """Start a system, and wait for its first right answer; gives after how many s that came, too.

    What it embeds once for all starts with this model, it has embedded when it is given.

    Raises:
        Unavailable: there is none.
    """
    command = system.command(workload, port := free_port(), FOLDER)
    variables = {"BENCHMARK_MODEL": str(workload.model), **system.variables}
    log = FOLDER / f"{system.name}.log"
    with Service(command, variables, log, stop_s=system.stop_s, root=system.root) as service:
        at = Address(system, service, f"http://127.0.0.1:{port}")
        body = body_maker(system.body, VariedPicture(workload.picture.read_bytes(), "first"), system.form)(0)
        embedding = system.body == "data-uri"
        objection = workload.objection_to_embedding if embedding else workload.objection_to_analysis
        first_answer_s = service.wait_until_right(at.url + system.path, body, content_type(system.body), objection)
        if system.health:
            service.wait_until_embedded(at.url + system.health)
        yield at, first_answer_s


@dataclass
class Bench:
    """One run: what is measured, and what came of it so far.

    `with_extras`: ours is sent the same picture again too, and pictures with a pause before each.
    """

    workload: Workload
    effort: Effort
    systems: Sequence[System]
    with_extras: bool = False
    windows: dict[Key, list[Window]] = field(default_factory=lambda: defaultdict(list))
    unavailable: dict[str, str] = field(default_factory=dict)

    def run(self, *, limit: bool = True) -> None:
        """Do all rounds; a system that cannot be measured is not tried again."""
        turns: dict[str, Callable[[], None]] = {LIMIT: self._measure_limit} if limit else {}
        turns |= {system.name: partial(self._measure, system) for system in self.systems}
        for number in range(self.effort.rounds):
            names = reversed(turns) if number % 2 else turns
            for name in [name for name in names if name not in self.unavailable]:
                started_s = time.monotonic()
                try:
                    turns[name]()
                except Unavailable as error:
                    self.unavailable[name] = str(error)
                told = self.unavailable.get(name) or self._last_rates(name)
                took_s = time.monotonic() - started_s
                print(f"round {number + 1} of {self.effort.rounds}, {name}, {took_s:.0f} s: {told}", flush=True)

    def figures(self) -> dict[Key, Figures]:
        """Put all rounds together."""
        return {key: Figures.of(windows) for key, windows in self.windows.items()}

    @property
    def ours_failed(self) -> bool:
        """Whether our service did not start or answered an error."""
        mine = {OURS, OURS_PLAIN, CACHED, FRONT_PAGE}
        failed = any(figures.failures for (name, _), figures in self.figures().items() if name in mine)
        return failed or not mine.isdisjoint(self.unavailable)

    def _last_rates(self, name: str) -> str:
        last = {callers: Figures.of(some[-1:]) for (system, callers), some in self.windows.items() if system == name}
        return ", ".join(f"{figures.rate:.1f}/s at {callers}" for callers, figures in sorted(last.items()))

    def _measure_limit(self) -> None:
        options = {} if self.workload.tiny else {"model": self.workload.model}
        with _measuring(
            "benchmarks.limit",
            self.workload.picture,
            warm_up_s=self.effort.first_warm_up_s,
            window_s=self.effort.window_s,
            pictures=self.effort.lone_pictures,
            think_s=THINK_S,
            **options,
        ) as (lines, pid):
            full, alone, with_pauses = (watch(lines, partial(read_processes, {pid})) for _ in range(3))
        for callers in {callers for system in self.systems for callers in system.callers}:
            self.windows[LIMIT, callers].append(alone if callers == 1 else full)
        if self.with_extras:
            self.windows[FRONT_PAGE_LIMIT, 1].append(with_pauses)

    def _measure(self, system: System) -> None:
        with started(system, self.workload) as (at, _):
            time.sleep(SETTLE_S)
            self._load(at, system.warm_up_callers, warm_up_s=self.effort.first_warm_up_s, window_s=0)
            extras = self.with_extras and system.name == OURS
            if extras:
                self.windows[FRONT_PAGE, 1].append(self._front_page(at))
            for callers in system.callers:
                self.windows[system.name, callers].append(self._load(at, callers))
            if extras:
                self.windows[CACHED, COMPARED_CALLERS].append(self._load(at, COMPARED_CALLERS, bytes="same"))

    def _load(self, at: Address, callers: int, **changes: object) -> Window:
        """Run the callers; `changes` are options of `benchmarks.load`."""
        options: dict[str, object] = {
            "warm_up_s": self.effort.warm_up_s,
            "warm_up_limit_s": self.effort.warm_up_limit_s,
            "window_s": self.effort.window_s,
            "body": at.system.body,
            "form": json.dumps(at.system.form),
        }
        url, picture = at.url + at.system.path, self.workload.picture
        with _measuring("benchmarks.load", url, picture, callers=callers, **{**options, **changes}) as (lines, _):
            window = watch(lines, at.service.processes)
            if at.system.stop_s or callers != at.system.callers[-1]:
                lines.read()  # ends when all have their answers
        return window

    def _front_page(self, at: Address) -> Window:
        url, picture, pictures = at.url + STREAM_PATH, self.workload.picture, self.effort.lone_pictures
        with _measuring("benchmarks.front_page", url, picture, pictures=pictures, think_s=THINK_S) as (lines, _):
            return watch(lines, at.service.processes)


def watch(lines: Iterable[str], processes: Callable[[], Readings]) -> Window:
    """Read what a measuring process tells, and the processes' CPU time when its window opens and closes.

    Raises:
        Unavailable: it ended without a result.
    """
    before: Readings = {}
    cpu_s: dict[str, float] = {}
    busy_s, wall_s = machine_busy_s(), time.monotonic()
    for told in map(json.loads, lines):
        if told.get("event") == "opened":
            before, busy_s, wall_s = processes(), machine_busy_s(), time.monotonic()
        elif told.get("event") == "closed":
            cpu_s = spent_by_role([before, processes()])
            busy_s, wall_s = machine_busy_s() - busy_s, time.monotonic() - wall_s
        else:
            outcome = Outcome.from_json(told)
            others_s = busy_s - sum(cpu_s.values()) - outcome.client_cpu_s
            return Window(outcome, cpu_s, others_share=max(0.0, others_s) / (wall_s * (os.cpu_count() or 1)))
    raise Unavailable(f"its measuring ended without a result: see {MEASURING_LOG}")


@contextmanager
def _measuring(module: str, *arguments: str | Path, **options: object) -> Iterator[tuple[IO[str], int]]:
    """Run a module of ours that measures, in a session of its own; give its lines and its process id."""
    listed = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with MEASURING_LOG.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            (sys.executable, "-m", module, *arguments, *listed),
            cwd=ROOT,
            env=environment({}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield cast(IO[str], process.stdout), process.pid
        finally:
            end({process.pid})
