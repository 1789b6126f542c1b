"""What a label file may say, what is wrong with one that cannot be used, and how templates are put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.clip.labels import load_labels, parse_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.errors import SettingsError
from deployments.types import ANSWER_FIELDS, CATEGORIES, CATEGORY_NAME
from serve_app.schemas import AnalyzeAnswer, AnalyzedEvent, CompleteEvent

LABELS = load_labels(DEFAULT_LABELS_FILE).model_dump()
LIGHTING = {"labels": ["golden hour", "overcast"], "templates": ["{label}", "a photo in {label}"], "prompt": False}


def test_the_default_labels_are_the_contract_s() -> None:
    counts = {name: len(category["labels"]) for name, category in LABELS.items()}
    assert tuple(counts) == CATEGORIES
    assert counts == {"style": 14, "mood": 14, "composition": 11, "color_palette": 12, "subjects": 18}


def test_a_file_adds_categories_which_come_after_the_contract_s_and_may_leave_some_of_those_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "lighting: {labels: [golden hour, ' overcast '], template: 'a photo in {label}', top: 1}\n"
        "mood: {labels: [calm]}\n"
        "era: {labels: [1920s, today]}\n"
    )
    labels = load_labels(file)
    assert [(name, columns) for name, _, columns in labels.categories()] == [
        ("mood", slice(0, 1)),
        ("lighting", slice(1, 3)),
        ("era", slice(3, 5)),
    ]
    assert labels.texts() == ["calm", "a photo in golden hour", "a photo in overcast", "1920s", "today"]
    assert labels.count == 5
    assert labels.left_out == ("style", "composition", "color_palette", "subjects")


def named(count: int, labels: int) -> dict[str, Any]:
    return {f"c{number}": {"labels": [f"l{label}" for label in range(labels)]} for number in range(count)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mood": {"labels": []}}, "mood.labels: Tuple should have at least 1 item"),
        ({"mood": {"labels": [" "]}}, "mood.labels.0: String should have at least 1 character"),
        ({"mood": {"labels": ["x" * 201]}}, "mood.labels.0: String should have at most 200 characters"),
        ({"era": {"labels": [1920]}}, "era.labels.0: Input should be a valid string"),
        ({"mood": {"labels": ["calm", "calm"]}}, "mood.labels: Value error, label named twice: calm"),
        ({"mood": {"labels": ["calm", "Calm "]}}, "mood.labels: Value error, label named twice: Calm, calm"),
        ({"mood": {"labels": ["calm"], "template": "a photo"}}, 'the template has no "{label}" in it'),
        ({"mood": {"labels": ["calm"], "templates": ["{label}", "a photo"]}}, 'the template has no "{label}" in it'),
        ({"mood": {"labels": ["calm"], "templates": []}}, "mood.templates: Tuple should have at least 1 item"),
        ({"mood": LIGHTING | {"template": "{label}"}}, "it has template and templates: keep one"),
        ({"mood": {"labels": ["calm"], "top": 0}}, "mood.top: Input should be greater than or equal to 1"),
        ({"mood": {"labels": ["calm"], "weight": 2}}, "mood.weight: Extra inputs are not permitted"),
        ({"mood": None}, "mood: Input should be a valid dictionary"),
        ({"Time of day": LIGHTING}, "a category's name has small letters, digits and _"),
        ({"x" * 41: LIGHTING}, "and has 40 at most"),
        ({"palette": LIGHTING}, "answers have another field of this name"),
        (named(33, 1), "38 categories are too many: 32 at most"),
        (named(11, 1000), "11069 texts are too many, labels times templates: 10000 at most"),
    ],
)
def test_wrong_labels_are_named(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_labels(LABELS | change, "labels.yaml")
    assert sentence in str(error.value)
    assert str(error.value).startswith("labels.yaml: ")
    assert ": :" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"mine\.yaml cannot be read: No such file"),
        (b"style: [unclosed", r"mine\.yaml is not valid YAML"),
        ("style: café".encode("latin-1"), r"mine\.yaml is not valid YAML"),
        (b"- just\n- a list\n", "must map each category"),
        (b"", "must map each category"),
        (b"{}", "name one category at least"),
        (
            b"mood: {labels: [calm]}\nera: {labels: [old]}\nmood: {labels: [dark]}\n",
            "line 1 and after: 'mood' stands twice",
        ),
        (b"mood:\n  labels: [calm]\n  labels: [dark]\n", "line 2 and after: 'labels' stands twice"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_named(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=sentence):
        load_labels(file)


def test_no_category_is_called_as_another_field_of_an_answer() -> None:
    fields = {name for answer in (AnalyzeAnswer, AnalyzedEvent, CompleteEvent) for name in answer.model_fields}
    assert {name for name in fields if CATEGORY_NAME.fullmatch(name)} <= ANSWER_FIELDS
    assert ANSWER_FIELDS.isdisjoint(CATEGORIES)


def test_a_set_s_version_changes_with_whatever_changes_answers() -> None:
    original = parse_labels(LABELS, "x")
    assert original.version == parse_labels(LABELS, "y").version
    assert original.version == parse_labels(dict(reversed(LABELS.items())), "y").version, "the contract's order holds"
    mood = LABELS["mood"]
    others = [
        LABELS | {"mood": mood | {"labels": list(reversed(mood["labels"]))}},
        LABELS | {"mood": mood | {"templates": ["a {label} photo"]}},
        LABELS | {"mood": mood | {"top": 1}},
        LABELS | {"mood": mood | {"prompt": False}},
        LABELS | {"era": LIGHTING, "lighting": LIGHTING},
        LABELS | {"lighting": LIGHTING, "era": LIGHTING},
        {name: LABELS[name] for name in CATEGORIES[:4]},
    ]
    assert len({original.version, *(parse_labels(other, "x").version for other in others)}) == len(others) + 1


def test_several_templates_are_one_embedding_the_mean_of_their_directions_and_as_long() -> None:
    labels = parse_labels({"mood": {"labels": ["calm"]}, "lighting": LIGHTING}, "x")
    assert labels.texts()[1:3] == ["golden hour", "a photo in golden hour"]
    directions = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    of_labels = labels.of_labels(100 * directions.T)
    means = np.stack([directions[0], directions[1] + directions[2], directions[3] + directions[4]])
    expected = 100 * means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(of_labels, expected.T, rtol=1e-5)
    assert of_labels.dtype == np.float32
