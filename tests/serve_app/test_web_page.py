"""The page at `/` as it is served; tests/frontend looks at it in a browser."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.in_process import Service

ADDRESS = re.compile(r"https?://([\w.-]+)")


async def get(path: str) -> httpx.Response:
    async with Service().client() as client:
        return await client.get(path)


async def test_the_page_is_there_and_is_asked_for_anew_each_time() -> None:
    response = await get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert "<title>Image Analyzer</title>" in response.text
    async with Service().client() as client:
        assert (await client.head("/")).status_code == 200


async def test_the_page_may_load_and_ask_nothing_but_this_service() -> None:
    policy = (await get("/")).headers["content-security-policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["frame-ancestors"] == "'none'"
    sources = {source for sources in directives.values() for source in sources.split()}
    assert sources <= {"'none'", "'self'", "blob:", "data:"}


async def test_its_files_are_kept_for_good_compressed_and_name_no_address_that_is_asked() -> None:
    page = (await get("/")).text
    assert not re.findall(r"https?://", page)
    paths: list[str] = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)
    assert {path.rsplit(".")[-1] for path in paths} == {"js", "css", "svg"}
    for path in paths:
        response = await get(f"/{path}")
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
        assert response.headers["x-content-type-options"] == "nosniff"
        if not path.endswith("svg"):  # of 200 bytes
            assert response.headers["content-encoding"] == "gzip"
        # React's messages and XML's namespaces name addresses that nobody asks.
        assert set(ADDRESS.findall(response.text)) <= {"react.dev", "www.w3.org", "svelte.dev"}, path


@pytest.mark.parametrize("path", ["/assets/none.js", "/assets/..%2f..%2fapp.py", "/page", "/index.html"])
async def test_what_is_not_there_is_refused_as_everywhere(path: str) -> None:
    response = await get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
