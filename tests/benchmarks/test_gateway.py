"""The gateway's benchmark: what is asked of all is the same, and the bars stand."""

import json
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

from benchmarks.gateway import BARS_MS, bars, table
from benchmarks.gateway_ask import _ms, idle_ms
from benchmarks.gateway_cases import Idle, cases, from_json, guarded
from buckler.inputs import InputSpec
from buckler.serve import Background, Settings

FLOOD = {
    "what": "overload",
    "seconds": 5.0,
    "offered_per_s": 400.0,
    "capacity_per_s": 40.0,
    "deadline_s": 2.0,
    "n": 2000,
    "accepted": 200,
    "late": 0,
    "refused": 1800,
    "other": 0,
    "refused_p50_ms": 1.0,
    "refused_p99_ms": 60.0,
    "grown_mib": 1.0,
}


@pytest.mark.parametrize("name", list(BARS_MS))
def test_all_are_asked_about_the_same_input(name: str) -> None:
    case = cases()[name]
    ours, theirs = case.decode(case.body), from_json(name, json.loads(case.as_json))
    assert ours.shape == (1, *case.spec.shape)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert [v.bundle for v in Idle(case.spec).judge(ours)] == ["0" * 64]
    assert len(guarded(case.spec).judge(case.spec.check(ours.float()))) == 1


def test_the_bars() -> None:
    latency = [
        {
            "what": "latency",
            "case": name,
            "input": name,
            "system": system,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "decode_ms": 0.25,
            "beyond_decode_ms": 0.75,
            "n": 9,
        }
        for name in BARS_MS
        for system in ("buckler", "fastapi")
    ]
    guard = [{"what": "guard", "input": "x", "p50_ms": 1.0, "judge_ms": 0.5, "n": 9}]
    through = [
        {"what": "throughput", "system": system, "per_s": rate, "p50_ms": 1, "p99_ms": 2, "n": 9}
        for system, rate in (("buckler", 300.0), ("litserve", 100.0), ("litserve, batched", 250.0))
    ]
    rows = [*latency, *guard, *through]
    found = {bar.name: (bar.value, bar.met) for bar in bars(rows, FLOOD)}
    assert [met for name, (_, met) in found.items() if "beyond decode" in name] == [
        False,
        True,
        True,
    ]
    ratio = next(value for name, value in found.items() if "LitServe's" in name)
    assert ratio == (pytest.approx(1.2), False), "the better of theirs counts"
    assert found["10× overload: refused_p99_ms"] == (60.0, False)
    assert found["10× overload: late"] == (0, True)
    assert "200 answered within 2 s" in table(rows, FLOOD)


def test_what_wrk_says() -> None:
    assert [_ms(text) for text in ("512.00us", "1.50ms", "2.00s")] == [0.512, 1.5, 2000.0]
    assert idle_ms(lambda: torch.zeros(1), 5) > 0


def test_a_gateway_takes_the_guard_that_has_nothing_to_do():
    spec = InputSpec((4,), ("a", "b"))
    with Background(Idle(spec), Settings.read(port=0), log=False) as url:
        body = json.dumps({"rows": [[0.1, 0.2, 0.3, 0.4]]}).encode()
        request = Request(f"{url}/v1/classify", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as answer:
            assert json.loads(answer.read())["verdicts"][0]["status"] == "ACCEPTED"
