"""The prototypes of the pixel analyser: per label, what a picture of it measures. The data is in the YAML beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from deployments.clip.pixel_measures import MEASURE_NAMES
from deployments.errors import SettingsError
from deployments.messages import CATEGORIES

DEFAULT_PROTOTYPES = Path(__file__).with_suffix(".yaml")

Target = tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(gt=0)]]
"""Where a measure lies for a label, and the distance from there that counts as one step."""


class Prototype(BaseModel):
    """A label in measures. `doubt` is taken off its logit: how little pixels tell about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: Mapping[str, Target] = Field(min_length=1)
    doubt: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, content: object) -> object:
        """Take the YAML's flat mapping apart into targets and doubt."""
        if not isinstance(content, dict):
            return content
        targets = {name: target for name, target in content.items() if name != "doubt"}
        unknown = sorted(str(name) for name in targets.keys() - set(MEASURE_NAMES))
        if unknown:
            raise ValueError(f"no such measure: {', '.join(unknown)}")
        return {"targets": targets, "doubt": content.get("doubt", 0.0)}


Prototypes = Mapping[str, Mapping[str, Prototype]]
"""Category → label → prototype; the same label may stand in two categories."""

_PROTOTYPES: TypeAdapter[dict[str, dict[str, Prototype]]] = TypeAdapter(dict[str, dict[str, Prototype]])


def load_prototypes(path: Path = DEFAULT_PROTOTYPES) -> Prototypes:
    """Read a prototype file.

    Raises:
        SettingsError: the file cannot be read, or names a category or a measure that there is not.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        prototypes = _PROTOTYPES.validate_python(content)
    except OSError as error:
        raise SettingsError(f"Prototype file {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"Prototype file {path} is not valid YAML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {place}: {first['msg']}.") from error
    unknown = sorted(prototypes.keys() - set(CATEGORIES))
    if unknown:
        raise SettingsError(f"{path}: no such category: {', '.join(unknown)}.")
    return prototypes
