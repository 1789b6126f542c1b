"""From an upload to its analysis: decoded, classified and remembered, once for all who send the same bytes."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping
from contextlib import ExitStack, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from cachetools import TTLCache

from deployments.errors import DeadlinePassed
from deployments.types import (
    CATEGORIES,
    NOTHING_MORE,
    Classification,
    ComponentStatus,
    ModelVersion,
    Pixels,
    Swatch,
    Wanted,
)
from serve_app.pictures.decoding import Decoder
from serve_app.pictures.images import Picture
from serve_app.schemas import AnalysisBody, Colour, ScoredTag
from serve_app.settings import Settings
from serve_app.shared import Shared

VERSION_HOLDS_S = 1.0
"""How long the CLIP deployment's word on its model and labels is taken for granted: see docs/api.md."""

SCORE_DECIMALS = 4
"""A tenth of the closest that two correct computations of a score agree to."""

HASHED_AT_ONCE_BYTES = 2**19
"""Hashed in a quarter of a millisecond, without waiting for a thread; 20 MB would hold up every other request."""


class PictureDecoder(Protocol):
    """What makes pixels of uploads: `serve_app.pictures.decoding.Decoder`."""

    async def decode(self, upload: bytes, input_size_px: int, jpeg_px: int = 0) -> Picture:
        """Decode an upload; `jpeg_px` wants a JPEG of it too."""
        ...

    @property
    def stuck_because(self) -> str:
        """Why it cannot; empty while it can."""
        ...


class Classifier(Protocol):
    """The picture-classifying deployment, as the ingress sees it."""

    async def classify(self, picture: Pixels, wanted: Wanted) -> Classification:
        """Classify one picture."""
        ...

    async def model_version(self) -> ModelVersion:
        """Tell which vision model and label set answer now."""
        ...

    async def status(self) -> ComponentStatus:
        """Tell how the deployment stands now."""
        ...


@dataclass(frozen=True)
class Analysis:
    """What the model saw in a picture, and what was measured. What answers say of it is made once and kept."""

    classification: Classification
    palette: tuple[Swatch, ...]
    aspect_ratio: str

    @cached_property
    def body(self) -> AnalysisBody:
        """The best labels of each category, scores rounded."""
        return AnalysisBody.model_validate(
            {
                category: [{"value": label.value, "score": round(label.score, SCORE_DECIMALS)} for label in labels]
                for category, labels in (dict.fromkeys(CATEGORIES, ()) | dict(self.classification.scores)).items()
            }
        )

    @cached_property
    def tags(self) -> list[ScoredTag]:
        """What is seen in it, scores rounded."""
        return [
            ScoredTag(value=tag.value, group=tag.group, score=round(tag.score, SCORE_DECIMALS))
            for tag in self.classification.tags
        ]

    @cached_property
    def colours(self) -> list[Colour]:
        """The palette."""
        return [Colour(hex=swatch.hex, share=swatch.share) for swatch in self.palette]


class AnalysisCache:
    """Analyses by the bytes they are of, within bounds of number and age; those with warnings are not kept.

    Nobody is answered with labels that were replaced more than `VERSION_HOLDS_S` before the request came: whatever was
    not made for the caller is compared with the version that a question asked since then was answered with. Every
    classification is such an answer.

    Args:
        classifier: the CLIP deployment.
        settings: the whole service's.
        clock: seconds, monotonic.
        decoder: decodes uploads; one by these settings where none is given.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        clock: Callable[[], float] = time.perf_counter,
        decoder: PictureDecoder | None = None,
    ) -> None:
        self.clock = clock
        self._classifier = classifier
        self._decoder = decoder or Decoder(settings)
        self._settings = settings
        self._remembered: TTLCache[Hashable, Analysis] = TTLCache(
            settings.cache.max_entries, settings.cache.max_age_s, timer=clock
        )
        self._in_flight: dict[Hashable, _Flight] = {}
        self._version = Shared(self._ask_version, clock)

    @property
    def stuck_because(self) -> str:
        """Why this replica cannot decode pictures; empty while it can."""
        return self._decoder.stuck_because

    async def name_of(self, upload: bytes, caller: str) -> str:
        """Give what the same bytes of the same caller are known by; empty where nothing is remembered."""
        if not self._settings.cache.max_entries:
            return ""
        # In no thread that decodes: what is remembered is found however busy those are.
        at_once = len(upload) <= HASHED_AT_ONCE_BYTES
        return _digest(upload, caller) if at_once else await asyncio.to_thread(_digest, upload, caller)

    async def find(
        self, upload: bytes, picture: str, wanted: Wanted, came_s: float, jpeg_px: int
    ) -> Analysis | _Flight:
        """Give the analysis of these bytes, known as `picture`, if one is remembered and holds, or what makes it.

        A JPEG of `jpeg_px`, if that is not 0, is made with it and not remembered.
        """
        key: Hashable = (picture, wanted) if picture else object()
        analysis = self._remembered.get(key)
        if analysis is not None and await self.holds(analysis, came_s):
            return analysis
        flight = self._in_flight.get(key)
        if flight is None or not flight.waiting:
            flight = self._in_flight[key] = _Flight(functools.partial(self._analyse, key, upload, wanted, jpeg_px))
        return flight

    async def jpeg_of(self, upload: bytes, analysis: Analysis, jpeg_px: int) -> bytes:
        """Make the JPEG of what was analysed before: it is the one that would have been made with the analysis."""
        input_size_px = analysis.classification.model_version.input_size_px
        return (await self._decoder.decode(upload, input_size_px, jpeg_px)).jpeg

    async def holds(self, analysis: Analysis, came_s: float) -> bool:
        """Tell whether an analysis may answer a request that came at `came_s`."""
        return analysis.classification.model_version == await self._version.get(came_s - VERSION_HOLDS_S)

    def deadline_s(self) -> float:
        """Give the event loop's time by which an analysis that is begun now must be done."""
        return asyncio.get_running_loop().time() + self._settings.limits.analysis_timeout_s

    @asynccontextmanager
    async def until(self, deadline_s: float) -> AsyncIterator[None]:
        """Hold what is awaited inside to that time; raises `DeadlinePassed`."""
        limit_s = self._settings.limits.analysis_timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                yield
        except TimeoutError as error:
            raise DeadlinePassed(
                f"The analysis took longer than {limit_s:g} s: try again, or raise limits.analysis_timeout_s."
            ) from error

    async def _analyse(self, key: Hashable, upload: bytes, wanted: Wanted, jpeg_px: int, flight: _Flight) -> Analysis:
        try:
            started_s = self.clock()
            # A picture of the size that another model wanted is classified all the same.
            version = self._version.latest or await self._version.get(started_s)
            picture = await self._decoder.decode(upload, version.input_size_px, jpeg_px)
            flight.jpeg = picture.jpeg
            decoded_s = self.clock()
            flight.stages_ms["decode"] = (decoded_s - started_s) * 1000
            flight.settled.set()
            classification = await self._classifier.classify(picture.pixels, wanted)
            flight.stages_ms["analysis"] = (self.clock() - decoded_s) * 1000
            self._version.learn(classification.model_version, decoded_s)
            analysis = Analysis(classification, picture.palette, picture.aspect_ratio)
            if self._settings.cache.max_entries and not classification.warnings:
                self._remembered[key] = analysis
            return analysis
        finally:
            flight.settled.set()
            if self._in_flight.get(key) is flight:
                del self._in_flight[key]

    async def _ask_version(self) -> ModelVersion:
        async with self.until(self.deadline_s()):
            return await self._classifier.model_version()


class _Flight:
    """The work on one upload, begun at once; when the last of those who wait has left it is cancelled."""

    def __init__(self, analyse: Callable[[_Flight], Coroutine[Any, Any, Analysis]]) -> None:
        self.waiting = 0
        self.jpeg = b""
        self.stages_ms: dict[str, float] = {}
        self.settled = asyncio.Event()
        """Whether it is a picture is known."""
        # Of no request's context: Serve cancels the calls that were made in it when its caller leaves.
        self.work = asyncio.create_task(analyse(self), context=Context())
        # Who has left does not ask what came of it, and asyncio would complain.
        self.work.add_done_callback(lambda work: work.cancelled() or work.exception())

    def leave(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.work.cancel()

    async def decoded(self) -> None:
        await self.settled.wait()
        if "decode" not in self.stages_ms:
            self.work.result()


class Lookup:
    """One caller's way to the analysis of an upload: remembered, being made for others, or made for this caller.

    First `begin`, then `analysis`, both within one `limits.analysis_timeout_s` from now, then perhaps `jpeg`; `leave`
    however it ends.

    Args:
        cache: what is remembered and being made.
        upload: the file's bytes.
        caller: whose it is.
        jpeg_px: the longest side of the JPEG that will be wanted; 0: none will.
        wanted: what is to be read in it besides the label file's categories.
    """

    _found: Analysis | _Flight

    def __init__(
        self,
        cache: AnalysisCache,
        upload: bytes,
        caller: str = "",
        jpeg_px: int = 0,
        wanted: Wanted = NOTHING_MORE,
    ) -> None:
        self._cache = cache
        self._caller = caller
        self._upload = upload
        self._jpeg_px = jpeg_px
        self._wanted = wanted
        self._jpeg = b""
        self._came_s = cache.clock()
        self._deadline_s = cache.deadline_s()
        self.picture = ""
        """What the same upload of the same caller is known by, once it was begun; empty if nothing is remembered."""
        self._place = ExitStack()
        self.cached = False
        """Whether the analysis was not made for this caller."""
        self.stages_ms: Mapping[str, float] = {}
        """Milliseconds of the stages that ran for this caller, once there is an analysis: `decode` and `analysis`."""

    async def begin(self) -> None:
        """Return when the upload is known to be a picture.

        Raises:
            UnreadablePicture, FormatNotAccepted, TooManyPixels: it is none that we take.
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`.
            AnalyzerError: whatever kept the CLIP deployment from naming its version.
        """
        async with self._cache.until(self._deadline_s):
            self.picture = await self._cache.name_of(self._upload, self._caller)
            await self._find()

    async def analysis(self) -> Analysis:
        """Give the analysis.

        Raises:
            DeadlinePassed: it took longer than `limits.analysis_timeout_s`, however long others have waited for it.
            AnalyzerError: whatever kept the CLIP deployment from answering.
        """
        async with self._cache.until(self._deadline_s):
            while isinstance(self._found, _Flight):
                analysis = await asyncio.shield(self._found.work)
                if not self.cached:
                    self.stages_ms = self._found.stages_ms
                if not self.cached or await self._cache.holds(analysis, self._came_s):
                    self._jpeg = self._found.jpeg if self._jpeg_px else b""
                    self._found = analysis
                else:
                    self.leave()
                    await self._find()
        if self._jpeg or not self._jpeg_px:
            self._upload = b""  # A prompt takes seconds, an upload up to 20 MB.
        return self._found

    async def jpeg(self) -> bytes:
        """Give the JPEG, once there is an analysis; it was made with that, or is made now. Empty if none was wanted.

        Raises:
            AnalyzerError: as `begin`, of a picture that is decoded anew.
        """
        analysis, jpeg, upload = await self.analysis(), self._jpeg, self._upload
        self._jpeg = self._upload = b""
        if jpeg or not self._jpeg_px:
            return jpeg
        async with self._cache.until(self._cache.deadline_s()):
            return await self._cache.jpeg_of(upload, analysis, self._jpeg_px)

    def leave(self) -> None:
        """Wait no longer; the work that nobody waits for any more ends."""
        self._place.close()

    async def _find(self) -> None:
        self._found = await self._cache.find(self._upload, self.picture, self._wanted, self._came_s, self._jpeg_px)
        self.cached = isinstance(self._found, Analysis) or self._found.waiting > 0
        if isinstance(self._found, _Flight):
            self._found.waiting += 1
            self._place.callback(self._found.leave)
            await self._found.decoded()


def _digest(upload: bytes, caller: str) -> str:
    return hashlib.sha256(hashlib.sha256(upload).digest() + caller.encode()).hexdigest()
