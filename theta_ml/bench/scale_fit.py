"""How a cost grows with the amount of work: a line through the logarithms, and how far it may be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Interval(NamedTuple):
    """A prediction and the 95 % interval around it."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Fit:
    """`cost = exp(intercept) · size ** exponent`, by weighted least squares on the logarithms."""

    exponent: float
    error: float
    """Standard error of the exponent; infinite where two points leave nothing to tell it from."""
    intercept: float
    residual: float
    """Standard deviation of a point of weight 1 around the line, in natural logarithms."""
    centre: float
    """Weighted mean of the logarithms of the sizes."""
    weight: float
    """Sum of the weights."""
    freedom: int
    """Points beyond the two that any line goes through."""

    def at(self, size: float) -> Interval:
        """Prediction for one new measurement at `size` (Draper and Smith, Applied Regression Analysis, 1.4)."""
        middle = math.exp(self.intercept + self.exponent * math.log(size))
        if not self.freedom:
            return Interval(0.0, middle, math.inf)
        from scipy.stats import t

        away = math.log(size) - self.centre
        spread = math.sqrt(self.residual**2 * (1 + 1 / self.weight) + (self.error * away) ** 2)
        factor = math.exp(float(t.ppf(0.975, self.freedom)) * spread)
        return Interval(middle / factor, middle, middle * factor)


def fit(sizes: Sequence[float], costs: Sequence[float], weights: Sequence[float] | None = None) -> Fit:
    """Through two points or more; all numbers are above 0."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    w = list(weights) if weights else [1.0] * len(x)
    weight = sum(w)
    centre, level = (sum(a * b for a, b in zip(w, values, strict=True)) / weight for values in (x, y))
    square = sum(each * (value - centre) ** 2 for each, value in zip(w, x, strict=True))
    exponent = sum(each * (a - centre) * (b - level) for each, a, b in zip(w, x, y, strict=True)) / square
    intercept = level - exponent * centre
    freedom = len(x) - 2
    rest = sum(each * (b - intercept - exponent * a) ** 2 for each, a, b in zip(w, x, y, strict=True))
    residual = math.sqrt(rest / freedom) if freedom else 0.0
    error = residual / math.sqrt(square) if freedom else math.inf
    return Fit(exponent, error, intercept, residual, centre, weight, freedom)


def beyond_start(sizes: Sequence[float], seconds: Sequence[float], start: float) -> Fit:
    """Of the work beyond what a stage takes for next to nothing, `start` seconds.

    Where the start is most of the time, the difference is mostly noise: each point weighs as the square of the share of
    work in it, the inverse variance of the logarithm of work where times have one relative error.
    """
    work = [max(each - start, 0.01 * each) for each in seconds]
    return fit(sizes, work, [(part / whole) ** 2 for part, whole in zip(work, seconds, strict=True)])
