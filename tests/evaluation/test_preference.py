from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.models import frozen, row, said, taught
from tests.registry.pipeline import Pipeline
from theta_ml.corpus.tokenizer import train_tokenizer
from theta_ml.evaluation.preference import RatedPair, agreement, rated_pairs
from theta_ml.model.loading import load
from theta_ml.settings import Settings

QUESTION, GOOD, BAD = "how do I list files", "type ls and press enter", "look it up yourself"


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    torch.set_num_threads(1)
    return Pipeline(Settings(home=tmp_path))


def _rated(question: str, answer: str, rating: float | None) -> list[dict[str, Any]]:
    asked, answered = said(question, answer)
    return [{**asked, "rating": None}, {**answered, "rating": rating}]


def _pairs(pipeline: Pipeline, *rows: dict[str, Any]) -> list[RatedPair]:
    return rated_pairs(pipeline.store.open(frozen(pipeline, {"2026-02": list(rows)})).path, 10)


def test_a_liked_and_a_disliked_answer_to_the_same_words_are_a_pair(pipeline: Pipeline) -> None:
    (pair,) = _pairs(
        pipeline,
        row("a", said(QUESTION, GOOD), rating=5.0),
        row("b", said(QUESTION, BAD), rating=1.0),
        row("c", said(QUESTION, "maybe"), rating=3.0),
        row("d", said(QUESTION, "perhaps")),
        row("e", said("another question", BAD), rating=1.0),
    )
    assert pair == RatedPair(said(QUESTION, GOOD)[:1], GOOD, BAD)


def test_an_answers_own_rating_goes_before_the_conversations(pipeline: Pipeline) -> None:
    liked, disliked = _rated(QUESTION, BAD, 5.0), _rated(QUESTION, GOOD, 1.5)
    (pair,) = _pairs(pipeline, row("a", liked, rating=1.0), row("b", disliked, rating=5.0))
    assert (pair.liked, pair.disliked) == (BAD, GOOD)


def test_what_says_nothing_gives_no_pair(pipeline: Pipeline) -> None:
    both = [row("a", said(QUESTION, GOOD), rating=5.0), row("b", said(QUESTION, GOOD), rating=1.0)]
    assert _pairs(pipeline, *both) == []
    taught_from = [row("a", said(QUESTION, GOOD), rating=5.0), row("b", said(QUESTION, BAD), rating=1.0, split="train")]
    assert _pairs(pipeline, *taught_from) == []
    aside = [row("a", said(QUESTION, GOOD), rating=5.0), row("b", said(QUESTION, BAD), rating=1.0, faults=["empty"])]
    assert _pairs(pipeline, *aside) == []


def test_a_model_agrees_with_what_it_was_taught(pipeline: Pipeline) -> None:
    tokenizer = train_tokenizer([QUESTION, GOOD, BAD] * 3, 300)
    folder = pipeline.store.open(taught(pipeline, tokenizer, [said(QUESTION, GOOD)], 25)).path / "model"
    pair = RatedPair(said(QUESTION, GOOD)[:1], GOOD, BAD)
    turned = RatedPair(pair.prompt, BAD, GOOD)
    same = RatedPair(pair.prompt, GOOD, GOOD)
    assert agreement([pair], *load(folder, "cpu")) == 1
    assert agreement([turned], *load(folder, "cpu")) == 0
    assert agreement([pair, turned, same], *load(folder, "cpu")) == 0.5
