"""NumPy files that are written a part at a time, and read memory-mapped."""

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

Tokens = NDArray[np.unsignedinteger[Any]]
"""Token ids, as `token_type` says."""


def token_type(vocabulary: int) -> type[np.unsignedinteger[Any]]:
    """Two bytes a token where its ids fit, four where they do not."""
    return np.uint16 if vocabulary <= 1 << 16 else np.uint32


class GrowingArray:
    """An .npy file whose first axis grows. It says how long it is when it is closed."""

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        """`shape` is that of one row."""
        self.dtype, self.shape, self.rows = np.dtype(dtype), shape, 0
        self._file = path.open("wb")
        self._header()

    def append(self, rows: NDArray[Any]) -> None:
        """`rows` (any number, *shape)."""
        assert rows.shape[1:] == self.shape, f"rows of {rows.shape[1:]}, not {self.shape}"
        np.ascontiguousarray(rows, dtype=self.dtype).tofile(self._file)
        self.rows += len(rows)

    def _header(self) -> None:
        # NumPy leaves room in the header for the first axis to grow to any number of digits.
        described = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.rows, *self.shape)}
        npy.write_array_header_1_0(self._file, described)

    def close(self) -> None:
        """Writes the length down."""
        self._file.seek(0)
        self._header()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_array(path: Path) -> NDArray[Any]:
    """Memory-mapped and read-only; an empty one, which nothing can map, is read."""
    array: NDArray[Any] = np.load(path, mmap_mode="r") if npy_rows(path) else np.load(path)
    return array


def npy_rows(path: Path) -> int:
    """Length of the first axis. Raises FileNotFoundError."""
    with path.open("rb") as file:
        npy.read_magic(file)
        shape, *_ = npy.read_array_header_1_0(file)
    return int(shape[0])


def release(array: NDArray[Any]) -> None:
    """Gives the pages of a memory-mapped array back to the system; they are read again where they are asked for."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
