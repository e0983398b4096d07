"""Named columns in and out, and one sentence for each way a table can be wrong."""

import math

import numpy as np
import pytest
import torch

from buckler.errors import DataError, UsageError
from buckler.threats.features import from_table, to_table
from tests.threats.features import shop

TABLE = {
    "amount": [10.0, 20.5],
    "age": [3, 4],
    "mails": np.array([1, 2]),
    "income": [0.5, 0.7],
    "device": ["web", "ios"],
    "paid": ["no", "yes"],
    "share": ["0.25", "1"],
    "ratio": [0.25, 0.4],
}


def test_a_table_there_and_back() -> None:
    x = from_table(shop.SPEC, dict(reversed(TABLE.items())))
    assert x.dtype == torch.float32
    assert x[1].tolist() == pytest.approx([20.5, 4, 2, 0.7, 0, 1, 0, 1, 1, 0.4])
    assert shop.SPEC.column_names[4:7] == ("device=web", "device=ios", "device=android")
    back = to_table(shop.SPEC, shop.SPEC.decode(x))
    assert back["device"].tolist() == ["web", "ios"]
    assert back["paid"].tolist() == ["no", "yes"]
    assert back["income"].tolist() == [0.5, 0.7]
    assert back["age"].dtype == np.int64
    assert torch.equal(from_table(shop.SPEC, back), x)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"age": None}, "Missing: age"),
        ({"colour": [1, 2]}, "the spec does not know: colour. Leave them out"),
        ({"age": [3]}, "one length. Got lengths \\[1, 2\\]"),
        ({"age": [[3], [4]]}, "one value a row. Got the shape \\(2, 1\\)"),
        ({"device": ["web", "tv"]}, "levels \\(web, ios, android\\). Got 'tv' in row 1"),
        ({"income": [0.5, 0.6]}, "levels \\(0.1, 0.5, 0.7\\). Got 0.6 in row 1"),
        ({"amount": [1.0, math.nan]}, "fill in what is missing first. Got nan in row 1"),
        ({"amount": [1.0, None]}, "column 'amount' must hold numbers. Got None"),
        ({"share": [0.5, "half"]}, "column 'share' must hold numbers. Got 'half'"),
        ({"age": [3.5, 4]}, "must hold whole numbers. Got 3.5 in row 0"),
    ],
)
def test_a_table_that_is_wrong(change: dict[str, object], sentence: str) -> None:
    table = {name: each for name, each in {**TABLE, **change}.items() if each is not None}
    with pytest.raises(DataError, match=sentence):
        from_table(shop.SPEC, table)


def test_rows_of_another_width() -> None:
    with pytest.raises(UsageError, match=r"the spec's 10 columns.*Got \(2, 9\)"):
        shop.SPEC.decode(torch.zeros(2, 9))
