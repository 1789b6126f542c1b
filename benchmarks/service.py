"""One system as a running process: started in a session of its own, ready when it answers rightly, gone at the end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

import httpx

from benchmarks.processes import Readings, end, read_processes, sessions_below, sessions_started_with

ROOT = Path(__file__).parents[1]
EMBEDDING_LIMIT_S = 600
"""Of the vocabulary on two slow cores, in s: 80 s were measured."""
START_LIMIT_S = 120
ASK_LIMIT_S = 20
POLL_S = 0.25
SETTLE_S = 2.0
"""After a system's first right answer: Ray goes on starting workers for a while."""
TAIL_LINES = 5

DROPPED = ("OMP_", "MKL_", "KMP_", "RAY_", "OPENVINO_", "DEVICE", "CLIP_MODEL_NAME", "OLLAMA_", "PYTHONPATH")
"""What would tune a system, or point it elsewhere, is taken out of the environment: everyone starts from the same."""
ADDED = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
"""Everybody computes on the CPU, and nobody asks anything of a network."""

RUN_VARIABLE, SERVICE_VARIABLE = "BENCHMARK_RUN", "BENCHMARK_SERVICE"
"""The first marks every process that this one starts, the second those of one system."""


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Unavailable(Exception):
    """A system cannot be measured; the text says why."""


def environment(extra: Mapping[str, str], outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give what a system is started with, made from the environment `outside`."""
    kept = {name: value for name, value in outside.items() if not name.startswith(DROPPED)}
    return {**kept, **ADDED, RUN_VARIABLE: str(os.getpid()), **extra}


@contextmanager
def ending_all() -> Iterator[None]:
    """End, whatever happens inside, all that this process has started: what an interruption caught half started too.

    Signals that end a process raise SystemExit inside, once: make passes on a SIGTERM that came here by itself.
    """
    for number in ENDING_SIGNALS:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        end(sessions_started_with(f"{RUN_VARIABLE}={os.getpid()}"))


def _leave(number: int, _: FrameType | None) -> None:
    for repeated in ENDING_SIGNALS:
        signal.signal(repeated, signal.SIG_IGN)
    print("Stopping what was started …", flush=True)
    sys.exit(128 + number)


class Service:
    """A started system; `with Service(...) as service`.

    Args:
        command: stays in the foreground; SIGINT stops it.
        variables: of its environment, besides what all have.
        log: receives what it writes.
        stop_s: how long it may take to stop when asked to; at 0 it is not asked.
        root: the checkout whose modules it imports.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        variables: Mapping[str, str],
        log: Path,
        *,
        stop_s: float,
        root: Path = ROOT,
    ) -> None:
        self._command = command
        self._stop_s = stop_s
        self._root = root
        self._mark = secrets.token_hex(8)
        self._environment = environment({"PYTHONPATH": str(root), SERVICE_VARIABLE: self._mark, **variables})
        self._log = log
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        self._started_s = time.monotonic()
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Ask it to stop if it deserves that; end what is left."""
        try:
            sessions = self._sessions()
            if self._stop_s:
                self._process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(self._stop_s)
        finally:
            end(sessions | self._sessions())
            self._process.wait()

    def processes(self) -> Readings:
        """Read each of its processes."""
        return read_processes(self._sessions())

    def wait_until_right(
        self, url: str, body: bytes, content_type: str, objection: Callable[[Mapping[str, Any]], str]
    ) -> float:
        """Send a request again and again until its answer is the right one; give how long after the start that was.

        Raises:
            Unavailable: it ended, or did not give the right answer in time.
        """
        deadline_s, trouble = self._started_s + START_LIMIT_S, "no answer"
        with httpx.Client(headers={"Content-Type": content_type}, timeout=ASK_LIMIT_S, trust_env=False) as client:
            while time.monotonic() < deadline_s:
                if self._process.poll() is not None:
                    raise Unavailable(f"ended by itself: {self._last_words()}")
                with suppress(httpx.HTTPError):
                    answer = client.post(url, content=body)
                    trouble = objection(answer.json()) if answer.is_success else f"{answer.status_code}: {answer.text}"
                    if not trouble:
                        return time.monotonic() - self._started_s
                time.sleep(POLL_S)
        raise Unavailable(f"gave no right answer within {START_LIMIT_S} s ({trouble}); {self._last_words()}")

    def wait_until_embedded(self, health_url: str) -> None:
        """Wait until the vocabulary's phrases are all embedded; a service without tags says nothing of them.

        Raises:
            Unavailable: that took too long.
        """
        deadline_s, told = time.monotonic() + EMBEDDING_LIMIT_S, ""
        while time.monotonic() < deadline_s:
            facts = httpx.get(health_url, timeout=ASK_LIMIT_S, trust_env=False).json()["components"]["analyzer"][
                "facts"
            ]
            told = facts.get("vocabulary", "")
            if "embedded" not in told:
                return
            time.sleep(POLL_S)
        raise Unavailable(f"after {EMBEDDING_LIMIT_S} s: {told}")

    def _sessions(self) -> set[int]:
        """Give those seen so far too: who has lost both parent and mark is still in one of them."""
        marked = sessions_started_with(f"{SERVICE_VARIABLE}={self._mark}")
        self._seen |= marked | sessions_below(self._process.pid) | {self._process.pid}
        return self._seen

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-TAIL_LINES:])
