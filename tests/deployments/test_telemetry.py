"""How long a line of the log can be."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from deployments.telemetry import MAX_LINE_CHARS, OURS, SERVES, join_serve_log


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What Serve's log holds, with its one handler writing here."""
    told = io.StringIO()
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    before = (ours.level, ours.handlers, ours.propagate, serves.handlers)
    serves.handlers = [logging.StreamHandler(told)]
    join_serve_log()
    yield told
    ours.level, ours.handlers, ours.propagate, serves.handlers = before


@pytest.mark.parametrize("logger", [f"{OURS}.requests", SERVES])
def test_a_line_is_cut_where_it_would_fill_the_disk(told: io.StringIO, logger: str) -> None:
    logging.getLogger(logger).warning("so long: %s", "x" * 1_000_000)
    assert told.getvalue() == f"so long: {'x' * MAX_LINE_CHARS}"[:MAX_LINE_CHARS] + " …\n"


def test_a_short_line_is_left_as_it_is(told: io.StringIO) -> None:
    logging.getLogger(f"{OURS}.requests").warning("%d keys", 3)
    assert told.getvalue() == "3 keys\n"


def test_of_a_traceback_the_end_stays(told: io.StringIO) -> None:
    try:
        raise ValueError("y" * 100 + "the cause")
    except ValueError:
        logging.getLogger(f"{OURS}.requests").exception("failed")
    assert told.getvalue().startswith("failed\nTraceback")
    assert told.getvalue().endswith("the cause\n")
    try:
        raise ValueError("z" * 1_000_000 + "the cause")
    except ValueError:
        logging.getLogger(f"{OURS}.requests").exception("failed")
    assert told.getvalue().endswith("zthe cause\n")
    assert len(told.getvalue()) < 3 * MAX_LINE_CHARS
