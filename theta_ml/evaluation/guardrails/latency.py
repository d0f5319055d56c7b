"""How long models take for a token, measured in turns, the best of several for each prompt.

What else the machine does only ever adds to a time, and seldom to both models alike: medians of single turns have
called equal models twice as slow as each other beside a busy test run.
"""

import math
import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from theta_ml.evaluation.smoke import PROMPTS

if TYPE_CHECKING:
    from theta_ml.evaluation.guardrails.measure import Model

TOKENS = 16
"""Of each answer; every model makes as many, whether it would have ended or not."""
ROUNDS = 5
"""Times that each prompt is answered; the fastest counts."""


def seconds_per_token(models: Sequence["Model"]) -> list[float]:
    """Median over the fixed prompts, of whole answers, one prompt at a time: what a person who waits is told."""
    for model in models:
        _answer(model, PROMPTS[0])  # the first call of each pays for what is set up once
    taken = [[math.inf] * len(PROMPTS) for _ in models]
    for turn in range(ROUNDS):
        for number, prompt in enumerate(PROMPTS):
            for at in range(len(models)) if (turn + number) % 2 == 0 else reversed(range(len(models))):
                taken[at][number] = min(taken[at][number], _answer(models[at], prompt))
    return [median(times) for times in taken]


def _answer(model: "Model", prompt: str) -> float:
    from theta_ml.model.generation import Sampling, generate_tokens

    ids = model.tokenizer.prompt([{"role": "user", "content": prompt}])
    greedy = Sampling(temperature=0, max_new_tokens=TOKENS)
    began = time.perf_counter()
    generate_tokens(model.model, model.tokenizer, [ids], greedy, min_new_tokens=TOKENS)
    return (time.perf_counter() - began) / TOKENS
