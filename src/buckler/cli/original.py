"""The team's own classifier under test: what attackers see of it, and which can try."""

import torch
from torch import Tensor

from buckler.assess import of_model
from buckler.assess.target import Target
from buckler.attacks import Square, suites
from buckler.cli import show
from buckler.cli.project import Project
from buckler.models import RemoteClassifier, check_classifier, differentiable
from buckler.threats import Goal


def original_target(project: Project, x: Tensor) -> Target:
    """The classifier as it is; a Buckler gateway at a URL as the guard it is.

    Raises: UsageError if it answers what attacks cannot use.
    """
    model, spec = project.classifier(), project.data.spec
    if not isinstance(model, RemoteClassifier) or not model.rejects:
        return of_model(model, spec, x)
    check_classifier(model, x, spec.classes + 1)

    def answer(rows: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(rows)
        return logits[:, :-1].argmax(1), logits.argmax(1) != spec.classes

    with torch.no_grad():
        once, again = (model(x[:64]).softmax(1) for _ in range(2))
    random = bool(((once - again).abs() > 1e-4).any())
    return Target("endpoint", model, Goal("guarded"), answer, spec, random, model.digest)


def original_suite(project: Project, x: Tensor) -> suites.Suite:
    """The quick suite; of a model without gradients, its attacks by scores alone."""
    section, norm = project.config.assess, project.config.threat.norm
    suite = suites.quick(section.queries, norm)
    model = project.classifier()
    if differentiable(model, x):
        return suite
    show.line(f"no gradients come out of {project.config.model.source}: attacked by scores alone")
    if isinstance(model, RemoteClassifier) and model.scores == "decisions":
        show.line(
            "it answers bare decisions, which hide the way: take the figures as lower bounds",
            "yellow",
        )
    return tuple(attack for attack in suite if isinstance(attack, Square))
