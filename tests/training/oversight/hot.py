"""A small training on a machine whose heat is simulated, at psutil's edge."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import torch
from transformers import TrainerCallback

from tests.training.made_rows import VOCABULARY, MadeRows
from theta_ml.events import Events
from theta_ml.model import ThetaConfig, ThetaForCausalLM
from theta_ml.settings import Settings
from theta_ml.training.fit import Fit
from theta_ml.training.oversight import sampler
from theta_ml.training.oversight.course import Subject
from theta_ml.training.oversight.watch import Oversight, callbacks
from theta_ml.training.presets import Hyper

HYPER = Hyper(
    rows_per_step=8, rows_at_once=2, epochs=4, max_steps=24, rate_scratch=1e-2, rate_champion=1e-2, validation_rows=12
)
SUBJECT = Subject("run 1", "key", "2026-02", "continue", parameters=20_000, tokens=720, device="cpu")


class Chip(NamedTuple):
    current: float


class Room(TrainerCallback):
    """Heats up at a step; asked for its temperature, it is a few degrees cooler the next time, or never."""

    def __init__(self, patch: pytest.MonkeyPatch, hot_at: int | None, peak: float = 110.0, cools: float = 4.0) -> None:
        self.temperature, self.hot_at, self.peak, self.cools = 50.0, hot_at, peak, cools
        self.asked = threading.Event()
        patch.setattr(psutil, "sensors_temperatures", self.read, raising=False)
        patch.setattr(sampler, "SECONDS", 0.01)

    def read(self) -> dict[str, list[Chip]]:
        now = self.temperature
        self.temperature = max(50.0, now - self.cools)
        self.asked.set()
        return {"coretemp": [Chip(40.0), Chip(now)], "nvme": [Chip(200.0)]}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.hot_at:
            self.temperature = self.peak
            self.asked.clear()
            self.asked.wait(5)  # a step of this model is shorter than a sample; of a real one it is not


class Recorder(Events):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def _emit(self, event: str, **fields: Any) -> None:
        self.seen.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for kind, fields in list(self.seen) if kind == event]

    @property
    def mails(self) -> list[dict[str, Any]]:
        return [fields["mail"] for fields in self.of("mail")]


def oversight(settings: Settings, events: Events, stop: threading.Event) -> Oversight:
    return Oversight(SUBJECT, settings, events, torch.device("cpu"), stop)


def work(folder: Path, watched: Oversight | None = None, *others: TrainerCallback) -> Fit:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64}
    config = ThetaConfig(**shape, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16)
    made = Fit(ThetaForCausalLM(config), HYPER, MadeRows(45), MadeRows(13, seed=1), peak=1e-2, seed=1, folder=folder)
    if watched:
        made.stop, made.callbacks = watched._stop, [*others, *callbacks(watched)]
    return made


def curve(history: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("step", "train_loss", "gradient_norm", "validation_loss", "epoch_train_loss")
    return [tuple(line.get(name) for name in names) for line in history]
