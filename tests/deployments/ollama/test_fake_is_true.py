"""The fake answers as the real servers did: the same request, the same status, keys and error, for each recording."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.fake_models import Version
from tests.support.fake_ollama import Answer, FakeOllama, Pull
from tests.support.recordings import Recording, recordings

VERSIONS: dict[str, Version] = {"0.33": "0.33.0", "0.24": "0.24.0"}
THINKERS, SEERS = ["think", "jthink"], ["eyes"]
LOOK_S = 0.3
PATIENCE_S = 10
NO_SUCH_HOST = "no such host"
"""Where a machine is named that cannot be found, only this is compared."""

LATER = {
    "0.33 chat_left", "0.33 eyes_left_before_first_token", "0.33 fault_many_pictures_left", "0.24 eyes_after_leaving",
    "0.33 eyes_after_leaving", "0.33 fault_look_after_left_1", "0.33 fault_look_after_left_2",
    "0.33 fault_queue_think_6", "0.33 fault_runner_killed_while_looking", "0.33 fault_runner_killed_while_writing",
}  # fmt: skip
"""What took more than one request, or a caller who left: further down."""


def picture(kind: str = "PNG", colour: str = "red", size_px: int = 16) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (size_px, size_px), colour).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


PICTURES = {
    "broken": base64.b64encode(b"no picture..").decode(),
    "cut_jpeg": picture("JPEG")[:56],
    "data_url": f"data:image/png;base64,{picture()}",
    "url": "http://example.com/a.jpg",
    "empty_image": "",
    "coffee_jpg": picture("JPEG"),
    "twelve_megapixels_jpg": picture("JPEG"),
    **{f"coffee_{kind.lower()}": picture(kind) for kind in ("AVIF", "BMP", "GIF", "TIFF", "WEBP")},
}
"""By the end of a recording's name; all others sent a PNG."""


def asked(recording: Recording) -> Any:
    """Give the recorded request, with pictures in it again, and a prompt as long as it was."""
    body = recording.body
    if isinstance(body, dict) and "images" in str(body):
        image = PICTURES.get(recording.case.partition("_")[2], picture())
        images = [image, picture(colour="blue"), picture(colour="green"), picture(colour="grey")]
        body = {**body, "messages": [
            {**message, "images": images[: len(message["images"])]} if "images" in message else message
            for message in body["messages"]
        ]}  # fmt: skip
    if recording.case == "long_prompt":
        body = {**body, "messages": [{"role": "user", "content": "word " * 9000}]}
    return body


def said(recording: Recording) -> Answer:
    """Give the recorded tokens, and as many more where the model was stopped."""
    lines = recording.content if recording.path == "/api/chat" and recording.status == 200 else []
    messages = [line["message"] for line in lines if "message" in line]
    stopped = bool(lines) and lines[-1].get("done_reason") == "length"
    more = [f" {number}" for number in range(recording.body["options"]["num_predict"])] if stopped else []
    thought = [message["thinking"] for message in messages if "thinking" in message]
    tokens = [message["content"] for message in messages if message["content"]]
    return Answer(tokens + (more if tokens else []), thought + ([] if tokens else more))


def shape(told: object) -> object:
    """Keys of keys; of a list, those of its first; of what differs from model to model, nothing or that it is there."""
    if isinstance(told, list):
        return [shape(told[0])] if told else []
    if not isinstance(told, dict):
        return type(told).__name__ if isinstance(told, str | bool) else "number"
    return {
        key: "any" if key in ("model_info", "projector_info") else shape(value)
        for key, value in told.items()
        if key != "parameters"
    }


def compared(status: int | None, kind: str, lines: list[str]) -> object:
    """What of an answer must be the same."""
    if not kind.startswith("application/"):
        return status, kind, lines
    contents = [json.loads(line) for line in lines]
    told = [content.get("error", "") for content in contents if "error" in content]
    errors = [NO_SUCH_HOST if NO_SUCH_HOST in error else error for error in told]
    ends = [content.get("done_reason") for content in contents[-1:]]
    kinds = [key for key, _ in sorted({json.dumps(shape(content), sort_keys=True): 0 for content in contents}.items())]
    return status, errors, ends, kinds


def recorded(name: str) -> object:
    recording = recordings()[name]
    return compared(recording.status, recording.headers.get("Content-Type", ""), list(recording.lines))


def answered(server: FakeOllama, recording: Recording) -> object:
    told = httpx.request(
        recording.method, server.url + recording.path, json=asked(recording), timeout=PATIENCE_S, trust_env=False
    )
    return compared(told.status_code, told.headers["Content-Type"], told.text.splitlines())


@contextmanager
def standing_for(recording: Recording, **ways: Any) -> Iterator[FakeOllama]:
    models = ["eyes", "think", "smol", "jthink"]
    fake = FakeOllama(
        said(recording),
        models=models,
        thinkers=THINKERS,
        seers=SEERS,
        version=VERSIONS[recording.version],
        pull=Pull(error=f"pull model manifest: {NO_SUCH_HOST}"),
        **ways,
    )
    with fake:
        yield fake


@pytest.mark.parametrize("name", sorted(set(recordings()) - LATER))
def test_the_same_request_has_the_same_answer(name: str) -> None:
    recording = recordings()[name]
    with standing_for(recording) as server:
        if recording.path == "/api/ps":
            load: dict[str, Any] = {"model": "eyes" if "eyes" in name else "smol", "messages": []}
            httpx.post(f"{server.url}/api/chat", json=load, trust_env=False)
            if "unloaded" in name:
                httpx.post(f"{server.url}/api/chat", json={**load, "keep_alive": 0}, trust_env=False)
        assert answered(server, recording) == recorded(name)


def leave(server: FakeOllama, recording: Recording, images: int) -> None:
    """Ask with so many pictures, and go away while they are looked at."""
    body = asked(recordings()["0.33 fault_many_pictures_left"])
    body["messages"][-1]["images"] = body["messages"][-1]["images"][:images]
    with suppress(httpx.ReadTimeout):
        httpx.post(f"{server.url}{recording.path}", json=body, timeout=LOOK_S / 2, trust_env=False)


@pytest.mark.parametrize("pictures", [1, 4])
def test_a_look_goes_on_after_its_caller_left_and_several_leave_the_runner_stuck_until_a_text(pictures: int) -> None:
    look, again, text, healed = (
        recordings()[f"0.33 fault_{case}"]
        for case in ("look_after_left_1", "look_after_left_2", "text_after_left", "look_healed")
    )
    with standing_for(healed, look_s=LOOK_S) as server:
        began_s = time.monotonic()
        leave(server, look, pictures)
        first = answered(server, look)
        waited_s = time.monotonic() - began_s
        if pictures == 1:
            assert first == recorded(healed.name)
            assert waited_s >= LOOK_S
        else:
            assert first == answered(server, again) == recorded(look.name)
            assert waited_s >= LOOK_S * pictures
            server.answer = said(text)
            assert answered(server, text) == recorded(text.name)
            server.answer = said(healed)
            assert answered(server, look) == recorded(healed.name)


def test_a_picture_in_mind_costs_no_second_look_until_a_text_came() -> None:
    def took_s(name: str) -> float:
        began_s = time.monotonic()
        answered(server, recordings()[name])
        return time.monotonic() - began_s

    with standing_for(recordings()["0.33 eyes_png"], look_s=LOOK_S) as server:
        assert took_s("0.33 eyes_png") >= LOOK_S > took_s("0.33 eyes_png_again")
        took_s("0.33 eyes_text_only")
        assert took_s("0.33 eyes_png") >= LOOK_S


def test_more_than_may_wait_are_busy() -> None:
    recording = recordings()["0.33 fault_queue_think_6"]
    with standing_for(recording, max_queue=0) as server:
        server.answer = Answer(["A"], hold_at=0)
        writing = threading.Thread(target=answered, args=(server, recording))
        writing.start()
        assert server.wait_until(lambda server: len(server.chats) == 1)
        assert answered(server, recording) == recorded(recording.name)
        server.release()
        writing.join()


@pytest.mark.parametrize(
    ("name", "tokens", "look_s"),
    [
        ("0.33 fault_runner_killed_while_writing", ["The"], 0.0),
        ("0.33 fault_runner_killed_while_looking", [], PATIENCE_S),
    ],
)
def test_a_killed_runner_is_told_and_the_next_request_meets_a_new_one(
    name: str, tokens: list[str], look_s: float
) -> None:
    recording, found = recordings()[name], []
    after = recordings()["0.33 fault_next_after_killed_runner"]
    with standing_for(recording, look_s=look_s) as server:
        server.answer = Answer(tokens, ending="stall")
        asking = threading.Thread(target=lambda: found.append(answered(server, recording)))
        asking.start()
        assert server.wait_until(lambda server: bool(server.chats) and len(server.chats[0].sent_at_s) == len(tokens))
        server.kill_runner()
        asking.join()
        assert found == [recorded(name)]
        server.answer = said(after)
        assert answered(server, after) == recorded(after.name)


def test_what_was_unloaded_is_listed_once_more() -> None:
    with FakeOllama(models=["smol"], gpu_share=0.5) as server, httpx.Client(base_url=server.url, trust_env=False) as at:
        at.post("/api/chat", json={"model": "smol", "messages": []})
        at.post("/api/chat", json={"model": "smol", "messages": [], "keep_alive": 0})
        listed = [at.get("/api/ps").json()["models"] for _ in range(2)]
    (unloaded,), gone = listed
    assert unloaded["size_vram"] * 2 == unloaded["size"]
    assert gone == []
