"""What the API's document says of forms, failures and headers; FastAPI reads the rest from the routes.

No postponed annotations here: pydantic could not resolve what is local to a function.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import UploadFile
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from deployments.errors import AnalyzerError, SettingsError
from deployments.types import MAX_TAGS, Language, Length, Seed, TagCount, Vision
from serve_app.pictures.refusals import ACCEPTED_FORMATS
from serve_app.schemas import ErrorAnswer, HealthAnswer
from serve_app.settings import Settings
from serve_app.sse import EventStream

PICTURES, MODELS, SERVICE = "pictures", "models", "service"

TAGS = [
    {"name": PICTURES, "description": "A picture goes in; what is in it, and a prompt, come out."},
    {"name": MODELS, "description": "The models that write prompts."},
    {"name": SERVICE, "description": "Whether it answers, and how well."},
]

_REQUEST_ID = {
    "X-Request-ID": {
        "description": "Yours, if the request had one, else a new one; the log's lines of the request carry it.",
        "schema": {"type": "string"},
        "example": "5f1f3f0e-3c5e-4f0a-9b53-0d1c5c3a6c1e",
    }
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again; absent where nobody can tell.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {"description": "How to show a key.", "schema": {"type": "string"}, "example": "Bearer"}
}

_FAILURES = {
    400: "Not a readable image.",
    401: "An API key is asked for, and none that opens was sent.",
    403: "A page of another site sent this.",
    408: "The upload took too long to arrive.",
    413: "Over the byte or pixel limit.",
    415: "A picture of a format that is not accepted.",
    422: "A form field is wrong.",
    429: "The queue is full, or the caller calls too often; Retry-After says when to try again.",
    500: "A fault of the service; its log has it.",
    503: "A part is down and no fallback is allowed.",
    504: "A stage took longer than its limit.",
}

_OWN_HEADERS: dict[int, dict[str, Any]] = {401: _CHALLENGE, 429: _RETRY_AFTER, 503: _RETRY_AFTER}


def operation_id(route: APIRoute) -> str:
    """Name a route in generated clients as its function is named: these names stay."""
    return route.name


def answers(*failures: int, events: Any = None) -> dict[int | str, dict[str, Any]]:
    """Describe a route's answers beside its own: these failures, or all that there are; or a stream of events."""
    described: dict[int | str, dict[str, Any]] = {status: _failure(status) for status in failures or _FAILURES}
    if events is None:
        return {
            200: {"headers": _REQUEST_ID},
            **{status: {"model": ErrorAnswer} | described[status] for status in described},
        }
    # FastAPI would say of failures with a model that they are streamed too, and of an event that it is a string.
    content = {EventStream.media_type: {"schema": {"type": "object"}}}
    event = {"model": events, "description": "One event per `data:` line.", "content": content, "headers": _REQUEST_ID}
    return {200: event, **described}


def unhealthy() -> dict[int | str, dict[str, Any]]:
    """Describe the answers of the route whose 503 is no failure of it."""
    return answers(500) | {503: {"model": HealthAnswer, "description": "Cannot answer.", "headers": _REQUEST_ID}}


def _failure(status: int) -> dict[str, Any]:
    examples = {
        kind.code: {
            "summary": (kind.__doc__ or "").partition("\n")[0],
            "value": ErrorAnswer(error=kind.example, code=kind.code).model_dump(),
        }
        for kind in _tree(AnalyzerError)
        if kind.http_status == status and "code" in vars(kind) and kind is not SettingsError
    }
    schema = {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}
    return {
        "description": _FAILURES[status],
        "headers": _REQUEST_ID | _OWN_HEADERS.get(status, {}),
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _tree(kind: type[AnalyzerError]) -> Iterator[type[AnalyzerError]]:
    yield kind
    for special in kind.__subclasses__():
        yield from _tree(special)


def _without_default(schema: dict[str, Any]) -> None:
    """Say nothing of a default that no form can send: null."""
    del schema["default"]


def form_of(settings: Settings) -> type[BaseModel]:
    """Describe what `read_form` reads, with the limits as they are set."""
    limits = settings.limits
    formats = f"{', '.join(ACCEPTED_FORMATS[:-1])} or {ACCEPTED_FORMATS[-1]}"

    class AnalyzeForm(BaseModel):
        """A picture, and what is wanted of it."""

        image: UploadFile = Field(
            description=f"The picture: {formats}, up to {settings.image.max_upload_mib:g} MB and "
            f"{settings.image.max_megapixels:g} million pixels.",
            json_schema_extra={"format": "binary"},
        )
        user_prompt: str = Field(
            "",
            max_length=limits.max_user_prompt_chars,
            description=f"What you want of the picture; woven into the prompt. Up to {limits.max_user_prompt_chars} "
            "characters.",
            examples=["at dusk, as an oil painting"],
        )
        deep_thinking: bool = Field(False, description="A longer, richer prompt.", examples=[True])
        language: Language = Field(
            "en",
            description="The language of the prompt; a longer BCP 47 tag of one of these, `pt-BR`, will do.",
            examples=["ja"],
        )
        analysis_only: bool = Field(False, description="Write no prompt: `generatedPrompt` is empty.", examples=[True])
        model: str = Field(
            "",
            description="The model that writes: one of `allowed` of `/api/images/models`; else the configured.",
            examples=[settings.ollama.model],
        )
        seed: Seed | SkipJsonSchema[None] = Field(
            None,
            description="With the same one, and temperature 0, a picture gets the same prompt again. 31 bits.",
            examples=[7],
            json_schema_extra=_without_default,
        )
        vision: Vision = Field(
            "auto",
            description="Whether a model looks at the picture itself: `auto` where it can and is quick about it.",
            examples=["off"],
        )
        target: str = Field(
            "",
            description="What the prompt is for: a name of `/api/images/targets`; else the configured.",
            examples=["sdxl"],
        )
        length: Length | SkipJsonSchema[None] = Field(
            None,
            description="How long it is to be; else `long` with deep_thinking, `medium` without.",
            examples=["short"],
            json_schema_extra=_without_default,
        )
        weights: bool = Field(
            False,
            description="Weigh labels, `(words:1.2)`, where that means something to the target.",
            examples=[True],
        )
        tags: TagCount | SkipJsonSchema[None] = Field(
            None,
            description=f"How many tags are wanted, 0 to {MAX_TAGS}; else {settings.clip.top_tags}.",
            examples=[20],
            json_schema_extra=_without_default,
        )
        tag_groups: str = Field(
            "",
            description="Groups that tags are to be of, comma separated; else of any. Of a name that there is not, "
            "the refusal lists those that there are.",
            examples=["food, objects"],
        )
        labels: str = Field(
            "",
            description="Labels of your own for this picture, as JSON: category to phrases. Each becomes a category "
            "of `analysis`; one of a known name takes its place. A category's name is of small letters, digits and _, "
            f"and has two phrases or more. Up to {limits.max_own_categories} categories and {limits.max_own_labels} "
            f"phrases in all, of {limits.max_own_label_chars} characters each.",
            examples=['{"vehicle": ["car", "bicycle", "tram"]}'],
        )
        without: str = Field(
            "",
            max_length=limits.max_user_prompt_chars,
            description="What the prompt is to leave out though it was seen, such as tags of an earlier answer, comma "
            "separated; a target with a negative prompt names it there.",
            examples=["saucer, spoon"],
        )

    return AnalyzeForm
