"""EstimatorClassifier: scikit-learn models as they come."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from buckler.errors import UsageError
from buckler.models import EstimatorClassifier, check_classifier

RNG = np.random.default_rng(0)
X = RNG.random((120, 16)).astype(np.float32)
Y = (3 * X[:, 0]).astype(int)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(8, random_state=0),
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("shape", [(16,), (1, 4, 4)])
def test_logits_are_log_probabilities(estimator, shape: tuple[int, ...]) -> None:
    fitted = estimator.fit(X, Y)
    model = EstimatorClassifier(fitted)
    x = torch.from_numpy(X[:30]).reshape(30, *shape)
    logits = model(x)
    assert logits.dtype == torch.float32
    assert bool(torch.isfinite(logits).all()), "a forest's zeros must stay numbers"
    np.testing.assert_allclose(logits.exp(), fitted.predict_proba(X[:30]), atol=1e-6)
    check_classifier(model, x, 3)
    assert model(x[:0]).shape == (0, 3)
    assert not model(x.requires_grad_(True)).requires_grad
    assert model(x.detach().double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (
            LinearSVC().fit(X, Y),
            r"must have predict_proba\. Got LinearSVC: fit it with probability=",
        ),
        (RandomForestClassifier(), "fit the RandomForestClassifier before it is assessed"),
        (make_pipeline(LogisticRegression()), "fit the Pipeline before it is assessed"),
        (LogisticRegression().fit(X, Y + 1), r"classes must be 0\.\.k-1\. Got \[.*1.*2.*3.*\]"),
        (
            LogisticRegression().fit(X, np.array(["a", "b", "c"])[Y]),
            r"classes must be 0\.\.k-1\. Got",
        ),
        (LogisticRegression().fit(X, Y * 2), r"classes must be 0\.\.k-1\. Got"),
    ],
)
def test_refusals(estimator, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        EstimatorClassifier(estimator)
