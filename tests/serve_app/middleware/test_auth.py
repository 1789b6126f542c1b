"""Who may call: keys and their file, foreign pages, callers that come too often; and what browsers are told."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from deployments.errors import SettingsError
from serve_app.middleware.auth import KEYS_VARIABLE, MAX_CALLERS, ApiKeys, RateLimit
from tests.support.in_process import ANALYZE, HEALTH, PHOTOGRAPH, STREAM, Service

KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"
ALICES, BOBS, CAROLS = "a" * 16, "b" * 32, "c" * 64


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
    happened: list[str] = []

    async def receive() -> Message:
        happened.append("read")
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Message) -> None:
        happened.append(f"sent {len(message.get('body', ''))}")

    head = {"type": "http", "method": "POST", "path": ANALYZE, "headers": [], "query_string": b""}
    await guarded.api(head, receive, send)
    start, answer, *after = happened
    assert (start, answer != "sent 0", after) == ("sent 0", True, ["read", "sent 0"])


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


async def test_who_calls_too_often_is_told_when_to_come_back() -> None:
    service = Service(access={"requests_per_minute": 6, "burst": 2})
    answers = [await post(service) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[-1].json()["code"], answers[-1].headers["retry-after"]) == ("rate_limited", "10")


async def test_each_key_has_its_own_rate_wherever_it_calls_from() -> None:
    service = Service(api_keys=f"alice {KEY}, bob {OTHER_KEY}", access={"requests_per_minute": 1, "burst": 1})
    answers = [await post(service, authorization=f"Bearer {key}") for key in (KEY, KEY, OTHER_KEY, "wrong")]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 401]


ELSEWHERE = "https://elsewhere.example"


@pytest.mark.parametrize(
    ("site", "origins", "status"),
    [
        ("cross-site", [], 403),
        *((site, [], 200) for site in ("same-site", "same-origin", "none")),
        *(("cross-site", [allowed], 200) for allowed in (ELSEWHERE, "*")),
    ],
)
async def test_pages_of_other_sites_have_no_work_done_unless_the_settings_name_them(
    site: str, origins: list[str], status: int
) -> None:
    service = Service(cors_origins=origins)
    response = await post(service, **{"sec-fetch-site": site, "origin": ELSEWHERE})
    assert response.status_code == status
    if status == 403:
        assert (response.json()["code"], service.reader.pictures) == ("origin_not_allowed", [])


REBOUND, OUR_PAGE = "evil.example:8000", "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("host", "origin", "client", "status"),
    [
        (REBOUND, f"http://{REBOUND}", "127.0.0.1", 403),
        (REBOUND.upper(), f"http://{REBOUND}", "::1", 403),
        ("127.0.0.1.evil.example:8000", "http://127.0.0.1.evil.example:8000", "127.0.0.1", 403),
        ("127.0.0.1:8000", OUR_PAGE, "127.0.0.1", 200),
        ("localhost:8000", "http://localhost:8000", "127.0.0.1", 200),
        ("[::1]:8000", "http://[::1]:8000", "::1", 200),
        ("workstation:8000", "http://workstation:8000", "127.0.0.1", 200),
        ("workstation.local:8000", "http://workstation.local:8000", "127.0.0.1", 200),
        (REBOUND, None, "127.0.0.1", 200),
        (REBOUND, f"http://{REBOUND}", "192.168.1.7", 200),
        ("pictures.example", "http://pictures.example", "127.0.0.1", 200),
        ("pictures.example:8443", "https://pictures.example:8443", "127.0.0.1", 200),
    ],
    ids=[
        *("rebound", "rebound, in capitals", "an address in a name"),
        *("an address", "localhost", "IPv6", "this network's name", "mDNS"),
        *("no browser", "another machine", "a proxy at port 80", "a proxy that speaks TLS"),
    ],
)
async def test_a_stranger_s_name_for_this_machine_is_refused_and_nothing_else_by_default(
    host: str, origin: str | None, client: str, status: int
) -> None:
    assert (await post_as(Service(), host, origin, client)).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("pictures.example", 200),
        ("PICTURES.example:8000", 200),
        ("10.0.0.7:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("image-analyzer.default.svc.cluster.local:8000", 200),
        ("evil.example", 403),
        ("pictures.example.evil.example", 403),
    ],
)
async def test_where_hosts_are_named_a_picture_must_be_sent_to_one_or_to_an_address(host: str, status: int) -> None:
    service = Service(access={"allowed_hosts": ["Pictures.example"]})
    response = await post_as(service, host, None, "192.168.1.7")
    assert response.status_code == status
    if status == 403:
        assert (response.json()["code"], "access.allowed_hosts" in response.json()["error"]) == (
            "origin_not_allowed",
            True,
        )
    assert (await post_as(Service(access={"allowed_hosts": ["*"]}), host, None, "127.0.0.1")).status_code == 200


async def test_where_hosts_are_named_the_models_are_listed_under_one_of_them_alone() -> None:
    hosts = ["pictures.example", "evil.example"]
    async with Service(access={"allowed_hosts": hosts[:1]}).client() as client:
        asked = [await client.get("/api/images/models", headers={"host": host}) for host in hosts]
    assert [answer.status_code for answer in asked] == [200, 403]


async def post_as(service: Service, host: str, origin: str | None, client: str) -> httpx.Response:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    transport = httpx.ASGITransport(service.api, client=(client, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as sender:
        return await sender.post(ANALYZE, files={"image": PHOTOGRAPH}, headers=headers)


async def test_nobody_is_told_that_another_key_s_holder_has_sent_the_same(guarded: Service) -> None:
    holders = [KEY, OTHER_KEY, KEY, OTHER_KEY]
    answers = [(await post(guarded, authorization=f"Bearer {key}")).json() for key in holders]
    assert [answer["cached"] for answer in answers] == [False, False, True, True]
    assert all(("decode" in answer["timings"]) is not answer["cached"] for answer in answers)
    assert len(guarded.reader.pictures) == 2, "nor by the time it takes"


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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.txt"
    file.write_text(f"# who may call\n\nalice {ALICES}  # until spring\n{BOBS}\n")
    return file


@pytest.fixture
def keys(file: Path, clock: Clock) -> ApiKeys:
    return ApiKeys(file, {}, clock)


def change(file: Path, text: str, clock: Clock) -> None:
    """Write the file anew and let a second pass; its time is its own even where the system's clock is coarse."""
    file.write_text(text)
    os.utime(file, ns=(0, 1 + int(clock.now_s)))
    clock.now_s += 1


def test_each_key_opens_names_its_holder_and_is_not_kept_in_the_clear(keys: ApiKeys) -> None:
    assert keys.required
    assert [keys.holder(token) for token in (ALICES, BOBS)] == ["alice", "key 4"]
    wrong = ["", "a", ALICES[:-1], ALICES + "a", "alice", "#", "clé"]
    assert {keys.holder(token) for token in wrong} == {None}
    assert ALICES not in repr(vars(keys))


def test_keys_may_come_from_the_environment_too(file: Path) -> None:
    keys = ApiKeys(file, {KEYS_VARIABLE: f"carol {CAROLS}, {'d' * 16}"})
    assert [keys.holder(token) for token in (ALICES, CAROLS, "d" * 16)] == ["alice", "carol", "key 2"]
    assert not ApiKeys(None, {}).required


@pytest.mark.parametrize(("text", "carol"), [(f"carol {CAROLS}\n", "carol"), ("", None)])
def test_within_a_second_a_changed_file_holds_and_an_empty_one_lets_nobody_in(
    text: str, carol: str | None, keys: ApiKeys, file: Path, clock: Clock
) -> None:
    change(file, text, clock)
    assert keys.required
    assert [keys.holder(token) for token in (ALICES, CAROLS)] == [None, carol]


@pytest.mark.parametrize(
    "text", ["bob short\n", f"bob {'é' * 16}\n", f"two words {BOBS}\n", f"bob {BOBS}\nbob {CAROLS}\n"]
)
def test_a_file_that_becomes_wrong_leaves_the_keys_as_they_were_and_the_log_says_so_once(
    text: str, file: Path, keys: ApiKeys, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    change(file, text, clock)
    for _ in range(5):
        assert keys.holder(ALICES) == "alice"
        clock.now_s += 1
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert str(file) in record.getMessage()
    assert not any(key in caplog.text for key in (ALICES, BOBS, CAROLS, "short"))


def test_a_file_that_is_gone_for_a_moment_locks_nobody_out(file: Path, keys: ApiKeys, clock: Clock) -> None:
    file.unlink()
    clock.now_s += 1
    assert keys.holder(ALICES) == "alice"
    change(file, f"carol {CAROLS}\n", clock)
    assert keys.holder(CAROLS) == "carol"


def test_a_file_that_is_wrong_at_the_start_stops_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"keys\.txt cannot be read \(No such file"):
        ApiKeys(tmp_path / "keys.txt", {})
    with pytest.raises(SettingsError, match="at least 16 characters"):
        ApiKeys(None, {KEYS_VARIABLE: "secret"})


def test_a_burst_passes_and_then_one_for_each_interval(clock: Clock) -> None:
    limit = RateLimit(per_minute=60, burst=3, clock=clock)
    assert [limit.wait_s("a") for _ in range(4)] == [0, 0, 0, 1]
    assert limit.wait_s("b") == 0, "callers do not wait for one another"
    clock.now_s += 0.75
    assert limit.wait_s("a") == 0.25
    clock.now_s += 0.25
    assert [limit.wait_s("a") for _ in range(2)] == [0, 1]


def test_over_time_no_more_than_the_rate_comes_through_and_who_does_not_wait_is_not_punished(clock: Clock) -> None:
    limit = RateLimit(per_minute=30, burst=5, clock=clock)
    passed = 0
    for _ in range(10 * 60 * 4):
        passed += limit.wait_s("a") == 0
        clock.now_s += 0.25
    assert passed == 10 * 30 + 5 - 1


def test_of_endlessly_many_invented_callers_the_first_are_forgotten(clock: Clock) -> None:
    limit = RateLimit(per_minute=1, burst=1, clock=clock)
    for number in range(2 * MAX_CALLERS):
        limit.wait_s(str(number))
    assert limit.wait_s(str(2 * MAX_CALLERS - 1)) > 0
    assert limit.wait_s("0") == 0
