"""The headers that a client may not send; tests/test_service.py shows on a real Serve what they would do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from ray.serve._private import constants
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.client_switches import CLIENT_SWITCHES, middlewares


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
