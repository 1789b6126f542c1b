"""Event streams, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.cli.sse import event_data


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
        (b"data: one\r\rdata: two\r\r", ["one", "two"]),
        (b"data:one\ndata: two\n\n", ["one\ntwo"]),
        (b"data:  kept\n\n", [" kept"]),
        (b": a comment\n\nid: 7\nevent: x\ndata: one\nretry: 5\n\n", ["one"]),
        (b"data: whole\n\ndata: cut off", ["whole"]),
        (b"data: whole\n\ndata: cut off\n", ["whole"]),
        ("data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c"]),
        (b"", []),
    ],
)
def test_gives_the_data_of_each_complete_event(stream: bytes, expected: list[str]) -> None:
    assert list(event_data([stream])) == expected


STREAM = "data: härbour\r\n\r\n: ping\r\rdata: 1\r\ndata: 2\n\ndata:\u2028\r\n\r\n".encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_does_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:stop] for start, stop in pairwise(edges)]

    assert list(event_data(chunks)) == ["härbour", "1\n2", "\u2028"]
