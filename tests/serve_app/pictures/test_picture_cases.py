"""Pictures of public bug reports, as strangers send them: each gives over HTTP what a person would see.

`tests/cases/pictures/expected.json` says what: of the measured palette, colours that each cover over a fifth; red above
and blue below; a status; or a word of the sentence that refuses it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.in_process import Service
from tests.support.pictures import CASES

EXPECTED: dict[str, dict[str, Any]] = json.loads((CASES / "expected.json").read_text())

LEAST_SHARE = 0.2


def levels(colour: str) -> NDArray[np.int16]:
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(np.int16)


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_picture_of_a_bug_report_gives_what_a_person_sees(name: str) -> None:
    expected = EXPECTED[name]
    service = Service()
    response = await service.post(image=(CASES / name).read_bytes(), analysis_only="true")
    body = response.json()
    match expected["want"]:
        case "status":
            assert response.status_code in expected["of"], body
        case "sentence":
            assert response.status_code in (400, 415), body
            assert any(word in body["error"] for word in expected["of"]), body
        case "orient":
            assert response.status_code == 200, body
            (pixels,) = service.reader.pictures
            above, below = pixels[:70].mean((0, 1)), pixels[-70:].mean((0, 1))
            assert above[0] > above[2] + 100
            assert below[2] > below[0] + 100
        case "palette":
            assert response.status_code == 200, body
            main = [levels(colour["hex"]) for colour in body["palette"] if colour["share"] > LEAST_SHARE]
            for colour in expected["of"]:
                apart = [np.abs(found - levels(colour)).max() for found in main]
                assert min(apart, default=255) <= expected["tolerance_levels"], body["palette"]
        case other:
            pytest.fail(f"{other} is not a kind of expectation")
