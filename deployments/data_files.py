"""What operators write, labels and targets: read and checked, and what is wrong with it told in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from deployments.errors import SettingsError

Checked = TypeVar("Checked", bound=BaseModel)


class _EachNameOnce(yaml.SafeLoader):
    """YAML's own rule, which PyYAML lets pass: it would take the last of two, and say nothing of the first."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [(name.tag, name.value) for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1} and after: {name[1]!r} stands twice")
        return node


def parse_yaml(text: str) -> Any:
    """Read YAML of plain values.

    Raises:
        YAMLError: it is none, or a mapping has a name twice.
    """
    return yaml.load(text, _EachNameOnce)  # noqa: S506 - it is a safe loader


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
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{called} {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{called} {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{called} {path} must map {maps}.")
    return content
