"""How an Ollama server words things: HTTP answers, lines of a stream, names."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

LONG_AGO = "1970-01-01T00:00:00Z"

Json = dict[str, Any]


class Reply:
    """Writes one HTTP answer; streams are chunked."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.streaming = False
        """Whether a stream has begun."""

    async def whole(self, status: int, content: bytes, kind: str = "application/json; charset=utf-8") -> None:
        """Send everything at once."""
        await self._send(_head(status, kind, f"Content-Length: {len(content)}") + content)

    async def json(self, status: int, content: Json) -> None:
        """Send one object."""
        await self.whole(status, json.dumps(content).encode())

    async def lines(self, *contents: Json) -> None:
        """Send objects as lines of a stream."""
        for content in contents:
            await self.piece(json.dumps(content).encode() + b"\n")

    async def piece(self, content: bytes) -> None:
        """Send one chunk of a stream; the first goes out together with the head, as Go's server does it."""
        await self._send(self._head_once() + b"%x\r\n%b\r\n" % (len(content), content))

    async def end(self) -> None:
        """End a stream properly, an empty one too."""
        await self._send(self._head_once() + b"0\r\n\r\n")

    def _head_once(self) -> bytes:
        begun, self.streaming = self.streaming, True
        return b"" if begun else _head(200, "application/x-ndjson", "Transfer-Encoding: chunked")

    async def _send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()


def _head(status: int, kind: str, length: str) -> bytes:
    return f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n{length}\r\nConnection: close\r\n\r\n".encode()


def listed_name(name: str) -> str:
    """Give a name as Ollama lists it: without its own registry and library, with a tag, and compared in lower case."""
    name = re.sub(r"^(registry\.\w+\.ai/)?library/", "", name.lower())
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def escaped(text: str) -> bytes:
    """Give the inside of a JSON string as Go writes it: UTF-8, but U+2028 and U+2029 escaped."""
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    return inside.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029").encode()


def line(model: str, content: bytes, *, field: str = "content", **more: Any) -> bytes:
    """Give one line of a chat; `content` is put between the quotation marks of its JSON string as it is."""
    message = {"role": "assistant", "content": ""} | {field: "@"}
    head = {"model": model, "created_at": LONG_AGO, "message": message, "done": False}
    return json.dumps(head | more).encode().replace(b'"@"', b'"' + content + b'"') + b"\n"
