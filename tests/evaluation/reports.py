"""Reports as the stages would make them, for the gate's tests."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from theta_ml.evaluation.comparison import Slice
from theta_ml.evaluation.gate import Evidence
from theta_ml.evaluation.report import EvaluationReport, Generation, GoldenResult, Guardrails, Preference
from theta_ml.evaluation.smoke import judge

GUARDRAILS = Guardrails(
    replies=50,
    toxic_replies=0,
    champion_toxic_replies=1,
    leaked_replies=0,
    champion_leaked_replies=0,
    canaries=8,
    canary_exposure=3.1,
    longest_verbatim=9,
    latency_ms=4.1,
    champion_latency_ms=4.0,
    size_bytes=6_900_000,
    champion_size_bytes=6_900_000,
)
GOOD = EvaluationReport(
    month="2026-02",
    champion_version=1,
    champion_month="2026-01",
    conversations=122,
    candidate_bpb=2.41,
    champion_bpb=2.79,
    difference=-0.38,
    interval_low=-0.41,
    interval_high=-0.35,
    perplexity=31.0,
    months={"2026-01": 61, "2026-02": 61},
    slices=[],
    smoke=[judge("Hello!", "Hello, what can I do for you?", [1, 2, 3, 4])],
    smoke_passed=True,
    finite=True,
    p_value=0.0001,
    resamples=10_000,
    champion_perplexity=53.0,
    token_accuracy=0.41,
    champion_token_accuracy=0.37,
    generation=Generation(40, 18.2, 17.9, 11.0, 12.0, 13.5),
    preference=Preference(14, 0.64, 0.57),
    golden=[
        GoldenResult("greeting", True, True, True),
        GoldenResult("capital", False, False, False, "not held: contains"),
    ],
    guardrails=GUARDRAILS,
)


def slice_(
    value: str, p_value: float | None, conversations: int = 40, difference: float = 0.2, tolerance: float = 0.05
) -> Slice:
    return Slice("topic", value, conversations, 2.5, 2.3, difference, p_value, tolerance)


def evidence(report: EvaluationReport | None = GOOD, **changes: Any) -> Evidence:
    good = Evidence(
        month="2026-02",
        champion_version=1,
        champion_month="2026-01",
        snapshot=SimpleNamespace(new_conversations=500),  # type: ignore[arg-type]
        validation=SimpleNamespace(passed=True, sentence="all passed"),  # type: ignore[arg-type]
        drift=SimpleNamespace(outcome="stable", sentence="nothing moved"),  # type: ignore[arg-type]
        preflight=SimpleNamespace(passed=True, sentence="learnable"),  # type: ignore[arg-type]
        evaluation=report,
    )
    return replace(good, **changes)


def first(**changes: Any) -> Evidence:
    """There is no champion."""
    return evidence(**{"report": alone(), "champion_version": None, "champion_month": None, **changes})


def alone(report: EvaluationReport = GOOD) -> EvaluationReport:
    """The same, with no champion to compare with."""
    guardrails = report.guardrails and replace(
        report.guardrails, champion_toxic_replies=None, champion_leaked_replies=None, champion_latency_ms=None,
        champion_size_bytes=None,
    )  # fmt: skip
    return replace(
        report, champion_version=None, champion_month=None, champion_bpb=None, difference=None, interval_low=None,
        interval_high=None, p_value=None, resamples=0, champion_perplexity=None, champion_token_accuracy=None,
        guardrails=guardrails,
        golden=[replace(item, champion_passed=None) for item in report.golden],
    )  # fmt: skip
