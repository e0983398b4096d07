"""buckler check: the policy's file, the bundle before, and evidence that cannot be ruled by."""

import json
import shutil

import pytest

from buckler.cli.config import read_config
from buckler.cli.policy import read_policy
from buckler.errors import DataError

QUICK = """
[model]
factory = "buckler.models.nets:digits_cnn"
train = true
epochs = 2
[data]
source = "digits"
[threat]
curve = [0.1]
one_pixel = false
[assess]
rows = 60
steps = 3
restarts = 1
queries = 10
article = false
[harden]
ensemble = 1
epochs = 1
[guard]
review_rate = 0.1
[certify]
rows = 5
n = 100
"""


@pytest.fixture(scope="module")
def assessed(tmp_path_factory):
    """A project whose bundle has its evidence."""
    from buckler.cli.project import Project
    from buckler.cli.steps_assess import assess_bundle
    from buckler.cli.steps_bundle import build_bundle
    from buckler.cli.steps_certify import certify_bundle
    from buckler.cli.steps_harden import harden_members
    from buckler.cli.steps_model import train_original

    path = tmp_path_factory.mktemp("check") / "buckler.toml"
    path.write_text(QUICK)
    project = Project.read(path)
    train_original(project)
    harden_members(project)
    build_bundle(project)
    assess_bundle(project, project.bundle)
    certify_bundle(project, project.bundle)
    return path


def test_a_file_of_its_own_is_ruled_by(run, assessed, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(
        "accuracy_ratio = 0.01\nreview_rate = 1.0\nsuccess = 1.0\nadded_latency_ms = 1e6\n"
    )
    code, out, err = run("check", "-c", assessed, "--policy", policy)
    ruling = json.loads((assessed.parent / "out/bundle/evidence/ruling.json").read_text())
    assert (code == 0) == ruling["passed"], err
    assert ruling["policy"]["success"] == 1.0
    policy.write_text(policy.read_text() + "clean_accuracy = 1.0\n")
    code, out, _ = run("check", "-c", assessed, "--policy", policy)
    assert code == 1
    assert "clean accuracy" in out


def test_nothing_is_lost_to_itself(run, assessed, tmp_path):
    bundle = assessed.parent / "out" / "bundle"
    before = tmp_path / "before"
    shutil.copytree(bundle, before)
    code, _, err = run("check", "-c", assessed, "--previous", before)
    assert code in (0, 1), err
    ruling = json.loads((bundle / "evidence" / "ruling.json").read_text())
    found = {item["rule"]: item["value"] for item in ruling["items"]}
    assert (found["regression-clean"], found["regression-attack"]) == (0, 0)
    ledger = before / "evidence" / "ledger.npz"
    ledger.write_bytes(ledger.read_bytes()[:200])
    code, _, err = run("check", "-c", assessed, "--previous", before)
    assert code == 3
    assert "cannot be read as a ledger" in err
    (before / "DIGEST").write_text("0" * 64)
    code, _, err = run("check", "-c", assessed, "--previous", before)
    assert code == 3
    assert "not about the previous one" in err


def test_half_the_evidence_is_one_sentence(run, assessed):
    evidence = assessed.parent / "out" / "bundle" / "evidence"
    whole = (evidence / "latency.json").read_text()
    for text, sentence in ((whole[:40], "cannot be read as JSON"), ("{}", "is of the form None")):
        (evidence / "latency.json").write_text(text)
        code, _, err = run("check", "-c", assessed)
        assert code == 3
        assert sentence in err
        assert "Traceback" not in err
    (evidence / "latency.json").write_text(whole)


def test_an_unknown_key_is_named_with_those_that_are_known(run, assessed, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("sucess = 0.1\n")
    code, _, err = run("check", "-c", assessed, "--policy", policy)
    assert code == 3
    assert "a policy has no key 'sucess': it may have accuracy_ratio, review_rate" in err
    toml = tmp_path / "buckler.toml"
    toml.write_text(assessed.read_text() + "[policy]\nsucess = 0.1\n")
    code, _, err = run("check", "-c", toml)
    assert code == 3
    assert "a policy has no key 'sucess'" in err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("success = 15", "policy.success: .* less than or equal to 1. Got 15"),
        ("success = ", "cannot be read as TOML"),
        ("certified_accuracy = 0.5", "go together"),
        ("[policy]\nsuccess = 0.1", "has no key ''|a policy has no key 'policy'"),
    ],
)
def test_a_policy_that_says_nothing_usable(tmp_path, text, sentence):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_policy(path)


def test_the_previous_bundle_is_found_beside_the_file(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('previous = "live/bundle"')
    assert read_policy(path).previous == tmp_path / "live" / "bundle"
    whole = tmp_path / "buckler.toml"
    whole.write_text(QUICK + '[policy]\nprevious = "live/bundle"\n')
    assert read_config(whole).policy.previous == tmp_path / "live" / "bundle"
    with pytest.raises(DataError, match="does not exist"):
        read_policy(tmp_path / "none.toml")
