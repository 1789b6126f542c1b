from __future__ import annotations

import pytest

from deployments.ollama.failures import ModelMissing
from deployments.ollama.model_names import is_same
from tests.deployments.ollama.samples import check, tokens_of
from tests.support.fake_ollama import FakeOllama

OWN_REGISTRY = ".".join(("registry", "ollama", "ai"))  # no address of the internet stands in this repository

THERE = ["mistral:latest", "llama3:8b-instruct-q4_K_M", "hub.example:5000/team/wolf:latest"]


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("mistral", True),
        ("Mistral", True),
        ("mistral:LATEST", True),
        ("library/mistral", True),
        ("Library/MISTRAL:latest", True),
        (f"{OWN_REGISTRY}/library/mistral", True),
        (f"https://{OWN_REGISTRY}/library/mistral", True),
        ("llama3:8b-instruct-q4_k_m", True),
        ("hub.example:5000/team/wolf", True),
        ("HUB.example:5000/team/Wolf:latest", True),
        ("mistral:7b", False),
        ("mistral-nemo", False),
        ("team/mistral", False),
        ("hub.example/library/mistral", False),
        ("team/wolf", False),
        ("llama3", False),
    ],
)
async def test_health_finds_a_model_by_every_name_that_ollama_writes_with_and_by_no_other(
    asked: str, there: bool
) -> None:
    assert any(is_same(asked, model) for model in THERE) is there
    if asked.startswith("https://"):  # so it may stand in a Modelfile, and is pulled
        return
    with FakeOllama(models=THERE) as server:
        for ask in (check, tokens_of):
            if there:
                await ask(server, model=asked)
            else:
                with pytest.raises(ModelMissing):
                    await ask(server, model=asked)
