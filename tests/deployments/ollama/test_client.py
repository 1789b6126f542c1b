from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from deployments.ollama.client import ModelMissing, OllamaClient, OllamaFailure, ServerDown, ServerFailed, TookTooLong
from deployments.ollama.settings import OllamaSettings
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.fake_ollama import Answer, FakeOllama

QUESTION = [{"role": "user", "content": "a fox"}]


async def tokens_of(settings: OllamaSettings, transport: httpx.AsyncBaseTransport | None = None) -> list[str]:
    client = OllamaClient(settings, settings.hosts[0], transport)
    deadline_s = asyncio.get_running_loop().time() + settings.total_timeout_s
    try:
        async with aclosing(client.chat(QUESTION, {}, deadline_s=deadline_s)) as tokens:
            return [token async for token in tokens]
    finally:
        await client.close()


async def test_tokens_come_as_they_were_sent() -> None:
    sent = ["A", " fox", ' "quoted"', "\n", " 狐\u2028", "."]
    with FakeOllama(tokens=sent) as server:
        assert await tokens_of(OllamaSettings(hosts=(server.url,))) == sent


async def test_leading_blanks_are_dropped_because_they_are_not_the_first_word() -> None:
    with FakeOllama(tokens=["\n", " ", " A", " fox"]) as server:
        assert await tokens_of(OllamaSettings(hosts=(server.url,))) == ["A", " fox"]


async def test_bytes_that_are_no_utf8_cost_only_themselves() -> None:
    with FakeOllama(tokens=["A", b" f\xffox", b"\xe7\x8b", b"\\ud83d", "."]) as server:
        assert "".join(await tokens_of(OllamaSettings(hosts=(server.url,)))) == "A fox."


async def test_an_endless_answer_is_cut_and_the_server_told() -> None:
    with FakeOllama(Answer(["word "], ending="endless")) as server:
        tokens = await tokens_of(OllamaSettings(hosts=(server.url,), max_prompt_chars=23))
        assert "".join(tokens) == "word word word word wor"
        assert await server.wait_for_disconnect()


@pytest.mark.parametrize(
    ("answer", "failure", "told"),
    [
        (Answer(["A"], ending="error", error="CUDA out of memory"), ServerFailed, "CUDA out of memory"),
        (Answer(["A"], ending="broken_line"), ServerFailed, "does not speak"),
        (Answer(["A"], ending="cut"), ServerFailed, "broke off"),
        (Answer(["A"], ending="quiet"), ServerFailed, "broke off"),
        (Answer([]), ServerFailed, "empty"),
        (Answer([" ", "\n"]), ServerFailed, "empty"),
        (Answer([], ending="error"), ServerFailed, "an error was encountered"),
        (Answer(status=500, error="llama runner has terminated"), ServerFailed, "llama runner has terminated"),
        (Answer(status=503, error="server busy, please try again."), ServerFailed, "busy"),
    ],
)
async def test_every_way_to_fail_is_one_family_and_says_what_happened(
    answer: Answer, failure: type[OllamaFailure], told: str
) -> None:
    with FakeOllama(answer) as server, pytest.raises(failure, match=told) as caught:
        await tokens_of(OllamaSettings(hosts=(server.url,)))
    assert caught.value.reason.endswith(".")
    assert caught.value.remedy


async def test_an_absent_model_is_named_with_the_command_that_fetches_it() -> None:
    with FakeOllama(models=["llama3"]) as server, pytest.raises(ModelMissing, match="ollama pull mistral:latest"):
        await tokens_of(OllamaSettings(hosts=(server.url,)))


async def test_nobody_listening_is_a_server_that_is_down() -> None:
    with FakeOllama() as server:
        settings = OllamaSettings(hosts=(server.url,))
    with pytest.raises(ServerDown, match="ollama serve"):
        await tokens_of(settings)
    client = OllamaClient(settings, server.url)
    with pytest.raises(ServerDown):
        await client.check()
    await client.close()


async def test_a_proxy_for_the_internet_is_not_asked_for_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FakeOllama(tokens=["A"]) as server:
        assert await tokens_of(OllamaSettings(hosts=(server.url,))) == ["A"]


@pytest.mark.parametrize("models", [["mistral"], ["llama3", "mistral:latest"]])
@pytest.mark.parametrize("asked", ["mistral", "mistral:latest"])
async def test_check_passes_where_the_model_is(models: list[str], asked: str) -> None:
    with FakeOllama(models=models) as server:
        client = OllamaClient(OllamaSettings(model=asked), server.url)
        await client.check()
        await client.close()


@pytest.mark.parametrize("models", [[], ["mistral:7b"], ["mistral-nemo"]])
async def test_check_names_the_missing_model(models: list[str]) -> None:
    with FakeOllama(models=models) as server:
        client = OllamaClient(OllamaSettings(), server.url)
        with pytest.raises(ModelMissing, match="mistral:latest"):
            await client.check()
        await client.close()


@pytest.mark.parametrize(
    "answered",
    [
        lambda: httpx.Response(200, text="<html>welcome</html>"),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json={"status": "ok"}),
        lambda: httpx.Response(200, text="null"),
        lambda: httpx.Response(404, text="<html>not here</html>"),
        lambda: httpx.Response(404, json=[]),
        lambda: httpx.Response(302, headers={"location": "/api/chat"}),
    ],
)
async def test_a_server_that_is_not_ollama_is_a_failure_and_not_a_crash(answered: Callable[[], httpx.Response]) -> None:
    transport = httpx.MockTransport(lambda _: answered())
    with pytest.raises(ServerFailed):
        await tokens_of(OllamaSettings(), transport)
    client = OllamaClient(OllamaSettings(), "http://localhost:11434", transport)
    with pytest.raises(ServerFailed):
        await client.check()
    await client.close()


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n{}"]
)
async def test_what_is_not_even_http_is_a_failure_and_not_a_crash(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerFailed, match="does not speak"):
            await tokens_of(OllamaSettings(hosts=(f"http://127.0.0.1:{port}",)))


async def test_a_host_that_swallows_connections_is_a_server_that_is_down() -> None:
    def swallow(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with pytest.raises(ServerDown):
        await tokens_of(OllamaSettings(), httpx.MockTransport(swallow))


async def percentages(*lines: dict[str, Any]) -> list[int]:
    text = "\n".join(map(json.dumps, lines))
    client = OllamaClient(
        OllamaSettings(), "http://localhost:11434", httpx.MockTransport(lambda _: httpx.Response(200, text=text))
    )
    try:
        return [percent async for percent in client.pull()]
    finally:
        await client.close()


async def test_pull_progress_counts_every_layer() -> None:
    first, second = {"status": "pulling a", "digest": "a", "total": 300}, {"status": "b", "digest": "b", "total": 100}
    done = {"status": "success"}
    assert await percentages(first, first | {"completed": 150}, second, second | {"completed": 50}, done) == [
        0,
        50,
        37,
        50,
    ]


async def test_a_pull_that_ends_without_success_has_failed() -> None:
    with pytest.raises(ServerFailed, match="broke off"):
        await percentages({"status": "pulling manifest"})


class TimedLines(httpx.AsyncByteStream):
    """Sends each line after its pause."""

    def __init__(self, script: list[tuple[float, dict[str, Any]]]) -> None:
        self._script = script

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for pause_s, line in self._script:
            await asyncio.sleep(pause_s)
            yield json.dumps(line).encode() + b"\n"


def timed_server(*script: tuple[float, str]) -> httpx.MockTransport:
    lines = [
        (pause_s, {"message": {"role": "assistant", "content": text}, "done": not text}) for pause_s, text in script
    ]
    return httpx.MockTransport(lambda _: httpx.Response(200, stream=TimedLines(lines)))


def test_a_cold_model_may_take_its_time_and_a_stuck_one_may_not() -> None:
    settings = OllamaSettings()
    assert run_virtually(tokens_of(settings, timed_server((119, "A"), (29, " fox"), (1, "")))) == ["A", " fox"]
    for transport, told in (
        (timed_server((121, "A"), (0, "")), "no first token within 120 s"),
        (timed_server((1, "A"), (31, " fox"), (0, "")), "no further token for 30 s"),
        (timed_server(*[(20, "A")] * 8, (0, "")), "did not finish within 150 s"),
    ):
        with pytest.raises(TookTooLong, match=told):
            run_virtually(tokens_of(settings, transport))
