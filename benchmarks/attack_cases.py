"""What is raced against whom: one Case a row of the table, and how one Case is measured."""

import hashlib
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks import attack_peers as peers
from benchmarks.attack_peers import Setting
from benchmarks.attack_peers_art import art
from benchmarks.attack_timing import (
    Attacker,
    Counted,
    counts,
    interleaved,
    judge,
    over_floor,
    ratios,
)
from buckler import files
from buckler.errors import UsageError
from buckler.models import tuned
from buckler.protocols import Attack, Threat
from buckler.threats import LpBall, PixelBudget

Json = dict[str, Any]
CACHE = Path("out/attacks-bench")
Mode = Literal["missing", "fresh", "kept"]  # measure what is missing, all again, or nothing
_LIBRARIES: dict[str, Callable[[str, Setting], Attacker]] = {
    "adv-lib": peers.adv_lib,
    "torchattacks": peers.torchattacks,
    "foolbox": peers.foolbox,
    "ART": art,
    "pyautoattack": peers.pyautoattack,
}
_OUT_OF_THE_RACE = (0.10, 1.5)  # success under ours, median distance over ours


@dataclass(frozen=True)
class Case:
    """One attack of ours beside the peers that have it.

    ours: class in buckler.attacks and its parameters. theirs: (library, adapter's word).
    kind: "fixed" (a radius is given), "minimal" (the nearest point is sought).
    radius: instead of the net's own for the norm.
    share: of the rows asked for, for attacks that take long. colour: RGB images only.
    """

    name: str
    family: str
    ours: tuple[str, Json]
    theirs: tuple[tuple[str, str], ...]
    setting: Setting
    kind: Literal["fixed", "minimal"] = "fixed"
    share: float = 1.0
    colour: bool = False
    radius: float | None = None
    floor: bool = False


@dataclass(frozen=True)
class Scene:
    """A net, the rows of each seed (all right at first), and the radius of each norm."""

    name: str
    net: nn.Module
    hardened: bool
    rows: tuple[tuple[Tensor, Tensor], ...]
    eps: Mapping[str, float]
    key: str
    batch: int = 250


class MissingError(Exception):
    """An attack of ours that is not there (yet), or a race that was not run."""


def attack_of_ours(name: str, options: Json) -> Attack:
    """Raises: MissingError if buckler.attacks has no such class, or it takes other parameters."""
    made: Any = getattr(importlib.import_module("buckler.attacks"), name, None)
    if made is None:
        raise MissingError(f"buckler.attacks has no {name} yet")
    if name == "Transfer":
        options = {
            "surrogates": (nn.Identity(),),
            **options,
        }  # the net itself, put in when it is called
    try:
        attack: Attack = made(**options)
    except (TypeError, UsageError) as error:
        raise MissingError(f"{name}: {error}") from None
    return attack


def threat_of(norm: str, eps: float) -> Threat:
    """The ball; for L0 a budget of single values, as peers count it (the nearest point is sought,
    whatever the budget); for "pixels" one place with its channels."""
    if norm in ("l0", "pixels"):
        return PixelBudget(1, grouped=norm == "pixels")
    return LpBall(norm, eps)  # type: ignore[arg-type]


def attacker_of_ours(case: Case, eps: float) -> Attacker:
    """Ours on a tuned copy of the net, made within the time; Transfer climbs on that copy too.

    What counts propagations is attacked as it is.
    """
    made: Any = attack_of_ours(*case.ours)
    queries = case.family in ("score", "decision")

    def call(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        model = net if isinstance(net, Counted) else tuned(net, x, queries=queries)
        attack = replace(made, surrogates=(model,)) if case.ours[0] == "Transfer" else made
        x_adv: Tensor = attack(model, x, y, threat_of(case.setting.norm, eps), seed=seed)
        return x_adv

    return call


def measure(case: Case, scene: Scene, mode: Mode) -> list[Json]:
    """One row of facts an attacker; read from out/attacks-bench if nothing changed since.

    Raises: MissingError for an attack of ours that is not there, or is not measured (mode "kept").
    """
    ours = attack_of_ours(*case.ours)
    key = {
        "case": [
            case.name,
            repr(ours),
            case.theirs,
            asdict(case.setting),
            case.kind,
            case.share,
            case.radius,
        ],
        "scene": [scene.key, dict(scene.eps), scene.batch, len(scene.rows), len(scene.rows[0][0])],
        "peers": peers.versions(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "source": source_hash(ours),
    }
    return cached(
        f"{case.family}-{case.name}-{scene.name}", key, mode, lambda: _measure(case, scene)
    )


def _measure(case: Case, scene: Scene) -> list[Json]:
    fixed = case.kind == "fixed"
    eps = case.radius or scene.eps.get(case.setting.norm, 1.0)
    setting = replace(case.setting, eps=eps)
    limit = max(1, round(case.share * len(scene.rows[0][0])))
    rows = [(x[:limit], y[:limit]) for x, y in scene.rows]
    # A minimal-norm attack gets a ball that holds everything, whatever it does with eps.
    radius = eps if fixed else 1.0 if case.setting.norm == "linf" else 1e3
    attackers = {"ours": attacker_of_ours(case, radius)}
    for library, word in case.theirs:
        attackers[library] = _LIBRARIES[library](word, setting)
    x, y = rows[0]
    counted = {}
    for name in list(attackers):  # also warms everyone up
        try:
            counted[name] = counts(attackers[name], scene.net, x, y, scene.batch)
        except UsageError as error:  # ours does not take this threat
            raise MissingError(str(error)) from None
        except Exception as error:  # a peer may raise anything; ours must not
            if name == "ours":
                raise
            print(f"  {case.name}: {name} failed and is left out: {error!r}"[:200], flush=True)
            del attackers[name]
    runs = interleaved(attackers, scene.net, rows, scene.batch)
    found = []
    for name, run in runs.items():
        outcomes = [
            judge(scene.net, px, py, out, case.setting.norm, eps if fixed else None)
            for (px, py), out in zip(rows, run.points, strict=True)
        ]
        middle, least, most = ratios(runs["ours"].seconds, run.seconds)
        median = sum(one.median for one in outcomes) / len(outcomes)
        found.append(
            {
                "net": scene.name,
                "hardened": scene.hardened,
                "family": case.family,
                "attack": case.name,
                "kind": case.kind,
                "by": name,
                "n": len(x),
                "seeds": len(rows),
                "eps": eps if fixed else None,
                "success": sum(one.success for one in outcomes) / len(outcomes),
                "outside": sum(one.outside for one in outcomes),
                "median": median if median < math.inf else None,
                "forwards": counted[name].forwards / len(x),
                "backwards": counted[name].backwards / len(x),
                "seconds": sorted(run.seconds)[len(run.seconds) // 2],
                "ratio": middle,
                "ratio_range": [least, most],
            }
        )
    if case.floor:
        made = attack_of_ours(*case.ours)

        def attack(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
            return made(net, x, y, threat_of(case.setting.norm, eps), seed=seed)

        floor, over = over_floor(attack, tuned(scene.net, x), x, y, len(x))
        found[0] |= {"floor": floor, "over_floor": over}
    return found


def raced(facts: list[Json]) -> list[Json]:
    """The peers whose result is nearly as good as ours; where none is, the best one alone.

    The others are listed, not raced: giving up early is no speed.
    """
    ours, peers = facts[0], facts[1:]
    less, farther = _OUT_OF_THE_RACE
    reach = farther * (ours["median"] or math.inf) if ours["kind"] == "minimal" else math.inf
    good = [
        peer
        for peer in peers
        if peer["success"] >= ours["success"] - less and _reached(peer) <= reach
    ]
    return good or sorted(peers, key=lambda peer: (-peer["success"], _reached(peer)))[:1]


def _reached(row: Json) -> float:
    return math.inf if row["median"] is None else float(row["median"])


def cached(name: str, key: Json, mode: Mode, work: Callable[[], list[Json]]) -> list[Json]:
    """work(), kept in out/attacks-bench under a name with the hash of its settings."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:12]
    plain = "".join(c if c.isalnum() else "-" for c in name)
    path = CACHE / f"{plain}-{digest}.json"
    if mode == "kept" and not path.exists():
        raise MissingError("not measured")
    if path.exists() and mode != "fresh":
        print(f"  {name}: kept from {path}", flush=True)
        kept: list[Json] = files.read_json(path)["rows"]  # type: ignore[assignment]
        return kept
    rows = work()
    files.write_json(path, {"settings": json.loads(json.dumps(key, default=str)), "rows": rows})
    return rows


def source_hash(*attacks: Attack) -> str:
    """Of the modules these attacks are made of: a kept figure of older code is not theirs."""
    found: set[str] = set()
    waiting = {type(attack).__module__ for attack in attacks}
    while waiting:
        name = waiting.pop()
        found.add(name)
        parts = vars(sys.modules[name]).values()
        near = {getattr(part, "__module__", None) or "" for part in parts}
        waiting |= {other for other in near if other.startswith("buckler.")} - found
    content = b"".join(Path(str(sys.modules[name].__file__)).read_bytes() for name in sorted(found))
    return hashlib.sha256(content).hexdigest()[:12]
