"""What names the exact contents of what a result depends on: other contents, and it is measured again."""

from __future__ import annotations

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, files_below, fingerprint, sha256_of_file


def contents(path: Path, setting: str) -> str:
    """Of a file, or of all files of a folder, which are read. `UserError`, which names the `setting`: nothing is
    there, or it cannot be read."""
    where = as_path(path)
    try:
        if where.is_dir():
            return fingerprint([(name, sha256_of_file(where / name)) for name in files_below(where)])
        return fingerprint(sha256_of_file(where))
    except FileNotFoundError:
        raise UserError(f"{path} is not there; correct {setting}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); correct {setting}") from None


def source_fingerprint(spec: str) -> str:
    """Of all splits of a source. Raises `UserError` where it cannot be opened."""
    source = open_source(spec)
    return fingerprint([(name, source.split(name).fingerprint) for name in source.splits])
