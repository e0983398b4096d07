"""The fifteen corruptions: ranked severities, keyed draws, and the formulas that can be checked."""

import pytest
import torch
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import Goal
from buckler.threats.corruption import CORRUPTIONS, Corruption

SHAPES = [(1, 8, 8), (3, 12, 9), (3, 32, 32), (20, 17)]
DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow")
DRAWN += ("frost", "fog", "elastic_transform")
STILL = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "contrast")
STILL += ("pixelate",)


def pictures(n: int, shape: tuple[int, ...], box: tuple[float, float] = (0.0, 1.0)):
    """Blobs of middle grey and colour: noise all over would look the same after more noise."""
    full = shape if len(shape) == 3 else (1, *shape)
    nodes = draws.uniform(0, torch.arange(n), 0, (full[0], 5, 5))
    x = functional.interpolate(nodes, full[1:], mode="bilinear", align_corners=True)
    return (box[0] + (box[1] - box[0]) * (0.05 + 0.8 * x)).clamp(*box).reshape(n, *shape)


def test_the_fifteen_are_there() -> None:
    assert len(CORRUPTIONS) == 15
    assert Corruption().kinds == tuple(CORRUPTIONS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severities_rank_and_rows_are_their_own(kind: str, shape: tuple[int, ...]) -> None:
    threat, rows = Corruption(), 100 + torch.arange(24)
    x = pictures(24, shape)
    before = x.clone()
    levels = [threat.corrupt(x, kind, severity, 0, rows) for severity in range(1, 6)]
    for out in levels:
        assert out.shape == x.shape
        assert bool(threat.contains(x, out).all())
    far = torch.stack([threat.distance(x, out).mean() for out in levels])
    assert float(far[0]) > 0
    assert bool((far.diff() > 0).all()), f"severities must rank: {far.tolist()}"
    assert torch.equal(x, before)
    some = torch.tensor([7, 2])
    alone = threat.corrupt(x[some], kind, 5, 0, rows[some])
    torch.testing.assert_close(alone, levels[4][some], atol=1e-6, rtol=0)
    twins = threat.corrupt(x[:1].expand_as(x[:2]), kind, 5, 0, rows[:2])
    assert torch.equal(twins[0], twins[1]) == (kind not in DRAWN)
    other = threat.corrupt(x, kind, 5, 1, rows)
    assert torch.equal(other, levels[4]) == (kind not in DRAWN)


@pytest.mark.parametrize("kind", STILL)
def test_a_plain_grey_stays_plain(kind: str) -> None:
    """Blurs, displacements and cells take means of what is there, at the border too."""
    x = torch.full((2, 1, 11, 9), 0.4, dtype=torch.float64)
    for severity in (1, 5):
        out = Corruption().corrupt(x, kind, severity, 0, torch.arange(2))
        torch.testing.assert_close(out, x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("box", [(-2.1179, 2.64), (0.0, 255.0)])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_another_box_is_the_same_corruption_scaled(kind: str, box: tuple[float, float]) -> None:
    x, rows, low, width = pictures(3, (3, 10, 10)), torch.arange(3), box[0], box[1] - box[0]
    here = Corruption().corrupt(x, kind, 3, 0, rows)
    moved = (low + width * x).clamp(*box)
    there = Corruption(box=box).corrupt(moved, kind, 3, 0, rows)
    assert bool(Corruption(box=box).contains(moved, there).all())
    gap = ((there - low) / width - here).abs()
    # A rounding to 8 bits or a draw's threshold may fall to the other side in a few values.
    assert float((gap > 1e-4).double().mean()) < 0.02


def test_noise_has_the_moments_it_says() -> None:
    """20,000 values each; every bound is about five standard errors wide (false alarm < 1e-5)."""
    x, rows = torch.full((20, 1, 32, 32), 0.5, dtype=torch.float64), torch.arange(20)
    gauss = Corruption().corrupt(x, "gaussian_noise", 1, 0, rows)
    assert float(gauss.mean()) == pytest.approx(0.5, abs=0.003)
    assert float(gauss.std()) == pytest.approx(0.08, rel=0.03)
    shot = Corruption().corrupt(x, "shot_noise", 1, 0, rows)  # 60 photons: variance x / 60
    assert float(shot.mean()) == pytest.approx(0.5, abs=0.004)
    assert float(shot.var()) == pytest.approx(0.5 / 60, rel=0.06)
    dark = Corruption().corrupt(x * 0.4, "shot_noise", 5, 0, rows)  # 3 photons, mean 0.6
    chances = {0: 0.5488, 1: 0.3293, 2: 0.0988}  # Poisson(0.6)
    for count, chance in chances.items():
        share = float(((dark * 3).round() == count).double().mean())
        assert share == pytest.approx(chance, abs=0.018)
    salt = Corruption().corrupt(x, "impulse_noise", 5, 0, rows)
    assert float((salt == 1).double().mean()) == pytest.approx(0.135, abs=0.012)
    assert float((salt == 0).double().mean()) == pytest.approx(0.135, abs=0.012)


def test_formulas() -> None:
    x, rows = pictures(2, (3, 8, 8)).double(), torch.arange(2)

    def corrupt(kind: str, severity: int, x: torch.Tensor = x) -> torch.Tensor:
        return Corruption().corrupt(x, kind, severity, 0, rows)

    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(corrupt("contrast", 1), mean + 0.4 * (x - mean))
    cells = functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(corrupt("pixelate", 2), cells)
    grey = x[:, :1]
    torch.testing.assert_close(corrupt("brightness", 1, grey), (grey + 0.1).clamp(0, 1))
    bright = corrupt("brightness", 1)
    torch.testing.assert_close(bright / bright.amax(1, keepdim=True), x / x.amax(1, keepdim=True))
    black = corrupt("brightness", 2, torch.zeros_like(x))
    torch.testing.assert_close(black, torch.full_like(x, 0.2))


def test_a_point_becomes_a_disk_and_nothing_is_lost() -> None:
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[:, :, 20, 20] = 1
    for kind in ("defocus_blur", "motion_blur"):
        out = Corruption().corrupt(x, kind, 5, 0, torch.tensor([0]))
        assert float(out.sum()) == pytest.approx(1)
        assert float(out.amax()) < 0.5
    disk = Corruption().corrupt(x, "defocus_blur", 5, 0, torch.tensor([0]))
    torch.testing.assert_close(disk, disk.transpose(2, 3))
    torch.testing.assert_close(disk, disk.flip(2))


def test_random_points() -> None:
    threat, x, rows = Corruption(), pictures(40, (3, 9, 9)), torch.arange(40)
    p = threat.random_point(x, 0, rows, 0)
    assert bool(threat.contains(x, p).all())
    assert bool((threat.distance(x, p) > 0).all())
    some = torch.tensor([17, 4])
    torch.testing.assert_close(threat.random_point(x[some], 0, some, 0), p[some], atol=1e-6, rtol=0)
    assert not torch.equal(threat.random_point(x, 0, rows, 1), p)
    assert threat.random_point(x[:0], 0, rows[:0], 0).shape == (0, 3, 9, 9)


def test_contains_is_the_box() -> None:
    x = torch.zeros(3, 1, 8, 8)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0], x_adv[1, 0, 0, 0] = 1.1, torch.nan
    assert Corruption().contains(x, x_adv).tolist() == [False, False, True]


def test_values() -> None:
    threat = Corruption(("fog", "snow"), 2, goal=Goal("targeted", torch.tensor([1, 2])))
    assert threat.take(torch.tensor([1])).goal.target.tolist() == [2]
    assert threat.with_goal(Goal()).to_dict() == {
        "kind": "corruption",
        "kinds": ["fog", "snow"],
        "severity": 2,
        "goal": "untargeted",
    }
    assert str(threat) == "fog, snow corruption to 2"
    assert str(Corruption()) == "common corruption to 5"
    assert threat.unbounded(torch.zeros(1, 1, 8, 8)).severity == 5


def test_what_cannot_be_is_refused() -> None:
    x, rows = torch.zeros(1, 1, 7, 8), torch.tensor([0])
    with pytest.raises(UsageError, match=r"kinds must be one or more of gaussian.*Got \('rain',\)"):
        Corruption(("rain",))
    with pytest.raises(UsageError, match=r"kinds must be one or more"):
        Corruption(())
    with pytest.raises(UsageError, match=r"severity must be 1 to 5\. Got 6"):
        Corruption(severity=6)
    with pytest.raises(UsageError, match="box must be"):
        Corruption(box=(0, 0))
    for other in (x, torch.zeros(1, 2, 8, 8)):
        with pytest.raises(UsageError, match=r"1 or 3 channels and at least 8 x 8 pixels\. Got"):
            Corruption().corrupt(other, "fog", 1, 0, rows)
    with pytest.raises(UsageError, match="has no projection: attack it with Corruptions"):
        Corruption().project(x, x)
    with pytest.raises(UsageError, match="has no steepest step"):
        Corruption().steepest(x)
