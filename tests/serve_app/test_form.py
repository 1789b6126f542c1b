"""Forms as people send them: what is passed over is warned of, what is refused is named (reports.md, 13 to 15)."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from deployments.types import PromptOptions
from serve_app.form import OTHER_NAMES
from tests.support.in_process import ANALYZE, PHOTOGRAPH, Service

BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture
def service() -> Service:
    return Service()


async def posted(service: Service, data: Any = None, path: str = ANALYZE, **sent: Any) -> httpx.Response:
    async with service.client() as client:
        return await client.post(path, **({"files": {"image": PHOTOGRAPH}, "data": data} | sent))


def part(disposition: bytes, body: bytes) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + body + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("user-prompt", "user_prompt"),
        ("deep-thinking", "deep_thinking"),
        ("lang", "language"),
        ("AnalysisOnly", "analysis_only"),
        ("zzz", "user_prompt, deep_thinking, language, analysis_only"),
    ],
)
async def test_what_nobody_reads_is_warned_of_with_the_name_that_was_meant(
    service: Service, sent: str, meant: str
) -> None:
    for answer in (await posted(service, {sent: "x"}), await posted(service, path=f"{ANALYZE}?{sent}=x")):
        (warning,) = answer.json()["warnings"]
        assert f"'{sent}'" in warning
        assert meant in warning
    assert answer.json()["userInput"] == ""


@pytest.mark.parametrize(("other", "name"), OTHER_NAMES.items())
async def test_the_names_of_command_hook_and_answers_do_in_the_form_alone(other: str, name: str) -> None:
    value = "at dusk" if name in ("user_prompt", "tag_groups") else "true"
    told = []
    for sent in (other, name):
        service = Service()
        answer = (await posted(service, {sent: value})).json()
        told.append((answer["warnings"], answer["promptSource"], [asked.options for asked in service.writer.requests]))
    assert told[0] == told[1]
    assert told[0] != ([], "ollama", [PromptOptions()])
    (warning,) = (await posted(service, path=f"{ANALYZE}?{other}={value}")).json()["warnings"]
    assert f"'{other}'" in warning


async def test_two_names_of_one_field_count_as_the_field_sent_twice(service: Service) -> None:
    answer = (await posted(service, {"prompt": "at dawn", "user_prompt": "at dusk"})).json()
    assert answer["userInput"] == "at dusk"
    assert "'user_prompt' was sent 2 times" in answer["warnings"][0]


async def test_a_field_sent_twice_counts_as_sent_last_and_both_routes_say_so(service: Service) -> None:
    twice = {"user_prompt": ["at dawn", "at dusk"]}
    answer = (await posted(service, twice)).json()
    assert answer["userInput"] == "at dusk"
    assert "'user_prompt' was sent 2 times" in answer["warnings"][0]
    _, analyzed, *_, complete = await service.events(**twice)
    assert analyzed["warnings"] == complete["warnings"] == answer["warnings"]


async def test_forms_of_other_services_pass_and_one_beyond_the_bound_is_told_of_it(service: Service) -> None:
    answer = await posted(service, {f"unknown_{number}": "x" for number in range(40)})
    assert answer.status_code == 200
    assert 1 <= len(answer.json()["warnings"]) <= 8
    answer = await posted(service, {f"unknown_{number}": "x" for number in range(100)})
    assert (answer.status_code, "limits.max_form_fields" in answer.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en-US", "en"),
        ("zh-CN", "zh"),
        ("zh-Hant-TW", "zh"),
        ("EN", "en"),
        (" fr", "fr"),
        ("pt_BR", "pt"),
        ("de-CH-1996", "de"),
    ],
)
async def test_any_tag_of_a_language_is_that_language(service: Service, tag: str, language: str) -> None:
    assert (await posted(service, {"language": tag})).json()["warnings"] == []
    assert service.writer.requests[0].options.language == language


@pytest.mark.parametrize("value", ["TRUE", " true ", "1", "yes", "on"])
async def test_a_boolean_may_be_said_in_many_ways(service: Service, value: str) -> None:
    assert (await posted(service, {"deep_thinking": value})).status_code == 200
    assert service.writer.requests[0].options.deep_thinking is True


BASE64 = base64.b64encode(PHOTOGRAPH).decode()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"data": {"language": "tlh"}}, ["'language'", "'en'", "'ar'"]),
        ({"data": {"language": "english"}}, ["'language'", "'en'"]),
        ({"data": {"deep_thinking": "perhaps"}}, ["'deep_thinking'", "true or false", "yes"]),
        ({"data": {"seed": "-1"}}, ["'seed'", "0"]),
        ({"data": {"seed": "luck"}}, ["'seed'"]),
        ({"data": {"seed": "2147483648"}}, ["'seed'", "2147483647"]),
        ({"data": {"user_prompt": "x" * 100_000}}, ["'user_prompt'", "limits.max_form_field_kib"]),
        ({"files": {"file": PHOTOGRAPH}}, ["'image' is missing", "came as 'file'"]),
        ({"files": [("image", PHOTOGRAPH), ("image", PHOTOGRAPH)]}, ["more than one file"]),
        *(
            ({"files": {"image": (None, text)}}, ["'image' is base64", "image=@FILE"])
            for text in (
                BASE64,
                BASE64[:200],
                f"data:image/jpeg;base64,{BASE64}",
                f"data:image/jpeg;base64,{BASE64[:9]}",
            )
        ),
        ({"files": {"image": (None, "picture.jpg")}}, ["'image' is not a file", "image=@FILE"]),
        ({"files": None, "json": {"image": BASE64}}, ["JSON", "base64", "multipart/form-data"]),
        ({"files": None, "data": {"image": BASE64}}, ["'image' is missing", "multipart/form-data"]),
        ({"files": None, "content": PHOTOGRAPH, "headers": {"content-type": "image/jpeg"}}, ["multipart/form-data"]),
    ],
)
async def test_what_is_refused_is_named_with_what_to_send(
    service: Service, sent: dict[str, Any], words: list[str]
) -> None:
    answer = await posted(service, **sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_form")
    for word in words:
        assert word in answer.json()["error"]
    assert len(answer.json()["error"]) < 300


@pytest.mark.parametrize(
    "name",
    [
        b"filename*=UTF-8''caf%C3%A9.jpg",
        b"Filename*=\"UTF-8''a.jpg\"",
        b'filename*0="a"; filename*1="b.jpg"',
        b"filename=\"a.jpg\"; filename*=UTF-8''caf%C3%A9.jpg",
        b'filename="\xff\xfe\x80.jpg"',
        b'filename="caf\xe9.jpg"',
        b'filename="../../etc/passwd"',
        b'filename=""',
        b'filename="a\\"b;c.jpg"',
    ],
)
async def test_a_file_may_have_any_name(service: Service, name: bytes) -> None:
    body = part(b'name="image"; ' + name, PHOTOGRAPH) + b"--x--\r\n"
    answer = await posted(service, files=None, content=body, headers=BOUNDARY)
    assert (answer.status_code, answer.json().get("warnings")) == (200, [])
