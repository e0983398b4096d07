"""PatchAttack against the exact best patch of linear models."""

import pytest
import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.patch import PatchAttack, cut, stick
from buckler.errors import UsageError
from buckler.testing import LinearModel, check_attack
from buckler.threats import Goal, LpBall
from buckler.threats.patch import Patch
from tests.attacks.exact_linear import Counting

EACH = Goal("targeted", torch.tensor([0, 1, 2, 0, 1, 2, 0]))
SMALL = {"steps": 6, "places": 3, "probe": 2}


@pytest.mark.parametrize(
    ("attack", "threat", "shape"),
    [
        (PatchAttack(**SMALL), Patch((2, 3)), (1, 5, 6)),
        (PatchAttack(**SMALL, restarts=3), Patch((1, 1)), (3, 5, 6)),
        (PatchAttack(**SMALL), Patch(0.1, box=(-0.1, 0.3)), (5, 6)),
        (PatchAttack(**SMALL, loss="ce"), Patch((1, 2), (4, 4), (-2.1179, 2.64)), (3, 5, 6)),
        (PatchAttack(**SMALL), Patch((1, 2), goal=EACH), (1, 5, 6)),
        (PatchAttack(steps=6, probe=0), Patch((5, 6)), (1, 5, 6)),
    ],
)
def test_contract(attack, threat, shape) -> None:
    check_attack(attack, threat, shape=shape)


def two_classes(shape: tuple[int, ...], away: float) -> tuple[LinearModel, Tensor]:
    """Logits (0, w·x − away), and w: no patch wins if `away` is large."""
    size = torch.Size(shape).numel()
    w = draws.normal(2, torch.tensor([0]), 0, (size,)).double()
    weight = torch.cat([torch.zeros_like(w), w])
    return LinearModel(weight, torch.tensor([0.0, -away]).double()), w[0].reshape(shape)


def places(shape: tuple[int, ...], size: tuple[int, int]) -> list[tuple[slice, slice]]:
    return [
        (slice(top, top + size[0]), slice(left, left + size[1]))
        for top in range(shape[-2] - size[0] + 1)
        for left in range(shape[-1] - size[1] + 1)
    ]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 9)])
def test_place_and_content_are_the_best_there_are(shape, size) -> None:
    model, w = two_classes(shape, 1e3)
    x = draws.uniform(1, torch.arange(12), 0, shape).double()
    y, threat = torch.zeros(12).long(), Patch(size)
    x_adv = PatchAttack(places=2)(model, x, y, threat)
    assert bool(threat.contains(x, x_adv).all())
    gain = torch.maximum(w * (1 - x), -w * x).sum(1)
    best = torch.stack([gain[:, down, across].sum((1, 2)) for down, across in places(shape, size)])
    got = Goal().objective(model(x_adv), y) - Goal().objective(model(x), y)
    torch.testing.assert_close(got, best.amax(0))


def test_a_fixed_place_is_filled_best() -> None:
    model, w = two_classes((1, 8, 8), 1e3)
    x, y = draws.uniform(1, torch.arange(5), 0, (1, 8, 8)).double(), torch.zeros(5).long()
    x_adv = PatchAttack()(model, x, y, Patch((3, 2), place=(5, 6)))
    expected = x.clone()
    expected[:, :, 5:8, 6:8] = (w[:, 5:8, 6:8] > 0).double()
    torch.testing.assert_close(x_adv, expected)


def test_of_several_places_the_one_that_probes_best_is_climbed() -> None:
    """The gradient at x points to the first pixel, where little can be had; the last one wins, but
    only at a value that the coarse steps of the probe miss."""

    def model(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        gain = (10 * flat[:, 0]).clamp_max(0.5) + 4 * (0.637 - (flat[:, -1] - 0.637).abs())
        return torch.stack([torch.full_like(gain, 2.45), gain], 1)

    x, y, threat = torch.zeros(10, 1, 3, 3), torch.zeros(10).long(), Patch((1, 1))
    one = PatchAttack(places=1, probe=2)(model, x, y, threat)
    assert bool((model(one).argmax(1) == 0).all())
    assert bool((one[:, 0, 0, 0] >= 0.05).all()), "a row that is not won is its best point"
    many = PatchAttack(places=3, probe=2)(model, x, y, threat)
    assert bool((model(many).argmax(1) == 1).all())
    probed = PatchAttack(places=3, probe=2, steps=1)(model, x, y, threat)
    assert bool((model(probed).argmax(1) == 0).all()), "the probe alone must not do it"


def test_won_rows_leave() -> None:
    model = Counting(two_classes((1, 6, 6), 1e3)[0])
    x = draws.uniform(1, torch.arange(4), 0, (1, 6, 6)).double()
    y = torch.tensor([0, 1, 1, 1])  # three are won before the attack begins
    attack = PatchAttack(steps=10, places=2, probe=3)
    x_adv = attack(model, x, y, Patch((2, 2)))
    assert torch.equal(x_adv[1:], x[1:])
    assert model.rows == 4 + 1 * (2 * (3 + 1) + 10 + 1)


def test_one_patch_for_all_rows_is_the_best_there_is() -> None:
    """One weight for all: the content is the corner of the box along it, and the place follows."""
    model, w = two_classes((1, 7, 6), 1e3)
    x, y = draws.uniform(1, torch.arange(9), 0, (1, 7, 6)).double(), torch.zeros(9).long()
    threat, attack = Patch((2, 3)), PatchAttack(universal=True)
    content, (top, left) = attack.universal_patch(model, x, y, threat)
    gain = torch.maximum((w * (1 - x)).sum(0), (-w * x).sum(0)).sum(0)
    sums = [float(gain[down, across].sum()) for down, across in places((1, 7, 6), (2, 3))]
    best = places((1, 7, 6), (2, 3))[sums.index(max(sums))]
    assert (top, left) == (best[0].start, best[1].start)
    assert torch.equal(content, (w[:, best[0], best[1]] > 0).double())
    x_adv = attack(model, x, y, threat)
    assert torch.equal(x_adv[:, :, best[0], best[1]], content.expand(9, -1, -1, -1))
    assert bool(threat.contains(x, x_adv).all())


def test_the_universal_patch_lets_go_of_rows_that_are_won() -> None:
    """Three rows are won whatever it shows and pull one way, steeply; seven need the other way."""

    def model(x: Tensor) -> Tensor:
        value = x[:, 0, 1, 1] - 0.5
        gain = torch.where(x[:, 0, 0, 0] > 0.5, value - 0.2, 20 - 5 * value)
        return torch.stack([torch.zeros_like(gain), gain], 1)

    x = torch.full((10, 1, 2, 2), 0.5)
    x[:, 0, 0, 0] = torch.tensor([1.0] * 7 + [0.0] * 3)
    threat = Patch((1, 1), place=(1, 1))
    x_adv = PatchAttack(universal=True)(model, x, torch.zeros(10).long(), threat)
    assert bool((model(x_adv).argmax(1) == 1).all())


def test_rows_that_are_won_on_the_way_do_not_mix_up_the_others() -> None:
    model, _ = two_classes((1, 8, 8), 0.0)
    x = draws.uniform(1, torch.arange(40), 0, (1, 8, 8)).double()
    margin = Goal().objective(model(x), torch.zeros(40).long())
    model.bias.data[1] -= margin.median() + 5.5  # some rows hold, others fall at different steps
    rows, y, attack = torch.arange(40), torch.zeros(40).long(), PatchAttack(places=4, restarts=2)
    together = attack(model, x, y, Patch((2, 2)), rows=rows)
    won = model(together).argmax(1) == 1
    assert 5 <= int(won.sum()) <= 35
    for row in rows.split(1):
        alone = attack(model, x[row], y[row], Patch((2, 2)), rows=row)
        torch.testing.assert_close(alone, together[row])


def test_stick_and_cut_are_inverse_to_the_last_row_and_column() -> None:
    x = draws.uniform(0, torch.arange(3), 0, (2, 5, 6))
    content = draws.uniform(1, torch.arange(3), 0, (2, 2, 3))
    corner = torch.tensor([[0, 0], [3, 3], [1, 2]])
    out = stick(x, content, corner)
    assert torch.equal(cut(out, corner, (2, 3)), content)
    assert torch.equal(out[1, :, 3:, 3:], content[1])
    assert ((out != x).sum((1, 2, 3))).tolist() == [12, 12, 12]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": 0}, r"steps, places and restarts >= 1 and probe >= 0\. Got steps=0"),
        ({"places": 0}, "places=0"),
        ({"restarts": 0}, "restarts=0"),
        ({"probe": -1}, "probe=-1"),
        ({"step_size": 0.0}, r"step_size must be > 0, a fraction of the box\. Got 0\.0"),
        ({"loss": "mse"}, "loss must be one of ce, margin"),
    ],
)
def test_impossible_parameters_are_refused(fields: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        PatchAttack(**fields)


def test_wrong_use_is_refused() -> None:
    x, y = torch.zeros(0, 1, 4, 4), torch.zeros(0).long()
    with pytest.raises(UsageError, match=r"PatchAttack needs a Patch\. Got linf eps 0\.1"):
        PatchAttack()(lambda x: x, x, y, LpBall("linf", 0.1))
    with pytest.raises(UsageError, match=r"needs at least one row\. Got none"):
        PatchAttack().universal_patch(lambda x: x, x, y, Patch((1, 1)))
