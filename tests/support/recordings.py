"""What real Ollama servers answered (tests/recordings), and a server that answers it again."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recordings"
VERSIONS = ("0.33", "0.24")
OF_EYES = {"show": "show_eyes", "ps": "ps_loaded"}
"""What is asked of a model → what was recorded of the one that sees, or of another."""


@dataclass(frozen=True)
class Recording:
    """One request to one version, and its answer; `status` is None where the caller left before there was any."""

    version: str
    case: str
    method: str
    path: str
    body: Any
    status: int | None
    headers: dict[str, str]
    lines: tuple[str, ...]
    ended: str

    @property
    def name(self) -> str:
        """Tell it from all others."""
        return f"{self.version} {self.case}"

    @property
    def content(self) -> list[Any]:
        """The lines of an answer in JSON."""
        return [json.loads(line) for line in self.lines]


@cache
def recordings() -> dict[str, Recording]:
    """Read all, by name."""
    found = {}
    for version in VERSIONS:
        for line in gzip.decompress((FOLDER / f"ollama-{version}.jsonl.gz").read_bytes()).splitlines():
            told = json.loads(line)
            recording = Recording(
                version,
                told["case"],
                **told["request"],
                status=told["status"],
                headers=told["headers"],
                lines=tuple(text for _, text in told["lines"]),
                ended=told["ended"],
            )
            found[recording.name] = recording
    return found


@asynccontextmanager
async def replaying(recording: Recording, *, text: Recording | None = None) -> AsyncIterator[str]:
    """Serve a recording to whoever asks for its path, and else what its version lists and shows; gives the URL.

    With `text` that is served to chats without a picture, and what is shown is the model that sees.
    Lines come without their pauses. Where the recorded caller left, nothing comes until this one does.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            head, body = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"), b""
            asked = head.split(" ", 2)[1]
            if length := re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE):
                body = await reader.readexactly(int(length[1]))
            kind = asked.rpartition("/")[2]
            if asked == recording.path:
                told = recording if text is None or b'"images"' in body else text
            else:
                told = recordings()[f"{recording.version} {OF_EYES.get(kind, kind) if text else kind}"]
            await _send(told, writer)
            if told.ended != "complete":
                await reader.read()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _send(told: Recording, writer: asyncio.StreamWriter) -> None:
    if told.status is None:
        return
    chunked = "Transfer-Encoding" in told.headers
    # Names of machines were taken out of some texts, so that a recorded length may be another's.
    content_length = sum(len(line.encode()) for line in told.lines)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {content_length}"
    head = f"HTTP/1.1 {told.status} -\r\nContent-Type: {told.headers['Content-Type']}\r\n{length}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n")
    for line in told.lines:
        content = line.encode()
        writer.write(b"%x\r\n%b\n\r\n" % (len(content) + 1, content) if chunked else content)
        await writer.drain()
    if chunked and told.ended == "complete":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
