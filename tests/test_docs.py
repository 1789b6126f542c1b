"""The documents say what the program does: each quoted message is one that it prints."""

from __future__ import annotations

import io
import itertools
import logging
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.types import Receive, Scope, Send

from benchmarks.report import filled
from deployments.clip.classifier import ClipModel, ImageClassifier
from deployments.clip.labels import load_labels
from deployments.clip.model import load_encoder
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.weights import ModelLoader, WeightsUnavailable, fetch_weights
from deployments.errors import AnalyzerError
from deployments.ollama.settings import OllamaSettings
from deployments.ollama.writer import PromptWriter
from deployments.types import Pixels, PromptComplete, PromptRequest, Reading
from serve_app.app import gpu_share
from serve_app.cli.config import read_config, require_free_port
from serve_app.cli.doctor import Finding
from serve_app.cli.places import SESSION_MB, check_cluster, check_open_files, check_room
from serve_app.cli.ray_env import SHORT_PLACES
from serve_app.middleware.auth import ApiKeys
from serve_app.middleware.serve_proxy import ContractFailures
from serve_app.settings import load_settings
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.in_process import ANALYZE
from tests.support.in_process import Service as InProcess
from tests.support.local_hub import LocalHub
from tests.support.parts import FakeWeights
from tests.support.pictures import header_of_png, photograph, pixels
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.settings_table import DOCUMENT, tables

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()
PICTURE: Pixels = pixels(photograph("china"))
HOST = "127.0.0.1"
NOBODY = f"http://{HOST}:{free_port()}"


def test_the_settings_tables_are_the_models() -> None:
    document = DOCUMENT.read_text()
    assert document == filled(document, tables()), "run: python -m tests.support.settings_table"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?", path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), f"{path} links to {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{path} links to {target}#{anchor}"


def anchors(document: str) -> set[str]:
    """Name each heading as GitHub links to it."""
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_what_make_is_told_to_do_it_can(path: Path) -> None:
    told = re.findall(r"(?:^|`)make (?:\w+=\S+ )*([a-z]+)", path.read_text(), re.MULTILINE)
    assert {*told} <= {*re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's PyTorch has no CUDA")
@pytest.mark.parametrize(("index", "told"), [("", True), ("https://index.example", False)])
def test_make_tells_of_cuda_before_it_fetches_it(index: str, told: bool, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    # `true` is content with any Python and makes no .venv, so that nothing is fetched; of this PATH is no nvidia-smi.
    for name in ("true", "test", "uname", "printf"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    make = [shutil.which("make") or "", "run", "SHELL=/bin/sh", f"PYTHON={tmp_path}/true", f"TORCH_INDEX_URL={index}"]
    made = subprocess.run(make, cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert "minutes" in made.stdout
    assert ("4.5 of the 6 GB are CUDA" in made.stdout, "make run TORCH_INDEX_URL=…" in made.stdout) == (told, told)


def test_the_settings_that_configuration_md_begins_with_are_taken_as_its_example_has_them() -> None:
    start = DOCUMENT.read_text().partition("## The file")[0]
    example = yaml.safe_load(start.partition("```yaml\n")[2].partition("```")[0])
    changed = load_settings(example["applications"][0]["args"], {}).model_dump(exclude_unset=True)
    named = re.findall(r"^\| `([\w.]+)`", start, re.MULTILINE)
    within = {f"{section}.{name}" for section, value in changed.items() if isinstance(value, dict) for name in value}
    assert len(named) == 5
    assert {*named} <= {*changed} | within


def test_the_readme_s_example_is_what_the_composer_writes() -> None:
    composed = yaml.safe_load((ROOT / "tests/deployments/ollama/composed.yaml").read_text())
    coffee = composed["a cup of coffee, as the objects analyser sees it"]
    assert coffee["prompts"]["en"] in (ROOT / "README.md").read_text()


def calls_of_the_readme() -> Iterator[list[str]]:
    readme = (ROOT / "README.md").read_text()
    for example in re.findall(r"```python\n(.+?)```", readme, re.DOTALL):
        yield [sys.executable, "-c", example]
    for line in re.findall(r"^(curl .+)", readme, re.MULTILINE):
        yield shlex.split(line.replace("FILE", "examples/coffee.jpg"), comments=True)


@pytest.mark.serve
@pytest.mark.parametrize("call", [*calls_of_the_readme()], ids=lambda call: Path(call[0]).name)
def test_the_readme_s_calls_are_answered(call: list[str], service: Service, ollama: FakeOllama) -> None:
    if shutil.which(call[0]) is None:
        pytest.skip(f"{call[0]} is not here")
    ollama.answer = Answer(tokens=["An espresso in a white cup on a red saucer, ", "at dusk."])
    called = [word.replace("http://127.0.0.1:8000", service.url) for word in call]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "espresso in a white cup" in done.stdout


Provoke = Callable[[Path], Awaitable[str]]
"""Empty folder → what the program says; what differs from run to run as the document writes it."""


def raised(act: Callable[[Path], object]) -> Provoke:
    async def provoke(folder: Path) -> str:
        with pytest.raises((AnalyzerError, WeightsUnavailable)) as error:
            act(folder)
        return str(error.value).replace(NOBODY, "<HF_ENDPOINT>")

    return provoke


def unreachable_hub(folder: Path) -> None:
    fetch_weights("openai/clip-vit-base-patch32", cache_dir=folder, endpoint=NOBODY)


def no_such_model(folder: Path) -> None:
    with LocalHub({}) as hub:
        fetch_weights("openai/clip-vit-base-patch23", cache_dir=folder, endpoint=hub.url)


async def taken_port(folder: Path) -> str:
    config = folder / "serve_config.yaml"
    with socket.create_server((HOST, 0)) as server:
        port = f"port: {server.getsockname()[1]}"
        config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", port))
        told = await raised(lambda _: require_free_port(read_config(config, {})))(folder)
    return told.replace(port.replace(":", ""), "port 8000")


def stand_in(weights: Callable[[Path], FakeWeights]) -> Provoke:
    async def provoke(folder: Path) -> str:
        def load(path: Path) -> ClipModel:
            return load_encoder(path, settings=ClipSettings(), gpu_assigned=False, cores=1)

        found = weights(folder)
        clip = ModelLoader(ClipSettings(), load, find=found.find, fetch=found.fetch)
        labels = load_labels(DEFAULT_LABELS_FILE)
        classifier = ImageClassifier(ClipSettings(), labels, clip=clip, fallback=PixelAnalyser)
        await classifier.start()
        warning = (await classifier.read(Reading(PICTURE))).warnings[0]
        await classifier.close()
        return warning

    return provoke


async def told_by_writer(host: str, **settings: Any) -> str:
    writer = PromptWriter(OllamaSettings(hosts=(host,), **settings), required=False)
    if settings:
        *_, complete = [event async for event in writer.write(PromptRequest({}))]
        assert isinstance(complete, PromptComplete)
        told = complete.warnings[0].replace("0.05 s", "120 s")
    else:
        status = await writer.status()
        told = f"{status.reason} {status.remedy}"
    await writer.close()
    return told.replace(host, "http://localhost:11434")


async def ollama_down(_: Path) -> str:
    return await told_by_writer(NOBODY)


async def model_absent(_: Path) -> str:
    with FakeOllama(models=[]) as server:
        return await told_by_writer(server.url)


async def no_first_token(_: Path) -> str:
    with FakeOllama(Answer(tokens=["x"], hold_at=0)) as server:
        return await told_by_writer(server.url, first_token_timeout_s=0.05)


def refused(
    upload: bytes = b"no picture", *, times: int = 1, headers: Mapping[str, str] | None = None, **settings: Any
) -> Provoke:
    async def provoke(folder: Path) -> str:
        async with InProcess(**settings).client() as client:
            answers = [await client.post(ANALYZE, files={"image": upload}, headers=headers) for _ in range(times)]
        error: str = answers[-1].json()["error"]
        return error

    return provoke


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


def found(finding: Finding) -> Provoke:
    async def provoke(_: Path) -> str:
        return re.sub(r"127.0.0.1:\d+", "127.0.0.1:6379", finding.sentence.replace(NO_ROOM, SHORT_PLACES[0]))

    return provoke


async def interrupted(_: Path) -> str:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing, as Serve does whose replica is gone."""

    async with httpx.AsyncClient(transport=httpx.ASGITransport(ContractFailures(silent))) as client:
        error: str = (await client.post("http://service/")).json()["error"]
    return error


FOREIGN = {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"}
NO_ROOM = "/proc"
RARELY = {"requests_per_minute": 1, "burst": 1}

QUOTES: dict[str, Provoke] = {
    "The hub at <HF_ENDPOINT> cannot be reached to fetch 'openai/clip-vit-base-patch32'": raised(unreachable_hub),
    "No model named 'openai/clip-vit-base-patch23' on the hub": raised(no_such_model),
    "CLIP could not be loaded from": stand_in(FakeWeights),
    "The weights of 'openai/clip-vit-base-patch32' are being downloaded": stand_in(lambda _: FakeWeights()),
    "clip.device is 'cuda' but Ray knows of no GPU here": raised(lambda _: gpu_share("cuda", cluster_gpus=0)),
    "Ollama does not answer at http://localhost:11434.": ollama_down,
    "Ollama has no model mistral:latest.": model_absent,
    "Ollama at http://localhost:11434 sent no first token within 120 s.": no_first_token,
    "The upload is larger than 20 MB": refused(b"x" * 21_000_000),
    "The picture has more than 100 million pixels": refused(header_of_png(60_000, 60_000)),
    "This needs an API key": refused(api_keys="0123456789abcdef"),
    "The API keys stay as they were": wrong_key_file,
    "Pages of other sites may not call": refused(headers=FOREIGN),
    "You call more often than you may": refused(times=2, access=RARELY),
    "The part that takes requests was interrupted": interrupted,
    "Unknown setting 'clip.modle'; did you mean 'clip.model'?": raised(
        lambda _: load_settings({"clip": {"modle": "x"}}, {})
    ),
    "Ray's folder: /tmp: 0 MB free, 50 MB needed": found(check_room("Ray's folder", Path(NO_ROOM), SESSION_MB, "")),
    "Open files: 128 at most, 256 needed": found(check_open_files(128)),
    "Ray cluster: no Ray answers at 127.0.0.1:6379, which RAY_ADDRESS names": found(
        check_cluster(f"{HOST}:{free_port()}", {})
    ),
    "The service cannot listen on 127.0.0.1, port 8000": taken_port,
}


@pytest.mark.parametrize("quoted", QUOTES)
async def test_troubleshooting_quotes_what_the_program_prints(quoted: str, tmp_path: Path) -> None:
    assert quoted in await QUOTES[quoted](tmp_path)


def test_each_of_these_and_no_other_is_quoted_in_troubleshooting() -> None:
    # Out of memory needs a full card: tests/deployments/clip/test_model.py simulates one.
    expected = {*QUOTES, "CUDA is out of memory"}
    assert set(re.findall(r"^> (.+)$", TROUBLESHOOTING, re.MULTILINE)) == expected


async def test_the_api_document_names_every_route_and_error_code() -> None:
    document = (ROOT / "docs" / "api.md").read_text()
    routes = InProcess().api.openapi()["paths"]
    for route in routes:
        assert f"`POST {route}`" in document or f"`GET {route}`" in document

    def codes(kind: type[AnalyzerError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    for code in codes(AnalyzerError) - {"invalid_settings"}:
        assert f"`{code}`" in document
