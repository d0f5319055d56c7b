"""Whatever is missing, the gate says no."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.reports import GOOD, alone, evidence, first, slice_
from tests.evaluation.test_budgets import benchmark
from theta_ml.evaluation.gate import Evidence, gate
from theta_ml.evaluation.thresholds import Thresholds

REPORT = replace(GOOD, slices=[slice_("travel", 0.4), slice_("weather", 0.9)])
WHOLE = evidence(REPORT, benchmarks=benchmark(0.01))
ALONE = first(
    report=alone(GOOD),
    bootstrap=True,
    benchmarks=replace(benchmark(None, None, champion_value=None), champion_version=None),
)
MAY_BE_NONE = {
    "perplexity", "champion_perplexity",  # of no worth between two tokenizers
    "champion_chrf", "champion_words", "champion_agreement",  # shown
    "stderr", "champion_stderr",  # of each alone: the difference has its own
    "candidate_bpb.slice", "champion_bpb.slice", "difference.slice",  # shown; the p-value judges
    "preference", "generation",  # the run had nothing for them
    "benchmarks", "selection",
}  # fmt: skip
"""What the gate does not judge by."""

Path = tuple[str | int, ...]


def _numbers(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Places of all that is there, dataclasses within dataclasses."""
    if is_dataclass(value) and not isinstance(value, Thresholds):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _numbers(each, (*path, number))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _with(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    head, *rest = path
    if isinstance(head, int):
        return [_with(each, tuple(rest), new) if at == head else each for at, each in enumerate(value)]
    return replace(value, **{head: _with(getattr(value, head), tuple(rest), new)})


def _judged(path: Path) -> bool:
    name = f"{path[-1]}.slice" if "slices" in path else str(path[-1])
    return not {name, str(path[-1])} & MAY_BE_NONE


def _places(whole: Evidence, floats: bool) -> list[Path]:
    """Of floats all, which no NaN may hide in; else of what the gate judges by."""
    left_out = {"champion_version", "month"}
    found = [(path, value) for path, value in _numbers(whole) if path[-1] not in left_out]
    return [path for path, value in found if (isinstance(value, float) if floats else _judged(path))]


def _crowns(given_evidence: Evidence) -> bool:
    return gate(given_evidence).decision in ("promoted", "bootstrap")


def test_with_everything_there_both_are_a_yes() -> None:
    assert _crowns(WHOLE)
    assert _crowns(ALONE)
    assert len(_places(WHOLE, floats=True)) > 25


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_number_that_is_none_is_never_promoted(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([WHOLE, ALONE]))
    counts = {"conversations", "replies", "canaries", "pairs", "items", "shots", "words", "reference_words", "cut"}
    counts |= {"shots_shown", "chance", "tolerance", "chrf", "resamples"}  # of which there is always one
    places = [path for path in _places(whole, floats=False) if path[-1] not in counts]
    for path in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        whole = _with(whole, path, None)
    assert not _crowns(whole)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_none_at_all_is_never_promoted(data: st.DataObject, strange: float) -> None:
    whole = data.draw(st.sampled_from([WHOLE, ALONE]))
    whole = _with(whole, data.draw(st.sampled_from(_places(whole, floats=True))), strange)
    assert not _crowns(whole)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from(["snapshot", "validation", "drift", "preflight", "evaluation"]), min_size=1))
def test_a_stage_that_did_not_run_is_never_promoted(missing: set[str]) -> None:
    for whole in (WHOLE, ALONE):
        nothing: dict[str, Any] = dict.fromkeys(missing)
        assert not _crowns(replace(whole, **nothing))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["guardrails", "token_accuracy", "interval_low", "difference"]))
def test_a_part_that_is_missing_is_never_promoted(part: str) -> None:
    nothing: dict[str, Any] = {part: None}
    assert not _crowns(replace(WHOLE, evaluation=replace(REPORT, **nothing)))


def test_a_champion_held_by_hand_is_never_replaced() -> None:
    held = 'version 3 was put in production by anna until 2026-04-01: "the new one is rude"'
    verdict = gate(replace(WHOLE, hold=held))
    assert verdict.decision == "evaluated"
    assert held in verdict.sentence
    worse = replace(REPORT, interval_high=0.1)
    assert gate(replace(WHOLE, hold=held, evaluation=worse)).decision == "evaluated"
    blocked = SimpleNamespace(passed=False, sentence="The ids of 4 rows repeat.")
    assert gate(replace(WHOLE, hold=held, validation=blocked)).decision == "blocked"  # type: ignore[arg-type]
