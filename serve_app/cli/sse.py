"""Server-Sent Events: the data of each event, from bytes that are cut anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Only these end a line; `str.splitlines` would also split at U+2028, which JSON text may hold.
_LINE_END = re.compile(rb"\r\n|\n|\r")


def event_data(chunks: Iterable[bytes]) -> Iterator[str]:
    """Give the data of each complete event, its lines joined by newlines (WHATWG HTML, section 9.2.6).

    Comments and fields other than `data` are passed over; what follows the last blank line is no event.
    """
    data: list[str] = []
    for line in _lines(chunks):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" ").decode(errors="replace"))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        # The next chunk may begin with the other half of this line end.
        held = b"\r" if rest.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(rest[: len(rest) - len(held)])
        rest += held
        yield from lines
    if rest.endswith(b"\r"):
        yield rest[:-1]
