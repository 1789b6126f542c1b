"""What the hub says of a model: the commit of its main branch, and size and digest of each file to fetch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants

from deployments.clip.download_failures import no_hub
from deployments.clip.weights import WeightsUnavailable, files_to_load, missing_file

_SHA256_DIGITS = 2 * hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub announces it; `digest` is the SHA-256 of a large file, the git SHA-1 of a small one."""

    name: str
    size_bytes: int
    digest: str

    def is_whole(self, path: Path) -> bool:
        """Whether the file at `path` is this one, byte for byte."""
        with path.open("rb") as content:
            if len(self.digest) == _SHA256_DIGITS:
                return hashlib.file_digest(content, "sha256").hexdigest() == self.digest
            git_object = b"blob %d\0" % path.stat().st_size + content.read()
            return hashlib.sha1(git_object, usedforsecurity=False).hexdigest() == self.digest


def announced_files(model: str, hub: str) -> tuple[str, list[HubFile]]:
    """Ask the hub at this address for the newest commit, and for those of its files that loading needs.

    Raises:
        WeightsUnavailable: the repository lacks a file, or no hub answers there.
        OSError, httpx2.RequestError: as `download_failures.explain` takes them.
    """
    try:
        info = HfApi(endpoint=hub).model_info(model, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (ValueError, KeyError, TypeError) as error:
        raise no_hub(hub) from error
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    missing = missing_file(siblings)
    if missing is not None:
        raise WeightsUnavailable(
            f"'{model}' on the hub at {hub} has no {missing}.",
            "Set clip.model to a CLIP model with PyTorch weights.",
            permanent=True,
        )
    files = []
    for name in files_to_load(siblings):
        sibling = siblings[name]
        digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
        if info.sha is None or sibling.size is None or digest is None:
            raise no_hub(hub)
        files.append(HubFile(name, sibling.size, digest))
    return str(info.sha), files
