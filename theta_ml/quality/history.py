"""What the months before lead to expect of this one."""

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from theta_ml.landing.snapshot import Snapshot
from theta_ml.month import Month
from theta_ml.quality.batch import load_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Range = tuple[float | None, float | None]

_NORMAL = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
_SPREADS = 3.0
_SEEN = 0.8
"""Of the smallest month before: what came once may come again, and a little less."""
_STEADY_AFTER = 3
"""Months before, from which on their spread says something."""


def elapsed(snapshot: Snapshot) -> float:
    """Share of the month (0-1] that the snapshot's watermark has seen: a month still running is not yet whole."""
    month = Month.parse(snapshot.month)
    seen = (datetime.fromisoformat(snapshot.watermark) - month.start) / (month.end - month.start)
    return seen if 0 < seen < 1 else 1.0


def usual_volume(counts: list[int], share: float, lowest: float, lowest_unsure: float, highest: float) -> Range:
    """Fewest and most conversations to expect after months of `counts`, of which `share` has passed.

    The bounds are factors of the median. From three months on, a feed that is uneven by nature gets a wider band: three
    robust standard deviations of the logarithm (median absolute deviation · 1.4826), and never so narrow that one of
    the months before would lie close to its edge. With fewer months, `lowest_unsure` holds.
    """
    counts = [count for count in counts if count]
    if not counts:
        return None, None
    usual = median(counts) * share
    if len(counts) < _STEADY_AFTER:
        return math.floor(usual * lowest_unsure), math.ceil(usual * highest)
    logs = [math.log(count) for count in counts]
    wide = math.exp(_SPREADS * _NORMAL * median(abs(value - median(logs)) for value in logs))
    low = min(usual * lowest, usual / wide, _SEEN * min(counts) * share)
    return math.floor(low), math.ceil(max(usual * highest, usual * wide))


@dataclass(frozen=True)
class Past:
    """Of the months before: the medians of the replies' lengths, and the hashes of the conversations."""

    reply_chars: list[float]
    fingerprints: "NDArray[np.uint64]"

    def usual_reply(self, factor: float) -> Range:
        """Shortest and longest median reply to expect, in characters."""
        if not self.reply_chars:
            return None, None
        usual = median(self.reply_chars)
        return usual / factor, usual * factor


def read_past(path: Path, months: list[str]) -> Past:
    import numpy as np

    batches = [load_batch(path, month) for month in months]
    medians = [float(batch.messages["reply_chars"].median()) for batch in batches]
    seen = [batch.conversations["fingerprint"].to_numpy() for batch in batches]
    return Past([value for value in medians if not math.isnan(value)], np.concatenate([np.zeros(0, "uint64"), *seen]))
