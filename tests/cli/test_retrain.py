"""buckler retrain on digits: what enters, what a poisoner reaches, and what an honest one gains."""

import hashlib
import json
import shutil
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

from buckler.cli.project import Project, load_guard
from buckler.cli.run import build_bundle, harden_members, train_original
from buckler.ops.alerts import Finding
from buckler.ops.review import Policy
from buckler.store.alerts import raise_alert
from buckler.store.decide import decide
from buckler.store.engine import open_store
from buckler.store.reviews import claim
from tests.cli.exports import digits, inverted, line, png, write_export, write_project
from tests.store.made import add, item
from tests.store.test_reviews import answer

CLIENTS = 40


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project with a bundle that still has much to learn."""
    folder = tmp_path_factory.mktemp("retrain")
    path = write_project(folder)
    sys.path.insert(0, str(folder))
    build(Project.read(path))
    yield folder
    sys.path.remove(str(folder))


def build(project):
    train_original(project)
    harden_members(project)
    build_bundle(project)


@pytest.fixture
def project(built, tmp_path):
    """A copy of it: project(settings) → the path of its buckler.toml."""
    shutil.copytree(built, tmp_path / "p")

    def write(text="", **changes):
        path = tmp_path / "p" / "buckler.toml"
        whole = path.read_text() + text
        for old, new in changes.items():
            whole = whole.replace(old.replace("_", " = "), new)
        path.write_text(whole)
        return path

    return write


def attacks(count=100, clients=CLIENTS):
    """Confirmed attacks of many clients, labelled by the reviewers."""
    _, (x, y) = digits()
    shown = inverted(x)[:count]
    return [(shown[i], line(i, f"client {i % clients}", y[i])) for i in range(count)]


def right(guard, x, y):
    found, _ = guard.answer(torch.from_numpy(x).float()[:, None] / 255)
    return float((found.numpy() == y).mean())


def the_bundle(path):
    (folder,) = (path.parent / "out" / "retrain").iterdir()
    return folder / "bundle"


def evidence(path):
    return json.loads((the_bundle(path) / "evidence" / "retrain.json").read_text())


def test_an_honest_retrain_learns_the_confirmed_attacks(run, project, tmp_path, monkeypatch):
    path = project(epochs_2="epochs = 20")
    export = write_export(tmp_path / "export", attacks())
    before = (path.parent / "out" / "bundle" / "DIGEST").read_text()
    code, out, err = run("retrain", export, "-c", path)
    assert code == 0, err
    assert "a draft: no gateway serves it before a rollout" in out
    facts = evidence(path)
    assert (facts["state"], facts["why"]) == ("DRAFT", "")
    assert facts["parent"] == before.strip()
    own = Project.read(path)
    new = load_guard(own, the_bundle(path))
    assert facts["digest"] == new.digest != facts["parent"]
    assert (path.parent / "out" / "bundle" / "DIGEST").read_text() == before
    _, (x, y) = digits()
    old = load_guard(own, own.bundle)
    assert right(new, inverted(x)[100:], y[100:]) > right(old, inverted(x)[100:], y[100:]) + 0.15
    ruling = json.loads((the_bundle(path) / "evidence" / "ruling.json").read_text())
    assert (ruling["passed"], ruling["digest"]) == (True, new.digest)
    golden = (the_bundle(path) / "golden.npz").read_bytes()
    assert hashlib.sha256(golden).hexdigest() == facts["golden"]["sha256"]
    intake = facts["intake"]
    assert 20 <= len(intake["entered"]) == facts["weights"]["rows"]
    assert max(intake["clients"].values()) <= 0.05 * len(intake["entered"])
    assert all(each["share"] <= 0.1 for each in intake["classes"].values())
    splits_apart(path, own, intake, export)
    code, out, _ = run("retrain", export, "-c", path)
    assert (code, out.count("skipped")) == (0, 3), "the same rows and settings: nothing runs again"
    path.write_text(path.read_text().replace("added_latency_ms = 10000", "added_latency_ms = 1e-9"))
    code, _, err = run("retrain", export, "-c", path)
    assert code == 1
    assert "must not be rolled out: the deployment check is not passed: added latency at p95" in err
    assert evidence(path)["state"] == "REFUSED"
    monkeypatch.setattr("buckler.ops.retraining.GOLDEN_LOSS", -1.0)
    code, _, err = run("retrain", export, "-c", path)
    assert (code, "the golden set's clean rows lose" in err) == (1, True)
    assert not (the_bundle(path) / "evidence" / "ruling.json").exists(), "no rollout takes it"


def splits_apart(path, own, intake, export):
    """Reviewed rows train, and do nothing else."""
    splits = json.loads((the_bundle(path) / "splits.json").read_text())
    for name in ("select", "calibrate", "verify", "test"):
        assert splits[name] == list(own.data[name].hashes)
    assert len(splits["fit"]) == len(own.data["fit"]) + len(intake["entered"])
    assert set(splits["fit"]) > set(own.data["fit"].hashes)
    assert not set(splits["fit"]) & {h for name in splits if name != "fit" for h in splits[name]}


def test_a_queue_that_asks_one_reviewer_is_told_how_to_ask_more(run, project, tmp_path):
    one = [{"reviewer": "ann", "kind": "label", "label": "0"}]
    _, (x, _) = digits()
    rows = [(255 - x[i], line(i, f"client {i}", 0, said=one)) for i in range(3)]
    code, _, err = run("retrain", write_export(tmp_path / "export", rows), "-c", project())
    assert (code, "with buckler review policy --agree 2 --of 3" in err) == (1, True), err


def test_the_golden_set_is_fixed_once_and_never_of_reviews(run, project, tmp_path):
    path = project()
    export = write_export(tmp_path / "export", attacks(10, clients=10))
    assert run("retrain", export, "-c", path)[0] == 1
    out = path.parent / "out"
    content = (out / "golden.npz").read_bytes()
    with np.load(out / "golden.npz") as golden:
        x, y, attack = golden["x"], golden["y"], golden["attack"]
    test = Project.read(path).data["test"]
    rows = {row.tobytes(): int(label) for row, label in zip(test.x.numpy(), test.y, strict=True)}
    clean = [rows[row.tobytes()] for row in x[~attack]]
    assert clean == y[~attack].tolist()
    assert len(clean) == len(test)
    assert 0 < attack.sum() < len(test)
    run("retrain", export, "-c", path)
    assert (out / "golden.npz").read_bytes() == content
    (out / "golden.npz").write_bytes(content[:-1] + b"x")
    code, _, err = run("retrain", export, "-c", path)
    assert code == 3
    assert "golden.npz was altered after it was fixed" in err
    (out / "golden.npz").write_bytes(content)
    facts = json.loads((out / "golden.json").read_text())
    facts["rows"][0] = Project.read(path).data["fit"].hashes[0]
    (out / "golden.json").write_text(json.dumps(facts))
    code, _, err = run("retrain", export, "-c", path)
    assert code == 3
    assert "1 golden rows stand in the fit split now: the data changed" in err


def poison():
    """200 rows of one client, past the reviewers, each with the class after its own."""
    _, (x, y) = digits()
    return [(x[i], line(i, "mallory", (y[i] + 1) % 4)) for i in range(200)]


def test_a_poisoner_alone_is_turned_away_at_the_door(run, project, tmp_path):
    path = project()
    code, out, err = run("retrain", write_export(tmp_path / "export", poison()), "-c", path)
    assert code == 1
    assert "0 of 200 reviewed rows enter" in out
    assert "rows of 20 clients are needed at least. Got rows of 1 clients" in err
    assert not (path.parent / "out" / "retrain").exists()


def test_a_poisoner_among_the_honest_gets_one_row_in_twenty(project, tmp_path):
    from buckler.cli.reviewed import at_the_door, report

    path = project("class_share = 1.0\n")
    export = write_export(tmp_path / "export", [*attacks(), *poison()])
    own = Project.read(path)
    value = report(own, at_the_door(own, export))
    mine = value["clients"]["mallory"]
    assert 1 <= mine <= 0.05 * len(value["entered"])
    assert value["reasons"]["the client's share"] >= 80, "the others are near one another"


def test_a_poisoner_through_an_open_door_ends_in_a_refused_bundle(run, project, tmp_path):
    path = project("client_share = 1.0\nclass_share = 1.0\ncopies = 3\n", epochs_2="epochs = 20")
    build(Project.read(path))
    code, _, err = run("retrain", write_export(tmp_path / "export", poison()), "-c", path)
    assert code == 1
    assert "this bundle must not be rolled out: the golden set's clean rows lose" in err
    facts = evidence(path)
    assert facts["state"] == "REFUSED"
    assert facts["golden"]["first"]["clean"]["share"] > 0.005
    assert not (the_bundle(path) / "evidence" / "ruling.json").exists(), "no rollout without one"


def test_rows_near_those_that_judge_are_turned_away(run, project, tmp_path):
    path = project()
    data = Project.read(path).data
    near = (data["test"].x[:3, 0] * 255).round().numpy().astype(np.uint8)
    near[:, 0, 0] += 5  # within 1.5 × 0.03 of the test row: an attack on it
    calibrate = (data["calibrate"].x[:2, 0] * 255).round().numpy().astype(np.uint8)
    known = (data["fit"].x[:1, 0] * 255).round().numpy().astype(np.uint8)
    shown = [*near, *calibrate, *known]
    rows = [(x, line(i, f"client {i}", 0)) for i, x in enumerate(shown)]
    code, out, _ = run("retrain", write_export(tmp_path / "export", rows), "-c", path)
    assert code == 1
    assert "0 of 6 reviewed rows enter; turned away: 5 held-out row, 1 in the data already" in out


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda f: (f / "items.jsonl").unlink(), 3, "is no export: items.jsonl is missing"),
        (lambda f: (f / "items.jsonl").write_text("{}\n"), 3, "a line without id, said or decided"),
        (lambda f: (f / "items.jsonl").write_text("no"), 3, "export anew"),
        (lambda f: next(f.glob("images/*/*.png")).write_bytes(b""), 3, "was altered after the"),
        (lambda f: (f / "items.jsonl").write_text(""), 1, "the export is empty"),
    ],
)
def test_an_export_that_is_none(run, project, tmp_path, change, code, words):
    export = write_export(tmp_path / "export", attacks(3))
    change(export)
    got, _, err = run("retrain", export, "-c", project())
    assert (got, words in err) == (code, True), err


def test_whether_one_is_owed(run, project, tmp_path):
    path = project()
    for option, ends in (("--due", 1), ("--if-due", 0)):
        code, out, _ = run("retrain", option, "-c", path)
        assert (code, out.strip()) == (ends, "no retrain is owed")
    export = write_export(tmp_path / "export", attacks())
    code, out, err = run("retrain", export, "--due", "-c", path)
    assert code == 0, err
    assert "a retrain is owed: reviewers confirmed" in out
    assert not (path.parent / "out" / "golden.npz").exists(), "asking changes nothing"
    rates = {"value": 0.2, "low": 0.05, "high": 0.3}
    folder = path.parent / "out" / "redteam" / "runs" / "2999-01-01-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    report = {"when": "2999-01-01T00:00:00Z", "since": {"difference": rates}}
    (folder / "report.json").write_text(json.dumps(report))
    code, out, _ = run("retrain", "--due", "-c", path)
    assert (code, "the red team's success rose by 20.0 points [5.0 to 30.0]" in out) == (0, True)
    (folder / "report.json").write_text(json.dumps({**report, "when": "2001-01-01T00:00:00Z"}))
    assert run("retrain", "--due", "-c", path)[0] == 1, "before this bundle was made"


def test_straight_from_the_store(run, project, tmp_path):
    """Three attacks that two reviewers labelled alike, and one that a single reviewer closed."""
    url, policy = f"sqlite:///{tmp_path}/store.db", Policy(agree=2, of=3)
    _, (x, y) = digits()
    with closing(open_store(url)) as store:
        rows = [
            item(n, key_id=f"client {n}", content=png(inverted(x)[n]), fingerprint=str(n))
            for n in range(4)
        ]
        names = add(store, *rows)
        for who in ("ann", "bob"):
            for _ in rows:
                found = claim(store, who, 4e9, policy)
                kind = ("adversarial", str(y[names.index(found.id)]))
                if who == "bob" and found.id == names[3]:
                    kind = ("label", str((y[3] + 1) % 4))
                decide(store, answer(found, *kind, reviewer=who), 4e9, policy)
    path = project("client_share = 1.0\nconfirmed = 3\n")
    code, out, err = run("retrain", "--due", "--store", url, "-c", path)
    assert code == 0, err
    assert "reviewers confirmed 3 attacks (3 are enough)" in out
    path.write_text(path.read_text() + "agree = 3\n")
    assert run("retrain", "--due", "--store", url, "-c", path)[0] == 1
    assert not list((path.parent / "out").glob(".reviewed*")), "the export vanishes again"


def test_a_page_owes_one_and_a_ticket_does_not(run, project, tmp_path):
    url, path = f"sqlite:///{tmp_path}/store.db", project()
    with closing(open_store(url)) as store:
        for tier, at in (("ticket", 4e9), ("page", 1.0)):
            with store.write() as connection:
                raise_alert(connection, Finding(f"{tier} {at}", tier, "tail"), at, (), "")
        assert run("retrain", "--due", "--store", url, "-c", path)[0] == 1, "before this bundle"
        with store.write() as connection:
            raise_alert(connection, Finding("now", "page", "rows lie far outside"), 4e9, (), "")
    code, out, _ = run("retrain", "--due", "--store", url, "-c", path)
    assert (code, "alarms that paged: 1, the last: rows lie far outside" in out) == (0, True)


def test_without_an_export_or_a_bundle(run, project, tmp_path):
    path = project()
    code, _, err = run("retrain", "-c", path)
    assert (code, "name the folder of an export, or the store" in err) == (2, True)
    export = write_export(tmp_path / "export", attacks(3))
    code, _, err = run("retrain", export, "-c", path, "--parent", tmp_path)
    assert (code, "is no bundle" in err) == (3, True)
