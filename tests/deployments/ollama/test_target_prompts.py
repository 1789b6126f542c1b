"""The prompts of one photograph for every target, read by a person: whatever changes them is seen."""

from __future__ import annotations

from tests.support.target_prompts import DOCUMENT, GOLDEN, document, golden

WRITE = "read what has changed, then run: python -m tests.support.target_prompts"


def test_one_photographs_prompts_are_those_that_were_read() -> None:
    assert GOLDEN.read_text() == golden(), WRITE


def test_the_documents_examples_are_what_is_written() -> None:
    assert DOCUMENT.read_text() == document(), WRITE
