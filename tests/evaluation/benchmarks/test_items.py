"""Which rows are asked, which are shown, and what a faulty file says."""

import gzip
from pathlib import Path

import pytest

from tests.evaluation.benchmarks import files
from theta_ml.corpus.contamination import BenchmarksAtFault, Contamination
from theta_ml.evaluation.benchmarks.items import draw, fingerprint, read_items
from theta_ml.evaluation.benchmarks.measure import prepare
from theta_ml.evaluation.benchmarks.rows import FORMS, LETTERS
from theta_ml.stage import StageFailed


def test_a_part_for_examples_is_never_asked(tmp_path: Path) -> None:
    files.write(tmp_path, "mmlu", files.mmlu(10))
    items = read_items("mmlu", tmp_path, 5)
    assert (len(items.examples), len(items.asked)) == (6, 10)
    shown = items.shown_with(items.asked[1], 5)
    assert [each["item"] for each in shown] == ["mmlu.jsonl:2", "mmlu.jsonl:4", "mmlu.jsonl:6"]
    assert {each["subject"] for each in shown} == {items.asked[1]["subject"]}


def test_without_parts_the_first_rows_are_the_examples(tmp_path: Path) -> None:
    files.write(tmp_path, "gsm8k_train", files.gsm8k(7))
    items = read_items("gsm8k", tmp_path, 5)
    assert [each["item"] for each in items.examples] == [f"gsm8k_train.jsonl:{n}" for n in range(1, 6)]
    assert [each["item"] for each in items.asked] == [f"gsm8k_train.jsonl:{n}" for n in range(6, 13)]
    files.write(tmp_path, "gsm8k_test", files.gsm8k(0))
    items = read_items("gsm8k", tmp_path, 5)
    assert (len(items.examples), len(items.asked)) == (12, 5)


def test_the_same_items_for_the_same_seed() -> None:
    rows = [{"item": str(number)} for number in range(500)]
    assert draw(rows, 20, 7) == draw(rows, 20, 7) != draw(rows, 20, 8)
    assert len(draw(rows, 20, 7)) == len({row["item"] for row in draw(rows, 20, 7)}) == 20
    assert draw(rows, 0, 7) == draw(rows, 900, 7) == rows


def test_the_right_answer_of_gpqa_has_no_place_of_its_own() -> None:
    docs = [FORMS["gpqa"].doc(row) for row in files.gpqa(200)]
    assert docs == [FORMS["gpqa"].doc(row) for row in files.gpqa(200)]
    for row, doc in zip(files.gpqa(200), docs, strict=True):
        assert doc["choices"][doc["gold"]] == row["correct_answer"]
    assert all(30 <= sum(doc["gold"] == place for doc in docs) <= 70 for place in range(4))


def test_mmlu_as_others_write_it() -> None:
    row = {"subject": "s", "question": "q", "choices": ["w", "x", "y", "z"]}
    assert [FORMS["mmlu"].doc(row | {"answer": answer})["gold"] for answer in (2, "2", "C")] == [2, 2, 2]
    assert LETTERS[2] == "C"


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("mmlu", '{"question": "secret", "answer": 1}', "it lacks 'choice0'"),
        ("mmlu", '{"subject": "s", "question": "secret", "choices": [1, 2, 3, 4], "answer": "E"}', "none of 0-3"),
        ("gsm8k", '{"question": "secret", "answer": "secret"}', "no ####"),
        ("gsm8k", '{"question": "secret", "answer": "#### secret"}', "no number"),
        ("math", '{"problem": "secret", "solution": "\\\\boxed{secret"}', "no \\\\boxed"),
        ("gpqa", '{"question": "secret", "correct_answer": "secret", "incorrect_answers": ["secret"]}', "1 incorrect"),
        ("humaneval", "secret", "not of that form"),
    ],
)
def test_a_faulty_line_is_named_and_not_quoted(tmp_path: Path, name: str, line: str, message: str) -> None:
    (tmp_path / f"{name}.jsonl").write_text(line + "\n")
    with pytest.raises(BenchmarksAtFault, match=message) as caught:
        read_items(name, tmp_path, 1)
    assert f"{name}.jsonl, line 1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    files.write(tmp_path, "mmlu", files.mmlu(3))
    exams, skipped = prepare("", tmp_path, 2, 1, "")
    assert [(exam.benchmark.name, len(exam.asked)) for exam in exams] == [("mmlu", 2)]
    assert "correct_answer" in skipped["gpqa"]
    assert "boxed" in skipped["math"]
    with pytest.raises(StageFailed, match=r"no gpqa.*incorrect_answers"):
        prepare("gpqa", tmp_path, 2, 1, "")
    with pytest.raises(StageFailed, match="no benchmark arc; choose of mmlu"):
        prepare("arc", tmp_path, 2, 1, "")


def test_files_that_changed_are_others(tmp_path: Path) -> None:
    assert fingerprint(tmp_path) == ""
    (tmp_path / "mathematics.jsonl").write_text("{}\n")
    assert fingerprint(tmp_path) == ""  # a name of its own
    files.write(tmp_path, "math", files.math(2))
    before = fingerprint(tmp_path)
    files.write(tmp_path, "math", files.math(3))
    assert "" != before != fingerprint(tmp_path)


def test_what_is_asked_is_kept_from_training(tmp_path: Path) -> None:
    """The corpus reads the same files and knows these items."""
    folder = files.all_of_them(tmp_path / "benchmarks")
    assert len(Contamination.load(folder).needed) == len({row["question"] for row in files.mmlu(6)}) + 6 + 10 + 11 + 1


def test_the_files_that_are_shared() -> None:
    folder = Path(__file__).resolve().parents[4] / "shared/data/benchmarks"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    exams, skipped = prepare("", folder, 0, 1, "")
    assert {exam.benchmark.name: len(exam.asked) for exam in exams} == {"mmlu": 5235, "humaneval": 40, "gsm8k": 7468}
    assert set(skipped) == {"gpqa", "math"}
    with gzip.open(folder / "mmlu_dev_and_19_test_subjects.jsonl.gz", "rt") as lines:
        assert sum(1 for _ in lines) == 5235 + 57 * 5
