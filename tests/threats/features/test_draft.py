"""A first spec out of a table, and what a table must not be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from buckler.errors import DataError, UsageError
from buckler.threats.features import from_table
from buckler.threats.features.draft import draft, read_table
from buckler.threats.features.inspect import inspect
from buckler.threats.features.written import load_spec, save_spec

CSV = """amount,age,device,blocked,label
10.5,3,web,0,1
20,7,ios,0,0
1e3,5,"android, old",0,1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "table.csv"
    file.write_text(CSV)
    return file


def test_types_ranges_and_levels_as_they_occur(path: Path) -> None:
    table = read_table(path)
    spec = draft(table, immutable=["amount"], leave_out=["label"])
    assert spec.names == ("amount", "age", "device", "blocked")
    assert (spec["amount"].kind, spec["amount"].ends) == ("real", (10.5, 1000.0))
    assert (spec["age"].kind, spec["age"].ends) == ("integer", (3.0, 7.0))
    assert spec["device"].levels == ("android, old", "ios", "web")
    assert [each.change for each in spec.features] == ["none", "any", "any", "none"]
    del table["label"]
    x = from_table(spec, table)
    assert inspect(spec, x) == []
    assert x[2].tolist() == [1000.0, 5.0, 0.0, 0.0]


def test_the_draft_is_a_file_like_any_other(path: Path, tmp_path: Path) -> None:
    spec = draft(read_table(path))
    save_spec(spec, tmp_path / "features.toml")
    assert load_spec(tmp_path / "features.toml") == spec


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "a line of names and at least one row. Got 0 rows"),
        ("a,b\n", "Got 0 rows"),
        ("a,a\n1,2\n", "a name of its own. Got 'a' twice"),
        ("a,b\n1,2\n1,2,3\n", "each row must have 2 values. Got 3 in line 3"),
        ("a,b\n1,\n2,3\n", "column 'b' must hold finite numbers.*Got nan in row 0"),
        ("a,b\n1,x\n2,\n", "column 'b' has empty values"),
        ("a\n" + "\n".join(f"id{i}" for i in range(60)), "column 'a' holds 60 different texts"),
    ],
)
def test_a_table_that_gives_no_spec(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=sentence):
        draft(read_table(path))


def test_columns_and_files_that_are_not_there(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'z'\. Its columns: amount, age"):
        draft(read_table(path), immutable=["z"])
    with pytest.raises(DataError, match="all were left out"):
        draft({"a": np.zeros(2)}, leave_out=["a"])
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"a \.csv or \.parquet file. Got 'table.xls'"):
        read_table(tmp_path / "table.xls")


def test_parquet_without_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pip install pyarrow"):
        read_table(tmp_path / "table.parquet")


def test_a_column_of_one_level_is_left_alone() -> None:
    spec = draft({"a": np.array(["x", "x"]), "b": np.array([1.0, 2.0])})
    assert spec["a"].levels == ("x", "other")
    assert spec["a"].change == "none"
    assert torch.equal(from_table(spec, {"a": ["x"], "b": [2]}), torch.tensor([[0.0, 2.0]]))
