"""Runs copied from a corpus that is packed as the stage packs it, against a plain search."""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.models import corpus, said
from tests.registry.pipeline import Pipeline
from theta_ml.corpus.prepare import DROP_OF, DROPS
from theta_ml.corpus.tokenizer import ChatTokenizer, Message, train_tokenizer
from theta_ml.evaluation.guardrails.verbatim import FEW, WINDOW, Copied, longest_copy
from theta_ml.settings import Settings
from theta_ml.store import Artifact, ArtifactMissing

CHANCE = random.Random(3)
WORDS = ["".join(CHANCE.choices("aeioulmnrst", k=6)) for _ in range(400)]
TEXTS = [" ".join(CHANCE.choices(WORDS, k=40)) for _ in range(30)]
STOCK = " ".join(CHANCE.choices(WORDS, k=20))
OTHERS = [" ".join(CHANCE.choices(WORDS, k=40)) for _ in range(FEW + 1)]
"""After each of them somebody says STOCK."""


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer([" ".join(WORDS)] * 3, 4000)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(Settings(home=tmp_path))


@pytest.fixture
def packed(pipeline: Pipeline, tokenizer: ChatTokenizer) -> Artifact:
    texts = [*TEXTS, *(f"{text} {STOCK}" for text in OTHERS)]
    marked = [said(f"question {number} {text[-30:]}", text) for number, text in enumerate(texts)]
    return pipeline.store.open(corpus(pipeline, tokenizer, marked, canaries=False))


def _longest(pipeline: Pipeline, packed: Artifact, reply: str, prompt: str = "hello") -> int:
    asked: list[Message] = [{"role": "user", "content": prompt}]
    return longest_copy([Copied(asked, "nothing of it"), Copied(asked, reply)], packed, pipeline.store)


def _part(text: str, first: int, last: int) -> str:
    return " " + " ".join(text.split()[first:last])


def test_the_longest_run_is_found_in_words(pipeline: Pipeline, packed: Artifact) -> None:
    for first, last in ((1, 40), (5, 30), (20, 32)):
        reply = f"well{_part(TEXTS[9], first, last)} and so on"
        assert _longest(pipeline, packed, reply) == last - first
    both = f"so{_part(TEXTS[11], 3, 15)} then{_part(TEXTS[12], 10, 30)} ."
    assert _longest(pipeline, packed, both) == 20


def test_what_is_new_short_said_by_many_or_told_is_no_copy(pipeline: Pipeline, packed: Artifact) -> None:
    assert _longest(pipeline, packed, " ".join(reversed(TEXTS[9].split()))) == 0
    assert _longest(pipeline, packed, f"well{_part(TEXTS[9], 5, 5 + WINDOW // 2)} and so on") == 0
    assert _longest(pipeline, packed, f"well{_part(STOCK, 0, 20)}") == 0
    beyond = f"well{_part(OTHERS[0], 20, 40)}{_part(STOCK, 0, 20)}"
    assert 20 <= _longest(pipeline, packed, beyond) <= 20 + WINDOW
    assert _longest(pipeline, packed, TEXTS[9], prompt=TEXTS[9]) == 0
    assert _longest(pipeline, packed, f"you said{_part(TEXTS[9], 1, 40)}", prompt=f"{_part(TEXTS[9], 1, 40)}?") == 0
    assert _longest(pipeline, packed, "") == 0


def test_what_is_not_learned_from_is_not_searched(pipeline: Pipeline, packed: Artifact) -> None:
    every = np.zeros(200, DROP_OF)
    every["conversation"] = np.arange(200)
    np.save(packed.path / DROPS, every)
    assert _longest(pipeline, packed, TEXTS[9]) == 0


def test_a_corpus_that_is_gone_is_not_one_that_holds_nothing(pipeline: Pipeline, packed: Artifact) -> None:
    packed.document["value"]["units"][0]["key"] = "0" * 32
    with pytest.raises(ArtifactMissing):
        _longest(pipeline, packed, TEXTS[9])
