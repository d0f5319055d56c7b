"""What lies on this machine beside the store: leftovers of killed writers, simulated feeds, checkpoints."""

import json
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from theta_ml.landing.conversation import rough_ids
from theta_ml.settings import Settings
from theta_ml.store import Store


def remove_leftovers(store: Store) -> int:
    """What stages wrote that were killed; what is being written now is thrown away by its writer."""
    left = store.abandoned()
    for folder in left:
        shutil.rmtree(folder)
    return len(left)


def scrub_feeds(settings: Settings, ids: frozenset[str]) -> int:
    """Takes the conversations out of the files that `theta simulate` keeps; returns the lines that had them."""
    return sum(_scrub_feed(path, ids) for path in sorted((settings.home / "simulated").glob("*.jsonl")))


def count_in_feeds(settings: Settings, ids: frozenset[str]) -> int:
    files = sorted((settings.home / "simulated").glob("*.jsonl"))
    return sum(_is_of(line, ids) for path in files for line in path.read_bytes().splitlines())


def _scrub_feed(path: Path, ids: frozenset[str]) -> int:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _is_of(line, ids)]
    if len(kept) < len(lines):
        new = path.with_suffix(".new")
        new.write_bytes(b"".join(kept))
        new.replace(path)
    return len(lines) - len(kept)


def _is_of(line: bytes, ids: frozenset[str]) -> bool:
    """Also where it is torn, as some lines of a damaged month are."""
    return not ids.isdisjoint(rough_ids(line))


def remove_checkpoints(settings: Settings, store: Store) -> tuple[int, str | None]:
    """Removes what trainings, and trials of a tuning, that were broken off would go on from: they begin anew, without
    what was erased.

    Returns how many there were, and the key of the training that is under way, which is left alone.
    """
    root, locks = settings.home / "checkpoints", settings.home / "locks"
    unfinished = [folder for folder in root.glob("*") if store.document(store.uri("train", folder.name)) is None]
    unfinished += (settings.home / "tuning").glob("*/*")
    if not unfinished:
        return 0, None
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / "training.lock").acquire(timeout=0):
            for folder in unfinished:
                shutil.rmtree(folder)
            return len(unfinished), None
    except Timeout:
        return 0, _under_way(locks / "training.json")


def _under_way(holder: Path) -> str:
    try:
        return str(json.loads(holder.read_text())["key"])
    except (FileNotFoundError, json.JSONDecodeError):  # it is just coming or going
        return "of this machine"
