"""A bundle that answers smoothed: its verdicts carry a radius over HTTP, and no other's do."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from buckler.errors import PolicyError
from buckler.guard.answering import Behind, Smoothed
from buckler.serve import create_app

from .tiny import BLANK, CLASSIFY, LEFT, RIGHT, body, image, settings, tiny_guard

RADII = (0.1, 0.2)


def asked(guard, *images):
    with TestClient(create_app(guard, settings(), log=False)) as client:
        found = client.post(CLASSIFY, json=body(*images))
        schema = client.get("/openapi.json").json()
    assert found.status_code == 200, found.text
    return found.json()["verdicts"], schema


def test_a_verdict_carries_its_radius() -> None:
    guard = replace(tiny_guard(), answering=Smoothed(0.25, RADII, 500, 32), secret=b"s")
    edge = image(left=0.5, right=0.5)
    (left, right, middle), schema = asked(guard, LEFT, RIGHT, edge)
    assert (left["prediction"], left["status"]) == ("left", "ACCEPTED")
    assert (right["prediction"], right["status"]) == ("right", "ACCEPTED")
    assert left["radius"] in RADII
    assert right["radius"] in RADII
    judged = guard.judge(edge)[0]
    assert (judged.status, judged.radius) == (middle["status"], middle.get("radius"))
    assert "radius" in str(schema["paths"][CLASSIFY]["post"]["responses"]["200"])


def test_no_other_bundle_claims_one() -> None:
    plain, _ = asked(tiny_guard(), LEFT)
    masked, _ = asked(replace(tiny_guard(), answering=Behind((2, 2), 2, 0.0, True)), LEFT, BLANK)
    assert all("radius" not in verdict for verdict in (*plain, *masked))
    assert masked[0]["status"] == "ACCEPTED"


def test_a_smoothed_bundle_needs_the_secret_of_its_draws() -> None:
    guard = replace(tiny_guard(), answering=Smoothed(0.25, RADII, 500, 32))
    with pytest.raises(PolicyError, match="set BUCKLER_SECRET"):
        create_app(guard, settings(), log=False)
