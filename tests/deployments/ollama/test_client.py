from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deployments.ollama.failures import ModelMissing, ServerDown, ServerFailed, TookTooLong
from tests.deployments.ollama.samples import TimedOllama, check, open_client, tokens_of
from tests.deployments.ollama.virtual_time import run_virtually
from tests.support.fake_ollama import Answer, FakeOllama


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (["A", " fox", ' "quoted"', "\n", " 狐\u2028", "."], ["A", " fox", ' "quoted"', "\n", " 狐\u2028", "."]),
        (["\n", " ", " A", " fox"], ["A", " fox"]),
        (["A", b" f\xffox", b"\xe7\x8b", b"\\ud83d", "."], ["A", " fox", "."]),
    ],
    ids=["as they were sent", "from the first word on", "without bytes that are no UTF-8"],
)
async def test_tokens_come(sent: list[str | bytes], got: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):  # meant for the internet, and not asked
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FakeOllama(tokens=sent) as server:
        assert await tokens_of(server) == got


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(["A"], ending="error", error="CUDA out of memory"), "CUDA out of memory"),
        (Answer(["A"], ending="broken_line"), "does not speak"),
        (Answer(["A"], ending="cut"), "broke off"),
        (Answer(["A"], ending="quiet"), "broke off"),
        (Answer([]), "empty"),
        (Answer([" ", "\n"]), "empty"),
        (Answer([], ending="error"), "an error was encountered"),
        (Answer(status=500, error="llama runner has terminated"), "llama runner has terminated"),
        (Answer(status=503, error="server busy, please try again."), "busy"),
    ],
)
async def test_every_way_to_fail_is_one_family_and_says_what_happened(answer: Answer, told: str) -> None:
    with FakeOllama(answer) as server, pytest.raises(ServerFailed, match=told) as caught:
        await tokens_of(server)
    assert caught.value.reason.endswith(".")
    assert caught.value.remedy


@pytest.mark.parametrize("ask", [tokens_of, check])
async def test_nobody_listening_is_a_server_that_is_down(ask: Callable[[Any], Any]) -> None:
    def swallow(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with FakeOllama() as server:
        pass
    for down in (server, httpx.MockTransport(swallow)):
        with pytest.raises(ServerDown, match="ollama serve"):
            await ask(down)


@pytest.mark.parametrize("key", ["", "secret"])
async def test_a_server_gets_the_headers_that_are_meant_for_it_and_no_key_of_the_environment(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "meant for somebody else")
    monkeypatch.setenv("BOX_KEY", f"{key}\n")
    sent = set()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.add((request.url.host, request.headers.get("authorization")))
        return httpx.Response(200, json={"models": [{"model": "mistral:latest"}]})

    headers = {"box": {"Authorization": "Bearer ${BOX_KEY}"}, "other:80": {"Authorization": "Bearer else's"}}
    transport = httpx.MockTransport(answer)
    await check(transport, host="http://box:11434", headers=headers if key else {})
    await check(transport, host="http://third:11434", headers=headers)
    assert sent == {("box", f"Bearer {key}" if key else None), ("third", None)}


@pytest.mark.parametrize(
    ("models", "asked", "there"),
    [
        (["mistral"], "mistral", True),
        (["mistral"], "mistral:latest", True),
        (["llama3", "mistral:latest"], "mistral", True),
        ([], "mistral:latest", False),
        (["mistral:7b"], "mistral:latest", False),
        (["mistral-nemo"], "mistral:latest", False),
    ],
)
async def test_check_passes_where_the_model_is_and_else_names_the_command_that_fetches_it(
    models: list[str], asked: str, there: bool
) -> None:
    with FakeOllama(models=models) as server:
        if there:
            await check(server, model=asked)
        else:
            for ask in (check, tokens_of):
                with pytest.raises(ModelMissing, match="ollama pull mistral:latest"):
                    await ask(server)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, "<html>welcome</html>"),
        (200, "[]"),
        (200, '{"status": "ok"}'),
        (200, "null"),
        (404, "<html>not here</html>"),
        (404, "[]"),
        (302, ""),
    ],
)
@pytest.mark.parametrize("ask", [tokens_of, check])
async def test_a_server_that_is_not_ollama_is_a_failure_and_not_a_crash(
    status: int, answer: str, ask: Callable[[Any], Any]
) -> None:
    with pytest.raises(ServerFailed):
        await ask(httpx.MockTransport(lambda _: httpx.Response(status, text=answer)))


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
            await tokens_of(FakeOllama(port=port))


async def percentages(*lines: dict[str, Any]) -> list[int]:
    text = "\n".join(map(json.dumps, lines))
    async with open_client(httpx.MockTransport(lambda _: httpx.Response(200, text=text))) as client:
        return [percent async for percent in client.pull()]


async def test_pull_progress_counts_every_layer_and_an_end_without_success_is_a_failure() -> None:
    first, second = {"status": "pulling a", "digest": "a", "total": 300}, {"status": "b", "digest": "b", "total": 100}
    lines = [first, first | {"completed": 150}, second, second | {"completed": 50}]
    assert await percentages(*lines, {"status": "success"}) == [0, 50, 37, 50]
    with pytest.raises(ServerFailed, match="broke off"):
        await percentages(*lines)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([(121, "A")], "no first token within 120 s"),
        ([(1, "A"), (31, " fox")], "no further token for 30 s"),
        ([(20, "A")] * 8, "did not finish within 150 s"),
    ],
)
def test_a_cold_model_may_take_its_time_and_a_stuck_one_may_not(script: list[tuple[float, str]], told: str) -> None:
    assert run_virtually(tokens_of(TimedOllama((119, "A"), (29, " fox")))) == ["A", " fox"]
    with pytest.raises(TookTooLong, match=told):
        run_virtually(tokens_of(TimedOllama(*script)))
