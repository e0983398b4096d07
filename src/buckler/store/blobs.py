"""Inputs as they arrived, each under the sha256 of its bytes: written once, never rewritten."""

import contextlib
import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from buckler.errors import DataError, StoreDownError, UsageError

_DIGEST: Final = re.compile("[0-9a-f]{64}")


class Blobs:
    """A folder, or whatever fsspec reaches, of contents by their sha256.

    Args:
        url: a local path, or s3://bucket/prefix with the extra [s3].

    Raises: UsageError if the place cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
            self._local = isinstance(self._system, LocalFileSystem)
            if self._local:
                _make_folders(Path(self._root))
        except ImportError:
            raise UsageError(
                f"inputs at {url} need another package: "
                'pip install -c constraints.txt -e ".[s3]" for s3://'
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(
                f"inputs must be kept in a folder that can be written, or at an s3:// URL. "
                f"Got {url!r}: {error}"
            ) from None

    def put(self, content: bytes) -> str:
        """The content's sha256, once it is on the disk under that name.

        Raises: StoreDownError if it cannot be written.
        """
        return self.keep(content)[0]

    def keep(self, content: bytes) -> tuple[str, bool]:
        """`put`, and whether it was new. Raises: StoreDownError."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        try:
            if self._system.exists(path):
                if self._local:  # its writer may have died before the folder was on the disk
                    _sync_folder(Path(path).parent)
                return digest, False
            if self._local:
                _write_local(Path(path), content)
            else:
                # An object appears whole or not at all, so there is nothing to rename.
                self._system.pipe_file(path, content)
        except Exception as error:  # a remote file system may raise anything
            raise StoreDownError(f"an input cannot be kept at {self.url}: {_why(error)}") from error
        return digest, True

    def get(self, digest: str) -> bytes:
        """Raises: DataError if it is missing or not what was kept; StoreDownError."""
        path = self.path(digest)
        try:
            content = self._system.cat_file(path)
        except FileNotFoundError:
            raise DataError(f"the input {digest} is missing from {self.url}") from None
        except Exception as error:
            raise StoreDownError(f"{self.url} cannot be read: {_why(error)}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise DataError(f"the input {digest} at {self.url} is not what was kept: it changed")
        return bytes(content)

    def probe(self) -> None:
        """Raises: StoreDownError if nothing can be kept now."""
        self.drop(self.put(uuid.uuid4().bytes))

    def has(self, digest: str) -> bool:
        """Raises: StoreDownError."""
        try:
            return bool(self._system.exists(self.path(digest)))
        except Exception as error:
            raise StoreDownError(f"{self.url} cannot be read: {_why(error)}") from error

    def drop(self, digest: str) -> None:
        """Forget it; nothing happens if it is not there. Raises: StoreDownError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self.path(digest))
        except Exception as error:
            raise StoreDownError(f"{self.url} cannot be written: {_why(error)}") from error

    def digests(self) -> set[str]:
        """All that are there. Raises: StoreDownError."""
        try:
            self._system.invalidate_cache()
            found: Any = self._system.find(self._root)
        except Exception as error:
            raise StoreDownError(f"{self.url} cannot be read: {_why(error)}") from error
        return {name for path in found if _DIGEST.fullmatch(name := path.rpartition("/")[2])}

    def sweep(self, known: set[str], before: float) -> int:
        """Remove what is not known and was written before `before` (unix seconds): a process that
        died left it. How many those were. Raises: StoreDownError."""
        removed = 0
        try:
            self._system.invalidate_cache()
            for path in self._system.find(self._root):
                if path.rpartition("/")[2] in known:
                    continue
                if self._system.modified(path).timestamp() < before:
                    self._system.rm_file(path)
                    removed += 1
        except Exception as error:
            raise StoreDownError(f"{self.url} cannot be swept: {_why(error)}") from error
        return removed

    def path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise DataError(f"an input is named by its sha256, 64 hex digits. Got {digest!r}")
        return f"{self._root.rstrip('/')}/{digest[:2]}/{digest}"


def _make_folders(root: Path) -> None:
    """All 256 at once: a folder made on the way would have to reach the disk on the way."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "ff").is_dir():
        for number in range(256):
            (root / f"{number:02x}").mkdir(exist_ok=True)
        _sync_folder(root)


def _write_local(path: Path, content: bytes) -> None:
    """To a temporary name, to the disk, to its own name, and the folder to the disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
