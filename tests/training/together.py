"""A small training, alone or under torchrun: `python -m tests.training.together JSON`."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from tests.training.made_rows import VOCABULARY, MadeRows
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.training import trainer
from theta_ml.training.fit import Fit, fit
from theta_ml.training.presets import Hyper
from theta_ml.training.stop import Stopped

HYPER = Hyper(
    rows_per_step=8, rows_at_once=2, epochs=4, max_steps=24, rate_scratch=1e-2, rate_champion=1e-2, validation_rows=12
)


class StopAt(TrainerCallback):
    """As SIGTERM does, in one of the processes alone."""

    def __init__(self, work: Fit, step: int, rank: int) -> None:
        self.work, self.step, self.rank = work, step, rank

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step and args.process_index == self.rank:
            self.work.stop.set()


def main() -> None:
    settings = json.loads(sys.argv[1])
    trainer.has_bfloat16 = lambda device: False  # in float32, what differs is only the order of sums
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = ThetaForCausalLM(ThetaConfig(**shape, num_attention_heads=2, max_position_embeddings=16, dropout=0.0))
    work = Fit(
        model,
        replace(HYPER, gradient_checkpointing=settings.get("gradient_checkpointing", False)),
        MadeRows(45),
        MadeRows(13, seed=1),
        peak=1e-2,
        seed=1,
        folder=Path(settings["folder"]),
        sharded=settings.get("sharded", False),
    )
    if "stop_at" in settings:
        work.callbacks.append(StopAt(work, settings["stop_at"], rank=settings.get("rank", 0)))
    try:
        done = fit(work)
    except Stopped:
        sys.exit(143)
    if os.environ.get("RANK", "0") == "0":
        weight = float(sum(parameter.detach().double().sum() for parameter in work.model.parameters()))
        Path(settings["out"]).write_text(
            json.dumps({"history": done.history, "resumed_from": done.resumed_from, "weight": weight})
        )


main()
