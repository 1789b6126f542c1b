"""The Ray-facing ingress: handles in, the FastAPI application out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.clip.vision import Pixels
from deployments.errors import AnalyzerError, ComponentUnavailable, QueueFull
from deployments.messages import ComponentStatus, PromptEvent, PromptRequest, Reading
from serve_app.analyzer import Analyzer
from serve_app.api import create_api
from serve_app.settings import Settings

RETRY_AFTER_S = 2
"""What a caller is told when Serve itself refuses: a replica restarts or frees a place within seconds."""


class ReaderHandle:
    """The CLIP deployment over its handle; implements `serve_app.analyzer.Reader`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def read(self, picture: Pixels) -> Reading:
        """Analyse one picture."""
        with _own_errors("The picture analysis"):
            reading: Reading = await self._handle.read.remote(picture)
            return reading

    async def input_size_px(self) -> int:
        """Tell the edge that the active vision model wants pictures at."""
        with _own_errors("The picture analysis"):
            edge: int = await self._handle.input_size_px.remote()
            return edge

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        with _own_errors("The picture analysis"):
            status: ComponentStatus = await self._handle.status.remote()
            return status


class WriterHandle:
    """The Ollama deployment over its handle; implements `serve_app.analyzer.Writer`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        """Write a prompt, piece by piece."""
        with _own_errors("The prompt writer"):
            events = cast(DeploymentResponseGenerator[Any], self._handle.options(stream=True).write.remote(request))
            async for event in events:
                yield event

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        with _own_errors("The prompt writer"):
            status: ComponentStatus = await self._handle.status.remote()
            return status


@serve.ingress()
class Ingress:
    """Serves the API; every replica holds its own decoders, and handles to the other two deployments."""

    def __init__(self, clip: DeploymentHandle[Any], ollama: DeploymentHandle[Any], settings: Settings) -> None:
        self._api = create_api(Analyzer(ReaderHandle(clip), WriterHandle(ollama), settings), settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._api


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
    except (RayActorError, DeploymentUnavailableError, RequestCancelledError) as error:
        raise ComponentUnavailable(
            f"{part} was interrupted: send the request again.", retry_after_s=RETRY_AFTER_S
        ) from error
