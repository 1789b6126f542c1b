"""What comes back over a Serve handle, and what becomes of a call whose caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import AnalyzerError, ComponentUnavailable, OutOfMemory, QueueFull
from deployments.types import (
    NOTHING_MORE,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptRequest,
    PromptRestart,
    Reading,
)
from serve_app.ingress import ClassifierHandle, WriterHandle
from serve_app.settings import LimitSettings

BEGINNING = PromptDelta("A ")
PICTURE = np.zeros((2, 2, 3), np.uint8)


class Response:
    """A `DeploymentResponse`, and a generator of them: waits for ever, or raises."""

    def __init__(self, error: BaseException | None = None, gives: PromptEvent | None = BEGINNING) -> None:
        self.error = error
        self._gives = gives
        self.cancelled = False
        self.asked = asyncio.Event()

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[PromptEvent]:
        if self._gives is not None:
            yield self._gives
        await self._wait()

    async def _wait(self) -> None:
        self.asked.set()
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled = True


def handle(*responses: Response) -> Any:
    """Answer calls with one response after the other, and every further call with the last."""
    left = list(responses)
    method = SimpleNamespace(remote=lambda *_: left.pop(0) if len(left) > 1 else left[0])
    deployment = SimpleNamespace(classify=method, status=method, write=method)
    deployment.options = lambda **_: deployment
    return deployment


def reader(*responses: Response) -> ClassifierHandle:
    return ClassifierHandle(handle(*responses), LimitSettings())


def writer(*responses: Response) -> WriterHandle:
    return WriterHandle(handle(*responses))


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("read", "the remote traceback", cause)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("raised", "expected", "sentence"),
    [
        (lambda: task_error(OutOfMemory("The card is full.")), OutOfMemory, "The card is full."),
        (lambda: BackPressureError(num_queued_requests=9, max_queued_requests=8), QueueFull, "try again in 2 s"),
        (lambda: RayActorError(), ComponentUnavailable, "was interrupted: send the request again"),
        (lambda: DeploymentUnavailableError(cast(Any, "clip")), ComponentUnavailable, "image-analyzer status says why"),
    ],
)
async def test_what_ray_raises_becomes_an_error_of_the_tree(
    raised: Callable[[], Exception], expected: type[AnalyzerError], sentence: str
) -> None:
    with pytest.raises(expected, match=sentence):
        await reader(Response(raised())).classify(PICTURE, NOTHING_MORE)
    with pytest.raises(expected, match=sentence):
        async for _ in writer(Response(raised())).write(PromptRequest({})):
            pass


async def test_a_fault_over_there_stays_a_fault() -> None:
    with pytest.raises(RayTaskError, match="the remote traceback"):
        await reader(Response(task_error(ZeroDivisionError()))).classify(PICTURE, NOTHING_MORE)


async def test_what_is_given_up_is_cancelled_over_there() -> None:
    response = Response()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader(response).classify(PICTURE, NOTHING_MORE)
    await asyncio.sleep(0.01)
    assert response.cancelled
    response = Response()
    async with aclosing(writer(response).write(PromptRequest({}))) as events:
        assert await anext(events) == BEGINNING
    assert response.cancelled


class Deployment:
    """The CLIP deployment: answers each picture by its value, black ones by an error; when let."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.classify = SimpleNamespace(remote=self._answer)

    async def _answer(self, readings: list[Reading]) -> list[int | AnalyzerError]:
        values = [int(reading.pixels[0, 0, 0]) for reading in readings]
        self.calls.append(values)
        await self.gate.wait()
        return [value or OutOfMemory("The card is full.") for value in values]


def coloured(value: int) -> NDArray[np.uint8]:
    return np.full((224, 224, 3), value, np.uint8)


async def test_pictures_that_come_while_others_are_away_travel_together() -> None:
    deployment = Deployment()
    subject = ClassifierHandle(cast(Any, deployment), LimitSettings(read_calls=1, read_call_mib=1.2))
    first = asyncio.create_task(subject.classify(coloured(1), NOTHING_MORE))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(subject.classify(coloured(value), NOTHING_MORE)) for value in range(2, 13)]
    await asyncio.sleep(0.01)
    deployment.gate.set()
    results: list[Any] = await asyncio.gather(first, *others)
    assert results == list(range(1, 13))
    assert deployment.calls == [[1], list(range(2, 10)), [10, 11, 12]], "8 pictures fit into a call of 1.2 MiB"


async def test_an_error_over_there_belongs_to_its_picture_alone() -> None:
    deployment = Deployment()
    deployment.gate.set()
    subject = ClassifierHandle(cast(Any, deployment), LimitSettings(read_calls=1))
    results: Any = await asyncio.gather(
        subject.classify(coloured(1), NOTHING_MORE),
        subject.classify(coloured(0), NOTHING_MORE),
        subject.classify(coloured(2), NOTHING_MORE),
        return_exceptions=True,
    )
    assert [results[0], results[2]] == [1, 2]
    assert isinstance(results[1], OutOfMemory)
    assert deployment.calls == [[1, 0, 2]]


async def test_a_call_that_ray_cancels_over_there_is_told_and_leaves_nobody_hanging() -> None:
    async with asyncio.timeout(5):
        with pytest.raises(ComponentUnavailable, match="was interrupted: send the request again"):
            await reader(Response(asyncio.CancelledError())).classify(PICTURE, NOTHING_MORE)
        with pytest.raises(ComponentUnavailable, match="was interrupted: send the request again"):
            async for _ in writer(Response(asyncio.CancelledError())).write(PromptRequest({})):
                pass


def lost(gives: PromptEvent | None = BEGINNING) -> Response:
    return Response(RayActorError(), gives)


async def test_what_a_lost_replica_was_doing_is_done_by_another() -> None:
    full = Response(task_error(OutOfMemory("The card is full.")))
    for again in (
        reader(lost(), full).classify(PICTURE, NOTHING_MORE),
        reader(lost(), full).status(),
        writer(lost(), full).status(),
    ):
        with pytest.raises(OutOfMemory):
            await again


RESTART = PromptRestart("The prompt writer was interrupted and starts over.")
WHOLE = PromptComplete("A temple.", "ollama")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, [BEGINNING]), (BEGINNING, [BEGINNING, RESTART, BEGINNING]), (WHOLE, [WHOLE])],
    ids=["before it began", "midway", "when it was whole"],
)
async def test_a_prompt_whose_writer_is_lost_is_begun_anew_unless_it_is_whole(
    given: PromptEvent | None, expected: list[PromptEvent]
) -> None:
    async with aclosing(writer(lost(given), Response()).write(PromptRequest({}))) as events:
        assert [await anext(events) for _ in expected] == expected
        if given == WHOLE:
            assert await anext(events, None) is None


async def test_what_outlives_two_replicas_is_told() -> None:
    with pytest.raises(ComponentUnavailable, match="interrupted"):
        await reader(lost(), lost(), Response()).classify(PICTURE, NOTHING_MORE)
    for gives in (None, BEGINNING):
        with pytest.raises(ComponentUnavailable, match="interrupted"):
            async for _ in writer(lost(gives), lost(gives), Response()).write(PromptRequest({})):
                pass
