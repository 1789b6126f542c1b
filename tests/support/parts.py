"""Stand-ins for the two deployments and for where CLIP's weights come from, for tests of what lies in front of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from deployments.clip.weights import Progress, WeightsUnavailable
from deployments.types import (
    CATEGORIES,
    AnalyzerName,
    Classification,
    ComponentStatus,
    HostModels,
    LabelScore,
    ModelVersion,
    Pixels,
    PromptComplete,
    PromptDelta,
    PromptEvent,
    PromptRequest,
    Scores,
    Tag,
    TargetFacts,
    Wanted,
)

ANALYSIS = {name: tuple(LabelScore(f"{name} {i}", 0.5 - i / 10) for i in range(3)) for name in CATEGORIES}

TOKENS = ("A ", "quiet ", "harbour.")


class FakeReader:
    """Answers every picture alike, by the version that held when it came, or raises `error`; keeps what it was sent."""

    def __init__(self) -> None:
        self.size_px = 224
        self.version = "first"
        self.analyzer: AnalyzerName = "clip"
        self.warnings: tuple[str, ...] = ()
        self.scores: Scores = ANALYSIS
        self.tags: tuple[Tag, ...] = ()
        self.error: BaseException | None = None
        self.hang = False
        self.go_on = asyncio.Event()
        """Ends a hanging call."""
        self.cut_short = asyncio.Event()
        self.pictures: list[Pixels] = []
        self.wanted: list[Wanted] = []
        self.status_asked = 0
        self._came = asyncio.Event()
        self.current_status = ComponentStatus("ready", "clip", facts={"device": "cpu"})

    async def classify(self, picture: Pixels, wanted: Wanted) -> Classification:
        self.pictures.append(picture)
        self.wanted.append(wanted)
        self._came.set()
        version = await self.model_version()
        try:
            if self.hang:
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.cut_short.set()
            raise
        if self.error is not None:
            raise self.error
        return Classification(self.scores, self.analyzer, version, self.warnings, self.tags)

    async def busy_with(self, count: int) -> None:
        """Wait until so many pictures have come."""
        while len(self.pictures) < count:
            self._came.clear()
            await self._came.wait()

    async def model_version(self) -> ModelVersion:
        return ModelVersion(self.version, self.size_px)

    async def status(self) -> ComponentStatus:
        self.status_asked += 1
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.current_status


class FakeWriter:
    """Writes `events`, then raises `error` if there is one; keeps what it was asked, and whether it was cut short."""

    def __init__(self) -> None:
        self.events: Sequence[PromptEvent] = [*map(PromptDelta, TOKENS), PromptComplete("".join(TOKENS), "ollama")]
        self.error: BaseException | None = None
        self.requests: list[PromptRequest] = []
        self.hang = False
        self.cut_short = asyncio.Event()
        self._came = asyncio.Event()
        self.current_status = ComponentStatus("ready", "ollama")
        self.hosts: tuple[HostModels, ...] = ()
        self.looks: tuple[str, ...] = ()
        self.known_targets = tuple(
            TargetFacts(name, name.title(), "Help.", shape, ("en",), negative=name == "sdxl", weights=name == "sdxl")
            for name, shape in (("prose", "prose"), ("sdxl", "phrases"))
        )
        self.targets_asked = 0

    async def write(self, request: PromptRequest) -> AsyncGenerator[PromptEvent, None]:
        self.requests.append(request)
        self._came.set()
        try:
            for event in self.events:
                yield event
            if self.hang:
                await asyncio.Event().wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.cut_short.set()
            raise
        if self.error is not None:
            raise self.error

    async def busy_with(self, count: int) -> None:
        """Wait until so many requests have come."""
        while len(self.requests) < count:
            self._came.clear()
            await self._came.wait()

    async def status(self) -> ComponentStatus:
        return self.current_status

    async def looking(self) -> tuple[str, ...]:
        return self.looks

    async def models(self) -> tuple[HostModels, ...]:
        return self.hosts

    async def targets(self) -> tuple[TargetFacts, ...]:
        self.targets_asked += 1
        return self.known_targets

    async def unload(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.error is not None:
            raise self.error
        return ("mistral:latest",), ("http://a:11434",)


class FakeWeights:
    """`find` and `fetch` of weights that are on disk from the start, or arrive when `arrived` is set."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.broken: WeightsUnavailable | None = None
        """What looking on the disk comes to."""
        self.failure: WeightsUnavailable | None = None
        """What fetching comes to."""
        self.percent: int | None = None
        """How much arrives before the rest waits."""
        self.arrived = threading.Event()

    def find(self, model: str) -> Path | None:
        if self.broken is not None:
            raise self.broken
        return self.folder

    def fetch(self, model: str, on_progress: Progress) -> Path:
        if self.failure is not None:
            raise self.failure
        if self.percent is not None:
            on_progress(self.percent, 100)
        self.arrived.wait()
        return Path("/weights")
