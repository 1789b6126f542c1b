"""The stand-in must keep to the wire format, or the tests that use it prove nothing."""

from __future__ import annotations

import gc
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest

from tests.support.fake_ollama import Answer, FakeOllama, Pull

ASKED = [{"role": "user", "content": "a fox"}]


def test_the_official_client_reads_every_answer() -> None:
    with FakeOllama() as server, ollama.Client(server.url, trust_env=False) as client:
        assert client.list().models[0].model == "mistral:latest"
        lines = list(client.chat("mistral", ASKED, stream=True, options={"num_predict": 1}))
        assert [(line.message.content, line.done_reason) for line in lines] == [("A", None), ("", "length")]
        assert lines[-1].eval_count == 1
        with pytest.raises(ollama.ResponseError, match="model 'x' not found"):
            list(client.chat("x", ASKED, stream=True))
        server.models.clear()
        pulled = list(client.pull("mistral", stream=True))
        assert next(line.completed for line in pulled if line.digest) is None
        assert sum(line.completed is not None for line in pulled) == Pull().steps
        assert [line.status for line in pulled[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
        assert server.models == ["mistral:latest"]


def test_it_can_go_away_and_come_back_on_its_port() -> None:
    server = FakeOllama()
    with server:
        url = server.url
    with pytest.raises(ConnectionError):
        ollama.Client(url, trust_env=False).list()
    with server:
        assert ollama.Client(url, trust_env=False).list().models


def test_it_leaves_nothing_open_when_it_stops_while_callers_come() -> None:
    for _ in range(20):
        with FakeOllama() as server:
            callers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for caller in callers:
            caller.close()
    gc.collect()  # what was left open warns when it is collected


def test_no_token_is_early_and_each_can_bring_the_time_at_which_it_is_sent() -> None:
    asked_ns = time.monotonic_ns()
    with FakeOllama(Answer(["A ", "fox "], interval_s=0.01, stamped=True)) as server:
        with ollama.Client(server.url, trust_env=False) as client:
            tokens = [line.message.content or "" for line in client.chat("mistral", ASKED, stream=True)]
        (chat,) = server.chats
    words, stamps = zip(*(token.split() for token in tokens[:-1]), strict=True)
    assert words == ("A", "fox")
    assert asked_ns < int(stamps[0]) < int(stamps[1]) < time.monotonic_ns()
    for number, (stamp, sent_at_s) in enumerate(zip(stamps, chat.sent_at_s, strict=True), 1):
        assert int(stamp) / 1e9 <= sent_at_s
        assert sent_at_s - chat.came_at_s >= 0.009 * number


@pytest.mark.parametrize(("stamped", "come"), [(False, 30), (True, 40)])
def test_only_what_is_sent_again_and_again_is_a_loop(stamped: bool, come: int) -> None:
    with (
        FakeOllama(Answer([" "] * 40, stamped=stamped)) as server,
        ollama.Client(server.url, trust_env=False) as client,
    ):
        told = [line for line in client.chat("mistral", ASKED, stream=True) if line.message.content]
    assert len(told) == come


def test_held_answers_can_begin_one_after_another_and_others_be_held_again() -> None:
    def read_one() -> None:
        with ollama.Client(server.url, trust_env=False) as client:
            list(client.chat("mistral", ASKED, stream=True))

    with FakeOllama(Answer(["A"], hold_at=0), parallel=4) as server, ThreadPoolExecutor(5) as pool:
        reading = [pool.submit(read_one) for _ in range(4)]
        assert server.wait_until(lambda server: server.held == 4)
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
