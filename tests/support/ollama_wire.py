"""How an Ollama server words things: HTTP answers, lines of a stream, names, times."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

MODEL_BYTES = 4_113_301_824
FOREVER_S = 10 * 365 * 24 * 3600.0
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Json = dict[str, Any]


class Reply:
    """Writes one HTTP answer; streams are chunked."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._streaming = False

    async def whole(self, status: int, content: bytes, kind: str = "application/json; charset=utf-8") -> None:
        """Send everything at once."""
        await self._send(_head(status, kind, f"Content-Length: {len(content)}") + content)

    async def json(self, status: int, content: Json) -> None:
        """Send one object."""
        await self.whole(status, json.dumps(content).encode())

    async def lines(self, contents: list[Json], *, end: bool = True) -> None:
        """Send objects as lines of a stream."""
        for content in contents:
            await self.piece(json.dumps(content).encode() + b"\n")
        if end:
            await self.end()

    async def piece(self, content: bytes) -> None:
        """Send one chunk of a stream; the first goes out together with the head, as Go's server does it."""
        await self._send(self._head_once() + b"%x\r\n%b\r\n" % (len(content), content))

    async def end(self) -> None:
        """End a stream properly, an empty one too."""
        await self._send(self._head_once() + b"0\r\n\r\n")

    def _head_once(self) -> bytes:
        begun, self._streaming = self._streaming, True
        return b"" if begun else _head(200, "application/x-ndjson", "Transfer-Encoding: chunked")

    async def _send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()


def _head(status: int, kind: str, length: str) -> bytes:
    return f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n{length}\r\nConnection: close\r\n\r\n".encode()


def tagged(name: str) -> str:
    """Add `:latest` to a name without a tag."""
    return name if ":" in name else f"{name}:latest"


def timestamp(at_s: float) -> str:
    """Give Unix seconds as Ollama writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def described(name: str) -> Json:
    """Give a model's entry in `/api/tags`."""
    details = {"format": "gguf", "family": "llama", "parameter_size": "7.2B", "quantization_level": "Q4_0"}
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(0),
        "size": MODEL_BYTES,
        "digest": "f5" * 32,
        "details": details,
    }


def seconds(keep_alive: str | float) -> float:
    """Read `5m`, `30s`, seconds, or a negative number for ever."""
    if isinstance(keep_alive, str):
        unit = keep_alive.lstrip("-.0123456789")
        keep_alive = float(keep_alive.removesuffix(unit)) * UNIT_S[unit or "s"]
    return FOREVER_S if keep_alive < 0 else keep_alive


def escaped(text: str) -> bytes:
    """Give the inside of a JSON string as Go writes it: UTF-8, but U+2028 and U+2029 escaped."""
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    return inside.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029").encode()


def line(path: str, model: str, content: bytes, *, done: bool, more: Json | None = None) -> bytes:
    """Give one line of an answer; `content` is put between the quotation marks of its JSON string as it is."""
    text: Json = {"message": {"role": "assistant", "content": "@"}} if path == "/api/chat" else {"response": "@"}
    head = {"model": model, "created_at": timestamp(time.time())}
    encoded = json.dumps(head | text | {"done": done} | (more or {})).encode()
    return encoded.replace(b'"@"', b'"' + content + b'"') + b"\n"


def sentence(body: Json) -> list[str]:
    """Make an answer that reads like a prompt from the labels in the request, else from its own words."""
    messages = body.get("messages") or [{"content": body.get("prompt", "")}]
    asked = messages[-1].get("content", "")
    best = dict(re.findall(r"^([a-z ]+): (.+?) \d+%", asked, re.MULTILINE))
    wish = re.search(r"<wish>(.*)</wish>", asked)
    text = (
        f"A {best.get('style', 'detailed')} picture of {best['subjects']}, {best.get('composition', 'balanced')}, "
        f"in a {best.get('mood', 'quiet')} mood, its colors {best.get('color palette', 'natural')}"
        if "subjects" in best
        else f"A detailed picture of {asked}"
    )
    text += f"; {wish[1]}." if wish and "subjects" in best else "."
    return re.findall(r"\s*\S+", text)
