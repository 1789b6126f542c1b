from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from deployments.errors import QueueFull
from deployments.ollama.client import OllamaClient
from deployments.ollama.pool import REMEMBERED_PICTURES, Server, ServerPool
from deployments.ollama.pull import ModelPull
from deployments.ollama.settings import OllamaSettings
from tests.deployments.ollama.virtual_time import run_virtually

REST_S = 30


class Scene:
    """Visitors by name, each of whom holds its place until it is told to leave."""

    def __init__(self, *, servers: int = 1, max_inside: int = 1, max_waiting: int = 2) -> None:
        clients = [OllamaClient(OllamaSettings(), f"http://server-{number}") for number in range(servers)]
        self.servers = [Server(client, ModelPull(client, "mistral")) for client in clients]
        self.pool = ServerPool(
            self.servers, max_parallel=max_inside, max_waiting=max_waiting, rest_s=REST_S, retry_after_s=7
        )
        self.admitted: dict[str, Server] = {}
        """In the order of their being let in: who, and to which server."""
        self.told: dict[str, list[int]] = {}
        """Who heard how many are before them."""
        self.visits: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Event] = {}

    async def come(self, *names: str, again: bool = False, picture: str = "") -> None:
        for name in names:
            self._leaving[name], self.told[name] = asyncio.Event(), []
            self.visits[name] = asyncio.create_task(self._visit(name, again, picture))
            await settled()

    async def leave(self, *names: str) -> None:
        for name in names:
            self._leaving[name].set()
            await self.visits[name]

    async def looks(self, picture: str) -> Server:
        """Have a picture looked at, and give where."""
        name = f"visit {len(self.visits)}"
        await self.come(name, picture=picture)
        await self.leave(name)
        return self.admitted[name]

    async def _visit(self, name: str, again: bool, picture: str) -> None:
        async with self.pool.turn(again=again, picture=picture, tell=self.told[name].append) as server:
            self.admitted[name] = server
            await self._leaving[name].wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_at_most_so_many_are_inside_and_the_rest_follow_in_order() -> None:
    scene = Scene(max_inside=2)
    await scene.come(*"abcd")
    assert ([*scene.admitted], scene.pool.writing, scene.pool.waiting) == (["a", "b"], 2, 2)
    await scene.leave(*"bacd")
    assert ([*scene.admitted], scene.pool.writing, scene.pool.waiting) == (["a", "b", "c", "d"], 0, 0)


async def test_who_finds_the_line_full_is_told_when_to_come_back_and_a_place_is_free_the_moment_it_is_left() -> None:
    scene = Scene(max_waiting=1)
    await scene.come("a", "b")
    with pytest.raises(QueueFull, match="try again in 7 s") as refusal:
        async with scene.pool.turn():
            pytest.fail("let in")
    assert refusal.value.retry_after_s == 7
    await scene.leave("a")
    await scene.come("c")
    await scene.leave("b", "c")
    assert [*scene.admitted] == ["a", "b", "c"]


@pytest.mark.parametrize("let_in", [False, True], ids=["while waiting", "in the moment of being let in"])
async def test_who_is_cancelled_passes_the_turn_on(let_in: bool) -> None:
    scene = Scene(max_waiting=2)
    await scene.come("a", "gone", "c")
    if let_in:
        await scene.leave("a")
    scene.visits["gone"].cancel()
    await settled()
    if not let_in:
        await scene.come("d")
        await scene.leave("a")
    await scene.leave("c")
    assert [name for name in scene.admitted if name != "gone"][:2] == ["a", "c"]
    if not let_in:
        await scene.leave("d")
    assert scene.pool.writing == 0


async def test_a_visit_that_fails_frees_its_place() -> None:
    scene = Scene()
    with pytest.raises(LookupError):
        async with scene.pool.turn():
            raise LookupError
    await scene.come("b")
    await scene.leave("b")


async def test_who_comes_goes_to_the_least_busy_server_and_the_idle_take_turns() -> None:
    scene = Scene(servers=2, max_inside=3)
    one, two = scene.servers
    await scene.come(*"abc")
    await scene.leave("a", "c")
    await scene.come("d")
    await scene.leave("b", "d")
    for name in "ef":
        await scene.come(name)
        await scene.leave(name)
    assert [*scene.admitted.values()] == [one, two, one, one, two, one]


def test_a_server_that_failed_is_left_alone_for_a_while_and_then_tried_again() -> None:
    async def scenario() -> None:
        scene = Scene(servers=2, max_waiting=1)
        one, two = scene.servers
        assert scene.pool.rest(one, "It failed.")
        await scene.come("a", "b")
        await asyncio.sleep(REST_S - 0.1)
        assert scene.admitted == {"a": two}
        await asyncio.sleep(0.2)
        assert scene.admitted == {"a": two, "b": one}
        await scene.leave("a", "b")

    run_virtually(scenario())


async def test_where_no_server_works_each_is_tried_as_if_it_had_not_failed() -> None:
    scene = Scene(servers=2)
    one, two = scene.servers
    assert scene.pool.rest(one, "It failed.")
    assert not scene.pool.rest(two, "It failed too.")
    await scene.come("a", "b")
    assert {*scene.admitted.values()} == {one, two}
    await scene.leave("a", "b")


async def test_who_comes_again_because_a_server_failed_is_ahead_of_the_line_and_of_its_bound() -> None:
    scene = Scene(max_waiting=1)
    await scene.come("a", "b")
    await scene.come("c", again=True)
    await scene.leave("a", "c", "b")
    assert [*scene.admitted] == ["a", "c", "b"]


@pytest.mark.parametrize(("servers", "max_inside"), [(1, 1), (1, 2), (3, 1), (2, 2)])
async def test_who_waits_hears_how_many_have_to_end_before_and_again_whenever_that_changes(
    servers: int, max_inside: int
) -> None:
    inside = [f"inside {number}" for number in range(servers * max_inside)]
    scene = Scene(servers=servers, max_inside=max_inside, max_waiting=3)
    await scene.come(*inside, *"abc")
    assert [scene.told[name] for name in "abc"] == [[1], [2], [3]]
    scene.visits["b"].cancel()
    await settled()
    await scene.come("again", again=True)
    assert [scene.told[name] for name in ("again", *"ac")] == [[1], [1, 2], [3, 2, 3]]
    await scene.leave(*inside, "again", *"ac")
    assert {name: scene.told[name][-1] for name in ("again", *"abc")} == {"again": 0, "a": 0, "b": 2, "c": 0}
    assert [scene.told[name] for name in inside] == [[]] * len(inside)
    assert all(earlier != later for told in scene.told.values() for earlier, later in pairwise(told))


async def test_a_picture_that_comes_again_goes_to_the_server_that_saw_it_last_if_that_is_free() -> None:
    scene = Scene(servers=2)
    one, two = scene.servers
    assert [await scene.looks(picture) for picture in ("fox", "sea", "sea", "sea", "fox")] == [one, two, two, two, one]
    await scene.come("busy", picture="fox")
    assert scene.admitted["busy"] is one
    assert await scene.looks("fox") is two
    await scene.leave("busy")
    assert await scene.looks("fox") is two
    assert [await scene.looks("") for _ in range(4)] == [one, two, one, two]


async def test_the_server_that_saw_it_last_is_not_sought_while_it_rests_or_where_it_just_failed() -> None:
    scene = Scene(servers=2)
    one, two = scene.servers
    assert [await scene.looks("fox"), await scene.looks("sea")] == [one, two]
    await scene.come("again", picture="sea", again=True)
    await scene.leave("again")
    assert scene.admitted["again"] is one
    scene.pool.rest(one, "It failed.")
    assert await scene.looks("fox") is two


async def test_only_so_many_pictures_are_remembered() -> None:
    scene = Scene(servers=2)
    seen_by = await scene.looks("first")
    for number in range(REMEMBERED_PICTURES - 1):
        await scene.looks(f"picture {number}")
    assert await scene.looks("first") is seen_by
    last = [await scene.looks(f"other {number}") for number in range(REMEMBERED_PICTURES)][-1]
    assert await scene.looks("first") is not last
    assert await scene.looks("first") is not last
