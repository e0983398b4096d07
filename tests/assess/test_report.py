"""The page: verdict first, what does not stand struck out, nothing from elsewhere."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from buckler.assess.floors import certified_rate
from buckler.assess.report import write_report
from buckler.assess.report.facts import gather
from buckler.assess.report.figures import by_class, certified_table, confusion, cost
from buckler.errors import DataError
from buckler.stats import wilson

from .reports import DIGEST, N, book, evidence, write


def page(tmp_path, **changes):
    path = tmp_path / "report.html"
    write_report(evidence(tmp_path / "bundle", **changes), path)
    text = path.read_text()
    return re.sub(r"<script>.*?</script>", "", text, flags=re.S)


def test_the_verdict_stands_before_any_table(tmp_path):
    text = page(tmp_path)
    assert text.index("Deployment check: not ruled on yet") < text.index("<table")
    assert "an accepted wrong answer for" in text
    assert "10.3 % (6 of 58; " in text
    assert "69.0 % (40 of 58; " in text  # without the guard


def test_every_part_that_has_evidence_is_there(tmp_path):
    text = page(tmp_path)
    for title in (
        "Success over eps", "What the guard holds", "Confusion under attack",
        "What the detector stops", "Pick a review rate", "What is guaranteed",
        "Is this evaluation to be believed?", "What it cost", "Run it again",
    ):  # fmt: skip
        assert f">{title}</h2>" in text, title
    assert text.count("plotly-graph-div") == 4 + 0  # the undefended curve was not measured


def test_a_figure_that_the_battery_fails_is_struck_through(tmp_path):
    good, bad = page(tmp_path / "a"), page(tmp_path / "b", fails=True)
    assert 'class="struck"' not in good
    assert bad.count('class="struck"') >= 3  # the sentence, and both columns of the table
    assert bad.index("Do not build on the struck-out figures") < bad.index("<table")


def test_what_others_named_is_text(tmp_path):
    text = page(tmp_path)
    for raw in ("<b>toaster</b>", "<i>data</i>", 'eps = "<script>"'):
        assert raw not in text
    assert "&lt;b&gt;toaster&lt;/b&gt;" in text


def test_parts_without_evidence_are_left_out(tmp_path):
    where = evidence(tmp_path / "bundle")
    for name in ("tradeoff.json", "certificates.json", "held.npz", "curve.json", "battery.json"):
        (where.bundle / "evidence" / name).unlink()
    write_report(where, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for title in ("Pick a review rate", "What is guaranteed", "What the guard holds"):
        assert f">{title}</h2>" not in text


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("curve", {"schema": "buckler.evidence/9"}, "is of the form 'buckler.evidence/9'"),
        ("curve", {"digest": "e" * 64}, "curve.json is about the bundle eeee.* run buckler run"),
        ("tradeoff", {"points": [{"asked": 0.1}]}, "something is missing"),
    ],
)
def test_evidence_that_cannot_be_told_is_one_sentence(tmp_path, name, change, sentence):
    where = evidence(tmp_path / "bundle")
    path = where.bundle / "evidence" / f"{name}.json"
    write(path, {**json.loads(path.read_text()), **change})
    with pytest.raises(DataError, match=sentence):
        write_report(where, tmp_path / "report.html")
    path.write_text(path.read_text()[:30])
    with pytest.raises(DataError, match="cannot be read as JSON"):
        write_report(where, tmp_path / "report.html")


def test_confusion_counts_every_row_once():
    found = confusion(book(broken=6, flagged=3), ("a", "b", "c"))
    cells = np.array(found["cells"])
    assert cells.sum() == N
    assert cells[:, 3].sum() == 3  # to review
    assert np.trace(cells[:, :3]) == N - 3 - 2 - 6
    assert sum(each["n"] for each in found["worst"]) == 2 + 6
    assert found["totals"] == [20, 20, 20]


def test_certified_accuracy_is_told_up_to_the_largest_radius(tmp_path):
    """Nine of twelve rows are right and certified, at 0, 0.05 … 0.4; three abstained."""
    table = certified_table(gather(evidence(tmp_path / "bundle")).certificates)
    assert (table[0]["radius"], table[0]["rate"]["k"]) == (0.0, 9)
    assert (table[-1]["radius"], table[-1]["rate"]["k"]) == (0.4, 1)
    assert all(each["rate"]["n"] == 12 for each in table)


def test_certificates_against_patches_have_a_share_and_no_radius(tmp_path):
    place = evidence(tmp_path / "bundle")
    path = place.bundle / "evidence" / "certificates.json"
    value = json.loads(path.read_text())
    rows = [{k: v for k, v in row.items() if k != "radius"} for row in value["certificates"]]
    value |= {"certificates": rows, "right": asdict(wilson(9, 12)), "about": "what is served"}
    path.write_text(json.dumps(value))
    facts = gather(place)
    assert certified_table(facts.certificates) == []
    write_report(place, tmp_path / "report.html")
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert "About what is served." in page
    assert "Right and certified: 75" in page
    assert certified_rate(value, 0.1).k == 0, "a patch certificate has no radius for a policy"


def test_cost_adds_every_system(tmp_path):
    facts = gather(evidence(tmp_path / "bundle"))
    found = cost(facts.systems)
    assert facts.digest == DIGEST
    # Two systems, static and adaptive, two attacks each.
    assert found["total"] == {"forwards": 8 * 1234, "backwards": 8 * 1000, "seconds": 12.0}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_opens_offline_in_a_browser(tmp_path, width, scheme):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("chromium is not installed: /usr/bin/chromium")
    path = tmp_path / "report.html"
    write_report(evidence(tmp_path / "bundle"), path)
    asked, complaints = [], []
    with api.sync_playwright() as tool:
        program = tool.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-background-networking"],
        )
        sheet = program.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        sheet.on("request", lambda request: asked.append(request.url))
        sheet.on("pageerror", lambda error: complaints.append(str(error)))
        sheet.goto(path.as_uri())
        sheet.wait_for_function("document.querySelectorAll('.main-svg').length >= 8")
        wide = sheet.evaluate("document.documentElement.scrollWidth")
        program.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert complaints == []
    assert wide <= width  # no part is wider than the screen


def test_classes_stand_in_the_page_if_each_has_rows():
    names = ("a", "b", "c")
    rows = by_class(book(broken=6, flagged=3), names)
    assert [clean["name"] for clean, _ in rows] == list(names)
    assert sum(attacked["missed"]["value"] * attacked["missed"]["n"] for _, attacked in rows) >= 6
    assert by_class(book(broken=6, flagged=3), (*names, "d")) == []
