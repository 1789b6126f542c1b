"""Which pictures are meant by what was typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from serve_app.cli.named_pictures import named_pictures

FILES = ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.avif", ".cache/e.jpg", "f[1].jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[None]:
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    with chdir(tmp_path):
        yield


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["notes.txt", "-", "gone.jpg"], ["notes.txt", "-", "gone.jpg"]),
        (["b.JPG", "b.JPG"], ["b.JPG", "b.JPG"]),
        (["."], ["a.png", "b.JPG", "f[1].jpg", "sub/c.webp", "sub/deep/d.avif"]),
        (["sub", "a.png"], ["sub/c.webp", "sub/deep/d.avif", "a.png"]),
        (["empty"], ["empty"]),
        (["*.png", "sub/*.webp"], ["a.png", "sub/c.webp"]),
        (["su*"], ["sub/c.webp", "sub/deep/d.avif"]),
        (["sub/deep/**"], ["sub/deep/d.avif"]),
        (["*.gif"], ["*.gif"]),
        (["f[1].jpg"], ["f[1].jpg"]),
    ],
)
def test_files_folders_and_patterns(typed: list[str], meant: list[str]) -> None:
    assert [str(picture) for picture in named_pictures([*map(Path, typed)])] == meant
