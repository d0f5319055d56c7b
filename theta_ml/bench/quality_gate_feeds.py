"""Ways in which a feed breaks, done to a sound month; and what a month looks like whose world has changed."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from theta_ml.bench.quality_gate_data import Conversation

Month = list[Conversation]
Break = Callable[[Month, random.Random], Month]
Edit = Callable[[str, random.Random], str]

_CUT_AT = 40
_FLOODED = 0.3
_TYPOGRAPHIC = str.maketrans({"'": "’", '"': "”", "-": "–"})
_NAMES = ("Anna", "Bo", "Chidi", "Dana", "Eleni", "Farid", "Grace", "Hiro", "Ines", "Jonas")
_THINGS = ("the red shoes", "your ticket", "this offer", "a new phone", "our tour", "the blue lamp", "free shipping")


def typographic(month: Month) -> Month:
    """As phones write it: with characters that an encoding can spoil."""
    return _texts(lambda text, dice: text.translate(_TYPOGRAPHIC))(month, random.Random(0))  # noqa: S311


def _texts(edit: Edit, role: str = "") -> Break:
    def broken(month: Month, dice: random.Random) -> Month:
        return [
            {
                **c,
                "messages": [
                    _said(m, edit(m["content"], dice)) if role in ("", m["role"]) else m for m in c["messages"]
                ],
            }
            for c in month
        ]

    return broken


def _said(message: dict[str, Any], content: str) -> dict[str, Any]:
    return {**message, "content": content}


def _half(text: str, dice: random.Random) -> str:
    """Anywhere in its second half."""
    return text[: dice.randint(len(text) // 2, len(text))]


def _few_turns(month: Month, dice: random.Random) -> Month:
    """Only the first quarter of the turns of the median conversation arrives, two at the least."""
    median = sorted(len(c["messages"]) for c in month)[len(month) // 2]
    return [{**c, "messages": c["messages"][: max(2, median // 4)]} for c in month]


def _swapped(month: Month, dice: random.Random) -> Month:
    other = {"user": "assistant", "assistant": "user", "system": "system"}
    return [{**c, "messages": [{**m, "role": other[m["role"]]} for m in c["messages"]]} for c in month]


def _twice(month: Month, dice: random.Random) -> Month:
    return [*month, *month]


def _each_message_twice(month: Month, dice: random.Random) -> Month:
    return [{**c, "messages": [m for message in c["messages"] for m in (message, message)]} for c in month]


def _flooding_replies(month: Month, dice: random.Random) -> Month:
    def reply(text: str, dice: random.Random) -> str:
        name, number = dice.choice(_NAMES), dice.randint(1, 10**6)
        sorry = f"Hello {name}, we are sorry but the service is busy. Your number is {number}."
        return sorry if dice.random() < _FLOODED else text

    return _texts(reply, "assistant")(month, dice)


def _flooding_conversations(month: Month, dice: random.Random) -> Month:
    """So many of all are of one template, with names and things of their own, in front of what sound ones say."""
    count = round(len(month) * _FLOODED / (1 - _FLOODED))

    def one() -> Conversation:
        model = dice.choice(month)
        offer = f"do you want {dice.choice(_THINGS)} today? Reply with yes to number {dice.randint(1, 99)}."
        ask = f"Hi {dice.choice(_NAMES)}, {offer}"
        say = f"Thank you for asking about {dice.choice(_THINGS)}, we will come back to you, {dice.choice(_NAMES)}."
        messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]
        return {**model, "messages": messages}

    return [*month, *(one() for _ in range(count))]


def _decoded(encoding: str) -> Edit:
    return lambda text, dice: text.encode().decode(encoding, errors="replace")


def _lost(text: str, dice: random.Random) -> str:
    return text.encode("ascii", errors="replace").decode().replace("?", "\ufffd")


BROKEN: dict[str, dict[str, Break]] = {
    "truncated": {
        f"texts cut at {_CUT_AT} characters": _texts(lambda text, dice: text[:_CUT_AT]),
        "texts cut anywhere": _texts(_half),
        "conversations cut after a few turns": _few_turns,
    },
    "role-swapped": {"users and replies": _swapped},
    "wrong encoding": {
        "UTF-8 read as Windows-1252": _texts(_decoded("cp1252")),
        "UTF-8 read as Latin-1": _texts(_decoded("latin-1")),
        "characters lost": _texts(_lost),
    },
    "doubled": {"conversations": _twice, "messages": _each_message_twice},
    "one template flooding": {"replies": _flooding_replies, "conversations": _flooding_conversations},
}
"""By kind, then by way."""


def mixed(months: dict[str, Month], size: int, moved: float, dice: random.Random) -> tuple[Month, Month]:
    """Two months of `size` conversations; from the first to the second, `moved` (0-1) of them go from some topics to
    others (total variation distance), chosen at random. `months`: conversations by topic."""
    topics = list(months)
    shares = {topic: len(rows) for topic, rows in months.items()}
    dice.shuffle(topics)
    gaining = _about(topics, shares, 0.3)
    losing = [topic for topic in topics if topic not in gaining]
    before = Counter(dice.choices(topics, [shares[topic] for topic in topics], k=size))
    weights = _moved(shares, gaining, losing, moved)
    after = Counter(dice.choices(topics, [weights[topic] for topic in topics], k=size))
    pools = {topic: dice.sample(rows, len(rows)) for topic, rows in months.items()}
    return _drawn(pools, before, dice), _drawn(pools, after, dice)


def _about(topics: Sequence[str], shares: dict[str, int], wanted: float) -> list[str]:
    """The first topics that together have the share `wanted` or more."""
    total, chosen, reached = sum(shares.values()), list[str](), 0
    for topic in topics:
        if reached >= wanted * total:
            break
        chosen.append(topic)
        reached += shares[topic]
    return chosen


def _moved(shares: dict[str, int], gaining: list[str], losing: list[str], moved: float) -> dict[str, float]:
    total = sum(shares.values())
    gain, loss = (sum(shares[topic] for topic in group) / total for group in (gaining, losing))
    factor = dict.fromkeys(gaining, 1 + moved / gain) | dict.fromkeys(losing, 1 - moved / loss)
    return {topic: shares[topic] * factor[topic] for topic in shares}


def _drawn(pools: dict[str, Month], counts: Counter[str], dice: random.Random) -> Month:
    """Takes them out of the pools: no conversation is in both months."""
    rows = [pools[topic].pop() for topic, count in counts.items() for _ in range(min(count, len(pools[topic])))]
    dice.shuffle(rows)
    return rows
