"""The API's routes and their form: `create_api(pipeline, settings, keys)` is a plain FastAPI application.

No postponed annotations here: FastAPI could not resolve the ones that name what `create_api` makes.
"""

from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Request, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline

from deployments.errors import ComponentUnavailable
from deployments.telemetry import Record, unrecorded
from serve_app.description import MODELS, PICTURES, SERVICE, TAGS, answers, form_of, operation_id, unhealthy
from serve_app.form import read_form
from serve_app.middleware.access_log import AccessLog
from serve_app.middleware.auth import AccessControl, ApiKeys
from serve_app.middleware.errors import FaultAnswers, add_error_handlers
from serve_app.middleware.headers import ForgivingRoutes, ResponseHeaders
from serve_app.middleware.limits import BodyLimit, ConcurrencyLimit, Gate
from serve_app.pipeline import Job, Pipeline
from serve_app.schemas import (
    AnalyzeAnswer,
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
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
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

    async def described_form(form: Annotated[form_of(settings), Form(media_type="multipart/form-data")]) -> Job:  # type: ignore[valid-type]
        """Tell FastAPI, which describes the API, what `read_form` reads."""
        raise NotImplementedError

    Accepted = Annotated[Job, Depends(described_form)]  # noqa: N806

    pictures = APIRouter(route_class=PictureRoute, tags=[PICTURES])

    # AccessControl asks for the key, before the body; this puts it into the API's description.
    described = [Security(HTTPBearer(auto_error=False, description="Where the service asks for keys."))]

    @pictures.post(
        "/api/images/analyze",
        dependencies=described,
        responses=answers(),
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
        responses=answers(events=StreamEvent),
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
        tags=[MODELS],
        responses=answers(401, 403, 500, 503),
        summary="Which models may be asked for, what each can, and what is loaded where",
    )
    async def list_models() -> ModelsAnswer:
        return await pipeline.models()

    @api.get(
        "/api/images/targets",
        tags=[PICTURES],
        responses=answers(500, 503, 504),
        summary="What a prompt may be written for: image generators, captions, tags",
    )
    async def list_targets() -> TargetsAnswer:
        return await pipeline.targets()

    @api.post(
        "/api/images/unload",
        dependencies=described,
        tags=[MODELS],
        responses=answers(401, 403, 429, 500, 503),
        summary="Free the memory that the models take on the servers",
    )
    async def unload_models() -> UnloadedAnswer:
        return await pipeline.unload()

    @api.get(
        "/api/images/health",
        tags=[SERVICE],
        responses=unhealthy(),
        summary="What answers now, what does not, and what to do about it",
    )
    async def health(response: Response) -> HealthAnswer:
        answer = await pipeline.health(key_required=keys.required, stopping=gate.closed)
        response.status_code = 503 if answer.status == "error" else 200
        return answer

    @api.get(
        "/api/images/live",
        tags=[SERVICE],
        responses=answers(500),
        summary="Whether the process that takes requests answers; if not, start it anew",
    )
    async def live() -> StateAnswer:
        return StateAnswer(status="live")

    @api.get(
        "/api/images/ready",
        tags=[SERVICE],
        responses=answers(500, 503),
        summary="Whether this replica can take a picture; neither CLIP nor Ollama is asked",
    )
    async def ready() -> StateAnswer:
        gate.check_open()
        if reason := pipeline.not_ready_because():
            raise ComponentUnavailable(reason, retry_after_s=limits.retry_after_s)
        return StateAnswer(status="ready")

    add_page(api)
    return api
