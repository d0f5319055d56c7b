"""The checks that a suite of `expectations/` comes to, on a table of features, in words for people.

How a suite is written is said in `theta_ml.landing.suites`.
"""

import math
from dataclasses import dataclass
from typing import Any

from theta_ml.landing.suites import read_suite
from theta_ml.quality.judging import Judge, require_ran
from theta_ml.quality.tables import FeatureTables
from theta_ml.stage import StageFailed

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One expectation and what was found."""

    name: str
    column: str | None
    passed: bool
    observed: float | str | None
    """Shares are 0-1. None where there was nothing to measure."""
    expected: str
    """The bound in words, for example `at most 10 %`."""
    sentence: str = ""
    """What failed, in plain words; empty where nothing did."""


def run_suite(name: str, tables: FeatureTables, judge: Judge, month: str, parameters: Parameters) -> list[Check]:
    """Every expectation of the suite, in its order; on no rows the first alone, the row count.

    Raises StageFailed where an expectation cannot be run: the suite is at fault, not the data.
    """
    expectations = read_suite(name)["expectations"]
    expectations = expectations if tables.rows[name] else expectations[:1]
    bound = [_bind(expectation, parameters, place) for place, expectation in enumerate(expectations)]
    results = judge.validate(name, tables.names[name], month, [b for b in bound if b])
    return [
        _check(b, results[place]) if b else _not_judged(expectation)
        for place, (b, expectation) in enumerate(zip(bound, expectations, strict=True))
    ]


def _bind(expectation: dict[str, Any], parameters: Parameters, place: int) -> dict[str, Any] | None:
    """The expectation with its parameters' values; None where every bound that it names is unknown this month."""
    named = {k: v["$PARAMETER"] for k, v in expectation["kwargs"].items() if isinstance(v, dict) and "$PARAMETER" in v}
    missing = sorted(set(named.values()) - set(parameters))
    if missing:
        raise StageFailed(f"expectations/ names ${', $'.join(missing)}; there are: {', '.join(sorted(parameters))}")
    values = {key: parameters[name] for key, name in named.items()}
    if values and all(value is None for value in values.values()):
        return None
    known = {key: value for key, value in (expectation["kwargs"] | values).items() if value is not None}
    return {"type": expectation["type"], "kwargs": known, "meta": {**expectation.get("meta", {}), "place": place}}


def _check(bound: dict[str, Any], result: Any) -> Check:
    kwargs, meta = bound["kwargs"], bound["meta"]
    name = meta.get("name", bound["type"])
    require_ran(name, result)
    observed = _observed(result.result)
    expected = _expected(kwargs, meta.get("unit", "rows"))
    sentence = "" if result.success else _sentence(meta, name, observed, expected)
    return Check(name, kwargs.get("column"), bool(result.success), observed, expected, sentence)


def _not_judged(expectation: dict[str, Any]) -> Check:
    name = expectation.get("meta", {}).get("name", expectation["type"])
    return Check(name, expectation["kwargs"].get("column"), True, None, "no earlier month to compare with")


def _observed(result: dict[str, Any]) -> float | str | None:
    if "unexpected_percent" in result:
        # None where every row lacks the value: no row broke the rule
        return float(result["unexpected_percent"] or 0.0) / 100
    if "missing_count" in result:  # a set that the column should contain
        return float(result["missing_count"])
    value = result.get("observed_value")
    if isinstance(value, dict):
        return ", ".join(f"{float(number):g}" for number in value["values"])
    if isinstance(value, str):
        return value
    return None if value is None or math.isnan(value) else float(value)


def _sentence(meta: dict[str, Any], name: str, observed: float | str | None, expected: str) -> str:
    if observed is None:
        return f"{name}: there was nothing to measure ({expected})"
    unit = meta.get("unit", "rows")
    says = meta.get("says", name + ": {observed} ({expected})")
    return str(says.format(observed=shown(observed, "share" if unit == "rows" else unit), expected=expected))


def _expected(kwargs: dict[str, Any], unit: str) -> str:
    if "quantile_ranges" in kwargs:
        ranges = kwargs["quantile_ranges"]["value_ranges"]
        return ", ".join(f"{shown(low, unit)} to {shown(high, unit)}" for low, high in ranges)
    if "value_set" in kwargs and unit == "count":
        return "none"
    if "type_" in kwargs:
        return str(kwargs["type_"]).lower()
    allowed = 1 - kwargs.get("mostly", 1.0)
    if unit == "rows":
        return f"at most {shown(round(allowed, 9), 'share')}" if allowed else "none"
    low, high = (shown(kwargs[end], unit) if end in kwargs else None for end in ("min_value", "max_value"))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}"


def shown(value: float | str, unit: str) -> str:
    """A number as a person reads it: `41 %`, `0.8 %`, `1,204`, `37.5`."""
    if isinstance(value, str):
        return value
    if unit == "share":
        percent = value * 100
        return f"{percent:.0f} %" if percent >= 10 or percent == round(percent) else f"{percent:.2g} %"
    return f"{value:,.0f}" if unit == "count" or value == round(value) else f"{value:,.1f}"
