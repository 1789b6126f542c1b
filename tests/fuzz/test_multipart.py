"""Forms made to hurt: none is a fault of the service, all are answered in the contract's shape, and soon."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.in_process import ANALYZE, PHOTOGRAPH, Service

MULTIPART = b"multipart/form-data; boundary=x"
CHUNK_BYTES = 1 << 16
LIMIT_BYTES = 20 * 1024 * 1024
LONGEST_S = 5.0
"""For 20 MB of nonsense; a machine may be busy."""


def part(head: bytes, body: bytes = b"x") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + body + b"\r\n"


def field(name: bytes, body: bytes, more: bytes = b"") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"' + more, body)


IMAGE = field(b"image", PHOTOGRAPH, b'; filename="a.jpg"')
END = b"--x--\r\n"
GOOD = IMAGE + field(b"user_prompt", b"at dusk") + field(b"deep_thinking", b"true") + END

BAD_FORMS = {
    "no body": (b"", 422),
    "a form without end": (GOOD[: -len(END)], None),
    "half of a picture": (IMAGE[: len(IMAGE) // 2], None),
    "an endless header": (b"--x\r\nContent-Disposition: " + b"a" * (LIMIT_BYTES - 100), 422),
    "an endless header name": (b"--x\r\n" + b"a" * (LIMIT_BYTES - 100), 422),
    "endless headers": (b"--x\r\n" + b"A: b\r\n" * 3_000_000, 422),
    "endless preamble": (b"\r\n" * (LIMIT_BYTES // 2 - 100), 422),
    "many small parts": (field(b"a", b"b") * 100_000 + END, 422),
    "many pictures": (IMAGE * 3 + END, 422),
    "a field of 10 MB": (IMAGE + field(b"user_prompt", b"x" * 10_000_000) + END, 422),
    "a file name of 1 MB": (field(b"image", b"x", b'; filename="' + b"n" * 1_000_000 + b'"') + END, 422),
    "a form in a form": (part(b"Content-Type: multipart/mixed; boundary=x", GOOD) + END, 422),
    "parts without names": (part(b"Content-Disposition: form-data") + END, 422),
    "a wish that is no UTF-8": (IMAGE + field(b"user_prompt", b"\xff\xfe\xfd") + END, None),
    "a wish with nulls": (IMAGE + field(b"user_prompt", b"a\0b") + END, 200),
    "a picture as text": (field(b"image", b"hello") + END, 422),
    "a wish as a file": (field(b"user_prompt", b"hello", b'; filename="a"') + END, 422),
    "base64": (field(b"image", b"x", b'; filename="a"\r\nContent-Transfer-Encoding: base64') + END, 400),
    "over the limit": (field(b"image", bytes(LIMIT_BYTES), b'; filename="a"') + END, 413),
}
"""Name → body, and the status; None where a picture or a refusal are both right."""

BAD_TYPES = {
    "no boundary in the type": (b"multipart/form-data", GOOD, 422),
    "another boundary": (b"multipart/form-data; boundary=y", GOOD, 422),
    "a boundary of 10 KB": (b"multipart/form-data; boundary=" + b"y" * 10_000, GOOD, 422),
    "an empty boundary": (b"multipart/form-data; boundary=", GOOD, 422),
    "a type that is no text": (b"multipart/form-data; boundary=\xff\xfe", GOOD, 422),
    "a strange charset": (b"multipart/form-data; charset=utf-7; boundary=x", IMAGE + END, None),
    "JSON": (b"application/json", b'{"image": "x"}', 422),
    "a plain form": (b"application/x-www-form-urlencoded", b"image=x&user_prompt=" + b"%ff" * 10_000, 422),
    "text": (b"text/plain", b"hello", 422),
    "no type": (b"", GOOD, 422),
}
"""Name → content type, body, and the status."""

BAD = BAD_TYPES | {name: (MULTIPART, *form) for name, form in BAD_FORMS.items()}


async def sent(content_type: bytes, body: bytes) -> httpx.Response:
    """Send a body in pieces, as a network does, and without telling its length."""

    async def pieces() -> AsyncIterator[bytes]:
        for first in range(0, len(body), CHUNK_BYTES):
            yield body[first : first + CHUNK_BYTES]

    async with Service().client() as client:
        headers = [(b"content-type", content_type)] if content_type else []
        return await client.post(ANALYZE, content=pieces(), headers=headers)


def assert_answered(response: httpx.Response) -> None:
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    if response.status_code != 200:
        body = response.json()
        assert body.keys() == {"success", "error", "code"}
        assert len(body["error"]) < 500


# Starlette leaves the file of a part without end to the garbage collector, which closes it at once.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", BAD)
async def test_a_form_made_to_hurt_is_refused_and_soon(name: str) -> None:
    content_type, body, status = BAD[name]
    began_s = time.perf_counter()
    response = await sent(content_type, body)
    spent_s = time.perf_counter() - began_s
    assert_answered(response)
    assert status in (None, response.status_code), response.text
    assert spent_s < LONGEST_S


async def test_the_good_form_is_good() -> None:
    assert (await sent(MULTIPART, GOOD)).status_code == 200


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 40), st.binary(max_size=12)), min_size=1, max_size=4))
async def test_any_edit_of_a_good_form_is_answered_by_name(edits: list[tuple[int, int, bytes]]) -> None:
    form = field(b"image", b"GIF89a", b'; filename="a.gif"') + GOOD[len(IMAGE) :]
    for at, length, instead in edits:
        form = form[:at] + instead + form[at + length :]
    assert_answered(await sent(MULTIPART, form))
