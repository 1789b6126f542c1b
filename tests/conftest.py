import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from serve_app.cli.ray_env import SWITCH
from tests.support.fake_ollama import FakeOllama
from tests.support.local_hub import LocalHub
from tests.support.ports import free_port
from tests.support.service import GUARDED, HUB, RATED, STRICT, Service, application

VOCABULARY = Path(__file__).parent / "cases" / "vocabulary"

# How long an example takes says nothing on a machine with two busy cores.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")


if not os.access(os.path.expanduser("~"), os.W_OK):
    # A user of a container may have no home, which npm and others of the tools do not bear.
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home-")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP model; treat it as read-only."""
    # Importing transformers takes seconds that only the tests that ask for a model should pay.
    from tests.support.tiny_clip import make_tiny_clip

    return make_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny SigLIP model; treat it as read-only."""
    from tests.support.tiny_siglip import make_tiny_siglip

    return make_tiny_siglip(tmp_path_factory.mktemp("models") / "tiny-siglip")


@pytest.fixture(scope="session")
def shared_ollama() -> Iterator[FakeOllama]:
    """The one that the services below ask."""
    with FakeOllama() as server:
        yield server


@pytest.fixture(scope="session")
def ollama(shared_ollama: FakeOllama) -> FakeOllama:
    """A module that uses it sets its answer for each of its tests."""
    return shared_ollama


@pytest.fixture(scope="session")
def hub(tiny_clip: Path) -> Iterator[LocalHub]:
    """A model hub that is down until a test starts it."""
    hub = LocalHub({"openai/tiny": tiny_clip}, port=free_port())
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of those who may call below `GUARDED`; a test that needs a key writes it."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.touch()
    return file


@pytest.fixture(scope="session")
def service(
    tiny_clip: Path, shared_ollama: FakeOllama, hub: LocalHub, keys_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One start for all tests that do not need a service of their own; in fast mode, as the command starts it."""
    writer = {"hosts": [shared_ollama.url]}
    eager = {"download_retry_first_s": 1, "download_retry_max_s": 1}
    named = {"vocabulary": [str(VOCABULARY)], "tag_threshold": 0, "tag_alike": 1}
    missing = {"model": "nobody/nothing"}
    required = {"ollama": {"hosts": [f"http://127.0.0.1:{free_port()}"]}, "require_clip": True, "require_ollama": True}
    guarded = {"access": {"keys_file": str(keys_file)}}
    applications = [
        application("main", "/", {"clip": {"model": str(tiny_clip), **named}, "ollama": writer, "require_clip": True}),
        application("hub", HUB, {"clip": {"model": "openai/tiny", **eager}, "ollama": writer}),
        application("strict", STRICT, {"clip": {"model": str(tiny_clip)}, **required}),
        application("guarded", GUARDED, {"clip": missing, "ollama": writer, **guarded}),
        _rated(writer),
    ]
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
    with Service(applications, environment) as service:
        assert "Mode:     fast" in service.log()
        yield service


@pytest.fixture(scope="session")
def plain_service(tiny_clip: Path, shared_ollama: FakeOllama) -> Iterator[Service]:
    """In plain mode, as on a cluster: logging JSON and tracing every request."""
    watched = {"logging_config": {"encoding": "JSON"}, "tracing_config": {"enabled": True, "sampling_ratio": 1.0}}
    writer = {"hosts": [shared_ollama.url]}
    applications = [application("main", "/", {"clip": {"model": str(tiny_clip)}, "ollama": writer}), _rated(writer)]
    with Service(applications, {SWITCH: "0", "HF_HUB_OFFLINE": "1"}, for_all=watched) as service:
        assert "Mode:     plain" in service.log()
        yield service


@pytest.fixture(params=["service", "plain_service"], ids=["fast", "plain"])
def either_service(request: pytest.FixtureRequest) -> Service:
    """In each mode in turn: for what Serve's proxy or HAProxy could spoil."""
    service: Service = request.getfixturevalue(request.param)
    return service


def _rated(writer: dict[str, list[str]]) -> dict[str, object]:
    """Give the application that is short of patience: two calls a minute of each address, a second for each upload."""
    bounds = {"access": {"requests_per_minute": 1, "burst": 2}, "limits": {"upload_timeout_s": 1}}
    return application("rated", RATED, {"clip": {"model": "nobody/nothing"}, "ollama": writer, **bounds})
