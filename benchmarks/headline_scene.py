"""The headline's systems: the nets, the guards built of them, and what attackers get of each."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.headline_nets import Trained, trained
from benchmarks.headline_plan import Plan
from buckler import files
from buckler.assess import of_guard, of_model
from buckler.assess.target import Target
from buckler.data import Dataset
from buckler.defenses import defense
from buckler.guard import Guard, article, calibrate
from buckler.harden import (
    Scores,
    choose_detectors,
    choose_weights,
    transfer_matrix,
    usual_scores,
)
from buckler.threats import LpBall

Json = dict[str, Any]
WITNESS = "guard with a witness"
_WITNESSED = 1e-6  # of the mean: the undefended net decides nothing, it is only compared


@dataclass(frozen=True)
class Scene:
    """Everything that is attacked, and with what names it is kept."""

    plan: Plan
    data: Dataset
    nets: dict[str, Trained]
    guard: Guard
    witness: Guard
    targets: dict[str, Target]
    identities: dict[str, str]
    place: Path


def prepared(plan: Plan, data: Dataset, place: Path) -> tuple[Scene, Json]:
    """Nets, guards, and the targets that attackers get."""
    nets = {net.name: net for net in trained(plan.trainings, data)}
    members = [nets[member.name].net for member in plan.members]
    bare = {label: nets[label].net for label in ("standard", *(m.name for m in plan.members))}
    identities = {label: _digest(net) for label, net in bare.items()}
    built = _chosen(plan, data, members, list(identities.values())[1:], place)
    weights, scores = tuple(built["weights"]), _scores(built["detectors"])
    guard = calibrate(
        data,
        members,
        weights,
        views=[defense(name) for name in scores.views],
        detectors=scores.detectors,
        review_rate=plan.review_rate,
    )
    witness = calibrate(
        data,
        (*members, nets["standard"].net),
        (*weights, _WITNESSED),
        detectors=("members",),
        review_rate=plan.review_rate,
    )
    baseline = article(data, [nets[name].net for name in ("standard", "mixed", "noise")])
    few = data["test"].x[:64]
    targets = {label: of_model(net, data.spec, few, label) for label, net in bare.items()}
    targets["article's guard"] = of_guard(baseline, "article's guard", draws=4)
    targets[WITNESS] = of_guard(witness, WITNESS)
    targets["guard"] = of_guard(guard)
    shape = (weights, plan.review_rate, repr(guard.rule.threshold), repr(scores))
    identities["guard"] = hashlib.sha256(
        repr((shape, [identities[m.name] for m in plan.members])).encode()
    ).hexdigest()
    identities["article's guard"] = hashlib.sha256(
        repr([_digest(nets[name].net) for name in ("standard", "mixed", "noise")]).encode()
    ).hexdigest()
    identities[WITNESS] = hashlib.sha256(
        repr((shape[:2], witness.rule.threshold, list(identities.values()))).encode()
    ).hexdigest()
    built["threshold"] = asdict(guard.rule.calibration)  # type: ignore[attr-defined]
    return Scene(plan, data, nets, guard, witness, targets, identities, place), built


def _scores(kept: Json) -> Scores:
    return Scores(**{name: _tupled(value) for name, value in kept.items()})


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _chosen(
    plan: Plan, data: Dataset, members: list[nn.Module], identities: list[str], place: Path
) -> Json:
    """The mixture and the detectors that the select split chose; kept by what they were chosen
    from."""
    facts = repr((identities, plan.review_rate, max(plan.eps), data.digest()))
    path = place / f"chosen-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.json"
    if path.exists():
        kept: Json = files.read_json(path)
        return kept
    select, threat = data["select"], LpBall("linf", max(plan.eps))
    best, tried = choose_weights(
        members, select.x, select.y, threat, review_rate=plan.review_rate, allowed_loss=0.005
    )
    scores, compared = choose_detectors(
        data,
        members,
        best.weights,
        usual_scores(data.spec),
        threat,
        review_rate=plan.review_rate,
    )
    found: Json = {
        "weights": best.weights,
        "tried": [asdict(mixture) for mixture in tried],
        "detectors": asdict(scores),
        "detectors_tried": [asdict(candidate) for candidate in compared],
        "transfer": transfer_matrix(members, select.x[:500], select.y[:500], threat),
    }
    files.write_json(path, found)
    return found


def _digest(net: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in net.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
