"""An version is known from a question asked after the caller came; callers share questions."""

from __future__ import annotations

import asyncio

import pytest

from deployments.errors import ComponentUnavailable
from deployments.types import ModelVersion
from serve_app.edition_check import EditionCheck


class Deployment:
    """Takes down what holds when a question comes, and answers it when told to."""

    def __init__(self) -> None:
        self.version = 0
        self.error: Exception | None = None
        self.questions: list[asyncio.Event] = []
        self._came = asyncio.Event()

    async def ask(self) -> ModelVersion:
        version, error, answer = ModelVersion(str(self.version), 224), self.error, asyncio.Event()
        self.questions.append(answer)
        self._came.set()
        await answer.wait()
        if error is not None:
            raise error
        return version

    async def asked(self, times: int) -> None:
        while len(self.questions) < times:
            self._came.clear()
            await self._came.wait()


async def started(check: EditionCheck, callers: int) -> list[asyncio.Task[ModelVersion]]:
    tasks = [asyncio.create_task(check.current()) for _ in range(callers)]
    await asyncio.sleep(0)
    return tasks


async def test_those_who_come_while_a_question_is_away_share_the_next_one() -> None:
    deployment = Deployment()
    check = EditionCheck(deployment.ask)
    (first,) = await started(check, 1)
    await deployment.asked(1)
    deployment.version = 1
    later = await started(check, 50)
    deployment.questions[0].set()
    assert (await first).version == "0"
    await deployment.asked(2)
    assert not any(task.done() for task in later), "the answer under way was made before they came"
    deployment.version = 2
    latest = await started(check, 3)
    deployment.questions[1].set()
    assert {version.version for version in await asyncio.gather(*later)} == {"1"}
    await deployment.asked(3)
    deployment.questions[2].set()
    assert {version.version for version in await asyncio.gather(*latest)} == {"2"}
    assert len(deployment.questions) == 3


async def test_one_question_is_away_at_a_time() -> None:
    deployment = Deployment()
    check = EditionCheck(deployment.ask)
    callers = await started(check, 1)
    await deployment.asked(1)
    callers += await started(check, 5)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(deployment.questions) == 1
    deployment.questions[0].set()
    await deployment.asked(2)
    deployment.questions[1].set()
    await asyncio.gather(*callers)


async def test_a_question_that_fails_fails_for_those_who_share_it_and_the_next_is_asked() -> None:
    deployment = Deployment()
    check = EditionCheck(deployment.ask)
    deployment.error = ComponentUnavailable("A replica was lost.")
    failing = await started(check, 2)
    await deployment.asked(1)
    deployment.error = None
    (fine,) = await started(check, 1)
    deployment.questions[0].set()
    for task in failing:
        with pytest.raises(ComponentUnavailable, match="A replica was lost"):
            await task
    await deployment.asked(2)
    deployment.questions[1].set()
    assert (await fine).version == "0"


async def test_a_caller_that_leaves_disturbs_nobody() -> None:
    deployment = Deployment()
    check = EditionCheck(deployment.ask)
    leaving, staying = await started(check, 2)
    await deployment.asked(1)
    leaving.cancel()
    await asyncio.wait({leaving})
    deployment.questions[0].set()
    assert (await staying).version == "0"
    assert leaving.cancelled()
