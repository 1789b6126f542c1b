from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.ollama.coalescer import Coalescer, Take
from deployments.types import PromptDelta, PromptPiece, PromptRestart, PromptThinking, PromptWaiting
from tests.deployments.ollama.virtual_time import run_virtually

INTERVAL_S = 0.02
SOON_S = 0.001
ROUNDING_S = 1e-6

RESTART = PromptRestart("again")


def timed(script: Sequence[tuple[float, str]], reader_pause_s: float = 0.0) -> list[tuple[float, str]]:
    """Give each piece with the time at which a reader has it who rests after each."""

    async def source(take: Take) -> int:
        for pause_s, text in script:
            await asyncio.sleep(pause_s)
            take(PromptDelta(text))
        return len(script)

    async def read() -> list[tuple[float, str]]:
        pieces = []
        async with Coalescer(source, lambda: INTERVAL_S) as coalescer:
            while events := await coalescer.events():
                for event in events:
                    assert isinstance(event, PromptDelta)
                    pieces.append((asyncio.get_running_loop().time(), event.text))
                    await asyncio.sleep(reader_pause_s)
            assert coalescer.result == len(script)
        return pieces

    return run_virtually(read())


pauses = st.floats(0, 0.1).map(lambda seconds: round(seconds, 4))
scripts = st.lists(st.tuples(pauses, st.text("ab狐", min_size=1, max_size=5)), min_size=1, max_size=30)


@settings(max_examples=60)
@given(scripts, st.just(0.0) | pauses)
def test_no_character_is_lost_or_late_and_pieces_keep_their_distance(
    script: Sequence[tuple[float, str]], reader_pause_s: float
) -> None:
    pieces = timed(script, reader_pause_s)
    assert "".join(piece for _, piece in pieces) == "".join(token for _, token in script)
    for (earlier_s, _), (later_s, _) in pairwise(pieces[:-1]):
        assert later_s - earlier_s >= INTERVAL_S - ROUNDING_S
    sent_at_s, now_s = [], 0.0
    for pause_s, token in script:
        now_s += pause_s
        sent_at_s += [now_s] * len(token)
    passed_at_s = [at_s for at_s, piece in pieces for _ in piece]
    for passed_s, sent_s in zip(passed_at_s, sent_at_s, strict=True):
        assert -ROUNDING_S <= passed_s - sent_s <= max(INTERVAL_S, reader_pause_s) + ROUNDING_S


def test_the_first_passes_at_once_and_a_burst_as_one_piece() -> None:
    pieces = timed([(1, "A"), (SOON_S, " red"), (SOON_S, " fox"), (SOON_S, " runs"), (1, ".")])
    assert [piece for _, piece in pieces] == ["A", " red fox runs", "."]
    assert [at_s for at_s, _ in pieces] == pytest.approx([1, 1 + INTERVAL_S, 2.003])


def test_a_restart_keeps_its_place_between_pieces() -> None:
    async def source(take: Take) -> None:
        for event in (PromptDelta("a"), PromptDelta("b"), RESTART, PromptDelta("c"), PromptDelta("d")):
            take(event)

    async def read() -> list[PromptPiece]:
        async with Coalescer(source, lambda: INTERVAL_S) as coalescer:
            return await coalescer.events()

    assert run_virtually(read()) == [PromptDelta("ab"), RESTART, PromptDelta("cd")]


def test_places_in_line_are_told_as_the_last_of_them_and_keep_no_text_waiting() -> None:
    async def source(take: Take) -> None:
        for event in (PromptWaiting(2), PromptWaiting(1), PromptThinking()):
            take(event)
        await asyncio.sleep(SOON_S)
        take(PromptDelta("a"))

    async def read() -> list[tuple[float, list[PromptPiece]]]:
        came = []
        async with Coalescer(source, lambda: INTERVAL_S) as coalescer:
            while events := await coalescer.events():
                came.append((asyncio.get_running_loop().time(), events))
        return came

    (_, told), (at_s, text) = run_virtually(read())
    assert (told, text) == ([PromptWaiting(1), PromptThinking()], [PromptDelta("a")])
    assert at_s == pytest.approx(SOON_S)
