from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from benchmarks.stamping_ollama import stamping_ollama
from benchmarks.stream_caller import Stream, calling, read_stream
from benchmarks.streaming import BURST, DIRECT, SERVED, Passage, streaming_tables, verdicts

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
MS = 1_000_000


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def event(**content: str) -> bytes:
    return chunk(b"data: " + json.dumps(content).encode() + b"\n\n")


def line(text: str, *, done: bool = False) -> bytes:
    return chunk(json.dumps({"message": {"content": text}, "done": done}).encode() + b"\n")


COMPLETE = event(status="complete", promptSource="ollama", generatedPrompt="100 200 300")


def test_tokens_of_the_service_are_paired_with_their_times_although_they_travel_together() -> None:
    stream = read_stream(
        [
            (110, HEAD + event(status="analyzing", message="1 picture") + event(status="delta", text="100 ")),
            (320, event(status="delta", text="200 300 ")),
            (350, COMPLETE + END),
        ]
    )
    assert stream == Stream(sent_ns=(100, 200, 300), arrived_ns=(110, 320, 320), ended_ns=350)


def test_tokens_of_ollama_itself_are_read_too() -> None:
    stream = read_stream([(105, HEAD + line("100 ")), (203, line("200 ")), (209, line("", done=True) + END)])
    assert stream == Stream(sent_ns=(100, 200), arrived_ns=(105, 203), ended_ns=209)


def test_an_event_that_arrives_in_two_pieces_has_arrived_with_the_second() -> None:
    whole = event(status="delta", text="100 ")
    stream = read_stream([(110, HEAD + whole[:20]), (120, whole[20:]), (130, COMPLETE + END)])
    assert stream.arrived_ns == (120,)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + event(status="delta", text="100 ") + END,
        HEAD + event(status="delta", text="100 ") + event(status="error", error="It broke.") + END,
        HEAD + event(status="delta", text="a wall") + event(status="complete", promptSource="template") + END,
    ],
    ids=["refused", "cut off", "failed", "composed without Ollama"],
)
def test_what_is_no_stream_of_ollamas_tokens_is_told(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"no stream of stamped tokens.*(429|100|wall)"):
        read_stream([(1, answer)])


def test_held_answers_begin_together_and_every_token_arrives_after_it_was_sent() -> None:
    with stamping_ollama(tokens=5, tokens_per_s=100, parallel=3) as ollama:
        ollama.hold()
        with calling([ollama.request() for _ in range(3)]) as answers:
            ollama.wait_for(3)
            released_ns = time.monotonic_ns()
            ollama.release(spread_s=0)
            streams = answers()
    assert [len(stream.delays_ms) for stream in streams] == [5, 5, 5]
    assert all(delay_ms > 0 for stream in streams for delay_ms in stream.delays_ms)
    assert all(released_ns < stream.sent_ns[0] for stream in streams)
    assert all(stream.ended_ns - released_ns >= 0.049e9 for stream in streams)


def stream(delays_ms: Sequence[float], took_s: float) -> Stream:
    """One token a second, each so much later, and the end."""
    sent_ns = [number * 1000 * MS for number in range(len(delays_ms))]
    arrived_ns = [sent + int(delay_ms * MS) for sent, delay_ms in zip(sent_ns, delays_ms, strict=True)]
    return Stream(tuple(sent_ns), tuple(arrived_ns), int(took_s * 1e9))


def test_a_passage_puts_its_rounds_together() -> None:
    rounds = [
        [stream([3, 10, 20], 2.0), stream([1, 30, 40], 2.1)],
        [stream([2, 50, 60], 2.2), stream([9, 70, 80], 2.9)],
        [stream([4, 90, 95], 2.0), stream([5, 97, 99], 2.3)],
    ]
    passage = Passage(rounds, Counter({"ingress": 0.009}))
    assert passage.first_ms == [1, 2, 3, 4, 5, 9]
    assert passage.later_ms == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97, 99]
    assert passage.usual_s == pytest.approx(2.15)
    assert passage.slowest_s == 2.3
    assert passage.cpu_ms == pytest.approx({"ingress": 0.5})


def measured(first_ms: float, slowest_s: float) -> dict[tuple[int, str], Passage]:
    served = [stream([first_ms, 20], slowest_s)]
    paths = {DIRECT: Passage([[stream([0.2, 0.2], 3.0)]]), SERVED: Passage([served]), BURST: Passage([served])}
    return {(callers, path): passage for callers in (1, 32, 64) for path, passage in paths.items()}


@pytest.mark.parametrize(
    ("first_ms", "slowest_s", "judged"),
    [(10.0, 3.05, ["met"] * 3), (10.1, 3.05, ["not met", "not met", "met"]), (10.0, 3.07, ["met", "met", "not met"])],
)
def test_the_targets_are_a_delay_and_a_share(first_ms: float, slowest_s: float, judged: list[str]) -> None:
    assert [row[-1] for row in verdicts(measured(first_ms, slowest_s))] == judged


def test_the_tables_tell_every_path_and_how_much_longer_than_the_server_it_took() -> None:
    tables = streaming_tables(measured(7.5, 3.03))
    assert tables.count("7.5 / 7.5 / 7.5") == 6
    assert tables.count("+1.0%") == 6
    assert all(path in tables for path in (DIRECT, SERVED, BURST))
