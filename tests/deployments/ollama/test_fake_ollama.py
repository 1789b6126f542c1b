"""The stand-in must keep to the wire format, or the tests that use it prove nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_times_of_sending_are_kept_and_no_token_is_early() -> None:
    with FakeOllama(Answer(["A", " fox"], interval_s=0.01)) as server:
        with ollama.Client(server.url, trust_env=False) as client:
            client.chat("mistral", [], stream=False)
            list(client.chat("mistral", [], stream=True))
        chat = server.chats[1]
    for number, sent_at_s in enumerate(chat.sent_at_s, 1):
        assert sent_at_s - chat.came_at_s >= 0.009 * number


def test_a_token_can_bring_the_time_at_which_it_is_sent() -> None:
    asked_ns = time.monotonic_ns()
    with FakeOllama(Answer(["A ", "fox "], interval_s=0.01, stamped=True)) as server:
        with ollama.Client(server.url, trust_env=False) as client:
            tokens = [line.message.content or "" for line in client.chat("mistral", [], stream=True)]
        kept_s = server.chats[0].sent_at_s
    words, stamps = zip(*(token.split() for token in tokens[:-1]), strict=True)
    assert words == ("A", "fox")
    assert asked_ns < int(stamps[0]) < int(stamps[1]) < time.monotonic_ns()
    assert all(int(stamp) / 1e9 <= sent_at_s for stamp, sent_at_s in zip(stamps, kept_s, strict=True))


def test_held_answers_can_begin_one_after_another_and_others_be_held_again() -> None:
    def read_one() -> None:
        with ollama.Client(server.url, trust_env=False) as client:
            list(client.chat("mistral", [], stream=True))

    with FakeOllama(Answer(["A"], hold_at=0), parallel=4) as server, ThreadPoolExecutor(5) as pool:
        reading = [pool.submit(read_one) for _ in range(4)]
        assert server.wait_until(lambda server: len(server.chats) == 4)
        server.release(spread_s=0.08)
        for one in reading:
            one.result()
        begun_s = [chat.sent_at_s[0] for chat in server.chats]
        assert begun_s == sorted(begun_s)
        assert begun_s[-1] - begun_s[0] >= 0.03
        server.hold()
        held = pool.submit(read_one)
        assert server.wait_until(lambda server: len(server.chats) == 5)
        assert not server.wait_until(lambda server: bool(server.chats[4].sent_at_s), timeout_s=0.1)
        server.release()
        held.result()


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
