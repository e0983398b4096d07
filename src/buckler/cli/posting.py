"""What a red-team run found, told to a gateway's alerts and kept in the bundle's evidence."""

import json
import os
from pathlib import Path
from typing import Any

from buckler import files
from buckler.assess.redteam.page import rate_words, since_words, threat_words
from buckler.cli import show
from buckler.errors import UsageError
from buckler.models.endpoint import over_http

Json = dict[str, Any]
_ALERTS = "/v1/alerts"
_KEY = "BUCKLER_OPERATE_KEY"
_TIMEOUT_S = 30.0
_LONGEST = 200  # of a title


def tell(report: Json, target: Path | None, url: str) -> None:
    """Post the run's alert to the gateway at `url`; of a bundle, keep evidence/redteam.json."""
    alert = alert_of(report)
    post(url, alert)
    show.line(f"told {url}: {alert['title']}, {alert['status']}")
    if target is not None:
        files.write_json(target / "evidence" / "redteam.json", report)
        show.line(f"wrote {target / 'evidence' / 'redteam.json'}")


def alert_of(report: Json) -> Json:
    """One alert a target: it stands while runs find something, and is over once one finds nothing.

    A ticket: what outsiders could do is no sign that somebody does it.
    """
    count, since = len(report["findings"]), report["since"]
    new = len(since["new"]) + len(since["first_tried"]) if since else count
    facts = {
        "success": rate_words(report.get("success")),
        "rows": report["rows"]["finished"],
        "findings": count,
        "new": new,
        "threat": threat_words(report["threat"]),
        "suite": report["suite"],
        "queries": report["spent"],
        "since": since_words(since),
        "regression": bool(since and since.get("difference", {}).get("low", 0.0) > 0),
        "run": report["run"],
        "ended": report["ended"],
    }
    title = f"red team: {count} ways past {report['source']}, {new} of them new"
    return {
        "key": f"redteam/{report['source']}"[:_LONGEST],
        "tier": "ticket",
        "title": title[:_LONGEST],
        "facts": facts,
        "action": "Read the run's report.html; buckler retrain --due says whether to retrain.",
        "bundle": report["digest"],
        "status": "firing" if count else "resolved",
    }


def post(url: str, alert: Json) -> None:
    """Send it with the key that the variable BUCKLER_OPERATE_KEY holds (role operate).

    Raises: UsageError if there is no key, or the gateway does not take it.
    """
    key = os.environ.get(_KEY, "").strip()
    if not (key and key.isascii() and key.isprintable()):
        raise UsageError(f"--post needs a key of the role operate in the variable {_KEY}")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    where = url.rstrip("/") + _ALERTS
    try:
        reply = over_http(where, json.dumps(alert, allow_nan=False).encode(), headers, _TIMEOUT_S)
    except (OSError, ValueError) as error:  # ValueError: what is no URL
        raise UsageError(f"{where} gave no answer ({error}): the run and its report stay") from None
    if not 200 <= reply.status < 300:
        text = reply.body[:200].decode("utf-8", "replace").strip()
        raise UsageError(f"{where} refused the alert with status {reply.status}: {text}")
