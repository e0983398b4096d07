"""While the evidence is made, people see how far it has come."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from buckler.assess import of_model
from buckler.cli import show, steps_assess
from buckler.threats import LpBall


def test_the_curve_and_the_batteries_tell_their_progress_as_one(trained, dataset, monkeypatch):
    told = []

    @contextmanager
    def bar(title):
        yield lambda *shares: told.append(shares)

    monkeypatch.setattr(show, "bar", bar)
    project = SimpleNamespace(
        config=SimpleNamespace(
            threat=SimpleNamespace(norm="l1", curve=(1.0, 2.0)),
            assess=SimpleNamespace(queries=20, steps=20),
        ),
        threat=LpBall("l1", 2.0),
        threat_at=lambda eps: LpBall("l1", eps),
    )
    x, y = dataset["test"].x[:8], dataset["test"].y[:8]
    targets = [of_model(trained, dataset.spec, x, name) for name in ("undefended", "guard")]
    curve, batteries = steps_assess._curve_and_batteries(
        project, *targets, x, y, torch.arange(len(x))
    )
    assert len(curve["points"]) == 2
    assert set(batteries) == {"undefended", "guard"}
    done, totals = zip(*told, strict=True)
    assert len(told) > 50  # a step a check and more of the curve: no bar that stands still
    assert set(totals) == {max(done)}
