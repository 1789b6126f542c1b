"""Which services this user runs on this machine: one file each, by port, for the command in another terminal."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from deployments.errors import SettingsError


class RunningService(BaseModel):
    """What another terminal needs in order to reach a service's Ray."""

    process: int
    ray_address: str
    environment: Mapping[str, str]
    """What Ray's processes were started with, its token too."""

    @property
    def alive(self) -> bool:
        """Whether the command that wrote this still runs."""
        try:
            os.kill(self.process, 0)
        except OSError:
            return False
        return True


def folder() -> Path:
    """Give the folder of these files; made for this user alone, since they hold Ray's token.

    Raises:
        SettingsError: it is another's, or others may write there.
    """
    path = Path(tempfile.gettempdir()) / f"image-analyzer-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise SettingsError(f"{path} is not this user's alone: remove it, or set TMPDIR to another folder.")
    return path


@contextmanager
def listed(port: int, service: RunningService) -> Iterator[None]:
    """List a service for as long as the block runs."""
    file = folder() / f"{port}.json"
    file.write_text(service.model_dump_json())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def service_at(port: int) -> RunningService | None:
    """Give the service of this user that listens on a port, if its command still runs."""
    try:
        service = RunningService.model_validate_json((folder() / f"{port}.json").read_text())
    except (OSError, ValidationError):
        return None
    return service if service.alive else None
