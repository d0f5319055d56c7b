"""The corpus' books: they balance or say where they do not, and the page shows nothing from elsewhere."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.cleaned import asked, batch
from theta_ml.corpus.cleaning import Sample, clean
from theta_ml.corpus.report import Accounting, BooksDoNotBalance, UnitAccount, differences, write

MONTH = UnitAccount(
    "2014-12",
    100,
    {"no_assistant_turn": 7, "language": 3},
    {"near duplicate": 5},
    10,
    {"train": 65, "validation": 10},
    {"whitespace": 4, "language": 2},
    [Sample(1, "whitespace", "c1", "a  ", "a"), Sample(2, "language", "c2", "user: <script>alert(1)</script>", "")],
    2.0,
    3000,
)
SET = UnitAccount("theta-coding", 20, {}, {}, 0, {"train": 20}, weight=0.5, epoch_tokens=1000)


def test_the_report_accounts_for_every_conversation(tmp_path):
    write(tmp_path, Accounting("2014-12", [MONTH, SET]))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["sentence"] == (
        "Of 120 conversations 95 are learned from, 10 held out to judge models by and 15 left out, "
        "each for a reason below"
    )
    total = report["total"]
    assert (total["read"], total["held_out"], total["kept"]) == (120, 10, {"train": 85, "validation": 10})
    assert (total["rejected"], total["dropped"]) == ({"no_assistant_turn": 7, "language": 3}, {"near duplicate": 5})
    assert [unit["name"] for unit in report["units"]] == ["2014-12", "theta-coding"]


@pytest.mark.parametrize(
    "change", [{"read": 101}, {"rejected": {}}, {"dropped": {"a": 6}}, {"held_out": 9}, {"kept": {"train": 75, "v": 1}}]
)
def test_books_that_do_not_balance_are_never_written(tmp_path, change):
    with pytest.raises(BooksDoNotBalance, match=r"^2014-12: .* were read, .* are accounted for"):
        write(tmp_path, Accounting("2014-12", [SET, replace(MONTH, **change)]))
    assert not list(tmp_path.iterdir())


def test_a_negative_count_does_not_balance():
    with pytest.raises(BooksDoNotBalance):
        replace(SET, kept={"train": 21, "validation": -1}).check()


def test_the_page_stands_alone_and_escapes_what_it_shows(tmp_path):
    write(tmp_path, Accounting("2014-12", [MONTH, SET]))
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page
    assert not re.search(r"<link|<img|@import|url\(|https?://", page)
    assert "<del>··</del>" in page
    assert re.search(r"75\.0 %", page) and re.search(r"25\.0 %", page)


def test_an_empty_corpus_has_a_report(tmp_path):
    write(tmp_path, Accounting("2014-12", [UnitAccount("2014-12", 0, {}, {}, 0, {})]))
    assert "Of 0 conversations 0 are learned from" in (tmp_path / "report.html").read_text()


@given(st.text(max_size=40), st.text(max_size=40))
def test_differences_lead_from_one_text_to_the_other(before, after):
    pieces = differences(before, after)
    same = "".join(piece.text for piece in pieces if piece.kind == "same")
    assert (before == after) == all(piece.kind == "same" for piece in pieces)
    assert len(same) <= min(len(before), len(after))


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_the_page_renders(tmp_path):
    cleaned = clean(batch(*(asked(f"Hello<br>number {n} &amp; more ", "Sure.\u200b") for n in range(9))))
    account = UnitAccount("set", 9, {}, {}, 0, {"train": 9}, cleaned.changed, cleaned.samples, 1.0, 10)
    write(tmp_path, Accounting("2014-12", [account]))
    command = ["chromium", "--headless", "--no-sandbox", "--dump-dom", f"file://{tmp_path}/report.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.count('class="sample"') == 9 and "<del>⟨200B⟩</del>" in shown
