"""Which files a CLIP model is loaded from, and whether this machine has them all."""

from __future__ import annotations

import json
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

CONFIG_FILE = "config.json"
IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""transformers reads either; folders saved by a recent `CLIPProcessor` hold only the second."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
WEIGHT_SETS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)
"""The same weights in four packings, best first: safetensors runs no code and maps into memory."""
CLIP_MODEL_TYPE = "clip"


class WeightsUnavailable(Exception):
    """There are no weights to load.

    `sentence` says what is wrong, `remedy` what a person can do; `permanent` is true where trying again
    cannot help until a setting changes.
    """

    def __init__(self, sentence: str, remedy: str, permanent: bool) -> None:
        super().__init__(sentence, remedy, permanent)
        self.sentence = sentence
        self.remedy = remedy
        self.permanent = permanent

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


def weight_files(names: Collection[str]) -> list[str]:
    """Choose the best packing of the weights that these files hold; empty when they hold none."""
    for patterns in WEIGHT_SETS:
        matches = [sorted(name for name in names if fnmatch(name, pattern)) for pattern in patterns]
        if all(matches):
            return [name for matching in matches for name in matching]
    return []


def files_to_load(names: Collection[str]) -> list[str]:
    """Choose, from the files of a model, those that loading reads: `config.json` first, the weights last."""
    small = (CONFIG_FILE, *IMAGE_PROCESSOR_FILES, *TOKENIZER_FILES)
    return [*(name for name in small if name in names), *weight_files(names)]


def missing_file(names: Collection[str]) -> str | None:
    """Name the first kind of file that a model with these files lacks; None when it is whole."""
    if CONFIG_FILE not in names:
        return CONFIG_FILE
    if not any(name in names for name in IMAGE_PROCESSOR_FILES):
        return IMAGE_PROCESSOR_FILES[0]
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"}.issubset(names):
        return "tokenizer.json (or vocab.json and merges.txt)"
    if not weight_files(names):
        return "model.safetensors (or pytorch_model.bin)"
    return None


def require_clip(config_file: Path, model: str) -> None:
    """Check that a `config.json` describes a CLIP model.

    Raises:
        WeightsUnavailable: it does not; the sentence says what it describes instead.
    """
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise WeightsUnavailable(
            f"The {CONFIG_FILE} of '{model}' is not a model's configuration ({error}).",
            "Set clip.model to a CLIP model.",
            permanent=True,
        ) from error
    if model_type != CLIP_MODEL_TYPE:
        raise WeightsUnavailable(
            f"'{model}' is a model of type '{model_type}', not of the CLIP family.",
            "Set clip.model to a CLIP model.",
            permanent=True,
        )


def find_weights(model: str, cache_dir: Path | None = None) -> Path | None:
    """Find the folder of a complete local copy; never touches the network.

    Args:
        model: an existing folder, or a name on the hub.
        cache_dir: the hub cache; huggingface_hub's own when None.

    Returns:
        The folder to load from, or None when a hub model is not, or not wholly, in the cache.

    Raises:
        WeightsUnavailable: the folder lacks a file (not permanent: it may still be being copied), the name
            is neither a folder nor a hub name, or the model is not a CLIP model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = _missing_in(folder)
        if missing is not None:
            raise WeightsUnavailable(
                f"The model folder {folder} has no {missing}.",
                "Copy the missing file there, or set clip.model to another model.",
                permanent=False,
            )
    else:
        cached_config = _cached_config(model, cache_dir)
        if cached_config is None or _missing_in(cached_config.parent) is not None:
            return None
        folder = cached_config.parent
    require_clip(folder / CONFIG_FILE, model)
    return folder


def _cached_config(model: str, cache_dir: Path | None) -> Path | None:
    try:
        cached = try_to_load_from_cache(model, CONFIG_FILE, cache_dir=cache_dir)
    except HFValidationError as error:
        raise WeightsUnavailable(
            f"clip.model is '{model}': there is no such folder, and it is no name on a hub (owner/name).",
            "Correct clip.model.",
            permanent=True,
        ) from error
    return Path(cached) if isinstance(cached, str) else None


def _missing_in(folder: Path) -> str | None:
    names = {file.name for file in folder.iterdir() if file.is_file()}
    missing = missing_file(names)
    if missing is not None:
        return missing
    index_name = next((name for name in weight_files(names) if name.endswith(".index.json")), None)
    if index_name is None:
        return None
    try:
        shards = set(json.loads((folder / index_name).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, TypeError, KeyError):
        return f"readable {index_name}"
    return min(shards - names, default=None)
