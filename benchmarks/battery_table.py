"""What the battery's benchmark says: its bars and its tables."""

from typing import Any

from benchmarks.results_file import Bar
from buckler.stats import wilson

Json = dict[str, Any]


def bars(rows: list[Json]) -> list[Bar]:
    """As listed; what was not measured has a count that falls short."""
    zoo_ = [row for row in rows if row["part"] == "fixture"]
    made = [Bar("fixtures looked at", len(zoo_), len(zoo_), None, ">=", 14)]
    for half in ("tuned", "judged"):
        asked = [row for row in zoo_ if row["half"] == half]
        if asked:
            right = sum(row["verdict"] == row["expected"] for row in asked)
            name = f"fixtures judged right, half “{half}”, share"
            made.append(Bar(name, right / len(asked), len(asked), None, ">=", 1.0))
    nets_ = [row for row in rows if row["part"] == "honest"]
    if nets_:
        rate = wilson(sum(row["verdict"] == "FAIL" for row in nets_), len(nets_))
        made.append(
            Bar("honest nets failed, share", rate.value, rate.n, (rate.low, rate.high), "<=", 0.05)
        )
    made.append(Bar("honest nets looked at", len(nets_), len(nets_), None, ">=", 20))
    made += [
        Bar(
            "CPU seconds on a CIFAR-size net, default effort, all threads",
            row["cpu_seconds"],
            row["n"],
            None,
            "<=",
            600,
        )
        for row in rows
        if row["part"] == "cost"
    ]
    return made


def table(rows: list[Json]) -> str:
    heads = ["fixture", "half", "expected", "battery", "norm test", "AutoAttack's flags"]
    heads += ["left by the white-box", "left by who knows the trick", "why"]
    lines = ["Left: rows still right / rows right at first, 40 steps of PGD on the margin."]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    zoo_ = [row for row in rows if row["part"] == "fixture"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in zoo_]
    if zoo_:
        wrong = [row for row in zoo_ if _masked(row) != (row["expected"] != "PASS")]
        silent = [row for row in zoo_ if bool(row["flags"]) != (row["expected"] != "PASS")]
        lines += [
            "",
            f"The norm test is wrong about {len(wrong)} of {len(zoo_)}, AutoAttack's flags ",
        ]
        lines[-1] += f"about {len(silent)} (a flag where PASS is right, or none where it is not)."
    honest = [row for row in rows if row["part"] == "honest"]
    if honest:
        verdicts = [row["verdict"] for row in honest]
        told = ", ".join(f"{verdicts.count(each)} {each}" for each in ("PASS", "WARN", "FAIL"))
        masked = sum(_masked(row) for row in honest)
        lines += ["", f"{len(honest)} honest nets: {told}; the norm test calls {masked} masked."]
    lines += ["", "| net | n | battery | norm test | CPU s | why |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["part"] != "fixture":
            said = [row["name"], str(row["n"]), row["verdict"], _norm(row), str(row["cpu_seconds"])]
            lines.append(f"| {' | '.join([*said, _why(row)])} |")
    return "\n".join(lines)


def _cells(row: Json) -> list[str]:
    right = row["verdict"] == row["expected"]
    left = [("-" if row[k] is None else f"{row[k]:.0%}") for k in ("white_box", "informed")]
    return [
        row["name"], row["half"], row["expected"],
        row["verdict"] if right else f"**{row['verdict']}**",
        _norm(row), "; ".join(row["flags"]) or "none", *left, _why(row),
    ]  # fmt: skip


def _why(row: Json) -> str:
    """The checks that warn or fail; what they measured stands in the JSON beside."""
    return "; ".join(text.partition(":")[0] for text in row["marked"])


def _masked(row: Json) -> bool:
    """What the norm test says; no gradient at all is a small one."""
    return row["naive_masked"] is not False


def _norm(row: Json) -> str:
    if row["naive"] is None:
        return "no gradient"
    return f"{'masked' if row['naive_masked'] else 'not masked'} ({row['naive']['value']:.2g})"
