"""Recommendation, on a market made here: the fewest clicks that list an item, and campaigns found.

1,500 users of eight tastes, 1,200 items of falling popularity. Histories are attacked one at a time
against EASE (Steck 2019); campaigns are fake users that all have one item of the tail.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import Bar, percent
from buckler.certify.injection import least_injection
from buckler.ops.crowds import FEWEST, Usual, alike, crowds
from buckler.stats import Rate, wilson

Json = dict[str, Any]
Profiles = NDArray[np.bool_]
_USERS, _ITEMS, _TASTES, _FILLER = 1500, 1200, 8, 60
_TOP, _ASKED, _CHOICE = 10, 0.01, 100
_SHARES = (0.005, 0.01, 0.03)
MAKERS = ("popular items", "items at random", "copies of real users")


def measured(quick: bool) -> tuple[list[Json], list[Bar], str]:
    """Rows, bars and table."""
    rng = np.random.default_rng(0)
    wanted = _market(rng)
    *reference, before, clean = (_users(rng, wanted) for _ in range(6))
    clicks = _clicks(rng, clean, 4 if quick else 40)
    found = _campaigns(rng, Usual.of(*reference), before, clean, 4 if quick else 60)
    return [clicks, *found], _bars(clicks, found), _table(clicks, found)


def _market(rng: np.random.Generator) -> NDArray[np.float64]:
    popularity = np.arange(1, _ITEMS + 1) ** -0.7
    wanted: NDArray[np.float64] = popularity * np.exp(rng.normal(0, 1, (_TASTES, _ITEMS)))
    return wanted / wanted.sum(1, keepdims=True)


def _users(rng: np.random.Generator, wanted: NDArray[np.float64]) -> Profiles:
    found = np.zeros((_USERS, _ITEMS), bool)
    for row in found:
        taste = wanted[rng.integers(_TASTES)]
        row[rng.choice(_ITEMS, max(10, rng.poisson(_FILLER)), replace=False, p=taste)] = True
    return found


def _clicks(rng: np.random.Generator, profiles: Profiles, pairs: int) -> Json:
    """The least additions for a (user, item of the tail), over the items most had."""
    kept = np.argsort(-profiles.sum(0), kind="stable")[:_CHOICE]
    few = profiles[:, kept].astype(np.float64)
    inverse = np.linalg.inv(few.T @ few + 50.0 * np.eye(len(kept)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    rows: list[Json] = []
    for _ in range(pairs):
        history = few[rng.integers(len(few))].copy()
        target = int(rng.choice(np.flatnonzero(history[_CHOICE // 2 :] == 0))) + _CHOICE // 2
        began = time.process_time()
        got = least_injection(weights, history, target, top=_TOP, seconds=150)
        rows.append(
            {
                "least": got.least,
                "found": len(got.items),
                "exact": got.exact,
                "possible": got.possible,
                "seconds": time.process_time() - began,
            }
        )
    return {"clicks": rows}


def _fakes(rng: np.random.Generator, clean: Profiles, target: int, n: int, made: str) -> Profiles:
    fakes = np.zeros((n, _ITEMS), bool)
    popular = np.argsort(-clean.sum(0))[: 2 * _FILLER]
    for row in fakes:
        if made == "copies of real users":
            row[:] = clean[rng.integers(len(clean))]
        else:
            pool = popular if made == "popular items" else np.arange(_ITEMS)
            row[rng.choice(pool, _FILLER, replace=False)] = True
    fakes[:, target] = True
    return fakes


def _campaigns(
    rng: np.random.Generator, usual: Usual, before: Profiles, clean: Profiles, each: int
) -> list[Json]:
    count, _ = alike(clean)
    tail = np.flatnonzero((count < np.quantile(count, 0.5)) & (count >= FEWEST))
    rows: list[Json] = [_false(usual, before, clean)]
    for made in MAKERS:
        for share in _SHARES:
            hits, falsely, judged = 0, 0, 0
            for _ in range(each):
                target = int(rng.choice(tail))
                fakes = _fakes(rng, clean, target, round(share * _USERS), made)
                both = np.concatenate([clean, fakes])
                flagged = {crowd.item for crowd in crowds(usual, before, both, _ASKED)}
                hits += target in flagged
                falsely += len(flagged - {target})
                judged += int((both.sum(0) >= FEWEST).sum()) - 1
            rows.append(
                {
                    "made": made,
                    "share": share,
                    "found": asdict(wilson(hits, each)),
                    "false": asdict(wilson(falsely, judged)),
                }
            )
    return rows


def _false(usual: Usual, before: Profiles, clean: Profiles) -> Json:
    flagged = len(crowds(usual, before, clean, _ASKED))
    judged = int((clean.sum(0) >= FEWEST).sum())
    return {"made": "no campaign", "share": 0.0, "false": asdict(wilson(flagged, judged))}


def _table(clicks: Json, found: list[Json]) -> str:
    rows = clicks["clicks"]
    exact = sum(row["exact"] for row in rows)
    can = [row["least"] for row in rows if row["possible"]]
    seconds = float(np.median([row["seconds"] for row in rows]))
    lines = [
        "| campaign: fake users made of | share of users | found | other items flagged |",
        "|---|---|---|---|",
    ]
    for row in found:
        hit = percent(row["found"]) if "found" in row else "–"
        lines.append(f"| {row['made']} | {row['share']:.1%} | {hit} | {percent(row['false'])} |")
    few, half, most = (np.quantile(can, q) for q in (0.1, 0.5, 0.9))
    return "\n".join(
        [
            *lines,
            "",
            f"- To list an item of the tail among one user's first {_TOP} (EASE, {_CHOICE} items): "
            f"{half:.0f} additions at the median ({few:.0f} to {most:.0f} for four fifths); proved "
            f"to be the fewest for {exact} of {len(rows)}, {seconds:.2f} s of processor time each.",
        ]
    )


def _bars(clicks: Json, found: list[Json]) -> list[Bar]:
    rows = clicks["clicks"]
    at = {(row["made"], row["share"]): row for row in found}
    hits = {made: at[made, 0.03]["found"] for made in MAKERS}
    clean = Rate(**at["no campaign", 0.0]["false"])
    return [
        Bar(
            "recommendation: least injections proved exact",
            sum(row["exact"] for row in rows) / len(rows), len(rows), None, ">=", 1.0,
        ),
        *(
            Bar(
                f"recommendation: campaigns of 3 % of users found, made of {made}",
                hit["value"], hit["n"], (hit["low"], hit["high"]), ">=", 0.9,
            )
            for made, hit in hits.items()
        ),
        Bar(
            "recommendation: clean items flagged",
            clean.value, clean.n, (clean.low, clean.high), "<=", _ASKED,
        ),
    ]  # fmt: skip
