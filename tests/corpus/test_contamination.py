"""Benchmark items in conversations."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theta_ml.bench.duplicates import batch_of
from theta_ml.corpus.contamination import CONTAINED, GRAM, BenchmarksAtFault, Contamination
from theta_ml.corpus.shingles import words

REAL = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
ITEM = "Weng earns twelve dollars an hour for babysitting and yesterday she did fifty minutes of it so how much"


def _check(items: list[str], documents: list[list[str]]) -> list[bool]:
    found: list[bool] = Contamination.of(pl.Series(items, dtype=pl.String)).check(batch_of(documents)).to_list()
    return found


def test_an_item_in_a_long_conversation_is_found_whatever_its_case_and_punctuation() -> None:
    around = "We talk of this and of that for quite some time."
    half = " ".join(ITEM.split()[: GRAM + 6])
    third = " ".join(ITEM.split()[: GRAM + 2])
    documents = [[around * 20, f"{around} {ITEM.upper()}?!", around], [around * 20], [half, around], [third, around]]
    assert _check([ITEM], documents) == [True, False, True, False]


def test_an_item_may_go_through_several_messages() -> None:
    said = ITEM.split()
    assert _check([ITEM], [[" ".join(said[:5]), " ".join(said[5:])]]) == [True]


def test_a_short_item_is_a_whole_message_or_nothing() -> None:
    items = ["What is the capital of Peru?", "Hello there!"]
    documents = [["what is the capital of peru", "Lima."], ["Tell me, what is the capital of Peru?"], ["hello there"]]
    assert _check(items, documents) == [True, False, False]


def test_what_one_item_repeats_counts_once() -> None:
    """A conversation that says one 8-gram of an item ten times holds one of them."""
    said = " ".join(ITEM.split()[:GRAM])
    assert _check([ITEM], [[". ".join([said] * 10)]]) == [False]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_as_plain_counting_finds(seed: int) -> None:
    draw = np.random.default_rng(seed)
    items = [draw.choice(list("abc"), int(draw.integers(GRAM, 14))).tolist() for _ in range(4)]
    documents = []
    for _ in range(6):
        item = items[int(draw.integers(4))]
        part = item[: int(draw.integers(len(item) + 1))]
        documents.append([*draw.choice(list("abcd"), 5).tolist(), *part, *draw.choice(list("abcd"), 5).tolist()])
    found = _check([" ".join(item) for item in items], [[" ".join(document)] for document in documents])
    assert found == [any(_plainly(document, item) for item in items) for document in documents]


def _plainly(document: list[str], item: list[str]) -> bool:
    grams = [{tuple(said[at : at + GRAM]) for at in range(len(said) - GRAM + 1)} for said in (document, item)]
    return len(grams[0] & grams[1]) >= CONTAINED * len(grams[1])


def test_nothing_to_check_and_nothing_to_find() -> None:
    assert _check([ITEM], []) == []
    assert _check([], [[ITEM]]) == [False]
    assert _check(["", "..."], [[ITEM], [""], ["..."]]) == [False] * 3


def test_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": ITEM, "answer": "ten"}) + "\n\n")
    other = "a problem of eight words or a few more than those"
    with gzip.open(tmp_path / "deep" / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps({"problem": other}) + "\n")
    (tmp_path / "c.txt").write_text("what a line of plain text might say today\n")
    (tmp_path / "ignored.md").write_text("this is no item at all but a note")
    index = Contamination.load(tmp_path)
    documents = [[ITEM], [other], ["what a line of plain text might say today"], ["this is no item at all but a note"]]
    batch = batch_of(documents)
    assert index.check(batch).to_list() == [True, True, True, False]
    assert index.check(batch, words(batch)).to_list() == [True, True, True, False]
    again = Contamination.load(tmp_path)
    assert index.fingerprint() == again.fingerprint()
    (tmp_path / "c.txt").write_text("what a line of plain text may say today\n")
    assert index.fingerprint() != Contamination.load(tmp_path).fingerprint()


def test_errors_name_the_place_and_the_remedy_but_no_text(tmp_path: Path) -> None:
    with pytest.raises(BenchmarksAtFault, match=r"name the folder.*THETA_BENCHMARKS"):
        Contamination.load(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "fine"}\n{"answer": "secret"}\n')
    with pytest.raises(BenchmarksAtFault, match=r"a\.jsonl, line 2: an item needs one of the fields question") as error:
        Contamination.load(tmp_path)
    assert "secret" not in str(error.value)
    path.write_text("secret\n")
    with pytest.raises(BenchmarksAtFault, match="line 1: not JSON") as error:
        Contamination.load(tmp_path)
    assert "secret" not in str(error.value)
    path.unlink()
    for name, content in (("torn.jsonl.gz", gzip.compress(b"x" * 99)[:-9]), ("latin.txt", b"caf\xe9\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchmarksAtFault, match=name):
            Contamination.load(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.skipif(not REAL.exists(), reason="needs the benchmarks of ../shared/data")
def test_items_of_real_benchmarks_are_found() -> None:
    index = Contamination.load(REAL)
    planted = []
    for name, field in (("gsm8k_train", "question"), ("humaneval_first40", "prompt")):
        with gzip.open(REAL / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            planted += [json.loads(line)[field] for line, _ in zip(lines, range(40), strict=False)]
    documents = [["Please help me with this.", f"Well: {item}\nThanks", "Sure."] for item in planted]
    assert index.check(batch_of(documents)).all()
    assert not index.check(batch_of([["Please help me with this.", "Of course, what is it about?"]])).any()
