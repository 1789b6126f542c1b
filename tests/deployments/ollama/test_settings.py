from __future__ import annotations

import pytest
from pydantic import ValidationError

from deployments.ollama.settings import OllamaSettings
from serve_app.settings import load_settings


def test_defaults_are_the_guides_and_every_field_tells_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://elsewhere:1")  # is read with the other variables, and not here
    settings = OllamaSettings()
    assert (settings.hosts, settings.model) == (("http://localhost:11434",), "mistral:latest")
    assert settings.auto_pull is False
    assert all(field.description for field in OllamaSettings.model_fields.values())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://ollama:11434", ["http://ollama:11434"]),
        ("10.0.0.7:1234", ["http://10.0.0.7:1234"]),
        ("10.0.0.7", ["http://10.0.0.7:11434"]),
        ("gpu-box", ["http://gpu-box:11434"]),
        ("http://gpu-box", ["http://gpu-box:80"]),
        ("https://gpu.example", ["https://gpu.example:443"]),
        ("https://gpu.example:8443/ollama/", ["https://gpu.example:8443/ollama"]),
        ("HTTP://Gpu.Example:1234//", ["http://gpu.example:1234"]),
        (":1234", ["http://127.0.0.1:1234"]),
        ("0.0.0.0", ["http://127.0.0.1:11434"]),  # noqa: S104
        ("http://0.0.0.0:1234", ["http://127.0.0.1:1234"]),
        ("::", ["http://[::1]:11434"]),
        ("[::]:1234", ["http://[::1]:1234"]),
        ("::1", ["http://[::1]:11434"]),
        ("[::1]", ["http://[::1]:11434"]),
        ("[::1]:1234", ["http://[::1]:1234"]),
        ("http://[fd00::7]:1234/", ["http://[fd00::7]:1234"]),
        ('"http://a:1"', ["http://a:1"]),
        (" ' a:1 ' ", ["http://a:1"]),
        ("a:1,", ["http://a:1"]),
        ("http://a:1/, b , ,[::1]:2", ["http://a:1", "http://b:11434", "http://[::1]:2"]),
        ('"a:1","b:2"', ["http://a:1", "http://b:2"]),
        ('""', ["http://localhost:11434"]),
        (" , ", ["http://localhost:11434"]),
    ],
)
def test_addresses_are_taken_in_every_form_that_ollama_takes_and_several_between_commas(
    written: str, meant: list[str]
) -> None:
    assert list(load_settings({}, {"OLLAMA_HOST": written}).ollama.hosts) == meant
    assert list(OllamaSettings.model_validate({"hosts": written}).hosts) == meant


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        *(({"hosts": (host,)}, "host") for host in ("", "http://", "ftp://ollama", "http://ollama:port", "a b")),
        *(({"hosts": (host,)}, "host") for host in ("http://ollama:99999", "http://me:pw@ollama")),
        *(({"hosts": (host,)}, "is not an address") for host in ("::1:11434", "http://[::1", "http://a/?b", "/v1")),
        ({"hosts": ("http://me:pw@ollama",)}, "ollama.headers"),
        ({"hosts": ("http://a", "a:80")}, "named twice"),
        ({"headers": {"a b": {}}}, "is not an address"),
        ({"modell": "mistral"}, "modell"),
        ({"model": "a b"}, "no blanks"),
        *(({"model": name}, "leave the house.*ollama.allow_cloud") for name in ("x:cloud", "x:20b-cloud", "X-Cloud")),
        ({"allowed_models": ("x:cloud",)}, "leave the house"),
    ],
)
def test_what_is_no_usable_address_and_what_is_misspelt_is_refused_at_the_start(
    wrong: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        OllamaSettings.model_validate(wrong)


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("mistral", "mistral:latest"),
        ("mistral:7b", "mistral:7b"),
        ("hub.example:5000/team/mistral", "hub.example:5000/team/mistral:latest"),
    ],
)
def test_a_name_without_a_tag_means_latest(model: str, listed: str) -> None:
    assert OllamaSettings(model=model).tagged_model == listed


@pytest.mark.parametrize(
    ("host", "command"),
    [
        ("http://localhost:11434", "ollama pull mistral:latest"),
        ("127.0.0.1", "ollama pull mistral:latest"),
        ("http://ollama:11434", "OLLAMA_HOST=http://ollama:11434 ollama pull mistral:latest"),
        ("http://localhost:9999", "OLLAMA_HOST=http://localhost:9999 ollama pull mistral:latest"),
    ],
)
def test_the_pull_command_reaches_the_configured_server(host: str, command: str) -> None:
    assert OllamaSettings(hosts=(host,)).pull_command(host, "mistral:latest") == command


def test_several_servers_are_a_list_or_stand_between_commas() -> None:
    both = ("http://a:11434", "http://b:11434")
    assert OllamaSettings.model_validate({"hosts": list(both)}).hosts == both
    settings = load_settings({}, {"OLLAMA_HOST": "http://a:11434, http://b:11434"}).ollama
    assert (settings.hosts, settings.max_writing) == (both, 2 * settings.max_parallel)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("", "smol"), ("SMOL:latest", "smol"), ("think:1B", "think:1b"), ("other", None)],
)
def test_a_request_may_name_the_allowed_models_as_ollama_takes_names(asked: str, meant: str | None) -> None:
    settings = OllamaSettings(model="smol", allowed_models=("think:1b", "smol:latest"))
    assert settings.models == ("smol", "think:1b")
    if meant is None:
        with pytest.raises(ValueError, match="send one of smol, think:1b"):
            settings.chosen(asked)
    else:
        assert settings.chosen(asked) == meant


def test_cloud_models_are_used_where_that_is_allowed() -> None:
    with pytest.raises(ValueError, match="text would leave the house"):
        OllamaSettings().chosen("x:cloud")
    assert OllamaSettings(model="x:cloud", allow_cloud=True).chosen("x:cloud") == "x:cloud"
