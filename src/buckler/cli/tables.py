"""The tables a verb ends with."""

from typing import Any

from rich.table import Table

from buckler.cli.show import rate

Json = dict[str, Any]


def curve_table(value: Json) -> Table:
    """Success of each attack at each eps, on the undefended classifier."""
    points = value["points"]
    table = Table(title=f"attack success, broken / right at first (n = {points[0]['n']})")
    table.add_column("attack")
    for point in points:
        table.add_column(f"eps {point['threat']['eps']:g}", justify="right")
    for index, result in enumerate(points[0]["suite"]):
        table.add_row(result["attack"], *(rate(p["suite"][index]["rate"]) for p in points))
    table.add_row("any of them", *(rate(p["rates"]["success"]) for p in points), end_section=True)
    if value["one_pixel"]:
        success = value["one_pixel"]["rates"]["success"]
        table.add_row("one pixel", rate(success), *[""] * (len(points) - 1))
    return table


def suite_table(value: Json, title: str) -> Table:
    """Each attack on the rows that those before it did not break."""
    table = Table(title=title)
    for name in ("attack", "broken", "given", "forwards", "backwards", "seconds"):
        table.add_column(name, justify="left" if name == "attack" else "right")
    for result in value["suite"]:
        spent = (result["forwards"], result["backwards"], f"{result['seconds']:.1f}")
        table.add_row(*map(str, (result["attack"], result["broken"], result["given"], *spent)))
    table.add_section()
    success = value["rates"].get("success")
    table.add_row("any of them", rate(success) if success else "-", str(value["n"]), "", "", "")
    return table


def comparison_table(value: Json) -> Table:
    """Every system × static, adaptive, unbounded × what it costs on clean inputs."""
    systems = value["systems"]
    threat = systems[0]["adaptive"]["threat"]
    n = systems[0]["adaptive"]["n"]
    where = f"{threat['norm']} eps {threat['eps']:g}, n = {n}"
    table = Table(title=f"accepted and wrong / right at first, {where}")
    for name in ("system", "static", "adaptive", "unbounded", "clean", "accepted, right", "review"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for system in systems:
        rates, static = system["adaptive"]["rates"], system["static"]["rates"]
        adaptive = rate(rates["success"]) if "success" in rates else "-"
        table.add_row(
            "our guard" if system["name"] == "guard" else system["name"],
            rate(static["success"]) if "success" in static else "-",
            f"[strike]{adaptive}[/strike]" if system["struck"] else adaptive,
            f"{system['unbounded']['value']:.0%}",
            rate(rates["clean_accuracy"]),
            rate(rates["accepted_right"]),
            rate(rates["review_rate"]),
        )
    return table


def ruling_table(value: Json) -> Table:
    """The deployment check, item by item."""
    title = "deployment check: " + ("passed" if value["passed"] else "NOT passed")
    table = Table(title=title)
    for name in ("what", "measured", "bad end", "bar", "n", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    for item in value["items"]:
        table.add_row(
            item["name"],
            f"{item['value']:.4g}",
            f"{item['bad_end']:.4g}",
            f"{item['op']} {item['bar']:g}",
            str(item["n"]),
            "met" if item["met"] else "[red]unmet[/red]",
        )
    return table


def battery_table(batteries: dict[str, Json]) -> Table:
    """The battery's questions × systems: the worst mark of each, and the checks behind it."""
    table = Table(title="is the evaluation to be believed?")
    table.add_column("question")
    for name in batteries:
        table.add_column("our guard" if name == "guard" else name)
    columns = [
        {asked["question"]: _answered(asked["checks"]) for asked in value["questions"]}
        for value in batteries.values()
    ]
    asked = list(dict.fromkeys(question for column in columns for question in column))
    for question in asked:
        table.add_row(question, *(column.get(question, "-") for column in columns))
    table.add_section()
    table.add_row("the evaluation", *(value["verdict"] for value in batteries.values()))
    return table


def _answered(checks: list[Json]) -> str:
    for mark, colour in (("fail", "red"), ("warn", "yellow")):
        found = [f"{check['number']} {check['name']}" for check in checks if check["mark"] == mark]
        if found:
            return f"[{colour}]{mark}[/{colour}]: {', '.join(found)}"
    applied = [check for check in checks if check["mark"] == "pass"]
    return f"pass ({len(applied)} checks)" if applied else "does not apply"
