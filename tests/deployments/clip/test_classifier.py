"""Which analyser answers, when labels change, whose failure it is, and when the deployment counts as dead."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.batching import Batching
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.checkpoint import embed_texts, read_tower
from deployments.clip.classifier import ClipModel, Features, ImageClassifier, Logits, Tagger, run_halving
from deployments.clip.labels import LabelSet, load_labels
from deployments.clip.model import ClipEncoder, load_encoder
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.vocabulary.phrases import NO_PHRASES, Vocabulary
from deployments.clip.weights import ModelLoader, Progress, WeightsUnavailable
from deployments.errors import FAULT, AnalyzerError, ClipUnavailable, InvalidForm, OutOfMemory, QueueFull, ShuttingDown
from deployments.telemetry import Metric, Record, unrecorded
from deployments.types import BICUBIC, AnalyzerName, Classification, OwnLabels, Pixels, Reading, Tag, Wanted
from tests.support.fake_embedder import FEATURES, FakeEmbedder
from tests.support.parts import FakeWeights

LABELS = load_labels(DEFAULT_LABELS_FILE)
BLANK = Reading(np.zeros((224, 224, 3), np.uint8))
ON_DISK = Path("/weights")
FULL = OutOfMemory("CUDA is out of memory.")


def styles(*labels: str) -> dict[str, Any]:
    """Give a `user_config` with these styles in place of the default ones."""
    return {"labels": LABELS.model_dump() | {"style": {"labels": labels}}}


class FakeModel:
    """Always prefers each category's last label; raises `error` when told to."""

    analyzer: AnalyzerName = "clip"
    input_size_px = 224
    resample = BICUBIC
    batching = Batching(streams=1, batch_size=16)
    facts: Mapping[str, str | int | float] = {"device": "fake"}
    tagger: Tagger | None = None

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.embedder = FakeEmbedder()
        self.not_a_number = False
        self.running = 0
        self.most_running = 0
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.prepared: list[int] = []
        self.full_for_labels = 0
        """How many more times there is no room for the labels."""

    def prepare(self, labels: LabelSet) -> int:
        if self.full_for_labels:
            self.full_for_labels -= 1
            raise FULL
        self.prepared.append(labels.count)
        return labels.count

    def text_embedder(self) -> FakeEmbedder:
        self.embedder.interrupted = False
        return self.embedder

    def features(self, pictures: list[Pixels]) -> Features:
        self.batches.append(len(pictures))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.gate.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        return np.full((len(pictures), FEATURES), FEATURES**-0.5, np.float32)

    def logits(self, features: Features, prepared: int) -> Logits:
        rows = np.tile(np.arange(prepared, dtype=np.float32), (len(features), 1))
        return np.full_like(rows, np.nan) if self.not_a_number else rows


class Gauges(dict[str, float]):
    """Keeps what was recorded last, by name and state."""

    def __call__(self, metric: Metric, value: float = 1, **tags: str) -> None:
        name = metric.name.removeprefix("image_analyzer_")
        self[f"{name} {tags['state']}" if "state" in tags else name] = value


@asynccontextmanager
async def serving(
    weights: FakeWeights | None = None,
    model: ClipModel | None = None,
    *,
    load: Callable[[Path], ClipModel] | None = None,
    fallback: bool = True,
    record: Record = unrecorded,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    settings: ClipSettings | None = None,
    vocabulary: Vocabulary = NO_PHRASES,
) -> AsyncIterator[ImageClassifier]:
    """Start a classifier, by default with weights on disk, and close it."""
    weights, settings = weights or FakeWeights(ON_DISK), settings or ClipSettings()
    load = load or (lambda folder: model or FakeModel())
    patience_s = None if fallback else settings.start_patience_s
    clip = ModelLoader(settings, load, patience_s=patience_s, find=weights.find, fetch=weights.fetch, wait=wait)
    analyser = PixelAnalyser if fallback else None
    subject = ImageClassifier(settings, LABELS, vocabulary, clip=clip, fallback=analyser, record=record)
    assert subject.model_version.version == "none", "nothing answers yet, so nothing remembered may"
    await subject.start()
    try:
        yield subject
    finally:
        weights.arrived.set()
        await subject.close()


async def reading_when(
    subject: ImageClassifier, condition: Callable[[Classification], bool] = lambda reading: reading.analyzer == "clip"
) -> Classification:
    """Send pictures until an answer is such; by default, until CLIP answers."""
    async with asyncio.timeout(5):
        while not condition(reading := await subject.read(BLANK)):
            pass
    return reading


async def until_it_raises(act: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(30):
        while True:
            await act()


async def best_style(subject: ImageClassifier) -> str:
    return (await subject.read(BLANK)).scores["style"][0].value


async def test_with_weights_on_disk_clip_answers_from_the_first_picture() -> None:
    async with serving() as subject:
        reading = await subject.read(BLANK)
        assert (reading.analyzer, reading.warnings) == ("clip", ())
        assert reading.scores["style"][0].value == "abstract"
        assert {name: len(labels) for name, labels in reading.scores.items()} == dict.fromkeys(reading.scores, 3)
        assert (await subject.status()).state == "ready"


async def test_clip_takes_over_from_the_pixel_analyser_when_its_weights_arrive() -> None:
    weights = FakeWeights()
    weights.percent = 42
    loading, loaded = threading.Event(), threading.Event()

    def load(folder: Path) -> ClipModel:
        loading.set()
        loaded.wait()
        return FakeModel()

    async with serving(weights, load=load) as subject:
        reading = await reading_when(subject, lambda reading: "42 %" in reading.warnings[0])
        assert reading.analyzer == "pixels"
        assert reading.warnings == (
            "The weights of 'openai/clip-vit-base-patch32' are being downloaded: 42 % so far. "
            "CLIP takes over by itself when they are there.",
            "The pixel analyser measures colour, light and layout; its styles and subjects are guesses.",
        )
        status = await subject.status()
        assert (status.state, status.active) == ("fallback", "pixels")
        assert "42 %" in status.reason
        await subject.reconfigure(styles("fresco"))

        weights.arrived.set()
        await asyncio.to_thread(loading.wait)
        try:
            assert (await subject.read(BLANK)).analyzer == "pixels"
        finally:
            loaded.set()
        assert (await reading_when(subject)).scores["style"][0].value == "fresco"
        assert (await subject.status()).state == "ready"


async def test_a_failing_download_says_why_and_what_to_do() -> None:
    weights = FakeWeights()
    weights.failure = WeightsUnavailable("The hub cannot be reached.", "Check the network.", permanent=False)
    async with serving(weights) as subject:
        reading = await reading_when(subject, lambda reading: "hub" in reading.warnings[0])
        assert reading.warnings[0] == "The hub cannot be reached. Check the network."


def unloadable(folder: Path) -> ClipModel:
    raise OSError("header too large")


def full(folder: Path) -> ClipModel:
    raise FULL


GONE = WeightsUnavailable("No model named 'owner/name'.", "Check clip.model.", permanent=True)
AWAY = WeightsUnavailable("The hub cannot be reached.", "Check the network.")


@pytest.mark.parametrize(
    ("broken", "load", "told", "waits_s"),
    [
        (GONE, unloadable, r"No model named 'owner/name'\. Check clip\.model\.", []),
        (AWAY, unloadable, "The hub cannot be reached", [5, 10, 20, 40]),
        (None, unloadable, "could not be loaded from /weights: header too large", []),
        (None, full, "CUDA is out of memory", [30, 30]),
    ],
)
async def test_where_clip_is_required_a_replica_starts_with_it_or_not_at_all(
    broken: WeightsUnavailable | None, load: Callable[[Path], ClipModel], told: str, waits_s: list[float]
) -> None:
    """Serve keeps the replicas that it was to replace."""
    waited_s: list[float] = []

    async def wait(seconds: float) -> None:
        waited_s.append(seconds)

    weights = FakeWeights(ON_DISK)
    weights.arrived.set()
    weights.broken = weights.failure = broken
    with pytest.raises(ClipUnavailable, match=told):
        async with serving(weights, load=load, fallback=False, wait=wait):
            pass
    assert waited_s == waits_s


async def test_where_clip_is_required_a_replica_waits_while_its_weights_arrive() -> None:
    """However slowly: a line that breaks oftener than patience lasts is no fault while each try brings something."""
    tries = 40

    class Slow(FakeWeights):
        def fetch(self, model: str, on_progress: Progress) -> Path:
            nonlocal tries
            tries -= 1
            if not tries:
                return ON_DISK
            on_progress(100 - tries, 100)
            raise AWAY

    async def wait(seconds: float) -> None:
        pass

    async with serving(Slow(), fallback=False, wait=wait) as subject:
        assert (await subject.read(BLANK)).analyzer == "clip"


@pytest.mark.parametrize(
    ("model", "cure"),
    [("owner/name", "Delete that folder so that it is fetched anew"), (str(ON_DISK), "Put right what is in that")],
)
async def test_weights_that_do_not_load_leave_the_pixel_analyser_and_the_reason(model: str, cure: str) -> None:
    async with serving(load=unloadable, settings=ClipSettings(model=model)) as subject:
        reading = await subject.read(BLANK)
        assert reading.analyzer == "pixels"
        assert f"could not be loaded from /weights: header too large. {cure}" in reading.warnings[0]


@pytest.mark.parametrize("full_for", ["weights", "labels"])
async def test_a_card_that_is_full_at_the_start_is_tried_again_until_clip_fits(full_for: str) -> None:
    waits_s: list[float] = []
    warnings: list[str] = []
    model = FakeModel()
    model.full_for_labels = 2 if full_for == "labels" else 0

    async def wait(seconds: float) -> None:
        waits_s.append(seconds)
        warnings.append((await subject.read(BLANK)).warnings[0])

    def load(folder: Path) -> ClipModel:
        if full_for == "weights" and len(waits_s) < 2:
            raise FULL
        return model

    weights = FakeWeights(ON_DISK)
    weights.arrived.set()
    async with serving(weights, load=load, wait=wait) as subject:
        await reading_when(subject)
    assert waits_s == [30, 30]
    assert set(warnings) == {"CUDA is out of memory. It is tried again every 30 s."}


async def test_a_folder_still_being_copied_is_tried_again() -> None:
    weights = FakeWeights()
    weights.broken = WeightsUnavailable("The folder lacks a file.", "Copy it.", permanent=False)
    async with serving(weights) as subject:
        assert (await subject.read(BLANK)).analyzer == "pixels"
        weights.arrived.set()
        await reading_when(subject)


async def test_new_labels_hold_from_the_next_picture_and_those_that_are_wrong_or_find_no_room_leave_the_old() -> None:
    model, refused = FakeModel(), Gauges()
    async with serving(model=model, record=refused) as subject:
        await subject.reconfigure(styles("fresco", "mosaic"))
        reading = await subject.read(BLANK)
        assert [label.value for label in reading.scores["style"]] == ["mosaic", "fresco"]

        await subject.reconfigure({"labels": {"mood": {"labels": []}}})
        assert await best_style(subject) == "mosaic"
        status = await subject.status()
        assert (status.state, status.active) == ("fallback", "clip")
        assert "user_config: labels.mood.labels: Tuple should have at least 1 item" in status.reason
        assert "image-analyzer deploy" in status.remedy
        assert (refused["change_refused"], refused["part_state ready"]) == (1, 1)
        model.full_for_labels = 1
        await subject.reconfigure(styles("sketch") | {"max_batch_size": 4})
        assert await best_style(subject) == "mosaic"
        assert (await subject.status()).facts["refused_change"] == str(FULL)

        await subject.reconfigure({})
        assert await best_style(subject) == "abstract"
        status = await subject.status()
        assert (status.state, "refused_change" in status.facts, refused["change_refused"]) == ("ready", False, 0)


async def test_categories_change_as_labels_do_and_those_that_clients_rely_on_are_missed_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lighting = {"labels": ["fog", "dusk", "golden hour", "noon"], "top": 1, "prompt": False}
    async with serving() as subject:
        assert "leave out" not in caplog.text
        await subject.reconfigure({"labels": {"lighting": lighting, "style": {"labels": ["fresco", "mosaic"]}}})
        scores = (await subject.read(BLANK)).scores
        assert {name: [label.value for label in labels] for name, labels in scores.items()} == {
            "style": ["mosaic", "fresco"],
            "lighting": ["noon"],
        }
        assert (await subject.read(BLANK)).unspoken == {"lighting"}
        own = Wanted(labels=(("lighting", ("a lamp", "the sun")),))
        assert (await subject.read(replace(BLANK, wanted=own))).unspoken == frozenset()
        assert "leave out mood, composition, color_palette, subjects: clients" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"max_batch_size": 0}, "user_config: max_batch_size: Input should be greater than or equal to 1."),
        ({"batch": 4}, "user_config: batch: Extra inputs are not permitted."),
    ],
)
async def test_a_new_replica_that_is_given_a_wrong_user_config_serves_with_the_default_labels(
    wrong: dict[str, Any], sentence: str
) -> None:
    async with serving() as subject:
        await subject.reconfigure(wrong)
        assert await best_style(subject) == "abstract"
        status = await subject.status()
        assert (status.state, status.facts["refused_change"]) == ("fallback", sentence)


async def test_each_label_is_encoded_once_however_many_pictures_come(tiny_clip: Path) -> None:
    encoded: list[str] = []

    def embed(texts: list[str]) -> NDArray[np.float32]:
        encoded.extend(texts)
        return embed_texts(tiny_clip, texts)

    def load(folder: Path) -> ClipModel:
        tower = read_tower(tiny_clip)
        engine = TorchEngine(tower, torch.device("cpu"), torch.float32, cores=1)
        return ClipEncoder(tiny_clip, name="tiny", engine=engine, tower=tower.facts, embed_texts=embed)

    async with serving(load=load) as subject:
        await asyncio.gather(*(subject.read(BLANK) for _ in range(50)))
        await subject.reconfigure({"max_batch_size": 4})
        await asyncio.gather(*(subject.read(BLANK) for _ in range(10)))
    assert encoded == LABELS.texts()


def names(classification: Classification) -> dict[str, list[str]]:
    return {category: [label.value for label in best] for category, best in classification.scores.items()}


async def test_a_siglip_answers_takes_new_labels_and_tells_of_itself(tiny_siglip: Path) -> None:
    settings = ClipSettings(model=str(tiny_siglip), device="cpu", precision="float32")

    def load(folder: Path) -> ClipModel:
        return load_encoder(folder, settings=settings, gpu_assigned=False, cores=1)

    async with serving(FakeWeights(tiny_siglip), load=load, settings=settings) as subject:
        edge_px = subject.model_version.input_size_px
        picture: Pixels = np.zeros((edge_px, edge_px, 3), np.uint8)
        before = await subject.read(Reading(picture))
        running = [asyncio.create_task(subject.read(Reading(picture))) for _ in range(20)]
        await subject.reconfigure(styles("fresco", "Mosaic"))
        after = await subject.read(Reading(picture))
        assert {label.value for label in after.scores["style"]} == {"fresco", "Mosaic"}
        assert sum(label.score for label in after.scores["style"]) == pytest.approx(1), "a share of the category's"
        for other in await asyncio.gather(*running):
            same = before if other.model_version == before.model_version else after
            assert names(other) == names(same), "no mixture"
        assert [label.score for label in after.scores["mood"]] == pytest.approx(
            [label.score for label in before.scores["mood"]], abs=1e-3
        ), "encoded anew, and the same"
        facts = (await subject.status()).facts
        assert facts["model"] == str(tiny_siglip)
        assert int(facts["parameters"]) > 0


async def test_health_notices_a_dead_model_and_costs_nothing_while_pictures_are_answered() -> None:
    model = FakeModel()
    async with serving(model=model) as subject:
        await subject.read(BLANK)
        await subject.check()
        assert len(model.batches) == 1, "a picture was answered since the last check: no probe is needed"
        await subject.check()
        assert len(model.batches) == 2
        model.error = RuntimeError("CUDA error: device-side assert triggered")
        with pytest.raises(RuntimeError, match="device-side assert"):
            await subject.check()
        model.error, model.not_a_number = None, True
        with pytest.raises(ClipUnavailable):
            await subject.check()


async def test_a_crowd_that_waits_is_not_death_and_a_batch_that_never_ends_is() -> None:
    model = FakeModel()
    model.batching = Batching(streams=1, batch_size=1)
    async with serving(model=model, settings=ClipSettings(max_waiting=8, hung_after_s=3)) as subject:
        model.gate.clear()
        try:
            crowd = [asyncio.create_task(subject.read(BLANK))]
            while model.running < 1:  # noqa: ASYNC110 - a thread tells nobody when it starts
                await asyncio.sleep(0.001)
            crowd += [asyncio.create_task(subject.read(BLANK)) for _ in range(8)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await subject.read(BLANK)
            await subject.check()
            with pytest.raises(ClipUnavailable, match="worked on one batch"):
                await until_it_raises(subject.check)
        finally:
            model.gate.set()
        await asyncio.gather(*crowd)
        await subject.check()


async def test_a_model_that_fails_every_picture_is_dead_though_a_crowd_waits_before_the_check() -> None:
    model = FakeModel()
    model.batching = Batching(streams=1, batch_size=1)
    model.error = RuntimeError("CUDA error: device-side assert triggered")
    async with serving(model=model, settings=ClipSettings(max_waiting=4)) as subject:
        crowd = [asyncio.create_task(subject.read(BLANK)) for _ in range(4)]
        with pytest.raises(RuntimeError, match="device-side assert"):
            await subject.check()
        await asyncio.gather(*crowd, return_exceptions=True)


async def test_out_of_memory_fails_the_picture_and_not_the_replica() -> None:
    model = FakeModel()
    model.error = FULL
    async with serving(model=model) as subject:
        with pytest.raises(OutOfMemory):
            await subject.read(BLANK)
        await subject.check()
        status = await subject.status()
        assert (status.state, status.reason) == ("unavailable", str(FULL))
        model.error = None
        assert (await subject.read(BLANK)).analyzer == "clip"
        assert (await subject.status()).state == "ready"


async def test_pictures_run_in_as_many_streams_and_batches_as_the_model_is_fast_with() -> None:
    model = FakeModel()
    model.batching = Batching(streams=3, batch_size=5)
    model.gate.clear()
    async with serving(model=model) as subject:
        await subject.reconfigure({})
        crowd = [asyncio.create_task(subject.read(BLANK)) for _ in range(30)]
        while model.running < 3:  # noqa: ASYNC110 - a thread tells nobody when it starts
            await asyncio.sleep(0.001)
        model.gate.set()
        await asyncio.gather(*crowd)
        assert (model.most_running, max(model.batches)) == (3, 5)
        await subject.reconfigure({"max_batch_size": 2})
        await asyncio.gather(*(subject.read(BLANK) for _ in range(30)))
        assert max(model.batches[-15:]) == 2


async def test_pictures_that_travel_together_fail_each_for_itself_and_tell_nothing_of_our_insides() -> None:
    model = FakeModel()
    async with serving(model=model) as subject:
        assert [type(reading) for reading in await subject.classify([BLANK, BLANK])] == [Classification] * 2
        model.error = RuntimeError("secret place")
        (error,) = await subject.classify([BLANK])
        assert (isinstance(error, AnalyzerError), str(error)) == (True, FAULT)
    assert [type(error) for error in await subject.classify([BLANK, BLANK])] == [ShuttingDown] * 2


async def test_each_reading_names_the_version_that_was_told_and_other_labels_or_another_analyser_make_another() -> None:
    weights = FakeWeights()
    async with serving(weights) as subject:
        told = [subject.model_version]
        assert (await subject.read(BLANK)).model_version == told[-1]
        weights.arrived.set()
        assert (await reading_when(subject)).model_version == subject.model_version
        told.append(subject.model_version)
        for style in ("fresco", "mosaic"):
            await subject.reconfigure(styles(style))
            told.append(subject.model_version)
            assert (await subject.read(BLANK)).model_version == told[-1]
        assert len({version.version for version in told}) == 4
        await subject.reconfigure({"max_batch_size": 4})
        assert subject.model_version == told[1], "the first labels again"


async def test_other_weights_are_another_version_which_tells_the_size_that_its_model_wants() -> None:
    class Large(FakeModel):
        input_size_px = 336

    versions = []
    for name in ("openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14-336"):
        async with serving(model=Large(), settings=ClipSettings(model=name)) as subject:
            versions.append(subject.model_version)
    assert versions[0].version != versions[1].version
    assert [version.input_size_px for version in versions] == [336, 336]


@given(count=st.integers(1, 24), poison=st.sets(st.integers(0, 23)), memory=st.integers(0, 24))
def test_a_failure_belongs_to_its_item_alone_and_a_batch_that_runs_runs_once(
    count: int, poison: set[int], memory: int
) -> None:
    batches: list[list[int]] = []

    def run(batch: list[int]) -> list[int]:
        batches.append(batch)
        if len(batch) > memory:
            raise MemoryError(f"{len(batch)} do not fit")
        if poison.intersection(batch):
            raise ValueError(f"poison among {len(batch)}")
        return [2 * item for item in batch]

    for item, result in enumerate(run_halving(run, list(range(count)))):
        if memory == 0:
            assert str(result) == "1 do not fit"
        elif item in poison:
            assert str(result) == "poison among 1"
        else:
            assert result == 2 * item
    if count <= memory and not poison.intersection(range(count)):
        assert batches == [list(range(count))]


def test_too_few_results_are_a_failure_and_not_another_s_answer() -> None:
    results = run_halving(lambda batch: batch[1:], [1, 2])
    assert [str(error) for error in results] == ["0 results for 1 items"] * 2


class Tensor:
    """Stands for memory on the device."""


def test_a_failed_batch_is_gone_before_its_halves_run() -> None:
    """What the failed batch held on the device must be free for the smaller one."""
    held: list[weakref.ref[Tensor]] = []
    alive_at_start: list[int] = []

    def run(batch: list[int]) -> list[int]:
        alive_at_start.append(sum(reference() is not None for reference in held))
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise MemoryError("does not fit")
        return batch

    assert run_halving(run, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert alive_at_start == [0] * 7


async def test_the_stand_in_is_let_go_once_clip_answers() -> None:
    """It holds a network of its own, 80 MB."""
    weights = FakeWeights()
    made: list[weakref.ref[PixelAnalyser]] = []

    def stand_in() -> PixelAnalyser:
        analyser = PixelAnalyser()
        made.append(weakref.ref(analyser))
        return analyser

    clip = ModelLoader[ClipModel](ClipSettings(), lambda _: FakeModel(), find=weights.find, fetch=weights.fetch)
    subject = ImageClassifier(ClipSettings(), LABELS, clip=clip, fallback=stand_in)
    await subject.start()
    assert (await subject.read(BLANK)).analyzer == "pixels"
    weights.arrived.set()
    await reading_when(subject)
    gc.collect()
    assert [analyser() for analyser in made] == [None]
    await subject.close()


class FakeTagger:
    """Names as many things as are wanted, of the first group wanted."""

    groups = ("food", "objects")

    def tags(self, features: Features, wanted: Sequence[Wanted]) -> list[tuple[Tag, ...]]:
        return [
            tuple(Tag(f"thing {n}", (*one.tag_groups, "objects")[0], 0.9) for n in range(one.tags)) for one in wanted
        ]


VEHICLES: OwnLabels = (("vehicle", ("car", "bus")), ("style", ("flat", "shaded")))


async def test_pictures_with_labels_of_their_own_share_a_batch_with_those_without() -> None:
    model = FakeModel()
    async with serving(model=model) as subject:
        model.gate.clear()
        first = asyncio.create_task(subject.read(BLANK))
        await asyncio.sleep(0.05)
        own = replace(BLANK, wanted=Wanted(labels=VEHICLES))
        crowd = [asyncio.create_task(subject.read(reading)) for reading in (own, BLANK, own, BLANK)]
        await asyncio.sleep(0.1)
        model.gate.set()
        await first
        with_own, without, again, _ = await asyncio.gather(*crowd)
    assert model.batches == [1, 4]
    assert (list(with_own.scores)[5:], with_own.scores) == (["vehicle"], again.scores)
    assert [label.value for label in with_own.scores["vehicle"]] == ["bus", "car"]
    assert [label.value for label in with_own.scores["style"]] == ["shaded", "flat"], "in place of the label file's"
    assert without.scores["mood"] == with_own.scores["mood"]
    assert "vehicle" not in without.scores
    assert model.prepared == [len(LABELS.texts()), 4], "encoded once for both"


async def test_labels_of_ones_own_that_cannot_be_encoded_fail_their_own_picture_alone() -> None:
    model = FakeModel()
    async with serving(model=model) as subject:
        model.full_for_labels = 1
        own = replace(BLANK, wanted=Wanted(labels=VEHICLES))
        failed, read = await subject.classify([own, BLANK])
        assert (type(failed), type(read)) == (OutOfMemory, Classification)
        assert (await subject.read(own)).scores["vehicle"], "tried again with the next"


async def test_the_stand_in_leaves_labels_of_ones_own_empty_and_says_so() -> None:
    async with serving(FakeWeights()) as subject:
        seen = await subject.read(replace(BLANK, wanted=Wanted(labels=VEHICLES)))
        assert (seen.analyzer, seen.scores["vehicle"], seen.scores["style"]) == ("pixels", (), ())
        assert "only CLIP can" in seen.warnings[-1]
        assert "only CLIP can" not in " ".join((await subject.read(BLANK)).warnings)


async def test_tags_are_named_as_wanted_of_each_picture() -> None:
    model = FakeModel()
    model.tagger = FakeTagger()
    async with serving(model=model) as subject:
        wanted = [Wanted(tags=2, tag_groups=("food",)), Wanted(), Wanted(tags=1)]
        seen = await asyncio.gather(*(subject.read(replace(BLANK, wanted=one)) for one in wanted))
        assert [[tag.group for tag in one.tags] for one in seen] == [["food", "food"], [], ["objects"]]
        with pytest.raises(InvalidForm, match="names no group 'foot': there are food, objects"):
            await subject.read(replace(BLANK, wanted=Wanted(tag_groups=("foot",))))
    async with serving() as subject:
        assert (await subject.read(replace(BLANK, wanted=Wanted(5, ("foot",))))).tags == (), "nobody names any yet"


PHRASES = Vocabulary.of({"objects": ["cup", "saucer"], "light": ["dusk"]})
ALL_TAGS = replace(BLANK, wanted=Wanted(tags=100))


@asynccontextmanager
async def naming(tmp_path: Path, model: FakeModel | None = None) -> AsyncIterator[ImageClassifier]:
    """Start one that names tags from `PHRASES` and never tires of any."""
    settings = ClipSettings(vocabulary_cache=tmp_path, tag_threshold=0)
    async with serving(model=model or FakeModel(), settings=settings, vocabulary=PHRASES) as subject:
        yield subject


def tags_of(reading: Classification) -> set[str]:
    return {tag.value for tag in reading.tags}


async def tags_when(subject: ImageClassifier, expected: set[str]) -> Classification:
    async with asyncio.timeout(30):
        while tags_of(reading := await subject.read(ALL_TAGS)) != expected:
            pass
    return reading


async def test_first_answers_come_without_tags_and_are_told_from_later_ones(tmp_path: Path) -> None:
    model = FakeModel()
    model.embedder.gate.clear()
    async with naming(tmp_path, model) as subject:
        first = await subject.read(ALL_TAGS)
        assert first.tags == ()
        assert (await subject.status()).facts["vocabulary"] == "0 of 3 phrases embedded"
        model.embedder.gate.set()
        later = await tags_when(subject, {"cup", "saucer", "dusk"})
        assert first.model_version != later.model_version == subject.model_version
        assert (await subject.status()).facts["vocabulary"] == "3 phrases"
        assert (await subject.status()).state == "ready"


async def test_the_vocabulary_changes_under_load_without_a_failure_or_a_mixture(tmp_path: Path) -> None:
    async with naming(tmp_path) as subject:
        await tags_when(subject, {"cup", "saucer", "dusk"})
        change = asyncio.create_task(subject.reconfigure({"vocabulary": {"objects": ["jug"], "food": ["tea"]}}))
        seen: dict[str, set[str]] = {}
        async with asyncio.timeout(30):
            while "jug" not in seen.get(subject.model_version.version, set()):
                for reading in await asyncio.gather(*(subject.read(ALL_TAGS) for _ in range(20))):
                    assert tags_of(reading) == seen.setdefault(reading.model_version.version, tags_of(reading))
        assert list(seen.values()) == [{"cup", "saucer", "dusk"}, {"jug", "tea", "dusk"}]
        await change
        await subject.reconfigure(styles("fresco"))
        assert tags_of(await tags_when(subject, {"cup", "saucer", "dusk"}))
        assert await best_style(subject) == "fresco"
        await subject.reconfigure({"vocabulary": {"objects": [], "light": []}})
        assert (await subject.read(ALL_TAGS)).tags == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objects": ["cup", "Cup"]}, "named twice: cup"),
        ({"objects": [str(number) for number in range(100_000)]}, "100001 phrases in all groups together"),
    ],
)
async def test_a_wrong_vocabulary_leaves_all_as_it_was(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    async with naming(tmp_path) as subject:
        before = await tags_when(subject, {"cup", "saucer", "dusk"})
        await subject.reconfigure({**styles("fresco"), "max_batch_size": 3, "vocabulary": change})
        status = await subject.status()
        assert (status.state, told in status.reason) == ("fallback", True)
        assert await subject.read(ALL_TAGS) == before


async def test_without_clip_no_vocabulary_is_embedded(tmp_path: Path) -> None:
    settings = ClipSettings(vocabulary_cache=tmp_path)
    async with serving(FakeWeights(None), settings=settings, vocabulary=PHRASES) as subject:
        await subject.reconfigure({"vocabulary": {"food": ["tea"]}})
        assert (await subject.read(ALL_TAGS)).tags == ()
        assert "vocabulary" not in (await subject.status()).facts
