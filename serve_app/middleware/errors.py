"""How each failure is sent: status, `{"success": false, "error", "code"}`, and Retry-After where there is one."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deployments.errors import FAULT, AnalyzerError, InvalidForm, KeyRequired, UploadTooSlow
from serve_app.schemas import ErrorAnswer


def error_response(error: AnalyzerError) -> JSONResponse:
    """Shape an error of the tree as the contract's answer."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, UploadTooSlow):
        headers["Connection"] = "close"  # The rest of the body is waited for no longer.
    if isinstance(error, KeyRequired):
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorAnswer(error=str(error), code=error.code)
    return JSONResponse(body.model_dump(), error.http_status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Give every failure the contract's shape, the framework's own included."""

    @app.exception_handler(AnalyzerError)
    async def on_analyzer_error(_: Request, error: AnalyzerError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        if status == HTTPStatus.BAD_REQUEST:
            reason = str(error.detail).rstrip(".")
            return error_response(InvalidForm(f"The body is not a valid multipart form: {reason}."))
        body = ErrorAnswer(error=f"{error.detail}: the routes are described at /docs.", code=status.name.lower())
        return JSONResponse(body.model_dump(), status, error.headers)

    @app.exception_handler(Exception)
    async def on_fault(_: Request, error: Exception) -> JSONResponse:
        return error_response(AnalyzerError(FAULT))
