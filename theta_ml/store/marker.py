"""The completion marker: when an artifact was made, and what belongs to it."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from theta_ml.store.disk import files_in, sha256, together


@dataclass(frozen=True)
class File:
    """One of an artifact's files."""

    bytes: int
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True)
class Marker:
    """What `_COMPLETE` says. No content depends on its times."""

    started: float
    finished: float
    """Of the work on it, in seconds since 1970."""
    files: dict[str, File | None] | None = None
    """By path; None for one that is being changed, or is of a marker from before files were told."""
    folder: str = ""
    """In which they lie, under the artifact's place; directly there where it is empty."""

    @classmethod
    def of(cls, folder: Path, started: float, finished: float) -> "Marker":
        """Of all files in `folder`, read once."""
        names = list(files_in(folder))
        files = together(lambda name: File((folder / name).stat().st_size, sha256(folder / name)), names)
        return cls(started, finished, dict(zip(names, files, strict=True)))

    @classmethod
    def read(cls, text: bytes | None) -> "Marker | None":
        """None where it is no marker, or a torn one."""
        try:
            value = json.loads(text) if text else None
        except json.JSONDecodeError:
            return None
        if not isinstance(value, dict) or not {"started", "finished"} <= value.keys():
            return None
        files = value.get("files")
        named = (
            None if files is None else {name: None if file is None else File(**file) for name, file in files.items()}
        )
        return cls(value["started"], value["finished"], named, value.get("folder", ""))

    def text(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    def content(self) -> str:
        """A name for these very files: 16 hexadecimal digits."""
        named = json.dumps({name: file and file.sha256 for name, file in (self.files or {}).items()}, sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def under(self, place: str) -> str:
        """Where the files are."""
        return f"{place}/{self.folder}" if self.folder else place

    def agrees(self, sizes: dict[str, int]) -> bool:
        """Whether all its files are there, as long as they should be. `sizes` is of what is there, in bytes."""
        return all(
            name in sizes and (file is None or file.bytes == sizes[name]) for name, file in (self.files or {}).items()
        )

    def changed(self, name: str, file: File | None) -> "Marker":
        """With another entry for this file."""
        return self if self.files is None else replace(self, files=self.files | {name: file})
