"""The stand-in must keep to the wire format, or the tests that use it prove nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import ollama
import pytest

from tests.support.fake_ollama import Answer, FakeOllama, Pull

REPOSITORY = Path(__file__).parents[3]


def test_small_questions() -> None:
    with FakeOllama(models=["mistral"]) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/").text == "Ollama is running"
        assert "version" in client.get("/api/version").json()
        assert client.get("/api/tags").json()["models"][0]["name"] == "mistral:latest"
        assert client.post("/api/show", json={"model": "mistral"}).json()["capabilities"] == ["completion"]
        assert client.get("/nowhere").status_code == 404
        assert client.post("/api/chat", content=b"{").status_code == 400
        absent = client.post("/api/show", json={"model": "x"})
        assert (absent.status_code, absent.json()) == (404, {"error": "model 'x' not found"})


def test_the_official_client_reads_every_answer() -> None:
    with FakeOllama(tokens=["A", " fox"]) as server, ollama.Client(server.url, trust_env=False) as client:
        assert client.list().models[0].model == "mistral:latest"
        whole = client.chat("mistral", [{"role": "user", "content": "?"}])
        assert (whole.message.content, whole.done, whole.done_reason) == ("A fox", True, "stop")
        lines = list(client.generate("mistral", "?", stream=True, options={"num_predict": 1}))
        assert [line.response for line in lines] == ["A", ""]
        assert (lines[-1].done_reason, lines[-1].eval_count) == ("length", 1)


def test_a_model_stays_loaded_for_as_long_as_asked() -> None:
    with FakeOllama() as server, ollama.Client(server.url, trust_env=False) as client:
        assert client.ps().models == []
        client.generate("mistral", "", keep_alive="5m")
        assert [model.model for model in client.ps().models] == ["mistral:latest"]
        assert client.generate("mistral", "", keep_alive=0).done_reason == "unload"
        assert client.ps().models == []


def test_a_cancelled_pull_resumes() -> None:
    with FakeOllama(models=[], pull=Pull(steps=4, hold_at=2)) as server:
        with ollama.Client(server.url, trust_env=False) as client:
            for line in client.pull("mistral", stream=True):
                if line.completed and line.total and line.completed * 2 >= line.total:
                    break
            server.pull = Pull(steps=4)
            lines = list(client.pull("mistral", stream=True))
        assert lines[0].status == "pulling manifest"
        assert next(line for line in lines if line.digest).completed is None
        assert len([line for line in lines if line.completed]) == 2
        assert [line.status for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
        assert server.models == ["mistral:latest"]


def test_it_can_go_away_and_come_back_on_its_port() -> None:
    server = FakeOllama()
    ports = set()
    for _ in range(3):
        with server:
            ports.add(server.port)
            assert httpx.get(server.url, trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url, trust_env=False)
    assert len(ports) == 1


def test_times_of_sending_are_kept() -> None:
    with FakeOllama(Answer(["A", " fox"], interval_s=0.01)) as server:
        with ollama.Client(server.url, trust_env=False) as client:
            client.chat("mistral", [], stream=False)
            list(client.chat("mistral", [], stream=True))
        first_s, second_s = server.chats[1].sent_at_s
    assert second_s - first_s >= 0.009


def test_as_a_process_it_answers_with_a_sentence_made_from_the_question() -> None:
    command = [sys.executable, "-m", "tests.support.fake_ollama", "--port", "0", "--token-interval-ms", "0"]
    with subprocess.Popen([*command, "--model", "tiny"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[3]
            question = "style: sketch 40%, anime 2%\nsubjects: forest 70%\n<wish>with fog</wish>"
            with ollama.Client(address, trust_env=False) as client:
                said = client.chat("tiny", [{"role": "user", "content": question}]).message.content
        finally:
            process.terminate()
    assert said is not None
    assert said.startswith("A sketch picture of forest")
    assert said.endswith("with fog.")
