from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.evaluation.reports import GOOD, evidence, first, slice_
from theta_ml.evaluation.gate import gate
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Verdict


def _failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_a_better_candidate_is_promoted_in_one_sentence() -> None:
    verdict = gate(evidence())
    assert (verdict.decision, _failed(verdict)) == ("promoted", [])
    assert verdict.sentence == (
        "Promoted: 2.41 bits per byte on 122 test conversations against 2.79 of version 1; "
        "the difference lies between −14.7 % and −12.5 %, at least 0.6 % better was asked."
    )


def test_the_first_champion_must_be_asked_for() -> None:
    refused = gate(first())
    assert refused.decision == "rejected"
    assert "there is no champion yet; run with --bootstrap" in refused.sentence
    verdict = gate(first(bootstrap=True))
    assert verdict.decision == "bootstrap"
    assert verdict.sentence.startswith("Bootstrap: 2.41 bits per byte on 122 test conversations; the first champion")


def test_bootstrap_with_a_champion_is_a_comparison_like_any_other() -> None:
    assert gate(evidence(bootstrap=True)).decision == "promoted"
    assert gate(evidence(replace(GOOD, interval_high=0.01), bootstrap=True)).decision == "rejected"


@pytest.mark.parametrize("high", [-0.0278, -0.01, 0.0, 0.4])
def test_the_whole_interval_must_be_better_by_the_smallest_effect(high: float) -> None:
    one_percent = Thresholds(min_effect=0.01)  # of the champion's 2.79: 0.0279
    assert gate(evidence(replace(GOOD, interval_high=-0.028), thresholds=one_percent)).decision == "promoted"
    verdict = gate(evidence(replace(GOOD, interval_low=-0.5, interval_high=high), thresholds=one_percent))
    assert (verdict.decision, _failed(verdict)) == ("rejected", ["difference, upper end"])
    assert verdict.sentence.startswith("Rejected: 2.41 bits per byte on 122")
    assert "the difference lies between −17.9 % and" in verdict.sentence


def test_percents_of_next_to_nothing_are_not_enough() -> None:
    nearly = replace(GOOD, candidate_bpb=0.023, champion_bpb=0.03, difference=-0.007, interval_low=-0.008)
    verdict = gate(evidence(replace(nearly, interval_high=-0.005)))
    assert (verdict.decision, _failed(verdict)) == ("rejected", ["difference, upper end"])
    assert "lies between −0.008 and −0.005 bits, at least 0.01 better was asked" in verdict.sentence
    assert gate(evidence(replace(nearly, candidate_bpb=0.01, interval_high=-0.011))).decision == "promoted"


@pytest.mark.parametrize("champion", [0.2, 0.6, 1.0, 1.6])
def test_of_a_real_model_the_share_alone_is_asked(champion: float) -> None:
    """1 % better within ± 0.3 %: less than what is asked where both know the text by heart."""
    report = replace(GOOD, champion_bpb=champion, candidate_bpb=0.99 * champion, difference=-0.01 * champion)
    report = replace(report, interval_low=-0.013 * champion, interval_high=-0.007 * champion)
    verdict = gate(evidence(report))
    assert verdict.decision == "promoted"
    assert "at least 0.6 % better was asked" in verdict.sentence
    assert gate(evidence(replace(report, interval_high=-0.005 * champion))).decision == "rejected"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"validation": SimpleNamespace(passed=False, sentence="The ids of 4 rows repeat.")}, ["validation"]),
        ({"drift": SimpleNamespace(outcome="broken", sentence="No assistant speaks.")}, ["drift"]),
        ({"drift": SimpleNamespace(outcome="nonsense", sentence="")}, ["drift"]),
        ({"snapshot": SimpleNamespace(new_conversations=3)}, ["new conversations"]),
        ({"snapshot": None}, ["new conversations"]),
        ({"validation": None, "drift": None}, ["validation", "drift"]),
    ],
)
def test_the_data_can_say_no(changes: dict[str, Any], names: list[str]) -> None:
    verdict = gate(evidence(**changes))
    assert (verdict.decision, _failed(verdict)) == ("blocked", names)
    assert verdict.sentence.startswith("Blocked: ")


def test_drifted_and_first_months_pass() -> None:
    for outcome in ("drifted", "no_reference"):
        assert gate(evidence(drift=SimpleNamespace(outcome=outcome, sentence="…"))).decision == "promoted"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"candidate_bpb": None}, "bits per byte"),
        ({"candidate_bpb": 5.1}, "bits per byte"),
        ({"finite": False}, "finite loss"),
        ({"smoke_passed": False}, "smoke generation"),
        ({"interval_high": None}, "difference, upper end"),
        ({"conversations": 19}, "test conversations"),
        ({"champion_version": 7}, "compared with"),
        ({"champion_version": None}, "compared with"),
    ],
)
def test_a_missing_or_bad_number_is_a_failed_check(changes: dict[str, Any], name: str) -> None:
    verdict = gate(evidence(replace(GOOD, **changes)))
    assert verdict.decision == "rejected"
    assert name in _failed(verdict)


def test_nan_is_no_number_that_passes() -> None:
    nan = float("nan")
    verdict = gate(evidence(replace(GOOD, candidate_bpb=nan, interval_high=nan)))
    assert {"bits per byte", "difference, upper end"} <= set(_failed(verdict))


@pytest.mark.parametrize("missing", ["preflight", "evaluation"])
def test_a_stage_that_did_not_run_is_a_no(missing: str) -> None:
    verdict = gate(evidence(**{missing: None}))
    assert verdict.decision == "rejected"
    assert verdict.sentence.startswith("Rejected: ")


def test_nothing_at_all_is_blocked() -> None:
    verdict = gate(first(snapshot=None, validation=None, drift=None, preflight=None, evaluation=None, bootstrap=True))
    assert verdict.decision == "blocked"
    assert verdict.sentence == (
        "Blocked: no validation: what is missing counts as failed; new conversations is missing; "
        "no drift report: what is missing counts as failed."
    )


def test_one_slice_that_got_worse_is_a_no_though_the_whole_got_better() -> None:
    slices = [slice_("travel", 0.0001), slice_("weather", 0.4), slice_("tiny", 0.0001, conversations=5)]
    verdict = gate(evidence(replace(GOOD, slices=slices)))
    assert _failed(verdict) == ["slices"]
    assert "worse: topic travel (+0.20, p 0.0002)" in verdict.sentence
    assert "tiny" not in verdict.sentence


def test_many_slices_are_corrected_for_their_number() -> None:
    slices = [slice_(f"t{number}", 0.02) for number in range(10)]  # one in fifty each, by chance
    assert gate(evidence(replace(GOOD, slices=slices))).decision == "promoted"
    assert gate(evidence(replace(GOOD, slices=slices[:1]))).decision == "rejected"


def test_a_slice_without_its_p_value_fails() -> None:
    report = replace(GOOD, interval_high=None, slices=[slice_("travel", None)])
    verdict = gate(evidence(report))
    assert "slices" in _failed(verdict)
    assert "slices without a p-value: 1" in next(check.note for check in verdict.checks if check.name == "slices")


@pytest.mark.parametrize(
    ("slices", "limits", "said"),
    [
        ([slice_("travel", 0.9, tolerance=0.1)], {}, "(0.1 bits per byte tolerated, not 0.05)"),
        ([slice_("a", 0.9, tolerance=0.02), slice_("b", 0.9)], {}, "(0.02 bits per byte tolerated, not 0.05)"),
        ([slice_("tiny", None, 5, tolerance=0.1), slice_("b", 0.9)], {}, "(0.1 bits per byte tolerated, not 0.05)"),
        ([slice_("travel", None, 19)], {"slice_conversations": 10}, "19 conversations not judged, from 10 on"),
    ],
)
def test_slices_judged_by_other_limits_are_no_evidence(slices: list[Any], limits: dict[str, Any], said: str) -> None:
    verdict = gate(evidence(replace(GOOD, slices=slices), thresholds=Thresholds(**limits)))
    assert _failed(verdict) == ["slices"]
    note = next(check.note for check in verdict.checks if check.name == "slices")
    assert note.startswith("judged by other limits (") and said in note and note.endswith("clear `evaluate`")


def test_p_values_that_could_never_refuse_are_no_evidence() -> None:
    """Of 1,000 resamples none is below 0.001: of 51 slices none is below 0.05 once corrected."""
    slices = [slice_(f"t{number}", 1 / 1001) for number in range(51)]
    verdict = gate(evidence(replace(GOOD, slices=slices, resamples=1000)))
    assert _failed(verdict) == ["slices"] and "no p-value of 1000 resamples" in verdict.sentence
    assert "worse: " in gate(evidence(replace(GOOD, slices=slices[:50], resamples=1000))).sentence
    report = replace(GOOD, slices=[slice_("travel", 0.9), slice_("weather", 0.9)])
    assert _failed(gate(evidence(report, thresholds=Thresholds(slice_alpha=0.0001)))) == ["slices"]


def test_data_older_than_the_champions_is_recorded_never_promoted() -> None:
    verdict = gate(evidence(champion_month="2026-03"))
    assert (verdict.decision, _failed(verdict)) == ("evaluated", ["time"])
    assert verdict.sentence.startswith("Evaluated, not promoted: its data ends with 2026-02")
    assert gate(evidence(champion_month="2026-02")).decision == "promoted"  # the same month again
    assert gate(evidence(replace(GOOD, interval_high=1.0), champion_month="2026-03")).decision == "evaluated"


def test_a_champion_of_unknown_month_is_not_replaced() -> None:
    assert gate(evidence(champion_month=None)).decision == "evaluated"
