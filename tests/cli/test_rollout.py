"""buckler rollout: an operator at a terminal."""

import json
import time

import pytest

from buckler.store import rollouts
from buckler.store.engine import open_store
from buckler.store.live import tell_live
from tests.serve.rolled import bundle


@pytest.fixture
def url(tmp_path):
    found = f"sqlite:///{tmp_path}/store.db"
    digest = bundle(tmp_path / "a", golden=0)
    bundle(tmp_path / "b", name="next", golden=0)
    store = open_store(found)
    tell_live(store, digest, str(tmp_path / "a"), time.time())
    store.close()
    return found


def test_from_the_start_to_the_end_by_hand(run, url, tmp_path):
    assert "no rollout" in run("rollout", "status", "--store", url)[1]
    assert run("rollout", "pause", "--store", url)[0] == 2
    start = ("rollout", "start", str(tmp_path / "b"), "--store", url)
    code, out, _ = run(*start, "--set", "min_clients=5", "--set", "min_s=[1,2,3,4]")
    assert code == 0
    assert "DRAFT" in out
    assert run(*start)[0] == 1, "one runs already"
    assert "PAUSED of DRAFT: asked by" in run("rollout", "pause", "--store", url)[1]
    assert "DRAFT" in run("rollout", "resume", "--store", url)[1]
    code, _, err = run("rollout", "promote", "--store", url)
    assert code == 1
    assert "only a candidate that runs" in err
    found = json.loads(run("rollout", "status", "--store", url, "--json")[1])
    assert found["policy"]["min_clients"] == 5
    assert found["policy"]["min_s"] == [1, 2, 3, 4]
    assert set(found["evidence"]["worse"]) == {"more", "fewer", "missed", "wrong"}
    assert "0 of 0 gateways" in run("rollout", "status", "--store", url)[1]
    assert "ABORTED" in run("rollout", "abort", "--store", url)[1]
    assert run(*start)[0] == 0
    assert "ROLLED_BACK: asked by" in run("rollout", "rollback", "--store", url)[1]


@pytest.mark.parametrize("given", ["min_clients", "min_clients=many", "hurry=1", "alpha=2"])
def test_a_policy_that_cannot_be(run, url, tmp_path, given):
    code, _, err = run("rollout", "start", str(tmp_path / "b"), "--store", url, "--set", given)
    assert code == 2
    assert given.partition("=")[0] in err


def test_a_bundle_without_a_ruling(run, url, tmp_path):
    (tmp_path / "b" / "evidence" / "ruling.json").unlink()
    code, _, err = run("rollout", "start", str(tmp_path / "b"), "--store", url)
    assert code == 1
    assert "buckler check" in err
    store = open_store(url)
    assert rollouts.last(store) is None
    store.close()
