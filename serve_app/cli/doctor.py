"""`image-analyzer doctor`: what a page on verifying a setup has a person check by hand, checked.

Only the standard library is imported until the packages are known to be there.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "image-analyzer"
OLDEST_PYTHON = (3, 11)
SHOWN_PACKAGES = ("ray", "torch", "transformers", "openvino")
INSTALL = "make install (or: pip install -c constraints.txt -e .)"

_REQUIREMENT_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `detail` says what was found; `remedy` what mends it, empty where nothing needs to."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n    → {self.remedy}" if self.remedy else ""
        return f"{'✓' if self.ok else '✗'} {self.name}: {self.detail}{remedy}"

    @property
    def sentence(self) -> str:
        """The same in one, for `serve`, which goes no further."""
        return f"{self.name}: {self.detail}; {self.remedy}."


def doctor(config_file: Path) -> int:
    """Print each finding as it comes; 0 if all is well, 1 if anything is not."""
    return report(examine(config_file))


def report(findings: Iterable[Finding]) -> int:
    """Print findings and a line that sums them up; the exit status."""
    faults = 0
    for finding in findings:
        print(finding, flush=True)
        faults += not finding.ok
    print(f"\n{faults} to mend; → says how." if faults else "\nAll is well.")
    return 1 if faults else 0


def examine(config_file: Path) -> Iterator[Finding]:
    """Check everything, or as far as the checks make sense: without packages or settings the others cannot be made."""
    yield check_python(sys.version_info[:3])
    packages = check_packages(runtime_requirements())
    yield packages
    if packages.ok:
        from serve_app.cli.checks import examine_service

        yield from examine_service(config_file, os.environ)


def check_python(version: tuple[int, ...]) -> Finding:
    """Check the interpreter's version."""
    found = ".".join(map(str, version))
    needed = ".".join(map(str, OLDEST_PYTHON))
    if version >= OLDEST_PYTHON:
        return Finding("Python", True, found)
    return Finding("Python", False, f"{found} is too old", f"install Python {needed} or newer, then: {INSTALL}")


def runtime_requirements() -> list[str]:
    """List the names of the packages that the service needs; empty if it is not itself installed."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (_REQUIREMENT_NAME.match(requirement) for requirement in requirements if "extra ==" not in requirement)
    return [name.group() for name in names if name is not None]


def check_packages(names: Sequence[str], version_of: Callable[[str], str] = importlib.metadata.version) -> Finding:
    """Check that every package is installed."""
    if not names:
        return Finding("Packages", False, f"{DISTRIBUTION} itself is not installed", INSTALL)
    versions: dict[str, str] = {}
    missing: list[str] = []
    for name in names:
        try:
            versions[name] = version_of(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("Packages", False, f"not installed: {', '.join(missing)}", INSTALL)
    return Finding(
        "Packages", True, ", ".join(f"{name} {versions[name]}" for name in SHOWN_PACKAGES if name in versions)
    )
