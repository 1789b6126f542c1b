"""The use case: view the picture, write the prompt; as one answer, as a stream of events, and its health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from deployments.errors import FAULT, AnalyzerError, DeadlinePassed
from deployments.types import (
    ComponentStatus,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptOptions,
    PromptRequest,
    PromptRestart,
)
from serve_app.analysis_cache import Look, ViewCache
from serve_app.examiner import Examiner, Reader
from serve_app.schemas import (
    AnalyzeAnswer,
    AnalyzedEvent,
    AnalyzingEvent,
    CompleteEvent,
    ComponentHealth,
    DeltaEvent,
    ErrorEvent,
    GeneratingEvent,
    HealthAnswer,
    StreamEvent,
    Timings,
)
from serve_app.settings import Settings
from serve_app.view import View

logger = logging.getLogger("image_analyzer.requests")

NO_PROMPT = PromptComplete("", "none")
"""What a caller gets who asks for the analysis alone."""


class Writer(Protocol):
    """The prompt-writing deployment, as the use case sees it."""

    def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece; ends with `PromptComplete`."""
        ...

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        ...


@dataclass(slots=True)
class Job:
    """An accepted picture on its way, and what it is timed by; close it however it ends."""

    look: Look
    options: PromptOptions
    clock: Callable[[], float]
    started_s: float
    deadline_s: float
    """Event loop time by which all must be done."""
    prompt_ms: float | None = None
    view: View | None = None
    written: PromptComplete | None = None
    failure: AnalyzerError | None = None
    """What a stream was ended by."""

    @property
    def ended(self) -> bool:
        """Whether all was done that can be; else the caller left."""
        return self.written is not None or self.failure is not None

    def timings(self) -> Timings:
        """Give the milliseconds of the stages that have ended."""
        stages_ms = {**self.look.stages_ms, "prompt": self.prompt_ms, "total": (self.clock() - self.started_s) * 1000}
        return Timings(**{name: round(ms, 2) for name, ms in stages_ms.items() if ms is not None})

    def close(self) -> None:
        """Give up what is not done yet, unless others wait for it too."""
        self.look.leave()


class Pipeline:
    """Composes viewing and writing.

    Args:
        reader: the CLIP deployment.
        writer: the Ollama deployment.
        settings: the whole service's.
        clock: seconds, monotonic.
    """

    def __init__(
        self, reader: Reader, writer: Writer, settings: Settings, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._settings = settings
        self._clock = clock
        self._views = ViewCache(Examiner(reader, settings, clock), settings.cache, clock)

    async def accept(self, upload: bytes, options: PromptOptions) -> Job:
        """Return when an upload is known to be a picture: its analysis is remembered, or on its way.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: see `read_picture`.
            AnalyzerError: whatever kept the CLIP deployment from telling which labels hold.
        """
        deadline_s = asyncio.get_running_loop().time() + self._settings.limits.total_timeout_s
        job = Job(self._views.look(upload), options, self._clock, started_s=self._clock(), deadline_s=deadline_s)
        try:
            await job.look.begin()
        except BaseException:
            job.close()
            raise
        return job

    async def answer(self, job: Job) -> AnalyzeAnswer:
        """Give the analysis and the whole prompt.

        Raises:
            AnalyzerError: whatever kept the deployments from answering.
        """
        view = job.view = await job.look.view()
        written = NO_PROMPT
        if not job.options.analysis_only:
            async with aclosing(self._write(job, view)) as events:
                async for event in events:
                    if isinstance(event, PromptComplete):
                        written = event
        job.written = written
        return AnalyzeAnswer(
            generatedPrompt=written.prompt,
            analysis=view.analysis,
            userInput=job.options.user_prompt,
            palette=view.colours,
            promptSource=written.source,
            analyzer=view.reading.analyzer,
            cached=job.look.cached,
            timings=job.timings(),
            warnings=[*view.reading.warnings, *written.warnings],
        )

    async def stream(self, job: Job) -> AsyncGenerator[StreamEvent, None]:
        """Give each stage as it happens; a failure becomes the last event."""
        try:
            yield AnalyzingEvent(message="Reading the picture.")
            view = job.view = await job.look.view()
            yield AnalyzedEvent(
                analysis=view.analysis,
                palette=view.colours,
                analyzer=view.reading.analyzer,
                cached=job.look.cached,
                timings=job.timings(),
                warnings=list(view.reading.warnings),
            )
            written = NO_PROMPT
            if not job.options.analysis_only:
                yield GeneratingEvent(message="Writing the prompt.")
                async with aclosing(self._write(job, view)) as events:
                    async for event in events:
                        match event:
                            case PromptDelta(text):
                                yield DeltaEvent(text=text)
                            case PromptRestart(reason):
                                yield GeneratingEvent(message=reason)
                            case PromptComplete():
                                written = event
            job.written = written
            yield CompleteEvent(
                generatedPrompt=written.prompt,
                userInput=job.options.user_prompt,
                promptSource=written.source,
                timings=job.timings(),
                warnings=[*view.reading.warnings, *written.warnings],
            )
        except AnalyzerError as error:
            job.failure = error
            yield ErrorEvent(error=str(error), code=error.code)
        except Exception:
            # The status is sent: only an event can still tell the caller.
            logger.exception("A stream failed.")
            job.failure = AnalyzerError(FAULT)
            yield ErrorEvent(error=FAULT, code=AnalyzerError.code)

    async def health(self, *, key_required: bool, stopping: bool = False) -> HealthAnswer:
        """Ask both deployments how they stand now."""
        reader, writer = await asyncio.gather(
            self._status_of(self._reader.status()), self._status_of(self._writer.status())
        )
        states = {reader.status, writer.status}
        overall = "error" if stopping or "unavailable" in states else "degraded" if "fallback" in states else "ok"
        return HealthAnswer(
            status=overall,
            analyzer_initialized=reader.status != "unavailable",
            key_required=key_required,
            stopping=stopping,
            components={"analyzer": reader, "writer": writer},
        )

    async def _write(self, job: Job, view: View) -> AsyncGenerator[PromptEvent, None]:
        """Give the writer's events; the last is `PromptComplete`."""
        request = PromptRequest(view.reading.scores, view.palette, job.options)
        started_s = self._clock()
        complete = False
        async with aclosing(self._writer.write(request)) as events:
            while (event := await self._next(events, job.deadline_s)) is not None:
                complete = isinstance(event, PromptComplete)
                if complete:
                    job.prompt_ms = (self._clock() - started_s) * 1000
                yield event
        if not complete:
            raise AnalyzerError("The prompt ended before it was complete: send the request again.")

    async def _next(self, events: AsyncGenerator[PromptEvent, None], deadline_s: float) -> PromptEvent | None:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await anext(events, None)
        except TimeoutError as error:
            limit_s = self._settings.limits.total_timeout_s
            raise DeadlinePassed(
                f"The answer took longer than {limit_s:g} s: try again, or raise limits.total_timeout_s."
            ) from error

    async def _status_of(self, asked: Awaitable[ComponentStatus]) -> ComponentHealth:
        try:
            async with asyncio.timeout(self._settings.limits.status_timeout_s):
                status = await asked
        except Exception as error:
            if not isinstance(error, AnalyzerError | TimeoutError):
                logger.exception("A part could not be asked for its status.")
            return ComponentHealth(
                status="unavailable",
                active="none",
                reason=str(error) or f"It did not answer within {self._settings.limits.status_timeout_s:g} s.",
                remedy="Look at the service's log (serve status names the failing deployment); it restarts by itself.",
            )
        return ComponentHealth(
            status=status.state,
            active=status.active,
            reason=status.reason,
            remedy=status.remedy,
            facts=dict(status.facts),
        )
