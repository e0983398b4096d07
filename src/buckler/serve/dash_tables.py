"""What the dashboard's tables hold, in print: the first of a row names it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from buckler.ops.impact import Impact, Range
from buckler.serve.figures import begins, when
from buckler.serve.screen import percent
from buckler.store.report import QueueStats
from buckler.store.suspects import Mark
from buckler.store.traffic import Sent, Slot

Rows = list[list[Any]]
_QUESTIONS: Final = {
    "more": "calls more inputs SUSPICIOUS",
    "fewer": "calls fewer inputs SUSPICIOUS",
    "missed": "accepts more known attacks",
    "wrong": "accepts more known clean inputs wrongly",
}
_PAIRS: Final = {
    "clients": "clients' requests",
    "golden_clean": "golden, clean",
    "golden_missed": "golden, attacks missed",
    "golden_wrong": "golden, accepted wrong",
}


def verdict_rows(slots: Sequence[Slot]) -> Rows:
    """Newest first."""
    rows: Rows = []
    for at, slot in reversed(list(zip(begins(slots), slots, strict=True))):
        total = slot.accepted + slot.suspicious
        rate = percent(slot.suspicious / total) if total else "no rows"
        rows.append([at, slot.accepted, slot.suspicious, rate])
    return rows


def attack_rows(slots: Sequence[Slot]) -> Rows:
    found = [
        [at, slot.suspicious, slot.confirmed] for at, slot in zip(begins(slots), slots, strict=True)
    ]
    return found[::-1]


def bin_rows(names: Sequence[str], found: Sequence[Mapping[str, Any]]) -> Rows:
    signs = {"more": "▲ more", "fewer": "▼ fewer", "": "not known"}
    return [
        [name, each["rows"], percent(each["share"]), signs.get(each["says"], each["says"])]
        for name, each in zip(names, found, strict=True)
    ]


def question_rows(evidence: Mapping[str, Any]) -> Rows:
    worse, good = evidence["worse"], evidence["as_good"]
    return [
        [_QUESTIONS.get(name, name), _enough(worse.get(name)), _enough(good.get(name))]
        for name in dict.fromkeys([*worse, *good])
    ]


def pair_rows(evidence: Mapping[str, Any]) -> Rows:
    return [
        [_PAIRS.get(name, name), f"{each['n']:g}", f"{each['plus']:g}", f"{each['minus']:g}"]
        for name, each in evidence["pairs"].items()
    ]


def arm_rows(evidence: Mapping[str, Any]) -> Rows:
    return [
        [name, evidence[name]["requests"], evidence[name]["errors"], evidence[name]["slow"]]
        for name in ("stable", "candidate")
    ]


def reviewer_rows(stats: QueueStats) -> Rows:
    rows: Rows = []
    for name, count in stats.answers.items():
        rate = stats.reviewers.get(name)
        said = "not measured"
        if rate is not None:
            said = f"{rate.k} of {rate.n}: {percent(rate.low)} to {percent(rate.high)}"
        rows.append([name, count, said])
    return rows


def week_rows(claim: Impact) -> Rows:
    unit = claim.prices.unit
    ranges = {
        f"without the guard, {unit}": claim.before,
        f"with it, {unit}": claim.after,
        f"saved, {unit}": claim.saved,
    }
    money = [[name, amount(r), f"{r.low:,.0f}", f"{r.high:,.0f}"] for name, r in ranges.items()]
    hours = claim.hours
    told = [f"{each:,.1f}" for each in (hours.value, hours.low, hours.high)]
    return [*money, ["hours of review saved", *told]]


def amount(found: Range) -> str:
    return f"{found.value:,.0f}"


def run_rows(runs: Mapping[str, Sequence[Mark]]) -> Rows:
    return [
        [
            client or "any: what is near the run",
            ", ".join(sorted({mark.kind for mark in marks})),
            max(mark.near for mark in marks),
            len(marks),
            when(min(mark.since for mark in marks)),
            when(max(mark.until for mark in marks)),
        ]
        for client, marks in runs.items()
    ]


def sender_rows(senders: Sequence[Sent]) -> Rows:
    return [[each.client, each.suspicious, each.confirmed] for each in senders]


def item_rows(ruling: Mapping[str, Any]) -> Rows:
    return [
        [
            item["name"],
            f"{item['value']:.4g}",
            f"{item['bad_end']:.4g}",
            f"{item['op']} {item['bar']:g}",
            item["n"],
            "✓ yes" if item["met"] else "✗ no",
        ]
        for item in ruling["items"]
    ]


def system_rows(comparison: Sequence[Mapping[str, Any]]) -> Rows:
    return [
        [
            system["name"] + (" (struck)" if system["struck"] else ""),
            *(
                "not measured"
                if rate is None
                else f"{percent(rate[0])} ({percent(rate[1])} to {percent(rate[2])})"
                for rate in system["rates"]
            ),
        ]
        for system in comparison
    ]


def _enough(share: float | None) -> str:
    if share is None:
        return "not asked"
    return f"{100 * max(0.0, share):.0f} %{', enough' if share >= 1 else ''}"
