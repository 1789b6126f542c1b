"""What comes back over a Serve handle, and what becomes of a call whose caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.errors import AnalyzerError, ComponentUnavailable, OutOfMemory, QueueFull
from deployments.messages import PromptDelta, PromptRequest
from serve_app.app import gpu_share
from serve_app.ingress import ReaderHandle, WriterHandle

PICTURE = np.zeros((2, 2, 3), np.uint8)


class Response:
    """A `DeploymentResponse`, and a generator of them: waits for ever, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cancelled = False
        self.asked = asyncio.Event()

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[PromptDelta]:
        yield PromptDelta("A ")
        await self._wait()

    async def _wait(self) -> None:
        self.asked.set()
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled = True


def handle(response: Response) -> Any:
    method = SimpleNamespace(remote=lambda *_: response)
    deployment = SimpleNamespace(read=method, status=method, write=method)
    deployment.options = lambda **_: deployment
    return deployment


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("read", "the remote traceback", cause)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("raised", "expected", "sentence"),
    [
        (lambda: task_error(OutOfMemory("The card is full.")), OutOfMemory, "The card is full."),
        (lambda: BackPressureError(num_queued_requests=9, max_queued_requests=8), QueueFull, "try again in 2 s"),
        (lambda: RayActorError(), ComponentUnavailable, "was interrupted: send the request again"),
    ],
)
async def test_what_ray_raises_becomes_an_error_of_the_tree(
    raised: Callable[[], Exception], expected: type[AnalyzerError], sentence: str
) -> None:
    with pytest.raises(expected, match=sentence):
        await ReaderHandle(handle(Response(raised()))).read(PICTURE)
    with pytest.raises(expected, match=sentence):
        async for _ in WriterHandle(handle(Response(raised()))).write(PromptRequest({})):
            pass


async def test_a_fault_over_there_stays_a_fault() -> None:
    with pytest.raises(RayTaskError, match="the remote traceback"):
        await ReaderHandle(handle(Response(task_error(ZeroDivisionError())))).read(PICTURE)


async def test_a_call_that_is_given_up_is_cancelled_over_there() -> None:
    response = Response()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ReaderHandle(handle(response)).read(PICTURE)
    assert response.cancelled


async def test_a_prompt_whose_reader_leaves_is_cancelled_over_there() -> None:
    response = Response()
    events = WriterHandle(handle(response)).write(PromptRequest({}))
    assert await anext(events) == PromptDelta("A ")
    await events.aclose()
    assert response.cancelled


def test_a_gpu_share_is_asked_for_where_there_is_a_gpu_to_share() -> None:
    assert gpu_share("auto", cluster_gpus=1) == gpu_share("cuda", cluster_gpus=2) == 0.5
    assert gpu_share("auto", cluster_gpus=0) == gpu_share("cpu", cluster_gpus=1) == 0
