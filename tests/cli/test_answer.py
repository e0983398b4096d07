"""[answer] in buckler.toml: a bundle built smoothed, or behind masks, certified and loaded."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from buckler.cli.config import read_config
from buckler.cli.project import Project, load_guard
from buckler.errors import UsageError
from buckler.guard.answering import Behind, Smoothed

MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 2))
"""
COMMON = """
[model]
factory = "own_model:build"
train = true
epochs = 4
[data]
source = "own.npz"
[assess]
article = false
[certify]
rows = 12
[guard]
review_rate = 0.1
[harden]
ensemble = 1
epochs = 4
"""
SMOOTHED = """members = ["noise"]
[answer]
mode = "smoothed"
sigma = 0.2
radii = [0.2, 0.1]
n = 2000
n0 = 32
alpha = 0.01
"""
ABSTAINING = """members = ["occluded"]
[answer]
mode = "abstaining"
patch = [1, 2]
per_side = 3
fill = 0.25
"""


@pytest.fixture
def write(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = np.clip(0.35 + 0.3 * y[:, None, None] + 0.1 * rng.standard_normal((400, 6, 6)), 0, 1)
    np.savez(tmp_path / "own.npz", x=x.astype(np.float32), y=y)
    (tmp_path / "own_model.py").write_text(MODEL)
    sys.modules.pop("own_model", None)

    def text(rest):
        path = tmp_path / "buckler.toml"
        path.write_text(COMMON + rest)
        return path

    return text


def built(run, path):
    """The guard and its evidence, after harden, build and certify."""
    from buckler.cli.steps_model import train_original

    train_original(Project.read(path))
    for verb in ("harden", "build"):
        code, _, err = run(verb, "-c", path)
        assert code == 0, err
    code, out, err = run("certify", "-c", path)
    assert code == 0, err
    project = Project.read(path)
    evidence = json.loads((project.bundle / "evidence" / "certificates.json").read_text())
    return load_guard(project, project.bundle), evidence, out, project


def test_a_smoothed_bundle_is_built_certified_and_answers_with_radii(run, write):
    guard, evidence, out, project = built(run, write(SMOOTHED))
    assert guard.answering == Smoothed(0.2, (0.1, 0.2), 2000, 32, 0.01)
    assert evidence["served"] is True
    assert evidence["about"].startswith("what is served")
    assert "forwards in the mean" in evidence["about"]
    assert "about what is served" in out
    assert {row["radius"] for row in evidence["certificates"]} <= {0.0, 0.1, 0.2}
    rows = [row["row"] for row in evidence["certificates"]]
    x, _, found = project.data["test"].sample(12, 0)
    assert found.tolist() == rows
    radii = [verdict.radius or 0.0 for verdict in guard.judge(x)]
    assert radii == [row["radius"] for row in evidence["certificates"]], "what is served"
    assert sum(radius > 0 for radius in radii) >= 6
    history = json.loads((project.out / "members" / "noise.history.json").read_text())
    assert len(history) == 4
    again = write(SMOOTHED.replace("alpha = 0.01", "alpha = 0.02"))
    assert run("build", "-c", again)[0] == 0
    other = load_guard(project, project.bundle)
    assert other.answering.alpha == 0.02, "not taken for the same bundle"
    assert other.digest != guard.digest


def test_plain_answers_say_whom_the_certificate_is_about(run, write):
    guard, evidence, out, _ = built(run, write('members = ["standard"]\n'))
    assert guard.answering is None
    assert evidence["served"] is False
    assert "the members' mean" in out
    assert "not what is served" in evidence["about"]


def test_a_bundle_behind_masks_is_built_and_certified(run, write):
    guard, evidence, out, project = built(run, write(ABSTAINING))
    assert guard.answering == Behind((1, 2), 3, 0.25, abstaining=True)
    assert "every answer that is not SUSPICIOUS for disagreeing masks" in evidence["about"]
    assert "under a patch of 1 x 2 pixels anywhere" in evidence["sentence"]
    assert "radius" not in evidence["certificates"][0]
    assert evidence["right"]["n"] == 12
    assert evidence["right"]["k"] >= 6
    assert f"12 rows: {evidence['right']['k']} certified right" in out
    x, _, _ = project.data["test"].sample(12, 0)
    answered = [c["label"] for c in evidence["certificates"]]
    predicted, _ = replace(guard).answer(x)
    for label, served in zip(answered, predicted.tolist(), strict=True):
        assert label in (None, served)


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ('[answer]\nmode = "smooth"', "answer.mode"),
        ('[answer]\nmode = "smoothed"\nradii = []', "needs radii > 0"),
        ('[answer]\nmode = "smoothed"\nradii = [2.0]\nn = 100', "can never certify radius 2"),
        ('[answer]\nmode = "masked"\npatch = [0, 2]', "answer.patch.0"),
        ('members = ["occluded"]', "are trained for masks"),
        ("[answer]\nsigmas = 1", "answer.sigmas: Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(write, rest, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_config(write(rest))


def test_thresholds_by_class_and_patches_beyond_the_image_are_refused(write):
    path = write('[answer]\nmode = "masked"')
    path.write_text(path.read_text().replace("review_rate = 0.1", "by_class = true"))
    with pytest.raises(UsageError, match=r"goes with answer\.mode"):
        read_config(path)
    with pytest.raises(UsageError, match="must lie inside the image"):
        Project.read(write('[answer]\nmode = "masked"\npatch = [9, 9]'))
