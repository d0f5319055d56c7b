"""A small training under torchrun (`-m tests.training.together JSON`), that is stopped and gone on with."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

import theta_ml.training.trainer
from tests.training.made_rows import VOCABULARY, MadeRows
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.training.fit import Fit, Fitted, fit
from theta_ml.training.presets import Hyper
from theta_ml.training.stop import Stopped

HYPER = Hyper(
    rows_per_step=8, rows_at_once=2, epochs=4, max_steps=24, rate_scratch=1e-2, rate_champion=1e-2, validation_rows=12
)


class StopAt(TrainerCallback):
    """As SIGTERM does, in one of the processes alone; also notes whether it holds only a part of the model."""

    def __init__(self, work: Fit, step: int, rank: int) -> None:
        self.work, self.step, self.rank = work, step, rank
        self.sharded = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sharded = any(isinstance(parameter, DTensor) for parameter in self.work.model.parameters())
        if state.global_step == self.step and args.process_index == self.rank:
            self.work.stop.set()


def small_fit(folder: Path, sharded: bool = False) -> Fit:
    """A sharded one computes its activations twice, too."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "dropout": 0.0}
    config = ThetaConfig(**shape, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16)
    hyper = replace(HYPER, gradient_checkpointing=sharded)
    return Fit(
        ThetaForCausalLM(config), hyper, MadeRows(45), MadeRows(13, seed=1), 1e-2, 1, folder, sharded=sharded
    )  # fmt: skip


def curve(done: Fitted) -> list[list[Any]]:
    """Step, name and number of all that the history has but for the clock's."""
    clock = ("step", "time", "tokens_per_second")
    return [[line["step"], name, line[name]] for line in done.history for name in sorted(line) if name not in clock]


def main() -> None:
    """Stops at `stop_at` in the last process, copies the checkpoints, goes on, and writes what came of it."""
    asked = json.loads(sys.argv[1])
    vars(theta_ml.training.trainer)["has_bfloat16"] = lambda device: False  # in float32 only the order of sums differs
    torch.set_num_threads(1)
    folder = Path(asked["folder"])
    work = small_fit(folder, asked["sharded"])
    stop = StopAt(work, asked["stop_at"], rank=1)
    work.callbacks.append(stop)
    try:
        fit(work)
    except Stopped:
        if os.environ["RANK"] == "0":
            shutil.copytree(folder, asked["copy"])
        distributed.barrier()
        work = small_fit(folder, asked["sharded"])
        done = fit(work)
        if os.environ["RANK"] == "0":
            weights = {name: parameter.tolist() for name, parameter in work.model.named_parameters()}
            told = {"curve": curve(done), "from": done.resumed_from, "sharded": stop.sharded, "weights": weights}
            Path(asked["out"]).write_text(json.dumps(told))
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
