"""Compiled programs are kept on disk, so that the same run started again does not compile again.

`CM3LEON_COMPILATION_CACHE` names the folder or says `off`; by default it is `cm3leon_jax/xla` in the user's caches
(`$XDG_CACHE_HOME`, else `~/.cache`). Of several processes only the first writes and all read: on a pod, name a folder
that all hosts share (`gs://…` too). JAX's own `JAX_COMPILATION_CACHE_DIR` goes before all this. What lies in the folder
is run as it is, so nobody else must be able to write there.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.processor import processor

SETTING = "CM3LEON_COMPILATION_CACHE"
LIMIT_BYTES = 2 * 1024**3
# Seconds of compiling from which a program is kept. Many small ones make up a good part of a start on a CPU.
_KEPT_FROM = "0.5"


def use_compilation_cache(*, accelerator: bool) -> None:
    """Tells JAX, by environment variables, where compiled programs are kept. To be called before JAX is imported.

    Raises `UserError` where the folder that the user named cannot be made.
    """
    named = os.environ.get(SETTING, "")
    if named == "off" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    several = bool(os.environ.get("CM3LEON_COORDINATOR"))
    if several and not accelerator:
        return  # a way to try things out; that Gloo's collectives survive being stored is not known
    if "://" not in named:
        folder = _local_folder(named)
        if folder is None:
            return
        named = str(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = named
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", _KEPT_FROM)
    if several and os.path.exists("/dev/nvidia0"):
        # Else the processes divide the trying out of kernels among them, and one that compiles waits for ever for one
        # that found its program here.
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_gpu_shard_autotuning" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_shard_autotuning=false".strip()


def _local_folder(named: str) -> pathlib.Path | None:
    """The folder for this kind of processor, made and trimmed; None where the default one cannot be had."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    root = pathlib.Path(named or caches, *() if named else ("cm3leon_jax", "xla")).absolute()
    folder = root / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        if named:
            raise UserError(f"{SETTING} is {named!r}: {error.strerror}; name a folder, or `off`") from None
        return None
    trim(root)
    return folder


def _processor() -> str:
    """Names the processor's kind. JAX's key does not hold it, and a program for the CPU that was compiled on another
    kind, in a home that machines share, would be loaded and die of an illegal instruction."""
    found = processor()
    key = "\n".join((found.model, *found.flags))
    return f"{platform.machine()}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def trim(root: pathlib.Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Removes what was not used for longest until `limit_bytes` are left. (JAX's own limit needs another package.)"""
    entries = []
    for path in root.rglob("*"):
        try:
            if path.is_file():
                status = path.stat()
                entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        except OSError:  # another process trims too
            continue
    excess = sum(size for _, size, _ in entries) - limit_bytes
    for _, size, path in sorted(entries):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size
