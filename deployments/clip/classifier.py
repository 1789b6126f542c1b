"""Classifies pictures with the best vision model there is: CLIP once its weights are loaded, until then the stand-in.

A vision model is whatever implements `VisionModel`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from deployments import telemetry
from deployments.batching import Batcher, Batching
from deployments.clip.labels import LabelSet, own_label_set
from deployments.clip.settings import ClipSettings, parse_user_config
from deployments.clip.vocabulary.naming import Naming
from deployments.clip.vocabulary.phrases import NO_PHRASES, Vocabulary
from deployments.clip.vocabulary.store import TextEmbedder
from deployments.clip.weights import ModelLoader
from deployments.errors import FAULT, AnalyzerError, ClipUnavailable, InvalidForm, OutOfMemory
from deployments.telemetry import Record, record_state, unrecorded
from deployments.types import (
    AnalyzerName,
    Classification,
    ComponentStatus,
    LabelScore,
    ModelVersion,
    OwnLabels,
    Pixels,
    Reading,
    Scores,
    Tag,
    Wanted,
)

Features = NDArray[np.float32]
"""float32, (pictures, features): what a model knows of each picture, to be compared with any labels."""

Logits = NDArray[np.float32]
"""float32, (pictures, labels): one number per label, in `LabelSet.categories()` order; softmaxed per category."""


class Tagger(Protocol):
    """Names what is in pictures, of far more phrases than a category has labels."""

    @property
    def groups(self) -> Sequence[str]:
        """The groups that its tags are of."""
        ...

    def tags(self, features: Features, wanted: Sequence[Wanted]) -> Sequence[tuple[Tag, ...]]:
        """Give each picture's tags, surest first, alike ones once: as many at most as are wanted of it.

        Args:
            features: the vision model's, a row a picture.
            wanted: for each of them how many tags, and of which of `groups`.
        """
        ...


class VisionModel(Protocol):
    """Looks at pictures, and compares what it saw with labels.

    `features` is called from up to `batching.streams` threads at once; `prepare` may run in another meanwhile, so that
    new labels stall no picture.
    """

    @property
    def analyzer(self) -> AnalyzerName:
        """The name that answers carry."""
        ...

    @property
    def input_size_px(self) -> int:
        """The edge of the square picture this model wants; others are resized to it."""
        ...

    @property
    def resample(self) -> int:
        """The filter of that resizing, as Pillow numbers them."""
        ...

    @property
    def batching(self) -> Batching:
        """How many calls of `features` may run at once, and the pictures per call above which the rate gains little."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int | float]:
        """What a person wants to know of it: device, precision, model name."""
        ...

    def prepare(self, labels: LabelSet) -> Any:
        """Do everything that depends on the labels alone, once per label set; handed back to `logits`.

        Raises:
            OutOfMemory: the device has no room for it.
        """
        ...

    def features(self, pictures: list[Pixels]) -> Features:
        """Look at pictures.

        Raises:
            OutOfMemory: the device has no room for a batch of this size.
        """
        ...

    def logits(self, features: Features, prepared: Any) -> Logits:
        """Compare what was seen with the prepared labels."""
        ...

    @property
    def tagger(self) -> Tagger | None:
        """Who names tags from its features, if anybody can."""
        ...


class ClipModel(VisionModel, Protocol):
    """One whose features can be compared with any text's embedding."""

    def text_embedder(self) -> TextEmbedder:
        """Give who embeds a vocabulary's texts."""
        ...


NO_MODEL = ModelVersion("none", input_size_px=224)
"""While nothing can answer; most of the CLIP family looks at 224 px."""

PROBE_WAIT_S = 1.0
"""How long a check waits for what it asks of the model: less than any `health_check_timeout_s`."""

MEND_CHANGE = "Correct user_config of ClipDeployment and deploy it again (image-analyzer deploy CONFIG)."

REMEMBERED_OWN_LABELS = 128
"""Sets of callers' own labels that are kept encoded: 64 of them take 128 KiB in CLIP B/32."""

NO_OWN_LABELS = "Labels of your own were not compared: only CLIP can."

STAND_IN_CAVEATS: Mapping[AnalyzerName, str] = {
    "pixels": "The pixel analyser measures colour, light and layout; its styles and subjects are guesses.",
    "objects": "The objects analyser names only what is surely one of 1,000 things, which people are not; it measures "
    "colour, light and layout, and its styles are guesses.",
}

logger = logging.getLogger("image_analyzer.clip")


class _Active(NamedTuple):
    """A model, a label set and what the model prepared for it, and a vocabulary: swapped as one, so no batch sees a
    mixture."""

    model: VisionModel
    labels: LabelSet
    prepared: Any
    model_version: ModelVersion
    tagger: Tagger | None


class _Own(NamedTuple):
    """Labels of a caller's own, and what the model prepared for them."""

    model: VisionModel
    labels: LabelSet
    prepared: Any


class _Item(NamedTuple):
    """What a batch is made of."""

    reading: Reading
    own: _Own | None


class ImageClassifier:
    """The whole of the CLIP deployment but Ray.

    Args:
        settings: see `ClipSettings`.
        labels: the label file's content, used until `reconfigure` brings another set.
        vocabulary: the phrase files' content, which `reconfigure` may change; embedded once CLIP is there.
        clip: how CLIP comes to be there.
        fallback: makes what answers while CLIP cannot, blocking; without one `start` waits for CLIP.
        record: takes size, wait and duration of every batch, and which analyser answers.
    """

    def __init__(
        self,
        settings: ClipSettings,
        labels: LabelSet,
        vocabulary: Vocabulary = NO_PHRASES,
        *,
        clip: ModelLoader[ClipModel],
        fallback: Callable[[], VisionModel] | None,
        record: Record = unrecorded,
    ) -> None:
        self._settings = settings
        self._default_labels = labels
        self._labels = labels
        self._default_vocabulary = self._vocabulary = vocabulary
        self._naming: Naming | None = None
        self._tagger_version = ""
        self._clip_model: ClipModel | None = None
        self._clip = clip
        self._fallback = fallback
        self._record = record
        self._active: _Active | None = None
        self._out_of_memory = ""
        self._taking_over: asyncio.Task[None] | None = None
        self._swap = asyncio.Lock()
        self._refusal = ""
        self._answered_since_check = False
        self._running_since_s: list[float] = []
        self._probe: asyncio.Task[None] | None = None
        self._max_batch_size: int | None = None
        self._model_threads = ThreadPoolExecutor(thread_name_prefix="model")
        self._own: LRUCache[OwnLabels, _Own] = LRUCache(REMEMBERED_OWN_LABELS)
        self._encoding_own = asyncio.Lock()
        self._batcher = Batcher[_Item, Classification](
            self._classify_in_thread,
            stoppable=False,
            batching=Batching(streams=1, batch_size=1),
            max_waiting=settings.max_waiting,
            retry_after_s=settings.retry_after_s,
            started=self._batch_started,
        )

    async def start(self) -> None:
        """Load CLIP if its weights are on disk; otherwise start fetching them and let the fallback answer.

        Raises:
            ClipUnavailable: there is no fallback and CLIP cannot be had; the sentence says why and what to do.
        """
        _warn_of_missing(self._labels)
        model = await self._clip.at_once()
        if model is not None and await self._take_over(model):
            return
        if self._fallback is not None:
            await self._activate(await asyncio.to_thread(self._fallback))
            if not self._clip.hopeless:
                self._taking_over = asyncio.create_task(self._take_over_eventually())
            return
        await self._take_over_eventually()
        if self._active is None:
            raise ClipUnavailable(" ".join(self._clip.shortfall))

    @property
    def model_version(self) -> ModelVersion:
        """The model and label set that the next picture is read with."""
        return NO_MODEL if self._active is None else self._active.model_version

    async def read(self, reading: Reading) -> Classification:
        """Analyse one picture, together with whatever others wait.

        Raises:
            InvalidForm: tags are wanted of a group that there is not.
            QueueFull: too many pictures wait.
            OutOfMemory: the device has no room even for this picture alone.
            ShuttingDown: the replica stops.
        """
        active, own = self._active, None
        # Not of the stand-in, whose groups are fewer: what is right for CLIP is not wrong while that answers.
        if active is not None and active.model.analyzer == "clip":
            _require_groups(active.tagger, reading.wanted)
            own = await self._own_labels(active.model, reading.wanted.labels)
        return await self._batcher.submit(_Item(reading, own))

    async def classify(self, readings: Sequence[Reading]) -> list[Classification | AnalyzerError]:
        """Analyse pictures that travelled together: per picture what `read` gives or raises."""
        results = await asyncio.gather(*map(self.read, readings), return_exceptions=True)
        return [_sendable(result) for result in results]

    async def reconfigure(self, content: Mapping[str, Any]) -> None:
        """Take a new batch size, label set and vocabulary; what is being read goes on with the old ones, and tags are
        named from the old vocabulary until the new one is embedded.

        A wrong `content` is refused: everything stays as it was, and `status` tells. Raising would have Serve replace
        the replica, and no new one could start (seen on Ray 2.60: 503 until the config is mended).
        """
        try:
            config = parse_user_config(content)
            vocabulary = self._default_vocabulary.changed(config.vocabulary)
            await self._change_labels(config.labels or self._default_labels)
        except Exception as error:
            self._refusal = str(error)
            logger.exception("A change was refused; all stays as it was.")
            return
        if vocabulary.version != self._vocabulary.version:
            self._vocabulary = vocabulary
            await self._embed_vocabulary()
        self._max_batch_size = config.max_batch_size
        self._size_batches()
        self._refusal = ""

    async def status(self) -> ComponentStatus:
        """Tell which analyser answers now and, if it is not CLIP or not with what was asked for last, why."""
        status = self._status()
        record_state(self._record, "analyzer", status)
        self._record(telemetry.CHANGE_REFUSED, float(bool(self._refusal)))
        if self._refusal and status.state == "ready":
            reason = f"A change was refused, and what held before holds on: {self._refusal}"
            return dataclasses.replace(status, state="fallback", reason=reason, remedy=MEND_CHANGE)
        return status

    def _status(self) -> ComponentStatus:
        active = self._active
        facts: dict[str, str | int | float] = {
            "labels_version": self._labels.version,
            "waiting": self._batcher.waiting,
        }
        if self._naming is not None:
            facts["vocabulary"] = self._naming.fact()
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
        """Raise if the model no longer answers, however many wait for it; without waiting long for it.

        Costs a forward pass only when nothing was answered since last time. Out of memory is not death: a restart would
        meet the same full card.

        Raises:
            ClipUnavailable: a batch has run for `hung_after_s`, or the model gives no numbers.
            Exception: what the model failed with.
        """
        await self.status()
        running_s = asyncio.get_running_loop().time() - min(self._running_since_s, default=float("inf"))
        if running_s > self._settings.hung_after_s:
            raise ClipUnavailable(f"The vision model has worked on one batch for {running_s:.0f} s.")
        if self._probe is None and self._active is not None and not self._answered_since_check:
            self._probe = asyncio.create_task(self._read_blank(self._active.model.input_size_px))
        if self._probe is not None:
            # Under load its turn comes later: then the next check looks.
            await asyncio.wait([self._probe], timeout=PROBE_WAIT_S)
        self._answered_since_check = False
        if self._probe is not None and self._probe.done():
            ended, self._probe = self._probe, None
            ended.result()

    async def _read_blank(self, edge_px: int) -> None:
        try:
            blank = Reading(np.zeros((edge_px, edge_px, 3), np.uint8))
            await self._batcher.submit(_Item(blank, None), urgent=True)
        except OutOfMemory as error:
            logger.warning("%s", error)

    async def close(self) -> None:
        """Refuse what waits, let the running batch end, stop fetching and embedding."""
        if self._naming is not None:
            await self._naming.close()
        for task in filter(None, (self._taking_over, self._probe)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._batcher.close()
        self._model_threads.shutdown()

    async def _take_over_eventually(self) -> None:
        while (model := await self._clip.eventually()) is not None:
            if await self._take_over(model):
                return

    async def _take_over(self, model: ClipModel) -> bool:
        try:
            await self._activate(model)
        except OutOfMemory as error:
            self._clip.postpone(error)
        except Exception as error:
            logger.exception("The labels could not be encoded.")
            self._clip.give_up(f"CLIP could not encode the labels: {error}.", "Correct them, then restart.")
        else:
            logger.info("CLIP answers: %s.", dict(model.facts))
            self._clip_model = model
            await self._embed_vocabulary()
            return True
        return False

    async def _embed_vocabulary(self) -> None:
        """Begin to, in place of any that was begun; tags are named as before until it is done."""
        former, self._naming = self._naming, None
        if former is not None:
            await former.close()
        if self._clip_model is None or self._naming is not None:
            return
        if self._vocabulary.groups:
            embedder = self._clip_model.text_embedder()
            self._naming = Naming(self._settings, self._vocabulary, embedder, self._take_tagger)
        elif self._tagger_version:
            await self._take_tagger(None)

    async def _take_tagger(self, tagger: Tagger | None) -> None:
        async with self._swap:
            if self._active is not None:
                self._tagger_version = self._vocabulary.version
                version = self._version(self._active.model, self._active.labels)
                self._active = self._active._replace(tagger=tagger, model_version=version)

    async def _change_labels(self, labels: LabelSet) -> None:
        async with self._swap:
            if labels.version == self._labels.version:
                return
            if self._active is not None:
                self._active = await self._prepare(self._active.model, labels)
            self._labels = labels
        logger.info("Labels are now version %s.", labels.version)
        _warn_of_missing(labels)

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
        known = self._active
        tagger = known.tagger if known is not None and known.model is model else model.tagger
        return _Active(model, labels, prepared, self._version(model, labels), tagger)

    def _version(self, model: VisionModel, labels: LabelSet) -> ModelVersion:
        version = f"{model.analyzer} {self._settings.model} {labels.version} {self._tagger_version}"
        return ModelVersion(version.rstrip(), model.input_size_px, model.resample)

    async def _own_labels(self, model: VisionModel, labels: OwnLabels) -> _Own | None:
        """Encode them, apart from any batch: others wait for a picture, this caller for its labels."""
        if not labels:
            return None
        async with self._encoding_own:
            own = self._own.get(labels)
            if own is None or own.model is not model:
                own = self._own[labels] = await asyncio.to_thread(_encode_own, model, labels)
        return own

    async def _classify_in_thread(self, items: list[_Item]) -> Sequence[Classification | Exception]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._running_since_s.append(started_s)
        try:
            results = await loop.run_in_executor(self._model_threads, run_halving, self._classify_batch, items)
        finally:
            self._running_since_s.remove(started_s)
        self._record(telemetry.BATCH_RUN_SECONDS, loop.time() - started_s)
        return results

    def _batch_started(self, waited_s: Sequence[float]) -> None:
        self._record(telemetry.BATCH_PICTURES, len(waited_s))
        for seconds in waited_s:
            self._record(telemetry.BATCH_WAIT_SECONDS, seconds)

    def _classify_batch(self, items: list[_Item]) -> list[Classification]:
        active = self._active
        if active is None:
            raise ClipUnavailable("No vision model is loaded.")
        readings = [item.reading for item in items]
        try:
            features = active.model.features([reading.pixels for reading in readings])
        except OutOfMemory as error:
            self._out_of_memory = str(error)
            raise
        rows = active.model.logits(features, active.prepared)
        if np.isnan(rows).any():
            raise ClipUnavailable("The vision model gave no number for this picture; restart the service if it recurs.")
        self._answered_since_check = True
        self._out_of_memory = ""
        tagger, wanted = active.tagger, [reading.wanted for reading in readings]
        tags = tagger.tags(features, wanted) if tagger else [()] * len(readings)
        return [
            Classification(
                scores={**score(row, active.labels, self._settings.top_labels), **self._own_scores(active, seen, item)},
                analyzer=active.model.analyzer,
                model_version=active.model_version,
                warnings=self._warnings(active.model, item),
                tags=named,
                unspoken=active.labels.unspoken.difference(name for name, _ in item.reading.wanted.labels),
            )
            for item, seen, row, named in zip(items, features, rows, tags, strict=True)
        ]

    def _own_scores(self, active: _Active, features: NDArray[np.float32], item: _Item) -> Scores:
        labels = item.reading.wanted.labels
        if active.model.analyzer != "clip" or not labels:
            return {category: () for category, _ in labels}
        own = item.own if item.own and item.own.model is active.model else _encode_own(active.model, labels)
        (row,) = active.model.logits(features[None], own.prepared)
        return score(row, own.labels, self._settings.top_labels)

    def _warnings(self, model: VisionModel, item: _Item) -> tuple[str, ...]:
        if model.analyzer == "clip":
            return ()
        told = (" ".join(self._clip.shortfall), STAND_IN_CAVEATS[model.analyzer])
        return (*told, NO_OWN_LABELS) if item.reading.wanted.labels else told


def _require_groups(tagger: Tagger | None, wanted: Wanted) -> None:
    if tagger and (unknown := set(wanted.tag_groups).difference(tagger.groups)):
        there = ", ".join(tagger.groups)
        raise InvalidForm(f"Form field 'tag_groups' names no group '{min(unknown)}': there are {there}.")


def _encode_own(model: VisionModel, labels: OwnLabels) -> _Own:
    own = own_label_set(labels)
    return _Own(model, own, model.prepare(own))


def _warn_of_missing(labels: LabelSet) -> None:
    if labels.left_out:
        logger.warning(
            "The labels leave out %s: clients that look for them find them empty.", ", ".join(labels.left_out)
        )


def _sendable(result: Classification | BaseException) -> Classification | AnalyzerError:
    """Put our own sentence in place of what an error of another kind says."""
    if isinstance(result, Classification | AnalyzerError):
        return result
    if not isinstance(result, Exception):
        raise result
    logger.error("A picture could not be read.", exc_info=result)
    return AnalyzerError(FAULT)


def score(logits: NDArray[np.float32], labels: LabelSet, top: int) -> Scores:
    """Rank one picture's labels.

    Args:
        logits: float32, (labels,), in the order of `labels.categories()`; `-inf` rules a label out.
        labels: the set that the logits were made with.
        top: how many labels to keep of a category that does not say.

    Returns:
        Category → its best labels, best first, none where all are ruled out; the scores are shares of the whole
        category's softmax, so they add up to less than 1 where the category has more labels than are kept.
    """
    analysis: dict[str, tuple[LabelScore, ...]] = {}
    for name, category, columns in labels.categories():
        if np.isneginf(logits[columns]).all():
            analysis[name] = ()
            continue
        shares = _softmax(logits[columns])
        best = np.argsort(-shares, kind="stable")[: category.top or top]
        analysis[name] = tuple(LabelScore(category.labels[i], float(shares[i])) for i in best)
    return analysis


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = exponentials / exponentials.sum()
    return shares


Item = TypeVar("Item")
Result = TypeVar("Result")


def run_halving(run: Callable[[list[Item]], Sequence[Result]], batch: list[Item]) -> list[Result | Exception]:
    """Give each item's result, or the exception that `run` raised for it alone; blocking.

    Args:
        run: list in, list of the same length and order out.
        batch: at least one item.
    """
    try:
        return list(_one_each(run(batch), batch))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        # As text: a log record that holds the error would hold the batch too.
        logger.warning("A batch of %d failed (%s); running it as two halves.", len(batch), str(error))
    # Out here the error is gone, and with it the failed batch's tensors, which its traceback held on the device.
    half = len(batch) // 2
    return run_halving(run, batch[:half]) + run_halving(run, batch[half:])


def _one_each(results: Sequence[Result], batch: list[Item]) -> Sequence[Result]:
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} items")
    return results
