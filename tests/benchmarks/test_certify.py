"""The certificates' benchmark: its reference counts what the plain loop would, its coverage sees a
test that lies."""

import pytest
import torch
from torch import nn

from benchmarks import certify_coverage, certify_linear, certify_smoothing
from benchmarks.certify import _table
from benchmarks.certify_linear import Known, ResNet2b, Scaled, again
from benchmarks.certify_nets import flat
from buckler import draws
from buckler.certify import Crown


def test_the_reference_counts_what_the_net_itself_answers(monkeypatch) -> None:
    monkeypatch.setattr(certify_smoothing, "N", 1000)
    monkeypatch.setattr(certify_smoothing, "LADDER", (50, 500, 700, 1000))
    torch.manual_seed(0)
    net, x = flat(16).eval().requires_grad_(False), torch.rand(3, 1, 4, 4)
    with torch.inference_mode():
        found = certify_smoothing.fixed(net, x, 0.5)
    key = draws.derive(0, "reference")
    noise = torch.cat([draws.normal(key, torch.arange(s, s + 500), 0, (1, 4, 4)) for s in (0, 500)])
    for row in range(3):
        hit = net(x[row] + 0.5 * noise).argmax(1) == found.guess[row]
        counted = [int(hit[:n].sum()) for n in (50, 500, 700, 1000)]
        assert all(abs(a - b) <= 1 for a, b in zip(found.hits[row].tolist(), counted, strict=True))


def test_coverage_sees_a_test_that_lies(monkeypatch) -> None:
    honest = certify_coverage.coverage(0.05, 0.5, 60, seed=0)
    assert honest["wrong"] <= 8  # 60 at 5 %: more in less than 1 of 100 seeds
    monkeypatch.setattr(certify_coverage, "climb", lambda drawn, guess, bars, *rest: (len(bars), 1))
    assert certify_coverage.coverage(0.05, 0.5, 10, seed=0)["wrong"] == 10


def test_soundness_sees_bounds_that_are_a_little_too_tight(monkeypatch) -> None:
    assert certify_linear.sound(800, nets=4)["outside"] == 0
    honest = Crown.bounds

    def tighter(self, low, high):
        least, most = honest(self, low, high)
        middle, radius = (most + least) / 2, (most - least) / 2
        return middle - 0.3 * radius, middle + 0.3 * radius

    monkeypatch.setattr(Crown, "bounds", tighter)
    assert certify_linear.sound(800, nets=4)["outside"] > 0


def test_a_residual_net_of_the_published_shape_is_bounded() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Scaled(), ResNet2b()).eval().requires_grad_(False)
    x = torch.rand(2, 3, 32, 32)
    low, high = Crown(net, "interval").bounds(x - 0.01, x + 0.01)
    points = x + 0.02 * torch.rand(40, 2, 3, 32, 32) - 0.01
    logits = net(points.flatten(0, 1)).unflatten(0, (40, 2))
    assert bool(((logits >= low - 1e-5) & (logits <= high + 1e-5)).all())
    assert len(net.state_dict()) == 18, "as many as the published file holds"
    assert "1.layer1.0.shortcut.0.weight" in net.state_dict()


def test_finished_rows_are_kept(monkeypatch, tmp_path) -> None:
    calls = []

    class Bounds:
        def __init__(self, net) -> None:
            pass

        def differences(self, low, high, y):
            calls.append(len(y))
            return torch.full((len(y), 10), -1.0).scatter(1, y[:, None], 0.0)

    class Rows:
        x_test, y_test = torch.zeros(50, 1, 28, 28), torch.zeros(50, dtype=torch.int64)

    monkeypatch.setattr(certify_linear, "OUT", tmp_path)
    monkeypatch.setattr(certify_linear, "Interval", Bounds)
    monkeypatch.setattr(certify_linear, "oracle", lambda name, folder: None)
    monkeypatch.setattr(certify_linear, "load_data", lambda name, folder: Rows)
    known = Known("kw_mnist", "mnist", 0.1, "interval", 99.0, 50, 0.2)
    assert again(known, tmp_path, 40)["n"] == 40
    whole = again(known, tmp_path, 50)
    assert (whole["n"], whole["certified"], whole["apart"]) == (50, 100.0, 1.0)
    assert calls == [20, 20, 10]


@pytest.mark.parametrize("value", [[{"part": "a", "x": 1.0}, {"part": "b", "y": [0.5, 1.0]}]])
def test_each_kind_of_row_has_a_table(value) -> None:
    assert _table(value).split("\n") == [
        *("", "| x |", "|---|", "| 1 |", "", "| y |", "|---|", "| 0.5 to 1 |"),
    ]
