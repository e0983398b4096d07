"""The demo's table takes whatever systems were compared."""

from benchmarks.demo import table


def rate(value):
    return {"value": value, "low": value / 2, "high": min(1.0, value * 2)}


def test_a_row_a_system_and_a_struck_figure_is_struck():
    shared = {"threat": {"eps": 0.1}, "n": 10, "static": rate(0.1), "unbounded": rate(1.0)}
    shared |= {
        name: rate(0.5)
        for name in ("clean_accuracy", "accepted_right", "review_rate", "success_of_all")
    }
    systems = [
        {"system": "guard", "adaptive": rate(0.03), "struck": [], **shared},
        {"system": "a new defence", "adaptive": rate(0.4), "struck": ["too weak"], **shared},
    ]
    lines = table([{"systems": systems}] * 2).splitlines()
    assert lines[-2].startswith("| **our guard** | 10.0 %")
    assert lines[-1].startswith("| a new defence | ")
    assert "~~40.0 % (20.0–80.0)~~" in lines[-1]
    assert lines[-1].endswith("| 40.0 % |")
