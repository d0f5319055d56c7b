"""How long models take for a token, measured in turns, so that what else the machine does slows them alike."""

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from theta_ml.evaluation.smoke import PROMPTS

if TYPE_CHECKING:
    from theta_ml.evaluation.guardrails.measure import Model

TOKENS = 16
"""Of each answer; every model makes as many, whether it would have ended or not."""


def seconds_per_token(models: Sequence["Model"]) -> list[float]:
    """Median over the fixed prompts, of whole answers, one prompt at a time: what a person who waits is told."""
    taken: list[list[float]] = [[] for _ in models]
    for model in models:
        _answer(model, PROMPTS[0])  # the first call of each pays for what is set up once
    for number, prompt in enumerate(PROMPTS):
        for at in range(len(models)) if number % 2 == 0 else reversed(range(len(models))):
            taken[at].append(_answer(models[at], prompt))
    return [median(times) for times in taken]


def _answer(model: "Model", prompt: str) -> float:
    from theta_ml.model.generation import Sampling, generate_tokens

    ids = model.tokenizer.prompt([{"role": "user", "content": prompt}])
    greedy = Sampling(temperature=0, max_new_tokens=TOKENS)
    began = time.perf_counter()
    generate_tokens(model.model, model.tokenizer, [ids], greedy, min_new_tokens=TOKENS)
    return (time.perf_counter() - began) / TOKENS
