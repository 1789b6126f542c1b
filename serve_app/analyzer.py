"""The use case: decode, analyse, write the prompt; as one answer, as a stream of events, and its health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from deployments.clip.vision import Pixels
from deployments.errors import FAULT, AnalyzerError, DeadlinePassed
from deployments.messages import (
    ComponentStatus,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptRequest,
    PromptRestart,
    Reading,
    Wish,
)
from serve_app.images import Picture, read_picture
from serve_app.schemas import (
    AnalysisBody,
    AnalyzeAnswer,
    AnalyzedEvent,
    AnalyzingEvent,
    Colour,
    CompleteEvent,
    ComponentHealth,
    DeltaEvent,
    ErrorEvent,
    GeneratingEvent,
    HealthAnswer,
    ScoredLabel,
    StreamEvent,
    Timings,
)
from serve_app.settings import Settings

logger = logging.getLogger("image_analyzer.requests")

SCORE_DECIMALS = 4
"""A tenth of the closest that two correct computations of a score agree to."""

_Result = TypeVar("_Result")


class Reader(Protocol):
    """The picture-reading deployment, as the use case sees it."""

    async def read(self, picture: Pixels) -> Reading:
        """Analyse one picture."""
        ...

    async def input_size_px(self) -> int:
        """Tell the edge that the active vision model wants pictures at."""
        ...

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        ...


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
    """A decoded picture on its way, and the clock it is timed by."""

    picture: Picture
    wish: Wish
    clock: Callable[[], float]
    started_s: float
    stage_started_s: float
    stages_ms: dict[str, float] = field(default_factory=dict)

    def end_stage(self, name: str) -> None:
        """Book the time since the last stage ended."""
        now_s = self.clock()
        self.stages_ms[name] = round((now_s - self.stage_started_s) * 1000, 2)
        self.stage_started_s = now_s

    def timings(self) -> Timings:
        """Give the milliseconds of the stages that have ended."""
        return Timings(**self.stages_ms, total=round((self.clock() - self.started_s) * 1000, 2))


class Analyzer:
    """Composes decoding, reading and writing.

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
        self._decoders = ThreadPoolExecutor(settings.image.decode_threads, thread_name_prefix="decode")
        self._input_size_px: int | None = None

    async def accept(self, upload: bytes, wish: Wish) -> Job:
        """Decode an upload, in a thread.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: see `read_picture`.
        """
        started_s = self._clock()
        if self._input_size_px is None:
            self._input_size_px = await self._within_deadline(self._reader.input_size_px())
        picture = await asyncio.get_running_loop().run_in_executor(
            self._decoders, read_picture, upload, self._settings.image, self._input_size_px
        )
        job = Job(picture, wish, self._clock, started_s, stage_started_s=started_s)
        job.end_stage("decode")
        return job

    async def answer(self, job: Job) -> AnalyzeAnswer:
        """Give the analysis and the whole prompt.

        Raises:
            AnalyzerError: whatever kept the deployments from answering.
        """
        reading = await self._read(job)
        complete: PromptComplete | None = None
        async with aclosing(self._write(job, reading)) as events:
            async for event in events:
                if isinstance(event, PromptComplete):
                    complete = event
        written = _ended(complete, job)
        return AnalyzeAnswer(
            generatedPrompt=written.prompt,
            analysis=_analysis_body(reading),
            userInput=job.wish.user_prompt,
            palette=_colours(job.picture),
            promptSource=written.source,
            analyzer=reading.analyzer,
            timings=job.timings(),
            warnings=[*reading.warnings, *written.warnings],
        )

    async def stream(self, job: Job) -> AsyncGenerator[StreamEvent, None]:
        """Give each stage as it happens; a failure becomes the last event."""
        try:
            yield AnalyzingEvent(message="Reading the picture.")
            reading = await self._read(job)
            yield AnalyzedEvent(
                analysis=_analysis_body(reading),
                palette=_colours(job.picture),
                analyzer=reading.analyzer,
                timings=job.timings(),
                warnings=list(reading.warnings),
            )
            yield GeneratingEvent(message="Writing the prompt.")
            complete: PromptComplete | None = None
            async with aclosing(self._write(job, reading)) as events:
                async for event in events:
                    match event:
                        case PromptDelta(text):
                            yield DeltaEvent(text=text)
                        case PromptRestart(reason):
                            yield GeneratingEvent(message=reason)
                        case PromptComplete():
                            complete = event
            written = _ended(complete, job)
            yield CompleteEvent(
                generatedPrompt=written.prompt,
                userInput=job.wish.user_prompt,
                promptSource=written.source,
                timings=job.timings(),
                warnings=[*reading.warnings, *written.warnings],
            )
        except AnalyzerError as error:
            yield ErrorEvent(error=str(error), code=error.code)
        except Exception:
            # The status is sent: only an event can still tell the caller.
            logger.exception("A stream failed.")
            yield ErrorEvent(error=FAULT, code=AnalyzerError.code)

    async def health(self) -> HealthAnswer:
        """Ask both deployments how they stand now."""
        reader, writer = await asyncio.gather(
            self._status_of(self._reader.status()), self._status_of(self._writer.status())
        )
        states = {reader.status, writer.status}
        overall = "error" if "unavailable" in states else "degraded" if "fallback" in states else "ok"
        return HealthAnswer(
            status=overall,
            analyzer_initialized=reader.status != "unavailable",
            components={"analyzer": reader, "writer": writer},
        )

    async def _read(self, job: Job) -> Reading:
        reading = await self._within_deadline(self._reader.read(job.picture.pixels))
        self._input_size_px = reading.input_size_px
        job.end_stage("analysis")
        return reading

    def _write(self, job: Job, reading: Reading) -> AsyncGenerator[PromptEvent, None]:
        request = PromptRequest(
            analysis=reading.analysis,
            palette=job.picture.palette,
            user_prompt=job.wish.user_prompt,
            deep_thinking=job.wish.deep_thinking,
            language=job.wish.language,
        )
        return self._writer.write(request)

    async def _within_deadline(self, work: Awaitable[_Result]) -> _Result:
        limit_s = self._settings.limits.analysis_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except TimeoutError as error:
            raise DeadlinePassed(
                f"The analysis took longer than {limit_s:g} s: try again, or raise limits.analysis_timeout_s."
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


def _ended(complete: PromptComplete | None, job: Job) -> PromptComplete:
    if complete is None:
        raise AnalyzerError("The prompt ended before it was complete: send the request again.")
    job.end_stage("prompt")
    return complete


def _analysis_body(reading: Reading) -> AnalysisBody:
    return AnalysisBody(
        **{
            category: [ScoredLabel(value=label.value, score=round(label.score, SCORE_DECIMALS)) for label in labels]
            for category, labels in reading.analysis.items()
        }
    )


def _colours(picture: Picture) -> list[Colour]:
    return [Colour(hex=swatch.hex, share=swatch.share) for swatch in picture.palette]
