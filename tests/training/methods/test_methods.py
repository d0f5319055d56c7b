"""Distillation and preference training, on models small enough for a test."""

import copy
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from tests.training.made_rows import VOCABULARY, MadeRows
from theta_ml.corpus.pairs import Pair
from theta_ml.corpus.rows import Taken
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.training.data import make_batch
from theta_ml.training.fit import Fit, Fitted, fit
from theta_ml.training.methods.distill import TEACHER, DistillTrainer, distillation_loss
from theta_ml.training.methods.preference import REFERENCE, TOKENIZER, PairRows, PreferenceTrainer
from theta_ml.training.presets import Hyper
from theta_ml.training.stop import Stopped
from theta_ml.training.trainer import ThetaTrainer

HYPER = Hyper(rows_per_step=4, rows_at_once=2, epochs=4, max_steps=24, rate_scratch=3e-3, rate_champion=1e-3)


def model(size: int = 32, vocabulary: int = VOCABULARY, layers: int = 1, **more: Any) -> ThetaForCausalLM:
    torch.manual_seed(0)
    shape = {"vocab_size": vocabulary, "hidden_size": size, "intermediate_size": 2 * size, "num_hidden_layers": layers}
    return ThetaForCausalLM(
        ThetaConfig(**shape, num_attention_heads=2, max_position_embeddings=64, dropout=0.0, **more)
    )


def kl(student: PreTrainedModel, teacher: PreTrainedModel) -> float:
    """From the teacher to the student, in nats a token, on rows that neither was trained on."""
    batch = make_batch(MadeRows(32, seed=9), list(range(32)), loss_at=False)
    seen = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
    with torch.no_grad():
        ours, theirs = (torch.log_softmax(each.eval()(**seen).logits, -1) for each in (student, teacher))
    return float(torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1).mean())


class ByTwo(MadeRows):
    """Counts by two: who learns from these holds opinions that the others do not tell of."""

    def take(self, chosen: NDArray[np.int64]) -> Taken:
        taken = super().take(chosen)
        return replace(taken, tokens=((taken.tokens + taken.positions) % VOCABULARY).astype(np.uint16))


class Distance(TrainerCallback):
    """Of the student from the teacher after the last step: what is kept is judged by the conversations alone."""

    def __init__(self, teacher: PreTrainedModel) -> None:
        self.teacher, self.value = teacher, math.inf

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            self.value = kl(kwargs["model"], self.teacher)


def test_a_student_learns_what_its_teacher_thinks(tmp_path: Path) -> None:
    teacher, rows, hard = model(48), MadeRows(64), HYPER.changed({"max_steps": 80, "epochs": 80})
    fit(Fit(teacher, hard, ByTwo(64), ByTwo(8), 1e-2, 1, tmp_path / "teacher"))
    before = copy.deepcopy(teacher.state_dict())
    distances = {}
    for trainer in (DistillTrainer, ThetaTrainer):
        distance = Distance(teacher)
        work = Fit(model(24), hard, rows, MadeRows(8), 1e-2, 1, tmp_path / trainer.__name__, callbacks=[distance])
        work.trainer, work.extra = trainer, {TEACHER: teacher}
        assert math.isfinite(fit(work).best_validation_loss)
        distances[trainer] = distance.value
    assert distances[DistillTrainer] < 0.7 * distances[ThetaTrainer]
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_the_softened_part_is_nothing_between_equals_and_cross_entropy_stays() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 11), torch.randint(0, 11, (7,))
    hard = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    assert torch.allclose(distillation_loss(logits, logits, targets), 0.5 * hard, atol=1e-5)
    assert distillation_loss(logits, torch.randn(7, 11), targets) > 0.5 * hard


@pytest.fixture
def tokenizer(tmp_path: Path) -> ChatTokenizer:
    made = train_tokenizer(["where is my order, it has not come"] * 50, 512)
    made.save(tmp_path / "tokenizer", 64)
    return made


def pairs(tokenizer: ChatTokenizer, count: int) -> PairRows:
    """To whatever is asked, people like `it has come` and dislike `where is it`."""

    def answer(text: str) -> list[int]:
        return [*tokenizer.tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.end]

    prompts = [tokenizer.prompt([{"role": "user", "content": f"where is my order {n}"}]) for n in range(count)]
    return PairRows([Pair(prompt, answer("it has come"), answer("where is it")) for prompt in prompts], 64)


def log_likelihood(of: PreTrainedModel, prompt: list[int], answer: list[int]) -> float:
    tokens = torch.tensor([prompt + answer])
    with torch.no_grad():
        logits: Tensor = of.eval()(input_ids=tokens, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, tokens[0, len(prompt) :, None]).sum())


class StopAt(TrainerCallback):
    def __init__(self, step: int, stop: threading.Event) -> None:
        self.step, self.stop = step, stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.stop.set()


def prefer(tokenizer: ChatTokenizer, folder: Path, stop_at: int | None = None) -> tuple[PreTrainedModel, Fitted | None]:
    begun = model(vocabulary=tokenizer.vocabulary, pad_token_id=tokenizer.pad)
    extra = {REFERENCE: copy.deepcopy(begun).requires_grad_(False), TOKENIZER: folder.parent / "tokenizer"}
    rows, held_out, stop = pairs(tokenizer, 24), pairs(tokenizer, 4), threading.Event()
    callbacks: list[TrainerCallback] = [StopAt(stop_at, stop)] if stop_at else []
    work = Fit(begun, HYPER, rows, held_out, 1e-3, 1, folder, stop, callbacks, PreferenceTrainer, extra)
    try:
        return begun, fit(work)
    except Stopped:
        return begun, None


def test_what_people_like_becomes_likelier_than_what_they_do_not(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    trained, fitted = prefer(tokenizer, tmp_path / "whole")
    assert fitted is not None and fitted.best_validation_loss < 0.8 * math.log(2)
    pair = pairs(tokenizer, 1).pairs[0]
    begun = model(vocabulary=tokenizer.vocabulary, pad_token_id=tokenizer.pad)
    margins = [
        log_likelihood(each, pair.prompt, pair.chosen) - log_likelihood(each, pair.prompt, pair.rejected)
        for each in (begun, trained)
    ]
    assert margins[1] > margins[0] + 1


def test_preference_training_that_was_stopped_ends_as_if_it_had_not(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    whole, _ = prefer(tokenizer, tmp_path / "whole")
    _, stopped = prefer(tokenizer, tmp_path / "parts", stop_at=9)
    assert stopped is None
    resumed, fitted = prefer(tokenizer, tmp_path / "parts")
    assert fitted is not None and fitted.resumed_from == 9
    for name, value in whole.named_parameters():
        assert torch.allclose(value, resumed.get_parameter(name), atol=1e-6), name


def test_a_prompt_that_is_too_long_loses_its_start_but_for_the_first_token() -> None:
    rows = PairRows([Pair([1, *range(10, 40)], [7, 2], [8, 9, 2])], max_length=16)
    row = rows.dataset()[0]
    assert row["prompt_ids"] == [1, *range(28, 40)] and len(row["prompt_ids"]) + 3 == 16
