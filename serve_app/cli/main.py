"""The command line: what may be typed, and which module answers it.

Only the standard library is imported here, so that `doctor` can say which package is missing.
"""

from __future__ import annotations

import argparse
import codecs
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from serve_app.cli.analyze_options import DEFAULT_URL, URL_VARIABLE, add_analyze, prompt_options

EXIT_INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""

CONFIG_NAME = "serve_config.yaml"

_EPILOG = """\
image-analyzer COMMAND --help tells what each takes.

exit status:
  0    well: every picture was answered, the service was stopped as asked
  1    something failed, and said why
  2    wrong usage, or a wrong setting
  130  Ctrl-C
"""


class _Version(argparse.Action):
    """Looks the version up when it is asked for, not at each start."""

    def __init__(self, **more: Any) -> None:
        super().__init__(nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(parser.prog, version(parser.prog))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status.

    0: well. 1: it failed, and said why. 2: it was asked wrongly, or a setting is wrong. 130: Ctrl-C.
    """
    if argv is None and codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
        _begin_again_in_utf_8()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by who started us
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        _replace_unprintable(stream)
    try:
        try:
            return _run(build_parser(), argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this the interpreter complains while it closes stdout.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Describe the command: every subcommand and every option."""
    parser = argparse.ArgumentParser(
        prog="image-analyzer",
        description="A picture goes in; what CLIP sees in it comes out, and a prompt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the service, and stop it whole on Ctrl-C")
    _add_config(serve)
    serve.add_argument(
        "--start-timeout", type=float, default=180, metavar="SECONDS", help="give up on a start after (default: 180)"
    )
    serve.add_argument(
        "--stop-timeout",
        type=float,
        metavar="SECONDS",
        help="how long what was begun may take to finish (default: longer than the longest answer)",
    )
    serve.add_argument("--log-file", type=Path, metavar="FILE", help="append the service's log to this file too")
    serve.add_argument("--verbose", action="store_true", help="show the service's whole log here too")

    serve.add_argument("--dashboard", action="store_true", help="start Ray's dashboard too")
    serve.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="where Prometheus asks, or at the next free port (default: IMAGE_ANALYZER_METRICS, else 127.0.0.1:9464)",
    )

    deploy = commands.add_parser("deploy", help="bring a changed config to the running service")
    _add_config(deploy)
    deploy.add_argument(
        "--timeout",
        type=float,
        default=180,
        metavar="SECONDS",
        help="how long to wait until it holds (default: 180)",
    )

    status = commands.add_parser("status", help="say how the running service and its parts stand")
    _add_config(status)

    doctor = commands.add_parser("doctor", help="check this machine, and say what mends each fault")
    _add_config(doctor)

    add_analyze(commands)

    completion = commands.add_parser(
        "completion",
        help="print what has a shell complete this command",
        description='In ~/.bashrc: eval "$(image-analyzer completion bash)"; in ~/.zshrc, after compinit, the same '
        "with zsh; in ~/.config/fish/config.fish: image-analyzer completion fish | source",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG",
        help=f"Serve config (default: {CONFIG_NAME}, here or installed)",
    )


def default_config(folder: Path) -> Path:
    """Choose the config that is meant when none is named: this folder's, else the one beside the package."""
    here = folder / CONFIG_NAME
    return here if here.is_file() else Path(__file__).parents[2] / CONFIG_NAME


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    match arguments.command:
        case "serve":
            from serve_app.cli.serve import serve

            return serve(
                arguments.config or default_config(Path()),
                start_timeout_s=arguments.start_timeout,
                stop_timeout_s=arguments.stop_timeout,
                log_file=arguments.log_file,
                verbose=arguments.verbose,
                dashboard=arguments.dashboard,
                metrics=arguments.metrics,
            )
        case "deploy":
            from serve_app.cli.operate import deploy

            return deploy(arguments.config or default_config(Path()), timeout_s=arguments.timeout)
        case "status":
            from serve_app.cli.operate import status

            return status(arguments.config or default_config(Path()))
        case "doctor":
            from serve_app.cli.doctor import doctor

            return doctor(arguments.config or default_config(Path()))
        case "completion":
            from argcomplete.shell_integration import shellcode

            print(shellcode([parser.prog], shell=arguments.shell))
            return 0
        case "analyze":
            from serve_app.cli.analyze import analyze

            return analyze(
                arguments.files,
                (os.environ.get(URL_VARIABLE) or DEFAULT_URL) if arguments.url is None else arguments.url,
                prompt_options(arguments),
                as_json=arguments.json,
                negative=arguments.negative,
                jobs=arguments.jobs,
                out=sys.stdout,
                err=sys.stderr,
            )
        case _:
            parser.print_help()
            return 0


def _begin_again_in_utf_8() -> None:
    """Have this process, and Ray's after it, take names and text as UTF-8, where the locale would have them ASCII."""
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same command


def _replace_unprintable(stream: TextIO) -> None:
    """Print a question mark, rather than fail, where the terminal's encoding lacks a character."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
