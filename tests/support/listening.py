"""The ports on which processes listen for other machines; Linux alone tells so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as the kernel's tables write them."""

_LISTENING = "0A"


def ports_open_to_others(processes: Iterable[int]) -> set[int]:
    """Give the TCP ports of these processes that are reached over more than the loopback address."""
    sockets = {number for process in processes for number in _sockets(process)}
    return {port for address, port, number in _listeners() if number in sockets and address not in LOOPBACK}


def _sockets(process: int) -> Iterator[str]:
    # A process may end while it is looked at.
    with suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
                    yield match.group(1)


def _listeners() -> Iterator[tuple[str, int, str]]:
    """Give address, port and socket number of everything that listens on this machine."""
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = fields = row.split()
            if state == _LISTENING:
                address, port = local.split(":")
                yield address, int(port, 16), fields[9]
