"""Finding weights on disk and fetching them over real HTTP from a hub on 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from deployments.clip.download import DownloadProgress, fetch_weights
from deployments.clip.fetcher import WeightsFetcher
from deployments.clip.weights import WeightsUnavailable, find_weights
from tests.support.local_hub import LocalHub
from tests.support.tiny_clip import make_tiny_clip

MODEL = "someone/tiny-clip"
WEIGHTS = "model.safetensors"
DEADLINE_S = 10.0
FIRST_BYTES = 200_000


@pytest.fixture
def repository(tiny_clip: Path, tmp_path: Path) -> Path:
    """A model's folder as on the hub: with weights for other frameworks beside those we load."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_clip, folder)
    for unwanted in ("flax_model.msgpack", "tf_model.h5", "pytorch_model.bin", "README.md", ".gitattributes"):
        (folder / unwanted).write_bytes(b"not wanted")
    return folder


@pytest.fixture
def hub(repository: Path) -> Iterator[LocalHub]:
    with LocalHub({MODEL: repository}) as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ignore_progress(_: DownloadProgress) -> None:
    pass


def fetch(hub: LocalHub, cache: Path, model: str = MODEL) -> Path:
    return fetch_weights(model, ignore_progress, cache_dir=cache, endpoint=hub.url)


def failure_of(hub: LocalHub, cache: Path, model: str = MODEL) -> WeightsUnavailable:
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(hub, cache, model)
    return caught.value


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def replace_text(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestFindWeights:
    def test_a_complete_folder_is_its_own_copy(self, tiny_clip: Path) -> None:
        assert find_weights(str(tiny_clip)) == tiny_clip

    @pytest.mark.parametrize(
        ("absent", "named"),
        [
            ("config.json", "config.json"),
            ("preprocessor_config.json", "preprocessor_config.json"),
            ("tokenizer.json", "tokenizer.json"),
            (WEIGHTS, WEIGHTS),
        ],
    )
    def test_a_folder_that_lacks_a_file_is_refused_by_its_name(
        self, tiny_clip: Path, tmp_path: Path, absent: str, named: str
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_clip, folder)
        (folder / absent).unlink()

        with pytest.raises(WeightsUnavailable) as caught:
            find_weights(str(folder))

        assert f"{folder} has no {named}" in caught.value.sentence
        assert not caught.value.permanent

    def test_a_folder_that_lacks_one_shard_is_refused_by_its_name(self, tiny_clip: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        CLIPModel.from_pretrained(tiny_clip).save_pretrained(folder, max_shard_size="200KB")
        for file in ("preprocessor_config.json", "tokenizer.json"):
            shutil.copy(tiny_clip / file, folder)
        assert find_weights(str(folder)) == folder
        shard = sorted(folder.glob("model-*.safetensors"))[-1]
        shard.unlink()

        with pytest.raises(WeightsUnavailable, match=shard.name):
            find_weights(str(folder))

    def test_a_model_of_another_family_is_refused_by_its_type(self, tiny_clip: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(tiny_clip, folder)
        replace_text(folder / "config.json", '"model_type": "clip"', '"model_type": "siglip"')

        with pytest.raises(WeightsUnavailable, match="type 'siglip', not of the CLIP family") as caught:
            find_weights(str(folder))

        assert caught.value.permanent

    def test_a_path_that_is_not_there_is_no_hub_name_either(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsUnavailable, match="no such folder") as caught:
            find_weights(str(tmp_path / "nothing-here"))

        assert caught.value.permanent

    def test_a_hub_model_is_not_there_before_it_was_fetched(self, cache: Path) -> None:
        assert find_weights(MODEL, cache) is None

    def test_a_half_fetched_model_is_not_there(self, hub: LocalHub, cache: Path) -> None:
        hub.cut(WEIGHTS, after_bytes=FIRST_BYTES)
        failure_of(hub, cache)

        assert find_weights(MODEL, cache) is None


class TestFetchWeights:
    def test_progress_rises_to_100_percent(self, hub: LocalHub, cache: Path) -> None:
        seen: list[DownloadProgress] = []

        fetch_weights(MODEL, seen.append, cache_dir=cache, endpoint=hub.url)

        assert seen[0].percent == 0
        assert seen[-1].percent == 100
        assert [step.done_bytes for step in seen] == sorted(step.done_bytes for step in seen)
        assert any(0 < step.percent < 100 for step in seen)

    def test_only_what_loading_needs_is_asked_for(self, hub: LocalHub, cache: Path) -> None:
        fetch(hub, cache)

        assert {request.name for request in hub.requests} - {""} == {
            "config.json",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            WEIGHTS,
        }

    def test_what_was_fetched_loads_by_name_and_without_the_hub(self, hub: LocalHub, cache: Path) -> None:
        folder = fetch(hub, cache)
        hub.stop()

        assert find_weights(MODEL, cache) == folder
        assert fetch(hub, cache) == folder
        assert CLIPModel.from_pretrained(folder).num_parameters() > 0
        assert Path(hf_hub_download(MODEL, WEIGHTS, cache_dir=cache, local_files_only=True)).parent == folder

    def test_an_interrupted_download_goes_on_where_it_stopped(
        self, hub: LocalHub, cache: Path, repository: Path
    ) -> None:
        whole_bytes = (repository / WEIGHTS).stat().st_size
        hub.cut(WEIGHTS, after_bytes=FIRST_BYTES)

        failure = failure_of(hub, cache)
        folder = fetch(hub, cache)
        hub.stop()

        assert "broke off" in failure.sentence
        assert not failure.permanent
        first, second = hub.requests_for(WEIGHTS)
        assert first.range is None
        assert second.range == f"bytes={FIRST_BYTES}-"
        assert second.sent_bytes == whole_bytes - FIRST_BYTES
        assert (folder / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()

    def test_a_hub_that_cannot_resume_sends_the_file_anew(self, hub: LocalHub, cache: Path, repository: Path) -> None:
        hub.cut(WEIGHTS, after_bytes=FIRST_BYTES)
        hub.honours_ranges = False
        failure_of(hub, cache)

        folder = fetch(hub, cache)

        assert (folder / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()

    def test_what_arrived_damaged_is_fetched_again_whole(self, hub: LocalHub, cache: Path) -> None:
        hub.damaged.add(WEIGHTS)

        failure = failure_of(hub, cache)
        fetch(hub, cache)

        assert f"{WEIGHTS} of '{MODEL}' arrived damaged" in failure.sentence
        assert [request.range for request in hub.requests_for(WEIGHTS)] == [None, None]

    def test_a_model_with_no_safetensors_is_fetched_as_a_bin_file(self, tmp_path: Path, cache: Path) -> None:
        repository = make_tiny_clip(tmp_path / "repository", safetensors=False)
        (repository / "tf_model.h5").write_bytes(b"not wanted")

        with LocalHub({MODEL: repository}) as hub:
            folder = fetch(hub, cache)

        assert CLIPModel.from_pretrained(folder).num_parameters() > 0
        assert not hub.requests_for("tf_model.h5")

    def test_a_sharded_model_is_fetched_whole(self, tiny_clip: Path, tmp_path: Path, cache: Path) -> None:
        repository = tmp_path / "repository"
        CLIPModel.from_pretrained(tiny_clip).save_pretrained(repository, max_shard_size="200KB")
        for file in ("preprocessor_config.json", "tokenizer.json"):
            shutil.copy(tiny_clip / file, repository)

        with LocalHub({MODEL: repository}) as hub:
            folder = fetch(hub, cache)

        assert CLIPModel.from_pretrained(folder).num_parameters() > 0

    def test_two_at_once_send_the_weights_over_the_line_once(self, hub: LocalHub, cache: Path) -> None:
        paused, go_on = hub.hold(WEIGHTS, after_bytes=FIRST_BYTES)
        seen_by_second: list[DownloadProgress] = []
        first = threading.Thread(target=fetch, args=(hub, cache))
        second = threading.Thread(
            target=fetch_weights,
            args=(MODEL, seen_by_second.append),
            kwargs={"cache_dir": cache, "endpoint": hub.url},
        )
        first.start()
        assert paused.wait(DEADLINE_S)
        second.start()
        wait_until(lambda: any(step.done_bytes >= FIRST_BYTES for step in seen_by_second))
        go_on.set()
        first.join()
        second.join()

        assert find_weights(MODEL, cache) is not None
        assert len(hub.requests_for(WEIGHTS)) == 1

    def test_another_process_takes_the_hub_from_its_environment(self, hub: LocalHub, cache: Path) -> None:
        script = f"from deployments.clip.download import *; fetch_weights({MODEL!r}, lambda progress: None)"
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache)}

        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert find_weights(MODEL, cache) is not None


class TestFailures:
    def test_a_wrong_name(self, hub: LocalHub, cache: Path) -> None:
        failure = failure_of(hub, cache, "someone/no-such-clip")

        assert failure.sentence.startswith(f"No model named 'someone/no-such-clip' on the hub at {hub.url}")
        assert "clip.model" in failure.remedy
        assert failure.permanent

    def test_a_hub_out_of_reach(self, hub: LocalHub, cache: Path) -> None:
        hub.stop()

        failure = failure_of(hub, cache)

        assert f"The hub at {hub.url} cannot be reached" in failure.sentence
        assert not failure.permanent

    def test_a_gated_model(self, repository: Path, cache: Path) -> None:
        with LocalHub({MODEL: repository}, gated=frozenset({MODEL})) as hub:
            failure = failure_of(hub, cache)

        assert "gated" in failure.sentence
        assert "HF_TOKEN" in failure.remedy

    @pytest.mark.parametrize(
        ("status", "says", "permanent"),
        [
            (HTTPStatus.SERVICE_UNAVAILABLE, "status 503", False),
            (HTTPStatus.TOO_MANY_REQUESTS, "status 429", False),
            (HTTPStatus.NOT_FOUND, "No model named", True),
            (HTTPStatus.UNAUTHORIZED, "No model named", True),
            (HTTPStatus.FORBIDDEN, "forbids fetching", False),
            (HTTPStatus.OK, "is not a model hub", False),
        ],
    )
    def test_a_hub_that_answers_otherwise(
        self, hub: LocalHub, cache: Path, status: HTTPStatus, says: str, permanent: bool
    ) -> None:
        hub.status = status

        failure = failure_of(hub, cache)

        assert says in failure.sentence
        assert hub.url in failure.sentence
        assert failure.permanent is permanent

    def test_a_token_that_is_not_valid(self, hub: LocalHub, cache: Path) -> None:
        hub.status = HTTPStatus.UNAUTHORIZED
        hub.error_message = "Invalid credentials in Authorization header"

        assert "refuses the access token" in failure_of(hub, cache).sentence

    def test_a_model_of_another_family_costs_no_download_of_its_weights(
        self, hub: LocalHub, repository: Path, cache: Path
    ) -> None:
        replace_text(repository / "config.json", '"model_type": "clip"', '"model_type": "siglip"')

        failure = failure_of(hub, cache)

        assert "'siglip', not of the CLIP family" in failure.sentence
        assert failure.permanent
        assert not hub.requests_for(WEIGHTS)

    def test_a_model_with_no_weights_for_pytorch(self, hub: LocalHub, repository: Path, cache: Path) -> None:
        (repository / WEIGHTS).unlink()
        (repository / "pytorch_model.bin").unlink()

        failure = failure_of(hub, cache)

        assert f"'{MODEL}' on the hub at {hub.url} has no model.safetensors" in failure.sentence

    def test_a_disk_too_small_is_told_before_it_is_full(self, hub: LocalHub, cache: Path) -> None:
        hub.claimed_sizes[WEIGHTS] = 10**18

        failure = failure_of(hub, cache)

        assert f"The disk of the cache {cache} has no room" in failure.sentence
        assert not hub.requests_for(WEIGHTS)

    def test_a_cache_that_cannot_be_written(self, hub: LocalHub, cache: Path) -> None:
        cache.write_text("a file where the folder should be")

        failure = failure_of(hub, cache)

        assert "cannot be read or written" in failure.sentence
        assert str(cache) in failure.sentence

    def test_offline_mode_is_named(self, cache: Path) -> None:
        script = f"from deployments.clip.download import *; fetch_weights({MODEL!r}, lambda progress: None)"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}

        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )

        assert f"'{MODEL}' is not in the cache {cache}, and HF_HUB_OFFLINE forbids fetching it." in done.stderr

    def test_survives_pickling(self) -> None:
        failure = pickle.loads(  # noqa: S301 - our own bytes
            pickle.dumps(WeightsUnavailable("It is gone.", "Fetch it.", permanent=True))
        )

        assert (str(failure), failure.permanent) == ("It is gone. Fetch it.", True)


class TestWeightsFetcher:
    @staticmethod
    def fetcher(
        hub: LocalHub, cache: Path, model: str = MODEL, wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> WeightsFetcher:
        return WeightsFetcher(model, retry_first_s=5, retry_max_s=30, cache_dir=cache, endpoint=hub.url, wait=wait)

    async def test_retries_with_doubling_waits_until_the_hub_is_back(
        self, hub: LocalHub, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        waits_s: list[float] = []

        async def wait(seconds: float) -> None:
            waits_s.append(seconds)
            assert fetcher.failure is not None
            assert f"{hub.url} cannot be reached" in fetcher.failure.sentence
            if len(waits_s) == 5:
                hub.start()

        caplog.set_level(logging.INFO, "image_analyzer.weights")
        fetcher = self.fetcher(hub, cache, wait=wait)
        hub.stop()

        folder = await fetcher.run()

        assert folder == find_weights(MODEL, cache)
        assert waits_s == [5, 10, 20, 30, 30]
        assert (fetcher.attempts, fetcher.percent, fetcher.failure) == (6, 100, None)
        assert caplog.text.count("cannot be reached") == 5
        assert all(f" {percent} % of" in caplog.text for percent in (50, 100))

    async def test_a_line_that_breaks_after_bringing_bytes_is_retried_soon(self, hub: LocalHub, cache: Path) -> None:
        waits_s: list[float] = []
        percents: list[int] = []

        async def wait(seconds: float) -> None:
            waits_s.append(seconds)
            percents.append(fetcher.percent or 0)

        fetcher = self.fetcher(hub, cache, wait=wait)
        for _ in range(3):
            hub.cut(WEIGHTS, after_bytes=FIRST_BYTES)

        await fetcher.run()
        hub.stop()

        assert waits_s == [5, 5, 5]
        assert 0 < percents[0] < percents[1] < percents[2] < 100
        assert (
            sum(request.sent_bytes for request in hub.requests_for(WEIGHTS))
            == (hub.models[MODEL] / WEIGHTS).stat().st_size
        )

    async def test_progress_can_be_read_during_the_download_and_an_old_failure_no_more(
        self, hub: LocalHub, cache: Path
    ) -> None:
        hub.stop()

        async def wait(seconds: float) -> None:
            assert fetcher.failure is not None
            hub.start()

        paused, go_on = hub.hold(WEIGHTS, after_bytes=FIRST_BYTES)
        fetcher = self.fetcher(hub, cache, wait=wait)
        running = asyncio.create_task(fetcher.run())
        assert await asyncio.to_thread(paused.wait, DEADLINE_S)
        await asyncio.to_thread(wait_until, lambda: bool(fetcher.percent))

        assert fetcher.percent is not None
        assert 0 < fetcher.percent < 100
        assert fetcher.failure is None
        go_on.set()
        await running
        assert fetcher.percent == 100

    async def test_a_permanent_failure_is_not_retried(self, hub: LocalHub, cache: Path) -> None:
        async def wait(seconds: float) -> None:
            raise AssertionError("waited for what cannot come")

        fetcher = self.fetcher(hub, cache, model="someone/no-such-clip", wait=wait)

        with pytest.raises(WeightsUnavailable, match="No model named"):
            await fetcher.run()

        assert fetcher.failure is not None
        assert fetcher.attempts == 1

    async def test_cancelling_returns_at_once_and_keeps_what_has_arrived(
        self, hub: LocalHub, cache: Path, repository: Path
    ) -> None:
        paused, go_on = hub.hold(WEIGHTS, after_bytes=FIRST_BYTES)
        running = asyncio.create_task(self.fetcher(hub, cache).run())
        assert await asyncio.to_thread(paused.wait, DEADLINE_S)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        go_on.set()
        await self.fetcher(hub, cache).run()
        hub.stop()
        _, resumed = hub.requests_for(WEIGHTS)
        assert resumed.range is not None
        assert resumed.sent_bytes < (repository / WEIGHTS).stat().st_size
        assert find_weights(MODEL, cache) is not None


@pytest.mark.parametrize("safetensors", [True, False])
def test_the_tiny_clip_loads_as_a_real_one_does(tmp_path: Path, safetensors: bool) -> None:
    folder = make_tiny_clip(tmp_path, safetensors=safetensors)

    CLIPModel.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    image_processor = CLIPImageProcessorPil.from_pretrained(folder)

    assert image_processor.crop_size["height"] == 224
    assert tokenizer.decode(tokenizer("rule of thirds")["input_ids"]).count("rule of thirds") == 1
    assert (folder / WEIGHTS).exists() is safetensors


def test_the_local_hub_takes_the_same_port_again(hub: LocalHub) -> None:
    url = hub.url
    hub.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    hub.start()

    assert hub.url == url
    socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))).close()
