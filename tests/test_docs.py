"""The documents say what the program does: each quoted message is one that it prints."""

from __future__ import annotations

import io
import itertools
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from benchmarks.report import filled
from deployments.clip.classifier import ImageClassifier, VisionModel
from deployments.clip.labels import load_labels
from deployments.clip.model import load_encoder
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.weights import ModelLoader, WeightsUnavailable, fetch_weights
from deployments.errors import AnalyzerError
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import Pixels, PromptComplete, PromptRequest
from serve_app.app import gpu_share
from serve_app.cli.config import read_config, require_free_port
from serve_app.middleware.auth import ApiKeys
from serve_app.middleware.serve_proxy import ContractFailures
from serve_app.settings import load_settings
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE, Service
from tests.support.local_hub import LocalHub
from tests.support.parts import FakeWeights
from tests.support.pictures import header_of_png, photograph, pixels
from tests.support.ports import free_port
from tests.support.settings_table import DOCUMENT, tables

ROOT = Path(__file__).parents[1]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()
OLLAMA_HOST = "http://localhost:11434"
PICTURE: Pixels = pixels(photograph("china"))


def test_the_settings_tables_are_the_models() -> None:
    document = DOCUMENT.read_text()
    assert document == filled(document, tables()), "run: python -m tests.support.settings_table"


@pytest.mark.parametrize("path", ["README.md", *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))])
def test_links_between_documents_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / path).read_text()):
        assert ((ROOT / path).parent / target).exists(), f"{path} links to {target}"


async def hub_out_of_reach(folder: Path) -> str:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(WeightsUnavailable) as error:
        fetch_weights("openai/clip-vit-base-patch32", cache_dir=folder, endpoint=nobody)
    return str(error.value).replace(nobody, "<HF_ENDPOINT>")


async def no_such_model(folder: Path) -> str:
    with LocalHub({}) as hub, pytest.raises(WeightsUnavailable) as error:
        fetch_weights("openai/clip-vit-base-patch23", cache_dir=folder, endpoint=hub.url)
    return str(error.value)


async def broken_weights(folder: Path) -> str:
    def load(path: Path) -> VisionModel:
        return load_encoder(path, settings=ClipSettings(), gpu_assigned=False, cores=1)

    return await _warning(FakeWeights(folder), load)


async def weights_on_their_way(_: Path) -> str:
    return await _warning(FakeWeights(), lambda path: PixelAnalyser())


async def _warning(weights: FakeWeights, load: Callable[[Path], VisionModel]) -> str:
    labels = load_labels(DEFAULT_LABELS_FILE)
    clip = ModelLoader(ClipSettings(), load, find=weights.find, fetch=weights.fetch)
    reader = ImageClassifier(ClipSettings(), labels, clip=clip, fallback=PixelAnalyser())
    await reader.start()
    warning = (await reader.read(PICTURE)).warnings[0]
    await reader.close()
    return warning


async def no_gpu(_: Path) -> str:
    with pytest.raises(AnalyzerError) as error:
        gpu_share("cuda", cluster_gpus=0)
    return str(error.value)


async def ollama_down(_: Path) -> str:
    host = f"http://127.0.0.1:{free_port()}"
    writer = PromptWriter(OllamaSettings(hosts=(host,)), required=False)
    status = await writer.status()
    await writer.close()
    return f"{status.reason} {status.remedy}".replace(host, OLLAMA_HOST)


async def model_absent(_: Path) -> str:
    with FakeOllama(models=[]) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,)), required=False)
        status = await writer.status()
        await writer.close()
    return f"{status.reason} {status.remedy}"


async def no_first_token(_: Path) -> str:
    with FakeOllama(Answer(tokens=["x"], hold_at=0)) as server:
        writer = PromptWriter(OllamaSettings(hosts=(server.url,), first_token_timeout_s=0.05), required=False)
        events = [event async for event in writer.write(PromptRequest({}))]
        await writer.close()
    complete = events[-1]
    assert isinstance(complete, PromptComplete)
    return complete.warnings[0].replace(server.url, OLLAMA_HOST).replace("0.05 s", "120 s")


async def too_large(_: Path) -> str:
    return await _refusal(b"x" * 21_000_000)


async def too_many_pixels(_: Path) -> str:
    return await _refusal(header_of_png(60_000, 60_000))


async def _refusal(upload: bytes) -> str:
    async with Service().client() as client:
        response = await client.post(ANALYZE, files={"image": upload})
    error: str = response.json()["error"]
    return error


async def _refused(service: Service, **headers: str) -> str:
    async with service.client() as client:
        response = await client.post(ANALYZE, headers=headers)
    error: str = response.json()["error"]
    return error


async def no_key(_: Path) -> str:
    return await _refused(Service(api_keys="0123456789abcdef"))


async def wrong_key_file(folder: Path) -> str:
    file, times, told = folder / "keys.txt", itertools.count(), io.StringIO()
    file.write_text("alice 0123456789abcdef")
    keys = ApiKeys(file, {}, clock=lambda: next(times))
    file.write_text("too short")
    log, handler = logging.getLogger("image_analyzer.access"), logging.StreamHandler(told)
    log.addHandler(handler)
    keys.holder("")
    log.removeHandler(handler)
    return told.getvalue()


async def foreign_page(_: Path) -> str:
    return await _refused(Service(), **{"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"})


async def too_often(_: Path) -> str:
    service = Service(access={"requests_per_minute": 1, "burst": 1})
    await _refused(service)
    return await _refused(service)


async def interrupted(_: Path) -> str:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing, as Serve does whose replica is gone."""

    async with httpx.AsyncClient(transport=httpx.ASGITransport(ContractFailures(silent))) as client:
        error: str = (await client.post("http://service/")).json()["error"]
    return error


async def unknown_setting(_: Path) -> str:
    with pytest.raises(AnalyzerError) as error:
        load_settings({"clip": {"modle": "x"}}, {})
    return str(error.value)


async def port_taken(folder: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = folder.joinpath("serve_config.yaml")
        config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}"))
        with pytest.raises(AnalyzerError) as error:
            require_free_port(read_config(config, {}))
    return str(error.value).replace(f"port {port}", "port 8000")


@pytest.mark.parametrize(
    ("quoted", "provoke"),
    [
        ("The hub at <HF_ENDPOINT> cannot be reached to fetch 'openai/clip-vit-base-patch32'", hub_out_of_reach),
        ("No model named 'openai/clip-vit-base-patch23' on the hub", no_such_model),
        ("CLIP could not be loaded from", broken_weights),
        ("clip.device is 'cuda' but Ray knows of no GPU here", no_gpu),
        ("Ollama does not answer at http://localhost:11434.", ollama_down),
        ("Ollama has no model mistral:latest.", model_absent),
        ("The upload is larger than 20 MB", too_large),
        ("The picture has more than 100 million pixels", too_many_pixels),
        ("The weights of 'openai/clip-vit-base-patch32' are being downloaded", weights_on_their_way),
        ("Ollama at http://localhost:11434 sent no first token within 120 s.", no_first_token),
        ("This needs an API key", no_key),
        ("The API keys stay as they were", wrong_key_file),
        ("Pages of other sites may not call", foreign_page),
        ("You call more often than you may", too_often),
        ("The part that takes requests was interrupted", interrupted),
        ("Unknown setting 'clip.modle'; did you mean 'clip.model'?", unknown_setting),
        ("The service cannot listen on 127.0.0.1, port 8000", port_taken),
    ],
)
async def test_troubleshooting_quotes_what_the_program_prints(
    quoted: str, provoke: Callable[[Path], Awaitable[str]], tmp_path: Path
) -> None:
    assert f"> {quoted}\n" in TROUBLESHOOTING
    assert quoted in await provoke(tmp_path)


def test_every_quote_in_troubleshooting_is_provoked_by_a_test() -> None:
    (provoked,) = (
        mark.args[1]
        for mark in test_troubleshooting_quotes_what_the_program_prints.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    # Out of memory needs a full card: tests/deployments/clip/test_model.py simulates one.
    expected = {quoted for quoted, _ in provoked} | {"CUDA is out of memory"}
    assert set(re.findall(r"^> (.+)$", TROUBLESHOOTING, re.MULTILINE)) == expected


async def test_the_api_document_names_every_route_and_error_code() -> None:
    document = (ROOT / "docs" / "api.md").read_text()
    routes = Service().api.openapi()["paths"]
    for route in routes:
        assert f"`POST {route}`" in document or f"`GET {route}`" in document

    def codes(kind: type[AnalyzerError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    for code in codes(AnalyzerError) - {"invalid_settings"}:
        assert f"`{code}`" in document
