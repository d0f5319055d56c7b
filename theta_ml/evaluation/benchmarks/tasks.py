"""The benchmarks as tasks of lm-evaluation-harness: prompt, examples, how a reply is scored.

Prompts and numbers of shots are the customary ones, said as turns of a chat: an example is a user's question and the
assistant's answer. Sources: MMLU arXiv:2009.03300, GPQA 2311.12022, MATH 2103.03874, HumanEval 2107.03374, GSM8K
2110.14168.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from theta_ml.evaluation.benchmarks.rows import LETTERS, Doc, boxed

Scorer = Callable[[Doc, list[str]], float]
"""1 where the (only) reply to an item is right, else 0."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    metric: str
    shots: int
    """Examples before each item, where they fit."""
    config: dict[str, Any]
    """Of the harness' TaskConfig."""
    reply_tokens: int = 0
    """Room for a reply; 0 where the choices' likelihoods are compared."""
    chance: float = 0.0
    """What guessing gets."""
    score: Scorer | None = field(default=None, compare=False)
    """Of a reply; the harness compares likelihoods itself."""


def _choices(question: str, marks: list[str]) -> str:
    lines = (f"{mark} {{choices[{number}]}}" for number, mark in enumerate(marks))
    return "\n".join([question, *lines, "Answer:"])


def _chosen(marks: list[str], prompt: str) -> dict[str, Any]:
    # format_map, for the harness would compile a template of its own again for each example of each item
    prompted = {"output_type": "multiple_choice", "doc_to_text": prompt.format_map}
    return prompted | {"doc_to_choice": marks, "doc_to_target": "gold"}


def _said(prompt: str, answer: str, until: list[str]) -> dict[str, Any]:
    """`answer` is the field that holds it."""
    written = {"until": until, "do_sample": False, "temperature": 0.0}
    prompted = {"output_type": "generate_until", "doc_to_text": prompt.format_map}
    return prompted | {"doc_to_target": answer, "generation_kwargs": written}


_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def same_number(doc: Doc, replies: list[str]) -> float:
    """The last number of the reply is its answer: few examples fit a short context, so that #### is not insisted on."""
    found = _NUMBER.findall(replies[0])
    return float(bool(found) and Decimal(found[-1].replace(",", "")) == Decimal(doc["gold"]))


def same_expression(doc: Doc, replies: list[str]) -> float:
    r"""What the reply boxes, else what it sets between its first and last $, else all of it, normalised as a string
    by the harness' rules (those of the benchmark's authors): \frac12 is \frac{1}{2}, but 0.25 is not 1/4."""
    from lm_eval.tasks.hendrycks_math.utils import is_equiv

    between = re.search(r"\$(.+)\$", replies[0], re.DOTALL)
    answer = boxed(replies[0])
    if answer is None:
        answer = between[1] if between else replies[0].strip()
    return float(bool(is_equiv(answer, doc["gold"])))


def program(doc: Doc, reply: str) -> str:
    """HumanEval's function as completed, its tests, and the call of them."""
    completed = doc["prompt"].rstrip("\n") + "\n" + reply.lstrip("\n")
    return f"{completed}\n\n{doc['test']}\n\ncheck({doc['entry_point']})\n"


def tests_pass(doc: Doc, replies: list[str]) -> float:
    """Whether the completed function passes its tests, in the sandbox."""
    from theta_ml.evaluation.benchmarks.sandbox import passes

    return float(passes(program(doc, replies[0])))


BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark(
            "mmlu",
            "acc",
            shots=5,
            chance=0.25,
            config={
                "description": "instruction",
                **_chosen(list(LETTERS), _choices("{question}", [f"{letter}." for letter in LETTERS])),
            },
        ),
        Benchmark(
            "gpqa",
            "acc",
            shots=0,
            chance=0.25,
            config=_chosen(
                [f"({letter})" for letter in LETTERS],
                _choices(
                    "What is the correct answer to this question: {question}\nChoices:",
                    [f"({letter})" for letter in LETTERS],
                ),
            ),
        ),
        Benchmark(
            "math",
            "exact_match",
            shots=4,
            reply_tokens=400,
            score=same_expression,
            config=_said("Problem:\n{problem}\n\nSolution:", "solution", ["Problem:"]),
        ),
        Benchmark(
            "humaneval",
            "pass@1",
            shots=0,
            reply_tokens=400,
            score=tests_pass,
            config={
                **_said(
                    "Complete this Python function.", "test", ["\nclass", "\ndef", "\n#", "\nif", "\nprint", "```"]
                ),
                "gen_prefix": "prompt",
                "unsafe_code": True,
            },
        ),
        Benchmark(
            "gsm8k",
            "exact_match",
            shots=5,
            reply_tokens=256,
            score=same_number,
            config=_said("Question: {question}\nAnswer:", "answer", ["Question:"]),
        ),
    )
}
"""All that there are, by name."""
