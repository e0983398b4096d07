"""What the headline measures of one system, in groups of rows: a stopped run goes on."""

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.headline_nets import CACHE
from buckler import draws, files
from buckler.assess import Ledger, assess
from buckler.assess.parallel import side_by_side
from buckler.assess.target import Target
from buckler.attacks import suites
from buckler.attacks.suites import Suite
from buckler.data import Dataset, Split
from buckler.protocols import Threat
from buckler.stats import Rate

Json = dict[str, Any]
_GROUP = 250


def attacked(
    what: str,
    target: Target,
    split: Split,
    rows: Tensor,
    threat: Threat,
    suite: Suite,
    folder: Path,
    identity: str,
    source: Target | None = None,
) -> tuple[Ledger, list[Json]]:
    """The ledger of `rows` of the split under the suite, and each attack's tally, group by group;
    a group that was measured with the same system, threat and suite is read again.

    Args:
        identity: of the target: weights, thresholds.
        source: as in assess: attacks made for this one are shown to the target.
    """
    made_for = "" if source is None else source.name
    facts = repr((identity, threat.to_dict(), suite, made_for, rows.tolist()))
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]
    place = folder / "attacked" / f"{what.replace(' ', '-')}-{key}"
    groups = list(rows.split(_GROUP))

    def measure(index: int) -> None:
        path = place / f"{index}.npz"
        if path.exists():
            return
        part = groups[index]
        x, y = split.x[part], split.y[part]
        found = assess(target, x, y, threat.take(part), suite, rows=part, source=source)
        tally = [
            {"attack": r.attack, "broken": r.broken, "given": r.given}
            for r in found.suite
            if r.given
        ]
        files.write_json(place / f"{index}.json", {"tally": tally, "seconds": found.seconds})
        found.ledger.save(path)
        print(
            f"  {what}: group {index + 1} of {len(groups)}, {found.seconds:.0f} s, "
            f"success {found.ledger.rates()['success'].value:.4f}",
            flush=True,
        )

    jobs = [partial(measure, index) for index in range(len(groups))]
    side_by_side(jobs, os.cpu_count() or 1)
    ledgers = [Ledger.load(place / f"{index}.npz") for index in range(len(groups))]
    tallies: dict[str, Json] = {}
    for index in range(len(groups)):
        for row in files.read_json(place / f"{index}.json")["tally"]:  # type: ignore[attr-defined]
            total = tallies.setdefault(row["attack"], {**row, "broken": 0, "given": 0})
            total["broken"] += row["broken"]
            total["given"] += row["given"]
    return joined(ledgers), list(tallies.values())


def joined(ledgers: Sequence[Ledger]) -> Ledger:
    columns = [column.name for column in fields(Ledger)]
    return Ledger(**{c: np.concatenate([getattr(part, c) for part in ledgers]) for c in columns})


def drawn(split: Split, count: int, seed: int) -> Tensor:
    """`count` rows of the split at random by seed (all, if there are no more)."""
    return draws.permutation(draws.derive(seed, "rows"), 0, len(split))[:count].sort().values


def guard_suite(pool: Tensor, seconds_matter: bool, guarded: bool = True) -> Suite:
    """The adaptive suite: every kind of attacker, fewer of each where time is short."""
    steps, restarts, queries = (40, 2, 250) if seconds_matter else (60, 3, 1000)
    return suites.adaptive(pool, steps, restarts, queries, guarded=guarded)


def pixels_tried(target: Target, x: Tensor, y: Tensor, values: Sequence[float]) -> Tensor:
    """(n,) bool: some pixel, its channels set to any of the values, gives an accepted wrong answer.
    Every pixel and every mix of values is tried: no search that could miss one."""
    shape = x.shape[1:]
    places = shape[-1] * shape[-2]
    won = torch.zeros(len(x), dtype=torch.bool)
    for index in range(len(x)):
        tried = x[index].expand(places, *shape).clone().flatten(2)
        for colour in itertools.product(values, repeat=shape[0]):
            at = tried.clone()
            at[torch.arange(places), :, torch.arange(places)] = torch.tensor(colour)
            for part in at.reshape(-1, *shape).split(_GROUP):
                answer, accepted = target.answer(part)
                if bool((accepted & (answer != y[index])).any()):
                    won[index] = True
                    break
            if won[index]:
                break
    return won


def chunked(place: Path, count: int, job: Callable[[slice], Tensor], size: int = 50) -> Tensor:
    """A (count,) bool found in groups of rows, each kept in a file."""
    cuts = [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def measure(cut: slice) -> None:
        path = place / f"{cut.start}.json"
        if not path.exists():
            files.write_json(path, {"won": job(cut).tolist()})

    side_by_side([partial(measure, cut) for cut in cuts], os.cpu_count() or 1)
    found = [files.read_json(place / f"{cut.start}.json")["won"] for cut in cuts]
    return torch.tensor([value for part in found for value in part])  # type: ignore[attr-defined]


def place_of(data: Dataset) -> Path:
    return CACHE / data.name.replace(", ", "-").replace(" ", "-")


def interval(rate: Rate) -> tuple[float, float]:
    return (rate.low, rate.high)
