"""Who watches sees every answer once, in order, and delays none."""

import threading
from collections.abc import Sequence

import torch
from fastapi.testclient import TestClient

from buckler.serve import create_app
from buckler.serve.watch import Seen, Watch, WatchCounts

from .tiny import CLASSIFY, LEFT, accept, body, settings, tiny_guard


class Notes:
    """Writes down what it sees; fails, or waits, where a test says so."""

    def __init__(self, *, fails: bool = False, gate: threading.Event | None = None) -> None:
        self.seen: list[str] = []
        self.fails = fails
        self.gate = gate

    def saw(self, seen: Sequence[Seen]) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        self.seen += [each.request_id for each in seen]
        if self.fails:
            raise RuntimeError("this one cannot watch")


def show(watch: Watch, *names: str) -> None:
    for name in names:
        watch.show("key", name, LEFT, accept(LEFT))


def test_each_once_and_in_order_also_beside_one_that_fails() -> None:
    first, second = Notes(fails=True), Notes()
    told: list[dict[str, object]] = []
    watch = Watch([first, second], told.append)
    watch.start()
    names = [str(number) for number in range(200)]
    show(watch, *names)
    watch.stop()
    assert first.seen == second.seen == names
    assert told[0]["failed"] == "Notes"
    assert watch.missed == 0


def test_what_waits_is_bounded() -> None:
    gate = threading.Event()
    notes = Notes(gate=gate)
    watch = Watch([notes], None, max_bytes=3 * LEFT.nbytes)
    show(watch, *"abcde")
    assert watch.missed == 2
    watch.start()
    gate.set()
    watch.stop()
    assert notes.seen == ["a", "b", "c"]
    big = torch.zeros(9, 1, 8, 8)
    watch.show("key", "big", big, accept(big))
    assert watch.missed == 2, "what is larger than all room is shown alone"
    (counted,) = WatchCounts(watch).collect()
    assert [(each.name, each.value) for each in counted.samples] == [
        ("buckler_watch_missed_total", 2)
    ]


def test_a_gateway_shows_what_it_answered() -> None:
    notes = Notes()
    app = create_app(tiny_guard(), settings(), log=False, watchers=(notes,))
    with TestClient(app) as client:
        ids = [client.post(CLASSIFY, json=body(LEFT)).json()["request_id"] for _ in range(3)]
        client.post(CLASSIFY, json={"rows": []})
    assert notes.seen == ids
