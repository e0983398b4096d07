"""OnnxClassifier: a linear net whose logits are known, and converted estimators."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from buckler.attacks import FGSM
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import OnnxClassifier, check_classifier, differentiable
from buckler.threats import LpBall

onnx = pytest.importorskip("onnx", reason='needs onnx: pip install -e ".[onnx]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install -e ".[onnx]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SPEC = InputSpec((1, 4, 4), ("a", "b", "c"))
RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((16, 3)).astype(np.float32), np.float32([0.1, -0.2, 0.3])
X = torch.from_numpy(RNG.random((7, 1, 4, 4)).astype(np.float32))
LOGITS = X.flatten(1) @ torch.from_numpy(WEIGHT) + torch.from_numpy(BIAS)


def linear(
    path: Path,
    shape=("n", 1, 4, 4),
    *,
    softmax=False,
    kind=TensorProto.FLOAT,
    order=None,
    outputs=("y",),
    columns=3,
) -> Path:
    """Flatten and Gemm; `order` transposes first."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes, last = [], "x"
    if order:
        nodes.append(helper.make_node("Transpose", [last], ["t"], perm=order))
        last = "t"
    nodes.append(helper.make_node("Flatten", [last], ["f"]))
    nodes.append(helper.make_node("Gemm", ["f", "w", "b"], ["z"]))
    last = "z"
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["p"], axis=1))
        last = "p"
    nodes += [helper.make_node("Identity", [last], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, (shape[0], columns)) for name in outputs],
        [
            numpy_helper.from_array(WEIGHT[:, :columns].astype(dtype), "w"),
            numpy_helper.from_array(BIAS[:columns].astype(dtype), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", ["n", 1, 3, 10])
def test_logits_at_any_batch_size(tmp_path: Path, batch: str | int) -> None:
    """A fixed batch is padded and split; no row feels its neighbours."""
    model = OnnxClassifier(linear(tmp_path / "net.onnx", (batch, 1, 4, 4)), SPEC)
    assert model.scores == "logits"
    found = model(X)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOGITS)
    torch.testing.assert_close(model(X[2:3]), LOGITS[2:3])
    assert model(X[:0]).shape == (0, 3)
    assert model(X.double()).dtype == torch.float64
    check_classifier(model, X, 3)


def test_probabilities_are_told_and_become_their_log(tmp_path: Path) -> None:
    model = OnnxClassifier(linear(tmp_path / "net.onnx", softmax=True), SPEC)
    assert model.scores == "probabilities"
    torch.testing.assert_close(model(X), LOGITS.log_softmax(1))
    check_classifier(model, X, 3)
    certain = OnnxClassifier(
        linear(tmp_path / "net.onnx", softmax=True), InputSpec((1, 4, 4), tuple("abc"), (0, 1e4))
    )
    logits = certain(1e4 * X)
    assert bool(torch.isfinite(logits).all()), "a probability of 0 must stay a number"
    assert float(logits.min()) == pytest.approx(np.log(1e-12), rel=1e-6)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("softmax", [False, True])
def test_other_floats(tmp_path: Path, kind: int, softmax: bool) -> None:
    model = OnnxClassifier(linear(tmp_path / "net.onnx", kind=kind, softmax=softmax), SPEC)
    assert model.scores == ("probabilities" if softmax else "logits")
    want = LOGITS.log_softmax(1) if softmax else LOGITS
    torch.testing.assert_close(model(X), want, atol=0.03, rtol=0.01)


def test_channels_last_and_flat_inputs(tmp_path: Path) -> None:
    last = linear(tmp_path / "last.onnx", ("n", 4, 4, 1), order=(0, 3, 1, 2))
    torch.testing.assert_close(OnnxClassifier(last, SPEC)(X), LOGITS)
    flat = linear(tmp_path / "flat.onnx", ("n", 16))
    torch.testing.assert_close(OnnxClassifier(flat, SPEC)(X), LOGITS)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("kind", [LogisticRegression, RandomForestClassifier])
def test_estimators_converted_from_scikit_learn(tmp_path: Path, kind, zipmap: bool) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason='needs skl2onnx: pip install -e ".[tabular]"')
    x = RNG.random((120, 16)).astype(np.float32)
    fitted = kind(**({"n_estimators": 8} if kind is RandomForestClassifier else {}))
    fitted.fit(x, (3 * x[:, 0]).astype(int))
    converted = skl2onnx.to_onnx(fitted, x[:1], options={"zipmap": zipmap})
    path = tmp_path / "estimator.onnx"
    path.write_bytes(converted.SerializeToString())
    model = OnnxClassifier(path, InputSpec((16,), ("a", "b", "c")))
    assert model.scores == "probabilities"
    logits = model(torch.from_numpy(x[:30]))
    np.testing.assert_allclose(logits.exp(), fitted.predict_proba(x[:30]), atol=1e-5)


@pytest.mark.parametrize(("names", "fits"), [(("x", "y", "z"), True), (("p", "q", "r"), False)])
def test_labels_in_words_follow_the_class_names(tmp_path: Path, names, fits: bool) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason='needs skl2onnx: pip install -e ".[tabular]"')
    x = RNG.random((60, 4)).astype(np.float32)
    words = np.array(["y", "z", "x"])  # the estimator sorts them; the data's order is another
    fitted = LogisticRegression().fit(x, words[(3 * x[:, 0]).astype(int)])
    path = tmp_path / "words.onnx"
    path.write_bytes(skl2onnx.to_onnx(fitted, x[:1]).SerializeToString())
    spec = InputSpec((4,), ("z", "x", "y") if fits else names)
    if not fits:
        with pytest.raises(UsageError, match=r"labels must be 0\.\.2 or the class names"):
            OnnxClassifier(path, spec)
        return
    logits = OnnxClassifier(path, spec)(torch.from_numpy(x))
    np.testing.assert_allclose(logits.exp()[:, [1, 2, 0]], fitted.predict_proba(x), atol=1e-5)


def test_one_of_several_outputs_is_named(tmp_path: Path) -> None:
    path = linear(tmp_path / "two.onnx", outputs=("y", "also"))
    with pytest.raises(UsageError, match=r"one output of scores .*Got y tensor.*also tensor"):
        OnnxClassifier(path, SPEC)
    torch.testing.assert_close(OnnxClassifier(path, SPEC, output="also")(X), LOGITS)


def test_it_gives_no_gradient_and_gradient_attacks_say_so(tmp_path: Path) -> None:
    model = OnnxClassifier(linear(tmp_path / "net.onnx"), SPEC)
    assert not differentiable(model, X)
    with pytest.raises(UsageError, match="black-box attack"):
        FGSM()(model, X, LOGITS.argmax(1), LpBall("linf", 0.1))


REFUSED = [
    ({"shape": ("n", 2, 2, 4)}, r"takes inputs of shape \(2, 2, 4\), and the data have \(1, 4, 4"),
    ({"shape": ("n", 4, 4, 1, 1)}, r"takes inputs of shape \(4, 4, 1, 1\)"),
    ({"columns": 2}, r"must answer scores of shape \(n, 3\) from 'y'. Got \(16, 2\)"),
    ({"columns": 1}, r"must answer scores of shape \(n, 3\) from 'y'. Got \(16, 1\)"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_refusals(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        OnnxClassifier(linear(tmp_path / "net.onnx", **changes), SPEC)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.onnx does not exist: check model\.file"):
        OnnxClassifier(tmp_path / "none.onnx", SPEC)
    (tmp_path / "bad.onnx").write_text("no protobuf")
    with pytest.raises(UsageError, match=r"bad\.onnx cannot be read as ONNX"):
        OnnxClassifier(tmp_path / "bad.onnx", SPEC)
