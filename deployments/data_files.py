"""What operators write, labels and targets: read and checked, and what is wrong with it told in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from deployments.errors import SettingsError

Checked = TypeVar("Checked", bound=BaseModel)


def validated(kind: type[Checked], content: Mapping[str, Any], source: str) -> Checked:
    """Check a mapping against its model.

    Raises:
        SettingsError: naming `source`, the field and what is wrong with it.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SettingsError.of(source, error) from error


def read_mapping(path: Path, called: str, maps: str) -> Mapping[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: of the file.
        called: what kind of file it is, with a capital.
        maps: what it must map to what, as its writer is told.

    Raises:
        SettingsError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{called} {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{called} {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{called} {path} must map {maps}.")
    return content
