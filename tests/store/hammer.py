"""A process that records and decides under load until it is killed: what was acknowledged goes to
stdout, a line a row or a decision."""

import asyncio
import os
import sys
import time

from buckler.ops.review import Policy
from buckler.store.decide import Decision, decide
from buckler.store.engine import Store, open_store
from buckler.store.recorder import Event, Recorder
from buckler.store.reviews import claim
from tests.store.made import item

CLIENTS = 16


def _say(text: str) -> None:
    os.write(1, text.encode())  # one write: a line is whole or not there


async def _client(recorder: Recorder, run: str, number: int) -> None:
    sent = 0
    while True:
        name = f"{run}-{number}-{sent}"
        rows = [
            item(request_id=name, row=row, key_id=name, content=f"{name}/{row}".encode())
            for row in (0, 1)
        ]
        ids = await recorder.suspicious(rows)
        recorder.record(Event("request", request_id=name, accepted=1, suspicious=2))
        _say("".join(f"row {name} {row} {found}\n" for row, found in enumerate(ids)))
        sent += 1
        await asyncio.sleep(0.02)


def _reviewer(store: Store, run: str) -> None:
    turn = 0
    while True:
        found = claim(store, f"{run}-{turn}", time.time(), Policy())
        if found is None or found.lease_id is None or found.lease_by is None:
            time.sleep(0.01)
            continue
        made = Decision(found.id, found.lease_id, found.lease_by, found.version, "accept")
        _say(f"decided {found.id} {decide(store, made, time.time(), Policy()).id}\n")
        turn += 1
        time.sleep(0.01)


async def _load(store: Store, recorder: Recorder, run: str) -> None:
    await asyncio.gather(
        asyncio.to_thread(_reviewer, store, run),
        *(_client(recorder, run, number) for number in range(CLIENTS)),
    )


if __name__ == "__main__":
    _, url, blobs, run = sys.argv
    store = open_store(url, blobs, upgrade=False)
    recorder = Recorder(store)
    recorder.start()
    asyncio.run(_load(store, recorder, run))
