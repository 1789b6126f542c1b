"""What travels between the ingress and the two deployments.

Plain frozen dataclasses: they pickle small and fast, and a unit test builds them by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

Pixels = NDArray[np.uint8]
"""One picture: uint8, (height, width, 3), RGB."""

CATEGORIES = ("style", "mood", "composition", "color_palette", "subjects")
GUESSED_FROM_PIXELS = frozenset({"style", "subjects"})
"""Colours, light and layout can be measured without a model; these cannot."""

SEEN_SHARE = 0.6
"""Subjects of the objects analyser that it saw have this much of their category, those that it guesses have less."""

AnalyzerName = Literal["clip", "objects", "pixels"]
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


def listed(text: Any) -> Any:
    """Take names with commas between; anything else is left as it is."""
    return tuple(filter(None, map(_stripped, text.split(",")))) if isinstance(text, str) else text


def _parsed(text: Any) -> Any:
    """Take JSON, category → phrases, as pairs."""
    if not isinstance(text, str):
        return text
    try:
        content = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"send JSON, category to phrases: {error}") from None
    if not isinstance(content, tuple):
        raise ValueError('send JSON, category to phrases, as {"vehicle": ["car", "bicycle"]}')
    if len(dict(content)) < len(content):
        raise ValueError("a category stands twice")
    return content


Flag = Annotated[bool, BeforeValidator(_stripped)]

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""What a model's choice of words begins from: 31 bits, which every runner takes."""


MAX_TAGS = 100
"""Most tags of an answer: more than a prompt or a reader takes, and few enough to be ranked for every picture."""

TagCount = Annotated[int, Field(ge=0, le=MAX_TAGS)]

CATEGORY_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

_FIELDS = "success status analysis palette tags analyzer cached model vision target size truncated timings warnings"
ANSWER_FIELDS = frozenset(_FIELDS.split())
"""Names that answers have for other things: who prints or flattens an answer would take one for the other."""


def _category_name(text: str) -> str:
    if not CATEGORY_NAME.fullmatch(text):
        raise ValueError("a category's name has small letters, digits and _, begins with a letter, and has 40 at most")
    if text in ANSWER_FIELDS:
        raise ValueError("answers have another field of this name: call the category something else")
    return text


CategoryName = Annotated[str, AfterValidator(_category_name)]

OwnLabels = tuple[tuple[CategoryName, tuple[str, ...]], ...]
"""Category → phrases of a caller's own, as pairs: hashable, so that what is made of them can be remembered."""


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
class Tag:
    """A phrase that names something in the picture, the group it is of, and how sure it is, 0 to 1.

    Scores of different phrases and of different pictures can be compared.
    """

    value: str
    group: str
    score: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants read in a picture besides the label file's categories; without `tag_groups` of any group."""

    tags: int = 0
    tag_groups: tuple[str, ...] = ()
    labels: OwnLabels = ()


NOTHING_MORE = Wanted()


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture on its way to the vision model, and what is wanted of it."""

    pixels: Pixels
    wanted: Wanted = NOTHING_MORE


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
    """What the vision model saw in one picture, and the model version that saw it.

    `scores` are the label file's categories, in its order, then the caller's own. `unspoken` are those that stand in
    answers and not in prompts.
    """

    scores: Scores
    analyzer: AnalyzerName
    model_version: ModelVersion
    warnings: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    unspoken: frozenset[str] = frozenset()


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
    tags: TagCount | None = None
    tag_groups: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    labels: Annotated[OwnLabels, BeforeValidator(_parsed)] = ()
    without: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()

    def wanted(self, tags: int) -> Wanted:
        """Give what is to be read in the picture; `tags` where the caller does not say how many."""
        return Wanted(tags if self.tags is None else self.tags, self.tag_groups, self.labels)

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
    tags: tuple[Tag, ...] = ()
    jpeg: bytes = field(default=b"", repr=False)

    @property
    def seen(self) -> Scores:
        """The scores of what was seen or measured: of the stand-in's, not those that it can only guess."""
        if self.analyzer == "clip":
            return self.scores
        seen = {category: scores for category, scores in self.scores.items() if category not in GUESSED_FROM_PIXELS}
        if self.analyzer == "objects":
            seen["subjects"] = tuple(label for label in self.scores.get("subjects", ()) if label.score >= SEEN_SHARE)
        return seen


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
