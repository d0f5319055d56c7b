"""A folder of benchmarks of our own writing."""

import json
from pathlib import Path
from typing import Any

ADD = 'def add(a, b):\n    """The sum of a and b."""\n'
CHECK = "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(-1, 1) == 0\n"


def mmlu(count: int) -> list[dict[str, Any]]:
    rows = []
    for part, number in [("dev", n) for n in range(6)] + [("test", n) for n in range(count)]:
        sums = {f"choice{each}": str(number + each) for each in range(4)}
        subject = ("adding", "small_numbers")[number % 2]
        asked = {"subject": subject, "question": f"What is {number} and {number % 4}?", "answer": str(number % 4)}
        rows.append({"split": part} | asked | sums)
    return rows


def gpqa(count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Which of these is the square of {number}?",
            "correct_answer": str(number * number),
            "incorrect_answers": [str(number * number + each) for each in (1, 2, 3)],
        }
        for number in range(2, count + 2)
    ]


def math(count: int) -> list[dict[str, Any]]:
    said = "One third of ${0}$ is $\\frac{{{0}}}{{3}}$, so the answer is $\\boxed{{\\frac{{{0}}}{{3}}}}$."
    return [
        {"problem": f"What is a third of {number}?", "solution": said.format(number)} for number in range(1, count + 5)
    ]


def gsm8k(count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Ada has {n} pears and buys 1,000. How many?", "answer": f"{n}+1000\n#### {n + 1000:,}"}
        for n in range(1, count + 6)
    ]


def humaneval() -> list[dict[str, Any]]:
    return [{"task_id": "Own/0", "prompt": ADD, "entry_point": "add", "test": CHECK}]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def all_of_them(folder: Path, count: int = 6) -> Path:
    for name, rows in {
        "mmlu": mmlu(count), "gpqa": gpqa(count), "math_test": math(count), "gsm8k_train": gsm8k(count),
        "humaneval": humaneval(),
    }.items():  # fmt: skip
        write(folder, name, rows)
    return folder
