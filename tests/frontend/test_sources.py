"""The frontend's own checks, where Node is: style, types, its unit tests, and that what is built is built from it."""

from __future__ import annotations

import filecmp
import re
from pathlib import Path

import pytest

from serve_app.pictures.refusals import ACCEPTED_FORMATS
from serve_app.web_page import FOLDER
from tests.support.browser import installed_frontend, run_npm
from tests.support.openapi_document import DOCUMENT, openapi_document


@pytest.fixture(scope="module")
def frontend() -> Path:
    return installed_frontend()


def test_the_openapi_document_is_the_service_s_own() -> None:
    assert DOCUMENT.read_text() == openapi_document(), "run: make frontend"


def test_the_types_are_made_from_the_openapi_document(frontend: Path) -> None:
    run_npm(frontend, "run", "types", "--", "--check")


@pytest.mark.parametrize("check", ["lint", "typecheck", "test"])
def test_the_frontend_s_own(check: str, frontend: Path) -> None:
    run_npm(frontend, "run", check)


def test_the_frontend_knows_by_its_bytes_what_the_service_reads(frontend: Path) -> None:
    known = (frontend / "src" / "acceptedPictures.ts").read_text()
    assert re.findall(r"^  ([A-Z]+): /", known, re.MULTILINE) == list(ACCEPTED_FORMATS)


def test_the_page_is_built_from_the_sources_beside_it(frontend: Path, tmp_path: Path) -> None:
    run_npm(frontend, "run", "build", "--", "--outDir", str(tmp_path))
    built, shipped = ({file.relative_to(root) for file in root.rglob("*.*")} for root in (tmp_path, FOLDER))
    assert shipped == built, "run: make frontend"
    _, different, unreadable = filecmp.cmpfiles(tmp_path, FOLDER, [str(file) for file in built], shallow=False)
    assert (different, unreadable) == ([], []), "run: make frontend"
