"""The export over HTTP: a zip made on a thread, one at a time, that leaves no file behind."""

import asyncio
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from fastapi import Response
from starlette.responses import StreamingResponse

from buckler.errors import DataError
from buckler.serve.refusal import RefusedError, busy
from buckler.store.engine import Store
from buckler.store.export import export

_CHUNK: Final = 1 << 20
_HEADERS: Final = {"content-disposition": 'attachment; filename="reviewed.zip"'}


class Exporter:
    """Makes the zip of `buckler review export`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._making = False

    async def zipped(self, actor: str, since: float) -> Response:
        """What was decided since (unix seconds).

        Raises: RefusedError 409 for what cannot be exported, 429 while another is made, 503 if
            there is no room for it; StoreDownError.
        """
        if self._making:
            raise busy("an export is being made", 5)
        self._making = True
        try:
            stream = await asyncio.to_thread(_made, self._store, actor, since)
        except DataError as error:
            raise RefusedError(409, f"there is no export: {error}", reason="conflict") from None
        except OSError as error:
            refusal = RefusedError(503, "there is no room to make the export in", 60)
            raise refusal from error
        finally:
            self._making = False
        length = {"content-length": str(stream.seek(0, 2))}
        return StreamingResponse(_chunks(stream), 200, _HEADERS | length, "application/zip")


def _made(store: Store, actor: str, since: float) -> IO[bytes]:
    """A file without a name: it is gone when nobody reads it any more."""
    stream = tempfile.TemporaryFile()  # noqa: SIM115 (who sends it closes it)
    try:
        with tempfile.TemporaryDirectory(prefix="buckler-export-") as place:
            folder = Path(place) / "reviewed"
            export(store, folder, time.time(), actor, since)
            with zipfile.ZipFile(stream, "w") as packed:  # images are packed already
                for path in sorted(folder.rglob("*")):
                    packed.write(path, path.relative_to(folder))
    except BaseException:
        stream.close()
        raise
    return stream


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        stream.seek(0)
        while chunk := stream.read(_CHUNK):
            yield chunk
