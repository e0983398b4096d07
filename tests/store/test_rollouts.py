"""Rollouts in the store: one at a time, each step whole or not at all, whoever dies when."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from buckler.errors import ConflictError, StoreDownError, UsageError
from buckler.ops.evidence import Policy
from buckler.ops.pairs import Pairs
from buckler.ops.rollout import ENDS
from buckler.store import audit, leases, rollouts
from buckler.store.engine import Store, open_store
from buckler.store.live import read_live, tell_live
from buckler.store.operating import rollout_reports
from buckler.store.tables import audit as audit_table
from buckler.store.tables import outbox

from .rolled import CANDIDATE, STABLE, STATES, begun, look, nothing, seen

SHORT = Policy(min_s=(60, 60, 60, 60))
BAD = {"missed": Pairs(90, 0, 2000)}


def told(store: Store) -> list[str]:
    """What the audit says of rollouts, in order."""
    rows = sa.select(audit_table.c.action).order_by(audit_table.c.n)
    with store.read() as connection:
        assert audit.verify(connection) is None
        return [name for name in connection.scalars(rows) if name.startswith("rollout.")]


def alerts(store: Store) -> list[str]:
    with store.read() as connection:
        return [row["says"] for row in connection.scalars(sa.select(outbox.c.body))]


def test_all_the_way(store: Store) -> None:
    name = begun(store, SHORT)
    weights = []
    while not (kept := look(store, name)).rollout.ended:
        live = read_live(store)
        assert live is not None
        assert live.weight == kept.rollout.weight
        weights.append(live.weight)
    assert sorted(set(weights)) == [0, 10, 50, 100]
    live = read_live(store)
    assert live is not None
    assert (live.digest, live.path) == (CANDIDATE, "/bundles/b")
    assert (live.candidate_digest, live.rollout_id, live.weight) == (None, None, 0)
    assert told(store) == ["rollout.start", *(f"rollout.{state}" for state in STATES)]
    assert rollouts.running(store) is None
    last = rollouts.last(store)
    assert last is not None
    assert last.rollout.state == "COMPLETED"


def test_a_rollback_is_one_change(store: Store) -> None:
    name = begun(store, SHORT)
    while look(store, name).rollout.state != "STEP_50":
        pass
    before = read_live(store)
    kept = look(store, name, **BAD)
    live = read_live(store)
    assert before is not None
    assert live is not None
    assert kept.rollout.state == "ROLLED_BACK"
    assert (live.digest, live.candidate_digest, live.weight) == (STABLE, None, 0)
    assert live.epoch == before.epoch + 1
    assert len(alerts(store)) == 1
    assert "known attacks" in alerts(store)[0]


def test_two_at_once_are_refused(store: Store) -> None:
    name = begun(store)
    with pytest.raises(ConflictError, match="another rollout runs"):
        rollouts.start(store, "c" * 64, Path("/c"), Policy(), 1.0, "bob")
    rollouts.act(store, name, "abort", nothing, 2.0, "ann")
    rollouts.start(store, "c" * 64, Path("/c"), Policy(), 3.0, "bob")


def test_what_cannot_begin(lite: Store) -> None:
    with pytest.raises(UsageError, match="no gateway on this store"):
        rollouts.start(lite, CANDIDATE, Path("/b"), Policy(), 1.0, "ann")
    tell_live(lite, STABLE, "/a", 0.0)
    with pytest.raises(UsageError, match="is live already"):
        rollouts.start(lite, STABLE, Path("/a"), Policy(), 1.0, "ann")
    with pytest.raises(UsageError, match="there is no rollout"):
        rollouts.find(lite, "none")


def test_what_a_gateway_serves_counts_until_the_first_rollout(lite: Store) -> None:
    assert read_live(lite) is None
    assert tell_live(lite, "c" * 64, "/c", 0.0).digest == "c" * 64
    name = begun(lite)
    assert tell_live(lite, "d" * 64, "/d", 0.0).digest == STABLE
    rollouts.act(lite, name, "abort", nothing, 2.0, "ann")
    assert tell_live(lite, "d" * 64, "/d", 0.0).digest == STABLE


def test_what_people_do_is_in_the_audit(lite: Store) -> None:
    name = begun(lite)
    for verb in ("pause", "resume", "rollback"):
        rollouts.act(lite, name, verb, nothing, 5.0, "ann")
    assert told(lite) == ["rollout.start", "rollout.pause", "rollout.resume", "rollout.rollback"]
    with pytest.raises(ConflictError, match="has ended"):
        rollouts.act(lite, name, "pause", nothing, 6.0, "ann")


def damage(store: Store) -> None:
    with store.write() as connection:
        connection.execute(sa.update(rollout_reports).values(value={"odd": 1}))


def test_a_report_that_cannot_be_read_ends_it(lite: Store) -> None:
    """Of a gateway of another version: it must neither promote nor stand in the way."""
    name = begun(lite)
    look(lite, name)
    damage(lite)
    kept = rollouts.step(lite, name, rollouts.observe_all, 1.0)
    assert kept.rollout.state == "ROLLED_BACK"
    assert "the report of gateway gateway cannot be read" in kept.rollout.reason
    name = begun(lite)
    look(lite, name)
    damage(lite)
    rolled = rollouts.act(lite, name, "rollback", rollouts.observe_all, 2.0, "ann")
    assert rolled.rollout.reason == "asked by ann"


def test_one_of_many_who_begin_at_once(store: Store) -> None:
    tell_live(store, STABLE, "/bundles/a", 0.0)

    def begin(number: int) -> str:
        try:
            digest = f"{number:064x}"
            return rollouts.start(store, digest, Path("/b"), Policy(), 1.0, "ann").id
        except ConflictError:
            return ""

    with ThreadPoolExecutor(8) as threads:
        made = [name for name in threads.map(begin, range(8)) if name]
    running, live = rollouts.running(store), read_live(store)
    assert running is not None
    assert live is not None
    assert made == [running.id] == [live.rollout_id]


def test_a_clock_that_was_set_back_stops_no_rollback(store: Store) -> None:
    name = begun(store, SHORT)
    while (kept := look(store, name)).rollout.state != "STEP_50":
        pass
    at = kept.rollout.clock or 0.0
    back = at - 86_400
    kept = rollouts.step(store, name, rollouts.observe_all, back)
    assert (kept.rollout.state, kept.rollout.elapsed) == ("STEP_50", 0.0)
    rollouts.report(store, name, "gateway", int(at) + 1, seen(100 * int(at) + 100, **BAD))
    kept = rollouts.step(store, name, rollouts.observe_all, back + 1)
    assert kept.rollout.state == "ROLLED_BACK"
    live = read_live(store)
    assert live is not None
    assert (live.digest, live.weight) == (STABLE, 0)


class DiedError(Exception):
    """As if by kill -9."""


@contextmanager
def dies(store: Store, at: int, *, kept: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies at its write number `at`: before it is kept, or right after."""
    whole, count = Store.write, 0

    @contextmanager
    def write(self: Store, *, durable: bool = True) -> Iterator[sa.Connection]:
        nonlocal count
        count += 1
        with whole(self, durable=durable) as connection:
            yield connection
            if count == at and not kept:
                raise DiedError
        if count == at:
            raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", write)
        yield


def drive(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch, bad_from: str, *, kept: bool
) -> None:
    """The loop, round after round, each by a process that dies at its first, second or third write
    (lease, report, step), then one that lives; bad news from that state on."""
    for round_ in range(50):
        for at in (1, 2, 3, 4):
            state = rollouts.find(store, name).rollout.state
            if state in ENDS:
                return
            late = state in STATES and bad_from in STATES[: STATES.index(state) + 1]
            with (
                contextlib.suppress(DiedError),
                dies(store, at, kept=kept, monkeypatch=monkeypatch),
            ):
                leases.take(store, "rollout", f"holder {round_} {at}", 20.0 * round_, 10.0)
                look(store, name, **(BAD if late else {}))
    raise AssertionError("it never ended")


@pytest.mark.parametrize("kept", [False, True])
def test_dying_at_every_write_neither_doubles_nor_loses_a_step(
    lite: Store, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    name = begun(lite, SHORT)
    drive(lite, name, monkeypatch, "none", kept=kept)
    assert told(lite) == ["rollout.start", *(f"rollout.{state}" for state in STATES)]
    live = read_live(lite)
    assert live is not None
    assert live.digest == CANDIDATE
    assert live.epoch == 1 + len(STATES), "each step changed the pointer once"


@pytest.mark.parametrize("state", STATES[:-1])
@pytest.mark.parametrize("kept", [False, True])
def test_dying_at_every_write_loses_no_rollback(
    lite: Store, monkeypatch: pytest.MonkeyPatch, state: str, *, kept: bool
) -> None:
    name = begun(lite, SHORT)
    drive(lite, name, monkeypatch, state, kept=kept)
    assert told(lite)[-1] == "rollout.ROLLED_BACK"
    assert told(lite).count("rollout.ROLLED_BACK") == 1
    assert len(alerts(lite)) == 1
    live = read_live(lite)
    assert live is not None
    assert (live.digest, live.candidate_digest, live.weight) == (STABLE, None, 0)


def test_with_the_store_down_nothing_moves(lite: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = begun(lite)

    def down(*_: object, **__: object) -> None:
        raise StoreDownError("down")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", down)
        with pytest.raises(StoreDownError):
            rollouts.step(lite, name, nothing, 1.0)
    assert rollouts.find(lite, name).version == 1


@pytest.mark.slow
def test_kill_9_in_every_state(tmp_path: Path) -> None:
    url, blobs = f"sqlite:///{tmp_path}/store.db", str(tmp_path / "blobs")
    store = open_store(url, blobs)
    begun(store, Policy(min_s=(120, 120, 120, 120)))
    for state in STATES:
        command = [sys.executable, "-m", "tests.store.rolled", url, blobs]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == state:
                    break
            process.kill()
    assert told(store) == ["rollout.start", *(f"rollout.{state}" for state in STATES)]
    live = read_live(store)
    assert live is not None
    assert (live.digest, live.epoch) == (CANDIDATE, 1 + len(STATES))
    store.close()
