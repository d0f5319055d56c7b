"""From which distance on a column has drifted: beyond chance, and beyond what is usual from month to month.

Chance: the rows of both months are thrown together and dealt out again many times, the same deals for every column
(a permutation test). Each column's distances are standardised by their mean and spread over the deals; the largest of
them over all columns is what a deal "finds". Its quantile holds for every column at once, so that two random halves of
one month differ in *any* column at most as often as asked for (max-statistic: Westfall & Young 1993; Nichols & Holmes
2002). Where there are two references, each has half of the allowance (Bonferroni).

Usual: real months differ by more than random halves do. Where three distances between past months are known, a column
must also be further off than those lead to expect: their median, times what their spread allows.

Known: a month in between may have been another world already, and was said to be. Then this month is no news as long as
it is like last month: a column is at most so far from the earlier month as last month was, and as it is itself from
last month (the triangle inequality). Change so slow that no month said so shows against the earlier month.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theta_ml.quality.columns import Column

STEADY_AFTER = 3
"""Past distances, from which on they say what is usual."""
_NORMAL = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
_SPREADS = 3.0
_LEAST_SPREAD = 0.1
"""Of the logarithm of past distances: three of them may be alike by accident."""
_RELATIVE = 0.02
"""Least spread of chance distances, of their mean: rounding must not decide where every deal gives the same."""
_LEAST = 0.001
"""No distance under this one counts; a column that never changes has a distance of zero, and chance has too."""


def thresholds(columns: Sequence["Column"], rate: float, usual: dict[str, list[float]]) -> dict[str, float]:
    """For each column. `rate`: false alarms allowed, over all columns; `usual`: past distances."""
    import numpy as np

    if not columns:
        return {}
    means = np.array([column.chance.mean() for column in columns])
    spreads = np.array([column.chance.std() for column in columns])
    spreads = np.maximum(spreads, _RELATIVE * means + 1e-9)
    deals = (np.stack([column.chance for column in columns], axis=1) - means) / spreads
    reach = float(np.quantile(deals.max(axis=1), 1 - rate, method="higher"))
    chance = dict(zip([column.name for column in columns], (means + reach * spreads).tolist(), strict=True))
    return {name: max(_LEAST, limit, expected(usual.get(name, []))) for name, limit in chance.items()}


def beyond_known(limits: dict[str, float], known: dict[str, float], newest: dict[str, float]) -> dict[str, float]:
    """Limits of the earlier reference, where the month before was `known` to be so far from it; `newest`: the limits of
    the month before."""
    return {name: max(limit, known.get(name, 0.0) + newest.get(name, limit)) for name, limit in limits.items()}


def expected(past: list[float]) -> float:
    """The largest distance to expect after those between past months; 0 where they are too few to say.

    Median · exp(3 robust standard deviations of the logarithms): one month that drifted among them moves it little.
    """
    logs = [math.log(value) for value in past if value > 0]
    if len(logs) < STEADY_AFTER:
        return 0.0
    spread = _NORMAL * median(abs(value - median(logs)) for value in logs)
    return math.exp(median(logs) + _SPREADS * max(spread, _LEAST_SPREAD))
