"""The Ray-facing ingress: handles in, the FastAPI application out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve import metrics
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.batcher import Batcher, Batching
from deployments.clip.vision import Pixels
from deployments.errors import AnalyzerError, ComponentUnavailable, Interrupted, QueueFull
from deployments.messages import ComponentStatus, Edition, PromptEvent, PromptRequest, Reading
from deployments.metrics import Recorder
from deployments.serve_log import join_serve_log
from serve_app.analyzer import Analyzer
from serve_app.api import create_api
from serve_app.api_keys import keys_of
from serve_app.settings import MIB, LimitSettings, Settings

logger = logging.getLogger("image_analyzer.ingress")

ANALYSIS, WRITING = "The picture analysis", "The prompt writer"

RETRY_PAUSES_S = (0.1, 1.0, 3.0)
"""How long a call whose replica was lost waits before it is made again, each time.

Serve may send it to the lost one again: for a moment, until its router has heard, and after the loss of a node for the
seconds in which the controller, which has not missed that yet, names its replicas anew.
"""

LOST_REPLICAS = 2
"""So many different ones lost within one call are an outage, which is told; and what kills them must not meet more."""

RETRY_AFTER_S = 2
"""What a caller is told when Serve itself refuses: a replica restarts or frees a place within seconds."""


class ReaderHandle:
    """The CLIP deployment over its handle; implements `serve_app.examiner.Reader`.

    A call costs milliseconds of CPU on both sides, however little it carries, so pictures that come while others are
    away travel together in the next one.
    """

    def __init__(
        self, handle: DeploymentHandle[Any], limits: LimitSettings, pauses_s: Sequence[float] = RETRY_PAUSES_S
    ) -> None:
        self._handle = handle
        self._pauses_s = pauses_s
        self._call_bytes = int(limits.read_call_mib * MIB)
        self._calls = Batcher[Pixels, Reading](
            self._read_many,
            stoppable=True,
            batching=Batching(limits.read_calls, batch_size=1),
            max_waiting=limits.max_requests,
            retry_after_s=limits.retry_after_s,
        )

    async def read(self, picture: Pixels) -> Reading:
        """Analyse one picture."""
        self._calls.batching = self._calls.batching._replace(batch_size=max(1, self._call_bytes // picture.nbytes))
        return await self._calls.submit(picture)

    async def _read_many(self, pictures: list[Pixels]) -> list[Reading | AnalyzerError]:
        results: list[Reading | AnalyzerError] = await _repeated(
            lambda: self._handle.read_many.remote(pictures), ANALYSIS, self._pauses_s
        )
        return results

    async def edition(self) -> Edition:
        """Tell which vision model and label set answer now."""
        edition: Edition = await _repeated(self._handle.edition.remote, ANALYSIS, self._pauses_s)
        return edition

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        status: ComponentStatus = await _repeated(self._handle.status.remote, ANALYSIS, self._pauses_s)
        return status


class WriterHandle:
    """The Ollama deployment over its handle; implements `serve_app.analyzer.Writer`."""

    def __init__(self, handle: DeploymentHandle[Any], pauses_s: Sequence[float] = RETRY_PAUSES_S) -> None:
        self._handle = handle
        self._pauses_s = pauses_s

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece; where its replica is lost before the first, from the start at another."""
        patience, begun = _Patience(self._pauses_s), False
        while True:
            try:
                async with aclosing(self._written(request)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except Interrupted as lost:
                if begun:
                    raise
                await patience.outlast(lost)

    async def _written(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        events = cast(DeploymentResponseGenerator[Any], self._handle.options(stream=True).write.remote(request))
        ended = False
        try:
            with _own_errors(WRITING):
                async for event in events:
                    yield event
            ended = True
        finally:
            if not ended:
                events.cancel()  # type: ignore[no-untyped-call]

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        status: ComponentStatus = await _repeated(self._handle.status.remote, WRITING, self._pauses_s)
        return status


@serve.ingress()
class Ingress:
    """Serves the API; every replica holds its own decoders, and handles to the other two deployments."""

    def __init__(self, clip: DeploymentHandle[Any], ollama: DeploymentHandle[Any], settings: Settings) -> None:
        join_serve_log()
        analyzer = Analyzer(ReaderHandle(clip, settings.limits), WriterHandle(ollama), settings)
        self._api = create_api(analyzer, settings, keys_of(settings.access, os.environ), Recorder(metrics))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._api


class _Patience:
    """How often one call is made: again while Serve names the same lost replica, but not after several were lost."""

    def __init__(self, pauses_s: Sequence[float]) -> None:
        self._pauses_s = iter(pauses_s)
        self._lost: set[object] = set()

    async def outlast(self, lost: Interrupted) -> None:
        """Wait until the call may be made again.

        Raises:
            Interrupted: the same again, where it may not.
        """
        self._lost.add(getattr(lost.__cause__, "actor_id", None) or lost)
        pause_s = next(self._pauses_s, None)
        if pause_s is None or len(self._lost) >= LOST_REPLICAS:
            raise lost
        logger.warning("A call was interrupted and is made again in %s s: %r", pause_s, lost.__cause__ or lost)
        await asyncio.sleep(pause_s)


async def _repeated(call: Callable[[], Any], part: str, pauses_s: Sequence[float]) -> Any:
    """Make a call that changes nothing; where the replica that worked on it is lost, again at another."""
    patience = _Patience(pauses_s)
    while True:
        try:
            return await _answer(call(), part)
        except Interrupted as lost:
            await patience.outlast(lost)


async def _answer(response: Any, part: str) -> Any:
    """Await a call; if we are cancelled, by a deadline of ours or a caller that left, cancel it over there too.

    Awaiting a response does not do that by itself (Ray 2.60): the picture would be computed for nobody.
    """
    with _own_errors(part):
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Ray raises the same for a call that was cancelled over there, and nobody here has left.
                raise Interrupted(
                    f"{part} was interrupted: send the request again.", retry_after_s=RETRY_AFTER_S
                ) from None
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
        raise ComponentUnavailable(f"{part} could not be started: serve status says why.") from error
    except (RayActorError, RequestCancelledError) as error:
        raise Interrupted(f"{part} was interrupted: send the request again.", retry_after_s=RETRY_AFTER_S) from error
