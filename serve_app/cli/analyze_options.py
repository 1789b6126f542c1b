"""What may be typed after `image-analyzer analyze`; of the standard library alone, as `main`."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.types import PromptOptions

URL_VARIABLE = "IMAGE_ANALYZER_URL"
"""Environment variable with the service's address, where no `--url` is given."""

API_KEY_VARIABLE = "IMAGE_ANALYZER_API_KEY"
"""Environment variable with the key that the service asks for; an argument would show in the list of processes."""

DEFAULT_URL = "http://127.0.0.1:8000"

DEFAULT_JOBS, MAX_JOBS = 4, 32
"""Pictures on their way at a time: what keeps the default service busy, and what one person may ask of any."""

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "ja", "zh", "ar")

TARGETS = (
    "prose, caption, tags, sd15, sdxl, pony, illustrious, sd35, flux, flux2, qwen_image, z_image, midjourney, gpt_image"
)
"""Those of configs/targets.yaml: a service may have others, and says which when it is asked for one that it lacks."""

EXIT_STATUS = """\
exit status:
  0    every picture was answered
  1    some were not; what went wrong stands on stderr, with --json in the picture's line
  2    wrong usage: no such option, language, target or model, no address, no key that can be sent
  130  Ctrl-C
"""

_EPILOG = f"""\
On a terminal the whole report is printed as it comes. On a pipe or into a file stdout has the prompt alone, a line per
picture in the order of the pictures, and stderr all else; with --json stdout has a line per picture, failures among
them; with --analysis-only it has the report.

  image-analyzer analyze photo.jpg -p "at dusk" -t sdxl
  image-analyzer analyze - < photo.jpg | pbcopy
  image-analyzer analyze photos/ --json | jq -r .generatedPrompt

environment:
  {URL_VARIABLE}      the service's address, where --url is not given
  {API_KEY_VARIABLE}  the key, where the service asks for one
  NO_COLOR                no colours, where it is set

{EXIT_STATUS}"""


def add_analyze(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = commands.add_parser(
        "analyze",
        help="send pictures to a running service",
        description="Send pictures to a running service, and print what it answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a picture, a folder (all pictures below it, sorted), or a pattern ('**/*.jpg'); - is the standard input",
    )
    add("--url", help=f"the service's address (default: {URL_VARIABLE}, else {DEFAULT_URL})")
    add("-p", "--prompt", default="", metavar="TEXT", help="what you want of the picture")
    add("--deep", action="store_true", help="a longer, richer prompt")
    add(
        "-l",
        "--language",
        type=_language,
        choices=LANGUAGES,
        default="en",
        metavar="LANGUAGE",
        help=f"language of the prompt: {', '.join(LANGUAGES)} (default: en)",
    )
    add("--model", default="", metavar="NAME", help="the model that writes, of those that may be asked for")
    add(
        "--vision",
        choices=("auto", "on", "off"),
        default="auto",
        help="whether a model looks at the picture itself: auto where it can and is quick about it",
    )
    add("--seed", type=int, metavar="NUMBER", help="the same number gives much the same prompt again")
    target = add(
        "-t",
        "--target",
        default="",
        metavar="NAME",
        help=f"what the prompt is for: {TARGETS}, or another that the service has",
    )
    target.completer = lambda **_: TARGETS.split(", ")  # type: ignore[attr-defined] # argcomplete's way
    add("--length", choices=("short", "medium", "long"), help="how long the prompt is to be")
    add("--weights", action="store_true", help="weigh labels, where that means something to the target")
    add("--tags", type=int, metavar="NUMBER", help="how many tags are wanted, 0 to 100")
    add("--tag-groups", default="", metavar="A,B", help="the groups that tags are wanted of (default: all)")
    add("--without", default="", metavar="A,B", help="what the prompt is to leave out though it was seen")
    add(
        "--labels",
        type=_own_labels,
        default=(),
        metavar="JSON",
        help='labels of your own to compare with, or a file of them: {"vehicle": ["car", "bicycle"]}',
    )
    add("--negative", action="store_true", help="print the negative prompt too, where there is one")
    add("--analysis-only", action="store_true", help="what is seen in the picture, and no prompt")
    add("--json", action="store_true", help="one JSON object per picture and line")
    add(
        "--jobs",
        type=_jobs,
        default=DEFAULT_JOBS,
        metavar="NUMBER",
        help=f"pictures that are sent at a time, 1 to {MAX_JOBS} (default: {DEFAULT_JOBS})",
    )


def prompt_options(arguments: argparse.Namespace) -> PromptOptions:
    """Give what is asked for besides the pictures."""
    from deployments.types import PromptOptions, listed

    return PromptOptions(
        arguments.prompt,
        arguments.deep,
        arguments.language,
        arguments.analysis_only,
        model=arguments.model,
        seed=arguments.seed,
        vision=arguments.vision,
        target=arguments.target,
        length=arguments.length,
        weights=arguments.weights,
        tags=arguments.tags,
        tag_groups=listed(arguments.tag_groups),
        labels=arguments.labels,
        without=listed(arguments.without),
    )


def _language(tag: str) -> str:
    """Take the language that a tag or a locale's name begins with, as the service does."""
    return re.split("[-_.]", tag.strip(), maxsplit=1)[0].lower()


def _jobs(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MAX_JOBS:
        return int(text)
    raise argparse.ArgumentTypeError(f"write a number from 1 to {MAX_JOBS}")


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
