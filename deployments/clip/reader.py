"""Reads pictures with the best vision model there is: CLIP once its weights are loaded, until then the stand-in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from deployments.clip.batcher import Batcher
from deployments.clip.labels import LabelSet
from deployments.clip.scorer import score
from deployments.clip.settings import ClipSettings, ClipUserConfig, parse_user_config
from deployments.clip.vision import Pixels, VisionModel
from deployments.clip.weights import WeightsUnavailable
from deployments.errors import AnalyzerError, ClipUnavailable, OutOfMemory, SettingsError
from deployments.messages import ComponentStatus, Reading

DEFAULT_INPUT_SIZE_PX = 224
"""What most of the CLIP family looks at."""

CLIP_RETRY_AFTER_S = 30
"""What a caller is told while CLIP is required and not there: loading takes seconds, a download minutes."""

logger = logging.getLogger("image_analyzer.clip")


class Shortfall(NamedTuple):
    """Why CLIP does not answer, and what to do about it: two sentences."""

    reason: str
    remedy: str


class WeightsSource(Protocol):
    """Where CLIP's weights come from; `WeightsFetcher` is the real one."""

    model: str
    failure: WeightsUnavailable | None
    """Why the last attempt failed; None before the first has, and as soon as bytes arrive again."""

    @property
    def percent(self) -> int | None:
        """How much has arrived."""
        ...

    def find(self) -> Path | None:
        """Give the folder of a complete local copy, if there is one; blocking, no network."""
        ...

    async def run(self) -> Path:
        """Fetch the weights, however many attempts it takes."""
        ...


class _Active(NamedTuple):
    """A model, a label set and what the model prepared for it: swapped as one, so no batch sees a mixture."""

    model: VisionModel
    labels: LabelSet
    prepared: Any


class PictureReader:
    """The whole of the CLIP deployment but Ray.

    Args:
        settings: see `ClipSettings`.
        labels: the label file's content, used until `reconfigure` brings another set.
        weights: where CLIP's weights come from.
        load: from a folder of weights to a model; blocking.
        fallback: answers while CLIP cannot; without one such requests raise `ClipUnavailable`.
    """

    def __init__(
        self,
        settings: ClipSettings,
        labels: LabelSet,
        *,
        weights: WeightsSource,
        load: Callable[[Path], VisionModel],
        fallback: VisionModel | None,
    ) -> None:
        self._settings = settings
        self._default_labels = labels
        self._labels = labels
        self._weights = weights
        self._load = load
        self._fallback = fallback
        self._active: _Active | None = None
        self._failure: Shortfall | None = None
        self._taking_over: asyncio.Task[None] | None = None
        self._swap = asyncio.Lock()
        self._configured = False
        self._refusal = ""
        self._answered_since_check = False
        # One worker: the model sees one call at a time, and thread-local torch settings hold.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batcher = Batcher[Pixels, Reading](
            self._read_batch,
            executor=self._model_thread,
            max_batch_size=ClipUserConfig().max_batch_size,
            max_waiting=settings.max_waiting,
            retry_after_s=settings.retry_after_s,
        )

    async def start(self) -> None:
        """Load CLIP if its weights are on disk; otherwise start fetching them and let the fallback answer."""
        if self._fallback is not None:
            await self._activate(self._fallback)
        try:
            folder = await asyncio.to_thread(self._weights.find)
        except WeightsUnavailable as error:
            self._failure = Shortfall(error.sentence, error.remedy)
            return
        if folder is not None:
            await self._take_over(folder)
        else:
            self._taking_over = asyncio.create_task(self._fetch_and_take_over())

    @property
    def input_size_px(self) -> int:
        """The edge that the active model wants pictures at; the fallback's usual one while there is none."""
        return DEFAULT_INPUT_SIZE_PX if self._active is None else self._active.model.input_size_px

    async def read(self, picture: Pixels) -> Reading:
        """Analyse one picture, together with whatever others wait.

        Raises:
            ClipUnavailable: CLIP is required and not loaded; the sentence says why and what to do.
            QueueFull: too many pictures wait.
            OutOfMemory: the device has no room even for this picture alone.
            ShuttingDown: the replica stops.
        """
        if self._active is None:
            shortfall = self._shortfall()
            raise ClipUnavailable(f"{shortfall.reason} {shortfall.remedy}", retry_after_s=CLIP_RETRY_AFTER_S)
        return await self._batcher.submit(picture)

    async def reconfigure(self, content: Mapping[str, Any]) -> None:
        """Take a new batch size and label set; what is being read goes on with the old ones.

        Once serving, a wrong `content` is refused: everything stays as it was, and `status` tells. Raising then would
        have Serve replace the replica by one that cannot start (seen on Ray 2.60: 503 until the config is mended).

        Raises:
            SettingsError: the very first `content` is wrong.
        """
        try:
            config = parse_user_config(content)
        except SettingsError as error:
            if not self._configured:
                raise
            self._refusal = str(error)
            logger.error("Refused, and all stays as it was: %s", error)
            return
        self._configured = True
        self._refusal = ""
        labels = config.labels or self._default_labels
        self._batcher.max_batch_size = config.max_batch_size
        async with self._swap:
            if labels.version == self._labels.version:
                return
            if self._active is not None:
                self._active = await self._prepare(self._active.model, labels)
            self._labels = labels
        logger.info("Labels are now version %s.", labels.version)

    async def status(self) -> ComponentStatus:
        """Tell which analyser answers now and, if it is not CLIP, why."""
        active = self._active
        facts: dict[str, str | int | float] = {
            "labels_version": self._labels.version,
            "waiting": self._batcher.waiting,
        }
        if self._refusal:
            facts["refused_change"] = self._refusal
        if active is not None:
            facts |= active.model.facts
        if active is not None and active.model.analyzer == "clip":
            return ComponentStatus("ready", "clip", facts=facts)
        shortfall = self._shortfall()
        if active is None:
            return ComponentStatus("unavailable", "none", *shortfall, facts)
        return ComponentStatus("fallback", active.model.analyzer, *shortfall, facts)

    async def check(self) -> None:
        """Raise if the model no longer answers; costs a forward pass only when nothing was answered since last time.

        Out of memory is not death: a restart would meet the same full card.
        """
        if self._active is not None and not self._answered_since_check:
            edge = self._active.model.input_size_px
            blank = np.zeros((edge, edge, 3), np.uint8)
            try:
                await asyncio.get_running_loop().run_in_executor(self._model_thread, self._read_batch, [blank])
            except OutOfMemory as error:
                logger.warning("%s", error)
        self._answered_since_check = False

    async def close(self) -> None:
        """Refuse what waits, let the running batch end, stop fetching."""
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.gather(self._taking_over, return_exceptions=True)
        await self._batcher.close()
        self._model_thread.shutdown()

    async def _fetch_and_take_over(self) -> None:
        try:
            folder = await self._weights.run()
        except WeightsUnavailable as error:
            self._failure = Shortfall(error.sentence, error.remedy)
        else:
            await self._take_over(folder)

    async def _take_over(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        try:
            model = await loop.run_in_executor(self._model_thread, self._load, folder)
            await self._activate(model)
        except AnalyzerError as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            self._failure = Shortfall(str(error), "Then restart the service.")
        except Exception as error:
            logger.exception("CLIP could not be loaded from %s.", folder)
            self._failure = Shortfall(
                f"CLIP could not be loaded from {folder}: {error}.",
                "Delete that folder so that it is fetched anew, or name another model in clip.model; then restart.",
            )
        else:
            logger.info("CLIP answers: %s.", dict(model.facts))

    async def _activate(self, model: VisionModel) -> None:
        async with self._swap:
            self._active = await self._prepare(model, self._labels)

    async def _prepare(self, model: VisionModel, labels: LabelSet) -> _Active:
        prepared = await asyncio.to_thread(model.prepare, labels)
        return _Active(model, labels, prepared)

    def _read_batch(self, pictures: list[Pixels]) -> list[Reading]:
        active = self._active
        if active is None:
            raise ClipUnavailable("No vision model is loaded.")
        rows = active.model.logits(pictures, active.prepared)
        if np.isnan(rows).any():
            raise ClipUnavailable("The vision model gave no number for this picture; restart the service if it recurs.")
        self._answered_since_check = True
        warnings: tuple[str, ...] = ()
        if active.model.analyzer != "clip":
            shortfall = self._shortfall()
            warnings = (f"{shortfall.reason} {shortfall.remedy}",)
        return [
            Reading(
                analysis=score(row, active.labels, self._settings.top_labels),
                analyzer=active.model.analyzer,
                input_size_px=active.model.input_size_px,
                warnings=warnings,
            )
            for row in rows
        ]

    def _shortfall(self) -> Shortfall:
        if self._failure is not None:
            return self._failure
        failure, percent = self._weights.failure, self._weights.percent
        if failure is not None:
            return Shortfall(failure.sentence, failure.remedy)
        progress = "" if percent is None else f": {percent} % so far"
        return Shortfall(
            f"The weights of '{self._weights.model}' are being downloaded{progress}.",
            "CLIP takes over by itself when they are there.",
        )
