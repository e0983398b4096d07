"""A process that records under load until it is killed: every acknowledged id goes to stdout."""

import asyncio
import os
import sys

from buckler.store.engine import open_store
from buckler.store.recorder import Event, Recorder
from tests.store.made import item

CLIENTS = 16


async def _client(recorder: Recorder, run: str, number: int, pause_s: float) -> None:
    sent = 0
    while True:
        name = f"{run}-{number}-{sent}"
        rows = [item(request_id=name, row=row, content=f"{name}/{row}".encode()) for row in (0, 1)]
        ids = await recorder.suspicious(rows)
        recorder.record(Event("request", request_id=name, accepted=1, suspicious=2))
        text = "".join(f"{name} {row} {found}\n" for row, found in enumerate(ids))
        os.write(1, text.encode())  # one write: a line is whole or not there
        sent += 1
        await asyncio.sleep(pause_s)


async def _load(recorder: Recorder, run: str) -> None:
    await asyncio.gather(*(_client(recorder, run, n, 0.02) for n in range(CLIENTS)))


if __name__ == "__main__":
    _, url, blobs, run = sys.argv
    recorder = Recorder(open_store(url, blobs, upgrade=False))
    recorder.start()
    asyncio.run(_load(recorder, run))
