"""What a generator wants to be told, as data: one entry of `configs/targets.yaml` per target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from deployments.data_files import read_mapping, validated
from deployments.errors import SettingsError
from deployments.ollama.budget import COUNTS, Unit
from deployments.types import PROSE, Language, Length, TargetFacts

Words = Annotated[str, Field(min_length=1, max_length=200)]

FIXED_SHARE = 0.5
"""The constant parts may take so much of a budget: what is left must still say what the picture shows."""

BLANK = re.compile(r"\{(\w+)\}")
BLANKS = frozenset({"aspect_ratio", "unwanted", "palette", "light"})
"""What our code fills in, besides the target's own choices; a part with an empty blank is left out."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Data):
    """How long the whole prompt may be, fixed parts included, for each length."""

    unit: Unit
    short: int = Field(ge=1)
    medium: int = Field(ge=1)
    long: int = Field(ge=1)

    def limit(self, length: Length) -> int:
        """Give the most units of a prompt of this length."""
        return {"short": self.short, "medium": self.medium, "long": self.long}[length]


class Choice(_Data):
    """A word that depends on what is surely seen: that of the first such label which stands here, or the default."""

    labels: Mapping[str, Words]
    default: str = ""


class Part(_Data):
    """A fixed part that is left out where one of these words is said: for one before the words, by wish or labels."""

    text: Words
    unless: tuple[Words, ...] = ()


class Negative(_Data):
    """What a negative prompt is composed from."""

    always: tuple[Words, ...] = ()
    opposites: bool = True


class Target(_Data):
    """One generator, or one purpose."""

    title: Words
    help: Words
    shape: Literal["prose", "sentences", "phrases", "tags"] = Field(
        description="`prose`: today's answer, as it comes. `sentences`; `phrases`, parted by commas; `tags`: the "
        "labels, by rule and without a model."
    )
    ask: str = Field("", max_length=1000, description="The last note to the model; `{words}` is what fits: `75 words`.")
    before: tuple[Part, ...] = ()
    after: tuple[Part, ...] = ()
    choices: Mapping[str, Choice] = {}
    budget: Budget | None = None
    languages: tuple[Language, ...] = ("en",)
    negative: Negative | None = None
    brackets: Literal["plain", "weights"] = "plain"
    parameters: bool = Field(False, description="Whether `--name` in a text is an order to the generator.")
    sizes: tuple[Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")], ...] = ()

    @field_validator("before", "after", mode="before")
    @classmethod
    def _as_parts(cls, parts: Any) -> Any:
        if not isinstance(parts, list | tuple):
            return parts
        return [{"text": part} if isinstance(part, str) else part for part in parts]

    @field_validator("languages")
    @classmethod
    def _has_one(cls, languages: tuple[Language, ...]) -> tuple[Language, ...]:
        if not languages:
            raise ValueError("name one language at least")
        return languages

    @model_validator(mode="after")
    def _fits_together(self) -> Target:
        if (self.shape == "prose") != (self.budget is None):
            raise ValueError("shape prose has no budget, and every other shape has one")
        if self.shape == "prose" and (self.before or self.after):
            raise ValueError("shape prose has no fixed parts: take sentences")
        if any("palette" in BLANK.findall(part.text) for part in self.before):
            raise ValueError("{palette} stands after the words: it has the colours that they do not name")
        known = BLANKS | self.choices.keys()
        for part in (*self.before, *self.after):
            for blank in BLANK.findall(part.text):
                if blank not in known:
                    raise ValueError(f"nothing fills {{{blank}}}: give it choices, or take one of {_listed(BLANKS)}")
        if self.budget is not None:
            fixed = ", ".join(BLANK.sub("", part.text) for part in (*self.before, *self.after))
            least = min(self.budget.short, self.budget.medium, self.budget.long)
            if COUNTS[self.budget.unit](fixed) > least * FIXED_SHARE:
                raise ValueError(f"the fixed parts take more than half of the smallest budget, {least}")
        return self

    @property
    def weighs(self) -> bool:
        """Whether `(words:1.2)` means something to it."""
        return self.brackets == "weights"

    def fills(self, blank: str) -> bool:
        """Whether a fixed part has this blank."""
        return any(blank in BLANK.findall(part.text) for part in (*self.before, *self.after))

    def facts(self, name: str) -> TargetFacts:
        """Give what a page or a tool is told of it."""
        budget = self.budget
        return TargetFacts(
            name=name,
            title=self.title,
            help=self.help,
            shape=self.shape,
            languages=self.languages,
            negative=self.negative is not None,
            weights=self.weighs,
            unit=budget.unit if budget else None,
            limits={"short": budget.short, "medium": budget.medium, "long": budget.long} if budget else {},
        )


class TargetSet(RootModel[Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Target]]):
    """All targets, by the name that a form field takes. Immutable: a prompt in flight keeps the one it has."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _has_todays(self) -> TargetSet:
        if PROSE not in self.root or self.root[PROSE].shape != "prose":
            raise ValueError("prose must be there, of shape prose: what nobody asks for must stay what it is")
        return self

    def named(self, name: str) -> Target:
        """Give a target.

        Raises:
            ValueError: there is none of this name; the sentence lists those that there are.
        """
        if name not in self.root:
            raise ValueError(f"send one of {', '.join(self.root)}")
        return self.root[name]


class OllamaUserConfig(_Data):
    """What Serve's `user_config` may change while the replica serves."""

    targets: TargetSet | None = Field(
        None, description="Targets in the form of configs/targets.yaml; without them the target file's."
    )


def parse_targets(content: Mapping[str, Any], source: str) -> TargetSet:
    """Check a mapping of name → target.

    Raises:
        SettingsError: naming `source`, the target's field and what is wrong with it.
    """
    return validated(TargetSet, content, source)


def parse_user_config(content: Mapping[str, Any]) -> OllamaUserConfig:
    """Check a `user_config`.

    Raises:
        SettingsError: naming the field and what is wrong with it.
    """
    return validated(OllamaUserConfig, content, "user_config")


def with_default(targets: TargetSet, name: str) -> TargetSet:
    """Give the targets back if the one that is taken where none is asked for is among them.

    Raises:
        SettingsError: it is not.
    """
    if name not in targets.root:
        raise SettingsError(f"Setting 'ollama.target' is {name!r}, and the targets are {', '.join(targets.root)}.")
    return targets


def load_targets(path: Path) -> TargetSet:
    """Read a target file.

    Raises:
        SettingsError: the file is missing, is not YAML, or holds something that is no target.
    """
    content = read_mapping(path, "Target file", "each target's name to what it wants")
    return parse_targets(content, str(path))


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
