"""What else can stand where Ollama should: each its own sentence, the same from health as from a prompt."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.ollama.failures import ModelMissing, ModelUnfit, OllamaFailure, ServerDown, ServerFailed
from tests.deployments.ollama.samples import check, open_client, tokens_of
from tests.support.fake_ollama import FakeOllama
from tests.support.ports import free_port

AT = "http://box:11434"
OPENSSL = shutil.which("openssl")
both = pytest.mark.parametrize("ask", [tokens_of, check])


async def failure_of(ask: Callable[..., Any], *arguments: Any, **settings: Any) -> OllamaFailure:
    with pytest.raises(OllamaFailure) as caught:
        await ask(*arguments, **settings)
    return caught.value


def answering(status: int, content: str = "", **headers: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, text=content, headers=headers))


OTHERS = {
    "moved for good": (AT, answering(301, location="https://box/api/chat"), "OLLAMA_HOST to https://box"),
    "moved, to another path": (AT, answering(302, location="/ollama/api/tags"), f"OLLAMA_HOST to {AT}/ollama"),
    "see other": (AT, answering(303, location="http://login.box/?next=1"), "redirects to http://login.box/"),
    "moved, and POST stays POST": (AT, answering(308, location="https://box/api/chat"), "OLLAMA_HOST to https://box"),
    "behind /v1": (f"{AT}/v1", answering(404, "404 page not found"), f"Remove the path: set OLLAMA_HOST to {AT}"),
    "behind /api": (f"{AT}/api/", answering(404, "404 page not found"), f"Remove the path: set OLLAMA_HOST to {AT}"),
    "another server's 404": (AT, answering(404, '{"detail":"Not Found"}'), "does not speak Ollama's protocol"),
    "a page about a model": (AT, answering(404, "<p>No model railways here</p>"), "does not speak Ollama's protocol"),
    "another server's 405": (AT, answering(405), "does not speak Ollama's protocol"),
    "a web page": (AT, answering(200, "<html>welcome"), "Check the address (OLLAMA_HOST)."),
    "an error for an answer": (AT, answering(200, '{"error":"Unexpected endpoint"}'), ""),
    "a web page at the scheme's port": ("http://box", answering(200, "<html>"), f"listens on port 11434, as in {AT}"),
    "a TLS server": (AT, answering(400, "Client sent an HTTP request to an HTTPS server."), "to https://box:11434"),
    "who asks for a key": (AT, answering(401, "no"), "ollama.headers"),
    "who refuses": (AT, answering(403), "refuses the request (403)"),
    "a proxy without Ollama": (AT, answering(502, "<html>Bad Gateway</html>"), "Bad Gateway"),
    "a busy one": (AT, answering(503, '{"error":"server busy, please try again."}'), "is busy"),
}


@both
@pytest.mark.parametrize(("host", "answer", "told"), OTHERS.values(), ids=OTHERS.keys())
async def test_each_other_thing_that_answers_is_named(
    host: str, answer: httpx.MockTransport, told: str, ask: Callable[..., Any]
) -> None:
    failure = await failure_of(ask, answer, host=host)
    assert told in str(failure)
    assert not isinstance(failure, ModelUnfit)


TOLD = re.findall(r"^\| `([^`]+)` \|", (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(), re.M)
"""What the table of docs/troubleshooting.md quotes."""


async def test_troubleshooting_quotes_these_sentences() -> None:
    told = [str(await failure_of(check, answer, host=host)) for host, answer, _ in OTHERS.values()]
    with FakeOllama(embedders=["nomic-embed-text"]) as server:
        told.append(str(await failure_of(check, server, model="nomic-embed-text")))
    assert TOLD
    for quoted in TOLD:
        assert any(quoted in sentence for sentence in told), quoted


WRAPPED = [
    r'{"error":"{\"error\":{\"code\":400,\"message\":\"Failed to load image or audio file\",\"type\":\"x\"}}"}',
    '{"error":{"code":400,"message":"Failed to load image or audio file","type":"invalid_request_error"}}',
    '{"error":"Failed to load image or audio file"}',
    '{"message":"Failed to load image or audio file"}',
    "Failed to load image or audio file\n",
]


@both
@pytest.mark.parametrize("content", WRAPPED)
async def test_of_what_a_server_says_the_sentence_is_passed_on(content: str, ask: Callable[..., Any]) -> None:
    failure = await failure_of(ask, answering(500, content))
    assert failure.reason == "Ollama failed: Failed to load image or audio file."


@pytest.mark.parametrize("content", [WRAPPED[0], WRAPPED[2]])
async def test_and_so_it_is_where_the_stream_has_begun(content: str) -> None:
    line = json.dumps({"message": {"role": "assistant", "content": "A"}})
    failure = await failure_of(tokens_of, answering(200, f"{line}\n{content}"))
    assert failure.reason == "Ollama failed: Failed to load image or audio file."


@pytest.mark.parametrize("error", ['{"code":1}', "[1]", "true", '"{}"', '"' + "[" * 3000 + '"'])
async def test_an_error_that_is_no_sentence_is_a_failure_too(error: str) -> None:
    failure = await failure_of(tokens_of, answering(200, f'{{"error":{error}}}'))
    assert isinstance(failure, ServerFailed)
    assert failure.remedy


@both
async def test_https_where_none_is_spoken_is_told(ask: Callable[..., Any]) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        failure = await failure_of(ask, host=f"https://{place}")
    assert str(failure) == f"What answers at https://{place} speaks http://. Set OLLAMA_HOST to http://{place}"


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    files = [tmp_path / "key.pem", tmp_path / "certificate.pem"]
    made = f"{OPENSSL} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=box -keyout {files[0]} -out {files[1]}"
    subprocess.run(made.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    return context


@pytest.mark.skipif(OPENSSL is None, reason="there is no openssl to make a certificate with")
async def test_a_certificate_that_nobody_trusts_is_told(certificate: ssl.SSLContext) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate) as server:
        failure = await failure_of(check, host=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert "is not trusted" in failure.reason
    assert "SSL_CERT_FILE" in failure.remedy


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@both
@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        (f"http://127.0.0.1:{free_port()}", "Start it there with: ollama serve"),
        ("http://box", f"set OLLAMA_HOST to {AT}: without a port, http:// has its own"),
        ("https://box:11434", "it speaks http:// unless a proxy stands before it"),
    ],
)
async def test_where_nobody_answers_the_likely_mistake_is_named(
    host: str, remedy: str, ask: Callable[..., Any]
) -> None:
    failure = await failure_of(ask, httpx.MockTransport(refuse), host=host)
    assert isinstance(failure, ServerDown)
    assert remedy in failure.remedy


@both
async def test_where_the_model_is_absent_those_that_are_there_and_write_are_named(ask: Callable[..., Any]) -> None:
    with FakeOllama(models=["qwen3:4b", "gemma3:4b"], embedders=["nomic-embed-text"]) as server:
        failure = await failure_of(ask, server)
    assert isinstance(failure, ModelMissing)
    assert failure.remedy == (
        f"Run: OLLAMA_HOST={server.url} ollama pull mistral:latest, "
        "or set OLLAMA_MODEL to one that is there: qwen3:4b, gemma3:4b"
    )


@both
async def test_a_model_for_embeddings_is_told_from_one_that_writes(ask: Callable[..., Any]) -> None:
    with FakeOllama(models=["gemma3:4b"], embedders=["nomic-embed-text"]) as server:
        failure = await failure_of(ask, server, model="nomic-embed-text")
    assert (type(failure), "gemma3:4b" in failure.remedy) == (ModelUnfit, True)
    assert "nomic-embed-text does not write" in failure.reason


@both
async def test_an_older_server_which_lists_no_capabilities_is_asked_for_them_once(ask: Callable[..., Any]) -> None:
    asked = []

    def older(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/api/tags":
            return httpx.Response(200, json={"models": [{"model": "nomic-embed-text:latest"}, {"model": "phi:latest"}]})
        if request.url.path == "/api/show":
            return httpx.Response(200, json={"details": {}, "capabilities": ["embedding"]})
        return httpx.Response(400, json={"error": '"nomic-embed-text" does not support chat'})

    async with open_client(httpx.MockTransport(older), model="nomic-embed-text") as client:
        for _ in range(2):
            with pytest.raises(ModelUnfit, match="does not write"):
                await client.has.check("nomic-embed-text")
    assert asked.count("/api/show") == 1
    assert type(await failure_of(ask, httpx.MockTransport(older), model="nomic-embed-text")) is ModelUnfit
