from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.errors import SettingsError
from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.targets import load_targets, parse_targets

PROSE = {"title": "Prose", "help": "As today.", "shape": "prose"}
BUDGET = {"unit": "words", "short": 5, "medium": 9, "long": 9}
OURS = {"title": "Ours", "help": "Words.", "shape": "phrases", "budget": BUDGET}
NAMES = "prose caption tags sd15 sdxl pony illustrious sd35 flux flux2 qwen_image z_image midjourney gpt_image"


def test_the_targets_that_come_with_the_service_are_there() -> None:
    assert " ".join(load_targets(DEFAULT_TARGETS_FILE).root) == NAMES


def test_an_operator_adds_one_without_code() -> None:
    added = parse_targets({"prose": PROSE, "ours": {**OURS, "before": ["a trigger"]}}, "f").root["ours"]
    assert added.before[0].text == "a trigger"
    assert added.budget is not None
    assert added.budget.limit("short") == 5


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"ours": OURS}, "prose must be there"),
        ({"prose": {**PROSE, "shape": "verse"}}, "f: prose.shape: Input should be"),
        ({"prose": {**PROSE, "befor": ["x"]}}, "f: prose.befor: Extra inputs"),
        ({"prose": {**PROSE, "before": ["x"]}}, "shape prose has no fixed parts"),
        ({"prose": {**PROSE, "budget": BUDGET}}, "shape prose has no budget"),
        ({"prose": PROSE, "Our s": OURS}, "String should match pattern"),
        ({"prose": PROSE, "ours": {**OURS, "after": ["{mood}"]}}, "nothing fills {mood}"),
        ({"prose": PROSE, "ours": {**OURS, "before": ["so many words"]}}, "more than half of the smallest budget, 5"),
        ({"prose": PROSE, "ours": {**OURS, "languages": []}}, "name one language at least"),
        ({"prose": PROSE, "ours": {**OURS, "sizes": ["big"]}}, "f: ours.sizes.0: String should match"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_targets(content, "f")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"a: [", "not valid YAML"),
        (b"- a", "must map"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"a: {title: A}\na: {title: B}", "'a' stands twice"),
    ],
)
def test_a_file_that_is_none_has_its_sentence(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "targets.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=told):
        load_targets(file)
