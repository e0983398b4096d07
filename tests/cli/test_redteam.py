"""buckler redteam, from the command line to the files, against a real gateway on the loopback."""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

from buckler.cli import redteam as verb
from buckler.cli.config import read_config
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from tests.serve.bundles import untrained
from tests.serve.tiny import SPEC, tiny_guard

NAMES = f"class_names = {json.dumps(SPEC.class_names)}\n"
FACTORY = """
import torch
from torch import nn


class Mean(nn.Module):
    def forward(self, x):
        z = 20 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-z, z], 1)


def build():
    return Mean()
"""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in [name for name in os.environ if name.startswith("BUCKLER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """write(model, ...) → the path of a configuration beside 200 grey images around a half."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"mean_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    grey = np.arange(200) % 100 + np.where(np.arange(200) < 100, 20, 136)
    x = np.repeat(grey, 64).reshape(200, 8, 8).astype(np.uint8)
    x[:, 0, 0] = np.arange(200)  # no two alike
    np.savez(tmp_path / "own.npz", x=x, y=(x.mean((1, 2)) > 127.5).astype(np.int64))

    def write(model="", text="", names=""):
        model = model or f'factory = "{name}:build"'
        path = tmp_path / "buckler.toml"
        path.write_text(f'[model]\n{model}\n[data]\nsource = "own.npz"\n{names}{text}')
        return path

    return write


@pytest.fixture
def gateway():
    from buckler.serve import Background, Settings

    with Background(tiny_guard(), Settings.read(port=0, expose="scores"), log=False) as url:
        yield url


SMALL = ("--rows", 5, "--queries", 300)


def folder_of(path):
    (folder,) = (path.parent / "out" / "redteam" / "runs").iterdir()
    return folder


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_model_is_attacked_and_a_finding_replayed(run, project):
    path = project()
    code, out, err = run("redteam", "-c", path, *SMALL, "--eps", 0.3)
    assert code == 0, err
    folder = folder_of(path)
    value = report(folder)
    assert value["ended"] == "done"
    assert [a["name"] for a in value["attacks"]] == ["Square", "SimBA", "HopSkipJump"]
    assert value["threat"] == {"kind": "lp", "norm": "linf", "eps": 0.3, "goal": "untargeted"}
    assert value["findings"]
    assert value["spent"] == len((folder / "audit.jsonl").read_text().splitlines()) <= 300
    assert f"of 5 rows at linf eps 0.3, {len(value['findings'])} findings" in out
    assert "there is no earlier run to compare with" in out
    assert f"wrote {folder / 'report.md'}" in out
    finding = folder / value["findings"][0]["finding"]
    code, out, err = run("redteam", "-c", path, "--replay", finding)
    assert (code, err) == (0, "")
    assert f"{finding.name} still works on mean_" in out
    (path.parent / next(path.parent.glob("mean_*.py"))).write_text(FACTORY.replace("- 0.5", "+ 9"))
    for name in [name for name in sys.modules if name.startswith("mean_")]:
        del sys.modules[name]
    other = next(f for f in value["findings"] if f["y"] == "1")["finding"]
    code, out, _ = run("redteam", "-c", path, "--replay", folder / other)
    assert code == 1
    assert "no longer works" in out


def test_a_run_that_was_stopped_goes_on(run, project):
    path = project()
    options = ("redteam", "-c", path, *SMALL, "--eps", 0.3)

    real = verb.attack_from_outside

    def interrupted(plan, out, **given):
        calls = iter(range(1000))

        def stop():
            if next(calls) == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return given["stop"]()

        return real(plan, out, **{**given, "stop": stop})

    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "attack_from_outside", interrupted)
        code, out, err = run(*options)
    assert code == 0, err
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped: remove" in out
    folder = folder_of(path)
    assert report(folder)["ended"] == "stopped"
    assert run(*options)[0] == 0
    assert folder_of(path) == folder
    assert report(folder)["ended"] == "done"


def test_pixels(run, project):
    path = project()
    code, _, err = run("redteam", "-c", path, "--rows", 3, "--queries", 2000, "--norm", "l0")
    assert code == 0, err
    value = report(folder_of(path))
    assert [a["name"] for a in value["attacks"]] == ["OnePixel"]
    assert value["threat"]["pixels"] == 1
    assert run("redteam", "-c", path, "--norm", "l0", "--eps", "0.5")[0] == 2
    code, _, err = run("redteam", "-c", path, "--norm", "l7")
    assert code == 2
    assert "--norm must be one of linf, l2, l1 and l0. Got 'l7'" in err


def test_a_gateway_by_its_url_and_the_last_run(run, project, gateway):
    """The target's answers are two classes of three: dark left, bright right."""
    path = project(names=NAMES)
    x = np.zeros((200, 8, 8), np.uint8)
    y = np.arange(200) % 2
    x[y == 0, :, :4], x[y == 1, :, 4:] = 60, 60
    x[:, 0, 0] += np.arange(200, dtype=np.uint8) // 2
    y[199] = 2  # the third class must have a row
    np.savez(path.parent / "own.npz", x=x, y=y)
    options = ("redteam", gateway, "-c", path, "--eps", 0.4, "--rate", 0)
    code, out, err = run(*options, "--rows", 4, "--queries", 700)
    assert code == 0, err
    first = folder_of(path)
    value = report(first)
    assert (value["source"], value["digest"]) == (gateway, tiny_guard().digest)
    assert value["threat"]["goal"] == "guarded"
    code, out, err = run(*options, "--rows", 4, "--queries", 701)
    assert code == 0, err
    assert f"since {first.name}: 0 new, 0 gone, {len(value['findings'])} still" in out
    assert value["findings"]
    finding = first / value["findings"][0]["finding"]
    code, out, _ = run("redteam", "--replay", finding, "-c", path.parent / "none.toml")
    assert code == 0, "the finding knows its target and its inputs"
    assert f"still works on {gateway}" in out


def test_another_host_is_refused_before_it_is_asked(run, project):
    url = "http://model.example.com/v2/models/m"
    path = project()
    for arguments in (("redteam", url, "-c", path),):
        code, _, err = run(*arguments)
        assert code == 1
        assert "the host 'model.example.com' is not on the list of hosts" in err
    path = project(f'url = "{url}"')
    code, _, err = run("redteam", "-c", path)
    assert code == 1, "the project's own endpoint, too"
    assert 'add it to buckler.toml: [redteam] hosts = ["model.example.com"]' in err


def test_hosts_on_the_list(project):
    path = project(text='[redteam]\nhosts = ["model.example.com"]\nrate = 3\n')
    section = read_config(path).redteam
    assert section.hosts == ("model.example.com",)
    found = verb._subject(None, "http://model.example.com", SPEC, section)
    assert found.chunk == 6, "two seconds' worth"
    with pytest.raises(UsageError, match=r"redteam\.hots: Extra inputs are not permitted"):
        read_config(project(text="[redteam]\nhots = []\n"))


def test_a_bundle_is_attacked_as_the_guard_it_is(run, tmp_path):
    bundle = tmp_path / "bundle"
    digest = untrained(bundle)
    path = tmp_path / "buckler.toml"
    factory = "buckler.models.nets:digits_cnn"
    path.write_text(f'[model]\nfactory = "{factory}"\n[data]\nsource = "digits"\n')
    code, _, err = run("redteam", bundle, "-c", path, "--rows", 40, "--queries", 900)
    assert code == 0, err
    value = report(folder_of(path))
    assert (value["source"], value["digest"]) == (str(bundle), digest)
    assert value["threat"]["goal"] == "guarded"
    assert value["review_rate"]["n"] == 40


def test_a_bundle_of_other_classes(run, project, tmp_path):
    path = project()
    spec = InputSpec((1, 8, 8), tuple("0123456789"), levels=256)
    guard = replace(tiny_guard(), spec=spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "load_guard", lambda *_: guard)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "bundle.toml").touch()
        code, _, err = run("redteam", tmp_path / "b", "-c", path)
    assert code == 2
    assert "the data have (1, 8, 8) and ('0', '1')" in err


def test_what_is_no_target(run, project):
    path = project()
    code, _, err = run("redteam", "nowhere", "-c", path)
    assert code == 2
    assert "a target is a URL, a bundle folder, or a model's file. Got 'nowhere'" in err
    code, _, err = run("redteam", "-c", path, "--queries", "20")
    assert code == 2
    assert "20 queries are too few for 50 rows" in err or "20 queries are too few for 40" in err
    code, _, err = run("redteam", "-c", path, "--suite", "best")
    assert code == 2
    assert "a suite must be one of" in err
    code, _, err = run("redteam", "-c", path, "--replay", path.parent)
    assert code == 3
