"""Where artifacts are written before they are moved or uploaded, and what writers that were killed left there."""

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from theta_ml.store.disk import held, is_held, write_whole

STALE_SECONDS = 14 * 24 * 3600
"""No stage writes for longer."""
_MADE = ".made"
"""Folder of the notes on what is whole and only has to be sent."""


@dataclass(frozen=True)
class Made:
    """A finished output that is not in the bucket yet."""

    path: Path
    started: float
    finished: float
    epoch: str | None
    """See `Store.begin_erasure`; as it was before anything was read."""


class Spool:
    """Folders `STAGE-KEY-RANDOM`; each is locked by its writer for as long as that lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def room(self, stage: str, key: str) -> Iterator[Path]:
        """An empty folder; who is done with it takes it away (`clear`)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        path = self.folder / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
        new = self.folder / f".{path.name}"  # or it counts as left by a killed writer until it is locked
        new.mkdir()
        with held(new):
            new.rename(path)
            yield path

    def note(self, made: Made) -> None:
        """From here on it is whole: who comes after a writer that was killed while sending sends it (`unsent`)."""
        (self.folder / _MADE).mkdir(exist_ok=True)
        note = {"started": made.started, "finished": made.finished, "epoch": made.epoch}
        write_whole(self._note(made.path), json.dumps(note).encode())

    def unsent(self, stage: str, key: str) -> list[Made]:
        """Of writers that live no more."""
        found = [path for path in self.folder.glob(f"{stage}-{key}-*") if self._note(path).exists()]
        return [Made(path, **json.loads(self._note(path).read_text())) for path in found if not is_held(path)]

    def is_noted(self, path: Path) -> bool:
        return self._note(path).exists()

    def clear(self, path: Path) -> None:
        self._note(path).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    def left(self, stages: tuple[str, ...]) -> list[Path]:
        """Folders of these stages' writers that live no more."""
        found = [path for stage in stages for path in self.folder.glob(f"{stage}-*-*")]
        return [path for path in found if not is_held(path)]

    def _note(self, path: Path) -> Path:
        return self.folder / _MADE / f"{path.name}.json"

    def _sweep(self) -> None:
        for left in [*self.folder.iterdir(), *(self.folder / _MADE).glob("*.json")]:
            try:
                if left.name != _MADE and time.time() - left.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # its writer has just finished
