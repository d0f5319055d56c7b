"""The stage on real, tiny models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.models import TEXTS, model, snapshot
from tests.registry.pipeline import Pipeline
from theta_ml.champion import Champion
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.evaluation.evaluate import STAGE, EvaluateSpec
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed, run_stage


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS * 3, 400)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    torch.set_num_threads(1)
    return Pipeline(Settings(home=tmp_path))


def _evaluate(pipeline: Pipeline, uris: list[str], champion: str | None) -> dict[str, Any]:
    named = Champion(4, "2026-01", "key", champion) if champion else None
    spec = EvaluateSpec("2026-02", named, resamples=1000)
    result = run_stage(STAGE, spec, uris, "run", pipeline.settings, pipeline.events)
    value: dict[str, Any] = pipeline.store.open(result.uri).document["value"]
    return value


def test_two_models_on_the_same_conversations(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    frozen = snapshot(pipeline, {"2026-01": 30, "2026-02": 25})
    candidate, champion = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2, weight=0.7)
    report = _evaluate(pipeline, [frozen, candidate], champion)
    assert (report["champion_version"], report["conversations"]) == (4, 55)
    assert report["months"] == {"2026-01": 30, "2026-02": 25}
    assert report["finite"]
    assert report["interval_low"] <= report["difference"] <= report["interval_high"]
    assert report["difference"] == pytest.approx(report["candidate_bpb"] - report["champion_bpb"])
    assert {(s["name"], s["value"]): s["conversations"] for s in report["slices"]} == {
        ("source", "irc"): 28, ("source", "help"): 27, ("topic", "files"): 55, ("language", "unknown"): 55,
        ("length", "short"): 55, ("style", "terse"): 55, ("month", "2026-01"): 30, ("month", "2026-02"): 25,
    }  # fmt: skip
    assert all(0 < s["p_value"] <= 1 for s in report["slices"])
    assert report["smoke"][0]["prompt"] == "Hello! Who are you?"
    assert _evaluate(pipeline, [frozen, candidate], champion) == report


def test_a_model_does_not_beat_itself(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    same = model(pipeline, tokenizer, 1)
    report = _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}), same], same)
    assert (report["difference"], report["interval_low"], report["interval_high"]) == (0, 0, 0)


def test_the_first_has_nobody_to_compare_with(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    report = _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 3}), model(pipeline, tokenizer, 1)], None)
    assert report["candidate_bpb"] > 0
    missing = ["champion_version", "champion_bpb", "difference", "interval_low", "interval_high"]
    assert [report[name] for name in missing] == [None] * 5


def test_a_broken_model_has_no_numbers(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    champion, broken = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2, weight=float("nan"))
    report = _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}), broken], champion)
    assert (report["finite"], report["candidate_bpb"], report["interval_high"]) == (False, None, None)
    assert report["perplexity"] is None
    assert (report["smoke"], report["smoke_passed"]) == ([], False)


def test_what_cannot_be_compared_says_so(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    same = model(pipeline, tokenizer, 1)
    with pytest.raises(StageFailed, match="no test conversation"):
        _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}, split="train"), same], None)
    with pytest.raises(StageFailed, match="champion version 4 is gone"):
        _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}), same], pipeline.store.uri("train", "nowhere"))
