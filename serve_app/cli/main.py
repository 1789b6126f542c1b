"""The command line: what may be typed, and which module answers it.

Only the standard library is imported here, so that `doctor` can say which package is missing.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

EXIT_INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""

CONFIG_NAME = "serve_config.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status.

    0: well. 1: it failed, and said why. 2: it was asked wrongly, or a setting is wrong. 130: Ctrl-C.
    """
    if argv is None and codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
        _begin_again_in_utf_8()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - closed by who started us
    sys.stderr = sys.stderr or sys.stdout
    for stream in (sys.stdout, sys.stderr):
        _replace_unprintable(stream)
    arguments = build_parser().parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this the interpreter complains while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Describe the command: every subcommand and every option."""
    parser = argparse.ArgumentParser(
        prog="image-analyzer", description="A picture goes in; what CLIP sees in it comes out, and a prompt."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

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

    analyze = commands.add_parser("analyze", help="send pictures to a running service")
    analyze.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a picture; - is the standard input")
    analyze.add_argument("--url", default="http://127.0.0.1:8000", help="the service's address (default: %(default)s)")
    analyze.add_argument("--prompt", default="", metavar="TEXT", help="what you want of the picture")
    analyze.add_argument("--deep", action="store_true", help="a longer, richer prompt")
    analyze.add_argument("--language", default="en", help="language of the prompt (default: en)")
    analyze.add_argument(
        "--model", default="", metavar="NAME", help="the model that writes, of those that may be asked for"
    )
    analyze.add_argument(
        "--vision",
        choices=("auto", "on", "off"),
        default="auto",
        help="whether a model looks at the picture itself: auto where it can and is quick about it",
    )
    analyze.add_argument("--seed", type=int, metavar="NUMBER", help="the same number gives much the same prompt again")
    analyze.add_argument(
        "--target", default="", metavar="NAME", help="what the prompt is for: sdxl, flux, midjourney, tags, …"
    )
    analyze.add_argument("--length", choices=("short", "medium", "long"), help="how long the prompt is to be")
    analyze.add_argument(
        "--weights", action="store_true", help="weigh labels, where that means something to the target"
    )
    analyze.add_argument("--tags", type=int, metavar="NUMBER", help="how many tags are wanted, 0 to 100")
    analyze.add_argument(
        "--tag-groups", default="", metavar="A,B", help="the groups that tags are wanted of (default: all)"
    )
    analyze.add_argument(
        "--labels",
        type=_own_labels,
        default=(),
        metavar="JSON",
        help='labels of your own to compare with, or a file of them: {"vehicle": ["car", "bicycle"]}',
    )
    analyze.add_argument("--negative", action="store_true", help="print the negative prompt too, where there is one")
    analyze.add_argument("--json", action="store_true", help="one JSON object per picture and line")
    return parser


def _own_labels(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Take JSON, or the name of a file of it; what it may say is the service's to tell."""
    try:
        content = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        return tuple((category, tuple(map(str, phrases))) for category, phrases in json.loads(content).items())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        how = 'write category to phrases as JSON, {"vehicle": ["car", "bicycle"]}, or name a file of it'
        raise argparse.ArgumentTypeError(f"{how} ({error})") from error


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


def _run(arguments: argparse.Namespace) -> int:
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
        case _:
            from deployments.types import PromptOptions
            from serve_app.cli.analyze import analyze

            return analyze(
                arguments.files,
                arguments.url,
                PromptOptions(
                    arguments.prompt,
                    arguments.deep,
                    arguments.language,
                    model=arguments.model,
                    seed=arguments.seed,
                    vision=arguments.vision,
                    target=arguments.target,
                    length=arguments.length,
                    weights=arguments.weights,
                    tags=arguments.tags,
                    tag_groups=tuple(filter(None, map(str.strip, arguments.tag_groups.split(",")))),
                    labels=arguments.labels,
                ),
                as_json=arguments.json,
                negative=arguments.negative,
            )


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
