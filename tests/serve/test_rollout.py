"""Two bundles in one gateway: who answers whom, what is counted, how one becomes the other."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from buckler.errors import BundleError, ConflictError, PolicyError, UsageError
from buckler.inputs import InputSpec
from buckler.ops.evidence import Policy
from buckler.ops.pairs import Pairs
from buckler.serve import Background
from buckler.serve.arms import BLIND_S
from buckler.serve.candidate import examine
from buckler.serve.golden import read_golden
from buckler.serve.rolling import Heartbeats, live_bundle
from buckler.serve.rollouts import begin
from buckler.store import rollouts
from buckler.store.live import point, read_live
from tests.store.rolled import seen

from .rolled import NONE, SPEC, Rolled, bundle, rolled
from .stored import new_key, url_in
from .tiny import settings, wait_for

QUICK = {
    "min_s": [0, 0, 0, 0],
    "min_clients": 1,
    "min_pairs": 3,
    "min_golden": 0,
    "min_requests": 1,
    "margin": 0.9,
    "beta": 0.9,
    "left_out": 0,
    "slow_s": 60,
}


def until(gateway: Rolled, state: str, requests: int = 400) -> rollouts.Kept:
    """Ask and look until the rollout is there; each client asks in turn."""
    for number in range(requests):
        assert gateway.ask(number, number % len(gateway.keys))["status"] == 200
        time.sleep(0.002)  # pairs are scored on another thread
        gateway.look()
        kept = rollouts.last(gateway.store)
        assert kept is not None
        if kept.rollout.state == state:
            return kept
    raise AssertionError(f"never {state}: {rollouts.status(gateway.store, kept)}")


def test_from_one_bundle_to_the_next_without_losing_a_request(tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "a"), bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        assert gateway.ask()["bundle"] == first
        begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        until(gateway, "SHADOW")
        assert {gateway.ask(0, key)["bundle"] for key in range(12)} == {first}
        until(gateway, "STEP_50")
        rollouts.act(
            gateway.store,
            rollouts.last(gateway.store).id,  # type: ignore[union-attr]
            "pause",
            rollouts.observe_all,
            time.time(),
            "ann",
        )
        gateway.look()
        halves = [{gateway.ask(n, key)["bundle"] for n in range(3)} for key in range(12)]
        assert all(len(each) == 1 for each in halves), "asking again is answered by the same one"
        assert {first} in halves
        assert {second} in halves
        name = rollouts.last(gateway.store).id  # type: ignore[union-attr]
        rollouts.act(gateway.store, name, "resume", rollouts.observe_all, time.time(), "ann")
        until(gateway, "COMPLETED")
        gateway.look()
        found = gateway.ask()
        assert (found["bundle"], found["verdicts"][0]["bundle"]) == (second, second)
        model = gateway.client.get("/v2/models/buckler").json()
        assert model["properties"]["bundle"] == second
        page = gateway.client.get("/metrics").text
        assert 'status="ACCEPTED"}' in page or f'bundle="{second[:12]}"' in page
        assert "buckler_rollout_completed 1.0" in page
    assert live_bundle(tmp_path / "a", settings(store=url_in(tmp_path))) == tmp_path / "b"
    with Background(tmp_path / "a", settings(store=url_in(tmp_path)), log=False):
        pass


def test_a_bad_bundle_goes_at_the_next_look(tmp_path: Path) -> None:
    first = bundle(tmp_path / "a")
    bundle(tmp_path / "c", NONE, name="bad")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        rules = {**QUICK, "min_pairs": 10_000}
        begin(gateway.store, tmp_path / "c", time.time(), "ann", policy=rules)
        kept = until(gateway, "ROLLED_BACK")
        assert "more inputs SUSPICIOUS" in kept.rollout.reason
        assert gateway.app.state.runner.beside is not None
        gateway.look()
        assert gateway.app.state.runner.beside is None
        assert gateway.ask()["bundle"] == first


def test_a_rollback_arrives_within_a_second(tmp_path: Path) -> None:
    """By the gateway's own thread, at its own pace; the bar is loose for a busy machine's sake."""
    bundle(tmp_path / "a")
    bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        kept = begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        until(gateway, "STEP_100")
        gateway.loop.stop()
        gateway.loop._every_s = 0.25
        gateway.loop.start()
        began = time.monotonic()
        rollouts.act(gateway.store, kept.id, "rollback", rollouts.observe_all, 1.0, "ann")
        wait_for(lambda: gateway.app.state.runner.beside is None)
        assert time.monotonic() - began < 5, "0.3 s on an idle machine"


def test_golden_rows_go_through_both_and_count_once(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a") as gateway:
        rules = {**QUICK, "min_golden": 20, "probes_per_s": 1000}
        kept = begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=rules)
        until(gateway, "SHADOW")
        wait_for(lambda: gateway.app.state.runner.beside.tally.report(loaded=True).probes > 60)
        gateway.look()
        found = rollouts.status(gateway.store, rollouts.find(gateway.store, kept.id))["evidence"]
        assert found["pairs"]["golden_missed"] == {"n": 20, "plus": 0, "minus": 0, "mean": 0}
        assert found["pairs"]["golden_clean"]["n"] == 20
        assert found["candidate"]["errors"] == 0


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"digest": "0" * 64}, "about the bundle 000000000000"),
        ({"passed": False}, "did not pass"),
        ({"at": 0.0}, "at most 30 days old"),
        ({"at": time.time() + 86_400}, "at most 30 days old"),
        ({"at": None}, "does not say when"),
        ({"schema": "other"}, "has no ruling"),
    ],
)
def test_a_ruling_that_does_not_count(tmp_path: Path, says: dict[str, object], why: str) -> None:
    bundle(tmp_path / "b", ruling=says, golden=0)
    with pytest.raises(PolicyError, match=why):
        examine(tmp_path / "b", time.time(), 30.0, None)


def test_a_bundle_for_other_inputs_or_classes(tmp_path: Path) -> None:
    bundle(tmp_path / "a", golden=0)
    names = InputSpec((1, 8, 8), tuple("abcdefghij"), levels=256)
    for other, why in (
        (names, "must name the classes"),
        (replace(SPEC, levels=0), "the inputs of"),
    ):
        bundle(tmp_path / "b", spec=other, golden=0)
        with pytest.raises(BundleError, match=why):
            examine(tmp_path / "b", time.time(), 30.0, tmp_path / "a")


def test_other_inputs_or_classes_over_http_change_nothing(tmp_path: Path) -> None:
    first = bundle(tmp_path / "a")
    names = InputSpec((1, 8, 8), tuple("abcdefghij"), levels=256)
    bundle(tmp_path / "classes", spec=names, golden=0)
    bundle(tmp_path / "inputs", spec=replace(SPEC, levels=0), golden=0)
    with rolled(tmp_path, tmp_path / "a") as gateway:
        for other, why in (("classes", "must name the classes"), ("inputs", "the inputs of")):
            said = gateway.client.post("/v1/rollouts", json={"bundle": str(tmp_path / other)})
            assert (said.status_code, why in said.json()["error"]) == (400, True)
        assert rollouts.last(gateway.store) is None
        gateway.look()
        assert gateway.ask()["bundle"] == first


def test_other_classes_that_a_gateway_alone_can_see_are_rolled_back(tmp_path: Path) -> None:
    """Whoever began it could not read the live bundle's folder."""
    first = bundle(tmp_path / "a")
    names = InputSpec((1, 8, 8), tuple("abcdefghij"), levels=256)
    digest = bundle(tmp_path / "b", spec=names, golden=0)
    with rolled(tmp_path, tmp_path / "a") as gateway:
        kept = rollouts.start(
            gateway.store, digest, tmp_path / "b", Policy(**QUICK), time.time(), "ann"
        )
        for _ in range(4):
            gateway.look()
        found = rollouts.find(gateway.store, kept.id).rollout
        assert (found.state, "must name the classes" in found.reason) == ("ROLLED_BACK", True)
        assert gateway.ask()["bundle"] == first


def test_what_a_gateway_that_crashed_had_counted_neither_stops_nor_doubles(tmp_path: Path) -> None:
    """One that died in the middle: its last report stands, its heart beats no more."""
    bundle(tmp_path / "a")
    second = bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        kept = begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        until(gateway, "SHADOW")
        rollouts.report(gateway.store, kept.id, "dead", 7, seen(10, pairs=Pairs(0, 0, 5)))
        for _ in range(3):
            gateway.look()
        gateway.loop._beats._last["dead"] = (7, time.monotonic() - 60)
        found = until(gateway, "COMPLETED")
        assert found.rollout.state == "COMPLETED"
        gateway.look()
        assert gateway.ask()["bundle"] == second
        dead = [r for r in rollouts.reports(gateway.store, kept.id) if r.gateway == "dead"]
        assert [each.report.pairs.n for each in dead] == [5]


def test_what_is_refused_at_the_start(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    digest = bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a") as gateway:
        with pytest.raises(PolicyError, match="digest must be"):
            begin(gateway.store, tmp_path / "b", time.time(), "ann", digest="0" * 64)
        with pytest.raises(UsageError, match="policy takes alpha"):
            begin(gateway.store, tmp_path / "b", time.time(), "ann", policy={"hurry": 1})
        with pytest.raises(UsageError, match="takes numbers"):
            begin(gateway.store, tmp_path / "b", time.time(), "ann", policy={"alpha": "x"})
        with pytest.raises(UsageError, match="live already"):
            begin(gateway.store, tmp_path / "a", time.time(), "ann")
        with pytest.raises(BundleError, match="is no bundle"):
            begin(gateway.store, tmp_path / "none", time.time(), "ann")
        begin(gateway.store, tmp_path / "b", time.time(), "ann", digest=digest)
        with pytest.raises(ConflictError, match="another rollout runs"):
            begin(gateway.store, tmp_path / "b", time.time(), "ann")


def test_a_candidate_that_cannot_be_loaded_is_rolled_back(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a") as gateway:
        kept = begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        (tmp_path / "b" / "arrays.safetensors").write_bytes(b"cut")
        for _ in range(4):
            gateway.look()
        found = rollouts.find(gateway.store, kept.id).rollout
        assert found.state == "ROLLED_BACK"
        assert "cannot serve it" in found.reason
        assert gateway.ask()["status"] == 200


def test_without_golden_rows_where_they_are_asked_for(tmp_path: Path) -> None:
    bundle(tmp_path / "a", golden=0)
    bundle(tmp_path / "b", name="next", golden=0)
    with rolled(tmp_path, tmp_path / "a") as gateway:
        kept = begin(gateway.store, tmp_path / "b", time.time(), "ann")
        for _ in range(4):
            gateway.look()
        assert "golden rows" in rollouts.find(gateway.store, kept.id).rollout.reason


def test_golden_rows_of_the_live_bundle_come_first_and_are_checked(tmp_path: Path) -> None:
    bundle(tmp_path / "a", golden=4)
    bundle(tmp_path / "b", name="next", golden=6)
    found = read_golden(tmp_path / "a", tmp_path / "b", SPEC)
    assert found is not None
    assert len(found) == 4
    assert len(read_golden(None, tmp_path / "b", SPEC) or ()) == 6
    (tmp_path / "b" / "golden.npz").write_bytes(b"no zip")
    with pytest.raises(BundleError, match="holds no golden rows"):
        read_golden(None, tmp_path / "b", SPEC)


def test_who_cannot_look_at_the_store_sends_nobody_to_the_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle(tmp_path / "a"), bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        until(gateway, "STEP_100")
        gateway.look()
        assert gateway.ask()["bundle"] == second
        gateway.app.state.runner._looked -= BLIND_S + 1
        assert gateway.ask()["bundle"] == first


def test_a_gateway_that_comes_late_serves_what_is_live(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    second = bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        until(gateway, "COMPLETED")
        live = read_live(gateway.store)
        assert live is not None
        assert live.digest == second
    with rolled(tmp_path, tmp_path / "a") as late:
        assert late.ask()["bundle"] == second


def test_a_gateway_that_cannot_load_what_is_live_is_not_ready(tmp_path: Path) -> None:
    first = bundle(tmp_path / "a")
    bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        begin(gateway.store, tmp_path / "b", time.time(), "ann", policy=QUICK)
        with rolled(tmp_path, tmp_path / "a") as other:
            until(gateway, "VALIDATING")
            with gateway.store.write() as connection:
                nobody = {"rollout_id": None, "candidate_digest": None, "candidate_path": None}
                point(connection, 1.0, digest="c" * 64, path="/nowhere", **nobody)
            other.look()
            assert other.client.get("/v2/health/ready").status_code == 503
            with gateway.store.write() as connection:
                point(connection, 1.0, digest=first, path=str(tmp_path / "a"))
            other.look()
            assert other.client.get("/v2/health/ready").status_code == 200


def test_heartbeats_tell_who_lives_by_ones_own_clock() -> None:
    now = [0.0]
    beats = Heartbeats(lambda: now[0])

    def reported(beat: int, *, closed: bool = False) -> list[rollouts.Reported]:
        return [rollouts.Reported("g", beat, closed, seen(10))]

    assert beats.observe(reported(1)).gateways == 1
    now[0] = 14.0
    assert beats.observe(reported(1)).gateways == 1
    now[0] = 16.0
    gone = beats.observe(reported(1))
    assert (gone.gateways, gone.crashed) == (0, 1)
    assert gone.report.candidate.requests == 10, "what it saw still counts"
    assert beats.observe(reported(2)).crashed == 0, "it was only slow"
    now[0] = 99.0
    assert beats.observe(reported(2, closed=True)).crashed == 0


def test_over_http(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    second = bundle(tmp_path / "b", name="next")
    with rolled(tmp_path, tmp_path / "a", clients=120) as gateway:
        client, body = gateway.client, {"bundle": str(tmp_path / "b"), "policy": QUICK}
        assert client.get("/v1/rollouts/current").status_code == 404
        made = client.post("/v1/rollouts", json=body)
        assert made.status_code == 201
        assert client.post("/v1/rollouts", json=body).status_code == 409
        until(gateway, "STEP_10")
        name = made.json()["id"]
        assert client.post(f"/v1/rollouts/{name}/hurry").status_code == 404
        assert client.post(f"/v1/rollouts/{name}/pause").json()["paused"] == "STEP_10"
        assert client.post(f"/v1/rollouts/{name}/pause").status_code == 409
        found = client.get(f"/v1/rollouts/{name}/metrics").json()["data"]
        assert (found["paused"], found["weight"], found["completed"]) == (1.0, 10.0, 0.0)
        hook = {"name": "x", "namespace": "y", "phase": "Waiting", "metadata": {"digest": second}}
        hooks = "/v1/rollouts/hooks/"
        assert client.post(f"{hooks}confirm-promotion", json=hook).status_code == 409
        assert client.post(f"{hooks}rollback", json=hook).status_code == 409
        assert client.post("/v1/rollouts/current/rollback").json()["state"] == "ROLLED_BACK"
        assert client.post(f"{hooks}rollback", json=hook).status_code == 200
        other = {"metadata": {"digest": "0" * 64}}
        assert client.post(f"{hooks}rollback", json=other).status_code == 409
        assert client.get("/v1/rollouts").json()["rollouts"][0]["id"] == name
        read = {"x-api-key": new_key(gateway.store, "review")}
        gateway.app.state.stored.keys.refresh()
        assert client.get("/v1/rollouts", headers=read).status_code == 200
        assert client.post("/v1/rollouts", json=body, headers=read).status_code == 403
        wrong = {**body, "bundle": str(tmp_path / "none")}
        assert client.post("/v1/rollouts", json=wrong).status_code == 400
        assert client.post("/v1/rollouts", json={"bundle": 3}).status_code == 400
