"""The Ray-facing ingress: handles in, the FastAPI application out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve import metrics
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.batching import Batcher, Batching
from deployments.errors import AnalyzerError, ComponentUnavailable, Interrupted, QueueFull, is_fault
from deployments.telemetry import Recorder, join_serve_log
from deployments.types import (
    Classification,
    ComponentStatus,
    HostModels,
    ModelVersion,
    Pixels,
    PromptComplete,
    PromptEvent,
    PromptRequest,
    PromptRestart,
    Reading,
    TargetFacts,
    Wanted,
)
from serve_app.api import create_api
from serve_app.middleware.auth import keys_of
from serve_app.middleware.limits import Gate
from serve_app.pipeline import Pipeline
from serve_app.settings import MIB, LimitSettings, Settings

logger = logging.getLogger("image_analyzer.ingress")

ANALYSIS, WRITING = "The picture analysis", "The prompt writer"

RETRY_AFTER_S = 2
"""What a caller is told when Serve itself refuses: a replica restarts or frees a place within seconds."""


class ClassifierHandle:
    """The CLIP deployment over its handle; implements `serve_app.analysis_cache.Classifier`.

    A call costs milliseconds of CPU on both sides, however little it carries, so pictures that come while others are
    away travel together in the next one.
    """

    def __init__(self, handle: DeploymentHandle[Any], limits: LimitSettings) -> None:
        self._handle = handle
        self._call_bytes = int(limits.read_call_mib * MIB)
        self._calls = Batcher[Reading, Classification](
            self._classify_many,
            stoppable=True,
            batching=Batching(limits.read_calls, batch_size=1),
            max_waiting=limits.max_requests,
            retry_after_s=limits.retry_after_s,
        )

    async def classify(self, picture: Pixels, wanted: Wanted) -> Classification:
        """Classify one picture."""
        self._calls.batching = self._calls.batching._replace(batch_size=max(1, self._call_bytes // picture.nbytes))
        return await self._calls.submit(Reading(picture, wanted))

    async def _classify_many(self, readings: list[Reading]) -> list[Classification | AnalyzerError]:
        results: list[Classification | AnalyzerError] = await _repeated(
            lambda: self._handle.classify.remote(readings), ANALYSIS
        )
        return results

    async def model_version(self) -> ModelVersion:
        """Tell which vision model and label set answer now."""
        version: ModelVersion = await _repeated(self._handle.model_version.remote, ANALYSIS)
        return version

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        status: ComponentStatus = await _repeated(self._handle.status.remote, ANALYSIS)
        return status


class WriterHandle:
    """The Ollama deployment over its handle; implements `serve_app.pipeline.Writer`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece; where its replica is lost, once more, from the start, at another."""
        last: PromptEvent | None = None
        for repeat in (False, True):
            events = cast(DeploymentResponseGenerator[Any], self._handle.options(stream=True).write.remote(request))
            ended = False
            try:
                with _own_errors(WRITING):
                    async for last in events:
                        yield last
                ended = True
                return
            except Interrupted as lost:
                if isinstance(last, PromptComplete):
                    return
                if repeat:
                    raise
                _log_repeat(lost)
            finally:
                if not ended:
                    events.cancel()  # type: ignore[no-untyped-call]
            if last is not None:
                yield PromptRestart(f"{WRITING} was interrupted and starts over.")

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        status: ComponentStatus = await _repeated(self._handle.status.remote, WRITING)
        return status

    async def looking(self) -> tuple[str, ...]:
        """Tell which models look at pictures where a request leaves it to `auto`."""
        names: tuple[str, ...] = await _repeated(self._handle.looking.remote, WRITING)
        return names

    async def models(self) -> tuple[HostModels, ...]:
        """Tell which models each server has."""
        hosts: tuple[HostModels, ...] = await _repeated(self._handle.models.remote, WRITING)
        return hosts

    async def targets(self) -> tuple[TargetFacts, ...]:
        """Tell which targets there are."""
        targets: tuple[TargetFacts, ...] = await _repeated(self._handle.targets.remote, WRITING)
        return targets

    async def unload(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Free the servers' memory."""
        unloaded: tuple[tuple[str, ...], tuple[str, ...]] = await _repeated(self._handle.unload.remote, WRITING)
        return unloaded


@serve.ingress()
class Ingress:
    """Serves the API; every replica holds its own decoders, and handles to the other two deployments."""

    def __init__(self, clip: DeploymentHandle[Any], ollama: DeploymentHandle[Any], settings: Settings) -> None:
        join_serve_log()
        pipeline = Pipeline(ClassifierHandle(clip, settings.limits), WriterHandle(ollama), settings)
        self._gate = Gate(settings.limits.max_requests, settings.limits.retry_after_s)
        self._api = create_api(pipeline, settings, keys_of(settings.access, os.environ), Recorder(metrics), self._gate)

    async def drain(self) -> None:
        """Take nothing more; returns when all that was begun is answered. The command calls this before it stops."""
        await self._gate.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._api


async def _repeated(call: Callable[[], Any], part: str) -> Any:
    """Make a call that changes nothing; where the replica that worked on it is lost, once more, at another.

    Not oftener: what kills a replica must not meet more than two. What a lost replica had not accepted yet, Serve
    itself sends to another (Ray 2.60).
    """
    try:
        return await _answer(call(), part)
    except Interrupted as lost:
        _log_repeat(lost)
    return await _answer(call(), part)


def _log_repeat(lost: Interrupted) -> None:
    logger.warning("A call was interrupted and is made again: %r", lost.__cause__ or lost)


async def _answer(response: Any, part: str) -> Any:
    """Await a call; if we are cancelled, by a deadline of ours or a caller that left, cancel it over there too.

    Awaiting a response does not do that by itself (Ray 2.60): the picture would be computed for nobody.
    """
    with _own_errors(part):
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise


@contextmanager
def _own_errors(part: str) -> Iterator[None]:
    """Turn what Ray raises into the error tree; errors of the tree come out as themselves."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, AnalyzerError):
            raise error.cause from None
        raise
    except BackPressureError as error:
        raise QueueFull(
            f"{part} has as many requests as it may; try again in {RETRY_AFTER_S} s.", retry_after_s=RETRY_AFTER_S
        ) from error
    except DeploymentUnavailableError as error:
        raise ComponentUnavailable(f"{part} could not be started: image-analyzer status says why.") from error
    except (RayActorError, RequestCancelledError, asyncio.CancelledError) as error:
        if not is_fault(error):
            raise
        raise Interrupted(f"{part} was interrupted: send the request again.", retry_after_s=RETRY_AFTER_S) from error
