"""What reaches the terminal."""

from __future__ import annotations

import io

import pytest

from serve_app.cli.terminal import ProgressLine, block, printable, wants_colour
from tests.serve_app.cli.conftest import Terminal


def test_control_characters_are_dropped() -> None:
    assert printable("a\x1b[31mred\x07\x9b2J\r\u2028ä\tb\n") == "a[31mred2J\u2028ä\tb\n"


@pytest.mark.parametrize(
    ("stream", "environment", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(stream: io.StringIO, environment: dict[str, str], colour: bool) -> None:
    assert wants_colour(stream, environment) is colour


def test_a_block_has_the_colour_asked_for() -> None:
    assert block("#0aff10") == "\x1b[48;2;10;255;16m  \x1b[0m"


def test_progress_replaces_itself_vanishes_and_is_not_written_to_a_file() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = ProgressLine(stream)
        progress.show("one")
        progress.show("two")
        progress.clear()
        progress.clear()
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"
    assert file.getvalue() == ""
