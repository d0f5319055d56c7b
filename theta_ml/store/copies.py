"""This machine's copies of what lies in a bucket.

A copy counts when a note beside it says that it was verified under the marker that the bucket has now, and none of its
files has changed since (size and time of change). Copies that were not used longest go when the disk gets full.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from theta_ml.store.artifact import MARKER, ArtifactDamaged
from theta_ml.store.disk import files_in, held, held_if_free, hold_shared, is_held, write_whole
from theta_ml.store.marker import Marker
from theta_ml.store.root import Root
from theta_ml.store.transfer import fetch

_NOTE, _LOCK, _USED = ".copy.json", ".lock", ".used"
_PASSES = 3
"""A file may be rewritten (an erasure) while it is fetched; the marker then says so."""
_FREE = 0.1
"""Share of the disk that copies leave free."""


class Copies:
    """`FOLDER/STAGE/KEY/`, with its note, its lock and the mark that it is in use beside it."""

    def __init__(self, root: Root, folder: Path) -> None:
        self.root, self.folder = root, folder

    def fetch(self, place: str, marker_of: Callable[[], tuple[bytes, Marker]]) -> Path:
        """The copy of the artifact at `place`, whole. `marker_of` reads the bucket's marker.

        Raises ArtifactDamaged where the bucket does not hold what its marker says, ArtifactMissing from `marker_of`.
        """
        path = self.folder.joinpath(*place.rsplit("/", 2)[-2:])
        path.parent.mkdir(parents=True, exist_ok=True)
        _use(path)
        beside(path, _LOCK).touch()
        with held(beside(path, _LOCK)):
            for _ in range(_PASSES):
                text, marker = marker_of()
                if _is_good(path, text):
                    beside(path, _NOTE).touch()  # its age says when the copy was last used
                    return path
                wrong = self._refresh(place, path, marker)
                if not wrong:
                    _note(path, text)
                    return path
        raise _damaged(self.root, place, wrong, marker)

    def forget(self, stage: str, key: str) -> bool:
        """Whether there was one."""
        path = self.folder / stage / key
        if not path.exists():
            return False
        beside(path, _LOCK).touch()
        with held(beside(path, _LOCK)):
            beside(path, _NOTE).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
        return True

    def keys(self, stage: str) -> list[str]:
        return [path.name for path in (self.folder / stage).glob("*") if path.is_dir()]

    def is_of(self, stage: str, key: str, text: bytes | None) -> bool:
        """Whether the copy was made under this marker."""
        note = _read_note(self.folder / stage / key)
        return text is not None and note.get("marker") == _digest(text)

    def _refresh(self, place: str, path: Path, marker: Marker) -> list[str]:
        at = marker.under(place)
        files = marker.files or dict.fromkeys(set(self.root.sizes(at)) - {MARKER})
        self._make_room(sum(file.bytes for file in files.values() if file), path)
        path.mkdir(exist_ok=True)
        wrong = fetch(self.root, at, files, path)
        if not wrong:
            for name in set(files_in(path)) - files.keys():
                (path / name).unlink()
        return wrong

    def _make_room(self, wanted: int, but: Path) -> None:
        """Copies that nobody uses go, oldest use first, while the disk has less than is wanted and a tenth free."""
        for note in sorted(self.folder.glob(f"*/*{_NOTE}"), key=_last_use):
            disk = shutil.disk_usage(self.folder)
            path = note.with_name(note.name.removesuffix(_NOTE))
            if disk.free > wanted + _FREE * disk.total:
                return
            if path != but:
                _evict(path)


def _evict(path: Path) -> None:
    """Unless somebody uses it: who is about to says so (`_use`) before waiting for the lock, and fetches it anew."""
    with held_if_free(beside(path, _LOCK)) as free:
        if free and not is_held(beside(path, _USED)):
            beside(path, _NOTE).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def _last_use(note: Path) -> float:
    """Seconds since 1970; 0 where it has just gone."""
    try:
        return note.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _use(path: Path) -> None:
    """Says that this process reads it, for as long as it lives: the kernel forgets it then."""
    if path not in _IN_USE:
        _IN_USE[path] = hold_shared(beside(path, _USED))


_IN_USE: dict[Path, int] = {}


def beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}{what}")


def _note(path: Path, marker: bytes) -> None:
    files = {name: _stamp(path / name) for name in files_in(path)}
    write_whole(beside(path, _NOTE), json.dumps({"marker": _digest(marker), "files": files}).encode())


def _is_good(path: Path, marker: bytes) -> bool:
    note = _read_note(path)
    if note.get("marker") != _digest(marker):
        return False
    return all((path / name).is_file() and _stamp(path / name) == stamp for name, stamp in note["files"].items())


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads(beside(path, _NOTE).read_text())
        return note
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _stamp(path: Path) -> list[int]:
    """Bytes, and when it was last changed, in ns."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _digest(marker: bytes) -> str:
    return hashlib.sha256(marker).hexdigest()


def _damaged(root: Root, place: str, wrong: list[str], marker: Marker) -> ArtifactDamaged:
    stage = place.rsplit("/", 2)[-2]
    named = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    at = root.fs.unstrip_protocol(marker.under(place))
    return ArtifactDamaged(
        f"{at}: {named} is not what was written there (SHA-256), or gone: remove {root.fs.unstrip_protocol(place)} "
        f"with all that is in it, then `theta stage {stage}` (in Airflow: clear it) makes it anew"
    )
