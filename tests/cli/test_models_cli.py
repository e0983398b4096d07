"""Files and endpoints in [model]: assessed as they are, and not trained."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch

from buckler.attacks import suites
from buckler.cli import project as project_module
from buckler.cli.config import read_config
from buckler.cli.original import original_target
from buckler.cli.project import Project
from buckler.errors import UsageError
from tests.serve.tiny import SPEC, tiny_guard

RNG = np.random.default_rng(0)
Y = np.arange(300) % 2
X = np.clip(0.4 + 0.2 * Y[:, None, None] + 0.15 * RNG.standard_normal((300, 4, 4)), 0, 1)
WEIGHT = np.stack([-np.ones(16), np.ones(16)], 1).astype(np.float32)
BIAS = np.float32([8, -8])  # class 1: the mean over a half
QUICK = """
[threat]
eps = 0.2
curve = [0.05, 0.2]
[assess]
rows = 40
queries = 30
"""


def needs(library: str, extra: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f'needs {library}: pip install -e ".[{extra}]"')


@pytest.fixture
def project(tmp_path):
    """write(model, ...) → the path of a configuration beside its data."""

    def write(model, text=QUICK, *, x=X, y=Y, names=""):
        np.savez(tmp_path / "own.npz", x=x.astype(np.float32), y=y)
        path = tmp_path / "buckler.toml"
        path.write_text(f'[model]\n{model}\n[data]\nsource = "own.npz"\n{names}{text}')
        return path

    return write


def onnx_net(path, weight=WEIGHT) -> None:
    needs("onnx", "onnx")
    needs("onnxruntime", "onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 1, 4, 4))],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ("n", 2))],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    path.write_bytes(model.SerializeToString())


def found(path):
    value = json.loads((path.parent / "out" / "assessment" / "undefended.json").read_text())
    return value, {attack["attack"] for point in value["points"] for attack in point["suite"]}


def exact_success(eps: float, x=X, y=Y) -> float:
    """Of a linear model on the mean: the rows whose every pixel may move by eps in the box."""
    moved = np.where(y[:, None, None] == 1, x - eps, x + eps).clip(0, 1).mean((1, 2))
    before = (x.mean((1, 2)) > 0.5) == y
    return float((((moved > 0.5) != y) & before).sum() / before.sum())


def test_an_onnx_file_is_assessed_by_scores_alone(run, project):
    path = project('file = "net.onnx"')
    onnx_net(path.parent / "net.onnx")
    code, out, err = run("assess", "-c", path)
    assert code == 0, err
    assert "attacked by scores alone" in out
    value, attacks = found(path)
    assert attacks == {"Square"}
    assert value["one_pixel"] is not None
    for point in value["points"]:
        most = exact_success(point["threat"]["eps"])
        assert 0.5 * most < point["rates"]["success"]["value"] <= most + 0.2
    code, out, _ = run("assess", "-c", path)
    assert code == 0
    assert "skipped" in out
    onnx_net(path.parent / "net.onnx", 2 * WEIGHT)
    assert "skipped" not in run("assess", "-c", path)[1], "another file at the same place"


def test_a_keras_file_is_assessed_with_its_gradients(run, project):
    needs("keras", "keras")
    from buckler.models.keras import _keras

    keras = _keras()
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    net = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    net.set_weights([20 * WEIGHT, 20 * BIAS])  # sure: gradients vanish through its softmax
    path = project('file = "net.keras"')
    net.save(path.parent / "net.keras")
    code, out, err = run("assess", "-c", path)
    assert code == 0, err
    assert "scores alone" not in out
    value, attacks = found(path)
    assert attacks >= {"FGSM", "PGD", "Square"}
    for point in value["points"]:
        fgsm = next(each for each in point["suite"] if each["attack"] == "FGSM")
        want = exact_success(point["threat"]["eps"])
        assert abs(fgsm["broken"] / fgsm["given"] - want) < 0.2, "FGSM is exact on a linear net"


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_a_booster_is_assessed(run, project, kind):
    needs(kind, "tabular")
    library = importlib.import_module(kind)
    rows = X.reshape(300, 16)
    name = {"xgboost": "booster.json", "lightgbm": "booster.txt"}[kind]
    text = QUICK + '[guard]\nviews = []\ndetectors = ["confidence"]\n'
    path = project(f'file = "{name}"', text, x=rows)
    if kind == "xgboost":
        fitted = library.XGBClassifier(n_estimators=10, n_jobs=1).fit(rows, Y)
        fitted.save_model(path.parent / name)
    else:
        fitted = library.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(rows, Y)
        fitted.booster_.save_model(path.parent / name)
    code, _, err = run("assess", "-c", path)
    assert code == 0, err
    value, attacks = found(path)
    assert attacks == {"Square"}
    success = [point["rates"]["success"]["value"] for point in value["points"]]
    assert success[0] <= success[1]
    assert success[1] > 0


def test_a_gateway_is_assessed_as_the_guard_it_is(run, project):
    """Only accepted wrong answers count; the queries go through HTTP."""
    from buckler.serve import Background, Settings

    rng = np.random.default_rng(1)
    x = rng.integers(0, 80, (240, 8, 8), dtype=np.uint8)
    y = np.arange(240) % 2
    x[y == 0, :, :4] += 60
    x[y == 1, :, 4:] += 60
    y[0] = 2
    names = f"class_names = {json.dumps(SPEC.class_names)}\n"
    guard = tiny_guard()
    text = QUICK.replace("[0.05, 0.2]", "[0.02, 0.4]\none_pixel = false")
    with Background(guard, Settings.read(port=0, expose="scores"), log=False) as url:
        path = project(f'url = "{url}"', text, names=names)
        np.savez(path.parent / "own.npz", x=x, y=y)
        code, out, err = run("assess", "-c", path)
        shades = SPEC.snap(torch.linspace(0, 1, 9)[:, None, None, None].repeat(1, 1, 8, 8))
        shades[..., 4:] = 0
        predicted, accepted = original_target(Project.read(path), shades).answer(shades)
    assert torch.equal(accepted, guard.answer(shades)[1])
    assert 0 < int(accepted.sum()) < 9
    assert torch.equal(predicted, guard.answer(shades)[0])
    assert code == 0, err
    assert "attacked by scores alone" in out
    value, attacks = found(path)
    near, far = value["points"]
    assert attacks == {"Square"}
    assert (near["target"], near["digest"]) == ("endpoint", guard.digest)
    assert near["rates"]["success"]["value"] == 0
    assert far["rates"]["success"]["value"] > 0.05, "by 0.4 a half may outshine the other"


@pytest.mark.parametrize("verb", ["harden", "build"])
def test_what_trains_is_refused_in_one_sentence(run, project, verb):
    path = project('file = "net.onnx"')
    onnx_net(path.parent / "net.onnx")
    code, _, err = run(verb, "-c", path)
    assert code == 2
    assert "net.onnx can be assessed, but not trained or built into a bundle" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms_have_an_attack_by_scores_too(run, project, norm):
    path = project(
        'file = "net.onnx"', QUICK.replace("eps = 0.2", f'norm = "{norm}"\neps = 0.2', 1)
    )
    onnx_net(path.parent / "net.onnx")
    code, _, err = run("assess", "-c", path)
    assert code == 0, err
    assert found(path)[1] == {"Square"}


@pytest.mark.parametrize("suite", [name for name in suites.NAMES if name != "blackbox"])
def test_a_suite_of_gradients_says_what_else_to_take(run, project, suite):
    path = project('file = "net.onnx"')
    onnx_net(path.parent / "net.onnx")
    code, _, err = run("assess", "-c", path, "--suite", suite)
    assert code == 2
    assert f"the suite '{suite}' needs gradients" in err
    assert "take --suite blackbox" in err
    assert not (path.parent / "out" / "assessment" / f"{suite}.json").exists()


def test_the_blackbox_suite_takes_a_file_without_gradients(run, project):
    path = project('file = "net.onnx"')
    onnx_net(path.parent / "net.onnx")
    code, _, err = run("assess", "-c", path, "--suite", "blackbox")
    assert code == 0, err
    value = json.loads((path.parent / "out" / "assessment" / "blackbox.json").read_text())
    assert value["rates"]["success"]["value"] > 0


NET = "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Flatten(), {})\n"


@pytest.fixture
def net(monkeypatch, tmp_path):
    """A factory beside the configuration."""
    (tmp_path / "own_net.py").write_text(NET.format("torch.nn.Linear(16, 2)"))
    monkeypatch.syspath_prepend(tmp_path)
    yield 'factory = "own_net:build"'
    sys.modules.pop("own_net", None)


@pytest.mark.parametrize("suite", ["physical", "unrestricted"])
def test_rows_of_features_are_no_images(run, project, net, suite):
    text = QUICK + '[guard]\nviews = []\ndetectors = ["confidence"]\n'
    path = project(net, text, x=X.reshape(300, 16))
    code, _, err = run("assess", "-c", path, "--suite", suite)
    assert code == 2
    assert f"the suite '{suite}' is for images, and these inputs have the shape (16,)" in err


def test_threats_of_an_attacks_own_have_the_box_of_the_data(run, project, net):
    text = QUICK + '[guard]\nviews = []\ndetectors = ["confidence"]\n'
    path = project(net, text, x=2 * X - 1, names="box = [-1.0, 1.0]\n")
    code, _, err = run("assess", "-c", path, "--suite", "physical")
    assert code == 0, err


def test_a_bundle_for_other_classes_is_refused(run, project, tmp_path, monkeypatch):
    monkeypatch.setattr(project_module, "load_bundle", lambda *_, **__: tiny_guard())
    path = project('file = "net.onnx"')
    onnx_net(path.parent / "net.onnx")
    code, _, err = run("assess", tmp_path, "-c", path, "--suite", "quick")
    assert code == 2
    assert f"takes {SPEC.shape} and knows" in err


def test_a_file_of_feature_rows_needs_no_settings_of_a_guard(run, project):
    """No guard is built of it, so that transforms for images are in nobody's way."""
    needs("xgboost", "tabular")
    import xgboost

    rows = X.reshape(300, 16)
    path = project('file = "booster.json"', x=rows)
    xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(rows, Y).save_model(
        path.parent / "booster.json"
    )
    code, _, err = run("assess", "-c", path)
    assert code == 0, err


ONE = "name exactly one of factory, file and url"
MODELS = [
    ("", ONE),
    ('factory = "m:build"\nfile = "net.onnx"', ONE),
    ('file = "net.onnx"\nurl = "http://h"', ONE),
    ('file = "net.onnx"\ntrain = true', "train and weights go with a factory alone"),
    ('url = "http://h"\nweights = "w.pt"', "train and weights go with a factory alone"),
]


@pytest.mark.parametrize(("model", "sentence"), MODELS)
def test_exactly_one_source_of_the_model(project, model, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_config(project(model))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ('file = "none.onnx"', "none.onnx does not exist: check model.file"),
        ('file = "net.pt"', "a model is one of .onnx"),
        ('url = "ftp://h/m"', "a model is one of .onnx"),
    ],
)
def test_a_model_that_cannot_be_opened_is_one_sentence(run, project, model, sentence):
    code, _, err = run("assess", "-c", project(model))
    assert (code, sentence in err) == (2, True), err


def test_a_file_lies_beside_the_configuration(project):
    path = project('file = "models/net.onnx"')
    assert read_config(path).model.file == str(path.parent / "models" / "net.onnx")


def test_answers_of_the_endpoint_decide_whether_a_step_is_repeated(project, monkeypatch):
    """Nobody sees an endpoint's weights; another answer is another model."""
    from buckler.cli import project as module

    shift = 0.0
    monkeypatch.setattr(
        module,
        "open_model",
        lambda source, spec: (
            lambda x: torch.stack([x.flatten(1).sum(1) + shift, x.new_ones(len(x))], 1)
        ),
    )
    path = project('url = "http://h"')
    once, again = (module.Project.read(path).inputs_of("assess") for _ in range(2))
    shift = 0.01
    assert once == again != module.Project.read(path).inputs_of("assess")
