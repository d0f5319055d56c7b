"""The mark of an artifact that conversations were erased from: it no longer is what its key says."""

import json
from datetime import UTC, datetime
from typing import Any

from theta_ml.store import ERASED, Rewriting

Mark = list[dict[str, Any]]
"""One entry an erasure: erasure (its id), conversations, begun_at, finished_at."""


def read(files: Rewriting) -> Mark:
    return json.loads(files.path(ERASED).read_text()) if ERASED in files.names() else []


def entry_of(files: Rewriting, erasure_id: int) -> dict[str, Any] | None:
    return next((entry for entry in read(files) if entry["erasure"] == erasure_id), None)


def begin(files: Rewriting, erasure_id: int, conversations: int) -> None:
    """Before anything is changed, so that an attempt that was broken off is known by it."""
    before = entry_of(files, erasure_id)
    entry = {"erasure": erasure_id, "conversations": conversations, "begun_at": _now(), "finished_at": None}
    if before:  # an earlier attempt may have removed some of them
        entry |= {"conversations": max(conversations, before["conversations"]), "begun_at": before["begun_at"]}
    _write(files, entry)


def finish(files: Rewriting, erasure_id: int) -> None:
    entry = entry_of(files, erasure_id)
    assert entry is not None, "what is finished was begun"
    if not entry["finished_at"]:
        _write(files, entry | {"finished_at": _now()})


def _write(files: Rewriting, entry: dict[str, Any]) -> None:
    others = [other for other in read(files) if other["erasure"] != entry["erasure"]]
    with files.replacing(ERASED) as new:
        new.write_text(json.dumps([*others, entry], indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
