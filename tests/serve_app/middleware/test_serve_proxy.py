"""The headers that a client may not send; tests/test_service.py shows on a real Serve what comes of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from ray.serve._private import constants
from ray.serve._private.http_util import convert_object_to_asgi_messages
from starlette.types import Message, Receive, Scope, Send

from serve_app.middleware.serve_proxy import (
    CLIENT_SWITCHES,
    MAX_REQUEST_ID_CHARS,
    REQUEST_ID,
    CheckedHeaders,
    ContractFailures,
)


async def passed_on(*headers: tuple[str, str]) -> dict[str, str]:
    """Give the headers that come through of these."""
    came: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        came.append(scope)

    async def nothing(*_: Message) -> Any:
        raise AssertionError("nothing reads the body or answers here")

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await CheckedHeaders(app)({"type": "http", "headers": raw}, nothing, nothing)
    return {name.decode(): value.decode("latin-1") for name, value in came[0]["headers"]}


@pytest.mark.parametrize("name", ["x-request-timeout-seconds", "X-Request-Disconnect-Disabled"])
async def test_serve_s_switches_are_taken_out_and_nothing_else(name: str) -> None:
    assert await passed_on((name, "0"), ("x-request-id", "7")) == {"x-request-id": "7"}


def test_the_headers_are_those_that_this_ray_reads() -> None:
    assert {name.decode() for name in CLIENT_SWITCHES} == {
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    }
    assert REQUEST_ID.decode() == constants.SERVE_HTTP_REQUEST_ID_HEADER


FIT_FOR_A_LOG = ["0f8fad5b-d9cb-469f-a165-70867728950e", "order/17:retry=2", "x" * MAX_REQUEST_ID_CHARS]
NOT_FIT = ["", "x" * (MAX_REQUEST_ID_CHARS + 1), "two words", "a\tb", '{"level":"INFO"}', "caf\xe9"]


@pytest.mark.parametrize(("name", "kept"), [*((name, True) for name in FIT_FOR_A_LOG), *((n, False) for n in NOT_FIT)])
async def test_a_request_id_that_a_log_may_hold_is_kept_and_any_other_is_for_serve_to_replace(
    name: str, kept: bool
) -> None:
    came = await passed_on(("X-Request-ID", name), ("accept", "*/*"))
    assert came == ({"X-Request-ID": name} if kept else {}) | {"accept": "*/*"}


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
    assert (response.headers["x-content-type-options"], response.headers["cache-control"]) == ("nosniff", "no-store")


async def test_what_serve_does_not_answer_is_answered() -> None:
    response = await answered()
    assert response.status_code == 503
    assert response.json()["code"] == "component_unavailable"


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_the_application_s_own_answers_pass_unchanged(status: int) -> None:
    response = await answered(*convert_object_to_asgi_messages({"own": True}, status))
    assert (response.status_code, response.json()) == (status, {"own": True})
