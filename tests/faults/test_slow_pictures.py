"""Uploads that take long to decode, all at once, while others go on: on a real Ray Serve."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from tests.faults.conftest import PHOTOGRAPH
from tests.support.in_process import ANALYZE, HEALTH
from tests.support.service import Service
from tests.support.slow_pictures import REFUSED, SLOW

pytestmark = pytest.mark.serve

PATIENCE_S = 60
"""The deadline of an analysis is 30 s; that the upload arrives and the answer leaves takes some too."""

OUTCOMES = {200, 400, 413, 415, 429, 504}
"""Decoded, refused by what it is, or late; never a fault of ours."""


def analyze(service: Service, image: bytes) -> httpx.Response:
    form = {"analysis_only": "true"}
    return httpx.post(f"{service.url}{ANALYZE}", files={"image": image}, data=form, timeout=PATIENCE_S)


def another(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), (number % 256, number // 256 % 256, 7)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_slow_pictures_end_by_the_deadline_and_hold_up_nobody(service: Service) -> None:
    assert analyze(service, PHOTOGRAPH).status_code == 200
    with ThreadPoolExecutor(len(SLOW)) as senders:
        sent = {name: senders.submit(lambda make: analyze(service, make()), make) for name, make in SLOW.items()}
        for number in itertools.count():
            assert analyze(service, another(number)).status_code == 200
            assert analyze(service, PHOTOGRAPH).json()["cached"]
            assert httpx.get(f"{service.url}{HEALTH}", timeout=PATIENCE_S).status_code == 200
            if all(answer.done() for answer in sent.values()):
                break
    answers = {name: answer.result() for name, answer in sent.items()}
    assert {name for name, answer in answers.items() if answer.status_code not in OUTCOMES} == set()
    for name in REFUSED:
        assert (answers[name].status_code, answers[name].json()["code"]) == (400, "unreadable_image")
        assert "scans" in answers[name].json()["error"]
    assert number > 0, "others were answered while these were decoded"
