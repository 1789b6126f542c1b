"""The contract, over ASGI, with stand-ins for the two deployments."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from deployments.errors import ClipUnavailable, DeadlinePassed, OllamaUnavailable, QueueFull
from deployments.telemetry import REQUESTS, Metric
from deployments.types import (
    ComponentStatus,
    LabelScore,
    PromptComplete,
    PromptDelta,
    PromptLooking,
    PromptOptions,
    PromptRestart,
    PromptThinking,
    PromptWaiting,
    SpentBudget,
    Tag,
    Vision,
    Wanted,
)
from serve_app.pictures.images import Picture, read_picture
from serve_app.pipeline import Pipeline
from serve_app.settings import ImageSettings, Settings
from tests.support.in_process import ANALYZE, HEALTH, LIVE, PHOTOGRAPH, READY, STREAM, TARGETS, Service
from tests.support.parts import ANALYSIS, TOKENS, FakeReader, FakeWriter


@pytest.fixture
def service() -> Service:
    return Service()


def assert_error(response: httpx.Response, status: int, code: str, sentence: str) -> None:
    assert response.status_code == status
    body = response.json()
    assert body.keys() == {"success", "error", "code"}
    assert (body["success"], body["code"]) == (False, code)
    assert sentence in body["error"]


async def test_analyze_answers_the_contract_s_fields_and_ours(service: Service) -> None:
    response = await service.post(user_prompt="A beautiful landscape")
    assert response.status_code == 200
    body = response.json()
    labels = [{"value": f"style {i}", "score": score} for i, score in enumerate((0.5, 0.4, 0.3))]
    assert list(body["analysis"]) == ["style", "mood", "composition", "color_palette", "subjects"]
    assert body.pop("analysis")["style"] == labels
    assert all(colour["hex"].startswith("#") and 0 < colour["share"] <= 1 for colour in body.pop("palette"))
    timings = body.pop("timings")
    assert timings.keys() == {"decode", "analysis", "prompt", "total"}
    assert timings["total"] >= timings["decode"] > 0
    assert body == {
        "success": True,
        "generatedPrompt": "".join(TOKENS),
        "userInput": "A beautiful landscape",
        "promptSource": "ollama",
        "vision": False,
        "target": "prose",
        "aspectRatio": "3:2",
        "truncated": False,
        "analyzer": "clip",
        "cached": False,
        "tags": [],
        "warnings": [],
    }


async def test_a_target_reaches_the_writer_and_what_it_brings_the_caller(service: Service) -> None:
    asked: dict[str, Any] = {"target": " SDXL ", "length": "short", "weights": "yes"}
    service.writer.events = [
        PromptDelta("a fox"),
        PromptComplete(
            "a fox", "template", target="sdxl", negative="blurry", size="1x1", budget=SpentBudget(2, 40, "clip_tokens")
        ),
    ]
    answer, complete = (await service.post(**asked)).json(), (await service.events(**asked))[-1]
    assert [request.options for request in service.writer.requests] == [
        PromptOptions(target="sdxl", length="short", weights=True)
    ] * 2
    assert {request.aspect_ratio for request in service.writer.requests} == {"3:2"}
    brought = {
        "target": "sdxl",
        "negativePrompt": "blurry",
        "aspectRatio": "3:2",
        "size": "1x1",
        "promptTokens": 2,
        "tokenLimit": 40,
        "tokenUnit": "clip_tokens",
    }
    assert answer | brought == answer
    assert complete | brought == complete


async def test_a_target_that_there_is_not_is_refused_and_those_that_there_are_listed(service: Service) -> None:
    for _ in range(2):
        assert_error(
            await service.post(target="dalle"), 422, "invalid_form", "'target' is wrong: send one of prose, sdxl"
        )
    assert_error(await service.post(length="huge"), 422, "invalid_form", "'short', 'medium' or 'long'")
    assert service.writer.requests == []
    told = (await service.get(TARGETS)).json()
    assert (told["default"], [target["name"] for target in told["targets"]]) == ("prose", ["prose", "sdxl"])


async def test_who_asks_for_prose_does_not_wait_for_the_list_of_targets(service: Service) -> None:
    await service.post()
    await service.post(target="prose")
    assert service.writer.targets_asked == 0
    now = itertools.count(step=0.2)
    service = Service(clock=lambda: next(now))
    for _ in range(4):
        await service.get(TARGETS)
    assert service.writer.targets_asked == 1


async def test_what_the_caller_wishes_reaches_the_writer_and_only_the_picture_is_required(service: Service) -> None:
    await service.post(user_prompt="at dusk", deep_thinking="true", language="ja", seed=" 7 ")
    await service.post()
    wished, plain = service.writer.requests
    assert wished.options == PromptOptions("at dusk", deep_thinking=True, language="ja", seed=7)
    assert wished.scores["mood"][0].value == "mood 0"
    assert wished.palette
    assert plain.options == PromptOptions()


async def test_tags_and_own_labels_reach_the_model_and_what_it_sees_the_caller_and_the_writer(service: Service) -> None:
    service.reader.tags = (Tag("espresso", "food", 0.91239), Tag("saucer", "objects", 0.4))
    service.reader.scores = {**ANALYSIS, "vehicle": (LabelScore("car", 0.7), LabelScore("bus", 0.3))}
    told = {"tags": "2", "tag_groups": "food, objects", "labels": '{"vehicle": ["car", "bus"]}'}
    body = (await service.post(ANALYZE, PHOTOGRAPH, **told)).json()
    assert body["tags"] == [
        {"value": "espresso", "group": "food", "score": 0.9124},
        {"value": "saucer", "group": "objects", "score": 0.4},
    ]
    assert list(body["analysis"])[5:] == ["vehicle"]
    assert body["analysis"]["vehicle"][0] == {"value": "car", "score": 0.7}
    _, analyzed, *_ = await service.events(**told)
    assert (analyzed["tags"], analyzed["analysis"]) == (body["tags"], body["analysis"])
    assert service.reader.wanted == [Wanted(2, ("food", "objects"), (("vehicle", ("car", "bus")),))]
    assert service.writer.requests[0].tags == service.reader.tags


async def test_the_same_picture_is_read_anew_only_for_what_was_not_read_in_it(service: Service) -> None:
    for wanted in ({}, {"tags": "10"}, {"tags": "3"}, {}, {"tag_groups": "food"}, {"tags": "3"}):
        await service.post(ANALYZE, PHOTOGRAPH, **wanted)
    assert [wanted.tags for wanted in service.reader.wanted] == [10, 3, 10], "10 is the default"


async def test_a_category_that_the_label_file_leaves_out_is_an_empty_list(service: Service) -> None:
    service.reader.scores = {"style": ANALYSIS["style"]}
    analysis = (await service.post()).json()["analysis"]
    assert list(analysis) == ["style", "mood", "composition", "color_palette", "subjects"]
    assert analysis["mood"] == []


async def test_the_model_is_sent_pictures_of_the_size_it_wants() -> None:
    service = Service(cache={"max_entries": 0})
    service.reader.size_px = 336
    await service.post()
    service.reader.size_px = 224
    await service.post()
    await service.post()
    assert [picture.shape for picture in service.reader.pictures] == [(336, 336, 3), (336, 336, 3), (224, 224, 3)]


async def test_the_stream_sends_each_stage_in_order(service: Service) -> None:
    events = await service.events(user_prompt="calm")
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "generating", *["delta"] * 3, "complete"]
    analyzed, complete = events[1], events[-1]
    assert analyzed["analysis"]["subjects"][0] == {"value": "subjects 0", "score": 0.5}
    assert (analyzed["analyzer"], bool(analyzed["palette"]), "prompt" in analyzed["timings"]) == ("clip", True, False)
    assert [event["text"] for event in events[3:6]] == list(TOKENS)
    assert complete["generatedPrompt"] == "".join(TOKENS)
    assert (complete["promptSource"], complete["userInput"]) == ("ollama", "calm")
    assert complete["timings"]["total"] > 0


async def test_a_writer_that_starts_over_says_that_the_text_so_far_is_void(service: Service) -> None:
    service.writer.events = [
        PromptDelta("A qui"),
        PromptRestart("Ollama stopped midway."),
        PromptDelta("A harbour."),
        PromptComplete("A harbour.", "template", ("Start Ollama: ollama serve",)),
    ]
    events = await service.events()
    assert [event["status"] for event in events[2:]] == ["generating", "delta", "generating", "delta", "complete"]
    assert events[4]["message"] == "Ollama stopped midway."
    assert events[-1]["warnings"] == ["Start Ollama: ollama serve"]
    assert events[-1]["generatedPrompt"] == "A harbour."


async def test_the_place_in_line_and_that_the_model_thinks_are_told_in_the_stream_and_change_no_answer(
    service: Service,
) -> None:
    service.writer.events = [
        PromptWaiting(2),
        PromptWaiting(1),
        PromptWaiting(0),
        PromptThinking(),
        PromptRestart("The writer was interrupted."),
        PromptThinking(),
        PromptDelta("A harbour."),
        PromptComplete("A harbour.", "ollama", model="qwen3:4b"),
    ]
    events = await service.events()
    assert events[2:-1] == [
        {"status": "generating", "message": "Writing the prompt."},
        {"status": "generating", "message": "Waiting in line: 2 before you.", "before": 2},
        {"status": "generating", "message": "Waiting in line: 1 before you.", "before": 1},
        {"status": "generating", "message": "Writing the prompt."},
        {"status": "thinking", "message": "The model is thinking before it writes."},
        {"status": "generating", "message": "The writer was interrupted."},
        {"status": "delta", "text": "A harbour."},
    ]
    answer = (await service.post()).json()
    assert (answer["generatedPrompt"], answer["model"], events[-1]["model"]) == ("A harbour.", *["qwen3:4b"] * 2)


@pytest.mark.parametrize(
    ("form", "looks", "made"),
    [
        ({}, ("mistral:latest",), True),
        ({}, (), False),
        ({"vision": "off"}, ("mistral:latest",), False),
        ({"vision": " on "}, (), True),
        ({"vision": "on", "analysis_only": "true"}, (), None),
    ],
)
async def test_the_writer_gets_a_picture_where_a_model_may_look_at_it(
    form: dict[str, Any], looks: tuple[str, ...], made: bool | None
) -> None:
    service = Service(ollama={"vision_size_px": 300})
    service.writer.looks = looks
    await service.post(vision="auto")  # Which models look is asked by the first; nothing waits for the answer.
    for _ in range(2):
        await service.post(**form)
    jpegs = [request.jpeg for request in service.writer.requests[1:]]
    assert jpegs[:1] == jpegs[1:], "remembered or not, it is the same"
    assert [jpeg.startswith(b"\xff\xd8\xff") for jpeg in jpegs] == ([] if made is None else [made] * 2)


class TiredDecoder:
    """Decodes once, and has no place then."""

    stuck_because = ""

    def __init__(self) -> None:
        self._picture: Picture | None = read_picture(PHOTOGRAPH, ImageSettings(), 224)

    async def decode(self, upload: bytes, input_size_px: int, jpeg_px: int = 0) -> Picture:
        if self._picture is None:
            raise QueueFull("As many large pictures wait as may wait.")
        picture, self._picture = self._picture, None
        return picture


async def test_a_picture_that_cannot_be_made_again_is_not_looked_at_and_the_answer_says_so() -> None:
    writer = FakeWriter()
    pipeline = Pipeline(FakeReader(), writer, Settings(), decoder=TiredDecoder())
    told = [
        await pipeline.answer(await pipeline.accept(PHOTOGRAPH, PromptOptions(vision=vision)))
        for vision in get_args(Vision)[::-1]
    ]
    assert [answer.generatedPrompt for answer in told] == ["".join(TOKENS)] * 3
    assert [answer.warnings for answer in told] == [
        [],
        *[["No model looked at the picture: As many large pictures wait as may wait."]] * 2,
    ]
    assert [request.jpeg for request in writer.requests] == [b""] * 3


async def test_that_a_model_looks_is_told_in_the_stream_and_whether_it_saw_the_picture_in_the_answer(
    service: Service,
) -> None:
    service.writer.events = [
        PromptLooking(),
        PromptLooking(),
        PromptLooking(looks=False),
        PromptDelta("A harbour."),
        PromptComplete("A harbour.", "ollama", model="gemma3:4b", vision=True),
    ]
    events = await service.events()
    assert events[2:-1] == [
        {"status": "generating", "message": "Writing the prompt."},
        {"status": "generating", "message": "Looking at the picture and writing the prompt.", "vision": True},
        {"status": "generating", "message": "Writing the prompt."},
        {"status": "delta", "text": "A harbour."},
    ]
    assert (events[-1]["vision"], (await service.post()).json()["vision"]) == (True, True)


@pytest.mark.parametrize("vision", ["yes", "AUTO", "1"])
async def test_another_word_for_vision_is_refused_with_those_that_there_are(service: Service, vision: str) -> None:
    refused = await service.post(vision=vision)
    assert (refused.status_code, "'auto', 'on' or 'off'" in refused.json()["error"]) == (422, True)


async def test_the_writer_knows_the_same_upload_of_the_same_caller_again() -> None:
    service = Service(api_keys="alice 0123456789abcdef, bob fedcba9876543210")
    async with service.client() as client:
        for key, upload in (
            ("0123456789abcdef", PHOTOGRAPH),
            ("0123456789abcdef", PHOTOGRAPH),
            ("fedcba9876543210", PHOTOGRAPH),
            ("fedcba9876543210", PHOTOGRAPH + b"\0"),
        ):
            headers = {"authorization": f"Bearer {key}"}
            assert (await client.post(ANALYZE, files={"image": upload}, headers=headers)).status_code == 200
    known = [request.picture for request in service.writer.requests]
    assert (known[0], len({*known}), "" in known) == (known[1], 3, False)


async def test_warnings_of_both_parts_reach_the_caller(service: Service) -> None:
    service.reader.analyzer = "pixels"
    service.reader.warnings = ("CLIP is downloading.",)
    service.writer.events = [PromptComplete("x", "template", ("Ollama is down.",))]
    body = (await service.post()).json()
    assert body["warnings"] == ["CLIP is downloading.", "Ollama is down."]
    assert (body["analyzer"], body["promptSource"]) == ("pixels", "template")


async def test_the_analysis_alone_leaves_the_writer_in_peace(service: Service) -> None:
    service.writer.events = [PromptComplete("x", "template", ("Ollama is down.",))]
    body = (await service.post(analysis_only="true", user_prompt="at dusk")).json()
    assert (body["success"], body["generatedPrompt"], body["promptSource"]) == (True, "", "none")
    assert (body["userInput"], body["warnings"]) == ("at dusk", [])
    assert body["analysis"]["style"][0] == {"value": "style 0", "score": 0.5}
    assert body["timings"].keys() == {"decode", "analysis", "total"}
    events = await service.events(analysis_only="true", user_prompt="at dusk")
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "complete"]
    complete = events[-1]
    assert (complete["generatedPrompt"], complete["promptSource"], complete["userInput"]) == ("", "none", "at dusk")
    assert complete["warnings"] == []
    assert "prompt" not in complete["timings"]
    assert service.writer.requests == []


async def test_the_same_bytes_again_are_answered_from_memory(service: Service) -> None:
    first = (await service.post()).json()
    second = (await service.post(user_prompt="at dusk")).json()
    assert (first["cached"], second["cached"]) == (False, True)
    for field in ("analysis", "palette", "analyzer", "warnings"):
        assert second[field] == first[field]
    assert second["timings"].keys() == {"prompt", "total"}
    assert second["timings"]["total"] >= second["timings"]["prompt"]
    events = await service.events(analysis_only="true")
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "complete"]
    assert (events[1]["cached"], events[1]["analysis"]) == (True, first["analysis"])
    assert events[1]["timings"].keys() == events[2]["timings"].keys() == {"total"}
    assert len(service.reader.pictures) == 1
    assert [request.options.user_prompt for request in service.writer.requests] == ["", "at dusk"]


@pytest.mark.parametrize(
    ("error", "status", "code", "sentence", "retry_after"),
    [
        (QueueFull("64 pictures wait.", retry_after_s=7), 429, "queue_full", "64 pictures wait.", "7"),
        (ClipUnavailable("CLIP is not loaded."), 503, "clip_unavailable", "CLIP is not loaded.", None),
        (DeadlinePassed("Too slow."), 504, "deadline_passed", "Too slow.", None),
        (RuntimeError("password is hunter2"), 500, "internal_error", "log", None),
    ],
)
async def test_a_failing_analysis_has_its_status_or_ends_the_stream_and_tells_no_secrets(
    service: Service, error: Exception, status: int, code: str, sentence: str, retry_after: str | None
) -> None:
    service.reader.error = error
    response = await service.post()
    assert_error(response, status, code, sentence)
    assert response.headers.get("retry-after") == retry_after
    events = await service.events()
    assert [event["status"] for event in events] == ["analyzing", "error"]
    assert events[-1].keys() == {"status", "error", "code"}
    assert (events[-1]["code"], sentence in events[-1]["error"]) == (code, True)
    assert "hunter2" not in response.text + events[-1]["error"]


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), asyncio.CancelledError()], ids=repr)
async def test_a_fault_is_a_500_that_is_logged_once_counted_as_failed_and_has_the_headers_of_every_answer(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Ray raises CancelledError where nobody has left."""
    counted: list[tuple[str, str]] = []

    def record(metric: Metric, value: float = 1, **tags: str) -> None:
        if metric is REQUESTS and value:
            counted.append((tags["outcome"], tags["status"]))

    service = Service(record=record, cors_origins=["http://localhost:5173"])
    service.writer.error = error
    service.writer.events = [PromptDelta("A qui")]
    async with service.client() as client:
        headers = {"origin": "http://localhost:5173"}
        response = await client.post(ANALYZE, files={"image": PHOTOGRAPH}, headers=headers)
    assert_error(response, 500, "internal_error", "log")
    assert response.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert (response.headers["x-frame-options"], response.headers["cache-control"]) == ("DENY", "no-store")
    assert len([line for line in caplog.records if line.levelname == "ERROR"]) == 1
    events = await service.events()
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "generating", "delta", "error"]
    assert events[-1]["code"] == "internal_error"
    assert counted == [("failed", "500")] * 2


async def test_who_leaves_while_sending_has_left_and_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[str] = []

    def record(metric: Metric, value: float = 1, **tags: str) -> None:
        outcomes.extend([tags["outcome"]] if metric is REQUESTS and value else [])

    messages: list[Message] = [
        {"type": "http.request", "body": FORM_S_BEGINNING, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError("nobody is there to be answered")

    scope = {"type": "http", "method": "POST", "path": ANALYZE, "query_string": b"", "headers": Headers(FORM).raw}
    await Service(record=record).api(scope, receive, send)
    assert outcomes == ["left"]
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []


async def test_a_stream_of_what_no_json_can_hold_ends_in_an_error(service: Service) -> None:
    service.writer.events = [PromptDelta("half of a pair: \ud83d"), PromptComplete("x", "ollama")]
    events = await service.events()
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "generating", "error"]


async def test_a_failing_writer_ends_the_stream_after_its_deltas(service: Service) -> None:
    service.writer.events = [PromptDelta("A qui")]
    service.writer.error = OllamaUnavailable("Ollama is down: start it with `ollama serve`.")
    assert_error(await service.post(), 503, "ollama_unavailable", "ollama serve")
    events = await service.events()
    assert [event["status"] for event in events] == ["analyzing", "analyzed", "generating", "delta", "error"]


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [("total_timeout_s", "raise limits.total_timeout_s"), ("analysis_timeout_s", "longer than 0.05 s")],
)
async def test_what_takes_too_long_in_all_or_for_the_analysis_meets_its_deadline(limit: str, sentence: str) -> None:
    service = Service(limits={limit: 0.05})
    service.writer.hang, service.reader.hang = limit == "total_timeout_s", limit == "analysis_timeout_s"
    assert_error(await service.post(), 504, "deadline_passed", sentence)
    assert service.writer.cut_short.is_set() is service.writer.hang
    last = (await service.events())[-1]
    assert (last["status"], last["code"]) == ("error", "deadline_passed")


def own_labels(categories: int, phrases: int) -> str:
    return json.dumps({f"category_{i}": [f"phrase {k}" for k in range(phrases)] for i in range(categories)})


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
@pytest.mark.parametrize(
    ("image", "form", "status", "code", "sentence"),
    [
        (b"not a picture", {}, 400, "unreadable_image", "send a JPEG"),
        (PHOTOGRAPH[:5000], {}, 400, "unreadable_image", "broken"),
        (b"P6 1 1 255 abc", {}, 415, "format_not_accepted", "PPM"),
        (PHOTOGRAPH, {"language": "tlh"}, 422, "invalid_form", "'language'"),
        (PHOTOGRAPH, {"deep_thinking": "perhaps"}, 422, "invalid_form", "'deep_thinking'"),
        (PHOTOGRAPH, {"analysis_only": "perhaps"}, 422, "invalid_form", "'analysis_only'"),
        (PHOTOGRAPH, {"seed": "-1"}, 422, "invalid_form", "'seed'"),
        (PHOTOGRAPH, {"seed": "2147483648"}, 422, "invalid_form", "'seed'"),
        (PHOTOGRAPH, {"seed": "1.5"}, 422, "invalid_form", "'seed'"),
        (PHOTOGRAPH, {"seed": "dice"}, 422, "invalid_form", "'seed'"),
        (PHOTOGRAPH, {"user_prompt": "x" * 2001}, 422, "invalid_form", "at most 2000"),
        (PHOTOGRAPH, {"tags": "101"}, 422, "invalid_form", "'tags'"),
        (PHOTOGRAPH, {"labels": "car, bus"}, 422, "invalid_form", "'labels' is wrong"),
        (PHOTOGRAPH, {"labels": '["car", "bus"]'}, 422, "invalid_form", "category to phrases"),
        (PHOTOGRAPH, {"labels": "[" * 60_000}, 422, "invalid_form", "category to phrases"),
        (PHOTOGRAPH, {"labels": '{"Not a name": ["car", "bus"]}'}, 422, "invalid_form", "'labels'"),
        (PHOTOGRAPH, {"labels": '{"palette": ["car", "bus"]}'}, 422, "invalid_form", "another field of this name"),
        (PHOTOGRAPH, {"labels": '{"vehicle": "car"}'}, 422, "invalid_form", "'labels'"),
        (PHOTOGRAPH, {"labels": '{"vehicle": ["car", 7]}'}, 422, "invalid_form", "'labels'"),
        (PHOTOGRAPH, {"labels": '{"vehicle": ["car"]}'}, 422, "invalid_form", "two different phrases"),
        (PHOTOGRAPH, {"labels": '{"vehicle": ["car", "car"]}'}, 422, "invalid_form", "two different phrases"),
        (PHOTOGRAPH, {"labels": '{"vehicle": ["car", " "]}'}, 422, "invalid_form", "1 to 100 characters"),
        (PHOTOGRAPH, {"labels": json.dumps({"a": ["car", "x" * 101]})}, 422, "invalid_form", "1 to 100 characters"),
        (PHOTOGRAPH, {"labels": own_labels(9, 2)}, 422, "too_many_labels", "9 categories and 18 phrases"),
        (PHOTOGRAPH, {"labels": own_labels(5, 13)}, 422, "too_many_labels", "5 categories and 65 phrases"),
    ],
    ids=map(str, itertools.count()),
)
async def test_bad_uploads_have_their_status_on_both_routes(
    service: Service, route: str, image: bytes, form: dict[str, str], status: int, code: str, sentence: str
) -> None:
    assert_error(await service.post(route, image, **form), status, code, sentence)
    assert service.reader.pictures == []


async def test_the_declared_type_is_not_trusted(service: Service) -> None:
    async with service.client() as client:
        lying = await client.post(ANALYZE, files={"image": ("a.txt", PHOTOGRAPH, "text/plain")})
    assert lying.status_code == 200


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"data": {"user_prompt": "x"}}, "'image' is missing"),
        ({"data": {"image": "text"}}, "image=@FILE"),
        ({"json": {"image": "x"}}, "'image' is missing"),
        ({"content": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data"}}, "multipart form"),
    ],
)
async def test_forms_without_a_picture_are_told_what_is_missing(
    service: Service, sent: dict[str, Any], sentence: str
) -> None:
    async with service.client() as client:
        assert_error(await client.post(ANALYZE, **sent), 422, "invalid_form", sentence)


async def test_a_declared_size_over_the_cap_is_refused_unread() -> None:
    service = Service(image={"max_upload_mib": 0.25})
    assert_error(await service.post(image=b"x" * 300_000), 413, "upload_too_large", "larger than 0.25 MB")


FORM = {"content-type": "multipart/form-data; boundary=x"}
FORM_S_BEGINNING = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


async def test_the_cap_holds_while_an_undeclared_body_arrives() -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield FORM_S_BEGINNING
        for _ in range(1000):
            sent += 65536
            yield b"x" * 65536

    async with Service(image={"max_upload_mib": 0.25}, limits={"drain_mib": 0.5}).client() as client:
        response = await client.post(ANALYZE, content=body(), headers=FORM)
    assert_error(response, 413, "upload_too_large", "larger than 0.25 MB")
    assert sent <= 14 * 65536


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
async def test_a_body_that_does_not_arrive_in_time_is_refused(route: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield FORM_S_BEGINNING
        await asyncio.Event().wait()

    async with Service(limits={"upload_timeout_s": 0.05}).client() as client:
        response = await client.post(route, content=body(), headers=FORM)
    assert_error(response, 408, "upload_too_slow", "did not arrive within 0.05 s")


async def test_unknown_routes_and_methods_are_answered_in_the_same_shape(service: Service) -> None:
    async with service.client() as client:
        assert_error(await client.get("/api/images/nothing"), 404, "not_found", "/docs")
        assert_error(await client.get(ANALYZE), 405, "method_not_allowed", "/docs")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), "device-side assert"),
        (None, "did not answer within 0.05 s"),
    ],
)
async def test_health_is_an_error_and_not_a_fault_when_a_part_cannot_be_asked(
    error: Exception | None, reason: str
) -> None:
    service = Service(limits={"status_timeout_s": 0.05})
    service.reader.error, service.reader.hang = error, error is None
    async with service.client() as client:
        response = await client.get(HEALTH)
    assert (response.status_code, response.json()["status"]) == (503, "error")
    assert reason in response.json()["components"]["analyzer"]["reason"]


async def test_more_requests_than_may_be_worked_on_are_refused_at_once() -> None:
    service = Service(limits={"max_requests": 2})
    service.writer.hang = True
    waiting = [asyncio.create_task(service.post()) for _ in range(2)]
    await service.writer.busy_with(2)
    refused = await service.post()
    assert_error(refused, 429, "queue_full", "2 requests are being worked on")
    assert refused.headers["retry-after"] == "2"
    async with service.client() as client:
        assert (await client.get(HEALTH)).status_code == 200
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    service.writer.hang = False
    assert (await service.post()).status_code == 200


async def test_however_many_ask_for_health_the_parts_are_asked_once_a_second() -> None:
    now_s = 1000.0
    service = Service(clock=lambda: now_s)
    async with service.client() as client:
        together = await asyncio.gather(*(client.get(HEALTH) for _ in range(20)))
        assert {answer.status_code for answer in together} == {200}
        now_s += 0.9
        service.reader.current_status = ComponentStatus("unavailable", "none")
        assert (await client.get(HEALTH)).status_code == 200
        assert service.reader.status_asked == 1
        now_s += 0.2
        assert (await client.get(HEALTH)).status_code == 503
    assert service.reader.status_asked == 2


async def test_alive_and_ready_ask_no_part_and_no_key_and_only_a_service_that_stops_is_not_ready() -> None:
    service = Service(api_keys="0123456789abcdef", limits={"max_requests": 1})
    service.reader.error = ClipUnavailable("CLIP is not loaded.")
    service.reader.hang = True  # Health would wait.
    async with service.client() as client:
        for path, status in ((LIVE, "live"), (READY, "ready")):
            response = await client.get(path)
            assert (response.status_code, response.json()) == (200, {"status": status})
            assert response.headers["cache-control"] == "no-store"
        assert service.reader.status_asked == 0
        await service.gate.close()
        assert_error(await client.get(READY), 503, "shutting_down", "try again")
        assert (await client.get(LIVE)).status_code == 200


async def test_a_replica_that_cannot_decode_is_not_ready(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "All decoders are stuck."
    monkeypatch.setattr(Pipeline, "not_ready_because", lambda _: reason)
    async with service.client() as client:
        assert_error(await client.get(READY), 503, "component_unavailable", reason)


@pytest.mark.parametrize("path", [HEALTH, LIVE, READY, "/", "/docs", "/openapi.json"])
async def test_head_is_answered_as_get_without_its_body(service: Service, path: str) -> None:
    async with service.client() as client:
        got, headed = await client.get(path), await client.head(path)
    assert headed.status_code == got.status_code == 200
    assert headed.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", [ANALYZE, STREAM])
async def test_a_slash_at_the_end_changes_nothing(service: Service, path: str) -> None:
    async with service.client() as client:
        headers = {"x-forwarded-proto": "https"}
        answer = await client.post(f"{path}/", files={"image": PHOTOGRAPH}, headers=headers)
        assert answer.status_code == 200
        for other in (f"{HEALTH}/", "/docs/", f"{READY}//"):
            assert (await client.get(other)).status_code == 200
        assert_error(await client.get("/nothing/"), 404, "not_found", "/docs")


@pytest.mark.parametrize(
    ("reader", "writer", "status", "http_status"),
    [
        ("ready", "ready", "ok", 200),
        ("fallback", "ready", "degraded", 200),
        ("ready", "fallback", "degraded", 200),
        ("unavailable", "ready", "error", 503),
        ("ready", "unavailable", "error", 503),
    ],
)
async def test_health_says_what_is_true_now(
    service: Service, reader: Any, writer: Any, status: str, http_status: int
) -> None:
    service.reader.current_status = ComponentStatus(reader, "pixels", "CLIP is missing.", "Wait.", {"waiting": 3})
    service.writer.current_status = ComponentStatus(writer, "template", "Ollama is down.", "Run ollama serve.")
    async with service.client() as client:
        response = await client.get(HEALTH)
    body = response.json()
    assert response.status_code == http_status
    assert (body["status"], body["service"]) == (status, "image-analyzer")
    assert body["analyzer_initialized"] is (reader != "unavailable")
    assert body["components"]["analyzer"] == {
        "status": reader,
        "active": "pixels",
        "reason": "CLIP is missing.",
        "remedy": "Wait.",
        "facts": {"waiting": 3},
    }
    assert body["components"]["writer"]["remedy"] == "Run ollama serve."


async def test_other_origins_may_call_and_read_why_they_are_refused_only_when_the_settings_say_so() -> None:
    origin = "http://localhost:5173"
    for origins, allowed, exposed in [([], None, None), ([origin], origin, "Retry-After, X-Request-ID")]:
        service = Service(cors_origins=origins)
        service.reader.error = QueueFull("Come back.", retry_after_s=2)
        async with service.client() as client:
            response = await client.post(ANALYZE, files={"image": PHOTOGRAPH}, headers={"origin": origin})
        assert response.status_code == 429
        assert response.headers.get("access-control-allow-origin") == allowed
        assert response.headers.get("access-control-expose-headers") == exposed


async def test_the_page_at_docs_needs_no_other_server(service: Service) -> None:
    async with service.client() as client:
        page = (await client.get("/docs")).text
        loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
        assert len(loaded) >= 2
        for address in loaded:
            assert address.startswith("/")
            assert (await client.get(address)).status_code == 200
