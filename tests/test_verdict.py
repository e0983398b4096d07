"""verdict: plain values, JSON as they stand, sentences for a person."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from buckler.verdict import BoundCertificate, Certificate, PatchCertificate, Verdict, in_full

SURE = Verdict("cat", 0.9731, 0.2, "ACCEPTED", (), "abc")
ODD = Verdict("toaster", 0.5, 0.999, "SUSPICIOUS", ("confidence", "views"), "abc")


def test_a_verdict_is_json_as_it_stands() -> None:
    assert json.loads(json.dumps(ODD.to_dict())) == {
        "prediction": "toaster",
        "confidence": 0.5,
        "anomaly_score": 0.999,
        "status": "SUSPICIOUS",
        "reasons": ["confidence", "views"],
        "bundle": "abc",
    }


def test_a_radius_stands_only_where_one_is_claimed() -> None:
    assert "radius" not in SURE.to_dict()
    assert replace(SURE, radius=0.25).to_dict()["radius"] == 0.25


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (SURE, "cat at 97.3%: ACCEPTED"),
        (replace(SURE, radius=0.25), "cat at 97.3%, certified within L2 distance 0.25: ACCEPTED"),
        (ODD, "toaster at 50.0%: SUSPICIOUS - MANUAL REVIEW REQUIRED (confidence, views)"),
    ],
)
def test_a_verdict_in_print(verdict: Verdict, text: str) -> None:
    assert str(verdict) == text


def test_a_certificate_states_its_probability_and_assumptions() -> None:
    certificate = Certificate(3, 0.51234, 0.25, 0.001, 1000)
    assert not certificate.abstained
    assert str(certificate) == (
        "with probability at least 0.999 over the noise draws, the classifier smoothed with sigma "
        "0.25 answers 3 for every input within L2 distance 0.512"
    )
    assert json.loads(json.dumps(certificate.to_dict()))["radius"] == 0.51234


def test_abstaining_has_its_own_name() -> None:
    certificate = Certificate(None, 0.0, 0.25, 0.001, 1000)
    assert certificate.abstained
    assert str(certificate) == "abstained (sigma 0.25, n 1000, alpha 0.001)"


def test_class_zero_is_an_answer() -> None:
    assert not Certificate(0, 0.1, 0.25, 0.001, 1000).abstained


@pytest.mark.parametrize("value", [SURE, Certificate(0, 0.1, 0.25, 0.001, 1000)])
def test_findings_cannot_be_changed(value) -> None:
    with pytest.raises(FrozenInstanceError):
        value.bundle = "other"


BOUND = BoundCertificate(3, 0.1, (0.0, 1.0), "crown")
SQUARE = PatchCertificate(3, (4, 4), None, 36, abstaining=False)


@pytest.mark.parametrize("certificate", [Certificate(3, 0.5, 0.25, 0.001, 1000), BOUND, SQUARE])
def test_in_full_a_certificate_names_its_assumptions_and_its_kind(certificate) -> None:
    text = in_full(certificate)
    assert text.startswith(f"{certificate}. Assumed: ")
    assert all(assumption in text for assumption in certificate.assumptions)
    assert "ISO/IEC 24029-2 property: stability; method: " in text
    assert not certificate.abstained
    assert json.loads(json.dumps(certificate.to_dict()))["label"] == 3


def test_what_is_not_proved_says_so() -> None:
    assert str(BoundCertificate(None, 0.1, (0.0, 1.0), "crown")) == (
        "not proved by crown bounds (L∞ distance 0.1)"
    )
    unproved = PatchCertificate(None, (4, 4), None, 36, abstaining=False)
    assert str(unproved).startswith("not proved (36 masks against a patch of 4 x 4 pixels anywhere")
    assert str(PatchCertificate(None, (4, 4), (2, 3), 1, abstaining=True)).startswith(
        "abstained (1 mask against a patch of 4 x 4 pixels at (2, 3)"
    )
