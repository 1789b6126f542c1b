"""The caller's own words (`user_prompt`), made safe to put into a text that is ours."""

from __future__ import annotations

import unicodedata

FENCE_OPEN = "<wish>"
FENCE_CLOSE = "</wish>"

# The fence is made of angle brackets. Square ones go too: Ollama's tokenizer takes "[INST]" or "<|im_start|>"
# inside a message for the model's own turn markers.
HARMLESS = str.maketrans("<>[]", "‹›()")

UNPRINTABLE = frozenset({"Cc", "Cs"})
"""Unicode categories that no sentence needs: controls, and halves of a surrogate pair, which UTF-8 cannot carry."""


def plain(user_prompt: str) -> str:
    """Give the text as one line, without control characters."""
    line = " ".join(user_prompt.split())
    return "".join(char for char in line if unicodedata.category(char) not in UNPRINTABLE).strip()


def fenced(user_prompt: str) -> str:
    """Give the text as one line between `<wish>` and `</wish>`, with no way in it to close the fence."""
    return f"{FENCE_OPEN}{plain(user_prompt).translate(HARMLESS)}{FENCE_CLOSE}"
