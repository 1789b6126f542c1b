"""The API's routes and their form: `create_api(pipeline, settings, keys)` is a plain FastAPI application.

No postponed annotations here: FastAPI could not resolve the ones that name what `create_api` makes.
"""

from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, File, Form, Request, Response, Security, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from deployments.errors import ComponentUnavailable
from deployments.telemetry import Record, unrecorded
from deployments.types import Language, Length, Seed, TagCount, Vision
from serve_app.form import read_form
from serve_app.middleware.access_log import AccessLog
from serve_app.middleware.auth import AccessControl, ApiKeys
from serve_app.middleware.errors import FaultAnswers, add_error_handlers
from serve_app.middleware.headers import ForgivingRoutes, ResponseHeaders
from serve_app.middleware.limits import BodyLimit, ConcurrencyLimit, Gate
from serve_app.pictures.refusals import ACCEPTED_FORMATS
from serve_app.pipeline import Job, Pipeline
from serve_app.schemas import (
    AnalyzeAnswer,
    ErrorAnswer,
    HealthAnswer,
    ModelsAnswer,
    StateAnswer,
    StreamEvent,
    TargetsAnswer,
    UnloadedAnswer,
)
from serve_app.settings import MIB, Settings
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


async def described_form(
    image: Annotated[UploadFile, File(description=f"The picture: {', '.join(ACCEPTED_FORMATS)}.")],
    user_prompt: Annotated[str, Form(description="What you want of the picture; woven into the prompt.")] = "",
    deep_thinking: Annotated[bool, Form(description="A longer, richer prompt.")] = False,
    language: Annotated[
        Language, Form(description="The language of the prompt; a longer BCP 47 tag of one of these, `pt-BR`, will do.")
    ] = "en",
    analysis_only: Annotated[bool, Form(description="Write no prompt: `generatedPrompt` is empty.")] = False,
    model: Annotated[
        str, Form(description="The model that writes: one of `allowed` of `/api/images/models`; else the configured.")
    ] = "",
    seed: Annotated[
        Seed | None, Form(description="With the same one, and temperature 0, a picture gets the same prompt again.")
    ] = None,
    vision: Annotated[
        Vision,
        Form(description="Whether a model looks at the picture itself: `auto` where it can and is quick about it."),
    ] = "auto",
    target: Annotated[
        str, Form(description="What the prompt is for: a name of `/api/images/targets`; else the configured.")
    ] = "",
    length: Annotated[
        Length | None, Form(description="How long it is to be; else `long` with deep_thinking, `medium` without.")
    ] = None,
    weights: Annotated[
        bool, Form(description="Weigh labels, `(words:1.2)`, where that means something to the target.")
    ] = False,
    tags: Annotated[TagCount | None, Form(description="How many tags are wanted; else as many as configured.")] = None,
    tag_groups: Annotated[str, Form(description="Groups that tags are to be of, comma separated; else of any.")] = "",
    labels: Annotated[
        str,
        Form(
            description="Labels of your own for this picture, as JSON: category to phrases. Each becomes a category of "
            "`analysis`; one of a known name takes its place.",
            examples=['{"vehicle": ["car", "bicycle", "tram"]}'],
        ),
    ] = "",
) -> Job:
    """Tell FastAPI, which describes the API, what `read_form` reads."""
    raise NotImplementedError


Accepted = Annotated[Job, Depends(described_form)]


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
        redirect_slashes=False,
    )
    # The innermost first.
    api.add_middleware(ConcurrencyLimit, gate=gate)
    api.add_middleware(AccessControl, keys=keys, settings=settings.access, cors_origins=settings.cors_origins)
    api.add_middleware(FaultAnswers)
    api.add_middleware(AccessLog, record=record)
    api.add_middleware(BodyLimit, max_bytes=int(settings.image.max_upload_mib * MIB), limits=limits)
    if settings.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    api.add_middleware(ResponseHeaders)
    api.add_middleware(ForgivingRoutes)
    add_error_handlers(api)

    class PictureRoute(APIRoute):
        """A route whose function is called with the accepted picture."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            async def handle(request: Request) -> Response:
                job = await pipeline.accept(*await read_form(request, limits), caller=request.state.caller)
                request.state.account.job = job
                response: Response = await self.endpoint(job)
                return response

            return handle

    pictures = APIRouter(route_class=PictureRoute)

    # AccessControl asks for the key, before the body; this puts it into the API's description.
    described = [Security(HTTPBearer(auto_error=False, description="Where the service asks for keys."))]

    @pictures.post(
        "/api/images/analyze",
        dependencies=described,
        responses=_FAILURES,
        response_model=AnalyzeAnswer,
        summary="Analyse a picture and write its prompt",
    )
    async def analyze(job: Accepted) -> Response:
        with closing(job):
            answer = await pipeline.answer(job)
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @pictures.post(
        "/api/images/analyze-stream",
        dependencies=described,
        responses={200: {"model": StreamEvent, "description": "One event per `data:` line."}, **_FAILURES_AS_JSON},
        response_class=EventStream,
        status_code=200,
        summary="The same, as Server-Sent Events while it happens",
    )
    async def analyze_stream(job: Accepted) -> EventStream:
        """Send `analyzing`, `analyzed`, `generating`, perhaps `thinking`, any number of `delta`, and `complete`.

        With `analysis_only` there is neither `generating` nor `delta`. A failure once the stream has begun is sent as
        an `error` event, which ends it. Another `generating` tells the place in line, or that the writer failed midway
        and another starts over: the text so far is void. Ignore statuses you do not know.
        """
        return EventStream(pipeline.stream(job), limits.heartbeat_s, ended=job.close)

    api.include_router(pictures)

    @api.get(
        "/api/images/models",
        dependencies=described,
        responses={status: _FAILURES[status] for status in (401, 503)},
        summary="Which models may be asked for, what each can, and what is loaded where",
    )
    async def models() -> ModelsAnswer:
        return await pipeline.models()

    @api.get(
        "/api/images/targets",
        responses={status: _FAILURES[status] for status in (503, 504)},
        summary="What a prompt may be written for: image generators, captions, tags",
    )
    async def targets() -> TargetsAnswer:
        return await pipeline.targets()

    @api.post(
        "/api/images/unload",
        dependencies=described,
        responses={status: _FAILURES[status] for status in (401, 403, 429, 503)},
        summary="Free the memory that the models take on the servers",
    )
    async def unload() -> UnloadedAnswer:
        return await pipeline.unload()

    @api.get(
        "/api/images/health",
        responses={503: {"model": HealthAnswer, "description": "Cannot answer."}},
        summary="What answers now, what does not, and what to do about it",
    )
    async def health(response: Response) -> HealthAnswer:
        answer = await pipeline.health(key_required=keys.required, stopping=gate.closed)
        response.status_code = 503 if answer.status == "error" else 200
        return answer

    @api.get("/api/images/live", summary="Whether the process that takes requests answers; if not, start it anew")
    async def live() -> StateAnswer:
        return StateAnswer(status="live")

    @api.get(
        "/api/images/ready",
        responses={503: _FAILURES[503]},
        summary="Whether this replica can take a picture; neither CLIP nor Ollama is asked",
    )
    async def ready() -> StateAnswer:
        gate.check_open()
        if reason := pipeline.not_ready_because():
            raise ComponentUnavailable(reason, retry_after_s=limits.retry_after_s)
        return StateAnswer(status="ready")

    add_page(api)
    return api
