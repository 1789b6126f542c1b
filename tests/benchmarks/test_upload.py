"""The bytes that callers send: different every time, the same picture always."""

from __future__ import annotations

import base64
import io
import json
from email import message_from_bytes
from email.message import Message

import numpy as np
import pytest
from PIL import Image

from benchmarks.upload import VariedPicture, body_maker, content_type
from tests.support.pictures import photograph

LARGE_NUMBER = 10**9


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    buffer = io.BytesIO()
    photograph("coffee").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("number", [0, 1, LARGE_NUMBER])
def test_the_pixels_stay_and_the_bytes_do_not(jpeg: bytes, number: int) -> None:
    varied = VariedPicture(jpeg, "a").jpeg(number)

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(varied))), np.asarray(Image.open(io.BytesIO(jpeg))))
    assert varied not in (jpeg, VariedPicture(jpeg, "a").jpeg(number + 1), VariedPicture(jpeg, "b").jpeg(number))


def test_a_form_carries_picture_and_fields(jpeg: bytes) -> None:
    picture = VariedPicture(jpeg, "a")
    body = body_maker("multipart", picture, {"analysis_only": "true"})(5)

    parts = message_from_bytes(f"Content-Type: {content_type('multipart')}\r\n\r\n".encode() + body).get_payload()
    sent = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in parts
        if isinstance(part, Message)
    }
    assert sent == {"analysis_only": b"true", "image": picture.jpeg(5)}


def test_a_data_uri_carries_the_same_picture(jpeg: bytes) -> None:
    picture = VariedPicture(jpeg, "a")
    content = json.loads(body_maker("data-uri", picture, {"model": "clip"})(LARGE_NUMBER))

    (uri,) = content["input"]
    assert base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")) == picture.jpeg(LARGE_NUMBER)
    assert (content["model"], content["modality"]) == ("clip", "image")


def test_only_a_jpeg_can_be_varied() -> None:
    with pytest.raises(ValueError, match="not a JPEG"):
        VariedPicture(b"\x89PNG\r\n", "a")
