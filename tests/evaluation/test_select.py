"""The stage on real, tiny models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.models import TEXTS, model, snapshot
from tests.registry.pipeline import Pipeline
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.evaluation import select as stage
from theta_ml.evaluation.select import STAGE, SelectSpec
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed, run_stage


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS * 3, 400)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    torch.set_num_threads(1)
    return Pipeline(Settings(home=tmp_path))


def _select(pipeline: Pipeline, *uris: str) -> dict[str, Any]:
    result = run_stage(STAGE, SelectSpec("2026-02"), list(uris), "run", pipeline.settings, pipeline.events)
    value: dict[str, Any] = pipeline.store.open(result.uri).document["value"]
    return value | {"uri": result.uri}


def test_the_best_on_validation_conversations_is_chosen(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    frozen = snapshot(pipeline, {"2026-01": 4, "2026-02": 4}, split="validation")
    left, right = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2, recipe="scratch")
    broken = model(pipeline, tokenizer, 3, weight=float("nan"), recipe="distill")
    chosen = _select(pipeline, frozen, broken, left, right)
    numbers = {each["recipe"]: each["bits_per_byte"] for each in chosen["candidates"]}
    assert list(numbers) == ["distill", "continue", "scratch"]
    assert numbers["distill"] is None
    best = (left, "continue") if numbers["continue"] < numbers["scratch"] else (right, "scratch")
    assert (chosen["train"], chosen["recipe"]) == best
    assert chosen["conversations"] == 8
    assert "best of 3" in chosen["sentence"]
    assert "distill no finite" in chosen["sentence"]


def test_of_equals_the_first_that_was_asked_for(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    frozen = snapshot(pipeline, {"2026-02": 2}, split="validation")
    left, right = (model(pipeline, tokenizer, 1, weight=0.0, recipe=recipe) for recipe in ("left", "right"))
    assert _select(pipeline, frozen, left, right)["recipe"] == "left"
    assert _select(pipeline, frozen, right, left)["recipe"] == "right"


def test_a_single_candidate_is_not_scored(
    pipeline: Pipeline, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(stage, "_bits_per_byte")
    only = model(pipeline, tokenizer, 1)
    chosen = _select(pipeline, snapshot(pipeline, {"2026-02": 2}, split="validation"), only)
    assert (chosen["train"], chosen["conversations"]) == (only, 0)
    assert chosen["sentence"] == "continue is the only candidate."


def test_a_selection_stands_for_the_winner(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    corpus = pipeline.make("prepare", {"rows": 1})
    winner = pipeline.training("2026-02", inputs={"prepare": corpus})
    loser = pipeline.training("2026-02", recipe="scratch", inputs={"prepare": pipeline.make("prepare", {"rows": 2})})
    uri = pipeline.selection("2026-02", {"continue": winner, "scratch": loser}, "continue")
    inputs = Inputs.open(pipeline.store, [uri])
    assert {name: artifact.uri for name, artifact in inputs.items()} == {
        "select": uri, "train": winner, "prepare": corpus,
    }  # fmt: skip
    assert inputs.artifact("train").uri == winner
    with pytest.raises(StageFailed, match="2 artifacts of train were given, one is wanted: `theta stage select`"):
        Inputs.open(pipeline.store, [uri, loser]).artifact("train")


def test_without_anything_to_choose_from_or_on_it_says_so(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    frozen = snapshot(pipeline, {"2026-02": 2}, split="test")
    with pytest.raises(StageFailed, match="no train was given"):
        _select(pipeline, frozen)
    with pytest.raises(StageFailed, match="no validation conversation"):
        _select(pipeline, frozen, *(model(pipeline, tokenizer, seed) for seed in (1, 2)))
