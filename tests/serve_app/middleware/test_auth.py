"""Who may call, over HTTP: keys, foreign pages, callers that come too often; and what browsers are told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.in_process import ANALYZE, HEALTH, PHOTOGRAPH, STREAM, Service

KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"


async def post(service: Service, route: str = ANALYZE, **headers: str) -> httpx.Response:
    async with service.client() as client:
        return await client.post(route, files={"image": PHOTOGRAPH}, headers=headers)


@pytest.fixture
def guarded() -> Service:
    return Service(api_keys=f"alice {KEY}, bob {OTHER_KEY}")


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
@pytest.mark.parametrize(
    "authorization", ["", KEY, "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY},"]
)
async def test_without_a_key_that_opens_nothing_is_done(guarded: Service, route: str, authorization: str) -> None:
    response = await post(guarded, route, **({"authorization": authorization} if authorization else {}))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "key_required"
    assert "Authorization: Bearer KEY" in response.json()["error"]
    assert guarded.reader.pictures == []


async def test_refused_is_before_the_body_is_read(guarded: Service) -> None:
    async def body() -> Any:
        raise AssertionError("the body was asked for")
        yield b""

    async with guarded.client() as client:
        response = await client.post(ANALYZE, content=body())
    assert response.status_code == 401


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {OTHER_KEY} "])
async def test_any_of_the_keys_opens(guarded: Service, authorization: str) -> None:
    assert (await post(guarded, authorization=authorization)).status_code == 200
    assert (await post(guarded, STREAM, authorization=authorization)).status_code == 200


async def test_health_page_and_description_stay_open_and_health_says_that_a_key_is_needed(guarded: Service) -> None:
    async with guarded.client() as client:
        for path in (HEALTH, "/", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get(HEALTH)).json()["key_required"] is True
    async with Service().client() as client:
        assert (await client.get(HEALTH)).json()["key_required"] is False


async def test_the_description_names_the_key(guarded: Service) -> None:
    document = guarded.api.openapi()
    assert document["paths"][ANALYZE]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in document["paths"][HEALTH]["get"]


async def test_who_calls_too_often_is_told_when_to_come_back() -> None:
    service = Service(access={"requests_per_minute": 6, "burst": 2})
    answers = [await post(service) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert answers[-1].headers["retry-after"] == "10"


async def test_each_key_has_its_own_rate_wherever_it_calls_from() -> None:
    service = Service(api_keys=f"alice {KEY}, bob {OTHER_KEY}", access={"requests_per_minute": 1, "burst": 1})
    assert (await post(service, authorization=f"Bearer {KEY}")).status_code == 200
    assert (await post(service, authorization=f"Bearer {KEY}")).status_code == 429
    assert (await post(service, authorization=f"Bearer {OTHER_KEY}")).status_code == 200
    assert (await post(service)).status_code == 401


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 200), ("same-origin", 200), ("none", 200)]
)
async def test_pages_of_other_sites_have_no_work_done(site: str, status: int) -> None:
    service = Service()
    headers = {"sec-fetch-site": site, "origin": "https://elsewhere.example"}
    response = await post(service, **headers)
    assert response.status_code == status
    if status != 200:
        assert response.json()["code"] == "origin_not_allowed"
        assert service.reader.pictures == []


@pytest.mark.parametrize("allowed", ["https://elsewhere.example", "*"])
async def test_unless_the_settings_name_them(allowed: str) -> None:
    service = Service(cors_origins=[allowed])
    headers = {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"}
    assert (await post(service, **headers)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", HEALTH, "/nothing", "/openapi.json"])
async def test_every_answer_tells_the_browser_to_guess_and_pass_on_nothing(path: str) -> None:
    async with Service().client() as client:
        headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("image", [PHOTOGRAPH, b"no picture"])
async def test_no_cache_keeps_what_a_picture_shows(image: bytes) -> None:
    response = await Service().post(image=image)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
