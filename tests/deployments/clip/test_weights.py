"""Finding weights on disk and fetching them over real HTTP from a hub on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download
from transformers import CLIPModel

from deployments.clip.checkpoint import embed_texts
from deployments.clip.settings import ClipSettings
from deployments.clip.weights import (
    ABANDONED_S,
    CARD_FILE,
    ModelLoader,
    WeightsUnavailable,
    fetch_weights,
    find_weights,
    licence_of,
)
from tests.support.local_hub import LocalHub
from tests.support.tiny_clip import make_tiny_clip

MODEL = "someone/tiny-clip"
WEIGHTS = "model.safetensors"
SMALL_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
LARGE = (WEIGHTS, "tokenizer.json")
DEADLINE_S = 10.0
ONE_CHUNK = constants.DOWNLOAD_CHUNK_SIZE
"""Bytes that huggingface_hub takes at a time: it tells of no progress below."""


@pytest.fixture
def repository(tiny_clip: Path, tmp_path: Path) -> Path:
    """A model's folder as on the hub: with weights for other frameworks beside those we load."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_clip, folder)
    for unwanted in ("flax_model.msgpack", "tf_model.h5", "pytorch_model.bin", "spiece.model", ".gitattributes"):
        (folder / unwanted).write_bytes(b"not wanted")
    (folder / CARD_FILE).write_text("---\nlicense: mit\n---\n# A tiny CLIP\n")
    return folder


@pytest.fixture
def large_weights(repository: Path) -> Path:
    """That model with weights of four chunks, which load as nothing."""
    with (repository / WEIGHTS).open("wb") as file:
        file.truncate(4 * ONE_CHUNK)
    return repository / WEIGHTS


@pytest.fixture
def hub(repository: Path) -> Iterator[LocalHub]:
    with LocalHub({MODEL: repository}) as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fetch(hub: LocalHub, cache: Path) -> Path:
    return fetch_weights(MODEL, cache_dir=cache, endpoint=hub.url)


def run_python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from deployments.clip.weights import *; {script}"]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def failure_of(hub: LocalHub, cache: Path) -> WeightsUnavailable:
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(hub, cache)
    return caught.value


def sent(hub: LocalHub) -> list[str]:
    return [name for name, _ in hub.sent]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s


def incomplete_files(cache: Path) -> list[str]:
    return [file.name for file in cache.rglob("*.incomplete")]


def of_type(model_type: str | None) -> Callable[[Path], None]:
    def set_up(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))

    return set_up


def of_another_library(*names: str) -> Callable[[Path], None]:
    def set_up(folder: Path) -> None:
        for file in (folder / "config.json", *folder.glob("*model*")):
            file.unlink()
        for name in names:
            (folder / name).touch()

    return set_up


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (of_type("bert"), "is of type 'bert', and neither CLIP nor SigLIP"),
    (of_type(None), "is of a type that its config.json does not tell"),
    (of_type("chinese_clip"), "is of type 'chinese_clip', and neither CLIP nor SigLIP"),
    (of_type("llava"), "is of type 'llava', and neither CLIP nor SigLIP"),
    (of_type("siglip2"), "is a NaFlex model of SigLIP 2.*such as google/siglip2-base-patch16-224"),
    (of_type("clip_vision_model"), "is a vision tower alone"),
    (of_type("siglip_text_model"), "is a text tower alone"),
    (
        of_another_library("open_clip_config.json", "open_clip_model.safetensors"),
        "holds a model for the library open_clip alone",
    ),
    (of_another_library("mobileclip_s0.pt"), "holds MobileCLIP, which transformers cannot load"),
]
"""What is no model to be served, and never will be."""


def without(name: str) -> Callable[[Path], None]:
    def set_up(folder: Path) -> None:
        for file in (name, "pytorch_model.bin"):
            (folder / file).unlink()

    return set_up


def make_sharded(folder: Path) -> None:
    CLIPModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="200KB")
    (folder / WEIGHTS).unlink()


def make_old(folder: Path) -> None:
    make_tiny_clip(folder, safetensors=False)


def of_git(name: str) -> Callable[[Path], None]:
    def set_up(folder: Path) -> None:
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 605157884\n")

    return set_up


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (b"---\nlicense: apache-2.0\ntags:\n- vision\n---\n# SigLIP", "apache-2.0"),
        (b"---\nlicense: other\nlicense_name: apple-amlr\n---\n", "apple-amlr"),
        (b"---\nlicense:\n- mit\n---\n", ""),
        (b"# No front matter", ""),
        (b"---\nlicense: [\n---\n", ""),
        (b"---\n- mit\n---\n", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_the_licence_is_what_the_card_says(card: bytes, licence: str, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(card)
    assert licence_of(tmp_path) == licence


def lose_a_shard(folder: Path) -> None:
    make_sharded(folder)
    sorted(folder.glob("model-*.safetensors"))[-1].unlink()


class TestOnDisk:
    @pytest.mark.parametrize("make", [lambda folder: None, make_sharded, make_old])
    def test_a_complete_folder_is_its_own_copy(self, repository: Path, make: Callable[[Path], None]) -> None:
        make(repository)
        assert find_weights(str(repository)) == repository

    @pytest.mark.parametrize(
        ("spoil", "says", "permanent"),
        [
            *((without(file), f"FOLDER has no {file}", False) for file in SMALL_FILES),
            (without(WEIGHTS), f"FOLDER has no {WEIGHTS}", False),
            *(
                (of_git(file), f"only Git LFS pointers stand for {file}.*git -C FOLDER lfs pull", False)
                for file in LARGE
            ),
            (lose_a_shard, r"model-\d+-of-\d+\.safetensors", False),
            (without_tokenizer, "FOLDER has no tokenizer.json .*spiece.model is not read in its place", False),
            *((make, says, True) for make, says in REFUSED),
        ],
    )
    def test_a_folder_that_will_not_do_is_refused_by_what_is_wrong(
        self, repository: Path, spoil: Callable[[Path], None], says: str, permanent: bool
    ) -> None:
        spoil(repository)
        with pytest.raises(WeightsUnavailable, match=says.replace("FOLDER", str(repository))) as caught:
            find_weights(str(repository))
        assert caught.value.permanent is permanent

    @pytest.mark.parametrize(
        ("model", "says", "permanent"),
        [
            ("/nothing/here", "no such folder", True),
            ("~nobody-of-that-name/clip", "no such folder", True),
            ("n" * 300, "cannot be read or written", False),
        ],
    )
    def test_a_path_that_leads_nowhere(self, model: str, says: str, permanent: bool) -> None:
        with pytest.raises(WeightsUnavailable, match=says) as caught:
            find_weights(model)
        assert caught.value.permanent is permanent

    def test_a_hub_model_is_there_once_it_was_fetched_whole(self, hub: LocalHub, cache: Path) -> None:
        assert find_weights(MODEL, cache) is None
        folder = fetch(hub, cache)
        hub.stop()
        assert find_weights(MODEL, cache) == fetch(hub, cache) == folder
        assert CLIPModel.from_pretrained(folder).num_parameters() > 0
        assert Path(hf_hub_download(MODEL, WEIGHTS, cache_dir=cache, local_files_only=True)).parent == folder
        (folder / WEIGHTS).unlink()
        assert find_weights(MODEL, cache) is None


class TestFetching:
    @pytest.mark.parametrize(
        ("make", "weights"),
        [
            (lambda folder: None, r"model\.safetensors"),
            (make_old, r"pytorch_model\.bin"),
            (make_sharded, r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json"),
        ],
        ids=["safetensors", "bin", "sharded"],
    )
    def test_all_that_loading_needs_is_asked_for_and_nothing_else(
        self, hub: LocalHub, cache: Path, make: Callable[[Path], None], weights: str
    ) -> None:
        make(hub.models[MODEL])
        folder = fetch(hub, cache)
        assert CLIPModel.from_pretrained(folder).num_parameters() > 0
        others = {name for name in sent(hub) if not re.fullmatch(weights, name)}
        assert others == {*SMALL_FILES, "tokenizer_config.json", CARD_FILE}
        assert licence_of(folder) == "mit"

    def test_a_siglip_is_fetched_with_its_tokenizer(self, hub: LocalHub, cache: Path, tiny_siglip: Path) -> None:
        hub.models[MODEL] = tiny_siglip
        folder = fetch(hub, cache)
        assert find_weights(MODEL, cache) == folder
        assert embed_texts(folder, ["a cat"]).shape == (64, 1)
        assert licence_of(folder) == "", "it has no card"

    @pytest.mark.usefixtures("large_weights")
    def test_a_line_that_breaks_for_a_moment_costs_nothing_that_has_arrived(self, hub: LocalHub, cache: Path) -> None:
        seen: list[tuple[int, int]] = []
        _, go_on = hub.hold(WEIGHTS, after_bytes=2 * ONE_CHUNK, cut=True)
        go_on.set()
        fetch_weights(MODEL, lambda *progress: seen.append(progress), cache_dir=cache, endpoint=hub.url)
        assert [first for name, first in hub.sent if name == WEIGHTS] == [0, 2 * ONE_CHUNK]
        percents = [100 * done // total for done, total in seen]
        assert percents == sorted(percents)
        assert (percents[0], percents[-1]) == (0, 100)
        assert sum(0 < percent < 100 for percent in set(percents)) >= 3

    def test_two_at_once_send_the_weights_over_the_line_once(self, hub: LocalHub, cache: Path) -> None:
        paused, go_on = hub.hold(WEIGHTS, after_bytes=0)
        both = [threading.Thread(target=fetch, args=(hub, cache)) for _ in range(2)]
        for thread in both:
            thread.start()
        assert paused.wait(DEADLINE_S)
        go_on.set()
        for thread in both:
            thread.join()
        assert find_weights(MODEL, cache) is not None
        assert sent(hub).count(WEIGHTS) == 1

    def test_what_a_killed_download_left_does_not_stay_for_ever(self, hub: LocalHub, cache: Path) -> None:
        folder = fetch(hub, cache)
        blobs = folder.parents[1] / "blobs"
        (blobs / "old.incomplete").touch()
        os.utime(blobs / "old.incomplete", (0, (blobs / "old.incomplete").stat().st_mtime - 2 * ABANDONED_S))
        (blobs / "new.incomplete").touch()
        (folder / WEIGHTS).unlink()
        fetch(hub, cache)
        assert incomplete_files(cache) == ["new.incomplete"]

    def test_another_process_takes_the_hub_from_its_environment(self, hub: LocalHub, cache: Path) -> None:
        done = run_python(f"fetch_weights({MODEL!r})", HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(cache))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert find_weights(MODEL, cache) is not None


def answering(status: HTTPStatus, message: str = "") -> Callable[[LocalHub, Path], None]:
    def set_up(hub: LocalHub, cache: Path) -> None:
        hub.status, hub.error_message = status, message

    return set_up


class TestFailures:
    @pytest.mark.parametrize(
        ("set_up", "says", "advises", "permanent"),
        [
            (answering(HTTPStatus.SERVICE_UNAVAILABLE), "HUB answers with status 503", "by itself", False),
            (answering(HTTPStatus.TOO_MANY_REQUESTS), "HUB answers with status 429", "by itself", False),
            (answering(HTTPStatus.NOT_FOUND), "No model named 'MODEL' on the hub at HUB", "clip.model", True),
            (answering(HTTPStatus.UNAUTHORIZED), "No model named 'MODEL' on the hub at HUB", "clip.model", True),
            (
                answering(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header"),
                *("HUB refuses the access token", "HF_TOKEN", True),
            ),
            (answering(HTTPStatus.FORBIDDEN), "HUB, or a proxy on the way to it, forbids", "Check the proxy", False),
            (answering(HTTPStatus.OK), "What answers at HUB is not a model hub", "HF_ENDPOINT", False),
            (lambda hub, _: hub.models.clear(), "No model named 'MODEL'", "clip.model", True),
            (lambda hub, _: hub.stop(), "HUB cannot be reached", "Check the network", False),
            (lambda hub, _: hub.gated.add(MODEL), "on the hub at HUB is gated", "HF_TOKEN", False),
            (
                lambda hub, _: [file.unlink() for file in hub.models[MODEL].glob("*model.*")],
                *("'MODEL' on the hub at HUB has no model.safetensors", "PyTorch weights", True),
            ),
            (
                lambda hub, _: hub.claimed_sizes.update({WEIGHTS: 10**18}),
                *("The disk of the cache CACHE has no room", "Free some space", False),
            ),
            (lambda _, cache: cache.write_text("no folder"), "cannot be read or written", "writable", False),
        ],
    )
    def test_each_is_told_with_its_remedy_and_costs_no_download(
        self,
        hub: LocalHub,
        cache: Path,
        set_up: Callable[[LocalHub, Path], object],
        says: str,
        advises: str,
        permanent: bool,
    ) -> None:
        set_up(hub, cache)
        failure = failure_of(hub, cache)
        assert says.replace("HUB", hub.url).replace("MODEL", MODEL).replace("CACHE", str(cache)) in failure.sentence
        assert advises in failure.remedy
        assert failure.permanent is permanent
        assert WEIGHTS not in sent(hub)

    @pytest.mark.parametrize(("make", "says"), REFUSED)
    def test_a_model_that_is_not_served_is_refused_for_good_and_costs_no_download(
        self, hub: LocalHub, cache: Path, make: Callable[[Path], None], says: str
    ) -> None:
        make(hub.models[MODEL])
        failure = failure_of(hub, cache)
        assert re.search(f"'{MODEL}' {says}", failure.sentence)
        assert "docs/models.md" in failure.remedy
        assert failure.permanent
        assert not [name for name in sent(hub) if name != "config.json"]

    def test_a_file_that_ends_too_soon_is_not_kept(self, hub: LocalHub, cache: Path, repository: Path) -> None:
        hub.claimed_sizes[WEIGHTS] = (repository / WEIGHTS).stat().st_size + 1
        failure = failure_of(hub, cache)
        assert f"The download of '{MODEL}' from the hub at {hub.url} broke off" in failure.sentence
        assert not failure.permanent
        assert find_weights(MODEL, cache) is None

    @pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
    def test_offline_mode_is_named(self, cache: Path, switch: str) -> None:
        done = run_python(f"fetch_weights({MODEL!r})", **{switch: "1"}, HF_HUB_CACHE=str(cache))
        assert f"'{MODEL}' is not in the cache {cache}, and {switch} forbids fetching it. Unset {switch}" in done.stderr


class TestModelLoader:
    @staticmethod
    def loader(
        hub: LocalHub, cache: Path, wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> ModelLoader[Path]:
        return ModelLoader(
            ClipSettings(model=MODEL, download_retry_first_s=5, download_retry_max_s=30),
            lambda folder: folder,
            find=partial(find_weights, cache_dir=cache),
            fetch=partial(fetch_weights, cache_dir=cache, endpoint=hub.url),
            wait=wait,
        )

    async def test_tries_again_after_doubling_waits_until_the_hub_is_back(
        self, hub: LocalHub, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        waits_s: list[float] = []

        async def wait(seconds: float) -> None:
            waits_s.append(seconds)
            assert f"{hub.url} cannot be reached" in loader.shortfall.reason
            if len(waits_s) == 5:
                hub.start()

        caplog.set_level(logging.INFO, "image_analyzer.weights")
        loader = self.loader(hub, cache, wait=wait)
        hub.stop()
        assert await loader.at_once() is None
        assert await loader.eventually() == find_weights(MODEL, cache)
        assert waits_s == [5, 10, 20, 30, 30]
        assert caplog.text.count("cannot be reached") == 5
        assert " 100 % of" in caplog.text

    @pytest.mark.usefixtures("large_weights")
    async def test_a_download_that_breaks_off_midway_is_completed_by_the_next(self, hub: LocalHub, cache: Path) -> None:
        async def wait(seconds: float) -> None:
            told.append(loader.shortfall.reason)
            hub.status = None

        told: list[str] = []
        loader = self.loader(hub, cache, wait=wait)
        paused, go_on = hub.hold(WEIGHTS, after_bytes=2 * ONE_CHUNK, cut=True)
        running = asyncio.create_task(loader.eventually())
        assert await asyncio.to_thread(paused.wait, DEADLINE_S)
        await asyncio.to_thread(wait_until, lambda: ": 50 % so far" in loader.shortfall.reason)
        hub.status = HTTPStatus.SERVICE_UNAVAILABLE
        go_on.set()
        assert await running == find_weights(MODEL, cache)
        assert told == [f"The hub at {hub.url} answers with status 503 when asked for '{MODEL}'."]
        assert loader.shortfall.reason == "CLIP is being loaded."

    async def test_what_cannot_come_is_not_tried_again(self, hub: LocalHub, cache: Path) -> None:
        hub.models.clear()
        loader = self.loader(hub, cache)
        assert await loader.eventually() is None
        assert loader.hopeless
        assert "No model named" in loader.shortfall.reason

    @pytest.mark.usefixtures("large_weights")
    async def test_what_is_cancelled_ends_with_the_next_bytes_and_leaves_nothing(
        self, hub: LocalHub, cache: Path
    ) -> None:
        paused, go_on = hub.hold(WEIGHTS, after_bytes=2 * ONE_CHUNK)
        running = asyncio.create_task(self.loader(hub, cache).eventually())
        assert await asyncio.to_thread(paused.wait, DEADLINE_S)
        assert incomplete_files(cache)
        running.cancel()
        await asyncio.wait([running])
        go_on.set()
        await asyncio.to_thread(wait_until, lambda: not incomplete_files(cache))
        assert find_weights(MODEL, cache) is None

    @pytest.mark.usefixtures("large_weights")
    def test_a_process_that_stops_midway_does_not_wait_for_the_hub(self, hub: LocalHub, cache: Path) -> None:
        script = (
            "import asyncio; from deployments.clip.weights import *\n"
            "async def main():\n"
            f"    loader = ModelLoader(ClipSettings(model={MODEL!r}), lambda folder: folder)\n"
            "    running = asyncio.create_task(loader.eventually())\n"
            "    await asyncio.to_thread(input)\n"
            "    running.cancel()\n"
            "    await asyncio.gather(running, return_exceptions=True)\n"
            "asyncio.run(main())"
        )
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}
        paused, _ = hub.hold(WEIGHTS, after_bytes=2 * ONE_CHUNK)
        with subprocess.Popen([sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE) as replica:
            assert paused.wait(DEADLINE_S)
            replica.communicate(b"stop\n", timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT / 2)
        assert replica.returncode == 0
