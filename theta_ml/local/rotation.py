"""Keeps logs from filling the disk, under processes that never reopen them."""

import shutil
from pathlib import Path

LARGEST = 10 * 2**20
"""Bytes."""

KEPT = 3


def rotate(log: Path) -> None:
    """Set a log aside as `.1` (and that as `.2` …) where it has grown large.

    It is copied and emptied, not renamed: services append to the file they have open.
    """
    if not log.exists() or log.stat().st_size < LARGEST:
        return
    for number in range(KEPT, 1, -1):
        older = _numbered(log, number - 1)
        if older.exists():
            older.replace(_numbered(log, number))
    shutil.copy2(log, _numbered(log, 1))
    with log.open("r+b") as file:
        file.truncate()


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
