"""Which way a foreign model wants its input, or a refusal to guess."""

import pytest
import torch

from buckler.errors import UsageError
from buckler.models.layout import arrange, layout

FITS = [
    ((3, 8, 9), (3, 8, 9), "as it is"),
    ((8, 9, 3), (3, 8, 9), "channels last"),
    ((None, None, 3), (3, 8, 9), "channels last"),
    ((8, 8, 1), (1, 8, 8), "channels last"),
    ((8, 8), (1, 8, 8), "no channel"),
    ((64,), (1, 8, 8), "flat"),
    ((5,), (5,), "as it is"),
    ((None,), (5,), "as it is"),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("expected", "shape", "how"), FITS)
def test_one_way_fits(expected, shape, how, first) -> None:
    assert layout(expected, shape, first=first) == how
    x = torch.rand(2, *shape)
    found = arrange(x, how)
    assert all(w in (None, g) for w, g in zip(expected, found.shape[1:], strict=True))
    assert sorted(found.flatten().tolist()) == sorted(x.flatten().tolist())


def test_channels_last_moves_the_channel() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(arrange(x, "channels last")[:, :, :, 1], x[:, 1])


@pytest.mark.parametrize(
    ("expected", "shape"),
    [((3, 3, 3), (3, 3, 3)), ((None, None, None), (3, 8, 8)), ((192,), (3, 8, 8))],
)
def test_two_ways_fit(expected, shape) -> None:
    assert layout(expected, shape, first=True) in ("as it is", "flat")
    with pytest.raises(UsageError, match=r"first or last: save the model with an Input"):
        layout(expected, shape, first=False)


@pytest.mark.parametrize("expected", [(3, 8), (4, 8, 8), (65,), (), (1, 1, 8, 8)])
def test_nothing_fits(expected) -> None:
    with pytest.raises(UsageError, match=r"takes inputs of shape .*, and the data have \(1, 8, 8"):
        layout(expected, (1, 8, 8), first=True)
