"""What a caller may see is policy."""

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from buckler.guard import Guard
from buckler.serve import create_app
from buckler.serve.judged import Judged, checked, join, judging
from buckler.serve.outputs import OUTPUTS, arrays, shown

from .tiny import BLANK, CLASSIFY, LEFT, RIGHT, SPEC, accept, body, settings

ANSWER = ("prediction", "label", "status", "review_id")


def test_by_default_the_answer_alone() -> None:
    assert shown("verdict") == ANSWER
    assert shown("verdict", {"infer", "metrics", "review", "operate"}) == ANSWER


def test_an_admin_sees_all() -> None:
    assert shown("verdict", {"infer", "admin"}) == tuple(OUTPUTS)


def test_an_operator_may_open_the_scores() -> None:
    assert shown("scores") == tuple(OUTPUTS)


def test_columns_are_the_verdicts(guard: Guard) -> None:
    x = torch.cat([LEFT, RIGHT, BLANK])
    judged = judging(guard)(x)
    found = arrays(judged, SPEC, tuple(OUTPUTS))
    assert found["prediction"].tolist() == [v.prediction for v in guard.judge(x)]
    assert [SPEC.class_names[i] for i in found["label"]] == found["prediction"].tolist()
    assert found["status"].tolist() == ["ACCEPTED", "ACCEPTED", "SUSPICIOUS"]
    assert found["reasons"].tolist() == ["", "", "confidence"]
    assert found["review_id"].tolist() == ["", "", ""]
    np.testing.assert_array_equal(found["probabilities"].max(1), found["confidence"])
    np.testing.assert_array_equal(found["probabilities"].argmax(1), found["label"])
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-6)
    kinds = {"BYTES": "O", "INT64": "i", "FP32": "f"}
    assert all(found[n].dtype.kind == kinds[o.datatype] for n, o in OUTPUTS.items())


def test_parts_are_joined_and_taken() -> None:
    parts = [accept(x) for x in (LEFT, torch.cat([RIGHT, BLANK]))]
    whole = join(parts)
    assert len(whole) == 3
    assert whole.verdicts == parts[0].verdicts + parts[1].verdicts
    last = whole.take(slice(1, 3))
    assert last.verdicts == parts[1].verdicts
    assert torch.equal(last.probabilities, parts[1].probabilities)
    assert last.review_ids == ("", "")


def test_nonsense_reaches_nobody() -> None:
    good = accept(LEFT)
    assert checked(good) is good
    for bad, why in (
        (Judged(good.verdicts, good.probabilities * torch.nan, ("",)), "a probability that is no"),
        (accept(LEFT * torch.nan), "a confidence, a score or"),
        (Judged(good.verdicts, good.probabilities[:0], ("",)), "1 verdicts, 0 rows of prob"),
        (Judged(good.verdicts, good.probabilities, ()), "0 review ids"),
    ):
        with pytest.raises(RuntimeError, match=why):
            checked(bad)


def test_the_same_policy_at_both_doors(guard: Guard) -> None:
    for expose in ("verdict", "scores"):
        with TestClient(create_app(guard, settings(expose=expose), log=False)) as client:
            tensor = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32"}
            request = {"inputs": [{**tensor, "data": LEFT.flatten().tolist()}]}
            outputs = client.post("/v2/models/buckler/infer", json=request).json()["outputs"]
            assert tuple(output["name"] for output in outputs) == shown(expose)  # type: ignore[arg-type]
            (verdict,) = client.post(CLASSIFY, json=body(LEFT)).json()["verdicts"]
            assert set(verdict) - {"bundle"} <= set(shown(expose))  # type: ignore[arg-type]
