from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ollama.instructions import plain
from deployments.ollama.wishes import Wish, parted, said_positively
from deployments.types import Language


@pytest.mark.parametrize(
    ("language", "wish", "wanted", "unwanted"),
    [
        ("en", "a castle without people at dusk", "a castle at dusk", ["people"]),
        ("en", "a castle, without any people or cars, at dusk", "a castle, at dusk", ["people", "cars"]),
        ("en", "No text", "", ["text"]),
        ("en", "a street without cars, street lamps or people", "a street", ["cars", "street lamps", "people"]),
        ("en", "no people, no cars, warm light and soft shadows", "warm light and soft shadows", ["people", "cars"]),
        ("en", "without cars and people", "", ["cars", "people"]),
        ("en", "no people and a blue sky", "a blue sky", ["people"]),
        ("en", "no people and blue sky", "blue sky", ["people"]),
        ("en", "a wall with no windows", "a wall", ["windows"]),
        ("en", "A castle. No people! At dusk, no cars.", "A castle. At dusk", ["people", "cars"]),
        ("en", "no more than two foxes, and no less", "no more than two foxes, and no less", []),
        ("en", "a note, a snowy norm, sin", "a note, a snowy norm, sin", []),
        ("es", "una calle sin gente ni coches al atardecer", "una calle al atardecer", ["gente", "coches"]),
        ("fr", "une rue sans personnes", "une rue", ["personnes"]),
        ("de", "eine Straße ohne Menschen und Autos", "eine Straße", ["Menschen", "Autos"]),
        ("de", "keine Menschen, no cars", "", ["Menschen", "cars"]),
        ("en", 'a sign "without limits" and no cars', 'a sign "without limits"', ["cars"]),
        ("en", "a castle no people", "a castle", ["people"]),
        ("en", "um barco no lago", "um barco no lago", []),
        ("pt", "No lago, um barco sem gente", "No lago, um barco", ["gente"]),
        ("it", "senza persone", "", ["persone"]),
        ("pt", "uma rua sem pessoas", "uma rua", ["pessoas"]),
        ("ja", "人のいない城", "城", ["人"]),
        ("zh", "没有人的城堡", "城堡", ["人"]),
        ("ar", "قلعة بدون أشخاص", "قلعة", ["أشخاص"]),
    ],
)
def test_what_is_not_wanted_is_told_from_what_is(
    language: Language, wish: str, wanted: str, unwanted: list[str]
) -> None:
    assert parted(wish, language) == Wish(wanted, tuple(unwanted))


@given(st.text() | st.lists(st.sampled_from(["no", "without", ",", "fox", "or", "and", "a"])).map(" ".join))
def test_any_wish_can_be_parted_and_one_that_refuses_nothing_stays(wish: str) -> None:
    for language in get_args(Language):
        found = parted(wish, language)
        assert len(found.wanted.splitlines()) <= 1
        if not found.unwanted:
            assert found.wanted == plain(wish)
        assert all(thing.strip() == thing != "" for thing in found.unwanted)


def test_what_is_there_instead_is_said_where_it_is_known() -> None:
    wish = parted("a castle without people, crowds or unicorns", "en")
    assert said_positively(wish) == ("a castle, deserted surroundings", ("people", "crowds"), ("unicorns",))
