"""The command line: one sentence an error, the exit codes, and earlier results left alone."""

import json
import os
import re
import sys
import tomllib

import numpy as np
import pytest

from buckler.cli.config import Config, read_config
from buckler.cli.template import TEMPLATE
from buckler.errors import UsageError
from buckler.threats.features.written import load_spec


@pytest.fixture
def run(run_lines):
    """Tables and verdicts are read line by line here."""
    return run_lines


MODEL = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))

def softmax():
    return nn.Sequential(build(), nn.Softmax(1))

def estimator():
    return "no module"
"""


@pytest.fixture
def project(tmp_path):
    """A folder with a factory, data and a configuration: write(**sections) → its path."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = np.clip(0.4 + 0.2 * y[:, None, None] + 0.15 * rng.standard_normal((300, 4, 4)), 0, 1)
    x = x.astype(np.float32)
    (tmp_path / "own_model.py").write_text(MODEL)
    sys.modules.pop("own_model", None)

    def write(text="", *, x=x, y=y, model='factory = "own_model:build"\ntrain = true\nepochs = 2'):
        np.savez(tmp_path / "own.npz", x=x, y=y)
        path = tmp_path / "buckler.toml"
        path.write_text(f'[model]\n{model}\n[data]\nsource = "own.npz"\n{text}')
        return path

    return write


def test_init_writes_a_commented_file_that_reads_back_as_the_defaults(run, tmp_path):
    code, out, _ = run("init", tmp_path)
    assert code == 0
    path = tmp_path / "buckler.toml"
    assert str(path) in out
    found = read_config(path)
    defaults = Config.model_validate(
        {"model": {"factory": "mymodel:build"}, "data": {"source": "data.npz"}}
    )
    for section in (
        "threat",
        "assess",
        "redteam",
        "retrain",
        "harden",
        "guard",
        "certify",
        "policy",
    ):
        assert getattr(found, section) == getattr(defaults, section)
    code, _, err = run("init", tmp_path)
    assert code == 2
    assert "is there already: --force replaces it" in err


def test_init_drafts_the_features_of_a_table(run, tmp_path):
    (tmp_path / "rows.csv").write_text("age,os,label\n30,ios,0\n41,web,1\n")
    flags = ("--tabular", tmp_path / "rows.csv", "--leave-out", "label", "--immutable", "age")
    code, out, _ = run("init", tmp_path, *flags)
    assert code == 0
    assert "2 features, 1 that may change" in out
    assert load_spec(tmp_path / "features.toml").names == ("age", "os")
    code, _, err = run("init", tmp_path, *flags)
    assert code == 2
    assert "features.toml is there already: --force replaces it" in err
    assert run("init", tmp_path, "--immutable", "age")[0] == 2
    code, _, err = run("init", tmp_path, "--force", "--tabular", tmp_path / "none.csv")
    assert code == 3
    assert "cannot be read as CSV" in err


def test_every_setting_stands_in_the_template():
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", TEMPLATE, flags=re.M))
    for name, field in Config.model_fields.items():
        if name != "output":
            assert set(shown[name]) == set(field.annotation.model_fields), name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[threat]\nepsilon = 0.1", "threat.epsilon: Extra inputs are not permitted"),
        ("[threat]\neps = -1", "threat.eps: Input should be greater than 0. Got -1"),
        ("[threat", "cannot be read as TOML"),
        ("[harden]\nmembers = ['x']", "harden.members.0"),
    ],
)
def test_a_wrong_setting_is_named(project, text, sentence):
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(").replace("[", r"\[")):
        read_config(project(text))


def bad(project, **changes):
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 4, 4)).astype(np.float32), np.arange(60) % 2
    return project(**{"x": x, "y": y, **changes})


NAN = np.full((60, 4, 4), np.nan, np.float32)
BAD_INPUT = [
    ("[threat]\neps = 8", {}, 2, "did you mean 8/255?"),
    ("", {"x": 255 * np.ones((60, 4, 4), np.float32)}, 3, "must lie in [0, 1]"),
    ("", {"x": NAN}, 3, "inputs must be finite. Got NaN or infinity in 60 of 60 rows"),
    ("", {"x": np.zeros((0, 4, 4), np.float32), "y": np.zeros(0, int)}, 3, "at least"),
    ("", {"y": np.zeros(60, int)}, 3, "at least 2 classes"),
    ("", {"y": np.arange(60) - 5}, 3, "labels must be 0 to"),
    ("", {"y": np.arange(59) % 2}, 3, "labels must be one a row"),
    ("", {"model": 'factory = "own_model:nowhere"'}, 2, "has no function 'nowhere'"),
    ("", {"model": 'factory = "no_such_file:build"'}, 2, "needs the module 'no_such_file'"),
    ("", {"model": 'factory = "own_model:softmax"'}, 2, "returns probabilities"),
    ("", {"model": 'factory = "own_model:estimator"'}, 2, "must return an nn.Module"),
    ("", {"model": 'factory = "own_model:build"\nweights = "w.pt"'}, 2, "do not exist"),
]


@pytest.mark.parametrize(("text", "changes", "code", "sentence"), BAD_INPUT)
def test_bad_input_gets_one_sentence_and_its_code(run, project, text, changes, code, sentence):
    path = bad(project, text=text, **changes)
    got, _, err = run("assess", "-c", path)
    assert (got, sentence in " ".join(err.split())) == (code, True), err
    assert "Traceback" not in err


def test_images_of_another_shape_than_the_net_takes(run, project):
    rng = np.random.default_rng(0)
    path = bad(project, x=rng.random((60, 5, 5)).astype(np.float32))
    code, _, err = run("assess", "-c", path)
    assert code == 2
    assert "the model cannot take inputs of shape (1, 5, 5)" in " ".join(err.split())


def test_a_missing_configuration_and_bundle(run, tmp_path):
    code, _, err = run("run", "-c", tmp_path / "none.toml")
    assert code == 2
    assert "buckler init writes one" in err
    code, _, err = run("predict", tmp_path, tmp_path / "x.png")
    assert code == 3
    assert "is no bundle" in err


def test_failed_steps_leave_earlier_results(run, project):
    path = project(QUICK)
    assert run("assess", "-c", path)[0] == 0
    result = path.parent / "out" / "assessment" / "undefended.json"
    before = result.read_bytes()
    path.write_text(path.read_text().replace("eps = 0.2", "eps = 8"))
    assert run("assess", "-c", path)[0] == 2
    assert result.read_bytes() == before


QUICK = """
[threat]
eps = 0.2
curve = [0.1, 0.2]
[assess]
rows = 40
steps = 5
restarts = 1
queries = 20
article = false
[harden]
epochs = 2
[guard]
views = ["median2"]
review_rate = 0.1
[certify]
rows = 3
n = 100
[policy]
success = 1.0
accuracy_ratio = 0.01
review_rate = 1.0
"""


def test_the_whole_chain_and_what_is_skipped_the_second_time(run, project):
    path = project(QUICK)
    code, out, err = run("run", "-c", path)
    assert code == 0, err
    folder = path.parent / "out"
    evidence = folder / "bundle" / "evidence"
    for name in ("assessment", "comparison", "ruling", "certificates", "battery", "latency"):
        assert (evidence / f"{name}.json").exists()
    page = (folder / "report.html").read_text()
    assert "Deployment check" in page
    assert 'src="http' not in page
    code, out, _ = run("run", "-c", path)
    assert code == 0
    assert out.count("skipped") == 5
    code, out, _ = run("check", "-c", path)
    assert code in (0, 1)
    assert ("NOT passed" in out) == (code == 1)

    text = path.read_text()
    path.write_text(text.replace("[policy]\nsuccess = 1.0", "[policy]\nsuccess = 0.0001"))
    code, out, _ = run("check", "-c", path)
    assert code == 1
    assert "NOT passed" in out
    np.save(folder / "rows.npy", np.load(path.parent / "own.npz")["x"][:3, None])
    code, out, _ = run(
        "predict", folder / "bundle", folder / "rows.npy", "--factory", "own_model:build"
    )
    assert code == 0
    assert len(out.strip().splitlines()) == 3
    code, _, err = run("predict", folder / "bundle", folder / "rows.npy")
    assert code == 1
    assert "your settings do not list" in " ".join(err.split())

    path.write_text(text.replace("steps = 5", "steps = 6"))
    code, _, err = run("check", "-c", path)  # evidence of other settings is not ruled on
    assert code == 3
    assert "run buckler assess on this bundle" in " ".join(err.split())


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupt_says_that_work_is_kept(run, project, monkeypatch):
    from buckler.cli import steps_harden

    monkeypatch.setattr(steps_harden, "harden", interrupted)
    monkeypatch.setattr("buckler.cli.entry.os._exit", sys.exit)
    code, _, err = run("harden", "-c", project(QUICK))
    assert code == 130
    assert "the same command goes on from there" in " ".join(err.split())


def test_no_verb_is_missing(run):
    _, out, _ = run("--help")
    for verb in [
        "init",
        "run",
        "assess",
        "harden",
        "build",
        "certify",
        "check",
        "predict",
        "serve",
        "demo",
    ]:
        assert verb in out


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("l1", 2.0)])
def test_other_norms_go_through_the_chain_with_an_attack_by_scores(run, project, norm, eps):
    path = project(QUICK.replace("eps = 0.2", f'norm = "{norm}"\neps = {eps}'))
    code, out, err = run("run", "-c", path)
    assert code == 0, err
    assert "no attack by scores alone was tried" not in " ".join(out.split())
    (ours,) = (
        system
        for system in json.loads(
            (path.parent / "out" / "bundle" / "evidence" / "comparison.json").read_text()
        )["systems"]
        if system["name"] == "guard"
    )
    assert ours["adaptive"]["threat"]["norm"] == norm
    assert run("check", "-c", path)[0] == 1, "a fraction of the rows is fooled by so much"


def test_rows_of_features_need_no_views(run, project):
    rng = np.random.default_rng(1)
    y = np.arange(300) % 2
    x = np.clip(0.5 * rng.random((300, 16)) + 0.4 * y[:, None], 0, 1).astype(np.float32)
    code, _, err = run("run", "-c", project(QUICK, x=x, y=y))
    assert code == 2
    assert "is for images" in err
    text = QUICK.replace('views = ["median2"]', 'views = []\ndetectors = ["confidence"]')
    code, _, err = run("run", "-c", project(text, x=x, y=y))
    assert code == 0, err


def test_changed_code_of_the_factory_is_not_taken_for_the_same(run, project):
    path = project(QUICK)
    assert run("assess", "-c", path)[0] == 0
    _, out, _ = run("assess", "-c", path)
    assert "skipped" in out
    source = path.parent / "own_model.py"
    source.write_text(source.read_text().replace("nn.ReLU()", "nn.Tanh()"))
    sys.modules.pop("own_model")
    _, out, _ = run("assess", "-c", path)
    assert "skipped" not in out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[guard]\nreview_rate = 1.0", "guard.review_rate"),
        ("[guard]\ndetectors = []", "one or more different detectors"),
        ('[guard]\nviews = ["median2"]\ndetectors = "auto"', "chooses the views too"),
        ('[harden]\nmembers = ["noise", "noise"]', "one or more different members"),
        ("[certify]\nn = 5", "every row would abstain"),
        ('[threat]\nnorm = "l2"\neps = 2040', "the box's diagonal"),
        ('[guard]\nviews = ["median2.5"]', "median"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(run, project, text, sentence):
    code, _, err = run("harden", "-c", project(text))
    assert code == 2
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


def test_a_box_for_pixels_is_refused(run, project):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    path = project(x=x, y=np.arange(60) % 2)
    path.write_text(path.read_text() + "box = [0.0, 255.0]\n")
    code, _, err = run("assess", "-c", path)
    assert code == 2
    assert "leave data.box out" in " ".join(err.split())


def test_a_model_that_is_never_right_is_one_sentence(run, project):
    y = np.arange(300) % 2
    x = np.clip(0.1 + 0.8 * y[:, None, None] * np.ones((300, 4, 4)), 0, 1)
    x = (x + 0.01 * np.random.default_rng(0).random(x.shape)).clip(0, 1).astype(np.float32)
    path = project(x=x, y=y)
    (path.parent / "own_model.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Contrary(nn.Module):\n"
        "    def forward(self, x):\n"
        "        m = x.flatten(1).mean(1) - 0.5\n"
        "        return torch.stack([m, -m], 1)\n\n"
        "def build():\n    return Contrary().eval()\n"
    )
    path.write_text(path.read_text().replace("train = true\nepochs = 2", ""))
    code, _, err = run("assess", "-c", path)
    assert code == 3
    assert "gets 0 of" in err


def test_what_is_printed_keeps_its_brackets(run, tmp_path):
    _, _, err = run("run", "-c", tmp_path / "a[/b] [red]c.toml")
    assert "[red]c.toml" in err


def test_costs_set_the_review_rate(run, project):
    """Reviews that cost nothing are many; those that cost more than a mistake are few."""
    rates = {}
    for review in (0.001, 10.0):
        path = project(
            QUICK.replace(
                "[guard]",
                f"[guard]\ncost = {{ review = {review}, wrong = 1.0, attack_share = 0.5 }}",
            )
        )
        code, out, err = run("build", "-c", path)
        if code:  # the members are not trained yet
            assert run("harden", "-c", path)[0] == 0
            code, out, err = run("build", "-c", path)
        assert code == 0, err
        assert "costs least" in out
        built = json.loads((path.parent / "out" / "build" / "build.json").read_text())
        rates[review] = built["threshold"]["target"]
    assert rates[0.001] > 2 * rates[10.0]
    path.write_text(path.read_text().replace("[guard]", "[guard]\nby_class = true"))
    code, _, err = run("build", "-c", path)
    assert code == 2
    assert "leave by_class out" in " ".join(err.split())


def test_harden_keeps_to_the_minutes_and_says_so_first(run, project, monkeypatch):
    path = project(QUICK.replace("epochs = 2", "epochs = 5000"))
    code, out, err = run("harden", "-c", path, "--minutes", "0.05")
    assert code == 0, err
    assert "about" in out
    plan = json.loads((path.parent / "out" / "members" / "plan.json").read_text())
    assert all(1 <= epochs < 5000 for epochs in plan["epochs"].values())
    assert len(plan["epochs"]) == 3
    histories = sorted((path.parent / "out" / "members").glob("*.history.json"))
    spent = [sum(r["seconds"] for r in json.loads(h.read_text())) for h in histories]
    assert sum(spent) < 2 * 0.05 * 60 * os.cpu_count()
    path.write_text(path.read_text().replace("epochs = 5000", "epochs = 5001"))
    code, out, _ = run("harden", "-c", path, "--minutes", "0.03")
    assert "members is of these inputs" not in " ".join(out.split())
    code, out, _ = run("harden", "-c", path, "--minutes", "0.03")
    assert "members is of these inputs" in " ".join(out.split())
    monkeypatch.setattr("buckler.cli.steps_harden.harden", interrupted)
    monkeypatch.setattr("buckler.cli.entry.os._exit", sys.exit)
    assert run("harden", "-c", path)[0] == 130  # whole trainings are asked for: not skipped


def test_a_bundle_is_built_again_when_its_members_were_trained_again(run, project):
    path = project(QUICK)
    for verb in ("harden", "build"):
        assert run(verb, "-c", path)[0] == 0
    assert "skipped" in run("build", "-c", path)[1]
    member = path.parent / "out" / "members" / "pgd-1.safetensors"
    other = path.parent / "out" / "members" / "pgd-2.safetensors"
    member.write_bytes(other.read_bytes())
    code, out, _ = run("build", "-c", path)
    assert code == 0
    assert "skipped" not in out


def test_detectors_are_chosen_where_asked_for(run, project):
    path = project(QUICK.replace('views = ["median2"]', 'views = []\ndetectors = "auto"'))
    assert run("harden", "-c", path)[0] == 0
    code, out, err = run("build", "-c", path)
    assert code == 0, err
    built = json.loads((path.parent / "out" / "build" / "build.json").read_text())
    assert f"detectors: {', '.join(built['detectors'])}" in out
    tried = {tuple(row["detectors"]): row["accepted_wrong"] for row in built["detectors_tried"]}
    assert len(tried) == 5
    assert tried[tuple(built["detectors"])] <= min(tried.values()) + 0.1
