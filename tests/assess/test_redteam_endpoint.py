"""Red-team runs over HTTP on the loopback: hosts, budgets with a busy server, the gateway."""

import http.server
import json
import threading

import numpy as np
import pytest
import torch

from buckler import wire
from buckler.assess.redteam import check_host, endpoint, redteam, replay
from buckler.attacks import Square
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.attacks.simba import SimBA
from buckler.errors import PolicyError, UsageError
from buckler.serve import Background, Settings
from buckler.threats import LpBall
from tests.serve.tiny import SPEC as GUARD_SPEC
from tests.serve.tiny import image, tiny_guard

from .redteam_targets import NARROW, NEAR, SPEC, audit, by_mean, findings, plan, report


@pytest.fixture
def served():
    """A V2 model that is by_mean: (its URL, the rows of each request, statuses to answer first)."""
    requests, busy = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            inputs = [{"name": "px", "datatype": "FP32", "shape": [-1, 1, 4, 4]}]
            self.answer(200, {"name": "m", "inputs": inputs})

        def do_POST(self):
            value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            x = next(iter(wire.read_infer_request(value).inputs.values()))
            requests.append(len(x))
            if busy:
                self.answer(busy.pop(0), {"error": "busy"})
                return
            logits = by_mean(torch.from_numpy(np.array(x))).numpy()
            self.answer(200, wire.infer_response("m", {"z": logits}).head)

        def answer(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v2/models/m", requests, busy
        server.shutdown()


def live(url, **given):
    return plan(by_mean, subject=endpoint(url, SPEC, rate=0), suite=(Square(),), **given)


def test_a_live_endpoint(served, tmp_path):
    url, requests, _ = served
    folder = redteam(live(url), tmp_path)
    value = report(folder)
    assert value["success"]["k"] == len(NEAR)
    assert value["spent"] == len(audit(folder)) == sum(requests)
    again = replay(endpoint(url, SPEC, rate=0).model, False, folder / "findings" / "11-square")
    assert again.works
    assert again.adversarial == {"prediction": "bright", "status": "ACCEPTED"}


def test_rows_sent_again_come_out_of_the_budget(served, tmp_path):
    url, requests, busy = served
    busy += [503, 429, 503]
    folder = redteam(live(url, queries=60, per_row=30, threat=LpBall("linf", NARROW)), tmp_path)
    assert sum(requests) == 60, "6 rows went out four times"
    assert report(folder)["spent"] == audit(folder)[-1]["n"] == 60
    assert len(audit(folder)) == 60 - 3 * 6
    assert report(folder)["ended"] == "budget spent"


def test_a_server_that_is_always_busy_gets_no_more_than_the_budget(served, tmp_path):
    url, requests, busy = served
    busy += [503] * 50
    folder = redteam(live(url, queries=20, per_row=3), tmp_path)
    assert sum(requests) == 18, "three times six; a fourth would pass 20"
    assert report(folder)["ended"] == "budget spent"
    assert {line["status"] for line in audit(folder)} == {"NO ANSWER"}
    assert audit(folder)[-1]["n"] == 20


def test_an_endpoint_that_fails_in_the_middle(served, tmp_path):
    url, requests, busy = served
    whole = redteam(live(url), tmp_path / "whole")
    asked = sum(requests)
    first = live(url)
    calls = iter(range(10_000))
    busy_at = 40

    def stop():
        if next(calls) == busy_at:
            busy.append(500)
        return False

    with pytest.raises(UsageError, match="refused the request with status 500"):
        redteam(first, tmp_path / "cut", stop=stop)
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    assert report(folder)["ended"].startswith("error: ")
    assert redteam(live(url), tmp_path / "cut") == folder
    assert report(folder)["ended"] == "done"
    assert findings(folder) == findings(whole)
    assert sum(requests) == 2 * asked + 1, "only what was not answered is asked again"
    assert report(folder)["spent"] == len(audit(folder)) == asked + 1


def test_a_gateway_is_attacked_as_the_guard_it_is(tmp_path):
    guard = tiny_guard()
    x = torch.cat([image(left=0.2), image(right=0.2), image(left=1.0)])
    with Background(guard, Settings.read(port=0), log=False) as url:
        subject = endpoint(url, GUARD_SPEC, rate=0)
        given = {"x": x, "y": torch.tensor([0, 1, 0]), "rows": torch.arange(3)}
        suite = (SimBA(), HopSkipJump(within=True))
        facts = {"subject": subject, "suite": suite, "queries": 1200, **given}
        folder = redteam(plan(by_mean, threat=LpBall("linf", 0.4), **facts), tmp_path)
        value = report(folder)
        assert value["digest"] == guard.digest
        assert value["threat"]["goal"] == "guarded"
        found = findings(folder)
        for name in found:
            assert replay(subject.model, True, folder / "findings" / name).works
    assert {each["row"] for each in found.values()} == {0, 1}
    for each in found.values():
        assert each["after"] == {"prediction": ["right", "left"][each["row"]], "status": "ACCEPTED"}
        assert each["digest"] == guard.digest
    assert "SUSPICIOUS" in {line["status"] for line in audit(folder)}


def test_a_slow_rate_makes_small_requests():
    assert endpoint("http://127.0.0.1:1", SPEC, rate=0).chunk == 64
    assert endpoint("http://127.0.0.1:1", SPEC, rate=5).chunk == 10
    assert endpoint("http://127.0.0.1:1", SPEC, rate=0.1).chunk == 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_this_machine_may_be_attacked(host):
    check_host(f"http://{host}:8080/v2/models/m", ())


@pytest.mark.parametrize(
    "host",
    ["example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", "0.0.0.0"],
)
def test_other_hosts_must_be_on_the_list(host):
    url = f"https://{host}/v2/models/m"
    check_host(url, ["other.org", host.upper()])
    for hosts in ([], ["other.org"], [f"sub.{host}"]):
        with pytest.raises(PolicyError, match=r"is not on the list.*add it to buckler\.toml"):
            check_host(url, hosts)
        with pytest.raises(PolicyError, match=rf'\[redteam\] hosts = \["{host}"\]$'):
            endpoint(url, SPEC, rate=0, hosts=hosts)
