"""The gateway beside LitServe and a plain FastAPI handler: python -m benchmarks.gateway [--quick].

Loopback only, bounded in time. Each server runs in processes of its own, on the last core; whoever
asks is on the first. Rounds are interleaved, and the table holds the median over rounds.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.gateway_ask import Figures, idle_ms, overload, wrk
from benchmarks.gateway_cases import Case, cases, guarded
from benchmarks.gateway_processes import Server, pinned, server, server_core
from benchmarks.results_file import Bar, write_results

BARS_MS = {"features": 0.5, "jpeg": 1.0, "binary": 1.5}
ALONE = ("buckler", "uvicorn", "fastapi", "litserve")
TOGETHER = ("buckler", "fastapi", "litserve", "litserve, batched")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 5 s of overload")
    parser.add_argument("--data-dir", help="unused: inputs are made")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)  # as the servers
    rounds, seconds = (1, 1) if quick else (7, 6)
    chosen = cases()
    rows = [row for name in chosen for row in latency(name, chosen[name], rounds, seconds)]
    rows += [added(name, chosen[name], rounds, seconds) for name in chosen]
    rows += throughput("features", chosen["features"], rounds, seconds)
    flood = overload(5.0 if quick else 60.0)
    command = "python -m benchmarks.gateway" + (" --quick" if quick else "")
    path = write_results(
        "gateway", command, [*rows, flood], bars(rows, flood), table(rows, flood), quick
    )
    print(f"wrote {path}")


def latency(name: str, case: Case, rounds: int, seconds: int) -> list[Row]:
    """An idle model, one caller: milliseconds of each server, and of decoding alone."""
    found = measured(name, case, "idle", 1, rounds, seconds, ALONE)
    with pinned(server_core()):
        decode = idle_ms(lambda: case.decode(case.body))
    return [
        {
            "what": "latency",
            "case": name,
            "input": case.name,
            "system": system,
            "p50_ms": middle(each, "p50_ms"),
            "p99_ms": middle(each, "p99_ms"),
            "decode_ms": decode,
            "beyond_decode_ms": middle(each, "p50_ms") - decode,
            "n": sum(figures.n for figures in each),
        }
        for system, each in found.items()
    ]


def added(name: str, case: Case, rounds: int, seconds: int) -> Row:
    """What the guard of one small net adds: behind HTTP, and the judging alone."""
    found = measured(name, case, "guard", 1, rounds, seconds, ("buckler",))["buckler"]
    guard, x = guarded(case.spec), case.decode(case.body)
    with pinned(server_core()):
        judging = idle_ms(lambda: guard.judge(x))
    return {
        "what": "guard",
        "case": name,
        "input": case.name,
        "system": "buckler",
        "p50_ms": middle(found, "p50_ms"),
        "judge_ms": judging,
        "n": sum(figures.n for figures in found),
    }


def throughput(name: str, case: Case, rounds: int, seconds: int) -> list[Row]:
    """The same guard, 32 callers that never stop."""
    found = measured(name, case, "guard", 32, rounds, seconds, TOGETHER)
    return [
        {
            "what": "throughput",
            "case": name,
            "input": case.name,
            "system": system,
            "per_s": middle(each, "per_s"),
            "p50_ms": middle(each, "p50_ms"),
            "p99_ms": middle(each, "p99_ms"),
            "n": sum(figures.n for figures in each),
        }
        for system, each in found.items()
    ]


def measured(
    name: str,
    case: Case,
    model: str,
    callers: int,
    rounds: int,
    seconds: int,
    systems: tuple[str, ...],
) -> dict[str, list[Figures]]:
    """Each round all systems in turn, each server stopped before the next one starts."""
    found: dict[str, list[Figures]] = {system: [] for system in systems}
    with pinned(0):
        for _ in range(rounds):
            for system in systems:
                with server(system, name, model) as running:
                    found[system].append(asked(running, case, callers, seconds))
    return found


def asked(running: Server, case: Case, callers: int, seconds: int) -> Figures:
    path, body, headers = case.path, case.body, case.headers
    if "litserve" in running.system:
        path, body, headers = "/predict", case.as_json, {"content-type": "application/json"}
    wrk(running.url + path, body, headers, callers, 1)
    time.sleep(0.2)
    return wrk(running.url + path, body, headers, callers, seconds)


def middle(figures: list[Figures], name: str) -> float:
    return statistics.median(getattr(each, name) for each in figures)


def bars(rows: list[Row], flood: Row) -> list[Bar]:
    """What was asked of the gateway."""
    listed = [
        Bar(
            f"{row['input']}, idle model, one caller: p50 ms beyond decode",
            row["beyond_decode_ms"],
            row["n"],
            None,
            "<=",
            BARS_MS[row["case"]],
        )
        for row in rows
        if row["what"] == "latency" and row["system"] == "buckler"
    ]
    rates = {row["system"]: row["per_s"] for row in rows if row["what"] == "throughput"}
    best = max(rate for system, rate in rates.items() if system.startswith("litserve"))
    n = sum(row["n"] for row in rows if row["what"] == "throughput")
    name = "requests/s at 32 callers / LitServe's, the better of batched and not"
    listed.append(Bar(name, rates["buckler"] / best, n, None, ">=", 1.5))
    for key, op, bar in (
        ("refused_p50_ms", "<", 5.0),
        ("refused_p99_ms", "<", 50.0),
        ("late", "<=", 0.0),
        ("grown_mib", "<", 16.0),
    ):
        listed.append(Bar(f"10× overload: {key}", flood[key], flood["n"], None, op, bar))
    return listed


def table(rows: list[Row], flood: Row) -> str:
    lines = ["| input | system | p50 ms | p99 ms | beyond decode |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['input']} | {row['system']} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | "
        f"{row['beyond_decode_ms']:.2f} |"
        for row in rows
        if row["what"] == "latency"
    ]
    lines += ["", "| input | the guard behind HTTP, p50 ms | judging alone |", "|---|---|---|"]
    lines += [
        f"| {row['input']} | {row['p50_ms']:.2f} | {row['judge_ms']:.2f} |"
        for row in rows
        if row["what"] == "guard"
    ]
    lines += ["", "| 32 callers, guard | requests/s | p50 ms | p99 ms |", "|---|---|---|---|"]
    lines += [
        f"| {row['system']} | {row['per_s']:.0f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} |"
        for row in rows
        if row["what"] == "throughput"
    ]
    lines += [
        "",
        f"{flood['offered_per_s']:.0f} requests/s for {flood['seconds']:.0f} s to a gateway that "
        f"judges {flood['capacity_per_s']:.0f}: {flood['accepted']} answered within "
        f"{flood['deadline_s']:g} s, {flood['late']} after or with 504, {flood['refused']} refused "
        f"(p50 {flood['refused_p50_ms']:.1f} ms, p99 {flood['refused_p99_ms']:.1f} ms), "
        f"{flood['other']} otherwise; memory grew by {flood['grown_mib']:.1f} MiB.",
        "",
        "One caller and 32: wrk. Overload: benchmarks/gateway_load.py, open loop; refusals and "
        "answers are counted from when they were sent. All processes of a server share one core. "
        "LitServe is sent JSON, files and tensors in base64. A plain handler judges in its event "
        "loop, checks nothing and holds nobody back. uvicorn: the server under the gateway, alone: "
        "it reads the body and answers a constant.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
