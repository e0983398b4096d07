"""buckler redteam --post: what a gateway's alerts are told, and what stays in the bundle."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch

from buckler.cli.posting import alert_of, post
from buckler.errors import UsageError
from buckler.guard import load_bundle
from tests.serve.bundles import untrained

REPORT = {
    "source": "out/bundle",
    "digest": "d" * 64,
    "suite": "blackbox",
    "threat": {"kind": "lp", "norm": "linf", "eps": 0.1, "goal": "guarded"},
    "rows": {"asked": 50, "right": 49, "finished": 40},
    "success": {"k": 4, "n": 40, "value": 0.1, "low": 0.04, "high": 0.23},
    "findings": [{}] * 5,
    "since": None,
    "spent": 900,
    "run": "2026-11-01-abc",
    "ended": "done",
}
SINCE = {
    "run": "2026-10-01-abc",
    "new": [1, 2],
    "first_tried": [3],
    "gone": [],
    "still": [4],
    "not_tried": [],
    "difference": {"value": 0.08, "low": 0.01, "high": 0.2},
}


@pytest.fixture
def gateway(monkeypatch):
    """A server that keeps what is posted: (url, [(path, authorization, body)], its next status)."""
    taken, status = [], [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken.append((self.path, self.headers["Authorization"], body))
            self.send_response(status[0])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("BUCKLER_OPERATE_KEY", "secret")
    yield f"http://127.0.0.1:{server.server_port}", taken, status
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_is_one_ticket_a_target():
    found = alert_of(REPORT)
    assert (found["tier"], found["status"], found["key"]) == (
        *("ticket", "firing"),
        "redteam/out/bundle",
    )
    assert found["title"] == "red team: 5 ways past out/bundle, 5 of them new"
    assert found["facts"]["success"] == "10.0 % [4.0–23.0]"
    assert found["facts"]["regression"] is False
    assert all(isinstance(fact, str | int | float | bool) for fact in found["facts"].values())
    worse = alert_of({**REPORT, "since": SINCE})
    assert worse["facts"]["new"] == 3
    assert worse["facts"]["regression"] is True
    assert "success +8.0 points [+1.0 to +20.0]" in worse["facts"]["since"]
    assert worse["key"] == found["key"], "next month's run is about the same trouble"
    chance = {**SINCE, "difference": {"value": 0.08, "low": -0.01, "high": 0.2}}
    assert alert_of({**REPORT, "since": chance})["facts"]["regression"] is False
    assert alert_of({**REPORT, "findings": []})["status"] == "resolved"


def test_a_bundle_is_attacked_and_the_gateway_told(run, tmp_path, monkeypatch, gateway):
    url, taken, _ = gateway
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    bundle = tmp_path / "bundle"
    untrained(bundle)
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    said, _ = load_bundle(bundle).answer(torch.from_numpy(x).float()[:, None] / 255)
    y = np.where(np.arange(60) % 3, said.numpy(), np.arange(60) // 3 % 10)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    path = tmp_path / "buckler.toml"
    names = json.dumps([str(n) for n in range(10)])
    model = 'factory = "buckler.models.nets:digits_cnn"'
    path.write_text(f'[model]\n{model}\n[data]\nsource = "own.npz"\nclass_names = {names}\n')
    code, out, err = run(
        *("redteam", bundle, "-c", path, "--rows", 4, "--queries", 200, "--post", url)
    )
    assert code == 0, err
    ((where, key, alert),) = taken
    assert (where, key) == ("/v1/alerts", "Bearer secret")
    kept = json.loads((bundle / "evidence" / "redteam.json").read_text())
    assert alert["bundle"] == kept["digest"]
    assert alert["facts"]["findings"] == len(kept["findings"])
    assert f"told {url}: red team:" in out


def test_what_the_gateway_does_not_take(gateway, monkeypatch):
    url, taken, status = gateway
    status[0] = 204
    post(f"{url}/", alert_of(REPORT))
    assert taken[0][0] == "/v1/alerts"
    status[0] = 403
    with pytest.raises(UsageError, match="refused the alert with status 403"):
        post(url, alert_of(REPORT))
    with pytest.raises(UsageError, match=r"gave no answer .*: the run and its report stay"):
        post("http://127.0.0.1:1", alert_of(REPORT))
    with pytest.raises(UsageError, match="gave no answer"):
        post("gateway", alert_of(REPORT))
    monkeypatch.delenv("BUCKLER_OPERATE_KEY")
    with pytest.raises(UsageError, match="a key of the role operate in the variable"):
        post(url, alert_of(REPORT))
