"""Evidence of another version, or half of it, is one clear sentence."""

import json

import numpy as np
import pytest

from buckler.assess import Ledger
from buckler.assess.evidence import SCHEMA, read, read_if_there, verdict
from buckler.errors import DataError

from .test_check import ledger


def test_a_file_of_this_version_is_read(tmp_path):
    path = tmp_path / "latency.json"
    assert read_if_there(path) is None
    path.write_text(json.dumps({"schema": SCHEMA, "one": 1}))
    assert read(path)["one"] == 1


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("ruling.json", '{"schema": "buckler.ruling/9"}', "reads 'buckler.ruling/1': .*check"),
        ("comparison.json", '{"systems": []}', "of the form None, .* anew with buckler assess"),
        ("ruling.json", '{"schema": "buckler.ru', "cannot be read as JSON"),
        ("ruling.json", "", "cannot be read as JSON"),
        ("ruling.json", "[1]", "must hold a JSON object. Got list"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(tmp_path, name, text, sentence):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_half_a_ledger_is_refused(tmp_path, share):
    path = tmp_path / "ledger.npz"
    ledger().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="cannot be read as a ledger"):
        Ledger.load(path)


def test_a_ledger_comes_back_as_it_was(tmp_path):
    path = tmp_path / "ledger.npz"
    ledger().save(path)
    assert np.array_equal(Ledger.load(path).broken_by, ledger().broken_by)


@pytest.mark.parametrize("grade", ["PASS", "WARN", "FAIL"])
def test_the_batterys_verdict(grade):
    assert verdict({"verdict": grade}) == grade.lower()


def test_a_battery_of_another_version():
    with pytest.raises(DataError, match="another version"):
        verdict({"believable": True, "signs": []})
