"""The golden set: a few prompts that engineers own, and what an answer to each must hold (expectations/golden.yaml)."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from theta_ml.evaluation.report import GoldenResult
from theta_ml.stage import StageFailed

PATH = Path(__file__).parents[2] / "expectations" / "golden.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Said(_Strict):
    """A message of the prompt."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Checks(_Strict):
    """What an answer must hold; all that is given. Upper and lower case are one, but in regular expressions."""

    equals: str | None = None
    """The whole answer, blanks at its ends and a full stop aside."""
    contains: list[str] = []
    """Every one of these."""
    contains_any: list[str] = []
    """At least one of these."""
    not_contains: list[str] = []
    """None of these."""
    matches: str | None = None
    """A regular expression that is found somewhere; `(?i)` makes it blind to case."""
    not_matches: str | None = None
    """One that is not."""
    min_words: int | None = Field(default=None, ge=1)
    max_words: int | None = Field(default=None, ge=1)

    @field_validator("matches", "not_matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error}); mend it, or use `contains`") from None
        return pattern

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self._given():
            raise ValueError(f"asks nothing; give at least one of {', '.join(Checks.model_fields)}")
        if self.min_words and self.max_words and self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}; no answer holds both")
        return self

    def _given(self) -> list[str]:
        return [name for name in Checks.model_fields if getattr(self, name) not in (None, [])]

    def failures(self, reply: str) -> list[str]:
        """Names of the checks that do not hold."""
        return [name for name in self._given() if not self._holds(name, reply)]

    def _holds(self, name: str, reply: str) -> bool:
        asked, plain, words = getattr(self, name), reply.casefold(), len(reply.split())
        holds: dict[str, Any] = {
            "equals": lambda: plain.strip(" .\n") == asked.casefold().strip(" .\n"),
            "contains": lambda: all(text.casefold() in plain for text in asked),
            "contains_any": lambda: any(text.casefold() in plain for text in asked),
            "not_contains": lambda: not any(text.casefold() in plain for text in asked),
            "matches": lambda: re.search(asked, reply) is not None,
            "not_matches": lambda: re.search(asked, reply) is None,
            "min_words": lambda: words >= asked,
            "max_words": lambda: words <= asked,
        }
        return bool(holds[name]())


class Weighted(Checks):
    """One line of a rubric: its points are earned where all of its checks hold."""

    weight: float = Field(default=1.0, gt=0)


class Rubric(_Strict):
    """Passed where the earned share of all points reaches the mark."""

    pass_mark: float = Field(gt=0, le=1)
    checks: list[Weighted] = Field(min_length=2)

    def earned(self, reply: str) -> float:
        """Share of the points, 0 to 1."""
        points = sum(line.weight for line in self.checks if not line.failures(reply))
        return points / sum(line.weight for line in self.checks)


class Item(_Strict):
    """A prompt, and how an answer is judged."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    messages: list[Said] = Field(min_length=1)
    required: bool = False
    """Whether a candidate that fails it is refused."""
    checks: Checks | None = None
    rubric: Rubric | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.checks is None) == (self.rubric is None):
            raise ValueError("is judged by `checks` or by a `rubric`; give one of them")
        if self.messages[-1].role != "user":
            raise ValueError("messages: the last one is the user's, for the model answers it; end with one")
        return self

    def judge(self, reply: str) -> tuple[bool, str]:
        """Whether it holds, and what did not."""
        if self.rubric is not None:
            earned = self.rubric.earned(reply)
            passed = earned >= self.rubric.pass_mark
            return passed, "" if passed else f"{earned:.0%} of the points, {self.rubric.pass_mark:.0%} were asked"
        assert self.checks is not None
        failed = self.checks.failures(reply)
        return not failed, f"not held: {', '.join(failed)}" if failed else ""


class _File(_Strict):
    items: list[dict[str, Any]]


def load(path: Path) -> list[Item]:
    """Raises StageFailed that names file, item and field, and says what to change."""
    try:
        written = _File.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise StageFailed(f"{path}: {error.strerror}; put it back, or write `items: []` into it for none") from None
    except yaml.YAMLError as error:
        raise StageFailed(f"{path} is not YAML ({' '.join(str(error).split())}); mend it there") from None
    except ValidationError:
        raise StageFailed(f"{path}: write `items:` and below it a list, each beginning with `- name:`") from None
    items = [_item(fields, number, path) for number, fields in enumerate(written.items, 1)]
    names = [item.name for item in items]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StageFailed(f"{path}: two items have the name {', '.join(twice)}; rename one")
    return items


def digest(items: Sequence[Item]) -> str:
    """Of what the items say; comments and layout of the file are no part of it."""
    text = json.dumps([item.model_dump() for item in items], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def judge(items: Sequence[Item], ours: Sequence[str] | None, theirs: Sequence[str] | None) -> list[GoldenResult]:
    """`ours` and `theirs` are the models' answers, in the items' order; without any the candidate passes nothing."""
    results = []
    for number, item in enumerate(items):
        passed, note = item.judge(ours[number]) if ours is not None else (False, "the candidate cannot answer")
        champion = item.judge(theirs[number])[0] if theirs is not None else None
        results.append(GoldenResult(item.name, item.required, passed, champion, note))
    return results


def _item(fields: dict[str, Any], number: int, path: Path) -> Item:
    try:
        return Item.model_validate(fields)
    except ValidationError as error:
        name = fields.get("name") if isinstance(fields.get("name"), str) else f"number {number}"
        faults = "; ".join(_fault(fault) for fault in error.errors(include_url=False))
        raise StageFailed(f"{path}: item {name}: {faults}") from None


def _fault(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such field; take it out, or see theta_ml/evaluation/golden.py for those there are"
    if fault["type"] == "missing":
        return f"{place}: is missing; add it"
    return f"{place}: {message}" if place else message
