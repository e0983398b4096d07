"""Goal: who has won, told from the logits alone."""

import pytest
import torch

from buckler.errors import UsageError
from buckler.threats import Goal

N = 500
GOALS = [
    Goal(),
    Goal("targeted", 2),
    Goal("targeted", torch.arange(N) % 4),
    Goal("guarded"),
    Goal("denial"),
]


@pytest.mark.parametrize("shift", [0.0, -1000.0])
@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.kind)
def test_objective_is_positive_exactly_where_the_answer_is_allowed(
    goal: Goal, shift: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, 5, generator=generator, dtype=torch.float64) + shift
    y = torch.randint(4, (N,), generator=generator)
    answer = logits.argmax(1)
    won = goal.allowed(y, 5)[torch.arange(N), answer]
    assert torch.equal(goal.objective(logits, y) > 0, won)
    assert 0 < int(won.sum()) < N


def test_allowed_by_hand() -> None:
    y = torch.tensor([0, 2])
    assert Goal().allowed(y, 4).int().tolist() == [[0, 1, 1, 1], [1, 1, 0, 1]]
    assert Goal("targeted", 1).allowed(y, 4).int().tolist() == [[0, 1, 0, 0], [0, 1, 0, 0]]
    each = Goal("targeted", torch.tensor([3, 0]))
    assert each.allowed(y, 4).int().tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert Goal("guarded").allowed(y, 4).int().tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    assert Goal("denial").allowed(y, 4).int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]


def test_objective_by_hand() -> None:
    logits, y = torch.tensor([[1.0, 5.0, 2.0, 9.0]]), torch.tensor([0])
    values = {
        "untargeted": 9.0 - 1.0,
        "guarded": 5.0 - 9.0,
        "denial": 9.0 - 5.0,
    }
    for kind, value in values.items():
        assert float(Goal(kind).objective(logits, y)) == value
    assert float(Goal("targeted", 1).objective(logits, y)) == 5.0 - 9.0


def test_a_tie_is_no_win() -> None:
    assert float(Goal().objective(torch.tensor([[1.0, 1.0]]), torch.tensor([0]))) == 0


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.kind)
def test_take_slices_the_targets(goal: Goal) -> None:
    logits = torch.randn(N, 5, generator=torch.Generator().manual_seed(1))
    y = torch.arange(N) % 4
    idx = torch.tensor([400, 3, 3, 77])
    some = goal.take(idx).objective(logits[idx], y[idx])
    assert torch.equal(some, goal.objective(logits, y)[idx])
    none = goal.take(idx[:0]).objective(logits[:0], y[:0])
    assert none.shape == (0,)


@pytest.mark.parametrize(
    ("kind", "target"),
    [("targeted", None), ("untargeted", 1), ("guarded", 0), ("denial", 2)],
)
def test_a_target_goes_with_targeted_only(kind: str, target: int | None) -> None:
    sentence = rf"a target goes with kind 'targeted' .*Got kind '{kind}' and target {target}"
    with pytest.raises(UsageError, match=sentence):
        Goal(kind, target)


@pytest.mark.parametrize("target", [3, -1, torch.tensor([0, 3]), torch.tensor([-1, 0])])
def test_a_target_that_is_no_class_is_refused(target) -> None:
    with pytest.raises(UsageError, match=r"target must be a class, 0 to 2\. Got"):
        Goal("targeted", target).allowed(torch.tensor([0, 1]), 3)


def test_an_unknown_kind_is_refused() -> None:
    """Taken for untargeted, a misspelt "targetted" would report another attack than was asked."""
    with pytest.raises(UsageError, match=r"kind must be .*Got 'everything'"):
        Goal("everything")
