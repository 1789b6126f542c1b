"""The label set: five categories, the labels of each, and the text that a label is encoded as."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deployments.data_files import read_mapping, validated

Label = Annotated[str, Field(min_length=1, max_length=200)]


class Category(BaseModel):
    """The labels that compete in one softmax, and how each is worded for CLIP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: tuple[Label, ...] = Field(min_length=1, max_length=1000)
    template: str = "{label}"

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(f"label named twice: {', '.join(repeated)}")
        return labels

    @field_validator("template")
    @classmethod
    def _has_place_for_label(cls, template: str) -> str:
        if "{label}" not in template:
            raise ValueError('the template has no "{label}" in it')
        return template

    def texts(self) -> list[str]:
        """Give the text of each label, in label order."""
        return [self.template.replace("{label}", label) for label in self.labels]


class LabelSet(BaseModel):
    """All five categories. Immutable, so a batch in flight keeps the set it started with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Category
    mood: Category
    composition: Category
    color_palette: Category
    subjects: Category

    def categories(self) -> Iterator[tuple[str, Category, slice]]:
        """Yield each category's name, itself, and its columns in a row of logits."""
        start = 0
        for name in type(self).model_fields:
            category: Category = getattr(self, name)
            stop = start + len(category.labels)
            yield name, category, slice(start, stop)
            start = stop

    def texts(self) -> list[str]:
        """Give every label's text, category after category: the order of a row of logits."""
        return [text for _, category, _ in self.categories() for text in category.texts()]

    @property
    def version(self) -> str:
        """A short digest that changes whenever any label, template or order does."""
        return hashlib.sha256(json.dumps(self.model_dump()).encode()).hexdigest()[:12]


def parse_labels(content: Mapping[str, Any], source: str) -> LabelSet:
    """Check a mapping of category → labels.

    Raises:
        SettingsError: naming `source`, the category and what is wrong with it.
    """
    return validated(LabelSet, content, source)


def load_labels(path: Path) -> LabelSet:
    """Read a label file.

    Raises:
        SettingsError: the file is missing, is not YAML, or does not hold the five categories.
    """
    return parse_labels(read_mapping(path, "Label file", "each category to its labels"), str(path))
