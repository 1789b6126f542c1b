"""Reads pictures with the best vision model there is: CLIP once its weights are loaded, until then the stand-in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from deployments import telemetry
from deployments.batching import Batcher, Batching
from deployments.clip.acquisition import Acquisition
from deployments.clip.halving import run_halving
from deployments.clip.labels import LabelSet
from deployments.clip.scorer import score
from deployments.clip.settings import ClipSettings, parse_user_config
from deployments.clip.vision import Pixels, VisionModel
from deployments.errors import FAULT, AnalyzerError, ClipUnavailable, OutOfMemory
from deployments.telemetry import Record, record_state, unrecorded
from deployments.types import ComponentStatus, Edition, Reading

NO_EDITION = Edition("none", input_size_px=224)
"""While nothing can answer; most of the CLIP family looks at 224 px."""

CLIP_RETRY_AFTER_S = 30
"""What a caller is told while CLIP is required and not there: loading takes seconds, a download minutes."""

STAND_IN_CAVEAT = "The pixel analyser measures colour, light and layout; its styles and subjects are guesses."

logger = logging.getLogger("image_analyzer.clip")


class _Active(NamedTuple):
    """A model, a label set and what the model prepared for it: swapped as one, so no batch sees a mixture."""

    model: VisionModel
    labels: LabelSet
    prepared: Any
    edition: Edition


class PictureReader:
    """The whole of the CLIP deployment but Ray.

    Args:
        settings: see `ClipSettings`.
        labels: the label file's content, used until `reconfigure` brings another set.
        clip: how CLIP comes to be there.
        fallback: answers while CLIP cannot; without one such requests raise `ClipUnavailable`.
        record: takes size, wait and duration of every batch, and which analyser answers.
    """

    def __init__(
        self,
        settings: ClipSettings,
        labels: LabelSet,
        *,
        clip: Acquisition,
        fallback: VisionModel | None,
        record: Record = unrecorded,
    ) -> None:
        self._settings = settings
        self._default_labels = labels
        self._labels = labels
        self._clip = clip
        self._fallback = fallback
        self._record = record
        self._active: _Active | None = None
        self._out_of_memory = ""
        self._taking_over: asyncio.Task[None] | None = None
        self._swap = asyncio.Lock()
        self._configured = False
        self._refusal = ""
        self._answered_since_check = False
        self._max_batch_size: int | None = None
        self._model_threads = ThreadPoolExecutor(thread_name_prefix="model")
        self._batcher = Batcher[Pixels, Reading](
            self._read_in_thread,
            stoppable=False,
            batching=Batching(streams=1, batch_size=1),
            max_waiting=settings.max_waiting,
            retry_after_s=settings.retry_after_s,
            started=self._batch_started,
        )

    async def start(self) -> None:
        """Load CLIP if its weights are on disk; otherwise start fetching them and let the fallback answer."""
        model = await self._clip.at_once()
        answers = model is not None and await self._take_over(model)
        if not answers and self._fallback is not None:
            await self._activate(self._fallback)
        if not answers and not self._clip.hopeless:
            self._taking_over = asyncio.create_task(self._take_over_eventually())

    @property
    def edition(self) -> Edition:
        """The model and label set that the next picture is read with."""
        return NO_EDITION if self._active is None else self._active.edition

    async def read(self, picture: Pixels) -> Reading:
        """Analyse one picture, together with whatever others wait.

        Raises:
            ClipUnavailable: CLIP is required and not loaded; the sentence says why and what to do.
            QueueFull: too many pictures wait.
            OutOfMemory: the device has no room even for this picture alone.
            ShuttingDown: the replica stops.
        """
        if self._active is None:
            raise ClipUnavailable(" ".join(self._clip.shortfall), retry_after_s=CLIP_RETRY_AFTER_S)
        return await self._batcher.submit(picture)

    async def read_many(self, pictures: Sequence[Pixels]) -> list[Reading | AnalyzerError]:
        """Analyse pictures that travelled together: per picture what `read` gives or raises."""
        results = await asyncio.gather(*map(self.read, pictures), return_exceptions=True)
        return [_sendable(result) for result in results]

    async def reconfigure(self, content: Mapping[str, Any]) -> None:
        """Take a new batch size and label set; what is being read goes on with the old ones.

        Once serving, a wrong `content` is refused: everything stays as it was, and `status` tells. Raising then would
        have Serve replace the replica by one that cannot start (seen on Ray 2.60: 503 until the config is mended).

        Raises:
            SettingsError: the very first `content` is wrong.
        """
        try:
            config = parse_user_config(content)
            await self._change_labels(config.labels or self._default_labels)
        except Exception as error:
            if not self._configured:
                raise
            self._refusal = str(error)
            logger.exception("A change was refused; all stays as it was.")
            return
        self._max_batch_size = config.max_batch_size
        self._size_batches()
        self._configured = True
        self._refusal = ""

    async def status(self) -> ComponentStatus:
        """Tell which analyser answers now and, if it is not CLIP, why."""
        status = self._status()
        record_state(self._record, "analyzer", status)
        return status

    def _status(self) -> ComponentStatus:
        active = self._active
        facts: dict[str, str | int | float] = {
            "labels_version": self._labels.version,
            "waiting": self._batcher.waiting,
        }
        if self._refusal:
            facts["refused_change"] = self._refusal
        if active is not None:
            facts |= active.model.facts
        if active is None:
            return ComponentStatus("unavailable", "none", *self._clip.shortfall, facts)
        if self._out_of_memory:
            remedy = "It is tried again with every picture."
            return ComponentStatus("unavailable", active.model.analyzer, self._out_of_memory, remedy, facts)
        if active.model.analyzer == "clip":
            return ComponentStatus("ready", "clip", facts=facts)
        return ComponentStatus("fallback", active.model.analyzer, *self._clip.shortfall, facts)

    async def check(self) -> None:
        """Raise if the model no longer answers; costs a forward pass only when nothing was answered since last time.

        Out of memory is not death: a restart would meet the same full card.
        """
        await self.status()
        if self._active is not None and not self._answered_since_check:
            edge = self._active.model.input_size_px
            blank = np.zeros((edge, edge, 3), np.uint8)
            try:
                await self._batcher.submit(blank)
            except OutOfMemory as error:
                logger.warning("%s", error)
        self._answered_since_check = False

    async def close(self) -> None:
        """Refuse what waits, let the running batch end, stop fetching."""
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.gather(self._taking_over, return_exceptions=True)
        await self._batcher.close()
        self._model_threads.shutdown()

    async def _take_over_eventually(self) -> None:
        while (model := await self._clip.eventually()) is not None:
            if await self._take_over(model):
                return

    async def _take_over(self, model: VisionModel) -> bool:
        try:
            await self._activate(model)
        except OutOfMemory as error:
            self._clip.postpone(error)
        except Exception as error:
            logger.exception("The labels could not be encoded.")
            self._clip.give_up(f"CLIP could not encode the labels: {error}.", "Correct them, then restart.")
        else:
            logger.info("CLIP answers: %s.", dict(model.facts))
            return True
        return False

    async def _change_labels(self, labels: LabelSet) -> None:
        async with self._swap:
            if labels.version == self._labels.version:
                return
            if self._active is not None:
                self._active = await self._prepare(self._active.model, labels)
            self._labels = labels
        logger.info("Labels are now version %s.", labels.version)

    async def _activate(self, model: VisionModel) -> None:
        async with self._swap:
            self._active = await self._prepare(model, self._labels)
            self._size_batches()

    def _size_batches(self) -> None:
        if self._active is not None:
            fast = self._active.model.batching
            self._batcher.batching = fast._replace(batch_size=self._max_batch_size or fast.batch_size)

    async def _prepare(self, model: VisionModel, labels: LabelSet) -> _Active:
        prepared = await asyncio.to_thread(model.prepare, labels)
        version = f"{model.analyzer} {self._settings.model} {labels.version}"
        return _Active(model, labels, prepared, Edition(version, model.input_size_px))

    async def _read_in_thread(self, pictures: list[Pixels]) -> Sequence[Reading | Exception]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        results = await loop.run_in_executor(self._model_threads, run_halving, self._read_batch, pictures)
        self._record(telemetry.BATCH_RUN_SECONDS, loop.time() - started_s)
        return results

    def _batch_started(self, waited_s: Sequence[float]) -> None:
        self._record(telemetry.BATCH_PICTURES, len(waited_s))
        for seconds in waited_s:
            self._record(telemetry.BATCH_WAIT_SECONDS, seconds)

    def _read_batch(self, pictures: list[Pixels]) -> list[Reading]:
        active = self._active
        if active is None:
            raise ClipUnavailable("No vision model is loaded.")
        try:
            rows = active.model.logits(pictures, active.prepared)
        except OutOfMemory as error:
            self._out_of_memory = str(error)
            raise
        if np.isnan(rows).any():
            raise ClipUnavailable("The vision model gave no number for this picture; restart the service if it recurs.")
        self._answered_since_check = True
        self._out_of_memory = ""
        warnings = () if active.model.analyzer == "clip" else (" ".join(self._clip.shortfall), STAND_IN_CAVEAT)
        return [
            Reading(
                analysis=score(row, active.labels, self._settings.top_labels),
                analyzer=active.model.analyzer,
                edition=active.edition,
                warnings=warnings,
            )
            for row in rows
        ]


def _sendable(result: Reading | BaseException) -> Reading | AnalyzerError:
    """Put our own sentence in place of what an error of another kind says."""
    if isinstance(result, Reading | AnalyzerError):
        return result
    if not isinstance(result, Exception):
        raise result
    logger.error("A picture could not be read.", exc_info=result)
    return AnalyzerError(FAULT)
