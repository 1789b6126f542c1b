"""The command line itself."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest

from deployments.ollama.settings import DEFAULT_TARGETS_FILE
from deployments.ollama.targets import load_targets
from deployments.types import Language, PromptOptions
from serve_app.cli.analyze_options import prompt_options
from serve_app.cli.main import CONFIG_NAME, build_parser, default_config, main

REPOSITORY = Path(__file__).parents[3]


def test_this_folders_config_comes_before_the_installed_one(tmp_path: Path) -> None:
    assert default_config(tmp_path) == REPOSITORY / CONFIG_NAME
    (tmp_path / CONFIG_NAME).touch()
    assert default_config(tmp_path) == tmp_path / CONFIG_NAME


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["paint"], "choose from"),
        (["analyze"], "FILE"),
        (["serve", "--start-timeout", "soon"], "soon"),
        (["analyze", "x.jpg", "--language", "tlh"], "-l/--language: invalid choice: 'tlh' (choose from "),
        (["analyze", "x.jpg", "--jobs", "0"], "--jobs: write a number from 1 to 32"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_a_wrong_command_line_is_refused(wrong: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_the_bare_command_is_help_with_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for said in ("usage: image-analyzer", "send pictures to a running service", "exit status:", "130  Ctrl-C"):
        assert said in told.out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"image-analyzer {version('image-analyzer')}\n")


def test_help_lists_languages_shipped_targets_and_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    targets = ", ".join(load_targets(DEFAULT_TARGETS_FILE).root)
    for said in (", ".join(get_args(Language)), targets, "IMAGE_ANALYZER_URL", "IMAGE_ANALYZER_API_KEY", "-p TEXT"):
        assert said in told


@pytest.mark.parametrize("typed", ["pt-BR", "pt_BR.UTF-8", " PT "])
def test_a_language_is_taken_by_its_tag_and_short_options_reach_the_service(typed: str) -> None:
    given = build_parser().parse_args(["analyze", "x.jpg", "-l", typed, "-t", "sdxl", "-p", "dusk", "--analysis-only"])
    wish = PromptOptions("dusk", language="pt", target="sdxl", analysis_only=True)
    assert prompt_options(given) == wish


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("image-analyzer com", ["completion"]),
        ("image-analyzer analyze -l p", ["pt"]),
        ("image-analyzer analyze --target fl", ["flux", "flux2"]),
        ("image-analyzer analyze --anal", ["--analysis-only"]),
    ],
)
def test_a_shell_completes_it(line: str, completions: list[str]) -> None:
    """As bash does after `eval "$(image-analyzer completion bash)"`."""
    script = f"""
        image-analyzer() {{ {sys.executable} -m serve_app.cli.main "$@"; }}
        eval "$(image-analyzer completion bash)"
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_WORDBREAKS=' '
        _python_argcomplete image-analyzer
        printf '%s\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert [found.rstrip() for found in done.stdout.splitlines()] == completions


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "image-analyzer" in capsys.readouterr().out


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
        [sys.executable, "-c", program, "analyze", "--json", *absent],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        complaints = command.stderr.read()
    assert command.returncode == 1
    assert complaints == ""
