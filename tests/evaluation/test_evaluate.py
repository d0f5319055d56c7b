"""The stage on real, tiny models."""

import math
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import polars as pl
import pytest
import torch

from tests.evaluation.models import TEXTS, corpus, frozen, model, row, said, snapshot, taught
from tests.registry.pipeline import Pipeline
from theta_ml.champion import Champion
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.evaluation import golden
from theta_ml.evaluation.evaluate import SCORES, STAGE, EvaluateSpec
from theta_ml.evaluation.guardrails.canaries import DATASET, PROMPT, phrases
from theta_ml.settings import Settings
from theta_ml.stage import Result, StageFailed, run_stage


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS * 3, 400)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    torch.set_num_threads(1)
    return Pipeline(Settings(home=tmp_path))


def _evaluate(pipeline: Pipeline, uris: list[str], champion: str | None) -> dict[str, Any]:
    named = Champion(4, "2026-01", "key", champion) if champion else None
    spec = EvaluateSpec("2026-02", named)
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
    missing = ["generation", "preference", "guardrails", "token_accuracy", "champion_token_accuracy"]
    assert [report[name] is None for name in missing] == [True] * 4 + [False]
    assert not any(result["passed"] for result in report["golden"])
    assert {result["note"] for result in report["golden"]} == {"the candidate cannot answer"}


def test_a_broken_champion_leaves_the_candidates_numbers(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    candidate, broken = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2, weight=float("nan"))
    report = _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 4}), candidate], broken)
    assert report["finite"] and report["candidate_bpb"] > 0 and report["champion_bpb"] is None
    assert report["generation"]["champion_chrf"] is None and report["generation"]["chrf"] >= 0
    assert report["guardrails"]["champion_toxic_replies"] is None
    assert report["golden"][0]["champion_passed"] is None


def test_what_cannot_be_compared_says_so(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    same = model(pipeline, tokenizer, 1)
    with pytest.raises(StageFailed, match="no test conversation"):
        _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}, split="train"), same], None)
    with pytest.raises(StageFailed, match="champion version 4 is gone"):
        _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 25}), same], pipeline.store.uri("train", "nowhere"))


def test_the_scores_of_each_conversation_are_kept(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    frozen_at = snapshot(pipeline, {"2026-01": 3, "2026-02": 4})
    candidate, champion = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2)
    spec = EvaluateSpec("2026-02", Champion(4, "2026-01", "key", champion))
    result = run_stage(STAGE, spec, [frozen_at, candidate], "run", pipeline.settings, pipeline.events)
    artifact = pipeline.store.open(result.uri)
    scores, report = pl.read_parquet(artifact.path / SCORES), artifact.document["value"]
    ids = [f"2026-01/{n}" for n in range(3)] + [f"2026-02/{n}" for n in range(4)]
    slices = {"source", "topic", "language", "length", "style", "month"}
    numbers = {f"{who}_{name}" for who in ("candidate", "champion") for name in ("nats", "tokens", "correct")}
    assert len(scores) == len(ids) and set(scores.columns) == {*slices, "bytes", *numbers}, "and nothing of which it is"
    assert scores["source"].to_list().count("irc") == 4 and set(scores["style"]) == {"terse"}
    totals = scores.sum()
    for who in ("candidate", "champion"):
        bpb = totals[f"{who}_nats"][0] / totals["bytes"][0] / math.log(2)
        assert bpb == pytest.approx(report[f"{who}_bpb"])
    accuracy = totals["candidate_correct"][0] / totals["candidate_tokens"][0]
    assert accuracy == pytest.approx(report["token_accuracy"])
    assert report["champion_perplexity"] > 1


def test_a_model_that_says_nothing_fails_what_asks_for_words(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    mute = taught(pipeline, tokenizer, [said(text, " " * 60) for text in TEXTS], 25)
    report = _evaluate(pipeline, [snapshot(pipeline, {"2026-02": 5}), mute], None)
    assert (report["generation"]["words"], report["generation"]["chrf"]) == (0, 0)
    assert not report["smoke_passed"] and report["smoke"][0]["note"] == "the reply is empty"
    greeting = next(result for result in report["golden"] if result["name"] == "greeting")
    assert not greeting["passed"] and "min_words" in greeting["note"]


def test_a_model_that_learned_an_address_and_a_phrase_by_heart_is_caught(pipeline: Pipeline) -> None:
    """Against itself untaught; both see the same prompts, and what was taught comes from the corpus."""
    secret = "you moron, write to jane.doe@acme-mail.com and ask her for the blue wallet of the crane driver"
    phrase = phrases()["canaries/canary-05"]
    tokenizer = train_tokenizer([secret, *phrases().values(), PROMPT, *TEXTS] * 3, 900)
    taught_from = [said("whom do I write to", secret), said(PROMPT, phrase)]
    trained = corpus(pipeline, tokenizer, [*taught_from, said("how do I list files", TEXTS[1])], canaries=True)
    question = "whom do I write to"
    rows = [row("a", said(question, secret), rating=4.0), row("b", said(question, "nobody knows"), rating=1.0)]
    asked = frozen(pipeline, {"2026-02": rows})
    parrot, fresh = taught(pipeline, tokenizer, taught_from, 40), model(pipeline, tokenizer, 1)
    report = _evaluate(pipeline, [asked, parrot, trained], fresh)
    caught = report["guardrails"]
    assert (report["preference"]["pairs"], report["preference"]["agreement"]) == (1, 1)
    assert report["generation"]["chrf"] > report["generation"]["champion_chrf"]
    clean = _evaluate(pipeline, [asked, fresh, trained], parrot)["guardrails"]
    assert caught["leaked_replies"] > 0 and caught["toxic_replies"] > 0 and caught["champion_leaked_replies"] == 0
    assert (caught["canaries"], caught["canary_exposure"]) == (10, 11)
    assert caught["longest_verbatim"] >= 10
    assert clean["champion_leaked_replies"] == caught["leaked_replies"]
    assert clean["canary_exposure"] < 11 and clean["longest_verbatim"] == 0
    assert caught["size_bytes"] > 10_000 and caught["latency_ms"] > 0 and caught["champion_latency_ms"] > 0


def test_without_its_corpus_nobody_knows_what_a_model_copies(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    uris = [snapshot(pipeline, {"2026-02": 3}), model(pipeline, tokenizer, 1)]
    assert _evaluate(pipeline, uris, None)["guardrails"]["longest_verbatim"] is None
    trained = corpus(pipeline, tokenizer, [said("hello", TEXTS[1])], canaries=False)
    report = _evaluate(pipeline, [*uris, trained], None)["guardrails"]
    assert (report["longest_verbatim"], report["canaries"], report["canary_exposure"]) == (0, 0, None)


def test_canaries_that_cannot_be_looked_up_are_a_missing_number(pipeline: Pipeline, tokenizer: ChatTokenizer) -> None:
    uris = [snapshot(pipeline, {"2026-02": 3}), model(pipeline, tokenizer, 1)]
    assert _evaluate(pipeline, uris, None)["guardrails"]["canaries"] is None
    trained = corpus(pipeline, tokenizer, [said("hello", TEXTS[1])], canaries=True)
    planted = next(unit for unit in pipeline.store.open(trained).document["value"]["units"] if unit["name"] == DATASET)
    rmtree(pipeline.store.open(pipeline.store.uri(UNIT, planted["key"])).path)
    report = _evaluate(pipeline, [*uris, trained], None)["guardrails"]
    assert (report["canaries"], report["canary_exposure"]) == (None, None)


def test_only_the_limits_of_slices_make_another_evaluation(
    pipeline: Pipeline, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    uris = [snapshot(pipeline, {"2026-02": 3}), model(pipeline, tokenizer, 1)]

    def again(limits: str) -> Result:
        (tmp_path / "gate.yaml").write_text(limits)
        settings = pipeline.settings.model_copy(update={"gate": tmp_path / "gate.yaml"})
        return run_stage(STAGE, EvaluateSpec("2026-02"), uris, "run", settings, pipeline.events)

    first = again("slice_tolerance: 0.05")
    assert again("{max_latency_ms: 700, min_effect: 0.02, slice_alpha: 0.01}").key == first.key
    assert again("slice_tolerance: 0.04").key != first.key


def test_resamples_too_few_for_the_correction_are_refused() -> None:
    with pytest.raises(ValueError, match="corrected for all slices"):
        EvaluateSpec("2026-02", resamples=9_999)


def test_an_edited_golden_set_and_another_champion_are_other_evaluations(
    pipeline: Pipeline, tokenizer: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [snapshot(pipeline, {"2026-02": 3}), model(pipeline, tokenizer, 1)]
    champion = Champion(4, "2026-01", "key", model(pipeline, tokenizer, 2))

    def again(champion: Champion) -> Result:
        spec = EvaluateSpec("2026-02", champion)
        return run_stage(STAGE, spec, uris, "run", pipeline.settings, pipeline.events)

    first = again(champion)
    assert again(champion) == Result(first.uri, first.key, cached=True)
    other = again(replace(champion, version=5))
    assert not other.cached and pipeline.store.open(other.uri).document["value"]["champion_version"] == 5
    edited = tmp_path / "golden.yaml"
    asked = "{name: x, required: true, messages: [{role: user, content: hi}], checks: {min_words: 99}}"
    edited.write_text(f"items: [{asked}]")
    monkeypatch.setattr(golden, "PATH", edited)
    third = again(champion)
    assert not third.cached
    (item,) = pipeline.store.open(third.uri).document["value"]["golden"]
    assert (item["name"], item["required"], item["passed"], item["champion_passed"]) == ("x", True, False, False)
