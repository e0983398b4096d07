"""One alert a key: told once, again after a cooldown, and over when it is over."""

from dataclasses import replace

import pytest

from buckler.errors import UsageError
from buckler.ops.alarms import Alarm
from buckler.ops.alerts import (
    COOLDOWN_S,
    QUIET_S,
    Finding,
    again,
    alertmanager,
    found,
    in_words,
    is_over,
    link,
    new,
)
from buckler.ops.realised import false_positives

BUNDLE = "b" * 64
ALARM = Alarm("depth", "page", 7, 400, 12, 0.01)
FINDING = found(ALARM, BUNDLE, ("1", "2", "3", "4"))


def test_what_an_alarm_says_to_people():
    assert FINDING.key == f"{BUNDLE}/depth"
    assert FINDING.tier == "page"
    assert FINDING.facts["rate"] == 0.03
    assert FINDING.facts["expected"] == 0.01
    assert FINDING.examples == ("1", "2", "3")
    assert FINDING.action


@pytest.mark.parametrize(
    ("statistic", "runbook"),
    [
        ("tail", "tail"),
        ("depth", "depth"),
        ("suspicious up", "suspicious-up"),
        ("suspicious down", "suspicious-down"),
        ("class an owl, a hen", "class"),
        ("confidence up", "confidence"),
        ("confidence down", "confidence"),
    ],
)
def test_every_chart_has_a_runbook(statistic, runbook):
    assert found(replace(ALARM, statistic=statistic), BUNDLE).runbook == runbook


def test_confidence_says_which_way_it_went():
    assert "surer" in found(replace(ALARM, statistic="confidence up"), BUNDLE).title
    assert "less sure" in found(replace(ALARM, statistic="confidence down"), BUNDLE).title


def test_told_once_and_again_after_the_cooldown():
    alert, told = new("id", FINDING, 0.0), []
    for at in range(0, int(2 * COOLDOWN_S["page"]) + 1, 600):
        alert, tell = again(alert, FINDING, float(at))
        told += [at] if tell else []
    assert told == [3600, 7200]
    assert alert.count == 14


def test_who_takes_care_is_left_alone_unless_it_gets_worse():
    ticket = replace(FINDING, tier="ticket")
    alert = replace(new("id", ticket, 0.0), state="acknowledged", by="ann")
    alert, tell = again(alert, ticket, 1e6)
    assert (alert.state, tell) == ("acknowledged", False)
    alert, tell = again(alert, FINDING, 1e6 + 1)
    assert (alert.state, alert.finding.tier, tell) == ("open", "page", True)
    alert, tell = again(alert, ticket, 1e6 + 2)
    assert (alert.finding.tier, tell) == ("page", False), "it does not become a ticket again"


def test_a_clock_that_went_back_silences_nothing():
    alert = new("id", FINDING, 1e9)
    alert, tell = again(alert, FINDING, 100.0)
    assert tell
    assert not again(alert, FINDING, 101.0)[1]
    assert is_over(new("id", FINDING, 1e9), 100.0)


def test_quiet_is_over_but_only_for_the_monitors_own():
    alert = new("id", FINDING, 0.0)
    assert not is_over(alert, QUIET_S - 1)
    assert is_over(alert, QUIET_S)
    assert not is_over(replace(alert, state="resolved"), QUIET_S)
    assert not is_over(new("id", replace(FINDING, source="red team"), 0.0), 1e9)


def test_the_shape_of_alertmanager():
    body = alertmanager(new("id", FINDING, 0.0), "https://guide")
    assert set(body) == {
        "version",
        "groupKey",
        "truncatedAlerts",
        "status",
        "receiver",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "externalURL",
        "alerts",
    }
    (one,) = body["alerts"]
    assert set(one) == {
        "status",
        "labels",
        "annotations",
        "startsAt",
        "endsAt",
        "generatorURL",
        "fingerprint",
    }
    assert (body["version"], body["status"], one["status"]) == ("4", "firing", "firing")
    assert one["startsAt"] == "1970-01-01T00:00:00Z"
    assert one["endsAt"].startswith("0001-")
    assert one["annotations"]["runbook_url"] == "https://guide#depth"
    assert one["labels"]["severity"] == "page"
    for group in (one["labels"], one["annotations"]):
        assert all(isinstance(value, str) for value in group.values())
    over = replace(new("id", FINDING, 0.0), state="resolved", resolved=60.0)
    ended = alertmanager(over, "")
    assert ended["status"] == "resolved"
    assert ended["groupKey"] == body["groupKey"]
    assert ended["alerts"][0]["endsAt"] == "1970-01-01T00:01:00Z"
    assert ended["alerts"][0]["fingerprint"] == one["fingerprint"]


def test_in_words():
    title, text = in_words(alertmanager(new("id", FINDING, 0.0), "https://guide"))
    assert title.startswith("[firing, page] depth: ")
    assert "rate 0.03" in text
    assert "examples: 1 2 3" in text
    assert text.endswith("https://guide#depth")


def test_links():
    assert link("https://guide", "https://other") == "https://other"
    assert link("https://guide", "") == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"key": ""}, "needs a key and a title"),
        ({"title": ""}, "needs a key and a title"),
        ({"tier": "loud"}, "tier must be page or ticket. Got 'loud'"),
    ],
)
def test_a_finding_that_cannot_be(given, said):
    with pytest.raises(UsageError, match=said):
        Finding(**{"key": "k", "tier": "page", "title": "t", **given})


@pytest.mark.parametrize(
    ("rows", "suspicious", "cleared", "decided", "owed"),
    [
        (0, 0, 0, 0, False),
        (10_000, 300, 0, 0, False),
        (10_000, 100, 100, 100, False),  # all clean, and as many as promised
        (10_000, 300, 100, 100, True),
        (10_000, 300, 2, 2, False),  # two decisions prove nothing
        (10_000, 300, 20, 100, False),  # more flags, but most are attacks
    ],
)
def test_what_reviewers_clear(rows, suspicious, cleared, decided, owed):
    ticket = false_positives(BUNDLE, rows, suspicious, cleared, decided, 0.0117)
    assert (ticket is not None) == owed
    if ticket is not None:
        assert (ticket.tier, ticket.facts["rate"]) == ("ticket", 0.03)
