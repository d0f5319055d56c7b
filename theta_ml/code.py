"""Which code this is: a digest of what a stage's outcome may depend on, to tell two installations apart.

Not in it: rooms of the package that no stage imports, and `dags/` and `plugins/`. These choose which stage runs and
with which parameters, and an artifact's key holds its parameters: what is made by others has another key, and a run
need not end because a DAG was edited meanwhile.
"""

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("theta_ml", "sql", "expectations")
"""Beside each other, wherever Theta is installed."""
NOT_OF_STAGES = ("bench", "compose", "lineage", "local", "serving")
"""Rooms of the package."""


@cache
def code_version() -> str:
    """Twelve hexadecimal digits of a SHA-256 over what stages use of the package, its SQL and its expectations.

    Read once a process (some 30 ms). What an interpreter or an editor leaves beside the files does not count.
    """
    return digest_of(ROOT)


def digest_of(root: Path) -> str:
    """The digest of the installation at `root`."""
    total = hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*") if _counts(path, root)):
        # Each part is hashed by itself, so that no file's end can pass for the next one's name.
        for part in (path.relative_to(root).as_posix().encode(), path.read_bytes()):
            total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


def _counts(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    left = path.suffix == ".pyc" or path.name.endswith("~") or any(part.startswith(".") for part in parts)
    elsewhere = parts[0] == "theta_ml" and parts[1] in NOT_OF_STAGES
    return not left and not elsewhere and "__pycache__" not in parts and path.is_file()
