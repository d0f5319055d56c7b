"""The corpus' books: every conversation that came in is in one column, and what cleaning did can be looked at."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from theta_ml.corpus.cleaning.samples import Sample, fewest

JSON = "report.json"
PAGE = "report.html"
_SAMPLES = 3
"""Shown of each step and each reason, over all units."""


class BooksDoNotBalance(Exception):
    """Conversations are missing from a report, or in it twice."""


@dataclass(frozen=True)
class UnitAccount:
    """What became of the conversations of one month or one dataset."""

    name: str
    """YYYY-MM, or the dataset's id."""
    read: int
    """All that came in."""
    rejected: dict[str, int]
    """Reason → those that could not be read or that cleaning turned away."""
    dropped: dict[str, int]
    """Reason → those left out for what else is in the corpus: copies, a user's share, erasures."""
    held_out: int
    """Test conversations: models are judged on them, none learns from them."""
    kept: dict[str, int]
    """Split (train, validation) → conversations."""
    changed: dict[str, int] = field(default_factory=dict)
    """Step of the cleaning → messages that it changed."""
    samples: list[Sample] = field(default_factory=list)
    weight: float = 1.0
    """How often an epoch shows it."""
    epoch_tokens: int = 0
    """Tokens of it that an epoch of training shows."""

    def check(self) -> None:
        """Raises BooksDoNotBalance unless what was read is the sum of its parts."""
        parts = [self.held_out, *self.rejected.values(), *self.dropped.values(), *self.kept.values()]
        if sum(parts) != self.read or min(parts) < 0:
            raise BooksDoNotBalance(
                f"{self.name}: {self.read:,} conversations were read, {sum(parts):,} are accounted for (rejected "
                f"{sum(self.rejected.values()):,}, dropped {sum(self.dropped.values()):,}, held out {self.held_out:,}, "
                f"kept {sum(self.kept.values()):,}); this is a fault of `theta stage prepare`, please report it"
            )


@dataclass(frozen=True)
class Accounting:
    """The books of a corpus."""

    month: str
    units: list[UnitAccount]

    def check(self) -> None:
        """Raises BooksDoNotBalance, naming the first unit whose conversations do not add up."""
        for unit in self.units:
            unit.check()

    @property
    def total(self) -> UnitAccount:
        """All units as one, with the first few of their samples."""
        return UnitAccount(
            name="all",
            read=sum(unit.read for unit in self.units),
            rejected=_sum(unit.rejected for unit in self.units),
            dropped=_sum(unit.dropped for unit in self.units),
            held_out=sum(unit.held_out for unit in self.units),
            kept={"train": 0, "validation": 0} | _sum(unit.kept for unit in self.units),
            changed=_sum(unit.changed for unit in self.units),
            samples=fewest((sample for unit in self.units for sample in unit.samples), _SAMPLES),
            epoch_tokens=sum(unit.epoch_tokens for unit in self.units),
        )

    @property
    def sentence(self) -> str:
        """The whole in a line."""
        total = self.total
        learned, out = sum(total.kept.values()), sum(total.rejected.values()) + sum(total.dropped.values())
        return (
            f"Of {_counted(total.read, 'conversation')} {learned:,} {_be(learned)} learned from, {total.held_out:,} "
            f"held out to judge models by and {out:,} left out, each for a reason below"
        )


class Difference(NamedTuple):
    """A piece of a text: `kind` is same, gone or new."""

    kind: str
    text: str


def write(folder: Path, accounting: Accounting) -> None:
    """Checks the books and writes them to `folder`, as report.json and report.html.

    Raises BooksDoNotBalance.
    """
    accounting.check()
    total = accounting.total
    document: dict[str, object] = {
        "month": accounting.month,
        "sentence": accounting.sentence,
        "total": _described(total),
    }
    document["units"] = [_described(unit) for unit in accounting.units]
    (folder / JSON).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(_page(accounting, total), encoding="utf-8")


def differences(before: str, after: str) -> list[Difference]:
    """How one excerpt becomes the other, piece by piece."""
    pieces = []
    for kind, start, end, new_start, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Difference("same", before[start:end]))
            continue
        pieces += [Difference("gone", visible(before[start:end]))] if end > start else []
        pieces += [Difference("new", visible(after[new_start:new_end]))] if new_end > new_start else []
    return pieces


def visible(text: str) -> str:
    """A text with its blanks and invisible characters written out."""
    return "".join(_SHOWN.get(each) or (each if each.isprintable() else f"⟨{ord(each):04X}⟩") for each in text)


_SHOWN = {" ": "·", "\n": "⏎\n", "\t": "⇥", "\r": "␍"}


def _described(unit: UnitAccount) -> dict[str, object]:
    columns = ("step", "conversation_id", "before", "after")
    samples = [dict(zip(columns, sample[1:], strict=True)) for sample in unit.samples]
    return {**asdict(unit), "samples": samples}


def _page(accounting: Accounting, total: UnitAccount) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("theta_ml.corpus"), autoescape=True, undefined=StrictUndefined)
    environment.filters["counted"] = _counted
    shown = [(sample, differences(sample.before, sample.after) if sample.after else []) for sample in total.samples]
    return environment.get_template("report.html").render(
        accounting=accounting, total=total, samples=shown, explain=EXPLANATIONS
    )


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


EXPLANATIONS = {
    "empty": "no turn holds a visible character",
    "no_assistant_turn": "nobody answered: there is nothing to learn",
    "too_short": "a few characters in all",
    "damaged": "characters were lost to a wrong encoding",
    "language": "in a language that is not asked for",
    "repeated_reply": "the assistant gives the same reply again and again",
    "repeated_lines": "a reply repeats its lines",
    "repeated_phrases": "a reply repeats its phrases",
    "symbols": "the replies are mostly symbols",
    "capitals": "the replies are in capitals",
    "long_words": "the replies are encoded data, or text without spaces",
    "toxic_reply": "the assistant insults, or swears more than now and then",
    "id met before": "a file holds two conversations of one id: the first counts",
    "exact copy": "the same conversation as another that stays",
    "near copy": "nearly the same as another that stays",
    "copy of a test conversation": "models are judged on it, so they must not have read it",
    "benchmark": "holds an item of a benchmark that models are judged by",
    "share of one user": "more of one user than the cap allows",
    "disliked": "people rated it down",
    "not shown": "of a source whose weight is 0",
    "erased": "somebody asked for it to be forgotten",
    "cut": "longer than a message may be: cut at a paragraph, line, sentence or word",
    "encoding": "decoded wrongly before it came here, decoded again",
    "markup": "tags of web pages and forums, and entities, outside of code",
    "control characters": "what controls terminals, directions or nothing at all",
    "normal form": "composed characters (Unicode NFC)",
    "whitespace": "blanks at the ends of lines and texts, runs of empty lines",
    "redacted": "personal data that an earlier step brought to light",
    "empty turns": "turns without a visible character, removed",
}
"""Reason or step → what it means, as far as a name does not say it."""
