"""Whatever reviewers do and whenever: one holder an item, one decision, nothing lost."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from buckler.errors import ConflictError
from buckler.ops.review import Policy
from buckler.store import audit
from buckler.store.decide import Decision, decide, undo
from buckler.store.engine import open_store
from buckler.store.reviews import claim, get, release, renew
from tests.store.made import add, item

MEMORY = Path("/dev/shm")  # each step waits for the disk several times
POLICY = Policy(lease_s=10.0, client_cap=4)
REVIEWERS = st.sampled_from(["ann", "bob", "cid"])
KINDS = st.sampled_from(["accept", "adversarial", "corrupted"])


class Leases(RuleBasedStateMachine):
    """The model: who holds what until when, and what was decided by whom until when."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.store = open_store(f"sqlite:///{Path(self.folder.name)}/store.db")
        self.now = 0.0
        self.items: set[str] = set()
        self.held: dict[str, tuple[str, str, float]] = {}  # item → reviewer, lease, until
        self.decided: dict[str, tuple[str, str, float]] = {}  # item → reviewer, kind, until
        self.past: list[Decision] = []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def live(self, name: str) -> bool:
        return name in self.held and self.held[name][2] > self.now

    @rule(client=st.sampled_from(["a", "b"]))
    def arrive(self, client: str) -> None:
        number = len(self.items)
        mark = "ab"[number % 2] if client == "b" else ""
        one = item(number, key_id=client, risk=0.1 + number % 3, fingerprint=mark)
        (name,) = add(self.store, one, now=self.now, policy=POLICY)
        assert name not in self.items
        self.items.add(name)
        assert add(self.store, one, now=self.now, policy=POLICY) == [name]

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(reviewer=REVIEWERS)
    def take(self, reviewer: str) -> None:
        mine = [n for n in self.held if self.live(n) and self.held[n][0] == reviewer]
        found = claim(self.store, reviewer, self.now, POLICY)
        if found is None:
            assert not mine
            return
        assert found.id not in self.decided
        if mine:
            assert found.id in mine
        else:
            assert not self.live(found.id)
        self.held[found.id] = (reviewer, found.lease_id, found.lease_until)
        assert found.lease_until == self.now + 10.0

    @precondition(lambda self: self.held)
    @rule(data=st.data(), reviewer=REVIEWERS)
    def renew_it(self, data: st.DataObject, reviewer: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        holder, lease, _ = self.held[name]
        try:
            until = renew(self.store, name, lease, reviewer, self.now, POLICY)
        except ConflictError:
            assert reviewer != holder or not self.live(name)
            return
        assert reviewer == holder
        assert self.live(name)
        self.held[name] = (holder, lease, until)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        holder, lease, _ = self.held.pop(name)
        release(self.store, name, lease, holder)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=KINDS, group=st.booleans(), reviewer=REVIEWERS)
    def answer(self, data: st.DataObject, kind: str, group: bool, reviewer: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        holder, lease, until = self.held[name]
        version = get(self.store, name, POLICY).version
        made = Decision(name, lease, reviewer, version, kind, whole_group=group)
        try:
            decide(self.store, made, self.now, POLICY)
        except ConflictError:
            assert not self.live(name) or reviewer != holder
            return
        assert self.live(name)
        assert reviewer == holder
        assert name not in self.decided
        del self.held[name]
        self.decided[name] = (holder, kind, until)
        self.past.append(made)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        made = data.draw(st.sampled_from(self.past))
        before = get(self.store, made.review_id, POLICY)
        try:
            decide(self.store, made, self.now, POLICY)
        except ConflictError:
            undone = [each for each in before.history if each["undone"] is not None]
            assert undone
        assert get(self.store, made.review_id, POLICY) == before

    @precondition(lambda self: self.decided)
    @rule(data=st.data(), reviewer=REVIEWERS)
    def take_back(self, data: st.DataObject, reviewer: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.decided)))
        holder, _, until = self.decided[name]
        try:
            back = undo(self.store, name, reviewer, self.now, POLICY)
        except ConflictError:
            assert reviewer != holder or until <= self.now
            return
        assert reviewer == holder
        assert until > self.now
        del self.decided[name]
        self.held[name] = (holder, back.lease_id, until)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        with self.store.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, state, leader, outcome, lease_by, lease_until FROM reviews"
            ).all()
            standing = connection.exec_driver_sql(
                "SELECT review_id, COUNT(*) FROM decisions WHERE undone IS NULL GROUP BY review_id"
            ).all()
        assert {row.id for row in rows} == self.items
        by_id = {row.id: row for row in rows}
        for row in rows:
            if row.id in self.decided:
                assert (row.state, row.outcome) == ("decided", self.decided[row.id][1])
            if self.live(row.id):
                assert row.lease_by == self.held[row.id][0]
            elif row.lease_until is not None:
                assert row.lease_until <= self.now
            if row.state == "grouped":
                assert by_id[row.leader].state in ("waiting", "grouped")
        assert {name for name, _ in standing} == set(self.decided)
        assert all(number == 1 for _, number in standing)

    @invariant()
    def a_parked_row_has_a_waiting_one_before_it(self) -> None:
        with self.store.read() as connection:
            stuck = connection.exec_driver_sql(
                "SELECT key_id FROM reviews WHERE state = 'parked' AND key_id NOT IN "
                "(SELECT key_id FROM reviews WHERE state = 'waiting')"
            ).all()
            assert audit.verify(connection) is None
        assert stuck == []


def thorough(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


TestLeases = Leases.TestCase
TestLeases.settings = thorough(6)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_leases_at_length() -> None:
    run_state_machine_as_test(Leases, settings=thorough(60))
