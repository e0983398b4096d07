"""The headline's table and its bars, from the facts that were measured."""

from typing import Any

from benchmarks.results_file import Bar

Json = dict[str, Any]
_MINUTES = 60.0
_ASKED: dict[str, dict[str, float]] = {
    "mnist": {"guard L∞ 0.1": 0.010, "guard L∞ 0.3": 0.04, "clean": 0.991, "review": 0.01},
    "fashion": {},
    "cifar10-20k": {},
}
_SINGLE = {"mnist": [(0.992, 0.94)], "fashion": [(0.86, 0.78), (0.84, 0.80)]}


def table(facts: Json) -> str:
    """One line a system and threat."""
    head = "| system | threat | n | accepted and wrong / right at first | clean accuracy | review |"
    lines = [
        f"{facts['name']}: attackers who know all of the system (strong on bare nets, the adaptive "
        "suite on guards). 95 % Wilson intervals. Members: " + ", ".join(facts["members"]) + ".",
        "",
        head,
        "|---|---|---|---|---|---|",
    ]
    for row in facts["systems"]:
        lines.append(
            f"| {row['system']} | {row['threat']} | {row['n']} | {_rate(row['success'])} | "
            f"{_rate(row['clean_accuracy'])} | {_rate(row['review_rate'])} |"
        )
    for row in facts["pixels"]:
        lines.append(
            f"| {row['system']} | {row['threat']} | {row['n']} | {_rate(row['success'])} |  |  |"
        )
    lines += ["", *_sentences(facts)]
    return "\n".join(lines)


def _sentences(facts: Json) -> list[str]:
    found, latency = facts["detection"], facts["latency"]
    spent = _minutes(facts)
    caught = [
        f"  - {c['system']}, {c['attack']} at {c['eps']:.3g}: caught {_rate(c['caught'])}, caught "
        f"or answered right {_rate(c['stopped'])}, of {c['fooling']}"
        for c in found["caught_at_1_percent"]
    ]
    detectors = ", ".join(facts["built"]["detectors"]["detectors"])
    weights = ", ".join(f"{weight:.2g}" for weight in facts["built"]["weights"])
    return [
        *_nothing_added(facts),
        "- Clean inputs, all "
        f"{facts['clean']['guard']['review_rate']['n']} test rows: "
        + "; ".join(
            f"{label} right {_rate(row['clean_accuracy'])}, to review {_rate(row['review_rate'])}"
            for label, row in facts["clean"].items()
        )
        + ".",
        f"- Review rate on clean inputs: target {found['target']:.2%}, mean of "
        f"{len(found['realised'])} re-splits {found['realised_mean']:.2%} "
        f"(n = {found['n'][0]} to calibrate, {found['n'][1]} to verify).",
        "- Points that fool the undefended net, whose makers know nothing of the guard; caught: "
        "sent to review at a threshold that sends 1 % of clean inputs there:",
        *caught,
        f"- Points made for the undefended net at eps {facts['eps'][0]:g}: sent to review "
        + ", ".join(f"{_rate(row['reviewed'])} by {row['system']}" for row in facts["static"])
        + ".",
        f"- Weights of the mean: {weights}. Detectors: {detectors}. Training of its members, two "
        f"cores: {spent:.0f} minutes.",
        f"- Added latency, ms p50 / p95: one row {_times(latency['one'])}, of it transforms and "
        f"detectors {_times(latency['checks'])}; 32 rows {_times(latency['batch'])}.",
    ]


def _nothing_added(facts: Json) -> list[str]:
    """A sentence for each radius at which the guard's interval reaches its best bare member."""
    found = []
    for eps in facts["eps"]:
        guard, best = _beside(facts, eps)
        theirs = best["shared"]["value"]
        if guard["success"]["high"] >= theirs:
            found.append(
                f"- At L∞ {eps:g} the guard adds nothing that could be measured: its best bare "
                f"member, {best['system']}, loses {theirs:.2%} of the same rows."
            )
    return found


def _beside(facts: Json, eps: float) -> tuple[Json, Json]:
    """The guard's row at eps, and that of its best bare member on the same inputs."""
    rows = {(row["system"], row["threat"]): row for row in facts["systems"]}
    members = [rows[member, f"L∞ {eps:g}"] for member in facts["members"]]
    return rows["guard", f"L∞ {eps:g}"], min(members, key=lambda row: row["shared"]["value"])


def bars(name: str, facts: Json) -> list[Bar]:
    """What was asked; met is computed."""
    asked, listed = _ASKED[name], []
    rows = {(row["system"], row["threat"]): row for row in facts["systems"]}
    single = facts["members"][0]
    for eps in facts["eps"]:
        threat = f"L∞ {eps:g}"
        guard, best = _beside(facts, eps)
        if f"guard {threat}" in asked:
            listed.append(
                _bar(f"guard, {threat}, adaptive", guard["success"], "<=", asked[f"guard {threat}"])
            )
        gain = best["shared"]["value"] - guard["success"]["high"]
        listed.append(
            Bar(
                f"guard's upper end under its best bare member, {threat}",
                gain,
                guard["n"],
                None,
                ">=",
                0.0,
            )
        )
    first, article = facts["clean"]["guard"], facts["clean"]["article's guard"]
    if "clean" in asked:
        listed.append(_bar("guard, clean accuracy", first["clean_accuracy"], ">=", asked["clean"]))
        listed.append(
            _bar("guard, review rate on clean inputs", first["review_rate"], "<=", asked["review"])
        )
    listed += _singles(name, rows[single, f"L∞ {max(facts['eps']):g}"])
    ours, theirs = first["review_rate"]["value"], article["review_rate"]["value"]
    listed.append(
        Bar(
            "fewer clean inputs to review than the article's guard",
            1 - ours / max(theirs, 1e-9),
            first["review_rate"]["n"],
            None,
            ">=",
            0.43,
        )
    )
    mixed = [
        0.99 * clean + 0.01 * row["reviewed"]["value"]
        for clean, row in zip((theirs, ours), facts["static"], strict=True)
    ]
    listed.append(
        Bar(
            "fewer reviews on traffic with 1 % attacks",
            1 - mixed[1] / max(mixed[0], 1e-9),
            first["review_rate"]["n"],
            None,
            ">=",
            0.67,
        )
    )
    listed += _others(name, facts)
    return listed


def _singles(name: str, row: Json) -> list[Bar]:
    """The single net's clean and robust accuracy, over all rows."""
    found = []
    robust = 1 - row["success_of_all"]["value"]
    for clean, held in _SINGLE.get(name, []):
        found.append(_bar("single net, clean accuracy", row["clean_accuracy"], ">=", clean))
        found.append(
            Bar(f"single net, robust accuracy, {row['threat']}", robust, row["n"], None, ">=", held)
        )
    return found


def _others(name: str, facts: Json) -> list[Bar]:
    pixel = {row["system"]: row["success"] for row in facts["pixels"]}
    found, latency = facts["detection"], facts["latency"]
    one = latency["one"]
    listed = [
        _bar("one pixel on the guard", pixel["guard"], "<=", 0.01),
        Bar(
            "one pixel: half of the undefended net's success, less the guard's",
            pixel["standard"]["value"] / 2 - pixel["guard"]["value"],
            pixel["guard"]["n"], None, ">=", 0.0,
        ),
        Bar(
            "review rate, mean of re-splits of calibrate and verify, points from the target",
            100 * abs(found["realised_mean"] - found["target"]), found["n"][1], None, "<=", 0.15,
        ),
        Bar(
            "review rate of the guard as calibrated, on verify, points from the target",
            100 * abs(found["verify"]["value"] - found["target"]), found["verify"]["n"], None,
            "<=", 0.15,
        ),
        Bar("added latency, batch 1, p50 ms", one["p50"], one["calls"], None, "<=", 5.0),
        Bar("added latency, batch 1, p95 ms", one["p95"], one["calls"], None, "<=", 10.0),
        Bar(
            "of it transforms and detectors, p50 ms", latency["checks"]["p50"], one["calls"], None,
            "<=", 2.0,
        ),
        Bar("training of the guard on 2 cores, minutes", _minutes(facts), 1, None, "<=", _MINUTES),
    ]  # fmt: skip
    if name == "mnist":
        listed += [
            _bar(
                f"caught at 1 %, {c['system']}: {c['attack']}, eps {c['eps']:.3g}",
                c["caught"], ">=", 0.9,
            )
            for c in found["caught_at_1_percent"] if c["system"] != "guard"
        ]  # fmt: skip
    return listed


def _bar(name: str, rate: Json, op: str, asked: float) -> Bar:
    return Bar(name, rate["value"], rate["n"], (rate["low"], rate["high"]), op, asked)


def _rate(rate: Json) -> str:
    return f"{100 * rate['value']:.2f} % ({100 * rate['low']:.2f}–{100 * rate['high']:.2f})"


def _minutes(facts: Json) -> float:
    """Of the guard's members, trained two at a time, one core each, by steps timed now."""
    seconds = [facts["seconds"][member] for member in facts["members"]]
    return float(max(*seconds, sum(seconds) / 2)) / 60


def _times(latency: Json) -> str:
    return f"{latency['p50']:.2f} / {latency['p95']:.2f}"
