"""The robustness card: its figures are the evidence's, and what is struck out does not travel."""

import json
import re

import pytest

from buckler.assess.report.card import card, model_index
from buckler.assess.report.card_text import as_markdown
from buckler.assess.report.facts import gather
from buckler.errors import DataError

from .reports import evidence


def made(tmp_path, **changes):
    where = evidence(tmp_path, **changes)
    return card(where, gather(where))


def test_its_figures_are_counted_from_the_ledger(tmp_path):
    rates = {figure["type"]: figure["rate"] for figure in made(tmp_path)["figures"]}
    assert (rates["accuracy"]["k"], rates["accuracy"]["n"]) == (58, 60)
    assert (rates["attack_success_rate"]["k"], rates["attack_success_rate"]["n"]) == (6, 58)
    assert (rates["robust_accuracy"]["k"], rates["robust_accuracy"]["n"]) == (52, 60)
    assert rates["attack_success_rate_undefended"]["k"] == 40


def test_it_speaks_the_words_of_security_teams(tmp_path):
    value = made(tmp_path)
    text = as_markdown(value)
    for word in (
        "AML.T0043.000", "AML.T0043.001", "NISTAML.022", "NISTAML.025", "ML01:2023", "CWE-1039",
        "AML.M0015", "Article 15(5)", "no statement of conformity",
    ):  # fmt: skip
        assert word in text, word
    verbs = [point["verb"] for point in value["ai_act"]]
    assert verbs == ["prevent", "detect", "control for", "respond to", "resolve"]
    assert [point["shown"] for point in value["ai_act"]] == [True, True, True, False, False]


def test_the_front_matter_is_the_model_index(tmp_path):
    value = made(tmp_path)
    front = re.match(r"---\n(.*?)\n---\n", as_markdown(value), re.S)
    assert front
    assert json.loads(front[1]) == model_index(value)


def test_the_model_index_has_the_form_that_hugging_face_reads(tmp_path):
    (model,) = model_index(made(tmp_path))["model-index"]
    assert set(model) == {"name", "results"}
    (result,) = model["results"]
    assert {"task", "dataset", "metrics"} <= set(result)
    assert result["task"]["type"] == "image-classification"
    assert {"type", "name"} <= set(result["dataset"])
    for metric in result["metrics"]:
        assert {"type", "value"} <= set(metric)
        assert isinstance(metric["value"], float)
        assert metric["args"]["low"] <= metric["value"] <= metric["args"]["high"]


def test_a_struck_figure_is_told_and_does_not_travel(tmp_path):
    value = made(tmp_path, fails=True)
    text, types = as_markdown(value), [
        metric["type"] for metric in model_index(value)["model-index"][0]["results"][0]["metrics"]
    ]  # fmt: skip
    assert "**Struck out**: Do not believe" in text
    assert "~~10.3 %~~" in text
    assert "attack_success_rate" not in types
    assert "robust_accuracy" not in types
    assert "accuracy" in types


def test_the_yaml_front_matter_is_read_by_a_yaml_reader(tmp_path):
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    value = made(tmp_path)
    front = as_markdown(value).split("---\n")[1]
    assert yaml.safe_load(front) == model_index(value)


def test_without_an_assessment_there_is_no_card(tmp_path):
    where = evidence(tmp_path)
    (where.bundle / "evidence" / "comparison.json").unlink()
    with pytest.raises(DataError, match="run buckler assess on this bundle"):
        card(where, gather(where))
