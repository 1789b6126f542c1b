"""Our scores against transformers' own models, on real photographs and the same weights; what is run on what."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from deployments.batching import Batching
from deployments.clip.backends.base import Engine, Pictures, Vectors
from deployments.clip.backends.cuda_graph import CudaEngine, RecordedPasses
from deployments.clip.backends.openvino import OpenVinoEngine
from deployments.clip.backends.torch import TorchEngine
from deployments.clip.checkpoint import VisionTower, choose_precision, converted, embed_texts
from deployments.clip.labels import Category, LabelSet, load_labels
from deployments.clip.model import ClipEncoder, choose_device, encoder_in_torch, load_encoder, warm_up
from deployments.clip.settings import (
    DEFAULT_LABELS_FILE,
    ClipSettings,
    DeviceName,
    EngineName,
    Precision,
    PrecisionName,
)
from deployments.errors import OutOfMemory, SettingsError
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings
from tests.support.pictures import photograph, photograph_path, pixels
from tests.support.reference import (
    PHOTOGRAPHS,
    OriginalAlgorithm,
    Scores,
    camera_jpeg,
    largest_difference,
    our_scores,
    without_profile,
)
from tests.support.tiny_clip import make_tiny_clip
from tests.support.tiny_siglip import make_tiny_siglip

FAST_SHIFT = 2e-2
"""What decoding and resizing fast may move a score by; docs/api.md tells it."""


LABELS = load_labels(DEFAULT_LABELS_FILE)
PICTURES = [pixels(photograph(name)) for name in PHOTOGRAPHS]
CPU = torch.device("cpu")

PRECISIONS: dict[torch.dtype, PrecisionName] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


MakeEngine = Callable[[VisionTower, torch.dtype], Engine]


def torch_engine(tower: VisionTower, dtype: torch.dtype) -> Engine:
    return TorchEngine(tower, CPU, dtype, cores=2)


def openvino_engine(tower: VisionTower, dtype: torch.dtype) -> Engine:
    return OpenVinoEngine(converted(tower), PRECISIONS[dtype], cores=3)


ENGINES_OF_A_GPU: tuple[EngineName, EngineName] = ("auto", "torch")


def test_openvino_reports_to_nobody() -> None:
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"


ENGINES = pytest.mark.parametrize("engine", [torch_engine, openvino_engine], ids=["torch", "openvino"])


def encoder(folder: Path, engine: MakeEngine = torch_engine, dtype: torch.dtype = torch.float32) -> ClipEncoder:
    return encoder_in_torch(folder, name="tiny", make_engine=lambda tower: engine(tower, dtype))


@pytest.fixture(scope="module")
def eager(tiny_clip: Path) -> ClipEncoder:
    return encoder(tiny_clip)


@pytest.fixture(scope="module")
def prepared(eager: ClipEncoder) -> NDArray[np.float32]:
    return eager.prepare(LABELS)


@pytest.fixture(scope="module")
def tiny_siglip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_siglip(tmp_path_factory.mktemp("models") / "tiny-siglip2", version=2)


FAMILIES = ("tiny_clip", "tiny_siglip", "tiny_siglip2")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Path:
    """A model's folder."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="module")
def algorithm(family: Path) -> OriginalAlgorithm:
    return OriginalAlgorithm(family, LABELS)


@pytest.fixture(scope="module")
def original(algorithm: OriginalAlgorithm, family: Path) -> dict[str, Scores]:
    photographs = PHOTOGRAPHS if "siglip" not in family.name else PHOTOGRAPHS[:3]
    return {name: algorithm.scores(photograph(name)) for name in photographs}


@ENGINES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
def test_scores_equal_the_original_algorithm_s(
    dtype: torch.dtype, tolerance: float, engine: MakeEngine, original: dict[str, Scores], family: Path
) -> None:
    model = encoder(family, engine, dtype)
    for name, expected in original.items():
        ours = our_scores(model, without_profile(photograph(name)), LABELS, exact=True)
        assert largest_difference(expected, ours) <= tolerance, name
        assert max(map(np.ptp, expected.values())) > 5 * tolerance, "flat scores prove nothing"


@pytest.mark.parametrize("engine", get_args(EngineName)[1:])
def test_logits_are_transformers_logits_per_image(
    engine: EngineName, algorithm: OriginalAlgorithm, family: Path
) -> None:
    settings = ClipSettings(device="cpu", precision="float32", engine=engine)
    model = load_encoder(family, settings=settings, gpu_assigned=False, cores=2)
    upload = without_profile(photograph("coffee"))
    seen = read_picture(upload, ImageSettings(exact=True), model.input_size_px, resample=model.resample).pixels
    expected = torch.cat(list(algorithm.logits(photograph("coffee")).values()))
    np.testing.assert_allclose(model.logits(model.features([seen]), model.prepare(LABELS))[0], expected, atol=2e-3)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_fast_path_shifts_scores_by_less_than_the_docs_tell(name: str, eager: ClipEncoder) -> None:
    for upload, is_large in ((camera_jpeg(photograph(name)), True), (photograph_path(name).read_bytes(), False)):
        exact, fast = (our_scores(eager, upload, LABELS, exact=exact) for exact in (True, False))
        shift = largest_difference(exact, fast)
        assert shift <= FAST_SHIFT
        assert shift > 0 or not is_large, "the fast path was not taken"


@ENGINES
def test_a_batch_scores_as_its_pictures_alone_in_as_many_threads_as_the_engine_has_streams(
    engine: MakeEngine, tiny_clip: Path, prepared: NDArray[np.float32]
) -> None:
    model = encoder(tiny_clip, engine)
    alone = np.concatenate([model.logits(model.features([picture]), prepared) for picture in PICTURES])
    sizes = (1, 5, 2, 8, 3, 1)
    with ThreadPoolExecutor(model.batching.streams) as threads:
        for _ in range(20):
            together = threads.map(lambda size: model.logits(model.features(PICTURES[:size]), prepared), sizes)
            np.testing.assert_allclose(np.vstack(list(together)), np.vstack([alone[:n] for n in sizes]), atol=1e-3)


def test_a_picture_of_another_size_is_brought_to_the_model_s(eager: ClipEncoder, prepared: NDArray[np.float32]) -> None:
    large = np.asarray(photograph("china").resize((512, 512), Image.Resampling.BICUBIC))
    small = np.asarray(Image.fromarray(large).resize((224, 224), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(
        eager.logits(eager.features([large]), prepared), eager.logits(eager.features([small]), prepared), atol=1e-4
    )


@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
def test_labels_are_encoded_anew_at_any_time_while_pictures_are_compared(
    safetensors: bool, tmp_path: Path, eager: ClipEncoder
) -> None:
    folder = make_tiny_clip(tmp_path, safetensors=safetensors)
    settings = ClipSettings(device="cpu", precision="float32")
    model = load_encoder(folder, settings=settings, gpu_assigned=False, cores=2)
    subjects = LABELS.root["subjects"].model_copy(update={"templates": ("a {label} photograph",)})
    plain = model.prepare(LABELS)
    expected = eager.logits(eager.features(PICTURES), plain)
    with ThreadPoolExecutor(1) as thread:
        looking = [thread.submit(model.features, PICTURES) for _ in range(20)]
        templated = model.prepare(LabelSet({**LABELS.root, "subjects": subjects}))
        again = model.prepare(LABELS)
    for looked in looking:
        np.testing.assert_allclose(model.logits(looked.result(), plain), expected, atol=1e-3)
    np.testing.assert_allclose(again, plain, atol=1e-5)
    columns = {name: place for name, _, place in LABELS.categories()}
    assert np.allclose(plain[:, columns["style"]], templated[:, columns["style"]], atol=1e-4)
    assert not np.allclose(plain[:, columns["subjects"]], templated[:, columns["subjects"]], atol=1e-2)


def other_weights(folder: Path) -> None:
    make_tiny_clip(folder, seed=1)


@pytest.mark.parametrize("happen", [other_weights, shutil.rmtree])
def test_new_labels_are_refused_where_the_weights_are_not_those_of_the_pictures(
    happen: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    model = load_encoder(folder, settings=ClipSettings(device="cpu"), gpu_assigned=False, cores=1)
    prepared = model.prepare(LABELS)
    happen(folder)
    with pytest.raises(SettingsError, match=r"clip changed or vanished .*restart the service"):
        model.prepare(LABELS)
    assert np.isfinite(model.logits(model.features(PICTURES[:1]), prepared)).all()


Weights = dict[str, torch.Tensor]


def without(*beginnings: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight for name, weight in weights.items() if not name.startswith(beginnings)}


def filled(name: str, value: float) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: torch.full_like(weights[name], value)}


IN_PROCESS, IN_ANOTHER = get_args(EngineName)[1:]
"""Where torch reads a checkpoint: in the replica's process, or in one of its own."""
PROJECTION, OTHERS = "visual_projection.weight", r"\S+, \S+, \S+ and \d+ more"


@pytest.mark.parametrize(
    ("spoil", "told", "engine"),
    [
        (lambda weights: {f"module.{name}": weight for name, weight in weights.items()}, OTHERS, IN_PROCESS),
        (without(PROJECTION), f"not a whole CLIPModel: {PROJECTION} missing", IN_PROCESS),
        (without(PROJECTION), f"not a whole CLIPModel: {PROJECTION} missing", IN_ANOTHER),
        (without("vision_model."), f"vision_model.*{OTHERS} missing", IN_PROCESS),
        (without("text_model.", "text_projection"), f"text_model.*{OTHERS} missing", IN_PROCESS),
        (lambda weights: weights | {"head.weight": torch.zeros(3)}, "head.weight of no use", IN_PROCESS),
        (
            lambda weights: weights | {PROJECTION: torch.zeros(3, 32)},
            rf"{PROJECTION} \(3, 32\) for \(512, 32\) of another shape",
            IN_PROCESS,
        ),
        (filled(PROJECTION, np.nan), "vision model hold NaN or infinity", IN_PROCESS),
        (filled(PROJECTION, np.inf), "vision model hold NaN or infinity", IN_ANOTHER),
        (filled("text_projection.weight", np.nan), "text model hold NaN or infinity", IN_PROCESS),
    ],
)
def test_weights_that_are_not_a_whole_clip_are_refused_by_name(
    spoil: Callable[[Weights], Weights], told: str, engine: EngineName, tiny_clip: Path, tmp_path: Path
) -> None:
    """transformers would put random numbers in place of those that are missing, and every score would be of chance."""
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    file = folder / "model.safetensors"
    save_file(spoil(load_file(file)), file, {"format": "pt"})
    settings = ClipSettings(device="cpu", precision="float32", engine=engine)
    with pytest.raises(OSError, match=told):
        load_encoder(folder, settings=settings, gpu_assigned=False, cores=1).prepare(LABELS)


def test_what_published_checkpoints_hold_besides_is_passed_over(
    tiny_clip: Path, tmp_path: Path, eager: ClipEncoder, prepared: NDArray[np.float32]
) -> None:
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    file = folder / "model.safetensors"
    places = {f"{tower}_model.embeddings.position_ids": torch.arange(77)[None] for tower in ("text", "vision")}
    prefixed = {f"clip.{name}": weight for name, weight in load_file(file).items()}
    save_file({**prefixed, **places}, file, {"format": "pt"})
    same = encoder(folder)
    np.testing.assert_allclose(same.prepare(LABELS), prepared, atol=1e-5)
    np.testing.assert_allclose(
        same.logits(same.features(PICTURES), prepared), eager.logits(eager.features(PICTURES), prepared), atol=1e-4
    )


def rewrite(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("size_px", "engine"), [(256, torch_engine), (231, openvino_engine), (201, torch_engine), (200, openvino_engine)]
)
def test_of_a_picture_the_middle_is_taken_where_a_model_asks_for_a_larger_one_than_it_looks_at(
    size_px: int, engine: MakeEngine, tiny_clip: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    rewrite(folder / "preprocessor_config.json", lambda said: said.update(size={"shortest_edge": size_px}))
    original, ours = OriginalAlgorithm(folder, LABELS), encoder(folder, engine)
    assert ours.input_size_px == size_px
    upload = photograph_path("china").read_bytes()
    difference = largest_difference(original.scores(photograph("china")), our_scores(ours, upload, LABELS, exact=True))
    assert difference <= 1e-3


def test_a_label_with_several_templates_is_the_mean_of_its_texts_and_as_long(eager: ClipEncoder) -> None:
    templates = ("{label}", "a photo in {label}")
    texts = tuple(template.replace("{label}", "golden hour") for template in templates)
    one = eager.prepare(LabelSet({"lighting": Category(labels=("golden hour",), templates=templates)}))[:, 0]
    of_texts = eager.prepare(LabelSet({"lighting": Category(labels=texts)}))
    mean, length = of_texts.sum(axis=1), np.linalg.norm(of_texts[:, 0])
    np.testing.assert_allclose(one, length * mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-4)


def test_what_the_files_of_a_model_leave_unsaid_is_taken_from_the_model(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path, edge_px=64)
    rewrite(folder / "preprocessor_config.json", lambda said: said.pop("crop_size"))
    rewrite(folder / "tokenizer_config.json", lambda said: said.pop("model_max_length"))
    long = LabelSet({**LABELS.root, "style": Category(labels=("z" * 200,))})
    model = encoder(folder)
    assert model.input_size_px == 64
    assert np.isfinite(model.logits(model.features(PICTURES[:1]), model.prepare(long))).all()


@pytest.mark.parametrize("version", [1, 2])
def test_a_siglip_reads_texts_in_lower_case_and_the_beginning_of_long_ones(version: int, tmp_path: Path) -> None:
    folder = make_tiny_siglip(tmp_path, version=version)
    (folder / "tokenizer_config.json").write_text(
        (folder / "tokenizer_config.json").read_text().replace('"model_input_names": ["input_ids"]', '"x": 0')
    )
    said, meant, long, longer = embed_texts(folder, ["A 3D Render", "a 3d render", "z" * 200, "z" * 300]).T
    np.testing.assert_allclose(said, meant, atol=1e-4)
    np.testing.assert_allclose(long, longer, atol=1e-4)
    assert not np.allclose(said, long, atol=1)


Said = dict[str, Any]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda said: said.update(size={"height": 256, "width": 384}), "no squares of one size"),
        (lambda said: said.update(size={"longest_edge": 384}), "no squares of one size"),
        (lambda said: said.update(size={"shortest_edge": 256, "longest_edge": 384}), "no squares of one size"),
        (
            lambda said: said.update(do_center_crop=True, crop_size={"height": 256, "width": 224}),
            "no squares of one size",
        ),
        (lambda said: said.update(size={"height": 384, "width": 384}), "pictures of 384 px.*looks at 256 px"),
    ],
)
def test_pictures_that_a_model_does_not_look_at_are_refused(
    change: Callable[[Said], object], told: str, tiny_siglip: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_siglip, tmp_path / "siglip")
    rewrite(folder / "preprocessor_config.json", change)
    with pytest.raises(OSError, match=told):
        encoder(folder)


@pytest.mark.parametrize("edge_px", [224, 384, 512])
def test_a_siglip_of_another_size_is_sent_pictures_of_that_size(edge_px: int, tmp_path: Path) -> None:
    folder = make_tiny_siglip(tmp_path, edge_px=edge_px)
    content = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": content}))
    model = encoder(folder)
    assert model.input_size_px == edge_px
    assert np.isfinite(model.logits(model.features(PICTURES[:1]), model.prepare(LABELS))).all()


def test_a_siglip_without_pooling_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no pooling head"):
        encoder(make_tiny_siglip(tmp_path, vision_use_head=False))


def test_out_of_memory_is_told_as_such(tiny_clip: Path, prepared: NDArray[np.float32]) -> None:
    def hold_two(_: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        if len(arguments[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def small(tower: VisionTower) -> Engine:
        tower.vision.register_forward_pre_hook(hold_two)
        return torch_engine(tower, torch.float32)

    model = encoder_in_torch(tiny_clip, name="tiny", make_engine=small)
    assert model.logits(model.features(PICTURES[:2]), prepared).shape == (2, LABELS.count)
    with pytest.raises(OutOfMemory, match=r"CUDA is out of memory: .*DEVICE=cpu"):
        model.features(PICTURES[:3])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_that_is_not_there_is_told_with_the_cure(tiny_clip: Path) -> None:
    with pytest.raises(SettingsError, match=r"torch sees no CUDA GPU.*DEVICE=cpu"):
        load_encoder(tiny_clip, settings=ClipSettings(device="cuda"), gpu_assigned=True, cores=1)


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("auto", {"engine": "openvino", "streams": 2}),
        ("openvino", {"engine": "openvino", "streams": 2}),
        ("torch", {"engine": "torch"}),
    ],
)
def test_the_loaded_encoder_tells_what_it_runs_on(
    setting: EngineName, facts: dict[str, str | int], tiny_clip: Path
) -> None:
    settings = ClipSettings(model="a/b", device="cpu", precision="float32", engine=setting)
    model = load_encoder(tiny_clip, settings=settings, gpu_assigned=False, cores=2)
    weights = sum(weight.numel() for weight in load_file(tiny_clip / "model.safetensors").values())
    about = {"model": "a/b", "parameters": weights, "device": "cpu", "precision": "float32"}
    assert model.facts == about | facts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_a_gpu_s_recorded_passes_score_as_eager_ones(count: int, family: Path) -> None:
    recorded, eager = (
        load_encoder(family, settings=ClipSettings(device="cuda", engine=engine), gpu_assigned=True, cores=1)
        for engine in ENGINES_OF_A_GPU
    )
    prepared = eager.prepare(LABELS)
    for shift in range(2):
        batch = [PICTURES[(place + shift) % len(PICTURES)] for place in range(count)]
        np.testing.assert_allclose(
            recorded.logits(recorded.features(batch), prepared),
            eager.logits(eager.features(batch), prepared),
            atol=1e-2,
        )
    assert (recorded.facts["launch"], "launch" in eager.facts) == ("recorded", False)


class Unrecorded(RecordedPasses):
    """A device that has no room for more than two pictures, and that a pass cannot be recorded on."""

    def __init__(self, tower: VisionTower, device: torch.device) -> None:
        pass

    def encode(self, pictures: Pictures) -> Vectors:
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        raise RuntimeError("operation not permitted when stream is capturing")


def test_where_no_pass_can_be_recorded_kernels_are_launched_one_by_one(
    tiny_clip: Path, eager: ClipEncoder, prepared: NDArray[np.float32]
) -> None:
    def on_cpu(tower: VisionTower) -> Engine:
        return CudaEngine(tower, CPU, torch.float32, cores=2, passes=Unrecorded)

    model = encoder_in_torch(tiny_clip, name="tiny", make_engine=on_cpu)
    with pytest.raises(OutOfMemory):
        model.features(PICTURES)
    assert model.facts["launch"] == "recorded", "a full device says nothing of recording"
    np.testing.assert_allclose(
        model.logits(model.features(PICTURES[:2]), prepared),
        eager.logits(eager.features(PICTURES[:2]), prepared),
        atol=1e-3,
    )
    assert model.facts["launch"] == "kernel by kernel"


class SmallDevice:
    """An engine with room for `room` pictures; keeps the sizes of the batches that it was given."""

    batching = Batching(streams=1, batch_size=16)
    facts: Mapping[str, str | int | float] = {}

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def encode(self, pictures: Pictures) -> Vectors:
        self.sizes.append(len(pictures))
        if len(pictures) > self.room:
            raise OutOfMemory("CUDA is out of memory.")
        return np.zeros((len(pictures), 8), np.float32)


def test_the_warm_up_runs_every_size_that_fits_and_fails_only_where_none_does() -> None:
    for room, sizes in ((16, [1, 1, 2, 4, 8, 16]), (5, [1, 1, 2, 4, 8])):
        device = SmallDevice(room)
        warm_up(device, input_size_px=32)
        assert device.sizes == sizes
    with pytest.raises(OutOfMemory):
        warm_up(SmallDevice(0), input_size_px=32)


@pytest.mark.parametrize(
    ("setting", "device", "capabilities", "chosen"),
    [
        ("auto", "cuda", {}, "float16"),
        ("auto", "cpu", {"avx512_bf16": True}, "bfloat16"),
        ("auto", "cpu", {"amx_bf16": True}, "bfloat16"),
        ("auto", "cpu", {"avx2": True, "avx512_bf16": False}, "float32"),
        ("float32", "cuda", {}, "float32"),
        ("bfloat16", "cpu", {}, "bfloat16"),
    ],
)
def test_auto_takes_the_fastest_format_that_is_native_and_a_named_one_is_taken_as_it_is(
    setting: Precision, device: DeviceName, capabilities: dict[str, object], chosen: PrecisionName
) -> None:
    assert choose_precision(setting, device, capabilities) == chosen


def test_a_gpu_is_taken_where_ray_gave_one_and_the_setting_lets_it() -> None:
    assert choose_device("auto", gpu_assigned=False) == "cpu"
    assert choose_device("cpu", gpu_assigned=True) == "cpu"
    assert choose_device("auto", gpu_assigned=True) == ("cuda" if torch.cuda.is_available() else "cpu")
