"""The command line itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli.main import CONFIG_NAME, default_config, main

REPOSITORY = Path(__file__).parents[3]


def test_this_folders_config_comes_before_the_installed_one(tmp_path: Path) -> None:
    assert default_config(tmp_path) == REPOSITORY / CONFIG_NAME
    (tmp_path / CONFIG_NAME).touch()
    assert default_config(tmp_path) == tmp_path / CONFIG_NAME


@pytest.mark.parametrize("wrong", [[], ["paint"], ["analyze"], ["serve", "--start-timeout", "soon"]])
def test_a_wrong_command_line_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2


def test_options_reach_the_service(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "gone.jpg"
    assert main(["analyze", str(picture), "--json", "--deep", "--prompt", "x", "--url", "http://127.0.0.1:1"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "unreadable_file"


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_missing_config_is_an_answer_not_a_traceback(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([command, str(tmp_path / "absent.yaml")]) in (1, 2)
    told = capsys.readouterr()
    assert f"There is no config file {tmp_path}/absent.yaml." in told.out + told.err


def test_it_starts_with_the_standard_library_alone() -> None:
    program = "import sys, serve_app.cli.main, serve_app.cli.doctor; print(sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'serve_app.cli.doctor'" in loaded
    for package in ("httpx", "pydantic", "yaml", "torch", "ray"):
        assert f"'{package}'" not in loaded


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    program = "import sys; from serve_app.cli.main import main; sys.exit(main(sys.argv[1:]))"
    absent = [str(tmp_path / f"{number}.jpg") for number in range(2000)]
    with subprocess.Popen(
        [sys.executable, "-c", program, "analyze", *absent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        complaints = command.stderr.read()
    assert command.returncode == 1
    assert complaints == ""
