"""Two runs side by side: which findings are new, which are gone, and has the rate moved?"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.redteam.journal import read_lines
from buckler.errors import UsageError
from buckler.stats import Rate

Json = dict[str, Any]
Pair = tuple[int, str]
"""(row, attack)."""

_SAME = ("threat", "data")


@dataclass(frozen=True)
class Difference:
    """rate now − rate then, with the interval of the true difference (95 %)."""

    value: float
    low: float
    high: float


def difference(now: Rate, then: Rate) -> Difference:
    """Newcombe's hybrid score interval for independent samples (Newcombe 1998, method 10).

    Over the same rows the two rates tend to rise and fall together: it is then wider than need be.
    """
    gap = now.value - then.value
    below = math.hypot(now.value - now.low, then.high - then.value)
    above = math.hypot(now.high - now.value, then.value - then.low)
    return Difference(gap, max(-1.0, gap - below), min(1.0, gap + above))


def check_since(since: Path, settings: Json) -> None:
    """Raises: UsageError if `since` is no run of the same threat and data; DataError if no run."""
    earlier = files.read_json(since / "run.json")
    files.read_json(since / "report.json")
    for name in _SAME:
        if earlier.get(name) != settings[name]:
            raise UsageError(
                f"--since must be a run with the same {name}. {since} has {earlier.get(name)}, "
                f"this run {settings[name]}"
            )


def last_run(folder: Path, settings: Json) -> Path | None:
    """The newest other run beside `folder` of the same source, threat and data, if it measured
    anything."""
    found = []
    for path in folder.parent.glob("*/report.json"):
        if path.parent == folder:
            continue
        earlier = files.read_json(path.parent / "run.json")
        same = all(earlier.get(name) == settings[name] for name in ("source", *_SAME))
        if same and files.read_json(path).get("success"):
            found.append(path)
    if not found:
        return None
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent


def compared(report: Json, lines: list[Json], since: Path) -> Json:
    """What is new since the run in that folder; each finding as {row, attack}.

    new: won now, tried then and not won. first_tried: won now, not tried then. gone: won then,
    tried now and not won. still: won in both. not_tried: won then, not tried now.
    """
    earlier: Json = files.read_json(since / "report.json")
    now, then = _won(lines), _won(read_lines(since / "state.jsonl"))
    pairs = {
        "new": [p for p, won in now.items() if won and then.get(p) is False],
        "first_tried": [p for p, won in now.items() if won and p not in then],
        "gone": [p for p, won in then.items() if won and now.get(p) is False],
        "still": [p for p, won in then.items() if won and now.get(p)],
        "not_tried": [p for p, won in then.items() if won and p not in now],
    }
    old, new = ({a["name"]: a["parameters"] for a in each["attacks"]} for each in (earlier, report))
    value: Json = {
        "run": since.name,
        "source": earlier["source"],
        "digest": earlier["digest"],
        **{
            name: [{"row": r, "attack": a} for r, a in sorted(each)] for name, each in pairs.items()
        },
        "attacks_changed": sorted(
            name for name in old.keys() | new if old.get(name) != new.get(name)
        ),
    }
    if report.get("success") and earlier.get("success"):
        rates = Rate(**report["success"]), Rate(**earlier["success"])
        value["then"] = earlier["success"]
        value["difference"] = asdict(difference(*rates))
    return value


def _won(lines: list[Json]) -> dict[Pair, bool]:
    return {(each["row"], each["attack"]): each["won"] for each in lines if "won" in each}
