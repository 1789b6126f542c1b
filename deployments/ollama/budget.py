"""How long a prompt is, as its generator counts it.

CLIP's own tokenizer counts for the generators that read with CLIP, from the vocabulary of OpenAI's release, which lies
beside this module: 204 KiB, with no hub, no import of transformers, and the same where CLIP itself is on its stand-in.
The packages that carry it are a Rust extension without a release since 2023 (instant-clip-tokenizer) and one that
brings torchvision and timm (open_clip_torch).
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from deployments.ollama.answer import UNIT

Unit = Literal["clip_tokens", "words", "characters", "phrases"]

MERGES_FILE = Path(__file__).parent / "clip_vocabulary" / "merges.txt.gz"
WORD_END, BEGIN, END = "</w>", "<|startoftext|>", "<|endoftext|>"
SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

WORDS_PER: Mapping[Unit, float] = {"clip_tokens": 0.7, "words": 1.0, "characters": 0.16, "phrases": 2.0}
"""How many words a model is asked for per unit: estimates, not measured; what does not fit is left out anyway."""

ANSWER_TOKENS_PER_WORD = 2.5
"""Tokens of a language model's per word asked for: an estimate with room to end, not measured in any language yet."""

LEAST_ANSWER_TOKENS = 48
"""A model that is asked for little still says a sentence, and perhaps a lead-in."""


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """Build CLIP's tokenizer, once: 0.06 s of CPU. It cuts nothing off and adds no bounds."""
    lines = gzip.decompress(MERGES_FILE.read_bytes()).decode().split("\n")
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *characters,
        *(f"{character}{WORD_END}" for character in characters),
        *(left + right for left, right in merges),
        *(BEGIN, END),
    ]
    tokenizer = Tokenizer(
        BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges,
            end_of_word_suffix=WORD_END,
            continuing_subword_prefix="",
            unk_token=END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def clip_tokens(text: str) -> int:
    """Count the tokens that CLIP reads, without the two that stand at its bounds."""
    return len(clip_tokenizer().encode(text, add_special_tokens=False))


def words(text: str) -> int:
    """Count words; in Japanese and Chinese, characters."""
    return len(UNIT.findall(text))


def phrases(text: str) -> int:
    """Count what commas part."""
    return text.count(", ") + bool(text)


COUNTS: Mapping[Unit, Callable[[str], int]] = {
    "clip_tokens": clip_tokens,
    "words": words,
    "characters": len,
    "phrases": phrases,
}


def words_asked(unit: Unit, limit: int, fixed: str) -> int:
    """Say how many words a model is to write so that they fit beside the fixed parts."""
    return max(int((limit - COUNTS[unit](fixed)) * WORDS_PER[unit]), 1)


def answer_tokens(words: int) -> int:
    """Give Ollama's `num_predict` for an answer of so many words."""
    return max(int(words * ANSWER_TOKENS_PER_WORD), LEAST_ANSWER_TOKENS)
