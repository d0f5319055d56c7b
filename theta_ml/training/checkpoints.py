"""Checkpoints that exist whole or not at all: written aside, renamed, and read only if every file has its full length.

ROOT/step-120/   model.safetensors, optimizer.safetensors, random-0.safetensors, progress.json, trainer_state.json,
                 _COMPLETE
ROOT/best-100/   model.safetensors, _COMPLETE
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from theta_ml.store import MARKER, to_disk

KEPT = 2
"""Newest checkpoints that are kept, and as many best weights at most; while one is written there is one more."""
STALE_SECONDS = 14 * 24 * 3600
MODEL, OPTIMIZER, PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"
STATE = "trainer_state.json"
"""What the library's trainer knows; it looks for this name."""


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def newest(self) -> Path | None:
        """The complete checkpoint of the highest step; torn ones are passed over."""
        complete = [folder for folder in self.root.glob("step-*") if is_complete(folder)]
        return max(complete, key=step_of, default=None)

    def save(self, step: int, tensors: Mapping[str, dict[str, Tensor]], text: dict[str, str]) -> None:
        """Files of tensors and of text by name. Then only the last two are kept, and the best weights they know of."""
        self._write(f"step-{step}", tensors, text)
        kept = sorted((f for f in self.root.glob("step-*") if is_complete(f)), key=step_of)[-KEPT:]
        bests = [self.root / f"best-{_best_step(folder)}" for folder in kept]
        for folder in {*self.root.glob("step-*"), *self.root.glob("best-*")} - {*kept, *bests}:
            shutil.rmtree(folder)

    def save_best(self, step: int, weights: dict[str, Tensor]) -> None:
        self._write(f"best-{step}", {MODEL: weights}, {})

    def forget_from(self, step: int) -> None:
        """Removes the checkpoints of `step` and later ones, but for the oldest where they all are."""
        whole = sorted((f for f in self.root.glob("step-*") if is_complete(f)), key=step_of)
        for folder in whole[1:]:
            if step_of(folder) >= step:
                shutil.rmtree(folder)

    def best(self, step: int) -> Path:
        """Raises FileNotFoundError where these weights were never saved whole."""
        folder = self.root / f"best-{step}"
        if not is_complete(folder):
            raise FileNotFoundError(f"no complete {folder}; delete {self.root} and train again")
        return folder

    def _write(self, name: str, tensors: Mapping[str, dict[str, Tensor]], text: dict[str, str]) -> None:
        partial = self._partial()
        for file, content in tensors.items():
            _save(content, partial / file)
        for file, words in text.items():
            (partial / file).write_text(words)
        self._publish(partial, self.root / name)

    def _partial(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        for left in self.root.glob(".partial-*"):  # by an attempt that was killed; `checkpoints_lock` says it is gone
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


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Raises OSError, as other writers do, where the disk is full."""
    try:
        save_file(tensors, file)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from None
        raise


def is_complete(folder: Path) -> bool:
    """Whether the marker is there and every file has the length that it names."""
    try:
        lengths = json.loads((folder / MARKER).read_text())
        return bool(lengths) and all((folder / name).stat().st_size == length for name, length in lengths.items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False


def _best_step(folder: Path) -> int | None:
    step: int | None = json.loads((folder / STATE).read_text())["best_global_step"]
    return step


def step_of(folder: Path) -> int:
    return int(folder.name.rsplit("-", 1)[1])


def remove_others(root: Path, key: str, finished: frozenset[str]) -> None:
    """Removes checkpoints whose model is `finished`, and those that nobody came back to for two weeks."""
    for folder in root.iterdir():
        stale = time.time() - folder.stat().st_mtime > STALE_SECONDS
        if folder.name != key and (folder.name in finished or stale):
            shutil.rmtree(folder)
