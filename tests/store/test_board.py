"""What the page of the queue says of who waits, who holds and what is alike."""

from buckler.ops.review import Policy
from buckler.store.board import behind, board
from buckler.store.known import Known, seed
from buckler.store.reviews import claim
from buckler.store.shared import read_policy, session_secret
from tests.store.made import add, item

POLICY = Policy(client_cap=2)


def test_the_board_counts_what_is_undecided(store):
    alike = [
        item(n, fingerprint="0" * 16, key_id="shop", risk=0.1 * n, content=b"%d" % n)
        for n in range(1, 4)
    ]
    leader, *followers = add(store, *alike, now=0.0, policy=POLICY)
    others = add(
        store, *(item(n, key_id="bank", risk=0.9) for n in range(5, 9)), now=5.0, policy=POLICY
    )
    odd = {**item().verdict, "reasons": ["vim", "confidence"]}
    add(store, item(20, verdict=odd, risk=0.2), now=10.0, policy=POLICY)
    seed(store, [Known(b"known", "image/png", item().verdict, "accept")], 0.0, "ops")
    found = board(store, 20.0)
    assert found.reasons == {"confidence": 8, "vim": 1}
    assert list(found.reasons) == ["confidence", "vim"]
    assert found.counted == 8
    assert [(group.leader, group.client, group.rows) for group in found.groups] == [
        (leader, "shop", 2)
    ]
    assert found.holdings == ()
    assert found.next_due == POLICY.due_s
    assert behind(store, leader, 10) == followers[::-1]
    assert behind(store, leader, 1) == followers[1:]
    assert behind(store, others[0], 10) == []
    held = claim(store, "ann", 20.0, POLICY)
    (holding,) = board(store, 21.0).holdings
    assert (holding.id, holding.reviewer, holding.until) == (held.id, "ann", 620.0)
    assert board(store, 620.0).holdings == ()
    assert board(store, POLICY.due_s).next_due == POLICY.due_s + 5.0


def test_an_empty_board(store):
    found = board(store, 0.0)
    assert (found.reasons, found.counted, found.groups, found.holdings) == ({}, 0, (), ())
    assert found.next_due is None


def test_replicas_share_one_session_secret(store):
    first = session_secret(store, 1.0)
    assert len(first) == 64
    assert session_secret(store, 2.0) == first
    assert read_policy(store) == Policy()
