"""The stage and the command on real, tiny models."""

import json
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from click.testing import CliRunner

from tests.evaluation.benchmarks import files
from tests.evaluation.models import TEXTS, model
from tests.registry.pipeline import Pipeline
from theta_ml.champion import Champion
from theta_ml.cli.benchmark import benchmark
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.evaluation.benchmarks import sandbox
from theta_ml.evaluation.benchmarks.report import BenchmarkReport, metrics
from theta_ml.evaluation.benchmarks.stage import SCORES, STAGE, BenchmarkSpec
from theta_ml.settings import Settings
from theta_ml.stage import Result, StageSkipped, run_stage


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return train_tokenizer(TEXTS * 3, 400)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for anything, and nobody told."""
    torch.set_num_threads(1)

    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def _pipeline(tmp_path: Path, **settings: Any) -> Pipeline:
    return Pipeline(Settings(home=tmp_path, **settings))


def _run(pipeline: Pipeline, uri: str, champion: str | None = None, **spec: Any) -> Result:
    named = Champion(4, "2026-01", "key", champion) if champion else None
    wanted = BenchmarkSpec("2026-02", named, **spec)
    return run_stage(STAGE, wanted, [uri], "run", pipeline.settings, pipeline.events)


def _report(pipeline: Pipeline, result: Result) -> BenchmarkReport:
    from pydantic import TypeAdapter

    return TypeAdapter(BenchmarkReport).validate_python(pipeline.store.open(result.uri).document["value"])


def test_two_models_on_the_same_items(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    pipeline = _pipeline(tmp_path, benchmarks=files.all_of_them(tmp_path / "benchmarks", 8))
    candidate, champion = model(pipeline, tokenizer, 1), model(pipeline, tokenizer, 2)
    made = _run(pipeline, candidate, champion, limit=5)
    report = _report(pipeline, made)
    assert (report.month, report.champion_version) == ("2026-02", 4)
    assert {result.name: result.items for result in report.results} == {"mmlu": 5, "gpqa": 5, "math": 5, "gsm8k": 5}
    assert set(report.skipped) == {"humaneval"}
    assert "THETA_RUN_GENERATED_CODE" in report.skipped["humaneval"]
    lines = [json.loads(line) for line in (pipeline.store.open(made.uri).path / SCORES).read_text().splitlines()]
    for result in report.results:
        scores = [line for line in lines if line["benchmark"] == result.name]
        assert result.value == pytest.approx(sum(line["candidate"] for line in scores) / 5)
        assert result.champion_value == pytest.approx(sum(line["champion"] for line in scores) / 5)
        assert result.difference == pytest.approx((result.value or 0) - (result.champion_value or 0))
    progress = [fields for event, fields in pipeline.events.seen if event == "progress"]
    assert [fields["done"] for fields in progress] == list(range(1, 2 * 5 * (4 + 4 + 1 + 1) + 1))
    assert metrics(report)["benchmark_mmlu"] == report.results[0].value
    assert _run(pipeline, candidate, champion, limit=5).cached
    assert not _run(pipeline, candidate, champion, limit=4, only="gpqa").cached


def test_a_model_does_not_beat_itself(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    pipeline = _pipeline(tmp_path, benchmarks=files.all_of_them(tmp_path / "benchmarks"))
    same = model(pipeline, tokenizer, 1)
    for result in _report(pipeline, _run(pipeline, same, same, only="mmlu,gpqa")).results:
        assert (result.difference, result.difference_stderr) == (0, 0)


def test_a_broken_candidate_has_no_numbers(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    pipeline = _pipeline(tmp_path, benchmarks=files.all_of_them(tmp_path / "benchmarks"))
    broken = model(pipeline, tokenizer, 2, weight=float("nan"))
    (result,) = (report := _report(pipeline, _run(pipeline, broken, only="mmlu"))).results
    assert (result.value, result.stderr, result.champion_value, metrics(report)) == (None, None, None, {})


def test_without_files_there_is_nothing_to_do(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    with pytest.raises(StageSkipped, match="THETA_BENCHMARKS"):
        _run(pipeline := _pipeline(tmp_path), uri := model(pipeline, tokenizer, 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageSkipped, match="has no mmlu"):
        _run(_pipeline(tmp_path, benchmarks=tmp_path / "empty"), uri)


def test_code_is_run_where_it_was_asked_for_and_can_be_shut_in(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path / "benchmarks", "humaneval", files.humaneval())
    pipeline = _pipeline(tmp_path, benchmarks=tmp_path / "benchmarks", run_generated_code=True)
    uri = model(pipeline, tokenizer, 1)
    if not sandbox.why_no_sandbox():
        (result,) = _report(pipeline, _run(pipeline, uri)).results
        assert (result.name, result.value, result.items) == ("humaneval", 0.0, 1)
    monkeypatch.setattr(sandbox, "_JAIL", tmp_path / "no jail.py")
    sandbox.why_no_sandbox.cache_clear()
    try:
        with pytest.raises(StageSkipped, match="humaneval: no sandbox for generated code"):
            _run(pipeline, uri)
    finally:
        sandbox.why_no_sandbox.cache_clear()


def test_by_hand(tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _pipeline(tmp_path)
    folder = pipeline.store.open(model(pipeline, tokenizer, 1)).path
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_BENCHMARKS", str(files.all_of_them(tmp_path / "benchmarks")))
    arguments = ["--model", str(folder), "--only", "mmlu", "--limit", "4"]
    printed = CliRunner().invoke(benchmark, [*arguments, "--json"])
    (result,) = json.loads(printed.stdout)["results"]
    assert (result["name"], result["items"], printed.exit_code) == ("mmlu", 4, 0)
    table = CliRunner().invoke(benchmark, arguments).stdout
    assert "mmlu" in table
    assert f"{result['value']:.3f}" in table
    nowhere = CliRunner().invoke(benchmark, ["--model", str(tmp_path / "nowhere")])
    assert (nowhere.exit_code, "nor a model's folder" in nowhere.output) == (1, True)
