from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ollama.writer import Coalescer
from tests.deployments.ollama.virtual_time import run_virtually

INTERVAL_S = 0.02
SOON_S = 0.001
ROUNDING_S = 1e-6

Script = Sequence[tuple[float, str]]


class Source:
    """Gives each token after its pause, then ends as told, and knows whether it was closed."""

    def __init__(self, script: Script, *, failure: Exception | None = None, endless: bool = False) -> None:
        self.script, self.failure, self.endless = script, failure, endless
        self.open = False

    async def read(self, take: Callable[[str], None]) -> None:
        self.open = True
        try:
            for pause_s, token in self.script:
                await asyncio.sleep(pause_s)
                take(token)
            if self.endless:
                await asyncio.Event().wait()
            if self.failure:
                raise self.failure
        finally:
            self.open = False


def joined(source: Source) -> Coalescer:
    return Coalescer(source.read, lambda: INTERVAL_S)


async def timed(source: Source, consumer_pause_s: float = 0.0) -> list[tuple[float, str]]:
    loop = asyncio.get_running_loop()
    pieces = []
    async with joined(source) as stream:
        while piece := await stream.piece():
            pieces.append((loop.time(), piece))
            await asyncio.sleep(consumer_pause_s)
    return pieces


pauses = st.floats(0, 0.1).map(lambda seconds: round(seconds, 4))
scripts = st.lists(st.tuples(pauses, st.text(min_size=1, max_size=5)), max_size=30)


@settings(deadline=None, max_examples=50)
@given(scripts, pauses)
def test_no_character_is_lost_or_moved_at_any_speed_of_source_and_consumer(
    script: Script, consumer_pause_s: float
) -> None:
    pieces = run_virtually(timed(Source(script), consumer_pause_s))
    assert "".join(piece for _, piece in pieces) == "".join(token for _, token in script)
    assert all(piece for _, piece in pieces)


@settings(deadline=None, max_examples=50)
@given(scripts)
def test_pieces_but_the_last_are_an_interval_apart_and_no_token_waits_longer(script: Script) -> None:
    pieces = run_virtually(timed(Source(script)))
    times = [at_s for at_s, _ in pieces]
    for earlier, later in pairwise(times[:-1]):
        assert later - earlier >= INTERVAL_S - ROUNDING_S
    passed_at = [at_s for at_s, piece in pieces for _ in piece]
    given_at, now_s = [], 0.0
    for pause_s, token in script:
        now_s += pause_s
        given_at += [now_s] * len(token)
    assert all(
        -ROUNDING_S <= passed - given <= INTERVAL_S + ROUNDING_S
        for passed, given in zip(passed_at, given_at, strict=True)
    )


def test_first_token_passes_at_once_and_a_burst_as_one_piece() -> None:
    burst = [(1.0, "A"), (SOON_S, " red"), (SOON_S, " fox"), (SOON_S, " runs")]
    pieces = run_virtually(timed(Source([*burst, (1.0, ".")])))
    assert pieces == [
        (1.0, "A"),
        (pytest.approx(1.0 + INTERVAL_S), " red fox runs"),
        (pytest.approx(2.003), "."),
    ]


def test_what_was_gathered_is_passed_on_when_the_source_stalls() -> None:
    async def scenario() -> None:
        source = Source([(0, "A"), (SOON_S, " red"), (SOON_S, " fox")], endless=True)
        async with joined(source) as stream:
            assert await stream.piece() == "A"
            async with asyncio.timeout(INTERVAL_S + SOON_S):
                assert await stream.piece() == " red fox"

    run_virtually(scenario())


def test_an_error_comes_after_everything_given_before_it() -> None:
    async def scenario() -> None:
        source = Source([(0, "A"), (SOON_S, " red"), (SOON_S, " fox")], failure=LookupError("lost"))
        async with joined(source) as stream:
            assert [await stream.piece(), await stream.piece()] == ["A", " red fox"]
            with pytest.raises(LookupError, match="lost"):
                await stream.piece()

    run_virtually(scenario())


def test_a_slow_consumer_gets_longer_pieces() -> None:
    script = [(0.01, "x")] * 100
    pieces = run_virtually(timed(Source(script), consumer_pause_s=0.25))
    assert len(pieces) < 10


@pytest.mark.parametrize("read_first", [0, 1])
def test_leaving_ends_the_source_and_leaves_no_task(read_first: int) -> None:
    async def scenario() -> None:
        source = Source([(0, "A")], endless=True)
        async with joined(source) as stream:
            for _ in range(read_first):
                await stream.piece()
        assert not source.open
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(scenario())


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_cancelling_the_reader_closes_the_source_and_leaves_no_task(after_s: float) -> None:
    async def scenario() -> None:
        source = Source([(0, "A")], endless=True)
        reading = asyncio.create_task(timed(source))
        await asyncio.sleep(after_s)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not source.open
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(scenario())
