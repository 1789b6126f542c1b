from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from deployments.ollama.budget import COUNTS, MERGES_FILE, answer_tokens, clip_tokens, words_asked


@pytest.fixture(scope="module")
def reference() -> CLIPTokenizer:
    merges = [tuple(line.split()) for line in gzip.decompress(MERGES_FILE.read_bytes()).decode().split("\n")]
    characters = sorted(ByteLevel.alphabet())
    ends = [f"{character}</w>" for character in characters]
    tokens = [*characters, *ends, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == 49408, "the published vocabulary has so many"
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,  # type: ignore[arg-type]  # transformers annotates `list[str]`, and takes only pairs.
    )


PROMPT_TEXT = st.text(st.sampled_from("aeinorst ,.'()\\:-_09AÉé狼ー👍<|>")) | st.text()


@given(PROMPT_TEXT)
def test_tokens_are_counted_as_transformers_counts_them(reference: CLIPTokenizer, text: str) -> None:
    assert clip_tokens(text) == len(reference(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a photo of a cat", 5),
        ("a photo of a cat, a photo of a dog", 11),
        ("score_9, score_8_up", 9),
        ("Photorealistic LANDSCAPE", 3),
    ],
)
def test_tokens_are_those_of_the_published_model(text: str, tokens: int) -> None:
    assert clip_tokens(text) == tokens


@pytest.mark.parametrize(
    ("unit", "text", "count"),
    [
        ("words", "a red fox, in the snow.", 6),
        ("words", "狼がいる。", 4),
        ("characters", "a fox", 5),
        ("phrases", "", 0),
        ("phrases", "fox, snow", 2),
    ],
)
def test_other_units_are_counted_by_rule(unit: str, text: str, count: int) -> None:
    assert COUNTS[unit](text) == count  # type: ignore[index]


def test_a_model_is_asked_for_what_fits_beside_the_fixed_parts() -> None:
    assert words_asked("clip_tokens", 75, "") == 52
    assert words_asked("clip_tokens", 75, "masterpiece, best quality") == 49
    assert words_asked("words", 2, "so many fixed words") == 1
    assert answer_tokens(52) == 130
    assert answer_tokens(1) == 48
