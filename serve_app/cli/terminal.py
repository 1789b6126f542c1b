"""Writing to a terminal: no control characters of others, colour only where it is wanted, a line that vanishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TextIO

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CLEAR_LINE = "\r\x1b[K"


def printable(text: str) -> str:
    """Drop control characters but newline and tab: what a model writes must not steer the terminal."""
    return _CONTROLS.sub("", text)


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to colour: a terminal, and NO_COLOR not set (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR")


def block(hex_colour: str) -> str:
    """Paint two cells in a colour given as `#rrggbb`."""
    red, green, blue = bytes.fromhex(hex_colour.removeprefix("#"))
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m"


class ProgressLine:
    """One line on a terminal that says what is being waited for; nothing where the stream is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._stream.isatty():
            self._stream.write(f"{_CLEAR_LINE}{printable(text)}")
            self._stream.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away, before something else is written."""
        if self._shown:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._shown = False
