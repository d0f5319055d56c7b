"""How a cost grows with the amount of work: a line through the logarithms, and how far it may be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_NO_END = 300.0
"""Logarithm of a factor around a prediction that says no more than a larger one."""
_LEAST = math.log(0.001)
"""Of the least time the start is at least so much, and of the largest the work: less is not to be seen."""
_EXPONENTS = (0.1, 3.0)
"""Between these one is sought: a flatter one is no growth beside the start, a steeper one no worse."""


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
        factor = math.exp(min(float(t.ppf(0.975, self.freedom)) * spread, _NO_END))
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


@dataclass(frozen=True)
class Growth:
    """`seconds = start + work`, the work a power of the size."""

    start: float
    """Seconds."""
    work: Fit

    def at(self, size: float) -> Interval:
        """Seconds of one new measurement at `size`, the start included."""
        return Interval(*(self.start + each for each in self.work.at(size)))


def beyond_start(sizes: Sequence[float], seconds: Sequence[float]) -> Growth:
    """Start and power law of four points or more, the first of them with next to no work, by least squares.

    The logarithms of whole times are fitted, for it is these that have one relative error: a time less a start measured
    once is mostly noise where the start is most of it, and its logarithm flattens the line. The error is from the
    linearised model (Seber and Wild, Nonlinear Regression, 2.1).
    """
    import numpy as np
    from scipy.optimize import least_squares

    x, y = np.log(sizes), np.log(seconds)
    last = x[-1]  # the work's logarithm is sought at the largest size, where it is best known

    def residuals(found: Any) -> Any:
        start, work, exponent = found
        return np.logaddexp(start, work + exponent * (x - last)) - y

    start = 0.9 * min(seconds)
    guess = [math.log(start), math.log(max(seconds[-1] - start, 0.01 * start)), 1.0]
    flattest, steepest = _EXPONENTS
    bounds = ([min(y) + _LEAST, y[-1] + _LEAST, flattest], [max(y) + 1, max(y) + 1, steepest])
    solved = least_squares(residuals, guess, bounds=bounds, xtol=1e-12, ftol=1e-12)
    freedom = len(y) - len(guess)
    residual = math.sqrt(2 * solved.cost / freedom)
    return Growth(math.exp(solved.x[0]), _line(solved.x[1:], solved.jac, residual, float(last), freedom))


def _line(found: Any, jacobian: Any, residual: float, last: float, freedom: int) -> Fit:
    """The work's line, as if its two parameters came from points around a centre of their own."""
    import numpy as np

    level, exponent = (float(value) for value in found)
    _, (_, one, both), (_, _, other) = np.linalg.inv(jacobian.T @ jacobian)
    centre, weight = last - both / other, 1 / (one - both**2 / other)
    error = residual * math.sqrt(other)
    return Fit(exponent, error, level - exponent * last, residual, float(centre), float(weight), freedom)
