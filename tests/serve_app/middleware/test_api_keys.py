"""Whose key a token is, and what becomes of a key file that changes under a running service."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from deployments.errors import SettingsError
from serve_app.middleware.auth import KEYS_VARIABLE, ApiKeys

ALICES, BOBS, CAROLS = "a" * 16, "b" * 32, "c" * 64


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.txt"
    file.write_text(f"# who may call\n\nalice {ALICES}  # until spring\n{BOBS}\n")
    return file


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(file: Path, clock: Clock) -> ApiKeys:
    return ApiKeys(file, {}, clock)


def changed(file: Path, text: str, clock: Clock) -> None:
    """Write the file anew and let a second pass; its time is its own even where the system's clock is coarse."""
    file.write_text(text)
    os.utime(file, ns=(0, 1 + int(clock.now_s)))
    clock.now_s += 1


def test_each_key_opens_and_names_its_holder(keys: ApiKeys) -> None:
    assert keys.required
    assert [keys.holder(token) for token in (ALICES, BOBS)] == ["alice", "key 4"]


@pytest.mark.parametrize("token", ["", "a", ALICES[:-1], ALICES + "a", "alice", "#", "clé"])
def test_nothing_else_does(keys: ApiKeys, token: str) -> None:
    assert keys.holder(token) is None


def test_keys_may_come_from_the_environment_too(file: Path) -> None:
    keys = ApiKeys(file, {KEYS_VARIABLE: f"carol {CAROLS}, {'d' * 16}"})
    assert [keys.holder(token) for token in (ALICES, CAROLS, "d" * 16)] == ["alice", "carol", "key 2"]


def test_without_file_and_variable_no_key_is_asked_for() -> None:
    assert not ApiKeys(None, {}).required


def test_a_line_added_opens_and_a_line_removed_closes_within_a_second(keys: ApiKeys, file: Path, clock: Clock) -> None:
    changed(file, f"carol {CAROLS}\n", clock)
    assert [keys.holder(token) for token in (ALICES, CAROLS)] == [None, "carol"]


def test_an_empty_file_lets_nobody_in(file: Path, keys: ApiKeys, clock: Clock) -> None:
    changed(file, "", clock)
    assert keys.required
    assert keys.holder(ALICES) is None


@pytest.mark.parametrize(
    "text", ["bob short\n", f"bob {'é' * 16}\n", f"two words {BOBS}\n", f"bob {BOBS}\nbob {CAROLS}\n"]
)
def test_a_file_that_becomes_wrong_leaves_the_keys_as_they_were_and_the_log_says_so_once(
    text: str, file: Path, keys: ApiKeys, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    changed(file, text, clock)
    for _ in range(5):
        assert keys.holder(ALICES) == "alice"
        clock.now_s += 1
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert str(file) in record.getMessage()
    assert not any(key in caplog.text for key in (ALICES, BOBS, CAROLS, "short"))


def test_a_file_that_is_gone_for_a_moment_locks_nobody_out(file: Path, keys: ApiKeys, clock: Clock) -> None:
    text = file.read_text()
    file.unlink()
    clock.now_s += 1
    assert keys.holder(ALICES) == "alice"
    changed(file, text + f"carol {CAROLS}\n", clock)
    assert keys.holder(CAROLS) == "carol"


def test_a_file_that_is_wrong_at_the_start_stops_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"keys\.txt cannot be read \(No such file"):
        ApiKeys(tmp_path / "keys.txt", {})
    with pytest.raises(SettingsError, match="at least 16 characters"):
        ApiKeys(None, {KEYS_VARIABLE: "secret"})


def test_no_key_is_kept_in_the_clear(keys: ApiKeys) -> None:
    assert ALICES not in repr(vars(keys))
