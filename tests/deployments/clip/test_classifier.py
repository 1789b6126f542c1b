"""Which analyser answers, when labels change, and when the deployment counts as dead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deployments.batching import Batching
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.checkpoint import embed_texts, read_tower
from deployments.clip.classifier import ImageClassifier, Logits, VisionModel
from deployments.clip.labels import LabelSet, load_labels
from deployments.clip.model import ClipEncoder
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.weights import ModelLoader, WeightsUnavailable
from deployments.errors import FAULT, AnalyzerError, ClipUnavailable, OutOfMemory, SettingsError, ShuttingDown
from deployments.types import AnalyzerName, Classification, Pixels
from tests.support.parts import FakeWeights

LABELS = load_labels(DEFAULT_LABELS_FILE)
BLANK: Pixels = np.zeros((224, 224, 3), np.uint8)


class FakeModel:
    """Always prefers each category's last label; raises `error` when told to."""

    analyzer: AnalyzerName = "clip"
    input_size_px = 224
    batching = Batching(streams=1, batch_size=16)
    facts: Mapping[str, str | int | float] = {"device": "fake"}

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.not_a_number = False
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.full_for_labels = 0
        """How many more times there is no room for the labels."""

    def prepare(self, labels: LabelSet) -> int:
        if self.full_for_labels:
            self.full_for_labels -= 1
            raise OutOfMemory("CUDA is out of memory.")
        return len(labels.texts())

    def logits(self, pictures: list[Pixels], prepared: int) -> Logits:
        self.calls += 1
        self.batches.append(len(pictures))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.gate.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        rows = np.tile(np.arange(prepared, dtype=np.float32), (len(pictures), 1))
        return np.full_like(rows, np.nan) if self.not_a_number else rows


def reader(
    weights: FakeWeights,
    model: VisionModel | None = None,
    *,
    load: Callable[[Path], VisionModel] | None = None,
    fallback: bool = True,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> ImageClassifier:
    return ImageClassifier(
        ClipSettings(),
        LABELS,
        clip=ModelLoader(
            *(ClipSettings(), load or (lambda folder: model or FakeModel())),
            find=weights.find,
            fetch=weights.fetch,
            wait=wait,
        ),
        fallback=PixelAnalyser() if fallback else None,
    )


async def clip_reading(subject: ImageClassifier) -> Classification:
    """Send pictures until CLIP answers one."""
    async with asyncio.timeout(5):
        reading = await subject.read(BLANK)
        while reading.analyzer != "clip":
            reading = await subject.read(BLANK)
    return reading


async def warned_reading(subject: ImageClassifier, warning: str) -> Classification:
    """Send pictures until an answer warns of that."""
    async with asyncio.timeout(5):
        while True:
            reading = await subject.read(BLANK)
            if warning in reading.warnings[0]:
                return reading


async def test_with_weights_on_disk_clip_answers_from_the_first_picture() -> None:
    subject = reader(FakeWeights(Path("/weights")))
    await subject.start()
    reading = await subject.read(BLANK)
    assert (reading.analyzer, reading.warnings) == ("clip", ())
    assert reading.scores["style"][0].value == "abstract"
    assert {name: len(labels) for name, labels in reading.scores.items()} == dict.fromkeys(reading.scores, 3)
    assert (await subject.status()).state == "ready"
    await subject.close()


async def test_clip_takes_over_from_the_pixel_analyser_when_its_weights_arrive() -> None:
    weights = FakeWeights()
    weights.percent = 42
    subject = reader(weights)
    await subject.start()
    reading = await warned_reading(subject, "42 %")
    assert reading.analyzer == "pixels"
    assert reading.warnings == (
        "The weights of 'openai/clip-vit-base-patch32' are being downloaded: 42 % so far. "
        "CLIP takes over by itself when they are there.",
        "The pixel analyser measures colour, light and layout; its styles and subjects are guesses.",
    )
    status = await subject.status()
    assert (status.state, status.active) == ("fallback", "pixels")
    assert "42 %" in status.reason

    weights.arrived.set()
    await clip_reading(subject)
    assert (await subject.status()).state == "ready"
    await subject.close()


async def test_a_failing_download_says_why_and_what_to_do() -> None:
    weights = FakeWeights()
    weights.failure = WeightsUnavailable("The hub cannot be reached.", "Check the network.", permanent=False)
    subject = reader(weights)
    await subject.start()
    reading = await warned_reading(subject, "hub")
    assert reading.warnings[0] == "The hub cannot be reached. Check the network."
    await subject.close()


async def test_required_clip_that_is_missing_is_a_503_with_the_reason() -> None:
    weights = FakeWeights()
    weights.broken = WeightsUnavailable("No model named 'owner/name'.", "Check clip.model.", permanent=True)
    subject = reader(weights, fallback=False)
    await subject.start()
    with pytest.raises(ClipUnavailable, match=r"No model named 'owner/name'\. Check clip\.model\."):
        await subject.read(BLANK)
    status = await subject.status()
    assert (status.state, status.active) == ("unavailable", "none")
    await subject.check()
    await subject.close()


async def test_weights_that_do_not_load_leave_the_pixel_analyser_and_the_reason() -> None:
    def load(folder: Path) -> VisionModel:
        raise OSError("header too large")

    subject = reader(FakeWeights(Path("/weights")), load=load)
    await subject.start()
    reading = await subject.read(BLANK)
    assert reading.analyzer == "pixels"
    assert "could not be loaded from /weights: header too large" in reading.warnings[0]
    await subject.close()


async def test_pictures_are_read_while_clip_loads() -> None:
    weights = FakeWeights()
    loading, loaded = threading.Event(), threading.Event()

    def load(folder: Path) -> VisionModel:
        loading.set()
        loaded.wait()
        return FakeModel()

    subject = reader(weights, load=load)
    await subject.start()
    weights.arrived.set()
    await asyncio.to_thread(loading.wait)
    try:
        assert (await subject.read(BLANK)).analyzer == "pixels"
    finally:
        loaded.set()
    await clip_reading(subject)
    await subject.close()


async def test_a_card_that_is_full_at_the_start_is_tried_again_until_clip_fits() -> None:
    waits_s: list[float] = []
    model = FakeModel()

    async def wait(seconds: float) -> None:
        waits_s.append(seconds)
        warnings.append((await subject.read(BLANK)).warnings[0])

    def load(folder: Path) -> VisionModel:
        if len(waits_s) < 2:
            raise OutOfMemory("CUDA is out of memory.")
        return model

    warnings: list[str] = []
    weights = FakeWeights(Path("/weights"))
    weights.arrived.set()
    subject = reader(weights, load=load, wait=wait)
    await subject.start()
    await clip_reading(subject)
    assert waits_s == [30, 30]
    assert set(warnings) == {"CUDA is out of memory. It is tried again every 30 s."}
    await subject.close()


async def test_a_card_too_full_for_the_labels_is_tried_again_too() -> None:
    waits_s: list[float] = []

    async def wait(seconds: float) -> None:
        waits_s.append(seconds)

    model = FakeModel()
    model.full_for_labels = 2
    weights = FakeWeights(Path("/weights"))
    weights.arrived.set()
    subject = reader(weights, model, wait=wait)
    await subject.start()
    await clip_reading(subject)
    assert waits_s == [30, 30]
    await subject.close()


async def test_labels_that_find_no_room_are_refused_and_the_old_ones_stay() -> None:
    model = FakeModel()
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
    await subject.reconfigure({})
    model.full_for_labels = 1
    await subject.reconfigure({"labels": LABELS.model_dump() | {"style": {"labels": ["fresco"]}}, "max_batch_size": 4})
    assert (await subject.status()).facts["refused_change"] == "CUDA is out of memory."
    assert (await subject.read(BLANK)).scores["style"][0].value == "abstract"
    await subject.close()


async def test_a_folder_still_being_copied_is_tried_again() -> None:
    weights = FakeWeights()
    weights.broken = WeightsUnavailable("The folder lacks a file.", "Copy it.", permanent=False)
    subject = reader(weights)
    await subject.start()
    assert (await subject.read(BLANK)).analyzer == "pixels"
    weights.arrived.set()
    await clip_reading(subject)
    await subject.close()


async def test_new_labels_hold_from_the_next_picture_and_wrong_ones_leave_the_old() -> None:
    subject = reader(FakeWeights(Path("/weights")))
    await subject.start()
    changed = LABELS.model_dump() | {"style": {"labels": ["fresco", "mosaic"]}}
    await subject.reconfigure({"labels": changed})
    reading = await subject.read(BLANK)
    assert [label.value for label in reading.scores["style"]] == ["mosaic", "fresco"]

    await subject.reconfigure({"labels": {"style": {"labels": ["x"]}}})
    assert (await subject.read(BLANK)).scores["style"][0].value == "mosaic"
    assert (await subject.status()).facts["refused_change"] == "user_config: labels.mood: Field required."

    await subject.reconfigure({})
    assert (await subject.read(BLANK)).scores["style"][0].value == "abstract"
    assert "refused_change" not in (await subject.status()).facts
    await subject.close()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"max_batch_size": 0}, "user_config: max_batch_size: Input should be greater than or equal to 1."),
        ({"batch": 4}, "user_config: batch: Extra inputs are not permitted."),
    ],
)
async def test_a_start_with_a_wrong_user_config_is_stopped(wrong: dict[str, Any], sentence: str) -> None:
    subject = reader(FakeWeights(Path("/weights")))
    with pytest.raises(SettingsError) as error:
        await subject.reconfigure(wrong)
    assert str(error.value) == sentence
    await subject.close()


async def test_labels_set_before_clip_arrives_are_the_ones_it_takes_over_with() -> None:
    weights = FakeWeights()
    subject = reader(weights)
    await subject.start()
    await subject.reconfigure({"labels": LABELS.model_dump() | {"style": {"labels": ["fresco"]}}})
    weights.arrived.set()
    reading = await clip_reading(subject)
    assert reading.scores["style"][0].value == "fresco"
    await subject.close()


async def test_each_label_is_encoded_once_however_many_pictures_come(tiny_clip: Path) -> None:
    encoded: list[str] = []

    def embed(texts: list[str]) -> NDArray[np.float32]:
        encoded.extend(texts)
        return embed_texts(tiny_clip, texts)

    engine = TorchEngine(read_tower(tiny_clip), torch.device("cpu"), torch.float32, cores=1)
    model = ClipEncoder(tiny_clip, name="tiny", engine=engine, input_size_px=224, embed_texts=embed)
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
    await asyncio.gather(*(subject.read(BLANK) for _ in range(50)))
    await subject.reconfigure({"max_batch_size": 4})
    await asyncio.gather(*(subject.read(BLANK) for _ in range(10)))
    assert encoded == LABELS.texts()
    await subject.close()


async def test_health_notices_a_dead_model_and_costs_nothing_while_pictures_are_answered() -> None:
    model = FakeModel()
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
    await subject.read(BLANK)
    await subject.check()
    assert model.calls == 1, "a picture was answered since the last check: no probe is needed"
    await subject.check()
    assert model.calls == 2
    model.error = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        await subject.check()
    model.error, model.not_a_number = None, True
    with pytest.raises(ClipUnavailable):
        await subject.check()
    await subject.close()


async def test_out_of_memory_fails_the_picture_and_not_the_replica() -> None:
    model = FakeModel()
    model.error = OutOfMemory("CUDA is out of memory.")
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
    with pytest.raises(OutOfMemory):
        await subject.read(BLANK)
    await subject.check()
    status = await subject.status()
    assert (status.state, status.reason) == ("unavailable", "CUDA is out of memory.")
    model.error = None
    assert (await subject.read(BLANK)).analyzer == "clip"
    assert (await subject.status()).state == "ready"
    await subject.close()


async def test_pictures_run_in_as_many_streams_and_batches_as_the_model_is_fast_with() -> None:
    model = FakeModel()
    model.batching = Batching(streams=3, batch_size=5)
    model.gate.clear()
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
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
    await subject.close()


async def test_pictures_that_travel_together_fail_each_for_itself() -> None:
    subject = reader(FakeWeights(Path("/weights")))
    await subject.start()
    readings = await subject.classify([BLANK, BLANK])
    assert [isinstance(reading, Classification) for reading in readings] == [True, True]
    await subject.close()
    refused = await subject.classify([BLANK, BLANK])
    assert [type(error) for error in refused] == [ShuttingDown, ShuttingDown]


async def test_a_fault_that_travels_tells_nothing_of_our_insides() -> None:
    model = FakeModel()
    model.error = RuntimeError("secret place")
    subject = reader(FakeWeights(Path("/weights")), model)
    await subject.start()
    (error,) = await subject.classify([BLANK])
    assert isinstance(error, AnalyzerError)
    assert str(error) == FAULT
    await subject.close()


async def test_each_reading_names_the_edition_that_was_told_and_a_change_of_labels_or_model_makes_another() -> None:
    weights = FakeWeights()
    subject = reader(weights)
    await subject.start()
    told = [subject.model_version]
    assert (await subject.read(BLANK)).model_version == told[-1]
    weights.arrived.set()
    assert (await clip_reading(subject)).model_version == subject.model_version
    told.append(subject.model_version)
    for labels in (["fresco"], ["mosaic"]):
        await subject.reconfigure({"labels": LABELS.model_dump() | {"style": {"labels": labels}}})
        told.append(subject.model_version)
        assert (await subject.read(BLANK)).model_version == told[-1]
    assert len({version.version for version in told}) == 4
    await subject.reconfigure({"max_batch_size": 4})
    assert subject.model_version == told[1], "the first labels again"
    await subject.close()


async def test_other_weights_are_another_edition_under_the_same_labels() -> None:
    versions = set()
    for name in ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16"):
        settings = ClipSettings(model=name)
        clip = ModelLoader(settings, lambda folder: FakeModel(), find=FakeWeights(Path("/weights")).find)
        subject = ImageClassifier(settings, LABELS, clip=clip, fallback=None)
        assert subject.model_version.version == "none", "nothing answers yet, so nothing remembered may"
        await subject.start()
        versions.add(subject.model_version.version)
        await subject.close()
    assert len(versions) == 2


async def test_an_edition_tells_the_size_that_its_model_wants() -> None:
    class Large(FakeModel):
        input_size_px = 336

    subject = reader(FakeWeights(Path("/weights")), Large())
    await subject.start()
    assert subject.model_version.input_size_px == 336
    await subject.close()
