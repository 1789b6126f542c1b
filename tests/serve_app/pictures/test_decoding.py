"""Whatever an upload does, its place is free again at the deadline, and others are decoded meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.errors import ComponentUnavailable, DeadlinePassed, QueueFull, TooManyPixels, UnreadablePicture
from serve_app.pictures.decoding import COMMAND, GRACE_S, Decoder
from serve_app.pictures.images import Picture, read_picture
from serve_app.settings import ImageSettings, load_settings
from tests.support.pictures import photograph
from tests.support.slow_pictures import deep_png, jpeg_of_scans, saved

Read = Callable[[bytes, ImageSettings, int, int, int], Picture]

EDGE_PX = 32
PATIENCE_S = 60
POLL_S = 0.05
NO_PROCESS = ("/no/such/program",)

SMALL = photograph("rocket").resize((64, 48))
QUICK, COSTLY = saved(SMALL, "JPEG"), saved(SMALL, "TIFF")
ENDLESS = jpeg_of_scans(20_000)
"""Minutes of CPU, where so many scans are allowed."""


def decoder(
    deadline_s: float = 60, *, command: Sequence[str] = COMMAND, read: Read = read_picture, **image: Any
) -> Decoder:
    settings = {"limits": {"analysis_timeout_s": deadline_s}, "image": {"max_scans": 10**6, **image}}
    return Decoder(load_settings(settings, {}), read=read, command=command)


def stat(pid: int | str) -> list[str]:
    """Give what the kernel says of a process, from its state on; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


OTHERS: set[int] = set()
"""Children of ours that earlier tests have left."""


def children(of: int | None = None) -> set[int]:
    """Give a process' children, the dead that it has not collected included, but not those of earlier tests."""
    parent = str(of or os.getpid())
    return {int(name) for name in os.listdir("/proc") if name.isdecimal() and stat(name)[1:2] == [parent]} - OTHERS


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(POLL_S)


async def at_work(pid: int) -> None:
    """Wait until a process has used some CPU from now on."""
    ticks = int(stat(pid)[11])
    await until(lambda: int(stat(pid)[11]) > ticks + 5)


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    OTHERS.update(children())
    gc.freeze()  # Going through all that a whole suite has imported takes half a second each time.
    yield
    gc.collect()
    gc.unfreeze()
    await until(lambda: not children())


async def test_what_a_process_decodes_is_what_a_thread_decodes() -> None:
    decoding, settings = decoder(), ImageSettings()
    for upload in (QUICK, COSTLY):
        here, there = read_picture(upload, settings, EDGE_PX), await decoding.decode(upload, EDGE_PX)
        assert (here.pixels == there.pixels).all()
        assert here.palette == there.palette
    assert len(children()) == 1
    with pytest.raises(UnreadablePicture, match="not a readable picture"):
        await decoding.decode(b"nothing", EDGE_PX)
    with pytest.raises(UnreadablePicture, match="broken"):
        await decoding.decode(COSTLY[:-200], EDGE_PX)
    pids = children()
    await asyncio.gather(*(decoding.decode(COSTLY, EDGE_PX) for _ in range(8)))
    assert pids < children(), "one that is there is used again"
    assert len(children()) == 2, "and there are never more than the setting says"


async def test_ordinary_pictures_need_no_process() -> None:
    decoding = decoder(command=NO_PROCESS)
    for format_name in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        assert (await decoding.decode(saved(SMALL, format_name), EDGE_PX)).pixels.shape == (EDGE_PX, EDGE_PX, 3)


async def test_at_the_deadline_the_place_is_free_again() -> None:
    decoding = decoder(deadline_s=1.5, decode_processes=1)
    outcomes = await asyncio.gather(*(decoding.decode(ENDLESS, EDGE_PX) for _ in range(2)), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, DeadlinePassed)
        assert "longer than 1.5 s" in str(outcome)
    assert (await decoder(decode_processes=1).decode(COSTLY, EDGE_PX)).palette
    assert decoding.stuck_because == ""


@pytest.mark.parametrize("begun", [False, True])
async def test_work_that_nobody_waits_for_any_more_is_given_up(begun: bool) -> None:
    decoding = decoder(decode_processes=1)
    if begun:
        await decoding.decode(COSTLY, EDGE_PX)
    before = children()
    asking = [asyncio.create_task(decoding.decode(ENDLESS, EDGE_PX)) for _ in range(3)]
    if begun:
        await at_work(*before)
    else:
        await until(children)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    await until(lambda: not children())
    await decoding.decode(COSTLY, EDGE_PX)


async def test_a_process_without_work_ends() -> None:
    decoding = decoder(decode_process_idle_s=0.1)
    for _ in range(2):
        await decoding.decode(COSTLY, EDGE_PX)
        await until(lambda: not children())


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_process_that_dies_costs_its_picture_and_nobody_else(at_once: bool) -> None:
    decoding = decoder(decode_processes=1)
    await decoding.decode(COSTLY, EDGE_PX)
    (pid,) = children()
    if at_once:
        os.kill(pid, signal.SIGKILL)
        await until(lambda: stat(pid)[:1] == ["Z"])
    else:
        asking = asyncio.create_task(decoding.decode(ENDLESS, EDGE_PX))
        await at_work(pid)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(UnreadablePicture, match="makes its decoder fail"):
            await asking
    await decoding.decode(COSTLY, EDGE_PX)


async def test_a_picture_that_takes_more_memory_than_allowed_is_refused_and_told_why() -> None:
    decoding = decoder(decode_process_mib=768)
    with pytest.raises(TooManyPixels, match=r"more than 768 MiB.*decode_process_mib"):
        await decoding.decode(deep_png(), EDGE_PX)
    await decoding.decode(COSTLY, EDGE_PX)


async def test_a_hundred_megapixels_fit_into_the_memory_that_is_allowed_by_default() -> None:
    assert (await decoder().decode(deep_png(), EDGE_PX)).palette


@pytest.mark.parametrize("command", [NO_PROCESS, ("false",)])
async def test_where_no_process_can_be_started_that_is_told_and_quick_pictures_go_on(command: Sequence[str]) -> None:
    decoding = decoder(deadline_s=1, command=command)
    with pytest.raises(ComponentUnavailable, match="could not be started"):
        await decoding.decode(COSTLY, EDGE_PX)
    assert "could not be started" in decoding.stuck_because
    await decoding.decode(QUICK, EDGE_PX)
    await until(lambda: not decoding.stuck_because)


async def test_a_replica_whose_threads_are_all_held_says_so_and_says_when_they_are_free() -> None:
    release = threading.Event()

    def hang(*_: object) -> Picture:
        release.wait(PATIENCE_S)
        return Picture(np.zeros((EDGE_PX, EDGE_PX, 3), np.uint8), (), "1:1")

    decoding = decoder(deadline_s=0.1, read=hang, decode_threads=2)
    asking = [asyncio.create_task(decoding.decode(QUICK, EDGE_PX))]
    await asyncio.sleep(0.2 + GRACE_S)
    assert decoding.stuck_because == "", "another place is free"
    asking.append(asyncio.create_task(decoding.decode(QUICK, EDGE_PX)))
    await until(lambda: "held for more than 0.1 s" in decoding.stuck_because)
    release.set()
    await asyncio.gather(*asking)
    assert decoding.stuck_because == ""


async def test_costly_pictures_do_not_take_the_places_of_others() -> None:
    decoding = decoder(max_costly=2, decode_processes=1)
    asking = [asyncio.create_task(decoding.decode(ENDLESS, EDGE_PX)) for _ in range(2)]
    await until(children)
    with pytest.raises(QueueFull) as refusal:
        await decoding.decode(COSTLY, EDGE_PX)
    assert refusal.value.retry_after_s
    await decoding.decode(QUICK, EDGE_PX)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)


async def test_a_process_ends_with_its_parent_even_where_that_is_killed_at_work() -> None:
    program = (
        "import asyncio, sys; from tests.serve_app.pictures.test_decoding import decoder, ENDLESS; "
        "asyncio.run(decoder(deadline_s=600).decode(ENDLESS, 32))"
    )
    parent = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", program])
    await until(lambda: children(parent.pid))
    (child,) = children(parent.pid)
    await until(lambda: int(stat(child)[16]) > 0)
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await until(lambda: stat(child)[:1] in ([], ["Z"]))
