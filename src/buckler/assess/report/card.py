"""The robustness card: what one bundle withstands, in one value for people and machines.

Its words are those of security teams (MITRE ATLAS, NIST AI 100-2, OWASP, CWE) and of the AI Act,
Regulation (EU) 2024/1689, Article 15(5). A figure that is struck out is told as such to people and
is left out of what machines read.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from buckler.assess.evidence import verdict
from buckler.assess.redteam.ids import FAMILIES, SOURCES
from buckler.assess.report.facts import Evidence, Facts
from buckler.assess.report.figures import certified_table
from buckler.errors import DataError
from buckler.stats import wilson

SCHEMA: Final = "buckler.card/1"
Json = dict[str, Any]
_NOT_ASSESSED: Final = (
    "data poisoning, model poisoning, confidentiality attacks (extraction, membership, inversion)",
    "attackers who may do more than the threat allows: other norms, a larger eps, patches, turns",
    "inputs unlike the test rows: they were drawn at random from the data named here",
)


def card(evidence: Evidence, facts: Facts) -> Json:
    """All that a card says.

    Raises: DataError if the bundle has not been assessed.
    """
    if not facts.adaptive:
        raise DataError(
            f"{evidence.bundle / 'evidence'} has no comparison of the guard: run buckler assess on "
            "this bundle"
        )
    adaptive = facts.adaptive
    return {
        "schema": SCHEMA,
        "name": evidence.name,
        "digest": facts.digest,
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "task": "image-classification" if len(evidence.shape) == 3 else "tabular-classification",
        "threat": adaptive["threat"],
        "rows": adaptive["n"],
        "seed": adaptive["seed"],
        "versions": adaptive["versions"],
        "hardware": facts.comparison["hardware"],
        "command": evidence.command,
        "passed": None if facts.ruling is None else facts.ruling["passed"],
        "struck": facts.guard["struck"],
        "figures": _figures(facts),
        "curve": [
            {"eps": point["threat"]["eps"], "success": point["rates"]["success"]}
            for point in facts.curve
        ],
        "certified": _certified(facts),
        "battery": {
            name: {"verdict": verdict(signs), "sentence": signs["sentence"]}
            for name, signs in facts.batteries.items()
        },
        "attacks": [_attack(each) for each in adaptive["suite"]],
        "calibration": None if facts.build is None else facts.build["sentence"],
        "mitigations": _mitigations(facts),
        "sources": dict(SOURCES),
        "ai_act": _ai_act(facts),
        "not_assessed": list(_NOT_ASSESSED),
    }


def _figures(facts: Facts) -> list[Json]:
    """Each with its interval; `stands` is False where it is struck out."""
    threat = facts.adaptive["threat"]
    under = f"{threat['norm']} eps {threat['eps']:g}"
    rates, stands = facts.adaptive["rates"], not facts.guard["struck"]
    found: list[Json] = [
        _figure("accuracy", "clean accuracy", rates["clean_accuracy"]),
        _figure("accepted_right", "accepted and right, clean", rates["accepted_right"]),
        _figure("review_rate", "clean inputs sent to review", rates["review_rate"]),
    ]
    if "success" in rates:
        name = f"accepted and wrong / right at first, adaptive, {under}"
        found.append(_figure("attack_success_rate", name, rates["success"], stands))
    if facts.ledger is not None:
        kept = facts.ledger.right & ~facts.ledger.broken
        rate = asdict(wilson(int(kept.sum()), len(kept)))
        name = f"right and unbroken / all, adaptive, {under}"
        found.append(_figure("robust_accuracy", name, rate, stands))
    plain = next((s for s in facts.systems if s["name"] == "undefended"), None)
    if plain is not None and "success" in plain["adaptive"]["rates"]:
        name = f"the same classifier without a guard: broken / right at first, adaptive, {under}"
        rate = plain["adaptive"]["rates"]["success"]
        found.append(_figure("attack_success_rate_undefended", name, rate, not plain["struck"]))
    return found


def _figure(kind: str, name: str, rate: Json, stands: bool = True) -> Json:
    return {"type": kind, "name": name, "rate": rate, "stands": stands}


def _certified(facts: Facts) -> Json | None:
    if facts.certificates is None:
        return None
    return {
        "sentence": facts.certificates["sentence"],
        "about": facts.certificates["about"],
        "radii": certified_table(facts.certificates),
    }


def _attack(result: Json) -> Json:
    """One attack with its parameters and its ids; an attack in no table has none."""
    found = FAMILIES.get(result["parameters"].partition("(")[0])
    ids = None if found is None else {k: v for k, v in found.to_dict().items() if k != "sources"}
    names = ("attack", "parameters", "given", "broken")
    return {**{name: result[name] for name in names}, "ids": ids}


def _mitigations(facts: Facts) -> list[str]:
    """ATLAS's names of what this bundle does."""
    build = facts.build or {"weights": {}}
    used = [name for name, weight in build["weights"].items() if weight > 0]
    found = []
    if any(name != "standard" for name in used):
        found.append("AML.M0003 Model Hardening")
    if len(used) > 1:
        found.append("AML.M0006 Use Ensemble Methods")
    found.append("AML.M0015 Adversarial Input Detection")
    found.append("AML.M0008 Validate AI Model")
    return found


def _ai_act(facts: Facts) -> list[Json]:
    """The verbs of Article 15(5) on adversarial examples, and what here supports each."""
    shown = [
        ("prevent", "success under attack with the guard and without it, each with its interval"),
        ("detect", "the review rate on clean inputs, and what the detector stops of attacks that "
                   "know it"),
        ("control for", "the verdict on the evaluation, and the policy that the bundle was held "
                        "against" if facts.ruling else "the verdict on the evaluation"),
    ]  # fmt: skip
    operated = [
        ("respond to", "a gateway with a store keeps each SUSPICIOUS input for a person"),
        ("resolve", "reviewed rows enter the next hardening; rollout and rollback by evidence"),
    ]
    return [
        *({"verb": verb, "by": by, "shown": True} for verb, by in shown),
        *({"verb": verb, "by": by, "shown": False} for verb, by in operated),
    ]


def model_index(value: Json) -> Json:
    """The card as Hugging Face's model-index: one result a data set, a metric a figure that stands.

    Format: the model card metadata of huggingface_hub (modelcard.md).
    """
    threat = value["threat"]
    metrics = [
        {
            "type": figure["type"],
            "name": figure["name"],
            "value": figure["rate"]["value"],
            "verified": False,
            "args": {
                "n": figure["rate"]["n"],
                "low": figure["rate"]["low"],
                "high": figure["rate"]["high"],
                "confidence": 0.95,
                "norm": threat["norm"],
                "eps": threat["eps"],
            },
        }
        for figure in value["figures"]
        if figure["stands"]
    ]
    result = {
        "task": {"type": value["task"], "name": "robust classification"},
        "dataset": {"type": value["name"], "name": value["name"], "split": "test"},
        "metrics": metrics,
    }
    return {"model-index": [{"name": f"buckler-{value['digest'][:12]}", "results": [result]}]}
