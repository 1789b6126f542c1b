"""HAProxy as Ray has to start it here: it opens the service's own address alone, and ends with its parent.

Run as a program, `haproxy.py BINARY ARGUMENT…`, in place of the binary; it needs the standard library alone. What it
changes no setting of Ray 2.60 changes (ray/serve/_private/haproxy_templates.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

SERVING = ("http_frontend", "grpc_frontend")
"""The frontends that serve requests. Ray's others show metrics and statistics on every interface, to anyone."""

LISTENING = ("frontend", "listen")
"""The sections that open a port."""

_PR_SET_PDEATHSIG = 1


def main(binary: str, *arguments: str) -> None:
    """Narrow the config that the arguments name, then become HAProxy."""
    config = Path(arguments[arguments.index("-f") + 1])
    config.write_text("".join(only_serving(config.read_text())))
    _end_with_parent()
    os.execv(binary, (binary, *arguments))  # noqa: S606 - the binary is chosen by `image-analyzer serve`


def only_serving(config: str) -> Iterator[str]:
    """Give the lines of a config without the sections that open any other port than the service's."""
    kept = True
    for line in config.splitlines(keepends=True):
        if line[0].isalpha():
            section, *name = line.split()
            kept = section not in LISTENING or name[0] in SERVING
        if kept:
            yield line


def _end_with_parent() -> None:
    """Have the kernel end this process when Ray's proxy actor is gone, however that ended: it would keep the port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
