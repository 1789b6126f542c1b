"""What servers have: whose model is asked, what health tells, freeing their memory and filling it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from deployments.errors import OllamaUnavailable
from deployments.ollama.instructions import build_messages
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import HeldModel, PromptComplete
from tests.deployments.ollama.samples import MOUNTAINS, collected, mountains, outcome

A, B = "http://a:11434", "http://b:11434"
FOX = "A red fox that stands in deep snow under a low sun."


class Servers(httpx.AsyncBaseTransport):
    """Hosts → models → what each can (None: the server is old, and tells only when shown; it cannot think)."""

    def __init__(self, **hosts: Mapping[str, Sequence[str] | None]) -> None:
        self.hosts = hosts
        self.loaded: dict[str, dict[str, float]] = {host: {} for host in hosts}
        """Hosts → models in memory → share on a GPU."""
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def chats(self) -> list[tuple[str, str]]:
        return [(host, body["model"]) for host, path, body in self.asked if path == "/api/chat"]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        if host not in self.hosts:
            raise httpx.ConnectError("refused", request=request)
        body = json.loads(request.content or b"{}")
        self.asked.append((host, path, body))
        models = self.hosts[host]
        match path:
            case "/api/version":
                return httpx.Response(200, json={"version": "0.33.0"})
            case "/api/tags":
                entries = [
                    {"model": name, "digest": f"{can}", "size": 98} | ({} if can is None else {"capabilities": can})
                    for name, can in models.items()
                ]
                return httpx.Response(200, json={"models": entries})
            case "/api/ps":
                loaded = self.loaded[host].items()
                return httpx.Response(
                    200,
                    json={"models": [{"model": name, "size": 100, "size_vram": 100 * share} for name, share in loaded]},
                )
            case "/api/show":
                return httpx.Response(200, json={"capabilities": ["completion"]})
        if body["model"] not in models:
            return httpx.Response(404, json={"error": f"model '{body['model']}' not found"})
        can = models[body["model"]] or ()
        if body.get("think") and "thinking" not in can:
            return httpx.Response(400, json={"error": f'"{body["model"]}" does not support thinking'})
        line = {"message": {"role": "assistant", "content": FOX}, "done": True, "done_reason": "stop"}
        return httpx.Response(200, content=json.dumps(line) + "\n")


@asynccontextmanager
async def writing(servers: Servers, *hosts: str, required: bool = True, **settings: Any) -> AsyncIterator[PromptWriter]:
    settings = {"model": "smol:latest", "allowed_models": ("think:latest",), **settings}
    at = hosts or tuple(f"http://{host}" + ":11434" for host in servers.hosts)
    writer = PromptWriter(OllamaSettings(hosts=at, **settings), required=required, transport=servers)
    try:
        yield writer
    finally:
        await writer.close()


async def written(writer: PromptWriter, **options: Any) -> PromptComplete:
    return outcome(await collected(writer.write(mountains(**options))))


PLAIN, THINKER = ["completion"], ["completion", "thinking"]


async def test_the_model_that_is_asked_for_writes_and_the_others_go_on_with_theirs() -> None:
    servers = Servers(a={"smol:latest": PLAIN, "think:latest": THINKER})
    async with writing(servers, think="on") as writer:
        for model in ("", "Think", "library/smol"):
            assert (await written(writer, model=model)).prompt == FOX
    assert servers.chats() == [("a", "smol:latest"), ("a", "think:latest"), ("a", "smol:latest")]
    told = [body.get("think") for _, path, body in servers.asked if path == "/api/chat"]
    assert told == [None, True, None]


@pytest.mark.parametrize("downed", [False, True])
async def test_a_model_that_one_server_lacks_is_asked_of_the_one_that_has_it_and_the_first_goes_on_with_its_own(
    downed: bool,
) -> None:
    servers = Servers(a={"smol:latest": PLAIN}, b={"smol:latest": PLAIN, "think:latest": THINKER})
    async with writing(servers) as writer:
        for _ in range(4):
            await written(writer, model="think")
        assert [chat for chat in servers.chats() if chat[1] == "think:latest"].count(("a", "think:latest")) == 1
        servers.asked.clear()
        for _ in range(2):
            await written(writer)
        assert {host for host, _ in servers.chats()} == {"a", "b"}
        if downed:
            del servers.hosts["b"]
            with pytest.raises(OllamaUnavailable):
                await written(writer, model="think")


async def test_a_model_that_no_server_has_is_told_with_what_to_send_instead_and_not_pulled_unasked() -> None:
    servers = Servers(a={"smol:latest": PLAIN, "other:latest": PLAIN})
    async with writing(servers, auto_pull=True, required=False) as writer:
        (warning,) = (await written(writer, model="think")).warnings[:1]
        assert warning == (
            "Ollama has no model think:latest. Run: OLLAMA_HOST=http://a:11434 ollama pull think:latest, "
            "or set the form field model to one that is there: smol:latest"
        )
        servers.hosts["a"] = {"think:latest": THINKER}
        assert (await written(writer, model="think")).prompt == FOX
    assert "/api/pull" not in {path for _, path, _ in servers.asked}


async def test_what_a_model_can_is_asked_again_once_its_server_says_otherwise() -> None:
    servers = Servers(a={"smol:latest": THINKER})
    async with writing(servers, think="on") as writer:
        await written(writer)
        servers.hosts["a"] = {"smol:latest": PLAIN}
        assert (await written(writer)).source == "ollama"
    assert [body.get("think") for _, path, body in servers.asked if path == "/api/chat"] == [True, True, None]


async def test_a_server_that_says_no_such_model_and_lists_it_is_not_asked_for_ever() -> None:
    class Contradicting(Servers):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await super().handle_async_request(request)
            return httpx.Response(404, json={"error": "model gone"}) if request.url.path == "/api/chat" else answer

    servers = Contradicting(a={"smol:latest": PLAIN}, b={"smol:latest": PLAIN})
    async with writing(servers) as writer:
        with pytest.raises(OllamaUnavailable, match="no model smol"):
            await written(writer)
    assert len(servers.chats()) == 2


@pytest.mark.parametrize(
    ("can", "share", "facts"),
    [
        (THINKER, None, {"capabilities": "completion, thinking", "loaded": "no"}),
        (None, 0.25, {"capabilities": "completion", "loaded": "yes", "gpu_share": pytest.approx(0.25)}),
        ([], 1.0, {"capabilities": "unknown", "loaded": "yes", "gpu_share": pytest.approx(1)}),
    ],
)
async def test_health_tells_what_the_model_can_whether_it_is_loaded_and_how_much_of_it_is_on_a_gpu(
    can: Sequence[str] | None, share: float | None, facts: dict[str, Any]
) -> None:
    servers = Servers(a={"smol:latest": can})
    if share is not None:
        servers.loaded["a"]["smol:latest"] = share
    async with writing(servers) as writer:
        told = {**(await writer.status()).facts}
    assert {name: told[name] for name in told if name in {*facts, "gpu_share", "version"}} == facts | {
        "version": "0.33.0"
    }


async def test_each_server_tells_its_models_and_one_that_is_down_what_to_do() -> None:
    servers = Servers(a={"smol:latest": PLAIN, "eyes:latest": ["completion", "vision"]})
    servers.loaded["a"]["smol:latest"] = 1.0
    async with writing(servers, A, B) as writer:
        there, down = await writer.models()
    smol, eyes = there.models
    assert (there.host, there.version) == (A, "0.33.0")
    assert smol.gpu_share == pytest.approx(1)
    assert eyes == HeldModel("eyes:latest", ("completion", "vision"), None, 98)
    assert (down.host, down.models, "ollama serve" in down.remedy) == (B, (), True)


async def test_unloading_frees_what_may_be_asked_for_and_nothing_else() -> None:
    servers = Servers(a={"smol:latest": PLAIN, "other:latest": PLAIN})
    servers.loaded["a"] = {"smol:latest": 1.0, "other:latest": 1.0}
    async with writing(servers, A, B) as writer:
        assert await writer.unload() == (("smol:latest",), (A,))
        asked = [body for _, path, body in servers.asked if path == "/api/chat"]
        assert [(body["model"], body["messages"], body["keep_alive"]) for body in asked] == [("smol:latest", [], 0)]
        servers.hosts.clear()
        with pytest.raises(OllamaUnavailable, match="does not answer"):
            await writer.unload()


async def test_preloading_reads_what_every_request_begins_with_and_waits_for_nobody_who_is_down() -> None:
    servers = Servers(a={"smol:latest": PLAIN})
    async with writing(servers, A, B) as writer:
        await writer.preload()
        await written(writer)
    loading, asked = [body for _, path, body in servers.asked if path == "/api/chat"]
    assert loading["messages"] == asked["messages"][: len(loading["messages"])] == build_messages(MOUNTAINS)[:-1]
    assert loading["options"]["num_ctx"] == asked["options"]["num_ctx"]
    assert (loading["options"]["num_predict"], loading["keep_alive"]) == (1, "5m")
