"""One picture as a request's body, with other bytes each time: a cache or a deduplicating server must not help.

A comment segment right after the JPEG's first marker carries a number. Decoders skip it, so every system does the
same work on the same pixels, and nothing is encoded anew.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Literal

START_OF_IMAGE = b"\xff\xd8"
COMMENT = b"\xff\xfe"
COMMENT_CHARACTERS = 33
"""With both markers and the length, 39 bytes: base64 takes three at a time, so that what follows stays the same."""
BOUNDARY = b"benchmark-boundary"

BodyKind = Literal["multipart", "data-uri"]
"""How a picture is sent: as the file `image` of a form, or as a data URI in JSON as infinity wants it."""


class VariedPicture:
    """A JPEG in as many byte sequences as are asked for.

    Args:
        jpeg: the picture.
        name: at most 20 characters, part of the bytes: what two runs send is different.
    """

    def __init__(self, jpeg: bytes, name: str) -> None:
        if not jpeg.startswith(START_OF_IMAGE):
            raise ValueError("The picture is not a JPEG.")
        self.rest = jpeg[len(START_OF_IMAGE) :]
        self._name = name

    def beginning(self, number: int) -> bytes:
        """Give the bytes that come before `rest`; always 39."""
        comment = f"{self._name} {number}".ljust(COMMENT_CHARACTERS).encode("ascii")
        if len(comment) > COMMENT_CHARACTERS:
            raise ValueError(f"The comment {comment!r} is longer than {COMMENT_CHARACTERS} characters.")
        return START_OF_IMAGE + COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment

    def jpeg(self, number: int) -> bytes:
        """Give the whole file."""
        return self.beginning(number) + self.rest


def content_type(kind: BodyKind) -> str:
    """Give the header that goes with a body."""
    return f"multipart/form-data; boundary={BOUNDARY.decode()}" if kind == "multipart" else "application/json"


def body_maker(kind: BodyKind, picture: VariedPicture, form: Mapping[str, str]) -> Callable[[int], bytes]:
    """Give a function that makes the body of request `number`; a copy of the picture's bytes is all that it costs.

    Args:
        kind: the form of the body.
        picture: what is sent.
        form: further fields, of the form or of the JSON object.
    """
    before, after, encode = _multipart(form) if kind == "multipart" else _data_uri(form)
    ending = encode(picture.rest) + after
    return lambda number: b"".join((before, encode(picture.beginning(number)), ending))


Frame = tuple[bytes, bytes, Callable[[bytes], bytes]]
"""What comes before the picture and after it, and how the picture is written."""


def _multipart(form: Mapping[str, str]) -> Frame:
    fields = b"".join(_part(f'name="{name}"') + b"\r\n" + value.encode() + b"\r\n" for name, value in form.items())
    file = _part('name="image"; filename="picture.jpg"') + b"Content-Type: image/jpeg\r\n\r\n"
    return fields + file, b"\r\n--" + BOUNDARY + b"--\r\n", bytes


def _part(disposition: str) -> bytes:
    return b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n"


def _data_uri(form: Mapping[str, str]) -> Frame:
    mark = "PICTURE"
    content = json.dumps({**form, "modality": "image", "input": [f"data:image/jpeg;base64,{mark}"]}).encode()
    before, after = content.split(mark.encode())
    return before, after, base64.b64encode
