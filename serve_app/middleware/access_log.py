"""Tells of every picture sent, once that has ended: a log line and the metrics, never what was sent or answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import telemetry
from deployments.errors import is_fault
from deployments.telemetry import Record
from deployments.types import AnalyzerName, PromptSource
from serve_app.pipeline import Job

logger = logging.getLogger("image_analyzer.requests")

ROUTES = frozenset({"analyze", "analyze-stream"})
"""The last part of each route that takes pictures; a tag must not hold what callers make up."""

Outcome = Literal["answered", "refused", "failed", "left"]

FROM_THE_START: dict[Outcome, list[str]] = {"answered": ["200"], "refused": ["429"], "failed": ["500", "503", "504"]}
"""What alerts ask for → its statuses."""


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request when it has ended; `scope["state"]["account"]`, for whoever knows more to fill in."""

    status: int | None = None
    job: Job | None = None

    def outcome(self) -> tuple[Outcome, int]:
        """Give how it ended, and the status; of a stream that broke, the one that it would have had as an answer."""
        job = self.job
        if self.status is None or (job is not None and self.status == HTTPStatus.OK and not job.ended):
            return "left", self.status or 0
        status = self.status if job is None or job.failure is None else job.failure.http_status
        if status < HTTPStatus.BAD_REQUEST:
            return "answered", status
        return "refused" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed", status


class AccessLog:
    """ASGI middleware, outside of all that may refuse.

    Args:
        app: what the requests are for.
        record: takes the metrics.
        clock: seconds, monotonic.
    """

    def __init__(self, app: ASGIApp, record: Record, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._record = record
        self._clock = clock
        for outcome, statuses in FROM_THE_START.items():
            telemetry.start_at_zero(record, telemetry.REQUESTS, sorted(ROUTES), [outcome], statuses)
        telemetry.start_at_zero(record, telemetry.VIEWS, ["model", "cache"])
        telemetry.start_at_zero(record, telemetry.ANSWERS, get_args(AnalyzerName), get_args(PromptSource))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell of it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        account = RequestRecord()
        scope.setdefault("state", {})["account"] = account
        started_s = self._clock()

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                account.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except BaseException as error:
            account.status = HTTPStatus.INTERNAL_SERVER_ERROR if is_fault(error) else None
            raise
        finally:
            last_part = scope["path"].rpartition("/")[2]
            self._tell(last_part if last_part in ROUTES else "other", account, self._clock() - started_s)

    def _tell(self, route: str, account: RequestRecord, took_s: float) -> None:
        outcome, status = account.outcome()
        self._record(telemetry.REQUESTS, route=route, outcome=outcome, status=str(status))
        told: dict[str, str | float] = {"outcome": outcome, "took_ms": round(took_s * 1000, 2)}
        if account.job is not None:
            told |= self._tell_job(account.job)
        if outcome == "answered":
            self._record(telemetry.REQUEST_SECONDS, took_s, route=route)
        sentence = ", ".join(f"{name} {value}" for name, value in told.items() if name != "outcome")
        logger.info("%s %s %d: %s.", route, outcome, status, sentence, extra={"route_name": route, **told})

    def _tell_job(self, job: Job) -> dict[str, str | float]:
        told: dict[str, str | float] = {}
        for stage, ms in job.stages_ms().items():
            self._record(telemetry.STAGE_SECONDS, ms / 1000, stage=stage)
            told[f"{stage}_ms"] = round(ms, 2)
        if job.analysis is not None:
            origin = "cache" if job.lookup.cached else "model"
            told |= {"origin": origin, "analyzer": job.analysis.classification.analyzer}
            self._record(telemetry.VIEWS, origin=origin)
        if job.analysis is not None and job.written is not None:
            told["source"] = job.written.source
            self._record(telemetry.ANSWERS, analyzer=job.analysis.classification.analyzer, source=job.written.source)
        return told
