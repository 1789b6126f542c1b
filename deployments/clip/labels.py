"""The label set: its categories, the labels of each, and the texts that a label is encoded as."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    field_validator,
    model_validator,
)

from deployments.data_files import read_mapping, validated
from deployments.types import CATEGORIES, CategoryName, OwnLabels

MOST_CATEGORIES = 32
"""Every answer carries each of them, and every picture is compared with each: a page shows no more."""

MOST_TEXTS = 10_000
"""Labels, times the templates of their category. They are encoded before they hold, at some 18 ms each on two cores:
so many take three minutes, for which a start or a change waits."""

MOST_KEPT = 50
"""Labels that a category may keep: what is below is noise, and every answer carries it."""

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Template = Annotated[str, StringConstraints(max_length=200)]


class Category(BaseModel):
    """The labels that compete in one softmax, and how each is worded for CLIP.

    Args:
        templates: each makes a text of a label, whose embeddings are averaged; in a file also `template`, for one.
        top: how many labels answers keep; the setting `clip.top_labels` where None.
        prompt: whether it is told in prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: tuple[Label, ...] = Field(min_length=1, max_length=1000)
    templates: tuple[Template, ...] = Field(("{label}",), min_length=1)
    top: int | None = Field(None, ge=1, le=MOST_KEPT)
    prompt: bool = True

    @model_validator(mode="before")
    @classmethod
    def _several_templates(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "template" not in content:
            return content
        if "templates" in content:
            raise ValueError("it has template and templates: keep one of them")
        return {name: said for name, said in content.items() if name != "template"} | {
            "templates": [content["template"]]
        }

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        # CLIP reads small letters only.
        said = [label.casefold() for label in labels]
        repeated = sorted({label for label, folded in zip(labels, said, strict=True) if said.count(folded) > 1})
        if repeated:
            raise ValueError(f"label named twice: {', '.join(repeated)}")
        return labels

    @field_validator("templates")
    @classmethod
    def _have_place_for_label(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if any("{label}" not in template for template in templates):
            raise ValueError('the template has no "{label}" in it')
        return templates

    def texts(self) -> list[str]:
        """Give the texts of each label, those of the first label first."""
        return [template.replace("{label}", label) for label in self.labels for template in self.templates]


class LabelSet(RootModel[Mapping[CategoryName, Category]]):
    """All categories. Immutable, so a batch in flight keeps the set it started with."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _within_bounds(self) -> LabelSet:
        if not self.root:
            raise ValueError("name one category at least")
        if len(self.root) > MOST_CATEGORIES:
            raise ValueError(f"{len(self.root)} categories are too many: {MOST_CATEGORIES} at most")
        if (texts := len(self.texts())) > MOST_TEXTS:
            raise ValueError(f"{texts} texts are too many, labels times templates: {MOST_TEXTS} at most")
        return self

    @property
    def left_out(self) -> tuple[str, ...]:
        """The categories that clients rely on and that are not here."""
        return tuple(name for name in CATEGORIES if name not in self.root)

    @property
    def count(self) -> int:
        """How many labels there are in all: the length of a row of logits."""
        return sum(len(category.labels) for category in self.root.values())

    def categories(self) -> Iterator[tuple[str, Category, slice]]:
        """Yield each category's name, itself, and its columns in a row of logits; those of the contract first."""
        start = 0
        for name in (*CATEGORIES, *(name for name in self.root if name not in CATEGORIES)):
            if category := self.root.get(name):
                stop = start + len(category.labels)
                yield name, category, slice(start, stop)
                start = stop

    def texts(self) -> list[str]:
        """Give the texts of every label, in the order of a row of logits; as many of each as it has templates."""
        return [text for _, category, _ in self.categories() for text in category.texts()]

    def of_labels(self, of_texts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make each label's embedding of those of its texts.

        Args:
            of_texts: float32, (features, texts), in the order of `texts()`.

        Returns:
            float32, (features, labels), in the order of a row of logits.
        """
        made, start = [], 0
        for _, category, _ in self.categories():
            stop = start + len(category.labels) * len(category.templates)
            made.append(averaged(of_texts[:, start:stop], len(category.templates)))
            start = stop
        return np.concatenate(made, axis=1)

    @property
    def version(self) -> str:
        """A short digest that changes whenever any label, template or order does."""
        content = [(name, category.model_dump()) for name, category, _ in self.categories()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def averaged(of_texts: NDArray[np.float32], templates: int) -> NDArray[np.float32]:
    """Give the mean direction of each label's texts, as long as the first of them is.

    So CLIP's authors put templates together (Radford et al. 2021, 3.1.4): it costs nothing once it is made.

    Args:
        of_texts: float32, (features, labels * templates), the texts of a label side by side.
        templates: how many texts each label has.

    Returns:
        float32, (features, labels); with one template what came.
    """
    if templates == 1:
        return of_texts
    apart = of_texts.reshape(len(of_texts), -1, templates)
    means = apart.mean(axis=2)
    averages: NDArray[np.float32] = means * (np.linalg.norm(apart[:, :, 0], axis=0) / np.linalg.norm(means, axis=0))
    return averages


def parse_labels(content: Mapping[str, Any], source: str) -> LabelSet:
    """Check a mapping of category → labels.

    Raises:
        SettingsError: naming `source`, the category and what is wrong with it.
    """
    return validated(LabelSet, content, source)


def own_label_set(labels: OwnLabels) -> LabelSet:
    """Give the label set of a caller's own labels, worded as they are."""
    return LabelSet.model_validate({category: {"labels": phrases} for category, phrases in labels})


def load_labels(path: Path) -> LabelSet:
    """Read a label file.

    Raises:
        SettingsError: the file is missing, is not YAML, or holds something that is no category.
    """
    return parse_labels(read_mapping(path, "Label file", "each category to its labels"), str(path))
