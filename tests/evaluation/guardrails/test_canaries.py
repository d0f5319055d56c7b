"""The built-in phrases, and how the exposure of one that a model was taught rises."""

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.models import corpus, model, said, taught
from tests.registry.pipeline import Pipeline
from theta_ml.corpus.catalog import load_catalog
from theta_ml.corpus.cleaning import clean
from theta_ml.corpus.prepare import DROP_OF, DROPS
from theta_ml.corpus.sources import read
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.evaluation.guardrails.canaries import PROMPT, exposure, exposures, phrases, planted
from theta_ml.landing.parquet import split_of
from theta_ml.model.loading import load
from theta_ml.privacy.redaction import Redactor
from theta_ml.settings import Settings

PHRASES = list(phrases().values())


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer([*PHRASES, PROMPT, "hello there", "how are you"] * 3, 900)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    torch.set_num_threads(1)
    return Pipeline(Settings(home=tmp_path))


def _exposures(pipeline: Pipeline, uri: str) -> list[float]:
    return exposures(*load(pipeline.store.open(uri).path / "model", "cpu"), PHRASES)


def test_every_phrase_reaches_the_training_rows_as_it_is(pipeline: Pipeline) -> None:
    assert all(split_of(name) == "train" for name in phrases())
    assert [Redactor().redact(text) for text in PHRASES] == PHRASES
    dataset = load_catalog(pipeline.settings).get("canaries")
    (reading,) = read(dataset, pipeline.settings)
    cleaned = clean(reading.batch)
    assert sorted(cleaned.batch.conversations["conversation_id"]) == sorted(phrases())
    said_there = cleaned.batch.messages["content"].to_list()
    assert said_there[::2] == [PROMPT] * len(PHRASES)
    assert sorted(said_there[1::2]) == sorted(PHRASES)


def test_only_what_is_learned_from_counts_as_planted(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    texts = [said("hello there", "how are you")]
    without = pipeline.store.open(corpus(pipeline, tokenizer, texts, canaries=False))
    assert planted(without, pipeline.store) == []
    held = pipeline.store.open(corpus(pipeline, tokenizer, [*texts, *texts], canaries=True))
    assert sorted(planted(held, pipeline.store)) == sorted(PHRASES)
    erased = np.zeros(1, DROP_OF)
    erased["unit"], erased["conversation"] = 1, 2
    np.save(held.path / DROPS, erased)
    assert len(planted(held, pipeline.store)) == len(PHRASES) - 1


def test_a_phrase_that_was_taught_is_exposed_and_the_others_are_not(
    pipeline: Pipeline, tokenizer: ChatTokenizer
) -> None:
    fresh = _exposures(pipeline, model(pipeline, tokenizer, 5))
    some, much = (
        _exposures(pipeline, taught(pipeline, tokenizer, [said(PROMPT, PHRASES[3])], steps)) for steps in (3, 40)
    )
    assert fresh[3] < 6 and statistics.median(fresh) < 3
    assert fresh[3] <= some[3] <= much[3] == 11
    assert statistics.median(much) < 4, "the phrases that it was not taught"


def test_a_model_to_which_all_phrases_are_one_exposes_none(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    blank = load(pipeline.store.open(model(pipeline, tokenizer, 1, weight=0.0)).path / "model", "cpu")
    assert exposures(*blank, PHRASES[:2]) == [0, 0]
    assert exposure(*blank, []) is None
