"""Random access to records in any number of ArrayRecord files, of which few are open at a time."""

from __future__ import annotations

import bisect
import errno
import functools
import itertools
import os
import resource
from collections.abc import Sequence

from array_record.python.array_record_module import ArrayRecordReader

from cm3leon_jax.runtime.errors import UserError

# Nothing is read ahead, and no threads are made: single records are read, by many threads of ours.
OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 2**15  # bytes of a reader


class Damaged(Exception):
    """A file, or a record of it, is not what was written; the message is the reason."""


class ArrayRecords:
    """The records of files, given as (path, index of the first one, how many)."""

    def __init__(self, files: Sequence[tuple[str, int, int]]):
        self._files = files
        self._ends = list(itertools.accumulate(count for _, _, count in files))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        """Raises `Damaged`, and `UserError` where the system does not open the file."""
        number, offset = locate(self._ends, index)
        path, first, _ = self._files[number]
        return read_record(path, first + offset)


def locate(ends: Sequence[int], index: int) -> tuple[int, int]:
    """The number of the file that an index is in, and its offset there. `ends`: how many records the files up to each
    have together."""
    number = bisect.bisect_right(ends, index)
    return number, index - (ends[number - 1] if number else 0)


def read_record(path: str, index: int, key: object = None) -> bytes:
    """One record. `key` tells files apart that follow each other under one name.

    Raises `Damaged`, and `UserError` where the system does not open the file.
    """
    try:
        return _open_reader(path, key).read([index])[0]
    except (RuntimeError, ValueError, IndexError) as error:
        require_readable(path)  # of ArrayRecord's errors one cannot tell why it does not read
        raise Damaged(" ".join(str(error).split())) from None


def _most_open() -> int:
    """How many readers the process keeps: a quarter of the files that it may have open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if allowed == resource.RLIM_INFINITY else max(8, min(1024, allowed // 4))


@functools.lru_cache(maxsize=_most_open())
def _open_reader(path: str, key: object) -> ArrayRecordReader:
    """Those that were used last stay open; another is closed when its last user lets go of it."""
    del key
    return ArrayRecordReader(path, OPTIONS, file_reader_buffer_size=_BUFFER)


def require_readable(path: str) -> None:
    """Raises `Damaged` where there is no such file, and `UserError` with the system's reason where it does not open."""
    try:
        open(path, "rb").close()
    except FileNotFoundError:
        raise Damaged("it is missing") from None
    except OSError as error:
        few = error.errno in (errno.EMFILE, errno.ENFILE)
        hint = "allow this process more open files (ulimit -n)" if few else "see to it, and start again"
        raise UserError(f"{path} cannot be opened ({os.strerror(error.errno or 0)}): {hint}") from None
