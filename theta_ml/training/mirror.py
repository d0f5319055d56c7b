"""Nodes whose homes are apart read the checkpoints that the first process wrote: it sends what a node lacks."""

import os
from collections.abc import Set
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from theta_ml.store import MARKER
from theta_ml.training.nodes import node_count
from theta_ml.training.processes import any_of_all, is_first, said_by_all, side_channel

CHUNK = 16 << 20
"""Bytes that travel at once."""
Files = dict[str, tuple[int, int]]
"""By path in the folder: length, and time of the last change in nanoseconds, which travels with the file."""


def mirror(folder: Path) -> None:
    """Has `folder` on each node hold what it holds on the first one's. All processes must call it at the same place.

    Where the nodes share a home, nobody lacks anything.
    """
    if node_count() == 1:
        return
    here = files_in(folder)
    wanted, *others = said_by_all(here)
    lacking = {name for has in others for name in wanted if has.get(name) != wanted[name]}
    writes = os.environ["LOCAL_RANK"] == "0" and here != wanted
    if writes:
        _remove(folder, here.keys() - wanted.keys())
    for name in sorted(lacking, key=lambda name: (name.endswith(MARKER), name)):
        _pass_on(folder / name, wanted[name], writes and here.get(name) != wanted[name])
    any_of_all(False)  # nobody reads before all is there


def files_in(folder: Path) -> Files:
    """Without hidden ones: locks, and what is being written."""
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*")} if folder.exists() else {}
    seen = {name: path.stat() for name, path in names.items() if path.is_file() and not _is_hidden(name)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in seen.items()}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def _remove(folder: Path, names: Set[str]) -> None:
    """What the first node no longer has."""
    for name in sorted(names, key=lambda name: (not name.endswith(MARKER), name)):
        (folder / name).unlink()


def _pass_on(file: Path, what: tuple[int, int], writes: bool) -> None:
    """From the first process to all; who `writes` keeps it."""
    size, changed = what
    partial = file.with_name(f".{file.name}")
    if writes:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(b"")
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        chunk = _read(file, start, length) if is_first() else torch.empty(length, dtype=torch.uint8)
        distributed.broadcast(chunk, src=0, group=side_channel())
        if writes:
            with partial.open("ab") as end:
                end.write(chunk.numpy().tobytes())
    if writes:
        os.utime(partial, ns=(changed, changed))
        partial.replace(file)


def _read(file: Path, start: int, length: int) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(file, np.uint8, length, offset=start))
