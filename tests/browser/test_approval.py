"""A person is asked for a yes, as Airflow's own pages show it."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.drive import theta_json
from tests.pipeline.runs import Approval

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


LINKS = {
    "Candidate and champion in MLflow": "compare-runs",
    "What the gate looked at": "verdict/verdict.html",
    "Drift of the month": "drift/report.html",
    "Validation of the month": "validate/report.html",
}


def test_a_person_sees_the_evidence_and_says_no(page: Any, stack: Any, first: dict[str, Any]) -> None:
    run = Approval.begin(stack)
    run.until_it_waits()
    verdict = run.verdict()
    page.goto(run.page())
    page.get_by_text(f"make version {verdict['candidate_version']} champion?").wait_for()
    page.get_by_text(verdict["sentence"].removeprefix("Promoted: ")).wait_for()
    rows = page.get_by_role("table").last.get_by_role("row")
    assert rows.count() == 1 + len(verdict["checks"])
    assert "conversations" in rows.nth(2).inner_text()
    links = {title: page.get_by_role("link", name=title).get_attribute("href") for title in LINKS}
    assert all(LINKS[title] in link for title, link in links.items())
    keep(page, "approval")

    assert "2026-02" in shown(page, links["Drift of the month"])
    assert verdict["sentence"].removeprefix("Promoted: ") in shown(page, links["What the gate looked at"])
    page.get_by_role("button", name="Reject").click()
    row = run.row()
    assert (row["decision"], row["actor"]) == ("rejected", "admin")
    assert "admin said no" in row["sentence"]
    assert row["champion_after"] == row["champion_before"] == theta_json(stack.env, "champion")["version"]


def shown(page: Any, link: str) -> str:
    """Text of the report that a link of MLflow leads to; its page holds it in a frame. As a person opens it: beside."""
    beside = page.context.new_page()
    beside.goto(link)
    report = beside.frame_locator("iframe").locator("body")
    report.get_by_text("2026-02").first.wait_for()
    text = str(report.inner_text())
    beside.close()
    return text


def keep(page: Any, name: str) -> None:
    """A picture of the page, where THETA_SCREENSHOTS says to put one."""
    if folder := os.environ.get("THETA_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_deadline_s_no_is_seen(page: Any, stack: Any, unanswered: Approval) -> None:
    page.goto(unanswered.page())
    page.get_by_text("Response received at").wait_for()
    page.get_by_text("2026-02: make version").wait_for()
    keep(page, "deadline")
    page.goto(unanswered.page("decline"))
    page.get_by_text("nobody approved within 0.002 hours").first.wait_for()
    keep(page, "declined")
    assert unanswered.row()["champion_after"] == theta_json(stack.env, "champion")["version"]
