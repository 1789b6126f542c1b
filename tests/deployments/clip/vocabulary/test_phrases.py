"""What a phrase file may say, and the sentence for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.clip.settings import DEFAULT_VOCABULARY, parse_user_config
from deployments.clip.vocabulary.phrases import MAX_PHRASES, Vocabulary, load_vocabulary
from deployments.errors import SettingsError


def written(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_a_group_is_called_as_its_file_and_comments_are_none_of_its_phrases(tmp_path: Path) -> None:
    folder = written(tmp_path, things="﻿# of ours\n\n  red cup \r\ntea\n", light="a picture with {phrase}\ndusk\n")
    vocabulary = load_vocabulary([folder])
    assert {name: group.phrases for name, group in vocabulary.groups.items()} == {
        "light": ("dusk",),
        "things": ("red cup", "tea"),
    }
    assert vocabulary.worded(["{phrase}", "a photo of {phrase}"]) == [
        ("a picture with dusk",),
        ("red cup", "a photo of red cup"),
        ("tea", "a photo of tea"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("cup\nCup\n", "group things: named twice: cup"),
        ("# nothing\n", "things.txt has no phrase in it"),
        ("a {phrase}\n", "group things: there is no phrase in it"),
        ("x" * 101, 'group things: "x+…" is longer than 100 characters'),
        ("caf\xe9".encode("latin-1"), "things.txt is not UTF-8"),
        ("\n".join(map(str, range(200_000))), "200000 phrases, and the whole vocabulary may have 100000"),
        ("\n".join(f"{number} {{phrase}}" for number in range(9)) + "\ncup", "9 templates, and may have 8"),
    ],
)
def test_each_fault_of_a_file_has_its_sentence(content: str | bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told):
        load_vocabulary([written(tmp_path, things=content)])


def test_folders_that_do_not_fit_have_their_sentences(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="folder /no/such is missing or holds no"):
        load_vocabulary([Path("/no/such")])
    folder = written(tmp_path, things="cup")
    with pytest.raises(SettingsError, match="two phrase files things"):
        load_vocabulary([folder, folder])
    half = "\n".join(map(str, range(MAX_PHRASES // 2 + 1)))
    with pytest.raises(SettingsError, match="100002 phrases in all groups together"):
        load_vocabulary([written(tmp_path, things=half, light=half)])
    with pytest.raises(SettingsError, match="'two words' is no single word"):
        load_vocabulary([written(tmp_path, **{"things": "cup", "light": "dusk", "two words": "tea"})])


def test_a_change_replaces_adds_and_takes_away_groups() -> None:
    before = Vocabulary.of({"things": ["cup"], "light": ["dusk", "a picture with {phrase}"]})
    after = before.changed({"things": ["jug"], "light": [], "food": ["tea"]})
    assert {name: group.phrases for name, group in after.groups.items()} == {"things": ("jug",), "food": ("tea",)}
    assert before.changed({}).version == before.version != after.version
    with pytest.raises(SettingsError, match="user_config: vocabulary: Value error, group things: named twice: cup"):
        parse_user_config({"vocabulary": {"things": ["cup", "Cup"]}})


def test_the_shipped_vocabulary_is_whole() -> None:
    vocabulary = load_vocabulary([DEFAULT_VOCABULARY])
    assert 5_000 <= len(vocabulary) <= 10_000
    assert {"objects", "places", "mediums", "movements", "lighting", "camera", "materials", "weather"} <= set(
        vocabulary.groups
    )
    phrases = [phrase.casefold() for group in vocabulary.groups.values() for phrase in group.phrases]
    assert len(set(phrases)) == len(phrases)
    for file in DEFAULT_VOCABULARY.glob("*.txt"):
        head = file.read_text(encoding="utf-8").splitlines()[:3]
        assert any("licence" in line for line in head), f"{file.name} does not say what its licence is"
