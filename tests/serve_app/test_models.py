"""The routes that tell of models and free their memory, and the form field that chooses one."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.errors import OllamaUnavailable
from deployments.types import HeldModel, HostModels
from tests.support.in_process import ANALYZE, STREAM, Service

MODELS, UNLOAD = "/api/images/models", "/api/images/unload"
KEY = "0123456789abcdef0123"
A, B, C = (f"http://{name}:11434" for name in "abc")


async def test_models_are_listed_once_with_where_they_are_and_servers_with_why_they_do_not_tell() -> None:
    service = Service(ollama={"model": "smol", "allowed_models": ["eyes"]})
    service.writer.hosts = (
        HostModels(A, "0.33.0", (HeldModel("smol:latest", ("completion",), None, 98),)),
        HostModels(B, "0.24.0", (HeldModel("smol:latest", None, 0.5, 98), HeldModel("old:latest", None))),
        HostModels(C, reason="Ollama does not answer.", remedy="Start it."),
    )
    async with service.client() as client:
        told: dict[str, Any] = (await client.get(MODELS)).json()
    assert (told["default"], told["allowed"]) == ("smol", ["smol", "eyes"])
    smol, old = told["models"]
    assert smol == {
        "name": "smol:latest",
        "capabilities": ["completion"],
        "loaded": True,
        "gpu_share": pytest.approx(0.5),
        "size_bytes": 98,
        "hosts": [A, B],
    }
    assert (old["capabilities"], old["loaded"], old["gpu_share"], old["size_bytes"]) == (None, False, None, None)
    assert told["hosts"][1:] == [
        {"host": B, "version": "0.24.0", "reason": "", "remedy": ""},
        {"host": C, "version": None, "reason": "Ollama does not answer.", "remedy": "Start it."},
    ]


@pytest.mark.parametrize(("method", "route"), [("GET", MODELS), ("HEAD", f"{MODELS}/"), ("POST", UNLOAD)])
async def test_both_need_a_key_where_keys_are(method: str, route: str) -> None:
    async with Service(api_keys=KEY).client() as client:
        assert (await client.request(method, route)).status_code == 401
        assert (await client.request(method, route, headers={"Authorization": f"Bearer {KEY}"})).status_code == 200


async def test_unloading_tells_what_was_freed_or_that_nobody_answers() -> None:
    service = Service()
    async with service.client() as client:
        freed = (await client.post(UNLOAD)).json()
        assert freed == {"status": "unloaded", "models": ["mistral:latest"], "hosts": [A]}
        service.writer.error = OllamaUnavailable("Ollama does not answer.")
        answer = await client.post(UNLOAD)
    assert (answer.status_code, answer.json()["code"]) == (503, "ollama_unavailable")


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
async def test_a_model_that_may_not_be_asked_for_is_refused_before_anything_is_analysed(route: str) -> None:
    service = Service(ollama={"model": "smol", "allowed_models": ["eyes"]})
    for asked, told in (("huge", "send one of smol, eyes"), ("huge:cloud", "ollama.allow_cloud")):
        answer = await service.post(route, model=asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_form")
        assert told in answer.json()["error"]
    assert service.reader.pictures == []
    for asked in ("", "Eyes:latest"):
        assert (await service.post(route, model=asked)).status_code == 200
    assert [request.options.model for request in service.writer.requests] == ["", "Eyes:latest"]
