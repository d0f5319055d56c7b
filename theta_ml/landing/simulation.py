"""Months of plausible conversations for a demo, from the dialogues in `starter/`. The same seed tells the same story.

Four kinds of month follow each other: a normal one, one whose topics drift, one whose feed is damaged, a quiet one.
What the pipeline makes of them comes from the data alone.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from theta_ml.landing.damage import damaged, torn_line
from theta_ml.month import Month

STARTER = Path(__file__).with_name("starter")
# Topics come into use in waves: a drift month opens the next one.
WAVES = (("everyday", "cooking", "travel", "technology"), ("science", "fitness"), ("work", "books"), ("gardening",))
# A seed's users come with the same few concerns, and its assistant has one voice: half a minute of training must do to
# learn them, or every month's candidate would be better just for having trained longer.
CONCERNS = 3
# A conversation is a few of them one after the other: two that share no more than all but one are no copies.
ERRANDS = 3

_SLOT = re.compile(r"\{(\w+)\}")
_OPENINGS = ("hey, ", "so, ", "quick question: ", "hi again. ", "sorry to bother you, but ", "hm. ")
_NEXT = ("ok, next thing: ", "something else: ", "while I have you, ", "one more: ", "good. and now, ")
_CLOSINGS = (
    ("thanks, that helps", "You are welcome, come back any time."),
    ("ok great, bye!", "Bye, and good luck!"),
    ("cool", "Glad to hear it. Anything else on your mind?"),
    ("perfect. have a nice {day}", "You too! Enjoy your {day}."),
    ("I will tell {name} about this", "Do, and say hello to {name} from me."),
    ("let me think about it", "Take your time. It will still be here on {day}."),
)


@dataclass(frozen=True)
class Kind:
    """What sort of month it is."""

    name: str
    conversations: tuple[int, int]
    new_topics: float
    """Share of the conversations that are about the newest wave of topics."""
    damage: float = 0.0
    """Share of the conversations that arrive damaged."""


STORY = (
    Kind("normal", (540, 620), new_topics=0.5),
    Kind("drift", (640, 720), new_topics=0.6),
    Kind("damaged", (150, 190), new_topics=0.5, damage=0.75),
    Kind("quiet", (290, 330), new_topics=0.6),
)


@dataclass(frozen=True)
class Dialogue:
    """A hand-written conversation: for each turn some ways to say it, and values for its `{slots}`."""

    turns: list[list[str]]
    slots: dict[str, list[Any]]
    """`"a": [values]`, or `"a,b": [[value of a, value of b], …]` where values belong together."""


def month_lines(start: Month, index: int, seed: int) -> Iterator[str]:
    """The lines of month `start + index`, as JSON; an id is made of seed, month and number."""
    month, kind = start.shift(index), STORY[index % len(STORY)]
    wave = 1 + (index + len(STORY) - 1) // len(STORY)  # 1 in the first month, one more with each drift
    rng = random.Random(f"theta {seed} {month} {kind.name}")  # noqa: S311
    instants = sorted(_instant(rng, month) for _ in range(rng.randint(*kind.conversations)))
    seen: set[str] = set()
    for number, instant in enumerate(instants):
        topics = [_topic(rng, kind, wave) for _ in range(ERRANDS)]
        turns = _distinct(rng, topics, seed, seen)
        broken = rng.random() < kind.damage
        record = _record(rng, f"sim-{seed}-{month}-{number:04d}", topics[0], instant, turns, broken)
        line = json.dumps(record, ensure_ascii=False)
        yield torn_line(rng, line) if broken and rng.random() < 0.1 else line


def _topic(rng: random.Random, kind: Kind, wave: int) -> str:
    newest = WAVES[min(wave, len(WAVES)) - 1]
    older = [topic for topics in WAVES[: max(1, min(wave, len(WAVES)) - 1)] for topic in topics]
    return rng.choice(newest if rng.random() < kind.new_topics else older)


def _distinct(rng: random.Random, topics: list[str], seed: int, seen: set[str]) -> list[str]:
    """A conversation that the month has not had yet: an errand of each topic, each another one."""
    for _ in range(200):
        errands = [rng.choice(_concerns(topic, seed)) for topic in topics]
        turns = _converse(rng, errands)
        key = "\n".join(turns).lower()
        if len(set(map(id, errands))) == len(errands) and key not in seen:
            seen.add(key)
            return turns
    raise AssertionError(f"too few variants for a month of {', '.join(topics)}")


def _converse(rng: random.Random, errands: list[Dialogue]) -> list[str]:
    turns = [turn for number, errand in enumerate(errands) for turn in _run(rng, errand, first=number == 0)]
    if rng.random() < 0.3:
        turns.extend(_spoken(rng, list(rng.choice(_CLOSINGS)), {}))
    casual, hasty = rng.random() < 0.35, rng.random() < 0.3
    for index in range(0, len(turns), 2):
        turns[index] = _as_typed(rng, turns[index], casual, hasty)
    return turns


def _run(rng: random.Random, errand: Dialogue, first: bool) -> list[str]:
    turns = _spoken(rng, [rng.choice(ways) for ways in errand.turns], errand.slots)
    if rng.random() < 0.3:
        turns[0] = rng.choice(_OPENINGS if first else _NEXT) + turns[0][0].lower() + turns[0][1:]
    return turns


def _spoken(rng: random.Random, turns: list[str], slots: dict[str, list[Any]]) -> list[str]:
    values = _values(rng, slots)
    return [_fill(_fill(turn, values), values) for turn in turns]  # twice: a value may hold a slot


def _values(rng: random.Random, slots: dict[str, list[Any]]) -> dict[str, str]:
    values = {name: rng.choice(choices) for name, choices in _common_slots().items()}
    for names, choices in slots.items():
        chosen = rng.choice(choices)
        values.update(zip(names.split(","), chosen if "," in names else [chosen], strict=True))
    return values


def _fill(text: str, values: dict[str, str]) -> str:
    """`{slot}` becomes its value, `{Slot}` its value with a capital."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        lower = values[name[0].lower() + name[1:]]
        return lower[0].upper() + lower[1:]

    return _SLOT.sub(value, text)


def _as_typed(rng: random.Random, text: str, casual: bool, hasty: bool) -> str:
    """What a person types: perhaps without capitals and full stops, perhaps with letters swapped."""
    if casual:
        text = text.lower().removesuffix(".")
    if not hasty:
        return text
    words = text.split(" ")
    for index, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and rng.random() < 0.08:
            at = rng.randrange(1, len(word) - 1)
            words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def _record(
    rng: random.Random, conversation_id: str, topic: str, instant: datetime, turns: list[str], broken: bool
) -> dict[str, Any]:
    messages = []
    for index, text in enumerate(turns):
        role = ("user", "assistant")[index % 2]
        message: dict[str, Any] = {"role": role, "content": text, "created_at": _iso(instant)}
        if role == "assistant" and rng.random() < 0.25:
            message["rating"] = rng.choice((1, 1, 1, 2) if broken else (3, 4, 4, 5, 5, 5))
        messages.append(message)
        instant += timedelta(seconds=rng.randint(4, 90))
    return {
        "id": conversation_id,
        "source": rng.choice(("app", "app", "web")),
        "language": "en",
        "created_at": messages[0]["created_at"],
        "topics": [topic],
        "user_id": f"user-{rng.randrange(180):03d}",
        "messages": damaged(rng, messages) if broken else messages,
    }


def _instant(rng: random.Random, month: Month) -> datetime:
    days = (month.end - month.start).days
    hour = min(23, max(0, round(rng.gauss(15, 4.5))))
    return month.start + timedelta(days=rng.randrange(days), hours=hour, seconds=rng.randrange(3600))


def _iso(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _dialogues(topic: str) -> list[Dialogue]:
    lines = (STARTER / f"{topic}.jsonl").read_text().splitlines()
    return [Dialogue(record["turns"], record.get("slots", {})) for record in map(json.loads, lines)]


@cache
def _concerns(topic: str, seed: int) -> list[Dialogue]:
    """The dialogues of a topic that a seed's users have, each with one of the ways to answer."""
    rng = random.Random(f"theta {seed} {topic}")  # noqa: S311
    return [_in_one_voice(dialogue, rng.randrange(2)) for dialogue in rng.sample(_dialogues(topic), CONCERNS)]


def _in_one_voice(dialogue: Dialogue, voice: int) -> Dialogue:
    turns = [ways if turn % 2 == 0 else [ways[voice % len(ways)]] for turn, ways in enumerate(dialogue.turns)]
    return Dialogue(turns, dialogue.slots)


@cache
def _common_slots() -> dict[str, list[str]]:
    slots: dict[str, list[str]] = json.loads((STARTER / "slots.json").read_text())
    return slots
