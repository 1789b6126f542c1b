"""The API's routes, and nothing else: `create_api(pipeline, settings, keys)` is a plain FastAPI application.

No postponed annotations here: FastAPI could not resolve the ones that name what `create_api` makes.
"""

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Request, Response, Security, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from deployments.errors import InvalidForm
from deployments.telemetry import Record, unrecorded
from deployments.types import Language, PromptOptions
from serve_app.images import ACCEPTED_FORMATS
from serve_app.middleware.access_log import AccessLog
from serve_app.middleware.auth import AccessControl, ApiKeys
from serve_app.middleware.errors import add_error_handlers
from serve_app.middleware.headers import ResponseHeaders
from serve_app.middleware.limits import BodyLimit, ConcurrencyLimit, Gate
from serve_app.pipeline import Job, Pipeline
from serve_app.schemas import AnalyzeAnswer, ErrorAnswer, HealthAnswer, StreamEvent
from serve_app.settings import KIB, MIB, Settings
from serve_app.sse import EventStream
from serve_app.web_page import add_page

_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
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
    }.items()
}

# FastAPI would document a streaming route's failures as event streams too.
_FAILURES_AS_JSON: dict[int | str, dict[str, Any]] = {
    status: {
        "description": failure["description"],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
    }
    for status, failure in _FAILURES.items()
}


_FORM_FILES = 1
"""A form brings one picture."""


def create_api(
    pipeline: Pipeline,
    settings: Settings,
    keys: ApiKeys,
    record: Record = unrecorded,
    gate: Gate | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        pipeline: the use case that the routes call.
        settings: limits and CORS origins.
        keys: of those who may call.
        record: takes what every picture sent is counted and timed by.
        gate: admits requests; one of its own when None.
    """
    limits = settings.limits
    gate = gate or Gate(limits.max_requests, limits.retry_after_s)
    # FastAPI's own page at /docs loads its script from elsewhere; this one needs no network.
    api = FastAPIOffline(
        redoc_url=None,
        title="Image Analyzer",
        summary="A picture goes in; its style, mood, composition, colours and subjects come out, and a prompt.",
        form_limits={
            "max_files": _FORM_FILES,
            "max_fields": limits.max_form_fields,
            "max_part_size": int(limits.max_form_field_kib * KIB),
        },
    )
    api.add_middleware(
        BodyLimit,
        max_bytes=int(settings.image.max_upload_mib * MIB),
        timeout_s=limits.upload_timeout_s,
    )
    api.add_middleware(ConcurrencyLimit, gate=gate)
    api.add_middleware(AccessControl, keys=keys, settings=settings.access, cors_origins=settings.cors_origins)
    if settings.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    api.add_middleware(ResponseHeaders)
    api.add_middleware(AccessLog, record=record)
    add_error_handlers(api)

    async def accept(
        request: Request,
        image: Annotated[UploadFile, File(description=f"The picture: {', '.join(ACCEPTED_FORMATS)}.")],
        user_prompt: Annotated[str, Form(description="What you want of the picture; woven into the prompt.")] = "",
        deep_thinking: Annotated[bool, Form(description="A longer, richer prompt.")] = False,
        language: Annotated[Language, Form(description="The language of the prompt.")] = "en",
        analysis_only: Annotated[bool, Form(description="Write no prompt: `generatedPrompt` is empty.")] = False,
    ) -> AsyncIterator[Job]:
        longest = limits.max_user_prompt_chars
        if len(user_prompt) > longest:
            raise InvalidForm(f"Form field 'user_prompt' has {len(user_prompt)} characters: send at most {longest}.")
        options = PromptOptions(user_prompt, deep_thinking, language, analysis_only)
        with closing(await pipeline.accept(await image.read(), options)) as job:
            request.state.account.job = job
            yield job

    Accepted = Annotated[Job, Depends(accept)]  # noqa: N806 - a type

    # The gatekeeper asks for the key, before the body; this puts it into the API's description.
    described = [Security(HTTPBearer(auto_error=False, description="Where the service asks for keys."))]

    @api.post(
        "/api/images/analyze",
        dependencies=described,
        responses=_FAILURES,
        response_model_exclude_none=True,
        summary="Analyse a picture and write its prompt",
    )
    async def analyze(job: Accepted) -> AnalyzeAnswer:
        return await pipeline.answer(job)

    @api.post(
        "/api/images/analyze-stream",
        dependencies=described,
        responses={200: {"model": StreamEvent, "description": "One event per `data:` line."}, **_FAILURES_AS_JSON},
        response_class=EventStream,
        status_code=200,
        summary="The same, as Server-Sent Events while it happens",
    )
    async def analyze_stream(job: Accepted) -> EventStream:
        """Send `analyzing`, `analyzed`, `generating`, any number of `delta`, and `complete`.

        With `analysis_only` there is neither `generating` nor `delta`. A failure once the stream has begun is sent as
        an `error` event, which ends it. A second `generating` says that the writer failed midway and another starts
        over. Ignore statuses you do not know.
        """
        return EventStream(pipeline.stream(job), limits.heartbeat_s)

    @api.get(
        "/api/images/health",
        responses={503: {"model": HealthAnswer, "description": "Cannot answer."}},
        summary="What answers now, what does not, and what to do about it",
    )
    async def health(response: Response) -> HealthAnswer:
        answer = await pipeline.health(key_required=keys.required, stopping=gate.closed)
        response.status_code = 503 if answer.status == "error" else 200
        return answer

    add_page(api)
    return api
