"""Everything a report is made of: read once, checked once, from the files beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.evidence import read_if_there, verdict
from buckler.assess.ledger import Ledger
from buckler.errors import DataError

Json = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Where the files lie that a report is made of, and what names it.

    config: buckler.toml's text, so that all of it can be run again.
    """

    name: str
    command: str
    class_names: tuple[str, ...]
    box: tuple[float, float]
    shape: tuple[int, ...]
    output: Path
    bundle: Path
    config: str = ""


@dataclass(frozen=True)
class Facts:
    """The files' contents; None, or empty, where one is not there."""

    undefended: Json
    comparison: Json
    batteries: dict[str, Json]
    ruling: Json | None
    certificates: Json | None
    tradeoff: Json
    ablation: list[Json]
    alarms: list[Json]
    curve: list[Json]
    latency: Json | None
    build: Json | None
    ledger: Ledger | None

    @property
    def systems(self) -> list[Json]:
        """Each with `struck`: why its adaptive figure does not stand, the battery's reason too."""
        return [
            {**system, "struck": [*system["struck"], *self._failed(system["name"])]}
            for system in self.comparison["systems"]
        ]

    @property
    def guard(self) -> Json:
        return next((s for s in self.systems if s["name"] == "guard"), {})

    @property
    def adaptive(self) -> Json:
        """The guard's headline assessment; empty if there is none."""
        found: Json = self.guard.get("adaptive", {})
        return found

    @property
    def digest(self) -> str:
        return str(self.comparison["digest"])

    def _failed(self, name: str) -> list[str]:
        signs = self.batteries.get(name)
        return [signs["sentence"]] if signs and verdict(signs) == "fail" else []


def gather(evidence: Evidence) -> Facts:
    """Raises: DataError if a file is broken, of another version or about another bundle."""
    folder = evidence.bundle / "evidence"

    def read(name: str) -> Json | None:
        return read_if_there(folder / f"{name}.json")

    comparison = read("comparison") or {"systems": [], "digest": ""}
    found = {name: read(name) for name in _FILES}
    for name, value in found.items():
        if value is not None and comparison["systems"] and value["digest"] != comparison["digest"]:
            raise DataError(
                f"{folder / name}.json is about the bundle {value['digest'][:12]}, and "
                f"comparison.json about {comparison['digest'][:12]}: run buckler run again"
            )
    battery = found["battery"] or {}
    ledger = folder / "ledger.npz"
    build = evidence.output / "build" / "build.json"
    return Facts(
        undefended=read_if_there(evidence.output / "assessment" / "undefended.json")
        or {"points": [], "findings": [], "one_pixel": None},
        comparison=comparison,
        batteries={name: value for name, value in battery.items() if isinstance(value, dict)},
        ruling=found["ruling"],
        certificates=found["certificates"],
        tradeoff=found["tradeoff"] or {"points": []},
        ablation=(found["ablation"] or {"parts": []})["parts"],
        alarms=(found["alarms"] or {"alarms": []})["alarms"],
        curve=(found["curve"] or {"points": []})["points"],
        latency=found["latency"],
        build=files.read_json(build) if build.exists() else None,
        ledger=Ledger.load(ledger) if ledger.exists() else None,
    )


_FILES = (
    "battery", "ruling", "certificates", "tradeoff", "ablation", "alarms", "curve", "latency",
)  # fmt: skip
