"""HAProxy as Ray has to start it here, and what no setting of Ray 2.60 changes (its haproxy_templates.py).

It opens the service's own address alone, tells the service who calls, waits for no one's headers for ever, answers in
the contract's shape where nobody else can, and ends with its parent.

Run as a program, `haproxy.py TRUSTED_PROXIES BINARY ARGUMENT…`, in place of the binary; it needs the standard library
alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

SERVING = ("http_frontend", "grpc_frontend")
"""The frontends that serve requests. Ray's others show metrics and statistics on every interface, to anyone."""

LISTENING = ("frontend", "listen")
"""The sections that open a port."""

HEAD_TIMEOUT_S = 30
"""How long a connection may take to send a request's head; Serve and Ray set no limit."""

INTERRUPTED = json.dumps(
    {
        "success": False,
        "error": "The part that takes requests was interrupted: send the request again.",
        "code": "component_unavailable",
    }
)
"""What is sent for 502, 503 and 504, all of which mean here that no ingress answers."""

_PR_SET_PDEATHSIG = 1


def main(trusted_proxies: str, binary: str, *arguments: str) -> None:
    """Adapt the config that the arguments name, then become HAProxy.

    Args:
        trusted_proxies: addresses, separated by commas, whose word on who calls is believed.
        binary: HAProxy's path.
        arguments: its own.
    """
    config = Path(arguments[arguments.index("-f") + 1])
    answer = config.with_name("interrupted.http")
    answer.write_bytes(_http_message(INTERRUPTED))
    config.write_text("".join(adapted(config.read_text(), trusted_proxies, answer)))
    _end_with_parent()
    os.execv(binary, (binary, *arguments))  # noqa: S606 - the binary is chosen by `image-analyzer serve`


def adapted(config: str, trusted_proxies: str, answer: Path) -> Iterator[str]:
    """Give a config's lines without the sections that open another port than the service's, and with ours.

    Args:
        config: as Ray wrote it.
        trusted_proxies: as in `main`.
        answer: file with what is sent where no ingress answers.
    """
    kept = True
    for line in config.splitlines(keepends=True):
        words = line.split()
        if line[0].isalpha():
            kept = words[0] not in LISTENING or words[1] in SERVING
        if not kept:
            continue
        if words[:1] == ["errorfile"]:
            line = f"    errorfile {words[1]} {answer}\n"
        elif words[:1] == ["http-reuse"]:
            # When a replica is lost, HAProxy 2.8 closes those it had talked to before without an answer.
            line = "    http-reuse never\n"
        yield line
        if words == ["defaults"]:
            yield f"    timeout http-request {HEAD_TIMEOUT_S}s\n"
        elif words == ["frontend", "http_frontend"]:
            yield from _callers_address(trusted_proxies)


def _callers_address(trusted_proxies: str) -> Iterator[str]:
    unless = ""
    if sources := trusted_proxies.replace("*", "0.0.0.0/0,::/0").replace(",", " ").split():
        yield f"    acl from_trusted_proxy src {' '.join(sources)}\n"
        unless = " unless from_trusted_proxy"
    yield f"    http-request set-header X-Forwarded-For %[src]{unless}\n"
    yield f"    http-request del-header X-Forwarded-Proto{unless}\n"


def _http_message(body: str) -> bytes:
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        "Cache-Control: no-store",
        "Retry-After: 2",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", body)).encode()


def _end_with_parent() -> None:
    """Have the kernel end this process when Ray's proxy actor is gone, however that ended: it would keep the port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
