"""What `/openapi.json` says is what generators need and what the service does."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deployments.errors import AnalyzerError, SettingsError
from serve_app.form import OTHER_NAMES
from tests.support.in_process import ANALYZE, PHOTOGRAPH, STREAM, Service

DOCUMENT = Service().api.openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
ANSWERS = [(status, answer) for operation in OPERATIONS for status, answer in operation["responses"].items()]


def examples(route: str) -> dict[str, tuple[int, dict[str, Any]]]:
    """Give what the document shows of a route: code → status and body."""
    return {
        code: (int(status), example["value"])
        for status, answer in DOCUMENT["paths"][route]["post"]["responses"].items()
        for code, example in answer["content"].get("application/json", {}).get("examples", {}).items()
    }


def test_operations_have_names_that_stay_and_stand_in_groups() -> None:
    assert [operation["operationId"] for operation in OPERATIONS] == [
        *("analyze", "analyze_stream", "list_models", "list_targets", "unload_models", "health", "live", "ready")
    ]
    groups = {group["name"] for group in DOCUMENT["tags"]}
    assert {tag for operation in OPERATIONS for tag in operation["tags"]} == groups
    assert {len(operation["tags"]) for operation in OPERATIONS} == {1}


def test_every_field_is_described_with_an_example_and_the_limits_that_are_set() -> None:
    fields = SCHEMAS["AnalyzeForm"]["properties"]
    assert fields["image"]["format"] == "binary"
    assert set(OTHER_NAMES.values()) < fields.keys()
    for name, field in fields.items():
        assert field["description"]
        assert name == "image" or field["examples"]
    set_otherwise = Service(limits={"max_user_prompt_chars": 77, "max_own_labels": 55}, image={"max_upload_mib": 3})
    fields = set_otherwise.api.openapi()["components"]["schemas"]["AnalyzeForm"]["properties"]
    assert fields["user_prompt"]["maxLength"] == 77
    assert "55 phrases" in fields["labels"]["description"]
    assert "3 MB" in fields["image"]["description"]


@pytest.mark.parametrize("route", [ANALYZE, STREAM])
def test_every_error_of_the_tree_is_shown_with_its_status(route: str) -> None:
    def tree(kind: type[AnalyzerError]) -> set[type[AnalyzerError]]:
        return {kind}.union(*map(tree, kind.__subclasses__()))

    shown = examples(route)
    assert {(code, status) for code, (status, _) in shown.items()} == {
        (kind.code, kind.http_status) for kind in tree(AnalyzerError) - {SettingsError}
    }
    assert all(body["code"] == code for code, (_, body) in shown.items())
    assert len({body["error"] for _, body in shown.values()}) == len(shown)


def many_pixels() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("code", "image", "form", "headers"),
    [
        ("unreadable_image", b"<html></html>", {}, {}),
        ("origin_not_allowed", PHOTOGRAPH, {}, {"sec-fetch-site": "cross-site"}),
        ("upload_too_large", bytes(21 * 2**20), {}, {}),
        ("too_many_pixels", many_pixels(), {}, {}),
        ("format_not_accepted", b"\xff\x0a", {}, {}),
        ("invalid_form", PHOTOGRAPH, {"deep_thinking": "perhaps"}, {}),
        ("too_many_labels", PHOTOGRAPH, {"labels": json.dumps({f"c{i}": ["a", "b"] for i in range(9)})}, {}),
    ],
)
async def test_an_example_is_what_the_service_says(
    code: str, image: bytes, form: dict[str, str], headers: dict[str, str]
) -> None:
    async with Service().client() as client:
        answer = await client.post(ANALYZE, files={"image": image}, data=form, headers=headers)
    assert (answer.status_code, answer.json()) == examples(ANALYZE)[code]


async def test_so_are_those_that_need_other_settings_or_a_fault() -> None:
    keyed, hurried = (
        Service(api_keys="a-key-of-16-chars-or-more"),
        Service(access={"requests_per_minute": 10, "burst": 1}),
    )
    await hurried.post()
    failing, stopping = Service(), Service()
    failing.reader.error = ValueError("of its insides")
    stopping.gate.closed = True
    for service in (keyed, hurried, failing, stopping):
        answer = await service.post()
        assert (answer.status_code, answer.json()) == examples(ANALYZE)[answer.json()["code"]]


def test_the_stream_has_one_schema_told_apart_by_status() -> None:
    content = DOCUMENT["paths"][STREAM]["post"]["responses"]["200"]["content"]
    assert content == {"text/event-stream": {"schema": {"$ref": "#/components/schemas/StreamEvent", "type": "object"}}}
    event = SCHEMAS["StreamEvent"]
    assert event["discriminator"]["propertyName"] == "status"
    kinds = {status: SCHEMAS[at.rpartition("/")[2]] for status, at in event["discriminator"]["mapping"].items()}
    assert len(kinds) == len(event["oneOf"])
    for status, kind in kinds.items():
        assert kind["properties"]["status"]["const"] == status
        assert "status" in kind["required"]


def test_headers_of_answers_are_described() -> None:
    for status, answer in ANSWERS:
        assert "X-Request-ID" in answer["headers"]
        assert ("Retry-After" in answer["headers"]) >= (status == "429")
        assert ("WWW-Authenticate" in answer["headers"]) == (status == "401")


def test_the_table_of_names_is_true() -> None:
    root = Path(__file__).parents[2]
    table = (root / "docs" / "api.md").read_text().partition("## One thing and its names")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")][2:]
    fields, others, options, of_hook, of_page, of_answers = (
        [re.findall("[`“]([^`”]+)[`”]", cell) for cell in column] for column in zip(*rows, strict=True)
    )
    assert {name for names in fields for name in names} == SCHEMAS["AnalyzeForm"]["properties"].keys()
    named = zip(others, fields, strict=True)
    assert {other: names[0] for known, names in named for other in known} == OTHER_NAMES
    told = subprocess.run(
        [sys.executable, "-m", "serve_app.cli.main", "analyze", "--help"], capture_output=True, text=True, check=True
    )
    assert {name for names in options for name in names} <= set(re.findall("--[a-z-]+", told.stdout))
    hook = (root / "frontend" / "src" / "client.ts").read_text()
    assert all(re.search(rf"  {name}\??: ", hook) for names in of_hook for name in names)
    page = (root / "frontend" / "src" / "texts.ts").read_text()
    assert all(f'"{name}' in page for names in of_page for name in names)
    assert {name for names in of_answers for name in names} <= SCHEMAS["AnalyzeAnswer"]["properties"].keys()
