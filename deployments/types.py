"""What travels between the ingress and the two deployments.

Plain frozen dataclasses: they pickle small and fast, and a unit test builds them by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

Pixels = NDArray[np.uint8]
"""One picture: uint8, (height, width, 3), RGB."""

CATEGORIES = ("style", "mood", "composition", "color_palette", "subjects")
GUESSED_FROM_PIXELS = frozenset({"style", "subjects"})
"""Colours, light and layout can be measured without a model; these cannot."""

AnalyzerName = Literal["clip", "pixels"]
PromptSource = Literal["ollama", "template", "none"]
Vision = Literal["auto", "on", "off"]
"""Whether a model looks at the picture itself: where it is quick about it, if it can, or not."""
Language = Literal["en", "es", "fr", "de", "it", "pt", "ja", "zh", "ar"]
Length = Literal["short", "medium", "long"]

PROSE = "prose"
"""The target that is always there, and whose prompts are as they come."""


def language_of(tag: str) -> str:
    """Give the language that a BCP 47 tag begins with (`pt` of `pt-BR`), or of a locale's name (`pt_BR`)."""
    return tag.strip().replace("_", "-").partition("-")[0].lower()


def _stripped(text: str) -> str:
    return text.strip()


def _target_name(text: str) -> str:
    return text.strip().lower().replace("-", "_")


Flag = Annotated[bool, BeforeValidator(_stripped)]

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""What a model's choice of words begins from: 31 bits, which every runner takes."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its share of its category's softmax, 0 to 1."""

    value: str
    score: float


Scores = Mapping[str, tuple[LabelScore, ...]]
"""Category name → its best labels, best first."""

BICUBIC = 3
"""Pillow's number of the filter that most models were trained with."""


@dataclass(frozen=True, slots=True)
class Swatch:
    """A measured colour: `#rrggbb`, and the share of the picture it covers, 0 to 1."""

    hex: str
    share: float


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Which vision model and which label set answer.

    `version` changes whenever either does: readings of one version can stand in for each other.
    `input_size_px` is the edge that the model likes to be sent, `resample` the filter that it was trained with, as
    Pillow numbers them; the ingress shrinks pictures so.
    """

    version: str
    input_size_px: int
    resample: int = BICUBIC


@dataclass(frozen=True, slots=True)
class Classification:
    """What the vision model saw in one picture, and the model version that saw it."""

    scores: Scores
    analyzer: AnalyzerName
    model_version: ModelVersion
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """What a caller asks for besides the picture."""

    user_prompt: str = ""
    deep_thinking: Flag = False
    language: Annotated[Language, BeforeValidator(language_of)] = "en"
    analysis_only: Flag = False
    model: Annotated[str, BeforeValidator(_stripped)] = ""
    seed: Seed | None = None
    vision: Annotated[Vision, BeforeValidator(_stripped)] = "auto"
    target: Annotated[str, BeforeValidator(_target_name)] = ""
    length: Annotated[Length | None, BeforeValidator(_stripped)] = None
    weights: Flag = False

    @property
    def wanted_length(self) -> Length:
        """How long the prompt is to be: deep mode's is long, if nothing else is said."""
        return self.length or ("long" if self.deep_thinking else "medium")


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """Everything the prompt is written from.

    `picture` is the same for the same upload of the same caller, or empty; `aspect_ratio` is `W:H`, or empty. `jpeg` is
    the picture itself, small, where a model may look at it; for the length of the request, and in no log.
    """

    scores: Scores
    palette: tuple[Swatch, ...] = ()
    options: PromptOptions = PromptOptions()
    analyzer: AnalyzerName = "clip"
    picture: str = ""
    aspect_ratio: str = ""
    jpeg: bytes = field(default=b"", repr=False)

    @property
    def seen(self) -> Scores:
        """The scores of what was seen or measured: of the stand-in's, not those that it can only guess."""
        if self.analyzer == "clip":
            return self.scores
        return {category: scores for category, scores in self.scores.items() if category not in GUESSED_FROM_PIXELS}


@dataclass(frozen=True, slots=True)
class PromptWaiting:
    """The request stands in line; `before` prompts have to be ended before it is begun, 0 once it is begun."""

    before: int


@dataclass(frozen=True, slots=True)
class PromptLooking:
    """A model looks at the picture before it writes; not `looks`: that failed, and it writes without."""

    looks: bool = True


@dataclass(frozen=True, slots=True)
class PromptThinking:
    """The model thinks before it writes."""


@dataclass(frozen=True, slots=True)
class PromptDelta:
    """The next piece of the prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class PromptRestart:
    """The writer failed midway: the text so far is void, another writer starts over."""

    reason: str


@dataclass(frozen=True, slots=True)
class SpentBudget:
    """How long a prompt is, and how long it may be, in the unit of its target's budget."""

    spent: int
    limit: int
    unit: str


@dataclass(frozen=True, slots=True)
class PromptComplete:
    """The whole prompt, who wrote it, what would have made it better, and whether something was cut away at its end.

    `model`: the name of the model that wrote, as Ollama lists it; empty where none did. `vision`: it saw the picture.
    `target`: what it was written for; empty where nothing was. `negative`: None where that takes none.
    `size`: the picture's, as its generator names it, or empty.
    """

    prompt: str
    source: PromptSource
    warnings: tuple[str, ...] = ()
    truncated: bool = False
    model: str = ""
    vision: bool = False
    target: str = PROSE
    negative: str | None = None
    size: str = ""
    budget: SpentBudget | None = None


PromptPiece = PromptWaiting | PromptLooking | PromptThinking | PromptDelta | PromptRestart
PromptEvent = PromptPiece | PromptComplete


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """How a deployment stands now.

    `ready`: its model answers. `fallback`: its substitute answers. `unavailable`: nothing answers.
    `reason` and `remedy` are sentences, empty when ready; `facts` are for people (device, precision, model, …).
    """

    state: Literal["ready", "fallback", "unavailable"]
    active: str
    reason: str = ""
    remedy: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a page or a tool is told of a target; `limits` by length, none where there is no budget."""

    name: str
    title: str
    help: str
    shape: str
    languages: tuple[Language, ...]
    negative: bool
    weights: bool
    unit: str | None = None
    limits: Mapping[Length, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model that a server has.

    `capabilities`: None where the server does not tell. `gpu_share`: how much of it is on a GPU, 0 to 1; None where it
    is not loaded.
    """

    name: str
    capabilities: tuple[str, ...] | None
    gpu_share: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HostModels:
    """A server, its version and its models, or why it does not tell and what to do."""

    host: str
    version: str | None = None
    models: tuple[HeldModel, ...] = ()
    reason: str = ""
    remedy: str = ""
