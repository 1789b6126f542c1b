"""The service's log, followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli.service_log import ServiceLog, error_in, tells_deploy_failed, tells_trouble


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ServiceLog]:
    log = ServiceLog(tmp_path / "log", max_bytes=100)
    yield log
    log.close()


def write(log: ServiceLog, text: bytes) -> None:
    log.sink.write(text)
    log.sink.flush()


def test_whole_lines_are_given_once_and_without_colours(log: ServiceLog) -> None:
    write(log, b"\x1b[36mone\x1b[0m\ntw")
    first = log.new_lines()
    write(log, b"o\n")

    assert (first, log.new_lines(), log.new_lines()) == (["one"], ["two"], [])


def test_the_file_does_not_grow_without_end(log: ServiceLog) -> None:
    given: list[str] = []
    for number in range(100):
        write(log, f"line {number}\n".encode())
        given += log.new_lines()

    assert given == [f"line {number}" for number in range(100)]
    assert log.path.stat().st_size < 200


def test_an_earlier_run_s_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    log = ServiceLog(tmp_path / "log")
    write(log, b"new\n")
    log.close()

    assert (tmp_path / "log").read_text() == "new\n"


def test_without_a_name_every_run_has_a_file_of_its_own() -> None:
    logs = [ServiceLog(), ServiceLog()]
    try:
        assert logs[0].path != logs[1].path
    finally:
        for log in logs:
            log.close()
            log.path.unlink()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("(ServeController pid=7) AttributeError: no attribute 'find'", "AttributeError: no attribute 'find'"),
        (
            "(ServeController pid=7) deployments.errors.SettingsError: Set it.",
            "Set it.",
        ),
        ("ValueError: no such model", "ValueError: no such model"),
        ("(ServeController pid=7) RuntimeError: Traceback (most recent call last):", None),
        ("(ServeController pid=7) ray.exceptions.RayTaskError(RuntimeError): ray::Replica", None),
        ('    raise ValueError("no: such")', None),
        ("(ProxyActor pid=3) INFO all is well", None),
    ],
)
def test_the_error_is_found_in_a_traceback(line: str, error: str | None) -> None:
    assert error_in(line) == error


def test_serves_verdict_is_recognised() -> None:
    assert tells_deploy_failed("ERROR controller 7 -- Failed to update the deployments ['ClipDeployment'].")
    assert not tells_deploy_failed("INFO controller 7 -- Deploying new app 'image-analyzer'.")


def test_only_the_services_own_parts_make_trouble_worth_showing() -> None:
    assert tells_trouble("(ServeReplica:image-analyzer:Ingress pid=6) ERROR 2026 x -- Request failed")
    assert not tells_trouble("(ServeReplica:image-analyzer:Ingress pid=6) INFO 2026 x -- POST 200")
    assert not tells_trouble("(ServeController pid=6) WARNING 2026 x -- slow start")
