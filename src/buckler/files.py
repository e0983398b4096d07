"""Writing so that a crash or a full disk leaves what was there before."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from buckler.errors import DataError


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, flush to disk, rename.

    Raises: DataError with one sentence if it cannot be written; the old file stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, object]:
    """Raises: DataError if the file is missing or is not a JSON object."""
    try:
        value = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: run the step that writes it, or buckler run"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}): write it anew with buckler run"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold a JSON object. Got {type(value).__name__}")
    return value


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that replaces `path` when the block ends well, and vanishes if it does not.

    Raises: DataError with one sentence if it cannot be written; the old folder stays as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    except DataError as error:  # of a write inside: the temporary name means nothing to a person
        raise DataError(str(error).replace(str(temporary), str(path))) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    new.chmod(0o755)
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _cannot_write(path: Path, error: OSError) -> DataError:
    why = error.strerror or str(error)
    return DataError(f"{path} cannot be written: {why}. What was there before is untouched")
