"""The HTTP application in the test's own process, with stand-ins for the two deployments."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import httpx

from deployments.telemetry import Record, unrecorded
from serve_app.api import create_api
from serve_app.middleware.auth import KEYS_VARIABLE, ApiKeys
from serve_app.middleware.limits import Gate
from serve_app.pipeline import Pipeline
from serve_app.settings import Settings, load_settings
from tests.support.parts import FakeReader, FakeWriter
from tests.support.pictures import photograph_path

ANALYZE, STREAM, HEALTH = "/api/images/analyze", "/api/images/analyze-stream", "/api/images/health"
LIVE, READY = "/api/images/live", "/api/images/ready"
TARGETS = "/api/images/targets"

PHOTOGRAPH = photograph_path("rocket").read_bytes()


class Service:
    """The application with its stand-ins."""

    def __init__(
        self,
        *,
        api_keys: str = "",
        record: Record = unrecorded,
        clock: Callable[[], float] = time.perf_counter,
        **overrides: Any,
    ) -> None:
        self.reader, self.writer = FakeReader(), FakeWriter()
        # In threads: a process that decodes would outlive the event loop of its test, and end with the last of all.
        image = {"quick_decode_s": math.inf, **overrides.get("image", {})}
        self.settings: Settings = load_settings({**overrides, "image": image}, {})
        keys = ApiKeys(self.settings.access.keys_file, {KEYS_VARIABLE: api_keys})
        self.gate = Gate(self.settings.limits.max_requests, self.settings.limits.retry_after_s)
        pipeline = Pipeline(self.reader, self.writer, self.settings, clock)
        self.api = create_api(pipeline, self.settings, keys, record, self.gate)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    async def get(self, route: str) -> httpx.Response:
        async with self.client() as client:
            return await client.get(route)

    async def post(self, route: str = ANALYZE, image: bytes = PHOTOGRAPH, **form: str) -> httpx.Response:
        async with self.client() as client:
            return await client.post(route, files={"image": ("picture.jpg", image)}, data=form)

    async def events(self, **form: Any) -> list[dict[str, Any]]:
        response = await self.post(STREAM, **form)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        blocks = response.text.split("\n\n")
        assert blocks.pop() == ""
        assert all(block.startswith("data: ") for block in blocks)
        return [json.loads(block.removeprefix("data: ")) for block in blocks]
