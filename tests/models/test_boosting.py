"""Boosters from their own files: margins against what their libraries say of probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import LightGBMClassifier, XGBoostClassifier, check_classifier, differentiable

xgboost = pytest.importorskip("xgboost", reason='needs xgboost: pip install -e ".[tabular]"')
lightgbm = pytest.importorskip("lightgbm", reason='needs lightgbm: pip install -e ".[tabular]"')

RNG = np.random.default_rng(0)
X = RNG.random((200, 6)).astype(np.float32)
THREE, TWO = (3 * X[:, 0]).astype(int), (X[:, 0] > 0.5).astype(int)
NAMES = ("a", "b", "c")


def spec(classes: int, features: int = 6) -> InputSpec:
    return InputSpec((features,), NAMES[:classes])


def xgb(path: Path, y: np.ndarray, **settings):
    fitted = xgboost.XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1, **settings).fit(X, y)
    fitted.save_model(path)
    return fitted


def lgb(path: Path, y: np.ndarray, **settings):
    fitted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1, **settings).fit(X, y)
    fitted.booster_.save_model(path)
    return fitted


@pytest.mark.parametrize("ending", [".json", ".ubj"])
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_xgboost_margins(tmp_path: Path, ending: str, y: np.ndarray) -> None:
    fitted = xgb(tmp_path / f"booster{ending}", y)
    model = XGBoostClassifier(tmp_path / f"booster{ending}", spec(y.max() + 1))
    agrees(model, fitted, y)


@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_lightgbm_raw_scores(tmp_path: Path, y: np.ndarray) -> None:
    settings = {"sigmoid": 2.0} if y is TWO else {}
    fitted = lgb(tmp_path / "booster.txt", y, **settings)
    agrees(LightGBMClassifier(tmp_path / "booster.txt", spec(y.max() + 1)), fitted, y)


def agrees(model, fitted, y: np.ndarray) -> None:
    """softmax of the logits is the library's own probability."""
    x = torch.from_numpy(X[:40])
    logits = model(x)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.softmax(1), fitted.predict_proba(X[:40]), atol=1e-5)
    check_classifier(model, x, int(y.max()) + 1)
    assert model(x[:0]).shape == (0, int(y.max()) + 1)
    assert model(x.double()).dtype == torch.float64
    assert not differentiable(model, x)


def test_early_stopping_is_followed(tmp_path: Path) -> None:
    fitted = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    noise = RNG.integers(0, 3, 100)
    fitted.fit(X, THREE, eval_set=[(X[:100], noise)], verbose=False)
    fitted.save_model(tmp_path / "booster.json")
    assert fitted.get_booster().num_boosted_rounds() > fitted.best_iteration + 1
    agrees(XGBoostClassifier(tmp_path / "booster.json", spec(3)), fitted, THREE)


def test_refusals(tmp_path: Path) -> None:
    xgb(tmp_path / "x.json", THREE)
    lgb(tmp_path / "l.txt", THREE)
    for kind, name in ((XGBoostClassifier, "x.json"), (LightGBMClassifier, "l.txt")):
        with pytest.raises(UsageError, match=r"must know 2 classes, as the data. Got 3"):
            kind(tmp_path / name, spec(2))
        with pytest.raises(UsageError, match=r"must take 7 features a row, as the data. Got 6"):
            kind(tmp_path / name, spec(3, features=7))
        with pytest.raises(UsageError, match=r"does not exist: check model.file"):
            kind(tmp_path / "none", spec(3))
        (tmp_path / "bad").write_text("{}")
        with pytest.raises(UsageError, match="cannot be read as a"):
            kind(tmp_path / "bad", spec(3))
    (tmp_path / "bad").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UsageError, match="cannot be read as a LightGBM file"):
        LightGBMClassifier(tmp_path / "bad", spec(3))


def test_a_lightgbm_file_that_was_cut_off_is_refused_before_its_library_reads_it(
    tmp_path: Path,
) -> None:
    """The library ends the whole process on such a file."""
    lgb(tmp_path / "whole.txt", THREE)
    content = (tmp_path / "whole.txt").read_bytes()
    end = content.index(b"end of trees")
    edited = content.replace(b"\nnum_leaves=", b"\nnum_leaves=1", 1)
    for wrong in (content[: end // 2], content[: end - 9], content[:end], edited):
        assert wrong != content
        (tmp_path / "cut.txt").write_bytes(wrong)
        with pytest.raises(UsageError, match="cannot be read as a LightGBM file"):
            LightGBMClassifier(tmp_path / "cut.txt", spec(3))
    (tmp_path / "cut.txt").write_bytes(content[: end + len(b"end of trees")])
    LightGBMClassifier(tmp_path / "cut.txt", spec(3))


def test_regressions_are_no_classifiers(tmp_path: Path) -> None:
    xgboost.XGBRegressor(n_estimators=2).fit(X, X[:, 0]).save_model(tmp_path / "x.json")
    with pytest.raises(UsageError, match="Got the objective 'reg:squarederror'"):
        XGBoostClassifier(tmp_path / "x.json", spec(2))
    fitted = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(X, X[:, 0])
    fitted.booster_.save_model(tmp_path / "l.txt")
    with pytest.raises(UsageError, match="Got the objective 'regression'"):
        LightGBMClassifier(tmp_path / "l.txt", spec(2))
