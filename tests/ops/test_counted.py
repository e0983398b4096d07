"""Counts of impact from what was reviewed: closed forms, and what is said where they lack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.counted import Stratum, as_sample, lacking


def test_all_reviewed_is_counted_as_it_is() -> None:
    found = as_sample(Stratum(50, 50, 30, 25), Stratum(950, 950, 10, 8))
    assert found is not None
    assert found.prevalence == (40, 1000)
    assert found.before.counts == ((33, 40), None, None)
    assert found.after.counts == ((8, 40), (30, 40), (20, 960))


def test_the_better_reviewed_kind_is_thinned_to_the_share_of_the_other() -> None:
    # 1 % of ACCEPTED rows reviewed, all SUSPICIOUS ones: 1 % of those count.
    found = as_sample(Stratum(1000, 1000, 600, 500), Stratum(90_000, 900, 3, 2))
    assert found is not None
    assert found.prevalence == (9, 910)
    assert found.before.counts == ((7, 9), None, None)
    assert found.after.counts == ((2, 9), (6, 9), (4, 901))


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 50), st.integers(0, 50))
def test_rates_are_possible_whatever_was_reviewed(s: int, a: int, x: int, y: int) -> None:
    suspicious = Stratum(s + 100, min(s, s + 100), min(s, x), min(s, x, y))
    accepted = Stratum(a * 7, a, min(a, y), min(a, x, y))
    found = as_sample(suspicious, accepted)
    if found is not None:
        attacks, rows = found.prevalence
        assert 0 < attacks < rows <= s + 100 + a * 7
        assert rows <= suspicious.decided + accepted.decided + 3


@pytest.mark.parametrize(
    ("suspicious", "accepted", "said"),
    [
        (Stratum(0, 0, 0, 0), Stratum(0, 0, 0, 0), "no row was answered"),
        (Stratum(5, 5, 5, 5), Stratum(9, 0, 0, 0), "no ACCEPTED row was reviewed"),
        (Stratum(5, 0, 0, 0), Stratum(9, 9, 1, 1), "no SUSPICIOUS row was decided"),
        (Stratum(5, 5, 0, 0), Stratum(9, 9, 0, 0), "no attack was confirmed"),
    ],
)
def test_what_lacks_is_said(suspicious: Stratum, accepted: Stratum, said: str) -> None:
    assert lacking(suspicious, accepted)[0].startswith(said)
    assert as_sample(suspicious, accepted) is None


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="rows >= decided >= attacks >= wrong"):
        Stratum(1, 2, 0, 0)
