"""The settings of the picture-reading deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from deployments.clip.labels import LabelSet
from deployments.clip.vocabulary.phrases import MAX_TEMPLATES, PLACE, Vocabulary
from deployments.data_files import validated
from deployments.types import MAX_TAGS

DEFAULT_LABELS_FILE = Path(__file__).parents[2] / "configs" / "labels.yaml"
DEFAULT_VOCABULARY = DEFAULT_LABELS_FILE.with_name("vocabulary")


def _with_place(template: str) -> str:
    if PLACE not in template:
        raise ValueError(f'the template has no "{PLACE}" in it')
    return template


Template = Annotated[str, AfterValidator(_with_place)]

Device = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

DeviceName = Literal["cpu", "cuda"]
PrecisionName = Literal["float32", "bfloat16", "float16"]

MAX_BATCH_SIZE = 256
"""Keeps a slip of the finger from filling a device; what may run beside the waiting is counted with it."""


def _as_we_spell_it(device: Any) -> Any:
    """Take `CPU`, ` cuda`, and `cuda:0`: Ray shows a replica the GPUs that are its own, counted from 0."""
    if not isinstance(device, str):
        return device
    spelt = device.strip().lower()
    return "cuda" if spelt == "cuda:0" else spelt


class ClipSettings(BaseModel):
    """What CLIP runs on, where its weights come from, and how much may wait for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        "openai/clip-vit-base-patch32",
        min_length=1,
        description="Hub name or local folder of a CLIP or SigLIP model, see docs/models.md. "
        "Environment: CLIP_MODEL_NAME.",
    )
    device: Annotated[Device, BeforeValidator(_as_we_spell_it)] = Field(
        "auto", description="`auto` takes a CUDA GPU where Ray gave the replica one. Environment: DEVICE."
    )
    precision: Precision = Field(
        "auto",
        description="`auto`: float16 on CUDA; on CPU bfloat16 where the processor computes it natively, else float32.",
    )
    engine: EngineName = Field(
        "auto",
        description="What runs CLIP's vision tower. `auto`: recorded CUDA graphs on a GPU, OpenVINO on CPU cores, "
        "each where it is faster (`python -m benchmarks.engines`). `torch`: eager torch on either.",
    )
    labels_file: Path = Field(
        DEFAULT_LABELS_FILE,
        description="The labels, per category. A relative path is taken from where the service was started.",
    )
    top_labels: int = Field(3, ge=1, le=50, description="Labels kept per category: the contract's three.")
    top_tags: int = Field(10, ge=0, le=MAX_TAGS, description="Tags per picture where the caller does not say how many.")
    vocabulary: tuple[Path, ...] = Field(
        (DEFAULT_VOCABULARY,),
        description="Folders of phrase files, each a group of what tags are named from; none: no tags by CLIP. A "
        "relative path is taken from where the service was started.",
    )
    vocabulary_cache: Path | None = Field(
        None,
        description="Folder on each node where the phrases' embeddings are kept: 2 KB a phrase. Without it "
        "`image-analyzer` beside the hub's cache (`HF_HOME`), which containers keep in a volume.",
    )
    vocabulary_retry_s: float = Field(
        300, gt=0, description="Wait before phrases are embedded again where that failed, in seconds: it takes a core."
    )
    tag_templates: tuple[Template, ...] = Field(
        ("a photo of {phrase}",),
        min_length=1,
        max_length=MAX_TEMPLATES,
        description="The texts that CLIP is given for each phrase of a file without templates of its own; of several "
        "the embeddings are averaged, and each takes as long to embed.",
    )
    tag_threshold: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Score below which no tag is named: of 10,000 phrases about 3 come as close by chance.",
    )
    tag_alike: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Cosine of two phrases, taken from the middle of all, above which only the surer one is named.",
    )
    max_waiting: int = Field(
        64,
        ge=1,
        description="Pictures that may wait for the model; one more is refused with 429. 64 is four full "
        "batches: whoever waits behind more is better served by trying again.",
    )
    retry_after_s: int = Field(2, ge=1, description="What a refused caller is told to wait, in seconds.")
    load_retry_s: float = Field(
        30, gt=0, description="Wait before loading again where the weights did not fit the GPU, in seconds."
    )
    download_retry_first_s: float = Field(
        5, gt=0, description="Wait after the first failed download, in seconds; doubles with each failure."
    )
    download_retry_max_s: float = Field(
        300, gt=0, description="Longest wait between two tries to download, in seconds."
    )
    start_patience_s: float = Field(
        60,
        ge=0,
        description="With `require_clip`, in seconds: a new replica fails once its waits between tries add up to this, "
        "and no byte arrived meanwhile, so that a change that cannot work is given up and the old replicas stay. It "
        "waits for as long as a download goes on.",
    )
    hung_after_s: float = Field(
        60,
        gt=0,
        description="A batch that runs this long, in seconds, has hung, and the replica is replaced: twice "
        "`limits.analysis_timeout_s`, nobody waits for it any more.",
    )


def _phrases(content: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    Vocabulary.of(content)
    return content


class ClipUserConfig(BaseModel):
    """What Serve's `user_config` may change while the replica serves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: int | None = Field(
        None,
        ge=1,
        le=MAX_BATCH_SIZE,
        description="Most pictures in one forward pass: more use a GPU better and take more of its memory. Without it, "
        "what the engine is fast with.",
    )
    labels: LabelSet | None = Field(
        None, description="A label set in the form of configs/labels.yaml; without it the label file's."
    )
    vocabulary: Annotated[dict[str, tuple[str, ...]], AfterValidator(_phrases)] = Field(
        {},
        description="Groups of phrases, in place of the phrase files' of the same names or beside them; an empty one "
        "takes a group away.",
    )


def parse_user_config(content: Mapping[str, Any]) -> ClipUserConfig:
    """Check a `user_config`.

    Raises:
        SettingsError: naming the field and what is wrong with it.
    """
    return validated(ClipUserConfig, content, "user_config")
