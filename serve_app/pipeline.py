"""The use case: analyse the picture, write the prompt; as one answer, as a stream of events, and its health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.errors import FAULT, AnalyzerError, DeadlinePassed, InvalidForm, is_fault
from deployments.types import (
    PROSE,
    ComponentStatus,
    HostModels,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptLooking,
    PromptOptions,
    PromptRequest,
    PromptRestart,
    PromptThinking,
    PromptWaiting,
    TargetFacts,
)
from serve_app.analysis_cache import Analysis, AnalysisCache, Classifier, Lookup, PictureDecoder
from serve_app.models import models_answer
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
    ModelsAnswer,
    StreamEvent,
    TargetEntry,
    TargetsAnswer,
    ThinkingEvent,
    Timings,
    UnloadedAnswer,
)
from serve_app.settings import Settings
from serve_app.shared import Shared

logger = logging.getLogger("image_analyzer.requests")

NO_PROMPT = PromptComplete("", "none", target="")
"""What a caller gets who asks for the analysis alone."""

WRITING, LOOKING = "Writing the prompt.", "Looking at the picture and writing the prompt."

SIGHT_HOLDS_S = 2.0
"""How old the writer's word on which models look may be before it is asked again."""

TARGETS_HOLD_S = 1.0
"""How old the writer's word on its targets may be, as the CLIP deployment's on its labels."""

HEALTH_HOLDS_S = 1.0
"""How old the parts' word on how they stand may be: however many ask, the parts are asked once in this time."""


class Writer(Protocol):
    """The prompt-writing deployment, as the use case sees it."""

    def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece; ends with `PromptComplete`."""
        ...

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        ...

    async def looking(self) -> Sequence[str]:
        """Tell which models look at pictures where a request leaves it to `auto`."""
        ...

    async def models(self) -> Sequence[HostModels]:
        """Tell which models each server has."""
        ...

    async def targets(self) -> Sequence[TargetFacts]:
        """Tell which targets there are."""
        ...

    async def unload(self) -> tuple[Sequence[str], Sequence[str]]:
        """Free the servers' memory; gives the names of what was loaded, and the servers that answered."""
        ...


@dataclass(slots=True)
class Job:
    """An accepted picture on its way, and what it is timed by; close it however it ends."""

    lookup: Lookup
    options: PromptOptions
    clock: Callable[[], float]
    started_s: float
    deadline_s: float
    """Event loop time by which all must be done."""
    writing_since_s: float = 0.0
    prompt_ms: float | None = None
    analysis: Analysis | None = None
    written: PromptComplete | None = None
    failure: AnalyzerError | None = None
    """What a stream was ended by."""
    warnings: Sequence[str] = ()
    """What is wrong with what was sent, beside the picture."""

    @property
    def ended(self) -> bool:
        """Whether all was done that can be; else the caller left."""
        return self.written is not None or self.failure is not None

    def stages_ms(self) -> dict[str, float]:
        """Give the milliseconds of the stages that ran for this picture and have ended."""
        prompt = {} if self.prompt_ms is None else {"prompt": self.prompt_ms}
        return {**self.lookup.stages_ms, **prompt}

    def timings(self) -> Timings:
        """Tell how long it took until now."""
        total_ms = (self.clock() - self.started_s) * 1000
        return Timings(**{name: round(ms, 2) for name, ms in {**self.stages_ms(), "total": total_ms}.items()})

    def close(self) -> None:
        """Give up what is not done yet, unless others wait for it too."""
        self.lookup.leave()


class Pipeline:
    """Composes analysing and writing.

    Args:
        classifier: the CLIP deployment.
        writer: the Ollama deployment.
        settings: the whole service's.
        clock: seconds, monotonic.
        decoder: decodes uploads; one by these settings where none is given.
    """

    def __init__(
        self,
        classifier: Classifier,
        writer: Writer,
        settings: Settings,
        clock: Callable[[], float] = time.perf_counter,
        decoder: PictureDecoder | None = None,
    ) -> None:
        self._classifier = classifier
        self._writer = writer
        self._settings = settings
        self._clock = clock
        self._cache = AnalysisCache(classifier, settings, clock, decoder)
        self._components = Shared(self._ask_components, clock)
        self._looking = Shared(self._ask_looking, clock)
        self._targets = Shared(self._ask_targets, clock)

    async def accept(
        self, upload: bytes, options: PromptOptions, warnings: Sequence[str] = (), caller: str = ""
    ) -> Job:
        """Return when an upload is known to be a picture: its analysis is remembered, or on its way.

        Args:
            upload: the file's bytes.
            options: what is asked for besides.
            warnings: what the answer has to say of the form.
            caller: whose key it came with: nobody is told, nor can measure, what another has sent.

        Raises:
            InvalidForm: the model that is asked for is not among those allowed, or there is no such target.
            UnreadablePicture, FormatNotAccepted, TooManyPixels: see `read_picture`.
            AnalyzerError: whatever kept the CLIP deployment from telling which labels hold.
        """
        try:
            self._settings.ollama.chosen(options.model)
        except ValueError as error:
            raise InvalidForm(f"Form field 'model' is wrong: {error}.") from None
        if options.target not in ("", PROSE):
            await self._require_target(options.target)
        deadline_s = asyncio.get_running_loop().time() + self._settings.limits.total_timeout_s
        jpeg_px = self._settings.ollama.vision_size_px if self._may_look(options) else 0
        lookup = Lookup(self._cache, upload, caller, jpeg_px, options.wanted(self._settings.clip.top_tags))
        job = Job(lookup, options, self._clock, started_s=self._clock(), deadline_s=deadline_s, warnings=warnings)
        try:
            await job.lookup.begin()
        except BaseException:
            job.close()
            raise
        return job

    async def answer(self, job: Job) -> AnalyzeAnswer:
        """Give the analysis and the whole prompt.

        Raises:
            AnalyzerError: whatever kept the deployments from answering.
        """
        analysis = job.analysis = await job.lookup.analysis()
        if not job.options.analysis_only:
            async with aclosing(await self._write(job, analysis)) as events:
                while await self._next(job, events) is not None:
                    pass
        written = job.written = job.written or NO_PROMPT
        return AnalyzeAnswer(
            generatedPrompt=written.prompt,
            analysis=analysis.body,
            userInput=job.options.user_prompt,
            palette=analysis.colours,
            tags=analysis.tags,
            promptSource=written.source,
            model=written.model or None,
            vision=written.vision,
            **_of_target(written, analysis),
            truncated=written.truncated,
            analyzer=analysis.classification.analyzer,
            cached=job.lookup.cached,
            timings=job.timings(),
            warnings=[*job.warnings, *analysis.classification.warnings, *written.warnings],
        )

    async def stream(self, job: Job) -> AsyncGenerator[StreamEvent, None]:
        """Give each stage as it happens; a failure becomes the last event."""
        try:
            yield AnalyzingEvent(message="Reading the picture.")
            analysis = job.analysis = await job.lookup.analysis()
            yield AnalyzedEvent(
                analysis=analysis.body,
                palette=analysis.colours,
                tags=analysis.tags,
                analyzer=analysis.classification.analyzer,
                cached=job.lookup.cached,
                timings=job.timings(),
                warnings=[*job.warnings, *analysis.classification.warnings],
            )
            if not job.options.analysis_only:
                told = WRITING
                yield GeneratingEvent(message=told)
                thought = False
                async with aclosing(await self._write(job, analysis)) as events:
                    while (event := await self._next(job, events)) is not None:
                        match event:
                            case PromptDelta(text):
                                yield DeltaEvent(text=text)
                            case PromptRestart(told):
                                yield GeneratingEvent(message=told)
                            case PromptWaiting(before):
                                told = f"Waiting in line: {before} before you." if before else WRITING
                                yield GeneratingEvent(message=told, before=before or None)
                            case PromptLooking(looks) if told != (now := LOOKING if looks else WRITING):
                                told = now
                                yield GeneratingEvent(message=told, vision=looks or None)
                            case PromptThinking() if not thought:
                                thought = True
                                yield ThinkingEvent()
            written = job.written = job.written or NO_PROMPT
            yield CompleteEvent(
                generatedPrompt=written.prompt,
                userInput=job.options.user_prompt,
                promptSource=written.source,
                model=written.model or None,
                vision=written.vision,
                **_of_target(written, analysis),
                truncated=written.truncated,
                timings=job.timings(),
                warnings=[*job.warnings, *analysis.classification.warnings, *written.warnings],
            )
        except BaseException as error:
            if not is_fault(error):
                raise
            # The status is sent: only an event can still tell the caller.
            if not isinstance(error, AnalyzerError):
                logger.error("A stream failed.", exc_info=error)
                error = AnalyzerError(FAULT)
            job.failure = error
            yield ErrorEvent(error=str(error), code=error.code)

    def not_ready_because(self) -> str:
        """Say why this replica cannot take a picture; empty where it can. Asks nobody: each replica for itself."""
        return self._cache.stuck_because

    async def health(self, *, key_required: bool, stopping: bool = False) -> HealthAnswer:
        """Tell how both deployments stand; what was asked of them within `HEALTH_HOLDS_S` is not asked again."""
        analyzer, writer = await self._components.get(self._clock() - HEALTH_HOLDS_S)
        states = {analyzer.status, writer.status}
        overall = "error" if stopping or "unavailable" in states else "degraded" if "fallback" in states else "ok"
        return HealthAnswer(
            status=overall,
            analyzer_initialized=analyzer.status != "unavailable",
            key_required=key_required,
            stopping=stopping,
            components={"analyzer": analyzer, "writer": writer},
        )

    async def models(self) -> ModelsAnswer:
        """Tell which models may be asked for, and what there is of each server's."""
        return models_answer(self._settings.ollama, await self._writer.models())

    async def targets(self) -> TargetsAnswer:
        """Tell which targets may be asked for."""
        entries = [TargetEntry.model_validate(facts, from_attributes=True) for facts in await self._known_targets()]
        return TargetsAnswer(default=self._settings.ollama.target, targets=entries)

    async def unload(self) -> UnloadedAnswer:
        """Free the memory that the models take.

        Raises:
            OllamaUnavailable: no server answers.
        """
        models, hosts = await self._writer.unload()
        return UnloadedAnswer(models=list(models), hosts=list(hosts))

    def _may_look(self, options: PromptOptions) -> bool:
        """Tell whether a model may look at the picture; where `auto` is not known to, it is."""
        if options.analysis_only or options.vision != "auto":
            return options.vision == "on" and not options.analysis_only
        looking = self._looking.glance(self._clock() - SIGHT_HOLDS_S)
        return looking is None or self._settings.ollama.looker(options.model) in looking

    async def _ask_looking(self) -> Sequence[str]:
        try:
            return await self._writer.looking()
        except Exception:
            logger.debug("The writer does not tell which models look.", exc_info=True)
            return ()

    async def _require_target(self, name: str) -> None:
        known = [facts.name for facts in await self._known_targets()]
        if name not in known:
            raise InvalidForm(f"Form field 'target' is wrong: send one of {', '.join(known)}.")

    async def _known_targets(self) -> Sequence[TargetFacts]:
        return await self._targets.get(self._clock() - TARGETS_HOLD_S)

    async def _ask_targets(self) -> Sequence[TargetFacts]:
        limit_s = self._settings.limits.status_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._writer.targets()
        except TimeoutError as error:
            raise DeadlinePassed(f"The prompt writer did not name its targets within {limit_s:g} s.") from error

    async def _write(self, job: Job, analysis: Analysis) -> AsyncGenerator[PromptEvent, None]:
        job.writing_since_s = self._clock()
        seen, jpeg = analysis.classification, b""
        try:
            jpeg = await job.lookup.jpeg()
        except AnalyzerError as error:
            job.warnings = [*job.warnings, f"No model looked at the picture: {error}"]
        return self._writer.write(
            PromptRequest(
                seen.scores,
                analysis.palette,
                job.options,
                seen.analyzer,
                job.lookup.picture,
                analysis.aspect_ratio,
                seen.tags,
                jpeg,
            )
        )

    async def _next(self, job: Job, events: AsyncGenerator[PromptEvent, None]) -> PromptEvent | None:
        """Give the writer's next event and note the last; None once it has come and there are no more."""
        try:
            async with asyncio.timeout_at(job.deadline_s):
                event = await anext(events, None)
        except TimeoutError as error:
            limit_s = self._settings.limits.total_timeout_s
            raise DeadlinePassed(
                f"The answer took longer than {limit_s:g} s: try again, or raise limits.total_timeout_s."
            ) from error
        if isinstance(event, PromptComplete):
            job.prompt_ms = (self._clock() - job.writing_since_s) * 1000
            job.written = event
        elif event is None and job.written is None:
            raise AnalyzerError("The prompt ended before it was complete: send the request again.")
        return event

    async def _ask_components(self) -> tuple[ComponentHealth, ComponentHealth]:
        return await asyncio.gather(self._status_of(self._classifier.status()), self._status_of(self._writer.status()))

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
                remedy="image-analyzer status names the failing part, and the log says why; it restarts by itself.",
            )
        return ComponentHealth(
            status=status.state,
            active=status.active,
            reason=status.reason,
            remedy=status.remedy,
            facts=dict(status.facts),
        )


def _of_target(written: PromptComplete, analysis: Analysis) -> dict[str, Any]:
    budget = written.budget
    return {
        "target": written.target or None,
        "negativePrompt": written.negative,
        "aspectRatio": analysis.aspect_ratio,
        "size": written.size or None,
        "promptTokens": budget and budget.spent,
        "tokenLimit": budget and budget.limit,
        "tokenUnit": budget and budget.unit,
    }
