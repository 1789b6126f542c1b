"""Identical uploads are decoded and classified once, for as long as the labels are the same."""

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
from deployments.types import (
    CATEGORIES,
    Classification,
    ComponentStatus,
    LabelScore,
    ModelVersion,
    Pixels,
    Swatch,
    Wanted,
)
from serve_app.analysis_cache import Analysis, AnalysisCache, Lookup
from serve_app.pictures.images import Picture
from serve_app.settings import load_settings

HARBOUR, FOREST, DESERT, BROKEN = b"a harbour", b"a forest", b"a desert", b"broken"
PATIENCE_S = 10

REQUEST = ContextVar("REQUEST", default="none")


class LabelledClassifier:
    """Answers while its gate is open, with the labels that hold when the picture comes: version 0, 1, 2, …"""

    def __init__(self) -> None:
        self.version = 0
        self.warnings: tuple[str, ...] = ()
        self.error: Exception | None = None
        self.lost = False
        self.gate, self.farewell = asyncio.Event(), asyncio.Event()
        """Open: pictures are answered; a call that was cancelled ends."""
        self.gate.set()
        self.farewell.set()
        self.calls = self.questions = 0
        self.cancelled, self.gone = asyncio.Event(), asyncio.Event()
        self.seen_requests: set[str] = set()

    async def classify(self, picture: Pixels, wanted: Wanted) -> Classification:
        self.calls += 1
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
        self.questions += 1
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
        self.clip = LabelledClassifier()
        self.decoded: list[bytes] = []
        self.decoding = threading.Event()
        self.decoding.set()
        self.now_s = 0.0
        self.cache = AnalysisCache(self.clip, load_settings(settings, {}), clock=lambda: self.now_s, decoder=self)

    def relabel(self, seconds_ago: float = 2) -> None:
        self.clip.version += 1
        self.now_s += seconds_ago

    async def begun(self, upload: bytes = HARBOUR, jpeg_px: int = 0) -> Lookup:
        """Give a lookup whose picture is decoded."""
        lookup = Lookup(self.cache, upload, jpeg_px=jpeg_px)
        await lookup.begin()
        return lookup

    async def see(self, upload: bytes = HARBOUR) -> tuple[int, bool]:
        """Give the version of the labels that are answered, and whether from memory."""
        lookup = Lookup(self.cache, upload)
        try:
            await lookup.begin()
            return version(await lookup.analysis()), lookup.cached
        finally:
            lookup.leave()

    stuck_because = ""

    async def decode(self, upload: bytes, input_size_px: int, jpeg_px: int = 0) -> Picture:
        self.decoded.append(upload)
        await asyncio.to_thread(self.decoding.wait, PATIENCE_S)
        if upload == BROKEN:
            raise UnreadablePicture("No picture.")
        return Picture(
            np.zeros((input_size_px, input_size_px, 3), np.uint8),
            (Swatch("#000000", 1.0),),
            "1:1",
            b"%d px" % jpeg_px if jpeg_px else b"",
        )


def version(analysis: Analysis) -> int:
    return int(analysis.body.style[0].value)


async def one_joined(lookups: list[Lookup]) -> None:
    """Wait until one of them has found another's work."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(lookup.cached for lookup in lookups):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_the_same_bytes_again_are_neither_decoded_nor_classified() -> None:
    desk = Desk()
    first, again = await desk.begun(), await desk.begun()
    analysis = await first.analysis()
    assert await again.analysis() is analysis
    later = await desk.begun()
    assert await later.analysis() is analysis
    assert [lookup.cached for lookup in (first, again, later)] == [False, True, True]
    assert [set(lookup.stages_ms) for lookup in (first, again, later)] == [{"decode", "analysis"}, set(), set()]
    assert await desk.see(FOREST) == (0, False)
    assert (desk.decoded, desk.clip.calls) == ([HARBOUR, FOREST], 2)


async def test_a_jpeg_is_made_with_the_analysis_or_anew_where_that_is_known_and_for_nobody_who_wants_none() -> None:
    desk = Desk()
    plain, wanting, first = await desk.begun(), await desk.begun(jpeg_px=768), await desk.begun(FOREST, jpeg_px=768)
    assert [await lookup.jpeg() for lookup in (plain, wanting, first)] == [b"", b"768 px", b"768 px"]
    assert desk.decoded == [HARBOUR, FOREST, HARBOUR]
    again, none = await desk.begun(FOREST, jpeg_px=768), await desk.begun(FOREST)
    assert [await again.jpeg(), await none.jpeg(), again.cached] == [b"768 px", b"", True]
    assert (desk.decoded, desk.clip.calls) == ([HARBOUR, FOREST, HARBOUR, FOREST], 2)


@pytest.mark.parametrize("size_bytes", [10, 1_000_000])
async def test_uploads_of_any_size_are_told_apart(size_bytes: int) -> None:
    desk = Desk()
    one, other = b"1" * size_bytes, b"1" * (size_bytes - 1) + b"2"
    assert [(await desk.see(upload))[1] for upload in (one, other, one, other)] == [False, False, True, True]


async def test_an_analysis_is_forgotten_when_it_is_too_old_or_used_the_least() -> None:
    desk = Desk(cache={"max_age_s": 60, "max_entries": 2})
    for now_s, upload, cached in [
        *((0, HARBOUR, False), (59, HARBOUR, True), (61, HARBOUR, False)),
        *((61, FOREST, False), (61, HARBOUR, True), (61, DESERT, False), (61, HARBOUR, True), (61, FOREST, False)),
    ]:
        desk.now_s = now_s
        assert await desk.see(upload) == (0, cached)
    assert desk.decoded == [HARBOUR, HARBOUR, FOREST, DESERT, FOREST]


def test_a_thousand_analyses_take_as_little_memory_as_the_settings_say() -> None:
    labels = load_labels(DEFAULT_LABELS_FILE).model_dump()
    scores = {name: tuple(LabelScore(label, 0.25) for label in labels[name]["labels"][:3]) for name in CATEGORIES}
    palette = tuple(Swatch(f"#00000{i}", 0.2) for i in range(5))
    seen = Classification(scores, "clip", ModelVersion("clip openai/clip-vit-base-patch32 0123456789ab", 224))
    sent = pickle.dumps(Analysis(seen, palette, "3:2"))
    tracemalloc.start()
    analyses: list[Analysis] = [pickle.loads(sent) for _ in range(1024)]  # noqa: S301 - our own bytes
    for analysis in analyses:
        assert (len(analysis.body.style), len(analysis.colours)) == (3, 5)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken_bytes < 20e6


async def test_without_entries_every_upload_is_analysed() -> None:
    desk = Desk(cache={"max_entries": 0})
    lookups = await asyncio.gather(desk.begun(), desk.begun())
    for lookup in lookups:
        await lookup.analysis()
    assert await desk.see() == (0, False)
    assert [lookup.cached for lookup in lookups] == [False, False]
    assert desk.clip.calls == len(desk.decoded) == 3


async def test_clip_is_asked_which_labels_hold_at_most_once_a_second() -> None:
    desk = Desk()
    await desk.see()
    desk.clip.questions = 0
    for tenth in range(50):
        desk.now_s = tenth / 10
        assert await asyncio.gather(*(desk.see() for _ in range(5))) == [(0, True)] * 5
    assert desk.clip.questions <= 5
    assert desk.clip.calls == 1


async def test_other_labels_end_what_was_remembered_within_a_second() -> None:
    desk = Desk()
    await desk.see()
    desk.relabel(seconds_ago=0.9)
    assert await desk.see() == (0, True)
    desk.now_s += 0.2
    assert await desk.see() == (1, False)
    assert await desk.see() == (1, True)


async def test_an_analysis_that_labels_overtook_is_not_for_who_came_after_the_change() -> None:
    desk = Desk()
    desk.clip.gate.clear()
    before = await desk.begun()
    desk.relabel()
    after = [await desk.begun() for _ in range(5)]
    desk.clip.gate.set()
    assert version(await before.analysis()) == 0
    assert {version(seen) for seen in await asyncio.gather(*(lookup.analysis() for lookup in after))} == {1}
    assert sorted(lookup.cached for lookup in after) == [False, True, True, True, True]
    assert [set(lookup.stages_ms) for lookup in after if not lookup.cached] == [{"decode", "analysis"}]
    assert desk.clip.calls == 2, "those who came after share the second one too"
    assert await desk.see() == (1, True)


async def test_no_order_of_events_brings_labels_that_were_replaced_long_ago() -> None:
    """Sixteen callers send three pictures over and over while labels change and some callers leave."""
    desk = Desk(cache={"max_entries": 2})
    chance = np.random.default_rng(5)
    changed_s = [0.0]
    answers: list[tuple[int, int, bool]] = []

    async def caller() -> None:
        for _ in range(60):
            oldest_allowed = sum(at_s < desk.now_s - 1 for at_s in changed_s[1:])
            asking = asyncio.create_task(desk.see((HARBOUR, FOREST, DESERT)[chance.integers(3)]))
            if chance.random() < 0.2:
                await asyncio.wait({asking}, timeout=chance.random() / 1000)
                asking.cancel()
                await asyncio.wait({asking})
            if not asking.cancelled():
                answers.append((oldest_allowed, *(await asking)))

    async def relabel() -> None:
        while True:
            for _ in range(chance.integers(40)):
                desk.now_s += 0.1
                await asyncio.sleep(0)
            desk.clip.version += 1
            changed_s.append(desk.now_s)
            desk.clip.gate.clear()
            for _ in range(chance.integers(5)):
                await asyncio.sleep(0)
            desk.clip.gate.set()

    relabelling = asyncio.create_task(relabel())
    await asyncio.gather(*(caller() for _ in range(16)))
    relabelling.cancel()
    assert [answer for answer in answers if answer[1] < answer[0]] == []
    assert {cached for *_, cached in answers} == {True, False}


async def test_labels_that_cannot_be_asked_for_are_not_taken_for_the_old_ones() -> None:
    desk = Desk()
    await desk.see()
    desk.now_s, desk.clip.lost = 2, True
    for outcome in await asyncio.gather(desk.see(), desk.see(), return_exceptions=True):
        assert isinstance(outcome, ClipUnavailable)
    desk.clip.lost = False
    assert await desk.see() == (0, True)


@pytest.mark.parametrize("upload", [HARBOUR, BROKEN])
async def test_uploads_that_come_while_the_first_is_decoded_wait_for_it(upload: bytes) -> None:
    desk = Desk()
    desk.decoding.clear()
    lookups = [Lookup(desk.cache, upload) for _ in range(3)]
    beginning = [asyncio.create_task(lookup.begin()) for lookup in lookups]
    await one_joined(lookups)
    assert not any(task.done() for task in beginning)
    desk.decoding.set()
    outcomes = await asyncio.gather(*beginning, return_exceptions=True)
    assert desk.decoded == [upload]
    if upload == BROKEN:
        assert {type(outcome) for outcome in outcomes} == {UnreadablePicture}
        with pytest.raises(UnreadablePicture):
            await desk.begun(BROKEN)
        assert desk.decoded == [BROKEN, BROKEN], "a refusal is not remembered"
    else:
        assert len({id(await lookup.analysis()) for lookup in lookups}) == desk.clip.calls == 1
        assert sorted(lookup.cached for lookup in lookups) == [False, True, True]


async def test_the_work_ends_when_the_last_who_waits_has_left() -> None:
    desk = Desk()
    desk.clip.gate.clear()
    first, second = await desk.begun(), await desk.begun()
    waiting = asyncio.create_task(second.analysis())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    second.leave()
    first.leave()
    await asyncio.wait_for(desk.clip.cancelled.wait(), PATIENCE_S)
    desk.clip.gate.set()
    assert await desk.see() == (0, False)


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_who_leaves_disturbs_nobody(leaver: int) -> None:
    desk = Desk()
    desk.clip.gate.clear()
    lookups = [await desk.begun(), await desk.begun()]
    waiting = [asyncio.create_task(lookup.analysis()) for lookup in lookups]
    await asyncio.sleep(0)
    waiting[leaver].cancel()
    await asyncio.wait({waiting[leaver]})
    lookups[leaver].leave()
    desk.clip.gate.set()
    assert version(await waiting[1 - leaver]) == 0
    assert not desk.clip.cancelled.is_set()
    assert await desk.see() == (0, True)


async def test_who_comes_while_abandoned_work_ends_is_not_drawn_into_it() -> None:
    desk = Desk()
    desk.clip.gate.clear()
    desk.clip.farewell.clear()
    first = await desk.begun()
    first.leave()
    await asyncio.wait_for(desk.clip.cancelled.wait(), PATIENCE_S)
    second = await desk.begun()
    desk.clip.farewell.set()
    await asyncio.wait_for(desk.clip.gone.wait(), PATIENCE_S)
    third = await desk.begun()
    desk.clip.gate.set()
    assert await third.analysis() is await second.analysis()
    assert [lookup.cached for lookup in (second, third)] == [False, True]
    assert desk.clip.calls == 2


async def test_each_who_waits_has_a_deadline_of_its_own() -> None:
    desk = Desk(limits={"analysis_timeout_s": 1})
    desk.clip.gate.clear()
    first = await desk.begun()
    with pytest.raises(DeadlinePassed, match="longer than 1 s"):
        await first.analysis()
    second = await desk.begun()
    first.leave()
    desk.clip.gate.set()
    assert version(await second.analysis()) == 0
    assert desk.clip.calls == 1


async def test_decoding_and_classifying_have_one_deadline_together() -> None:
    desk = Desk(limits={"analysis_timeout_s": 2})
    desk.clip.gate.clear()
    lookup = await desk.begun()
    await asyncio.sleep(2)
    async with asyncio.timeout(1):
        with pytest.raises(DeadlinePassed):
            await lookup.analysis()
    lookup.leave()


async def test_a_decoder_that_hangs_meets_the_deadline_too() -> None:
    desk = Desk(limits={"analysis_timeout_s": 0.05})
    desk.decoding.clear()
    lookup = Lookup(desk.cache, HARBOUR)
    with pytest.raises(DeadlinePassed, match=r"longer than 0\.05 s"):
        await lookup.begin()
    lookup.leave()
    desk.decoding.set()


async def test_an_error_goes_to_all_who_wait_and_is_not_remembered() -> None:
    desk = Desk()
    desk.clip.gate.clear()
    desk.clip.error = OutOfMemory("The card is full.")
    lookups = [await desk.begun(), await desk.begun()]
    desk.clip.gate.set()
    for lookup in lookups:
        with pytest.raises(OutOfMemory, match="The card is full"):
            await lookup.analysis()
    desk.clip.error = None
    assert await desk.see() == (0, False), "though those who failed have not left yet"


async def test_an_analysis_with_warnings_is_shared_and_not_remembered() -> None:
    desk = Desk()
    desk.clip.warnings = ("The weights are being downloaded: 42 % so far.",)
    desk.clip.gate.clear()
    lookups = [await desk.begun(), await desk.begun()]
    desk.clip.gate.set()
    assert {(await lookup.analysis()).classification.warnings for lookup in lookups} == {desk.clip.warnings}
    assert desk.clip.calls == 1
    desk.clip.warnings = ("The weights are being downloaded: 43 % so far.",)
    later = await desk.begun()
    assert ((await later.analysis()).classification.warnings, later.cached) == (desk.clip.warnings, False)


async def test_shared_work_belongs_to_no_request() -> None:
    """Serve cancels the calls made in a request's context when its caller leaves, whoever else waits for them."""
    desk = Desk()
    REQUEST.set("of one caller")
    await desk.see()
    await desk.see()
    assert desk.clip.seen_requests == {"none"}
