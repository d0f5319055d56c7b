"""Checkpoints that exist whole or not at all: written aside, renamed, and read only if every file has its full length.

ROOT/step-120/   model.safetensors, optimizer.safetensors, random.safetensors, progress.json, _COMPLETE
ROOT/best-100/   model.safetensors, _COMPLETE
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from theta_ml.store import MARKER, to_disk
from theta_ml.training.progress import Progress

KEPT = 2
STALE_SECONDS = 14 * 24 * 3600
MODEL, OPTIMIZER, RANDOM, PROGRESS = "model.safetensors", "optimizer.safetensors", "random.safetensors", "progress.json"


@dataclass(frozen=True)
class Random:
    """State of the random number generators, which decide what dropout drops."""

    states: dict[str, Tensor]

    @classmethod
    def now(cls, device: torch.device) -> "Random":
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        return cls(states)

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.states["cpu"])
        if device.type == "cuda" and "cuda" in self.states:
            torch.cuda.set_rng_state(self.states["cuda"], device)


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def newest(self) -> Path | None:
        """The complete checkpoint of the highest step; torn ones are passed over."""
        complete = [folder for folder in self.root.glob("step-*") if is_complete(folder)]
        return max(complete, key=_step, default=None)

    def save(self, model: nn.Module, optimizer: Optimizer, progress: Progress, random: Random) -> None:
        """Then only the last two, and the best weights, are kept."""
        partial = self._partial()
        save_file(_weights(model), partial / MODEL)
        save_file(_moments(model, optimizer), partial / OPTIMIZER)
        save_file(random.states, partial / RANDOM)
        (partial / PROGRESS).write_text(progress.to_json())
        self._publish(partial, self.root / f"step-{progress.step}")
        self._prune(progress)

    def load(self, folder: Path, model: nn.Module, optimizer: Optimizer, device: torch.device) -> Progress:
        """Puts weights, moments and random state back where they were."""
        _restore_weights(model, load_file(folder / MODEL))
        _restore_moments(model, optimizer, load_file(folder / OPTIMIZER), device)
        Random(load_file(folder / RANDOM)).restore(device)
        return Progress.from_json((folder / PROGRESS).read_text())

    def save_best(self, model: nn.Module, step: int) -> None:
        partial = self._partial()
        save_file(_weights(model), partial / MODEL)
        self._publish(partial, self.root / f"best-{step}")

    def load_best(self, model: nn.Module, step: int) -> None:
        """Raises FileNotFoundError where these weights were never saved whole."""
        folder = self.root / f"best-{step}"
        if not is_complete(folder):
            raise FileNotFoundError(f"no complete {folder}; delete {self.root} and train again")
        _restore_weights(model, load_file(folder / MODEL))

    def _partial(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        for left in self.root.glob(".partial-*"):  # by an attempt that was killed; the lock says there is no other
            shutil.rmtree(left)
        partial = self.root / f".partial-{os.getpid()}"
        partial.mkdir()
        return partial

    def _publish(self, partial: Path, place: Path) -> None:
        lengths = {}
        for file in sorted(partial.iterdir()):
            to_disk(file)
            lengths[file.name] = file.stat().st_size
        (partial / MARKER).write_text(json.dumps(lengths))
        to_disk(partial / MARKER)
        if place.exists():
            shutil.rmtree(place)  # torn, or the same work done again
        partial.rename(place)
        to_disk(self.root)

    def _prune(self, progress: Progress) -> None:
        steps = sorted((f for f in self.root.glob("step-*") if is_complete(f)), key=_step)
        passed = [folder for folder in self.root.glob("best-*") if _step(folder) < (progress.best_step or 0)]
        for folder in steps[:-KEPT] + passed:
            shutil.rmtree(folder)


def is_complete(folder: Path) -> bool:
    """Whether the marker is there and every file has the length that it names."""
    try:
        lengths = json.loads((folder / MARKER).read_text())
        return bool(lengths) and all((folder / name).stat().st_size == length for name, length in lengths.items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False


def remove_others(root: Path, key: str, finished: frozenset[str]) -> None:
    """Removes checkpoints whose model is `finished`, and those that nobody came back to for two weeks."""
    for folder in root.iterdir():
        stale = time.time() - folder.stat().st_mtime > STALE_SECONDS
        if folder.name != key and (folder.name in finished or stale):
            shutil.rmtree(folder)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    # Parameters, not the state dict: tied weights appear once.
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


@torch.no_grad()
def _restore_weights(model: nn.Module, saved: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(saved[name])


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{what}": value.contiguous()
        for name, parameter in model.named_parameters()
        for what, value in optimizer.state[parameter].items()
    }


def _restore_moments(model: nn.Module, optimizer: Optimizer, saved: dict[str, Tensor], device: torch.device) -> None:
    parameters = dict(model.named_parameters())
    for path, value in saved.items():
        name, what = path.rsplit("/", 1)
        optimizer.state[parameters[name]][what] = value.to(device)


def _step(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])
