"""Reports as the stages would make them, for the gate's tests."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from theta_ml.evaluation.comparison import Slice
from theta_ml.evaluation.evaluate import EvaluationReport
from theta_ml.evaluation.gate import Evidence
from theta_ml.evaluation.smoke import judge

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
)


def slice_(value: str, p_value: float | None, conversations: int = 40, difference: float = 0.2) -> Slice:
    return Slice("topic", value, conversations, 2.5, 2.3, difference, p_value, 0.05)


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
    alone = replace(
        GOOD, champion_version=None, champion_month=None, champion_bpb=None, difference=None,
        interval_low=None, interval_high=None,
    )  # fmt: skip
    return evidence(**{"report": alone, "champion_version": None, "champion_month": None, **changes})
