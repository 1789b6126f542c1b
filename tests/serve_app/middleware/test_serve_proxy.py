"""The headers that a client may not send; tests/test_service.py shows on a real Serve what comes of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from ray.serve._private import constants
from ray.serve._private.http_util import convert_object_to_asgi_messages
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from serve_app.middleware.serve_proxy import (
    CLIENT_SWITCHES,
    MAX_REQUEST_ID_CHARS,
    REQUEST_ID,
    CheckedHeaders,
    ContractFailures,
    middlewares,
)


async def headers_that_come_through(sent: dict[str, str]) -> dict[str, Any]:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse(dict(request.headers))

    app = Starlette(routes=[Route("/", echo)], middleware=middlewares())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        received: dict[str, Any] = (await client.get("/", headers=sent)).json()
    return received


@pytest.mark.parametrize("name", ["x-request-timeout-seconds", "X-Request-Disconnect-Disabled"])
async def test_serve_s_switches_are_taken_out_and_nothing_else(name: str) -> None:
    received = await headers_that_come_through({name: "0", "x-request-id": "7"})
    assert name.lower() not in received
    assert received["x-request-id"] == "7"


def test_the_headers_are_those_that_this_ray_reads() -> None:
    assert {name.decode() for name in CLIENT_SWITCHES} == {
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    }


@pytest.mark.parametrize(
    "name", ["0f8fad5b-d9cb-469f-a165-70867728950e", "order/17:retry=2", "x" * MAX_REQUEST_ID_CHARS]
)
async def test_a_request_id_that_a_log_may_hold_is_kept(name: str) -> None:
    assert (await headers_that_come_through({"x-request-id": name}))["x-request-id"] == name


@pytest.mark.parametrize(
    "name", ["", "x" * (MAX_REQUEST_ID_CHARS + 1), "two words", "a\tb", '{"level":"INFO"}', "caf\xe9"]
)
async def test_any_other_is_dropped_so_that_serve_makes_its_own(name: str) -> None:
    headers = [(b"X-Request-ID", name.encode("latin-1")), (b"accept", b"*/*")]
    passed_on: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed_on.append(scope)

    await CheckedHeaders(app)({"type": "http", "headers": headers}, no_message, no_answer)
    assert passed_on[0]["headers"] == headers[1:]


async def no_message() -> Message:
    raise AssertionError("nothing reads the body here")


async def no_answer(message: Message) -> None:
    raise AssertionError("nothing answers here")


def test_the_request_id_is_the_header_that_this_ray_reads() -> None:
    assert REQUEST_ID.decode() == constants.SERVE_HTTP_REQUEST_ID_HEADER


async def answered(*messages: Message) -> httpx.Response:
    """Give what a caller gets when Serve sends these."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    transport = httpx.ASGITransport(ContractFailures(serve))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.get("/api/images/health")


@pytest.mark.parametrize(
    ("serves", "status", "code"),
    [
        (408, 504, "deadline_passed"),
        (429, 429, "queue_full"),
        (500, 503, "component_unavailable"),
        (503, 503, "component_unavailable"),
    ],
)
async def test_what_serve_says_in_plain_text_comes_out_as_the_contract_has_it(
    serves: int, status: int, code: str
) -> None:
    response = await answered(*convert_object_to_asgi_messages("in plain text", serves))
    assert response.status_code == status
    assert response.json().keys() == {"success", "error", "code"}
    assert response.json()["code"] == code


async def test_what_serve_does_not_answer_is_answered() -> None:
    response = await answered()
    assert response.status_code == 503
    assert response.json()["code"] == "component_unavailable"


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_the_application_s_own_answers_pass_unchanged(status: int) -> None:
    response = await answered(*convert_object_to_asgi_messages({"own": True}, status))
    assert (response.status_code, response.json()) == (status, {"own": True})
