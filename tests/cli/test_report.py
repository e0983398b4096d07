"""buckler report: page, card and compare from evidence that was written by hand."""

import hashlib
import json
import re
import zipfile

import pytest

from buckler.cli.money import read_money
from buckler.errors import DataError
from tests.assess.reports import DIGEST, evidence

MONEY = """
[prices]
missed = 400
review = 2
false_alarm = 1
[traffic]
volume = 100000
attacks = [20, 4000]
"""


@pytest.fixture
def project(tmp_path):
    """A project on digits whose bundle has evidence: the path of its buckler.toml."""
    path = tmp_path / "buckler.toml"
    path.write_text(
        '[model]\nfactory = "buckler.models.nets:digits_cnn"\n[data]\nsource = "digits"\n'
    )
    evidence(tmp_path / "out" / "bundle")
    return path


def test_the_page_holds_the_settings_it_was_made_with(run, project):
    code, out, err = run("report", "page", "-c", project)
    assert code == 0, err
    text = (project.parent / "out" / "report.html").read_text()
    assert "report.html" in out
    assert "digits_cnn" in text
    assert "[threat]" in text  # the defaults too


def test_the_card_is_written_three_times(run, project):
    code, out, err = run("report", "card", "-c", project)
    assert code == 0, err
    folder = project.parent / "out" / "bundle" / "evidence"
    assert (folder / "card.md").read_text().startswith("---\n{")
    assert json.loads((folder / "card.json").read_text())["schema"] == "buckler.card/1"
    assert "model-index" in json.loads((folder / "model-index.json").read_text())
    assert "clean accuracy: 96.7 %" in out


def test_a_ruling_of_another_version_is_one_sentence(run, project):
    ruling = project.parent / "out" / "bundle" / "evidence" / "ruling.json"
    ruling.write_text('{"schema": "buckler.ruling/9"}')
    for verb in ("page", "card"):
        code, _, err = run("report", verb, "-c", project)
        assert code == 3
        assert "reads 'buckler.ruling/1': write it anew with buckler check" in err
        assert "Traceback" not in err


def test_two_bundles_and_their_money(run, tmp_path):
    for name, broken in (("a", 16), ("b", 6)):
        evidence(tmp_path / name, broken=broken)
    money = tmp_path / "money.toml"
    money.write_text(MONEY)
    output = tmp_path / "compare"
    code, out, err = run(
        "report", "compare", tmp_path / "a", tmp_path / "b", "--money", money, "--output", output
    )
    assert code == 0, err
    assert "**better**; of 60 rows 10 won, 0 lost" in out
    value = json.loads((output / "compare.json").read_text())
    assert value["money"]["change"]["saved"]["value"] > 0
    assert (output / "compare.md").read_text().count("100,000 inputs a week") >= 4


def test_endpoints_of_the_file_are_ranked_on_their_own_terms(run, tmp_path):
    for name in ("shop", "login"):
        evidence(tmp_path / name)
    money = tmp_path / "money.toml"
    money.write_text(
        MONEY + '[[runs]]\nname = "shop"\npath = "shop"\n'
        '[[runs]]\nname = "login"\npath = "login"\ntraffic = { volume = 9e6, attacks = [9, 900] }\n'
    )
    code, _, err = run("report", "compare", "--money", money, "--output", tmp_path / "out")
    assert code == 0, err
    value = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [week["system"]["name"] for week in value["money"]["rank"]] == ["login", "shop"]


def test_one_run_alone_is_no_comparison(run, tmp_path):
    evidence(tmp_path / "a")
    code, _, err = run("report", "compare", tmp_path / "a")
    assert code == 2
    assert "compare needs two runs, or one and --money" in err
    code, _, err = run("report", "compare", tmp_path / "a", tmp_path / "none")
    assert code == 3
    assert "is no run" in err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MONEY.replace("missed", "mised"), "prices.missed: Field required"),
        (MONEY + "[price]\n", "price: Extra inputs are not permitted"),
        ("[prices", "cannot be read as TOML"),
        (MONEY.replace("400", "-1"), "prices.missed: .* greater than or equal to 0. Got -1"),
    ],
)
def test_money_that_cannot_be_reckoned_with_is_refused(tmp_path, text, sentence):
    path = tmp_path / "money.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_money(path)


def test_no_amount_without_traffic(tmp_path):
    path = tmp_path / "money.toml"
    path.write_text(MONEY.split("[traffic]")[0])
    with pytest.raises(DataError, match="no amount is told without its inputs"):
        read_money(path).terms()
    with pytest.raises(DataError, match="does not exist"):
        read_money(tmp_path / "none.toml")


@pytest.fixture
def ruled(project):
    """The project's bundle with a manifest and a ruling."""
    bundle = project.parent / "out" / "bundle"
    (bundle / "bundle.toml").write_text("schema = 1\n")
    ruling = {"schema": "buckler.ruling/1", "digest": DIGEST, "passed": True, "items": []}
    (bundle / "evidence" / "ruling.json").write_text(json.dumps({**ruling, "struck": []}))
    return bundle


def test_the_pack_holds_every_file_under_its_digest(run, project, ruled):
    purpose = project.parent / "purpose.md"
    purpose.write_text("Reads digits on forms. Not for cheques.\n")
    code, out, err = run("report", "pack", "-c", project, "--intended-use", purpose)
    assert code == 0, err
    with zipfile.ZipFile(project.parent / "out" / "evidence.zip") as archive:
        names = archive.namelist()
        index = archive.read("INDEX.md").decode()
        listed = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", index, re.M))
        assert set(names) - {"INDEX.md"} == set(listed)
        for name, digest in listed.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
    kept = {f"evidence/{path.name}" for path in (ruled / "evidence").iterdir()}
    assert kept <= set(names)
    assert f"{len(names)} files" in out
    assert "Not for cheques" in index
    assert "clean accuracy: 96.7 %" in index


def test_a_pack_without_purpose_says_so_and_one_without_ruling_is_refused(run, project, ruled):
    assert run("report", "pack", "-c", project)[0] == 0
    with zipfile.ZipFile(project.parent / "out" / "evidence.zip") as archive:
        assert "Not stated by its owner" in archive.read("INDEX.md").decode()
    (ruled / "evidence" / "ruling.json").unlink()
    code, _, err = run("report", "pack", "-c", project)
    assert code == 3
    assert "run buckler check on this bundle" in err
    code, _, err = run("report", "pack", "-c", project, "--intended-use", project.parent)
    assert code == 2
    assert "cannot be read as text" in err
