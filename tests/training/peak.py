"""What training steps really hold, in bytes, beside what a process holds before: each case in a fork of its own."""

import json
import os
import resource
import sys

import torch
from transformers import PreTrainedModel

from tests.training.small import model_of
from theta_ml.training.hardware import has_bfloat16
from theta_ml.training.resources import PROCESS_BYTES, Load, estimate, forward_arguments


def resident() -> int:
    """Most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Reads `[[kind, rows, load], ...]`, prints a line for each."""
    step(model_of("tiny"), 1, Load(64))  # what is loaded and allocated once
    for kind, rows, load in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            measure(kind, rows, Load(**load))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def measure(kind: str, rows: int, load: Load) -> None:
    before = resident()
    model = model_of(kind)
    step(model, rows, load)
    measured = resident() - before
    sys.stdout.write(
        json.dumps({"measured": measured, "estimated": estimate(model, load).of(rows) - PROCESS_BYTES}) + "\n"
    )
    sys.stdout.flush()


def step(model: PreTrainedModel, rows: int, load: Load) -> None:
    """Two of them: gradients and moments of the first are there in the second."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    if load.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            loss = model.train()(**forward_arguments(model, rows, load)).loss
        loss.backward()
        optimizer.step()


main()
