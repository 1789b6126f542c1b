"""The contract in code: what the API answers, field by field. Existing clients rely on these names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from deployments.types import AnalyzerName, Language, Length, PromptSource


def _all_sent(schema: dict[str, Any]) -> None:
    """Say that what has a value of its own is always sent: here alone need nobody give it."""
    own = [name for name, said in schema["properties"].items() if said.get("default") is not None]
    for name in own:
        del schema["properties"][name]["default"]
    schema["required"] = sorted({*own, *schema.get("required", ())}, key=list(schema["properties"]).index)


class Sent(BaseModel):
    """What the service sends."""

    model_config = ConfigDict(json_schema_extra=_all_sent)


class ScoredLabel(Sent):
    """A label and how well it fits, relative to its category's other labels."""

    value: str = Field(examples=["photorealistic"])
    score: float = Field(ge=0, le=1, description="Share of the category's softmax.", examples=[0.95])


class ScoredTag(Sent):
    """A phrase that names something in the picture, of many thousands."""

    value: str = Field(examples=["espresso"])
    group: str = Field(examples=["food"])
    score: float = Field(ge=0, le=1, description="How sure it is; can be compared between pictures.", examples=[0.91])


class AnalysisBody(Sent):
    """The best labels of each category, best first: of the five, and of any others that the label file or you name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[ScoredLabel]]

    style: list[ScoredLabel]
    mood: list[ScoredLabel]
    composition: list[ScoredLabel]
    color_palette: list[ScoredLabel]
    subjects: list[ScoredLabel]


class Colour(Sent):
    """A colour measured in the picture."""

    hex: str = Field(pattern="^#[0-9a-f]{6}$", examples=["#aabbcc"])
    share: float = Field(ge=0, le=1, description="Share of the picture it covers.", examples=[0.41])


class Timings(Sent):
    """Milliseconds spent in each stage; a stage that did not run for this request is absent."""

    decode: float | None = Field(
        None,
        description="Reading the upload's bytes as a picture, shrinking it, measuring its palette; absent if cached.",
    )
    analysis: float | None = Field(
        None, description="The vision model, waiting for it included; absent if the analysis is cached."
    )
    prompt: float | None = Field(None, description="Writing the prompt; absent until it is written.")
    total: float = Field(description="From the upload's arrival, looking in the cache included.")


TokenUnit = Literal["clip_tokens", "words", "characters", "phrases"]


class OfTarget(Sent):
    """What an answer says of the target that its prompt was written for; absent what that does not have."""

    target: str | None = Field(None, description="The target; absent if no prompt was asked for.", examples=["sdxl"])
    negativePrompt: str | None = Field(  # noqa: N815
        None, description="What the generator is to avoid, in a field of its own; absent where it has none."
    )
    aspectRatio: str = Field(  # noqa: N815
        pattern=r"^\d+:\d+$", description="The usual ratio that is nearest to the picture's, upright.", examples=["3:2"]
    )
    size: str | None = Field(None, description="The nearest of the generator's sizes.", examples=["1536x1024"])
    promptTokens: int | None = Field(None, description="How long the prompt is, in tokenUnit.")  # noqa: N815
    tokenLimit: int | None = Field(None, description="How long it may be.")  # noqa: N815
    tokenUnit: TokenUnit | None = Field(  # noqa: N815
        None, description="What the target's budget is counted in; absent where it has none."
    )


class _Analyzed(Sent):
    success: Literal[True] = True
    generatedPrompt: str = Field(description="Empty if only the analysis was asked for.")  # noqa: N815
    analysis: AnalysisBody
    userInput: str = Field(description="The user_prompt as it was sent.")  # noqa: N815
    palette: list[Colour]
    tags: list[ScoredTag] = Field(description="What is seen in the picture, surest first, alike ones told once.")
    promptSource: PromptSource = Field(description="Who wrote the prompt; none if nobody was asked to.")  # noqa: N815
    model: str | None = Field(None, description="The model that wrote the prompt; absent where none did.")
    vision: bool = Field(description="Whether the model saw the picture itself, beside what was measured of it.")
    truncated: bool = Field(
        description="Whether the model broke off or repeated itself, so that an end was cut away, or the budget of the "
        "target had no room for all."
    )
    analyzer: AnalyzerName = Field(description="Who read the picture.")
    cached: bool = Field(
        description="Whether the analysis was made for another request with the same bytes, before or meanwhile; where "
        "keys are asked for, another with the same key."
    )
    timings: Timings
    warnings: list[str] = Field(description="What would have made this answer better, and what to do about it.")


class AnalyzeAnswer(OfTarget, _Analyzed):
    """The answer of the analyze route."""


class ErrorAnswer(Sent):
    """Every failure's body."""

    success: Literal[False] = False
    error: str = Field(description="One sentence that says what to do.")
    code: str = Field(description="Stable snake_case name of the failure; the examples of each status show all.")


class AnalyzingEvent(Sent):
    """The upload is a picture; its analysis begins."""

    status: Literal["analyzing"] = "analyzing"
    message: str


class AnalyzedEvent(Sent):
    """The analysis is there."""

    status: Literal["analyzed"] = "analyzed"
    analysis: AnalysisBody
    palette: list[Colour]
    tags: list[ScoredTag]
    analyzer: AnalyzerName
    cached: bool
    timings: Timings
    warnings: list[str]


class GeneratingEvent(Sent):
    """A prompt is being written, or waits for that. Sent again if the writer failed midway: the text so far is void."""

    status: Literal["generating"] = "generating"
    message: str
    before: int | None = Field(
        None, description="How many prompts are written before this one; absent once it is being written."
    )
    vision: bool | None = Field(None, description="Whether a model looks at the picture first; absent if none does.")


class ThinkingEvent(Sent):
    """The model thinks, and will write then; sent once at most."""

    status: Literal["thinking"] = "thinking"
    message: str = "The model is thinking before it writes."


class DeltaEvent(Sent):
    """The next piece of the prompt."""

    status: Literal["delta"] = "delta"
    text: str


class _Completed(Sent):
    status: Literal["complete"] = "complete"
    generatedPrompt: str  # noqa: N815
    userInput: str  # noqa: N815
    promptSource: PromptSource  # noqa: N815
    model: str | None = None
    vision: bool
    truncated: bool
    timings: Timings
    warnings: list[str]


class CompleteEvent(OfTarget, _Completed):
    """The whole prompt; the stream ends."""


class ErrorEvent(Sent):
    """The request failed; the stream ends."""

    status: Literal["error"] = "error"
    error: str
    code: str


StreamEvent = TypeAliasType(
    "StreamEvent",
    Annotated[
        AnalyzingEvent | AnalyzedEvent | GeneratingEvent | ThinkingEvent | DeltaEvent | CompleteEvent | ErrorEvent,
        Field(discriminator="status"),
    ],
)


class ComponentHealth(Sent):
    """One part of the service, as it is now."""

    status: Literal["ready", "fallback", "unavailable"]
    active: str = Field(description="What answers now: clip, objects, pixels, ollama, template or none.")
    reason: str = Field("", description="Why it is not ready.")
    remedy: str = Field("", description="What to do about it.")
    facts: dict[str, str | int | float] = Field(default_factory=dict, description="Device, precision, model, …")


class StateAnswer(Sent):
    """What a probe asked for is so."""

    status: Literal["live", "ready"]


class HealthAnswer(Sent):
    """`ok`: CLIP and Ollama answer. `degraded`: answering, with a part on its fallback. `error`: cannot answer.

    A service that is being stopped is in `error` too: it takes nothing new.
    """

    status: Literal["ok", "degraded", "error"]
    service: Literal["image-analyzer"] = "image-analyzer"
    analyzer_initialized: bool = Field(description="Whether a picture would be analysed now.")
    key_required: bool = Field(description="Whether a picture must come with an API key.")
    stopping: bool = Field(False, description="Whether the service is being stopped: it finishes what was begun.")
    components: dict[Literal["analyzer", "writer"], ComponentHealth]


class ModelEntry(Sent):
    """A model that a server has at least."""

    name: str
    capabilities: list[str] | None = Field(description="completion, thinking, vision, …; null: an old server.")
    loaded: bool
    gpu_share: float | None = Field(ge=0, le=1, description="How much of a loaded one is on a GPU.")
    size_bytes: int | None
    hosts: list[str]


class ModelHost(Sent):
    """A server, or why it does not tell."""

    host: str
    version: str | None
    reason: str
    remedy: str


class ModelsAnswer(Sent):
    """What may be asked for, and what is there."""

    default: str = Field(description="The model that writes where none is asked for.")
    allowed: list[str] = Field(description="What the form field model takes.")
    models: list[ModelEntry]
    hosts: list[ModelHost]


class TargetEntry(Sent):
    """What a prompt may be written for."""

    name: str = Field(description="What the form field target takes.")
    title: str
    help: str
    shape: Literal["prose", "sentences", "phrases", "tags"]
    languages: list[Language]
    negative: bool = Field(description="Whether it has a negative prompt.")
    weights: bool = Field(description="Whether weights mean something to it.")
    unit: TokenUnit | None = Field(description="What its budget is counted in; null where it has none.")
    limits: dict[Length, int] = Field(description="The longest prompt of each length; empty where it has none.")


class TargetsAnswer(Sent):
    """What a prompt may be written for, in the order of the target file."""

    default: str = Field(description="The target of a request that names none.")
    targets: list[TargetEntry]


class UnloadedAnswer(Sent):
    """The memory is free, or will be once what is being written is."""

    status: Literal["unloaded"] = "unloaded"
    models: list[str] = Field(description="Those that were loaded.")
    hosts: list[str] = Field(description="The servers that answered.")
