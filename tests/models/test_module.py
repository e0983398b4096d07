"""TorchClassifier and check_classifier: what is accepted, what is refused, what stays untouched."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from buckler.errors import DataError, UsageError
from buckler.models import TorchClassifier, check_classifier
from buckler.models.module import looks_like_probabilities
from buckler.models.nets import digits_cnn

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
        )


class Wrapped(nn.Module):
    """A model in the manner of a hub: it answers with an object."""

    def __init__(self, output: object = None) -> None:
        super().__init__()
        self.net, self.output = net(), output

    def forward(self, x: Tensor) -> object:
        return SimpleNamespace(logits=self.net(x)) if self.output is None else self.output


def test_the_callers_module_is_untouched() -> None:
    given = net().train()
    given[1].weight.grad = torch.ones_like(given[1].weight)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    model = TorchClassifier(given)
    model(X)
    assert all(part.training for part in given.modules())
    assert all(parameter.requires_grad for parameter in given.parameters())
    assert torch.equal(given[1].weight.grad, torch.ones_like(given[1].weight))
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert not given[4]._forward_pre_hooks
    with torch.no_grad():
        given[4].weight.zero_()
    assert float(model(X).abs().max()) > 0, "a copy, not a view"


def test_a_module_in_training_mode_is_copied_in_eval_mode() -> None:
    model = TorchClassifier(net().train())
    assert not any(part.training for part in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model(X), model(X))
    torch.testing.assert_close(model(X), net().eval()(X))
    torch.testing.assert_close(model(X[:1]), model(X)[:1])


def test_gradients_reach_the_input() -> None:
    x = X.clone().requires_grad_(True)
    model = TorchClassifier(net())
    assert float(torch.autograd.grad(model(x)[:, 0].sum(), x)[0].abs().max()) > 0


def test_an_object_with_logits_is_accepted() -> None:
    model = TorchClassifier(Wrapped())
    torch.testing.assert_close(model(X), net().eval()(X))
    check_classifier(Wrapped().eval(), X, 3)


def test_the_embedding_is_the_input_of_the_last_linear() -> None:
    model = TorchClassifier(net())
    logits, embed = model.with_embedding(X)
    assert embed.shape == (5, 6)
    torch.testing.assert_close(model.module[4](embed), logits)
    assert torch.equal(model(X), logits)


def test_no_linear_no_embedding() -> None:
    model = TorchClassifier(nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()))
    logits, embed = model.with_embedding(X)
    assert logits.shape == (5, 3)
    assert embed is None


def test_an_embedding_that_is_no_row_of_numbers_is_none() -> None:
    per_token = nn.Sequential(nn.Flatten(2), nn.Linear(64, 3), nn.Flatten())
    assert TorchClassifier(per_token).with_embedding(X)[1] is None


@pytest.mark.parametrize("output", [{"logits": 1}, [1.0], "text"])
def test_other_outputs_are_refused(output: object) -> None:
    sentence = (
        rf"a tensor of logits \(n, k\), or an object with \.logits\. Got {type(output).__name__}"
    )
    with pytest.raises(UsageError, match=sentence):
        TorchClassifier(Wrapped(output))(X)
    with pytest.raises(UsageError, match=sentence):
        check_classifier(Wrapped(output).eval(), X, 3)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (net().train(), r"in training mode .*: call model\.eval\(\) first"),
        (
            nn.Sequential(net().eval(), nn.Softmax(1)).eval(),
            "returns probabilities .*: drop the fin",
        ),
        (net()[:2].eval(), r"logits of shape \(n, 3\)\. Got \(5, 6\) for 5 rows"),
        (lambda x: x.flatten(1)[:2, :3], r"logits of shape \(n, 3\)\. Got \(2, 3\) for 5 rows"),
        (lambda x: x.flatten(), r"logits of shape \(n, 3\)\. Got \(320,\) for 5 rows"),
        (lambda x: x[:, :, :3], r"Got \(5, 1, 3, 8\)"),
    ],
)
def test_a_model_that_would_mislead_is_refused(model, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_classifier(model, X, 3)


def test_one_part_in_training_mode_is_enough() -> None:
    model = net().eval()
    model[3].train()
    with pytest.raises(UsageError, match="training mode"):
        check_classifier(model, X, 3)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least one row is needed\. Got 0"):
        check_classifier(net().eval(), X[:0], 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="NaN or infinite"):
        check_classifier(lambda x: x.flatten(1)[:, :3] * value, X, 3)


def test_check_looks_at_64_rows_and_leaves_no_graph() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append((len(x), torch.is_grad_enabled()))
        return x.flatten(1)[:, :3] - 1

    check_classifier(model, X.repeat(50, 1, 1, 1), 3)
    assert seen == [(64, False)]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (torch.tensor([[0.3, 0.7], [1.0, 0.0]]), True),
        (torch.tensor([[0.3, 0.7], [1.0, 0.1]]), False),
        (torch.tensor([[-0.3, 1.3]]), False),
        (torch.tensor([[0.3, 0.7]]).log(), False),
    ],
)
def test_what_looks_like_probabilities(logits: Tensor, expected: bool) -> None:
    assert looks_like_probabilities(logits) is expected


def test_the_digits_net() -> None:
    model = TorchClassifier(digits_cnn())
    check_classifier(model.eval(), X, 10)
    assert model.with_embedding(X)[1].shape == (5, 128)
