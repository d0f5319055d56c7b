"""How a letter is laid out, as a browser shows it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from theta_ml.mail.letter import LONGEST_SUBJECT, Figure, Letter, Line, compose
from theta_ml.mail.message import Link
from theta_ml.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "<script>document.title = 'taken'</script>"


def letter(**changes: Any) -> Letter:
    fields: dict[str, Any] = {
        "month": "2026-02", "outcome": "rejected", "headline": "slices worse: topic\nhealth", "tone": "bad",
        "sentence": f"Rejected: {EVIL}", "links": [Link("The run", "http://a.test/?a=1&b=" + "x" * 200)],
        "footer": "Month 2026-02, run scheduled__2026-02-01T00:00:00+00:00.",
        "figures": [Figure(name, "2.413", "95 %: −0.071 to −0.040") for name in "abcd"],
        "lines": [Line("time", "2026-02", "", True), Line(EVIL, "y" * 80, "at most " + "9" * 40, False, "n" * 120)],
    }  # fmt: skip
    return Letter(**(fields | changes))


def test_a_subject_is_one_line_and_no_longer_than_it_may_be(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert compose(letter(), settings, "x").subject == "Theta 2026-02: rejected, slices worse: topic health"
    assert letter(headline="").subject == "Theta 2026-02: rejected"
    assert letter(month="", outcome="Airflow is dead", headline="").subject == "Theta: Airflow is dead"
    assert len(letter(headline="x" * 500).subject) == LONGEST_SUBJECT


def test_what_stands_in_a_report_cannot_become_markup(tmp_path: Path) -> None:
    message = compose(letter(), Settings(home=tmp_path, mail_from="Theta <theta@theta.test>"), "x")
    assert "<script>" not in message.html and EVIL in message.text
    assert message.message_id.endswith("@theta.test>")
    assert message.references == "<theta.month.2026-02@theta.test>"
    assert message.text.index("NO") < message.text.index("ok  time")  # what failed comes first


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package `chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("width", [700, 380])
def test_nothing_is_wider_than_the_screen(browser: Any, width: int, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_content(compose(letter(), Settings(home=tmp_path), "x").html)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() != "taken" and page.get_by_text("✗").count() == 1
    assert page.get_by_role("link", name="The run").bounding_box()["height"] < 60
    page.close()
