"""Rows by the names of their columns, over HTTP: /v1/classify and the V2 protocol."""

import pytest
import torch
from fastapi.testclient import TestClient
from torch import nn

from buckler.detectors import Confidence, Constraints
from buckler.guard import Guard
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.serve import Settings, create_app
from buckler.threats.features import Feature, FeatureSpec, Rule
from tests.serve.tiny import CLASSIFY, DIGEST, wait_for

TABLE = FeatureSpec(
    (
        Feature("amount", "real", 0.0, 100.0, change="none"),
        Feature("device", "category", levels=("web", "ios", "android"), onehot=True),
        Feature("visits", "integer", 0, 9),
    ),
    rules=(Rule("visits > 0", given="device == 'ios'", name="ios"),),
)
INFER = "/v2/models/default/infer"
ROW = {"amount": 50.0, "device": "ios", "visits": 3}


def guard() -> Guard:
    """fraud where the amount is over 10; SUSPICIOUS where a rule is broken."""
    linear = nn.Linear(5, 2)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[1, 0] = 1.0
        linear.bias.copy_(torch.tensor([10.0, 0.0]))
    return Guard(
        spec=InputSpec((5,), ("good", "fraud"), (0.0, 100.0)),
        members=(TorchClassifier(linear),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(), Constraints.of(TABLE)),
        rule=Thresholds((1e9, 0.0), 1),
        digest=DIGEST,
        table=TABLE,
    )


def opened():
    settings = Settings.read(port=0, expose="scores", model="default")
    return TestClient(create_app(guard(), settings, log=False), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def client():
    with opened() as found:
        yield found


def test_rows_of_named_columns_are_judged_and_reasons_told(client):
    broken = {**ROW, "visits": 0}
    found = client.post(CLASSIFY, json={"rows": [ROW, {**ROW, "amount": 1}, broken]})
    assert found.status_code == 200, found.text
    told = [(v["prediction"], v["status"], v["reasons"]) for v in found.json()["verdicts"]]
    assert told == [
        ("fraud", "ACCEPTED", []),
        ("good", "ACCEPTED", []),
        ("fraud", "SUSPICIOUS", ["constraints"]),
    ]
    plain = client.post(CLASSIFY, json={"rows": [[50.0, 0, 1, 0, 3]]})
    assert plain.json()["verdicts"][0]["prediction"] == "fraud"


def columns(**changes):
    given = {
        "amount": ("FP64", [50.0, 1.0]),
        "device": ("BYTES", ["ios", "web"]),
        "visits": ("INT64", [3, 0]),
        **changes,
    }
    return [
        {"name": name, "datatype": kind, "shape": [len(data)], "data": data}
        for name, (kind, data) in given.items()
    ]


def test_v2_takes_an_input_a_column_in_any_order(client):
    found = client.post(INFER, json={"inputs": columns()[::-1]})
    assert found.status_code == 200, found.text
    outputs = {each["name"]: each["data"] for each in found.json()["outputs"]}
    assert outputs["prediction"] == ["fraud", "good"]
    told = client.get("/v2/models/default").json()["inputs"]
    assert [(each["name"], each["datatype"]) for each in told] == [
        ("amount", "FP32"), ("device", "BYTES"), ("visits", "FP32"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"amount": 1, "device": "ios"}, "Missing: visits"),
        ({**ROW, "extra": 1}, "does not know: extra"),
        ({**ROW, "device": "tv"}, "one of its levels (web, ios, android). Got 'tv'"),
        ({**ROW, "visits": 1.5}, "'visits' must hold whole numbers"),
        ({**ROW, "visits": "many"}, "'visits' must hold numbers. Got 'many'"),
        ({**ROW, "visits": None}, "'visits' must be a number or a text. Got null"),
        ({**ROW, "amount": 1e9}, "must lie in [0, 100]"),
    ],
)
def test_wrong_rows_are_one_sentence_each(client, row, said):
    found = client.post(CLASSIFY, json={"rows": [row]})
    assert found.status_code == 400, found.text
    assert said in found.json()["error"]


def test_wrong_columns_are_one_sentence_each(client):
    for changes, said in (
        ({"visits": ("INT64", [3])}, "one length"),
        ({"device": ("BYTES", ["ios", "tv"])}, "Got 'tv' in row 1"),
        ({"more": ("FP32", [1.0, 2.0])}, "does not know: more"),
    ):
        found = client.post(INFER, json={"inputs": columns(**changes)})
        assert found.status_code == 400, found.text
        assert said in found.json()["error"]
    mixed = client.post(CLASSIFY, json={"rows": [ROW, [1, 2, 3, 4, 5]]})
    assert "row 1 must be an object" in mixed.json()["error"]


def test_who_walks_towards_the_threshold_is_counted():
    with opened() as client:
        for visits in range(8):  # the amount of the same application falls a little each time
            row = {"amount": 11.0 - 0.5 * visits, "device": "android", "visits": visits}
            assert client.post(CLASSIFY, json={"rows": [row]}).status_code == 200
        wait_for(lambda: "buckler_walks_total 1.0" in client.get("/metrics").text)


def test_the_contract_names_the_columns(client):
    told = client.get("/openapi.json").json()["paths"][CLASSIFY]["post"]["requestBody"]
    rows = told["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    named = rows["anyOf"][1]["properties"]
    assert named["device"]["enum"] == ["web", "ios", "android"]
    assert named["visits"] == {"type": "integer"}
