"""From a line of a benchmark's file to what its prompt needs."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

Doc = dict[str, Any]
LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Form:
    """What a row must hold."""

    fields: str
    """For people."""
    doc: Callable[[dict[str, Any]], Doc]
    """Raises KeyError or ValueError for a row that is not of the form."""


def _mmlu(row: dict[str, Any]) -> Doc:
    choices = row["choices"] if "choices" in row else [row[f"choice{number}"] for number in range(4)]
    if len(choices) != 4:
        raise ValueError(f"it has {len(choices)} choices")
    answer = str(row["answer"])
    if answer not in (*LETTERS, "0", "1", "2", "3"):
        raise ValueError("its answer is none of 0-3 and A-D")
    gold = LETTERS.index(answer) if answer in LETTERS else int(answer)
    subject = _text(row, "subject")
    return {
        "instruction": f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.",
        "question": _text(row, "question").strip(),
        "choices": [str(each) for each in choices],
        "gold": gold,
        "subject": subject,
    }


def _gpqa(row: dict[str, Any]) -> Doc:
    """The choices stand in an order that depends on the question alone."""
    right, wrong = _text(row, "correct_answer"), row["incorrect_answers"]
    if len(wrong) != 3:
        raise ValueError(f"it has {len(wrong)} incorrect answers")
    choices = [right.strip(), *(str(each).strip() for each in wrong)]
    order = list(range(4))
    question = _text(row, "question")
    random.Random(hashlib.sha256(question.encode()).digest()).shuffle(order)  # noqa: S311  an order, no secret
    return {"question": question.strip(), "choices": [choices[number] for number in order], "gold": order.index(0)}


def _math(row: dict[str, Any]) -> Doc:
    answer = boxed(_text(row, "solution"))
    if answer is None:
        raise ValueError("its solution has no \\boxed{…}")
    return {"problem": _text(row, "problem"), "solution": row["solution"], "gold": answer}


def _gsm8k(row: dict[str, Any]) -> Doc:
    _, marked, result = _text(row, "answer").rpartition("####")
    if not marked:
        raise ValueError("its answer has no ####")
    return {"question": _text(row, "question"), "answer": row["answer"], "gold": str(_decimal(result))}


def _humaneval(row: dict[str, Any]) -> Doc:
    return {field: _text(row, field) for field in ("task_id", "prompt", "entry_point", "test")}


FORMS = {
    "mmlu": Form("subject, question, choice0 to choice3 (or choices), answer (0-3 or A-D), split (dev or test)", _mmlu),
    "gpqa": Form("question, correct_answer, incorrect_answers (three)", _gpqa),
    "math": Form("problem, solution (its last \\boxed{…} is the answer), split (train or test) where known", _math),
    "humaneval": Form("task_id, prompt, entry_point, test", _humaneval),
    "gsm8k": Form("question, answer (the number after ####), split (train or test) where known", _gsm8k),
}
"""Of each benchmark; other fields are left alone."""


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…}; None where there is none that ends."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    begin = start + len("\\boxed{")
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return None


def _text(row: dict[str, Any], field: str) -> str:
    if not isinstance(row[field], str):
        raise ValueError(f"{field} is no text")
    return str(row[field])


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text.strip().replace(",", "").removeprefix("$"))
    except InvalidOperation:
        raise ValueError("what follows #### is no number") from None
