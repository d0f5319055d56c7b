"""`fit`: interrupted anywhere it ends as if it had not been; what runs away is sent back; it stops in time."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from tests.training.made_rows import VOCABULARY, MadeRows
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.stage import StageFailed
from theta_ml.training import trainer
from theta_ml.training.checkpoints import Checkpoints
from theta_ml.training.fit import Fit, Fitted, fit
from theta_ml.training.guard import Guard
from theta_ml.training.presets import Hyper
from theta_ml.training.safe import Safety
from theta_ml.training.stop import Stopped
from theta_ml.training.trainer import ThetaTrainer

HYPER = Hyper(
    rows_per_step=4,
    rows_at_once=2,
    epochs=4,
    max_steps=30,
    rate_scratch=3e-3,
    rate_champion=3e-3,
    validation_rows=7,
    checkpoint_seconds=1e9,
)
"""Of 50 rows: 13 steps an epoch, of two batches each, but for the last of one."""


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "has_bfloat16", lambda device: False)
    torch.set_num_threads(1)


def work_of(folder: Path, **changes: Any) -> Fit:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = ThetaConfig(vocab_size=VOCABULARY, **shape, num_attention_heads=2, max_position_embeddings=16, dropout=0.1)
    work = Fit(ThetaForCausalLM(config), HYPER, MadeRows(50), MadeRows(9, seed=1), peak=3e-3, seed=1, folder=folder)
    return replace(work, **changes)


def numbers(fitted: Fitted) -> list[dict[str, Any]]:
    """The history without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in ("time", "tokens_per_second")} for line in fitted.history]


def difference(one: Fitted, other: Fitted) -> float:
    """Largest of the loss curves."""
    assert [sorted(line) for line in numbers(one)] == [sorted(line) for line in numbers(other)]
    pairs = zip(numbers(one), numbers(other), strict=True)
    return max(abs(a[name] - b[name]) for a, b in pairs for name in a if "loss" in name)


class StopAt(TrainerCallback):
    """As SIGTERM does, at the `count`-th time of an event."""

    def __init__(self, work: Fit, event: str, count: int) -> None:
        def hear(*_: Any, **__: Any) -> None:
            self.left -= 1
            if not self.left:
                work.stop.set()

        self.left = count
        setattr(self, event, hear)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, dict[str, Tensor]]:
    """A training that nobody disturbs, and the weights it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "has_bfloat16", lambda device: False)
        torch.set_num_threads(1)
        work = work_of(tmp_path_factory.mktemp("calm"))
        fitted = fit(work)
        return fitted, {name: value.clone() for name, value in work.model.state_dict().items()}


@pytest.mark.parametrize(
    ("event", "count"),
    [
        ("on_substep_end", 6),  # in the middle of an accumulation, in the middle of an epoch
        ("on_substep_end", 1),  # before anything was learned
        ("on_step_end", 13),  # at the end of an epoch, before it is validated
        ("on_step_begin", 14),  # in an epoch's first step
        ("on_prediction_step", 2),  # half-way through a validation
        ("on_prediction_step", 11),  # in the last one
    ],
)
def test_a_training_stopped_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, calm: tuple[Fitted, dict[str, Tensor]], event: str, count: int
) -> None:
    work = work_of(tmp_path)
    work.callbacks.append(StopAt(work, event, count))
    with pytest.raises(Stopped):
        fit(work)
    again = work_of(tmp_path)
    fitted = fit(again)
    assert difference(fitted, calm[0]) == 0
    assert numbers(fitted) == numbers(calm[0])
    assert all(torch.equal(value, calm[1][name]) for name, value in again.model.state_dict().items())
    assert (fitted.steps, fitted.best_step) == (calm[0].steps, calm[0].best_step)
    assert not [*tmp_path.rglob("*.p*kl"), *tmp_path.rglob("*.pt*"), *tmp_path.rglob("*.bin")]


def test_the_rate_rises_and_falls_as_planned_to_the_last_step(calm: tuple[Fitted, dict[str, Tensor]]) -> None:
    plan = work_of(Path()).plan()
    rates = [line["learning_rate"] for line in calm[0].history if "learning_rate" in line]
    assert rates == pytest.approx([plan.rate(step) for step in range(30)])
    assert rates[-1] == pytest.approx(0, abs=3e-5) and max(rates) == 3e-3
    assert calm[0].steps == 30 and calm[0].epochs == 3


def test_each_labelled_token_weighs_the_same_however_a_step_is_cut(
    tmp_path: Path, calm: tuple[Fitted, dict[str, Tensor]]
) -> None:
    whole, parts = (
        work_of(tmp_path / str(rows), hyper=replace(HYPER, rows_at_once=rows, max_steps=4)) for rows in (4, 1)
    )
    for work in (whole, parts):
        for module in work.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # it is drawn batch by batch
    assert difference(fit(whole), fit(parts)) < 1e-5


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = fit(work_of(tmp_path, hyper=replace(HYPER, max_steps=15)))
    again = work_of(tmp_path, hyper=replace(HYPER, max_steps=15))
    again.stop.set()  # a step would raise
    second = fit(again)
    assert numbers(second) == numbers(first) and second.resumed_from == 15
    best = load_file(Checkpoints(tmp_path).best(second.best_step) / "model.safetensors")
    assert all(torch.equal(best[name], value) for name, value in again.model.named_parameters())


class Poison(ThetaTrainer):
    """Its loss is no number in these steps, in the first so many attempts."""

    steps: tuple[int, ...] = (20,)
    attempts = 1

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss: Any = super().compute_loss(*args, **kwargs)
        is_bad = self.state.global_step + 1 in self.steps and self.safety.guard.rollbacks < self.attempts
        return loss * math.nan if is_bad else loss


def test_what_is_no_number_sends_back_to_a_good_checkpoint_with_half_the_rate(tmp_path: Path) -> None:
    said: list[str] = []
    fitted = fit(work_of(tmp_path, trainer=Poison, log=said.append))
    assert fitted.rollbacks == 1 and fitted.steps == 30
    assert "became nan at step 20: back to the last good checkpoint, with the rate times 0.5" in said[0]
    rates, plan = (
        {x["step"]: x["learning_rate"] for x in fitted.history if "learning_rate" in x},
        work_of(Path()).plan(),
    )
    assert rates[13] == pytest.approx(plan.rate(12)) and rates[14] == pytest.approx(plan.rate(13) / 2)
    assert all(math.isfinite(value) for line in fitted.history for value in line.values())
    assert [line["step"] for line in fitted.history if "train_loss" in line] == list(range(1, 31))


def test_what_stays_no_number_fails_and_says_what_to_change(tmp_path: Path) -> None:
    class Always(Poison):
        attempts = 9

    with pytest.raises(StageFailed, match=r"became nan at step 20; .*lower the peak learning rate of 0.003"):
        fit(work_of(tmp_path, trainer=Always))
    with pytest.raises(StageFailed, match=r"again after 2 returns"):
        fit(work_of(tmp_path, trainer=Always))  # a new attempt has no new chances
    for file in tmp_path.rglob("model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(file).values())


class Damage(TrainerCallback):
    """Once, an update that ruins the weights: the loss leaps and stays up."""

    def __init__(self, step: int) -> None:
        self.step: int | None = step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            self.step = None
            with torch.no_grad():
                for parameter in kwargs["model"].parameters():
                    parameter.add_(torch.randn_like(parameter))


def test_a_loss_spike_is_undone_even_if_its_cause_was_saved(tmp_path: Path) -> None:
    said: list[str] = []
    hyper = replace(HYPER, checkpoint_seconds=0.0)  # a checkpoint after each step, the ruinous one too
    fitted = fit(work_of(tmp_path, hyper=hyper, callbacks=[Damage(20)], log=said.append))
    assert fitted.rollbacks == 1 and "the loss rose to" in said[0] and "at step 24" in said[0]
    losses = [line["train_loss"] for line in fitted.history if "train_loss" in line]
    assert max(losses[19:]) < losses[0] and fitted.best_step == 30


def test_it_stops_when_validations_no_longer_get_better(tmp_path: Path) -> None:
    class Worse(ThetaTrainer):
        def validation_loss(self) -> float:
            return 3.0 + abs(self.state.global_step - 6) / 10

    hyper = replace(HYPER, patience=2, validate_steps=3)
    work = work_of(tmp_path, hyper=hyper, trainer=Worse)
    fitted = fit(work)
    assert (fitted.steps, fitted.best_step, fitted.best_validation_loss) == (12, 6, 3.0)
    best = load_file(Checkpoints(tmp_path).best(6) / "model.safetensors")
    assert all(torch.equal(best[name], value) for name, value in work.model.named_parameters())
    again = work_of(tmp_path, hyper=hyper, trainer=Worse)
    again.stop.set()
    assert fit(again).steps == 12  # it remembers that it was done


def test_patience_half_spent_survives_a_stop_and_a_torn_checkpoint(tmp_path: Path) -> None:
    class Worse(ThetaTrainer):
        def validation_loss(self) -> float:
            return 3.0 + abs(self.state.global_step - 6) / 10

    work = work_of(tmp_path, hyper=replace(HYPER, patience=2, validate_steps=3), trainer=Worse)
    work.callbacks.append(StopAt(work, "on_step_begin", 11))
    with pytest.raises(Stopped):
        fit(work)
    newest = Checkpoints(tmp_path).newest()
    assert newest is not None and newest.name == "step-10"
    (newest / "optimizer.safetensors").write_bytes(b"torn")
    fitted = fit(replace(work, stop=threading.Event(), callbacks=[]))
    assert (fitted.steps, fitted.resumed_from) == (12, 9)


KILLED = """
import sys, json
from dataclasses import replace
from pathlib import Path
from tests.training.test_fit import HYPER, numbers, work_of
from theta_ml.training import trainer
from theta_ml.training.fit import fit
import torch
torch.set_num_threads(1)
trainer.has_bfloat16 = lambda device: False
fitted = fit(work_of(Path(sys.argv[1]), hyper=replace(HYPER, checkpoint_seconds=0.0)))
print(json.dumps([numbers(fitted), fitted.resumed_from]))
"""


@pytest.mark.faults
def test_kill_9_at_any_moment_changes_nothing(tmp_path: Path, calm: tuple[Fitted, dict[str, Tensor]]) -> None:
    for step in (3, 14, 22):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        give_up = time.monotonic() + 60
        while (newest := Checkpoints(tmp_path).newest()) is None or int(newest.name.removeprefix("step-")) < step:
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    said = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, check=True).stdout
    history, resumed_from = json.loads(said.splitlines()[-1])
    assert history == numbers(calm[0]) and resumed_from >= 22


@pytest.mark.parametrize(("epochs", "dropped"), [(5, False), (6, True)])
def test_nothing_is_dropped_where_rows_are_hardly_repeated(tmp_path: Path, epochs: int, dropped: bool) -> None:
    work = work_of(tmp_path, hyper=HYPER.changed({"epochs": epochs, "max_steps": 13 * epochs}))
    fit(work)
    shares = {module.p for module in work.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert shares == ({0.1} if dropped else {0.0})
    assert work.model.config.dropout == 0.1


def test_processes_that_a_checkpoint_has_no_random_state_of_drop_other_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(tmp_path)
    work.callbacks.append(StopAt(work, "on_step_end", 3))
    with pytest.raises(Stopped):
        fit(work)
    checkpoints = Checkpoints(tmp_path)
    newest = checkpoints.newest()
    assert newest
    safety = Safety(work.plan(), checkpoints, Guard.load(tmp_path), work.stop, 1e9)
    resumed = ThetaTrainer.of(work, safety)
    monkeypatch.setattr(resumed, "_note_begin", lambda: None)  # there is no step that could be given up
    draws = []
    for rank in (0, 1, 2, 1):
        monkeypatch.setattr(TrainingArguments, "process_index", rank)
        torch.manual_seed(work.seed)  # as the library does in all of them
        resumed._load_rng_state(str(newest))
        draws.append(float(torch.rand(())))
    assert len(set(draws[:3])) == 3 and draws[3] == draws[1]
