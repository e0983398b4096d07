"""What is raced, kept and asked for: no peer needs to be installed."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import attack_cases, attack_list, attack_peers, attack_suites
from benchmarks import attacks as benchmark
from buckler.attacks import PGD


def facts(by: str, success: float, ratio: float, median: float | None = None, **more: Any) -> Any:
    row = {"net": "n", "hardened": False, "family": "gradient", "attack": "A", "kind": "fixed"}
    row |= {"by": by, "n": 10, "seeds": 1, "success": success, "ratio": ratio, "median": median}
    return {**row, "ratio_range": [ratio, ratio], "eps": 0.1, "seconds": 1.0, **more}


def test_a_peer_that_wins_far_less_is_listed_and_not_raced() -> None:
    group = [facts("ours", 0.9, 1), facts("quick", 0.7, 1.1), facts("good", 0.85, 4)]
    assert [peer["by"] for peer in attack_cases.raced(group)] == ["good"]
    bars = benchmark.speed_bars(group)
    assert bars[0].value == 4
    assert "good" in bars[0].name
    assert bars[0].met


def test_a_minimal_norm_peer_that_ends_far_away_is_not_raced() -> None:
    near = [facts("ours", 1, 1, 0.2), facts("far", 1, 1, 0.4), facts("none", 1, 1, None)]
    near = [{**row, "kind": "minimal", "family": "minimal"} for row in near]
    near.append({**near[0], "by": "as near", "ratio": 5.0})
    assert [peer["by"] for peer in attack_cases.raced(near)] == ["as near"]
    distance = [bar for bar in benchmark.speed_bars(near) if "median" in bar.name]
    assert distance[0].value == pytest.approx(1)


def test_where_no_peer_is_as_good_the_best_of_them_is_raced() -> None:
    group = [facts("ours", 1, 1, 0.2), facts("far", 1, 2, 0.9), facts("near", 1, 3, 0.4)]
    group = [{**row, "kind": "minimal", "family": "minimal"} for row in group]
    assert [peer["by"] for peer in attack_cases.raced(group)] == ["near"]


def test_the_gap_is_to_the_best_peer_even_if_it_is_slow() -> None:
    group = [facts("ours", 0.90, 1), facts("fast", 0.85, 3), facts("best", 0.91, 9)]
    gap = next(bar for bar in benchmark.speed_bars(group) if "points" in bar.name)
    assert gap.value == pytest.approx(1.0)
    assert not gap.met


def test_a_hardened_net_has_its_own_bar() -> None:
    group = [facts(by, 0.9, 1.5, hardened=True) for by in ("ours", "peer")]
    assert benchmark.speed_bars(group)[0].bar == 1.3


def test_what_was_measured_is_kept_until_its_settings_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_cases, "CACHE", tmp_path)
    calls: list[int] = []

    def work() -> list[dict[str, Any]]:
        calls.append(1)
        return [{"success": 0.5, "median": None}]

    first = attack_cases.cached("a b/c", {"steps": 1}, "missing", work)
    assert attack_cases.cached("a b/c", {"steps": 1}, "missing", work) == first
    assert len(calls) == 1
    with pytest.raises(attack_cases.MissingError, match="not measured"):
        attack_cases.cached("a b/c", {"steps": 2}, "kept", work)
    attack_cases.cached("a b/c", {"steps": 2}, "missing", work)
    attack_cases.cached("a b/c", {"steps": 2}, "kept", work)
    attack_cases.cached("a b/c", {"steps": 2}, "fresh", work)
    assert len(calls) == 3


def test_the_source_hash_follows_what_an_attack_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = attack_cases.source_hash(PGD())
    read = Path.read_bytes

    def changed(path: Path) -> bytes:
        return read(path) + (b"#" if path.name == "engine.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    assert attack_cases.source_hash(PGD()) != before


def test_an_attack_that_is_not_there_is_missing_and_not_an_error() -> None:
    with pytest.raises(attack_cases.MissingError, match="no Nonesuch"):
        attack_cases.attack_of_ours("Nonesuch", {})
    with pytest.raises(attack_cases.MissingError, match="PGD"):
        attack_cases.attack_of_ours("PGD", {"strides": 3})


def test_every_case_names_a_family_and_a_known_library() -> None:
    libraries = {"adv-lib", "torchattacks", "foolbox", "ART", "pyautoattack"}
    names = [case.name for case in attack_list.cases(quick=False)]
    assert len(set(names)) == len(names)
    for case in attack_list.cases(quick=True):
        assert case.family in attack_list.FAMILIES
        assert case.theirs
        assert {library for library, _ in case.theirs} <= libraries


def test_a_suite_meets_only_the_rows_that_are_left() -> None:
    import torch

    from buckler.testing import LinearModel

    net = LinearModel(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, -0.5]))
    x = torch.tensor([[0.1], [0.3], [0.45], [0.9]])
    y = torch.zeros(4).long()  # the last row is wrong at first
    seen: list[list[int]] = []

    class Reach:
        def __init__(self, by: float) -> None:
            self.by, self.name = by, f"reach {by}"

        def __call__(self, net: Any, x: Any, y: Any, threat: Any, *, seed: int, rows: Any) -> Any:
            seen.append(rows.tolist())
            return x + self.by

    suite: Any = (Reach(0.1), Reach(0.25))
    found = attack_suites.run_suite(net, x, y, suite, "linf", 0.25)
    assert seen == [[0, 1, 2], [0, 1]]
    assert found["alive"] == [0]
    assert found["robust"] == 0.25
    assert found["left"] == {"clean": 3, "reach 0.1": 2, "reach 0.25": 1}


def test_bars_against_autoattack() -> None:
    def row(by: str, alive: list[int], seconds: float) -> Any:
        known = {"net": "n", "norm": "linf", "eps": 0.1, "n": 1000, "by": by}
        return {**known, "alive": alive, "robust": len(alive) / 1000, "seconds": seconds}

    rows = [row("pyautoattack", [1, 2, 3, 4], 30.0), row("ours, standard", [1, 2, 3, 9], 10.0)]
    rows.append(row("ours, strong", [1, 2, 3], 2.0))
    bars = {bar.name: bar for bar in attack_suites.bars(rows)}
    title = "n linf 0.1 · ours, standard"
    assert bars[f"{title}: rows with its verdict"].value == pytest.approx(0.998)
    assert bars[f"{title}: points from AutoAttack's"].value == 0
    assert bars[f"{title}: times faster"].value == 3
    strong = "n linf 0.1 · ours, strong"
    assert bars[f"{strong}: points over AutoAttack's"].value == pytest.approx(-0.1)
    assert bars[f"{strong}: times faster"].met
    assert bars["strong: share of nets at or under AutoAttack's"].value == 1


def test_a_published_figure_is_a_bar_with_its_interval() -> None:
    row = {"net": "n", "norm": "linf", "eps": 0.1, "n": 500, "by": "ours, PGD-40"}
    row |= {"alive": [], "robust": 0.95, "seconds": 1.0, "known": 0.958}
    bar = attack_suites.bars([row])[0]
    assert bar.value == pytest.approx(-0.8)
    assert bar.interval is not None
    assert bar.interval[0] < bar.value < bar.interval[1]
    assert bar.met


def test_versions_are_asked_for_lazily() -> None:
    assert set(attack_peers.LIBRARIES) == {
        "adv-lib",
        "torchattacks",
        "foolbox",
        "ART",
        "pyautoattack",
    }
