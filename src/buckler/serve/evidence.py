"""The evidence beside a bundle, for people to read: what was measured before it went live."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from buckler import files
from buckler.errors import BundleError, DataError

_RATES: Final = ("clean_accuracy", "accepted_right", "review_rate", "success")


def evidence_of(path: str, digest: str) -> dict[str, Any]:
    """ruling and comparison, None where there is none; `lacks`: why, a sentence each.

    Evidence about another bundle is none.
    """
    lacks: list[str] = []
    if not path:
        lacks.append("no gateway has told the folder of this bundle")
        return {"ruling": None, "comparison": None, "lacks": lacks}
    folder = Path(path) / "evidence"
    ruling = _read(folder / "ruling.json", digest, lacks)
    comparison = _read(folder / "comparison.json", digest, lacks)
    rows = []
    try:
        for system in [] if comparison is None else comparison["systems"]:
            rates = system["adaptive"]["rates"]
            static = system["static"]["rates"].get("success")
            found = [_rate(rates.get(name)) for name in _RATES]
            struck = [str(each) for each in system["struck"]]
            rows.append(
                {"name": system["name"], "rates": [*found, _rate(static)], "struck": struck}
            )
        items = [
            {name: item[name] for name in ("name", "value", "bad_end", "op", "bar", "met", "n")}
            for item in ([] if ruling is None else ruling.get("items", ()))
        ]
    except (KeyError, TypeError, AttributeError):
        lacks.append("the evidence is of another form than this version reads")
        return {"ruling": None, "comparison": None, "lacks": lacks}
    if ruling is None:
        return {"ruling": None, "comparison": rows or None, "lacks": lacks}
    struck = [str(each) for each in ruling.get("struck", ())]
    at, passed = ruling.get("at"), ruling.get("passed") is True
    said = {"passed": passed, "at": at, "items": items, "struck": struck}
    return {"ruling": said, "comparison": rows or None, "lacks": lacks}


def _read(path: Path, digest: str, lacks: list[str]) -> Mapping[str, Any] | None:
    try:
        found = files.read_json(path)
    except (OSError, ValueError, DataError, BundleError):
        lacks.append(f"{path.name} is not there, or cannot be read")
        return None
    if not isinstance(found, Mapping) or found.get("digest") != digest:
        lacks.append(f"{path.name} is about another bundle")
        return None
    return found


def _rate(given: Any) -> tuple[float, float, float] | None:
    return None if given is None else (given["value"], given["low"], given["high"])
