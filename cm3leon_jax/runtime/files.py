"""Files that are either whole or absent: everything is written aside and renamed into place.

A path may be that of an object store (`gs://bucket/run`): what is written is then made locally and copied there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from cm3leon_jax.runtime.errors import UserError

Path = str | os.PathLike
_SECONDS_BETWEEN_COPIES = 60.0


def is_remote(path: Path) -> bool:
    """Whether a path is a URL of an object store."""
    return "://" in os.fspath(path)


def as_path(path: Path) -> pathlib.Path:
    """A `pathlib.Path`, or `etils.epath.Path`, which has the same methods, for a URL of an object store."""
    if not is_remote(path):
        return pathlib.Path(path)
    from etils import epath

    return epath.Path(path)  # TensorFlow's file systems, or fsspec's where it is missing


def open_to_read(path: Path) -> BinaryIO:
    """A binary file in which one can seek. To be closed; `with` does it."""
    if not is_remote(path):
        return open(path, "rb")
    return io.BufferedReader(_RemoteFile(path), 2**20)


class _RemoteFile(io.RawIOBase):
    """A file of an object store as Python's own libraries expect one: what comes from TensorFlow is none."""

    def __init__(self, path: Path):
        self._opened = contextlib.ExitStack()
        self._file = self._opened.enter_context(as_path(path).open("rb"))
        self._size: int = as_path(path).stat().length  # type: ignore[attr-defined]
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._file.seek(self._place)
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self._opened.close()
        super().close()


def local_path(path: Path) -> pathlib.Path:
    """A `pathlib.Path`. `UserError` for a URL of an object store, where what is read needs files of this machine."""
    if is_remote(path):
        raise UserError(f"{path} must be a local folder: mount the bucket, or copy what is needed to this machine")
    return pathlib.Path(path)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; on success it replaces `path`, on any error it is removed.

    The block may create either a file or a directory at the temporary path. In an object store a file is whole or
    absent too; of a directory, the files come one by one, the first by name last.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as temporary:
            aside = pathlib.Path(temporary) / as_path(path).name
            yield aside
            _copy(aside, as_path(path))
        return
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(aside)
    try:
        yield aside
        if aside.is_dir():
            remove(path)  # a directory cannot be renamed over a directory that holds files
        os.replace(aside, path)
    finally:
        remove(aside)


def _copy(local: pathlib.Path, remote: pathlib.Path) -> None:
    """Copies a file or a directory into an object store; a directory replaces what was there."""
    if not local.is_dir():
        remote.parent.mkdir(parents=True, exist_ok=True)
        remote.write_bytes(local.read_bytes())
        return
    remove(remote)
    for file in sorted((path for path in local.rglob("*") if path.is_file()), reverse=True):
        _copy(file, remote.joinpath(*file.relative_to(local).parts))


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[pathlib.Path]:
    """`written_aside` for a directory: yields an empty directory that becomes `path` when the block succeeds."""
    with written_aside(path) as aside:
        aside.mkdir(parents=True)
        yield aside


def remove(path: Path) -> None:
    """Removes a file or a directory tree, if it is there."""
    if is_remote(path):
        url = as_path(path)
        if url.exists():
            url.rmtree() if url.is_dir() else url.unlink()  # type: ignore[attr-defined]
        return
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files_below(folder: Path) -> list[str]:
    """Paths, relative to a folder, of all files in it and below that are not hidden, nor in hidden folders; sorted."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check its permissions")

    walk: Any = as_path(folder).walk(on_error=refuse) if is_remote(folder) else os.walk(folder, onerror=refuse)  # type: ignore[attr-defined]
    found = []
    root = None
    for directory, folders, names in walk:
        root = root or directory  # some object stores leave out `gs://`
        below = os.path.relpath(directory, root)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.normpath(os.path.join(below, name)) for name in names if name and not name.startswith(".")]
    return sorted(found)


def file_state(path: Path) -> tuple[int, float]:
    """Size in bytes and time of change, which change with the contents; (0, 0) for what is not there."""
    try:
        state: Any = as_path(path).stat()
    except (OSError, ValueError):
        return 0, 0
    if is_remote(path):
        return state.length, state.mtime
    return state.st_size, state.st_mtime_ns


def check_writable(directory: Path) -> None:
    """Makes a directory and writes a small file there, for a moment. `UserError` where that fails: better now than at
    the first checkpoint."""
    trial = as_path(directory) / f".writable.{socket.gethostname()}.{os.getpid()}"
    try:
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.write_text("x", encoding="utf-8")
        trial.unlink()
    except Exception as error:  # each object store has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{directory} cannot be written to ({reason}); choose another folder or its rights") from error


class AppendedFile:
    """A file that grows. In an object store, which cannot append, it is copied there as a whole, at most once a minute
    and at the end. Begins with `start` in place of what was there. File-like: `write`, `flush`, `close`."""

    def __init__(self, path: Path, start: bytes = b""):
        self._remote = as_path(path) if is_remote(path) else None
        self._temporary = tempfile.TemporaryDirectory() if self._remote else None
        self._local = pathlib.Path(self._temporary.name if self._temporary else path)
        if self._temporary:
            self._local = self._local / "file"
        self._copied = time.monotonic()
        with written_aside(self._local) as aside:
            aside.write_bytes(start)
        self._file = open(self._local, "ab")  # noqa: SIM115 - closed by close()

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def flush(self, *, now: bool = False) -> None:
        """`now`: even if the last copy into an object store is not a minute old."""
        self._file.flush()
        if self._remote and (now or time.monotonic() - self._copied > _SECONDS_BETWEEN_COPIES):
            self._copied = time.monotonic()
            _copy(self._local, self._remote)

    def close(self) -> None:
        self._file.close()
        if self._remote and self._temporary:
            _copy(self._local, self._remote)
            self._temporary.cleanup()


def json_line(row: dict) -> bytes:
    """A row of a file that `read_json_lines` reads."""
    return json.dumps(row).encode() + b"\n"


def write_json_lines(path: Path, rows: Iterable[dict]) -> None:
    """A file that `read_json_lines` reads, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(b"".join(map(json_line, rows)))


def read_json_lines(path: Path) -> list[dict]:
    """The rows of a file with a line of JSON each; none where it is not there. A last line cut off by a kill is passed
    over."""
    if not as_path(path).exists():
        return []
    rows = []
    for line in as_path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def write_json(path: Path, value: Any) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, what: str, make_with: str) -> Any:
    """Reads a JSON file. A missing or broken one is a `UserError` naming `what` it is and the command that makes it."""
    try:
        return json.loads(as_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {what} at {path}; make it with `{make_with}`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{what} at {path} cannot be read ({error}); make it again with `{make_with}`") from None


def sha256_of_file(path: Path) -> str:
    if is_remote(path):
        return hashlib.sha256(as_path(path).read_bytes()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """A short stable hash of JSON-able values and bytes: what says that two things are the same thing."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]
