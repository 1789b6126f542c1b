from __future__ import annotations

import asyncio

import pytest

from deployments.errors import QueueFull
from deployments.ollama.client import ModelPull, OllamaClient
from deployments.ollama.pool import Server, ServerPool
from deployments.ollama.settings import OllamaSettings
from tests.deployments.ollama.virtual_time import run_virtually

REST_S = 30


def a_server(name: str) -> Server:
    client = OllamaClient(OllamaSettings(), f"http://{name}")
    return Server(client, ModelPull(client, "mistral"))


class Visitor:
    """Comes, holds its place until told to leave, and writes down that it was let in."""

    def __init__(self, fleet: ServerPool, name: str, admitted: list[str], *, again: bool) -> None:
        self._leave = asyncio.Event()
        self._pool, self._name, self._admitted, self._again = fleet, name, admitted, again
        self.server: Server | None = None
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        async with self._pool.turn(again=self._again) as self.server:
            self._admitted.append(self._name)
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self.task


class Scene:
    def __init__(self, *, servers: int = 1, max_inside: int = 1, max_waiting: int = 2) -> None:
        self.servers = [a_server(f"server-{number}") for number in range(servers)]
        self.fleet = ServerPool(
            self.servers, max_parallel=max_inside, max_waiting=max_waiting, rest_s=REST_S, retry_after_s=7
        )
        self.admitted: list[str] = []

    async def comes(self, name: str, *, again: bool = False) -> Visitor:
        visitor = Visitor(self.fleet, name, self.admitted, again=again)
        await settled()
        return visitor


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_at_most_so_many_are_inside_and_the_rest_follow_in_order() -> None:
    scene = Scene(max_inside=2)
    first, second, third, fourth = [await scene.comes(name) for name in "abcd"]
    assert (scene.admitted, scene.fleet.writing, scene.fleet.waiting) == (["a", "b"], 2, 2)
    for visitor in (second, first, third, fourth):
        await visitor.leave()
    assert scene.admitted == ["a", "b", "c", "d"]
    assert (scene.fleet.writing, scene.fleet.waiting) == (0, 0)


async def test_whoever_finds_the_line_full_is_turned_away_at_once_and_told_when_to_come_back() -> None:
    scene = Scene(max_waiting=1)
    inside, waiting = await scene.comes("a"), await scene.comes("b")
    with pytest.raises(QueueFull, match="try again in 7 s") as refusal:
        async with scene.fleet.turn():
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
    assert scene.fleet.writing == 0


async def test_a_visit_that_fails_frees_its_place() -> None:
    scene = Scene()
    with pytest.raises(LookupError):
        async with scene.fleet.turn():
            raise LookupError
    await (await scene.comes("b")).leave()
    assert scene.admitted == ["b"]


async def test_who_comes_goes_to_the_least_busy_server_and_the_idle_take_turns() -> None:
    scene = Scene(servers=2, max_inside=3)
    one, two = scene.servers
    first, second, third = [await scene.comes(name) for name in "abc"]
    assert [visitor.server for visitor in (first, second, third)] == [one, two, one]
    await first.leave()
    await third.leave()
    fourth = await scene.comes("d")
    assert fourth.server is one
    for visitor in (second, fourth):
        await visitor.leave()
    assert [(await visit(scene)), (await visit(scene))] == [two, one]


async def visit(scene: Scene) -> Server | None:
    visitor = await scene.comes("visitor")
    await visitor.leave()
    return visitor.server


def test_a_server_that_failed_is_left_alone_for_a_while_and_then_tried_again() -> None:
    async def scenario() -> None:
        scene = Scene(servers=2, max_waiting=1)
        one, two = scene.servers
        assert scene.fleet.rest(one, "It failed.")
        first, second = await scene.comes("a"), await scene.comes("b")
        assert (first.server, second.server) == (two, None)
        await asyncio.sleep(REST_S - 0.1)
        assert second.server is None
        await asyncio.sleep(0.2)
        assert second.server is one
        await first.leave()
        await second.leave()

    run_virtually(scenario())


async def test_where_no_server_works_each_is_tried_as_if_it_had_not_failed() -> None:
    scene = Scene(servers=2)
    one, two = scene.servers
    assert scene.fleet.rest(one, "It failed.")
    assert not scene.fleet.rest(two, "It failed too.")
    assert {await visit(scene), await visit(scene)} == {one, two}


async def test_who_comes_again_because_a_server_failed_is_ahead_of_the_line_and_of_its_bound() -> None:
    scene = Scene(max_waiting=1)
    inside, waiting = await scene.comes("a"), await scene.comes("b")
    returning = await scene.comes("c", again=True)
    await inside.leave()
    await returning.leave()
    await waiting.leave()
    assert scene.admitted == ["a", "c", "b"]
