"""What counts as a finding of a red-team run, and what is kept of it."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from buckler.assess.redteam import redteam
from buckler.assess.redteam.findings import as_file
from buckler.attacks import FGSM, Square
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.errors import DataError, UsageError
from buckler.threats import LpBall

from .redteam_targets import (
    EPS,
    NEAR,
    SPEC,
    X,
    Y,
    audit,
    by_mean,
    findings,
    plan,
    report,
    shades,
    subject,
)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_a_finding_is_files_another_person_can_send(tmp_path):
    folder = redteam(plan(by_mean), tmp_path) / "findings" / "11-square"
    value = json.loads((folder / "finding.json").read_text())
    files = {"clean.npy", "clean.png", "adversarial.npy", "adversarial.png", "difference.png"}
    assert {path.name for path in folder.iterdir()} == {*files, "finding.json"}
    for name, digest in value["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    sent = SPEC.decode((folder / "adversarial.png").read_bytes())
    assert torch.equal(sent[0], torch.from_numpy(np.load(folder / "adversarial.npy")))
    assert torch.equal(SPEC.decode((folder / "clean.png").read_bytes())[0], X[1])
    assert by_mean(sent).argmax(1).item() == 1
    assert bool(LpBall("linf", EPS).contains(X[1:2], sent).all())
    assert value["distance"] == pytest.approx(float((sent - X[1:2]).abs().max()))
    assert value["before"] == {"prediction": "dark", "status": "ACCEPTED"}
    assert value["after"] == {"prediction": "bright", "status": "ACCEPTED"}
    assert (value["as_file"], value["y"], value["row"]) == ("wins", "dark", 11)
    assert value["ids"]["owasp"].startswith("ML01:2023")
    assert value["replay"].endswith(f"--replay {folder}")


def test_a_win_that_no_file_can_hold_says_so(tmp_path):
    def between_the_levels(x):
        odd = ((x * 255 - (x * 255).round()).abs().flatten(1).amax(1) > 0.05).float()
        bright = (x.flatten(1).mean(1) > 0.5).float()
        z = 9 * (2 * bright - 1) * (1 - 2 * odd)
        return torch.stack([-z, z], 1)

    threat = LpBall("linf", 0.1)
    folder = redteam(plan(between_the_levels, suite=(Square(),), threat=threat), tmp_path)
    value = report(folder)
    assert value["success"]["k"] == len(X)
    assert value["success_as_file"]["k"] == 0
    finding = findings(folder)["10-square"]
    assert finding["as_file"] == "not as a file"
    assert "adversarial.png" not in finding["sha256"]
    kept = np.load(folder / "findings" / "10-square" / "adversarial.npy")
    assert between_the_levels(torch.from_numpy(kept)[None]).argmax(1).item() == 1


def test_a_file_lies_inside_the_threat():
    x = shades(0.5)
    x_adv = x + 0.0059  # 1.5 levels: rounding would go to 2
    threat = LpBall("linf", 0.006)
    found = as_file(SPEC, threat, x, x_adv)
    assert torch.allclose(found, x + 1 / 255)
    assert bool(threat.contains(x, found).all())


def test_a_win_outside_the_threat_is_none(tmp_path):
    """HopSkipJump starts far away, where everything wins."""
    folder = redteam(plan(by_mean, suite=(HopSkipJump(),), threat=LpBall("linf", 0.01)), tmp_path)
    assert report(folder)["findings"] == []
    assert report(folder)["success"]["k"] == 0


def test_rows_wrong_at_first_are_not_attacked(tmp_path):
    folder = redteam(plan(by_mean, y=Y.where(torch.arange(6) != 1, 1)), tmp_path)
    value = report(folder)
    assert value["clean_accuracy"]["k"] == 5
    assert value["success"]["n"] == 5
    assert 11 not in {line["row"] for line in audit(folder)[6:]}


def test_a_target_that_is_never_right(tmp_path):
    with pytest.raises(DataError, match=r"^model gets 0 of 6 rows right, so there is nothing to"):
        redteam(plan(by_mean, y=1 - Y), tmp_path)


def test_accepted_answers_alone_count_on_a_guard(tmp_path):
    def unsure_is_rejected(x):
        logits = by_mean(x)  # sure where the mean is 0.02 from the border
        reject = logits.amax(1) + 0.4 - logits.abs().amax(1)
        return torch.cat([logits, reject[:, None]], 1)

    guard = replace(subject(unsure_is_rejected), rejects=True)
    folder = redteam(plan(by_mean, subject=guard), tmp_path)
    value = report(folder)
    assert value["success"]["k"] == len(NEAR), "eps suffices to be sure on the other side"
    assert value["threat"]["goal"] == "guarded"
    narrow = plan(by_mean, subject=guard, threat=LpBall("linf", 0.04))
    assert report(redteam(narrow, tmp_path))["findings"] == [], "wrong there, but SUSPICIOUS"
    assert value["review_rate"]["k"] == 0
    said = {line["status"] for line in audit(folder)}
    assert said == {"ACCEPTED", "SUSPICIOUS"}


def test_gradient_attacks_may_be_used_where_there_are_gradients(tmp_path):
    value = report(redteam(plan(by_mean, suite=(FGSM(),)), tmp_path))
    assert value["success"]["k"] == len(NEAR)
    no_gradient = plan(lambda x: by_mean(x).detach(), suite=(FGSM(),))
    with pytest.raises(UsageError, match="this attack needs gradients"):
        redteam(no_gradient, tmp_path / "none")
    (folder,) = (tmp_path / "none" / "runs").iterdir()
    assert report(folder)["ended"].startswith("error: this attack needs gradients")
    assert "success" not in report(folder), "what was not measured is absent"


def test_another_bundle_in_the_middle_of_a_run(tmp_path):
    calls = iter(range(100))
    folder = redteam(plan(by_mean), tmp_path, stop=lambda: next(calls) > 20)
    text = (folder / "state.jsonl").read_text()
    (folder / "state.jsonl").write_text(text.replace('"digest": "paper"', '"digest": "older"'))
    with pytest.raises(UsageError, match=r"^model answers from the bundle paper now, and the run"):
        redteam(plan(by_mean), tmp_path)


def test_attacks_of_one_name_are_refused():
    with pytest.raises(UsageError, match=r"^a suite needs attacks, each with a name of its own"):
        plan(by_mean, suite=(Square(), Square(p=0.1)))
    with pytest.raises(DataError, match=r"^there is no data to attack with"):
        plan(by_mean, x=X[:0], y=Y[:0], rows=torch.arange(0))


def test_what_a_rejection_hides_is_not_guessed(tmp_path):
    """A gateway that answers its status alone: no class where it is SUSPICIOUS."""

    def bare(x):
        label = torch.where((x.flatten(1).mean(1) - 0.5).abs() < 0.025, 2, by_mean(x).argmax(1))
        return torch.nn.functional.one_hot(label, 3).float()

    guard = replace(subject(bare), rejects=True)
    folder = redteam(plan(by_mean, subject=guard), tmp_path)
    hidden = [line for line in audit(folder)[:6] if line["status"] == "SUSPICIOUS"]
    assert {(line["row"], line["prediction"]) for line in hidden} == {(14, None), (15, None)}
    assert report(folder)["rows"]["right"] == 4
