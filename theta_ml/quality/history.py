"""What the months before lead to expect of this one."""

import math
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from theta_ml.landing.snapshot import Snapshot
from theta_ml.month import Month

Range = tuple[float | None, float | None]

_NORMAL = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
_SPREADS = 3.0
_SEEN = 0.8
"""Of the smallest sound month before: what came once, each August say, may come again, and a little less."""
_WHOLE = 0.9
"""Share of a month from which on its count is a month's."""
_STEADY_AFTER = 3
"""Months before, from which on their spread says something."""
_USUAL_USER = 1.5
"""How much more than in the months before one user may contribute."""


@dataclass(frozen=True)
class Past:
    """One of the months before."""

    month: str
    reply_chars: float | None
    """Median over its conversations of the mean length of their replies; None where nobody replied."""
    busiest_share: float
    """Of its conversations, those of the user with most."""


def elapsed(snapshot: Snapshot) -> float:
    """Share of the month (0-1] that the snapshot's watermark has seen: a month still running is not yet whole."""
    month = Month.parse(snapshot.month)
    seen = (datetime.fromisoformat(snapshot.watermark) - month.start) / (month.end - month.start)
    return seen if 0 < seen < 1 else 1.0


def whole_months(months: list[str], began: datetime | None) -> list[str]:
    """Those of `months` that the feed, which began then, filled: on the 29th begun, the first of them says nothing."""
    return [each for each in months if began is None or _filled(Month.parse(each), began) >= _WHOLE]


def _filled(month: Month, began: datetime) -> float:
    return (month.end - began) / (month.end - month.start)


def usual_volume(counts: list[int], share: float, lowest: float, lowest_unsure: float, highest: float) -> Range:
    """Fewest and most conversations to expect after months of `counts`, of which `share` has passed.

    The bounds are factors of the median. From three months on, a feed that is uneven by nature gets a wider band: three
    robust standard deviations of the logarithm (median absolute deviation · 1.4826), and never so narrow that one
    of the months before would lie close to its edge; but for those under `lowest_unsure` of the median, in which the
    feed most likely failed: they are no bound for the year after. With fewer months, `lowest_unsure` holds.
    """
    counts = [count for count in counts if count]
    if not counts:
        return None, None
    usual = median(counts) * share
    if len(counts) < _STEADY_AFTER:
        return math.floor(usual * lowest_unsure), math.ceil(usual * highest)
    logs = [math.log(count) for count in counts]
    wide = math.exp(_SPREADS * _NORMAL * median(abs(value - median(logs)) for value in logs))
    least = min(count for count in counts if count >= median(counts) * lowest_unsure)
    low = min(usual * lowest, usual / wide, _SEEN * least * share)
    return math.floor(low), math.ceil(max(usual * highest, usual * wide))


def usual_reply(past: list[Past], factor: float) -> Range:
    """Shortest and longest median reply to expect, in characters."""
    known = [month.reply_chars for month in past if month.reply_chars is not None]
    return (median(known) / factor, median(known) * factor) if known else (None, None)


def usual_user(past: list[Past], most: float) -> float:
    """Share of one user to expect at most: a team of three has a busiest one, and always had."""
    return max(most, *(_USUAL_USER * month.busiest_share for month in past), 0)
