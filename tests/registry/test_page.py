from dataclasses import replace

from tests.evaluation.reports import GOOD, evidence, slice_
from theta_ml.evaluation.gate import gate
from theta_ml.evaluation.report import GoldenResult, Guardrails, Preference
from theta_ml.registry.page import markdown, page


def test_a_verdict_shows_groups_slices_and_both_models_numbers() -> None:
    report = replace(
        GOOD,
        slices=[slice_("billing <b>", 0.9), slice_("delivery", 0.0001)],
        token_accuracy=0.4,
        champion_token_accuracy=0.35,
        preference=Preference(31, 0.61, 0.55),
        golden=[GoldenResult("greets", True, False, True, "no greeting")],
        guardrails=Guardrails(50, 1, 2, 0, 0, 10, 3.2, 17, 41.0, 39.5, 2**24, 2**24),
    )
    verdict = gate(evidence(report))
    assert verdict.decision == "rejected"
    html = page(verdict, report)
    assert "Rejected: 2.41 bits per byte" in html
    for text in (
        "The data",
        "Guardrails",
        "The golden set",
        "delivery",
        "16.0",
        "39.5",
        "−0.380",
        "61.0",
        "no greeting",
    ):
        assert text in html
    assert "billing <b>" not in html  # what a feed calls its topics is text
    assert html.count('<tr class="failed">') == sum(not check.passed for check in verdict.checks) + 1
    assert "src=" not in html
    table = markdown(verdict).splitlines()
    assert len(table) == 4 + len(verdict.checks)
    assert any(line.startswith("| **failed** | slices |") for line in table)


def test_a_month_that_was_blocked_has_a_page_without_numbers() -> None:
    verdict = gate(evidence(None, validation=None))
    html = page(verdict, None)
    assert verdict.decision == "blocked"
    assert "missing" in html
    assert "Candidate and champion" not in html
