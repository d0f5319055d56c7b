"""Great Expectations, kept quiet: a suite of `expectations/`, a table of features, and what came of it.

A suite is Great Expectations' own JSON. A bound is a number, or `{"$PARAMETER": name}` for one that the stage's
parameters or the months before decide. Each expectation's `meta` says how a person should read it: `name`, `unit` of
the observed value (count, number, share; without one it is the share of rows that fail) and `says`, the sentence where
it fails.
"""

import hashlib
import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.stage import StageFailed

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).parents[2] / "expectations"
Parameters = dict[str, Any]

# Never a value in a result: identifiers and timestamps of people do not belong in reports.
_RESULT_FORMAT = {"result_format": "BASIC", "exclude_unexpected_values": True, "partial_unexpected_count": 0}


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


def read_suite(name: str) -> dict[str, Any]:
    """Raises StageFailed where `expectations/NAME.json` is missing or no suite."""
    path = FOLDER / f"{name}.json"
    try:
        suite: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StageFailed(f"cannot read the expectations in {path}: {error}") from None
    if not suite.get("expectations"):
        raise StageFailed(f"{path} holds no expectations: a month without any would pass unseen")
    return suite


def suites_key(names: list[str]) -> str:
    """Changes with any edit of the suites, so that the stage runs again."""
    text = json.dumps([read_suite(name) for name in names], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_suite(suite: dict[str, Any], frame: "pd.DataFrame", month: str, parameters: Parameters) -> list[Check]:
    """Every expectation of the suite on the frame, in the suite's order; on no rows the first alone, the row count.

    Raises StageFailed where an expectation cannot be run: the suite is at fault, not the data.
    """
    expectations = suite["expectations"] if len(frame) else suite["expectations"][:1]
    bound = [_bind(expectation, parameters, place) for place, expectation in enumerate(expectations)]
    results = _validate(suite["name"], [b for b in bound if b], frame, month)
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


def _validate(name: str, expectations: list[dict[str, Any]], frame: "pd.DataFrame", month: str) -> dict[int, Any]:
    """Results by the expectation's place in the suite: Great Expectations returns them in an order of its own."""
    context, suite_class = _quiet_context()
    asset = context.data_sources.add_pandas("snapshot").add_dataframe_asset(name)
    # The batch is named after its month: the default would be "the newest".
    batch = asset.add_batch_definition_whole_dataframe(month).get_batch({"dataframe": frame})
    outcome = batch.validate(suite_class(name=name, expectations=expectations), result_format=_RESULT_FORMAT)
    return {result.expectation_config.meta["place"]: result for result in outcome.results}


def _quiet_context() -> tuple[Any, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    configuration = DataContextConfig(
        # No Data Docs: each context would leave a temporary directory behind.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=configuration), gx.ExpectationSuite


def _check(bound: dict[str, Any], result: Any) -> Check:
    kwargs, meta = bound["kwargs"], bound["meta"]
    name = meta.get("name", bound["type"])
    _require_ran(name, result)
    observed = _observed(result.result)
    expected = _expected(kwargs, meta.get("unit", "rows"))
    sentence = "" if result.success else _sentence(meta, name, observed, expected)
    return Check(name, kwargs.get("column"), bool(result.success), observed, expected, sentence)


def _require_ran(name: str, result: Any) -> None:
    info = result.exception_info or {}
    faults = [info] if "raised_exception" in info else list(info.values())
    raised = next((fault for fault in faults if fault.get("raised_exception")), None)
    if raised:
        raise StageFailed(f"expectation {name!r} could not be run: {raised['exception_message']}")


def _not_judged(expectation: dict[str, Any]) -> Check:
    name = expectation.get("meta", {}).get("name", expectation["type"])
    return Check(name, expectation["kwargs"].get("column"), True, None, "no earlier month to compare with")


def _observed(result: dict[str, Any]) -> float | str | None:
    if "unexpected_percent" in result:
        # None where every row lacks the value: no row broke the rule
        return float(result["unexpected_percent"] or 0.0) / 100
    value = result.get("observed_value")
    if isinstance(value, dict):
        return ", ".join(f"{float(number):g}" for number in value["values"])
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
    allowed = 1 - kwargs.get("mostly", 1.0)
    if unit == "rows":
        return f"at most {shown(allowed, 'share')}" if allowed else "none"
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
