"""How each failure is sent: status, `{"success": false, "error", "code"}`, and Retry-After where there is one."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import FAULT, AnalyzerError, KeyRequired, UploadTooSlow, is_fault
from serve_app.middleware.headers import ON_DATA
from serve_app.schemas import ErrorAnswer

logger = logging.getLogger("image_analyzer.requests")


def error_response(error: AnalyzerError) -> JSONResponse:
    """Shape an error of the tree as the contract's answer."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, UploadTooSlow):
        headers["Connection"] = "close"  # The rest of the body is waited for no longer.
    if isinstance(error, KeyRequired):
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorAnswer(error=str(error), code=error.code)
    response = JSONResponse(body.model_dump(), error.http_status, headers)
    response.raw_headers += ON_DATA.items()  # What answers for Serve is outside of the application, which adds them.
    return response


def add_error_handlers(app: FastAPI) -> None:
    """Give every failure that was foreseen the contract's shape, the framework's own included."""

    @app.exception_handler(AnalyzerError)
    async def on_analyzer_error(_: Request, error: AnalyzerError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        body = ErrorAnswer(error=f"{error.detail}: the routes are described at /docs.", code=status.name.lower())
        return JSONResponse(body.model_dump(), status, error.headers)


class FaultAnswers:
    """ASGI middleware: what nobody foresaw is logged, once, and answered as the contract's 500.

    Starlette's own place for such a handler is outside of all middleware, where the answer is neither counted nor gets
    its headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer if nobody else did."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            return
        except BaseException as error:
            if started or not is_fault(error):
                raise
            logger.error("A request failed.", exc_info=error)
            await error_response(AnalyzerError(FAULT))(scope, receive, send)
