"""Are the months judged rightly, and what does it cost? On real conversations.

- False alarms: random halves of one and the same month, and random thirds (a month and both its references), must be
  alike.
- A change of a fifth of the mix of topics must be found, and must not be taken for a broken feed.
- A feed that broke must be told from a world that changed, in each of the ways of `quality_gate_feeds`.
- Validation, profile and drift of a month of a million messages must fit into a minute and 1.5 GB, see
  `quality_gate_cost`.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from theta_ml.bench import row
from theta_ml.bench.quality_gate_data import CORPORA, Conversation, corpus, real_months, table
from theta_ml.bench.quality_gate_feeds import BROKEN, Break, Month, mixed, typographic
from theta_ml.quality.comparing import DriftReport, Past, compare_batches, compare_months
from theta_ml.quality.thresholds import DriftSpec

if TYPE_CHECKING:
    from theta_ml.quality.digest import Digest
    from theta_ml.quality.scan import Scan

SPEC = DriftSpec("2026-03")
HALVES = {"sgd": 60, "taskmaster4": 80, "topical_chat": 80, "ubuntu_irc": 180}
"""Random halves, of each corpus; of #ubuntu, of one real month after the other."""
LARGEST_HALF = 1000
THIRDS = 100
MIXES, MIXED, MOVED = 60, 1000, 0.2
BREAKS = 4
"""Trials of each way to break, for each corpus."""
SIZES = (150, 300, 500)
"""Conversations of a month whose feed breaks."""
LEAST = 100
"""Conversations of a real month that is halved."""
FALSE_ALARMS, FOUND = 0.05, 0.95


def bench_quality_gate() -> list[dict[str, Any]]:
    """Rows: shares of right and wrong verdicts, and the cost."""
    from theta_ml.bench.quality_gate_cost import cost_rows

    return [*verdict_rows(), *cost_rows()]


def verdict_rows(scale: float = 1.0) -> list[dict[str, Any]]:
    """`scale` makes it shorter, for a look."""
    with progress() as begin:
        return [*_alarm_rows(begin, scale), *_mix_rows(begin, scale), *_broken_rows(begin, scale), *_sound_rows(begin)]


Begin = Callable[[str, int], Callable[[], None]]
"""Starts a bar of so many steps; what it returns makes a step."""


@contextmanager
def progress() -> Iterator[Begin]:
    """Bars on stderr: stdout is the result's."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:

        def begin(name: str, steps: int) -> Callable[[], None]:
            task = bars.add_task(name, total=steps)
            return lambda: bars.advance(task)

        yield begin


def _alarm_rows(begin: Begin, scale: float) -> list[dict[str, Any]]:
    dice = random.Random(1)  # noqa: S311
    alarms = {name: _halved(name, max(1, round(count * scale)), dice, begin) for name, count in HALVES.items()}
    every = [alarm for found in alarms.values() for alarm in found]
    thirds = _in_thirds("sgd", max(1, round(THIRDS * scale)), dice, begin)
    return [
        _at_most("false alarms, random halves of one month", every, FALSE_ALARMS),
        *(_told(f"false alarms, halves of {name}", found) for name, found in alarms.items()),
        _at_most("false alarms, random thirds: a month and two references", thirds, FALSE_ALARMS),
    ]


def _halved(name: str, trials: int, dice: random.Random, begin: Begin) -> list[bool]:
    """Whether each pair of halves was called anything but stable."""
    months = list(real_months(LEAST).values()) if name == "ubuntu_irc" else [corpus(name)]
    scans, step = [_scan(rows) for rows in months], begin(f"halves of {name}", trials)
    found = []
    for trial in range(trials):
        seen = scans[trial % len(scans)]
        first, second = _parts(seen, 2, dice)
        found.append(compare_batches(SPEC, first, second).outcome != "stable")
        step()
    return found


def _in_thirds(name: str, trials: int, dice: random.Random, begin: Begin) -> list[bool]:
    seen, step = _scan(corpus(name)), begin("thirds", trials)
    found = []
    for _ in range(trials):
        newest, earlier, current = _parts(seen, 3, dice)
        found.append(compare_months(SPEC, Past(newest, earlier), current).outcome != "stable")
        step()
    return found


def _parts(seen: "Scan", parts: int, dice: random.Random) -> "list[Digest]":
    """Random parts of one month, of the same size and without a conversation in common."""
    import numpy as np

    from theta_ml.quality.digest import digest_of_scan

    size = min(len(seen) // parts, LARGEST_HALF)
    rows = np.array(dice.sample(range(len(seen)), size * parts)).reshape(parts, size)
    return [digest_of_scan(seen.take(np.sort(part)), np.ones(size, bool), f"part {n}") for n, part in enumerate(rows)]


def _scan(rows: list[Conversation]) -> "Scan":
    from theta_ml.quality.scan import scan

    return scan(table(rows))


def _mix_rows(begin: Begin, scale: float) -> list[dict[str, Any]]:
    topics: dict[str, Month] = {}
    for each in corpus("sgd"):
        topics.setdefault(each["topics"][0], []).append(each)
    trials = max(1, round(MIXES * scale))
    known, hidden = (_mixes(topics, trials, hide, begin) for hide in (False, True))
    name = f"a {MOVED:.0%} change of the mix of topics found"
    return [_at_least(name, known, FOUND), _told(f"{name}, by its words alone", hidden)]


def _mixes(topics: dict[str, Month], trials: int, hide: bool, begin: Begin) -> list[bool]:
    """Whether each change was called drift: not stable, and not broken either."""
    dice, step = random.Random(2), begin("topics, by words alone" if hide else "topics", trials)  # noqa: S311
    found = []
    for _ in range(trials):
        months = mixed(topics, MIXED, MOVED, dice)
        if hide:
            months = _without_topics(months[0]), _without_topics(months[1])
        found.append(_compared(*months).outcome == "drifted")
        step()
    return found


def _without_topics(month: Month) -> Month:
    return [{**each, "topics": None} for each in month]


def _broken_rows(begin: Begin, scale: float) -> list[dict[str, Any]]:
    dice, trials = random.Random(3), max(1, round(BREAKS * scale))  # noqa: S311
    step = begin("broken feeds", sum(map(len, BROKEN.values())) * len(CORPORA) * trials)
    found = {
        kind: [told for way in ways.values() for told in _breaks(kind, way, trials, dice, step)]
        for kind, ways in BROKEN.items()
    }
    every = [told for kind in found.values() for told in kind]
    return [
        _at_least("broken feeds told from drift", every, FOUND),
        *(_at_least(f"broken feeds: {kind}", told, FOUND) for kind, told in found.items()),
    ]


def _breaks(kind: str, way: Break, trials: int, dice: random.Random, step: Callable[[], None]) -> Iterator[bool]:
    for name in CORPORA:
        rows = corpus(name)
        for trial in range(trials):
            size = SIZES[trial % len(SIZES)]
            both = dice.sample(rows, 2 * size)
            if kind == "wrong encoding":
                both = typographic(both)  # there must be something to spoil
            yield _compared(both[:size], way(both[size:], dice)).outcome == "broken"
            step()


def _sound_rows(begin: Begin) -> list[dict[str, Any]]:
    """What is not broken must not be called so: real months one after the other, and one corpus after another."""
    months = list(real_months(LEAST // 2).values())
    dice = random.Random(4)  # noqa: S311
    samples = {name: dice.sample(corpus(name), max(SIZES)) for name in CORPORA}
    pairs = [*pairwise(months), *((a, b) for a in samples.values() for b in samples.values() if a is not b)]
    step, called = begin("sound months", len(pairs)), []
    for before, after in pairs:
        called.append(_compared(before, after).outcome == "broken")
        step()
    return [_at_most("sound months and new sources called broken", called, FALSE_ALARMS)]


def _compared(before: Month, after: Month) -> DriftReport:
    from theta_ml.quality.digest import digest_of

    return compare_batches(SPEC, digest_of(table(before), "before"), digest_of(table(after), "after"))


def _at_most(name: str, found: Sequence[bool], target: float) -> dict[str, Any]:
    share = sum(found) / len(found)
    return row(f"{name} ({len(found)})", share, "share", target=target, ok=share <= target)


def _at_least(name: str, found: Sequence[bool], target: float) -> dict[str, Any]:
    share = sum(found) / len(found)
    return row(f"{name} ({len(found)})", share, "share", target=target, ok=share >= target)


def _told(name: str, found: Sequence[bool]) -> dict[str, Any]:
    return row(f"{name} ({len(found)})", sum(found) / len(found), "share")
