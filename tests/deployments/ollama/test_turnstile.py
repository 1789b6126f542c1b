from __future__ import annotations

import asyncio

import pytest

from deployments.errors import QueueFull
from deployments.ollama.turnstile import Turnstile


class Visitor:
    """Comes, holds its place until told to leave, and writes down that it was let in."""

    def __init__(self, turnstile: Turnstile, name: str, admitted: list[str]) -> None:
        self._leave = asyncio.Event()
        self._turnstile, self._name, self._admitted = turnstile, name, admitted
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        async with self._turnstile.turn():
            self._admitted.append(self._name)
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self.task


class Scene:
    def __init__(self, *, max_inside: int = 1, max_waiting: int = 2) -> None:
        self.turnstile = Turnstile(max_inside=max_inside, max_waiting=max_waiting, retry_after_s=7)
        self.admitted: list[str] = []

    async def comes(self, name: str) -> Visitor:
        visitor = Visitor(self.turnstile, name, self.admitted)
        await settled()
        return visitor


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_at_most_so_many_are_inside_and_the_rest_follow_in_order() -> None:
    scene = Scene(max_inside=2)
    first, second, third, fourth = [await scene.comes(name) for name in "abcd"]
    assert (scene.admitted, scene.turnstile.inside, scene.turnstile.waiting) == (["a", "b"], 2, 2)
    for visitor in (second, first, third, fourth):
        await visitor.leave()
    assert scene.admitted == ["a", "b", "c", "d"]
    assert (scene.turnstile.inside, scene.turnstile.waiting) == (0, 0)


async def test_whoever_finds_the_line_full_is_turned_away_at_once_and_told_when_to_come_back() -> None:
    scene = Scene(max_waiting=1)
    inside, waiting = await scene.comes("a"), await scene.comes("b")
    with pytest.raises(QueueFull, match="try again in 7 s") as refusal:
        async with scene.turnstile.turn():
            pytest.fail("let in")
    assert refusal.value.retry_after_s == 7
    await inside.leave()
    await waiting.leave()


async def test_a_place_is_free_for_the_next_in_the_moment_it_is_left() -> None:
    scene = Scene(max_waiting=1)
    inside, waiting = await scene.comes("a"), await scene.comes("b")
    await inside.leave()
    third = await scene.comes("c")
    await waiting.leave()
    await third.leave()
    assert scene.admitted == ["a", "b", "c"]


async def test_cancelled_while_waiting_gives_up_the_place_in_line() -> None:
    scene = Scene(max_waiting=1)
    inside, gone = await scene.comes("a"), await scene.comes("b")
    gone.task.cancel()
    await settled()
    waiting = await scene.comes("c")
    await inside.leave()
    await waiting.leave()
    assert scene.admitted == ["a", "c"]


async def test_cancelled_in_the_moment_of_being_let_in_passes_the_turn_on() -> None:
    scene = Scene()
    inside, gone, waiting = [await scene.comes(name) for name in "abc"]
    await inside.leave()
    gone.task.cancel()
    await settled()
    await waiting.leave()
    assert scene.admitted[-1] == "c"
    assert scene.turnstile.inside == 0


async def test_a_visit_that_fails_frees_its_place() -> None:
    scene = Scene()
    with pytest.raises(LookupError):
        async with scene.turnstile.turn():
            raise LookupError
    await (await scene.comes("b")).leave()
    assert scene.admitted == ["b"]
