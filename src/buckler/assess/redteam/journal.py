"""Files that only grow, a JSON object a line: what a run has done, whenever it was cut off."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from buckler.errors import DataError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

Json = dict[str, Any]


class Journal:
    """Appends lines to `path`, each flushed; a last line that was cut off is dropped first.

    lines: what stood there when it was opened.

    Raises: UsageError if another process has it open: two runs in one folder would each think
        the budget theirs.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with contextlib.ExitStack() as stack:
            try:
                self._stream = stack.enter_context(self.path.open("ab"))
                _lock(self._stream.fileno(), self.path)
                self.lines, whole = _whole(self.path)
                self._stream.truncate(whole)
            except OSError as error:
                raise _cannot_write(self.path, error) from error
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, values: Iterable[Mapping[str, object]], *, durable: bool = False) -> None:
        """durable: wait until the disk has it, so that a power cut does not take it back."""
        text = "".join(json.dumps(value, allow_nan=False) + "\n" for value in values)
        try:
            self._stream.write(text.encode())
            self._stream.flush()
            if durable:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def clear(self) -> None:
        """Back to an empty file."""
        self.lines = []
        self._stream.truncate(0)


def read_lines(path: Path) -> list[Json]:
    """The objects of a journal; none if it does not exist. A cut-off last line is left out."""
    return _whole(Path(path))[0]


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another run is at work in {path.parent}: wait until it has ended"
        ) from None


def _whole(path: Path) -> tuple[list[Json], int]:
    """The objects, and the bytes up to the end of the last whole line."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    size = content.rfind(b"\n") + 1
    lines = []
    for number, line in enumerate(content[:size].splitlines(), 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {number}, is no JSON object: the file was altered. Move its run "
                "folder away, and a new run starts"
            )
        lines.append(value)
    return lines, size


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written: {error.strerror or error}")
