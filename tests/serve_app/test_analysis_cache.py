"""Identical uploads are decoded and read once, for as long as the labels are the same."""

from __future__ import annotations

import asyncio
import pickle
import threading
import tracemalloc
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.errors import ClipUnavailable, DeadlinePassed, OutOfMemory, UnreadablePicture
from deployments.types import CATEGORIES, Classification, ComponentStatus, LabelScore, ModelVersion, Pixels, Swatch
from serve_app.analysis_cache import Look, ViewCache
from serve_app.examiner import Examiner
from serve_app.images import Picture
from serve_app.settings import ImageSettings, load_settings
from serve_app.view import View

HARBOUR, FOREST, DESERT, BROKEN = b"a harbour", b"a forest", b"a desert", b"broken"
PATIENCE_S = 10

REQUEST = ContextVar("REQUEST", default="none")


class LabelledReader:
    """Reads while its gate is open, with the labels that hold when the picture comes: version 0, 1, 2, …"""

    def __init__(self) -> None:
        self.version = 0
        self.warnings: tuple[str, ...] = ()
        self.error: Exception | None = None
        self.lost = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.farewell = asyncio.Event()
        """Until then a cancelled read does not end."""
        self.farewell.set()
        self.reads = 0
        self.cancelled, self.gone = asyncio.Event(), asyncio.Event()
        self.seen_requests: set[str] = set()

    async def read(self, picture: Pixels) -> Classification:
        self.reads += 1
        self.seen_requests.add(REQUEST.get())
        version, labels = self._now(), (LabelScore(str(self.version), 1.0),)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.farewell.wait()
            self.gone.set()
            raise
        if self.error is not None:
            raise self.error
        return Classification(dict.fromkeys(CATEGORIES, labels), "clip", version, self.warnings)

    async def model_version(self) -> ModelVersion:
        self.seen_requests.add(REQUEST.get())
        if self.lost:
            raise ClipUnavailable("CLIP is gone.")
        version = self._now()
        await asyncio.sleep(0)
        return version

    async def status(self) -> ComponentStatus:
        raise NotImplementedError

    def _now(self) -> ModelVersion:
        return ModelVersion(f"labels {self.version}", 4)


class Desk:
    """A cache, with all that it stands between in the test's hand."""

    def __init__(self, **settings: Any) -> None:
        self.reader = LabelledReader()
        self.decoded: list[bytes] = []
        self.decoding = threading.Event()
        self.decoding.set()
        self.now_s = 0.0
        checked = load_settings(settings, {})
        examiner = Examiner(self.reader, checked, decode=self._decode)
        self.cache = ViewCache(examiner, checked.cache, clock=lambda: self.now_s)

    def look(self, upload: bytes = HARBOUR) -> Look:
        return self.cache.look(upload)

    async def begun(self, upload: bytes = HARBOUR) -> Look:
        """Give a look whose picture is decoded."""
        look = self.look(upload)
        await look.begin()
        return look

    async def see(self, upload: bytes = HARBOUR) -> tuple[int, bool]:
        """Give the version of the labels that are answered, and whether from memory."""
        look = self.look(upload)
        try:
            await look.begin()
            return version(await look.view()), look.cached
        finally:
            look.leave()

    def _decode(self, upload: bytes, settings: ImageSettings, size_px: int) -> Picture:
        self.decoded.append(upload)
        self.decoding.wait(PATIENCE_S)
        if upload == BROKEN:
            raise UnreadablePicture("No picture.")
        return Picture(np.zeros((size_px, size_px, 3), np.uint8), (Swatch("#000000", 1.0),))


def version(view: View) -> int:
    return int(view.analysis.style[0].value)


async def one_joined(looks: list[Look]) -> None:
    """Wait until one of them has found another's work."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(look.cached for look in looks):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_the_same_bytes_again_are_neither_decoded_nor_read() -> None:
    desk = Desk()
    first, again = await desk.begun(), await desk.begun()
    view = await first.view()
    assert await again.view() is view
    later = await desk.begun()
    assert await later.view() is view
    assert [look.cached for look in (first, again, later)] == [False, True, True]
    assert [set(look.stages_ms) for look in (first, again, later)] == [{"decode", "analysis"}, set(), set()]
    assert await desk.see(FOREST) == (0, False)
    assert (desk.decoded, desk.reader.reads) == ([HARBOUR, FOREST], 2)


async def test_a_view_is_forgotten_when_it_is_too_old() -> None:
    desk = Desk(cache={"max_age_s": 60})
    await desk.see()
    desk.now_s = 59
    assert await desk.see() == (0, True)
    desk.now_s = 61
    assert await desk.see() == (0, False)
    assert desk.reader.reads == 2


async def test_the_least_recently_used_view_makes_room() -> None:
    desk = Desk(cache={"max_entries": 2})
    for upload in (HARBOUR, FOREST, HARBOUR, DESERT):
        await desk.see(upload)
    assert await desk.see(HARBOUR) == (0, True)
    assert await desk.see(FOREST) == (0, False)
    assert desk.decoded == [HARBOUR, FOREST, DESERT, FOREST]


def test_a_thousand_views_take_as_little_memory_as_the_settings_say() -> None:
    labels = load_labels(DEFAULT_LABELS_FILE).model_dump()
    scores = {name: tuple(LabelScore(label, 0.25) for label in labels[name]["labels"][:3]) for name in CATEGORIES}
    palette = tuple(Swatch(f"#00000{i}", 0.2) for i in range(5))
    reading = Classification(scores, "clip", ModelVersion("clip openai/clip-vit-base-patch32 0123456789ab", 224))
    sent = pickle.dumps(View(reading, palette))
    tracemalloc.start()
    views: list[View] = [pickle.loads(sent) for _ in range(1024)]  # noqa: S301 - our own bytes
    for view in views:
        assert (len(view.analysis.style), len(view.colours)) == (3, 5)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_bytes < 20e6


async def test_without_entries_every_upload_is_read() -> None:
    desk = Desk(cache={"max_entries": 0})
    looks = await asyncio.gather(desk.begun(), desk.begun())
    for look in looks:
        await look.view()
    assert await desk.see() == (0, False)
    assert [look.cached for look in looks] == [False, False]
    assert desk.reader.reads == len(desk.decoded) == 3


async def test_other_labels_end_what_was_remembered() -> None:
    desk = Desk()
    await desk.see()
    desk.reader.version = 1
    assert await desk.see() == (1, False)
    assert await desk.see() == (1, True)


async def test_a_reading_that_labels_overtook_is_not_served_to_who_came_after_the_change() -> None:
    desk = Desk()
    desk.reader.gate.clear()
    before = await desk.begun()
    desk.reader.version = 1
    after = [await desk.begun() for _ in range(5)]
    desk.reader.gate.set()
    assert version(await before.view()) == 0
    assert {version(view) for view in await asyncio.gather(*(look.view() for look in after))} == {1}
    assert sorted(look.cached for look in after) == [False, True, True, True, True]
    assert [set(look.stages_ms) for look in after if not look.cached] == [{"decode", "analysis"}]
    assert desk.reader.reads == 2, "those who came after share the second reading too"
    assert await desk.see() == (1, True)


async def test_a_reading_that_labels_overtook_is_not_remembered_for_later() -> None:
    desk = Desk()
    desk.reader.gate.clear()
    before = await desk.begun()
    desk.reader.version = 1
    desk.reader.gate.set()
    assert version(await before.view()) == 0
    assert await desk.see() == (1, False)


async def test_no_order_of_events_brings_old_labels() -> None:
    """Sixteen callers send three pictures over and over while labels change and some callers leave."""
    desk = Desk(cache={"max_entries": 2})
    chance = np.random.default_rng(5)
    answers: list[tuple[int, int, bool]] = []

    async def caller() -> None:
        for _ in range(60):
            came_at_version = desk.reader.version
            asking = asyncio.create_task(desk.see((HARBOUR, FOREST, DESERT)[chance.integers(3)]))
            if chance.random() < 0.2:
                await asyncio.wait({asking}, timeout=chance.random() / 1000)
                asking.cancel()
                await asyncio.wait({asking})
            if not asking.cancelled():
                answers.append((came_at_version, *(await asking)))

    async def relabel() -> None:
        while True:
            for _ in range(chance.integers(40)):
                await asyncio.sleep(0)
            desk.reader.version += 1
            desk.reader.gate.clear()
            for _ in range(chance.integers(5)):
                await asyncio.sleep(0)
            desk.reader.gate.set()

    relabelling = asyncio.create_task(relabel())
    await asyncio.gather(*(caller() for _ in range(16)))
    relabelling.cancel()
    assert [answer for answer in answers if answer[1] < answer[0]] == []
    assert {cached for *_, cached in answers} == {True, False}


async def test_labels_that_cannot_be_asked_for_are_not_taken_for_the_old_ones() -> None:
    desk = Desk()
    await desk.see()
    desk.reader.lost = True
    with pytest.raises(ClipUnavailable, match="CLIP is gone"):
        await desk.see()
    desk.reader.lost = False
    assert await desk.see() == (0, True)


async def test_uploads_that_come_while_the_first_is_decoded_wait_for_it() -> None:
    desk = Desk()
    desk.decoding.clear()
    looks = [desk.look() for _ in range(3)]
    beginning = [asyncio.create_task(look.begin()) for look in looks]
    await one_joined(looks)
    assert not any(task.done() for task in beginning)
    desk.decoding.set()
    await asyncio.gather(*beginning)
    views = await asyncio.gather(*(look.view() for look in looks))
    assert views[0] is views[1] is views[2]
    assert (desk.decoded, desk.reader.reads) == ([HARBOUR], 1)
    assert sorted(look.cached for look in looks) == [False, True, True]


async def test_the_work_ends_when_the_last_who_waits_has_left() -> None:
    desk = Desk()
    desk.reader.gate.clear()
    first, second = await desk.begun(), await desk.begun()
    waiting = asyncio.create_task(second.view())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    second.leave()
    first.leave()
    await asyncio.wait_for(desk.reader.cancelled.wait(), PATIENCE_S)
    desk.reader.gate.set()
    assert await desk.see() == (0, False)


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_who_leaves_disturbs_nobody(leaver: int) -> None:
    desk = Desk()
    desk.reader.gate.clear()
    looks = [await desk.begun(), await desk.begun()]
    waiting = [asyncio.create_task(look.view()) for look in looks]
    await asyncio.sleep(0)
    waiting[leaver].cancel()
    await asyncio.wait({waiting[leaver]})
    looks[leaver].leave()
    desk.reader.gate.set()
    assert version(await waiting[1 - leaver]) == 0
    assert not desk.reader.cancelled.is_set()
    assert await desk.see() == (0, True)


async def test_who_comes_while_abandoned_work_ends_is_not_drawn_into_it() -> None:
    desk = Desk()
    desk.reader.gate.clear()
    desk.reader.farewell.clear()
    first = await desk.begun()
    first.leave()
    await asyncio.wait_for(desk.reader.cancelled.wait(), PATIENCE_S)
    second = await desk.begun()
    desk.reader.farewell.set()
    await asyncio.wait_for(desk.reader.gone.wait(), PATIENCE_S)
    third = await desk.begun()
    desk.reader.gate.set()
    assert await third.view() is await second.view()
    assert [look.cached for look in (second, third)] == [False, True]
    assert desk.reader.reads == 2


async def test_each_who_waits_has_a_deadline_of_its_own() -> None:
    desk = Desk(limits={"analysis_timeout_s": 0.05})
    desk.reader.gate.clear()
    first, second = await desk.begun(), await desk.begun()
    with pytest.raises(DeadlinePassed, match=r"longer than 0\.05 s"):
        await first.view()
    first.leave()
    desk.reader.gate.set()
    assert version(await second.view()) == 0


async def test_a_decoder_that_hangs_meets_the_deadline_too() -> None:
    desk = Desk(limits={"analysis_timeout_s": 0.05})
    desk.decoding.clear()
    look = desk.look()
    with pytest.raises(DeadlinePassed, match=r"longer than 0\.05 s"):
        await look.begin()
    look.leave()
    desk.decoding.set()


async def test_an_error_goes_to_all_who_wait_and_is_not_remembered() -> None:
    desk = Desk()
    desk.reader.gate.clear()
    desk.reader.error = OutOfMemory("The card is full.")
    looks = [await desk.begun(), await desk.begun()]
    desk.reader.gate.set()
    for look in looks:
        with pytest.raises(OutOfMemory, match="The card is full"):
            await look.view()
    desk.reader.error = None
    assert await desk.see() == (0, False), "though those who failed have not left yet"


async def test_bytes_that_are_no_picture_are_refused_to_all_and_decoded_anew() -> None:
    desk = Desk()
    desk.decoding.clear()
    looks = [desk.look(BROKEN) for _ in range(2)]
    beginning = [asyncio.create_task(look.begin()) for look in looks]
    await one_joined(looks)
    desk.decoding.set()
    for task in beginning:
        with pytest.raises(UnreadablePicture):
            await task
    assert desk.decoded == [BROKEN]
    with pytest.raises(UnreadablePicture):
        await desk.begun(BROKEN)
    assert desk.decoded == [BROKEN, BROKEN]


async def test_a_reading_with_warnings_is_shared_and_not_remembered() -> None:
    desk = Desk()
    desk.reader.warnings = ("The weights are being downloaded: 42 % so far.",)
    desk.reader.gate.clear()
    looks = [await desk.begun(), await desk.begun()]
    desk.reader.gate.set()
    assert {(await look.view()).reading.warnings for look in looks} == {desk.reader.warnings}
    assert desk.reader.reads == 1
    desk.reader.warnings = ("The weights are being downloaded: 43 % so far.",)
    later = await desk.begun()
    assert ((await later.view()).reading.warnings, later.cached) == (desk.reader.warnings, False)


async def test_shared_work_belongs_to_no_request() -> None:
    """Serve cancels the calls made in a request's context when its caller leaves, whoever else waits for them."""
    desk = Desk()
    REQUEST.set("of one caller")
    await desk.see()
    await desk.see()
    assert desk.reader.seen_requests == {"none"}
